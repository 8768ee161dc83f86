/* wabe rename */
#include "cli/cli.h"

static int run(struct invocation *in, struct error *err) {
	_cleanup_(json_free_ptr) json_t *body = json_pack("{s:s}", "name", in->args[1]);
	return api_call(in, "PATCH", api_path(in, "/instances/%s", in->args[0]), body, NULL, err);
}

const struct command command_rename = {
	.name = "rename",
	.group = "Instances",
	.usage = "INSTANCE NAME",
	.doc = "Give an instance another name",
	.examples = "wabe rename web web-old",
	.min_args = 2,
	.complete = "instance",
	.run = run,
};
