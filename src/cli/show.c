/* wabe show */
#include "cli/cli.h"

static int run(struct invocation *in, UNUSED struct error *err) {
	return show_each(in, "/instances/%s");
}

const struct command command_show = {
	.name = "show",
	.group = "Instances",
	.usage = "INSTANCE…",
	.doc = "Show all about instances, as JSON",
	.examples = "wabe show web\nwabe show web | jq .status.state",
	.min_args = 1,
	.max_args = SIZE_MAX,
	.listing = true,
	.complete = "instance",
	.run = run,
};
