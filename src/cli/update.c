/* wabe update */
#include "cli/cli.h"

static int run(struct invocation *in, struct error *err) {
	_cleanup_(json_free_ptr) json_t *patch = fields_given_patch(in, &instance_spec_table);
	if (!json_object_size(patch))
		return error_set(err, ERROR_INVALID, "nothing to change: see wabe update --help");
	return api_each(in, "PATCH", "/instances/%s", patch, false);
}

const struct command command_update = {
	.name = "update",
	.group = "Instances",
	.usage = "[OPTION…] INSTANCE…",
	.doc = "Change instances; limits of running ones change at once",
	.examples = "wabe update -m 512m --cpus 2 web\nwabe update --restart always web db",
	.fields = &instance_spec_table,
	.min_args = 1,
	.max_args = SIZE_MAX,
	.complete = "instance",
	.run = run,
};
