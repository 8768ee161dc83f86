/* wabe config show */
#include "cli/cli.h"

static int run(struct invocation *in, UNUSED struct error *err) {
	return show_each(in, "/configs/%s", NULL);
}

const struct command command_config_show = {
	.name = "config show",
	.group = "Workloads, secrets and configs",
	.usage = "CONFIG…",
	.doc = "Show all about configs but what is in them, as JSON",
	.examples = "wabe config show web.conf",
	.min_args = 1,
	.max_args = SIZE_MAX,
	.listing = true,
	.complete = "config",
	.run = run,
};
