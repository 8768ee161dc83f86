/* wabe pause */
#include "cli/cli.h"

static int run(struct invocation *in, UNUSED struct error *err) {
	return api_each(in, "POST", "/instances/%s/pause", NULL, false);
}

const struct command command_pause = {
	.name = "pause",
	.group = "Instances",
	.usage = "INSTANCE…",
	.doc = "Freeze instances",
	.examples = "wabe pause web",
	.min_args = 1,
	.max_args = SIZE_MAX,
	.complete = "instance",
	.run = run,
};
