/* wabe suspend */
#include "cli/cli.h"

static int run(struct invocation *in, UNUSED struct error *err) {
	return api_each(in, "POST", "/instances/%s/suspend", NULL, false);
}

const struct command command_suspend = {
	.name = "suspend",
	.group = "Instances",
	.usage = "MACHINE…",
	.doc = "Save the memory of machines and end them",
	.details = "\"wabe start\" goes on from there, \"wabe stop\" gives the memory up.",
	.examples = "wabe suspend desktop\nwabe start desktop",
	.min_args = 1,
	.max_args = SIZE_MAX,
	.complete = "instance",
	.run = run,
};
