/* wabe pool update */
#include "cli/cli.h"

static int run(struct invocation *in, struct error *err) {
	_cleanup_(json_free_ptr) json_t *patch = fields_given_patch(in, &pool_spec_table);
	json_set_str(patch, "secret", getenv("WABE_PASSWORD"));
	if (!json_object_size(patch))
		return error_set(err, ERROR_INVALID, "nothing to change: see wabe pool update --help");
	return api_call(in, "PATCH", client_path("/v1/pools/%s", in->args[0]), patch, NULL, err);
}

const struct command command_pool_update = {
	.name = "pool update",
	.group = "Pools, volumes and snapshots",
	.usage = "[OPTION…] POOL",
	.doc = "Change a storage pool",
	.examples = "wabe pool update fast --size 40g --description \"on the SSD\"",
	.fields = &pool_spec_table,
	.min_args = 1,
	.complete = "pool",
	.run = run,
};
