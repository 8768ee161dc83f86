/* wabe network show */
#include "cli/cli.h"

static int run(struct invocation *in, UNUSED struct error *err) {
	return show_each(in, "/networks/%s", NULL);
}

const struct command command_network_show = {
	.name = "network show",
	.group = "Networks",
	.usage = "NETWORK…",
	.doc = "Show all about networks, as JSON",
	.examples = "wabe network show web",
	.min_args = 1,
	.max_args = SIZE_MAX,
	.listing = true,
	.complete = "network",
	.run = run,
};
