/* wabe config cat */
#include "cli/cli.h"

static int run(struct invocation *in, struct error *err) {
	return download(in, api_path(in, "/configs/%s/data", in->args[0]), NULL, err);
}

const struct command command_config_cat = {
	.name = "config cat",
	.group = "Workloads, secrets and configs",
	.usage = "CONFIG",
	.doc = "Write what is in a config to standard output",
	.examples = "wabe config cat web.conf",
	.min_args = 1,
	.complete = "config",
	.run = run,
};
