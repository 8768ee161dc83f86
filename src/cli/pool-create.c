/* wabe pool create */
#include "cli/cli.h"

static int run(struct invocation *in, struct error *err) {
	_cleanup_(json_free_ptr) json_t *body = fields_print(&pool_spec_table, in->fields), *pool = NULL;
	json_set_str(body, "name", in->args[0]);
	json_set_str(body, "secret", getenv("WABE_PASSWORD"));
	int r = api_call(in, "POST", str_copy("/v1/pools"), body, &pool, err);
	if (r == 0)
		puts(in->args[0]);
	return r;
}

const struct command command_pool_create = {
	.name = "pool create",
	.group = "Pools, volumes and snapshots",
	.usage = "[OPTION…] NAME",
	.doc = "Make a storage pool",
	.examples = "wabe pool create fast -d btrfs --size 20g\nwabe pool create tank -d lvm-thin --source vg0/thin\nwabe pool create share -d nfs --source server:/export",
	.details = "A key or password for its servers is read from WABE_PASSWORD.",
	.fields = &pool_spec_table,
	.min_args = 1,
	.run = run,
};
