/* wabe volume create */
#include "cli/cli.h"

static int run(struct invocation *in, struct error *err) {
	_cleanup_(json_free_ptr) json_t *body = fields_print(&volume_spec_table, in->fields), *volume = NULL;
	_cleanup_(free_ptr) char *made_up = random_hex(16);
	const char *name = in->args && in->args[0] ? in->args[0] : made_up;
	json_set_str(body, "name", name);
	int r = api_call(in, "POST", api_path(in, "/volumes"), body, &volume, err);
	if (r == 0)
		puts(name);
	return r;
}

const struct command command_volume_create = {
	.name = "volume create",
	.group = "Pools, volumes and snapshots",
	.usage = "[OPTION…] [NAME]",
	.doc = "Make a volume",
	.examples = "wabe volume create data\nwabe volume create --pool fast --size 10g db\nwabe volume create --kind block --size 4g disk0",
	.fields = &volume_spec_table,
	.max_args = 1,
	.run = run,
};
