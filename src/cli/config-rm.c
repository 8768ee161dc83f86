/* wabe config rm */
#include "cli/cli.h"

static int run(struct invocation *in, UNUSED struct error *err) {
	return api_each(in, "DELETE", "/configs/%s", NULL, false);
}

const struct command command_config_rm = {
	.name = "config rm",
	.group = "Workloads, secrets and configs",
	.usage = "CONFIG…",
	.doc = "Remove configs that nobody gets",
	.examples = "wabe config rm web.conf",
	.min_args = 1,
	.max_args = SIZE_MAX,
	.complete = "config",
	.run = run,
};
