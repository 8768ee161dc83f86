/* wabe screenshot */
#include "cli/cli.h"

static int run(struct invocation *in, struct error *err) {
	return download(in, api_path(in, "/instances/%s/screen", in->args[0]), in->args[1], err);
}

const struct command command_screenshot = {
	.name = "screenshot",
	.group = "Instances",
	.usage = "MACHINE [FILE]",
	.doc = "Take a picture (PNG) of what a machine's screen shows",
	.examples = "wabe screenshot desk desk.png\nwabe screenshot desk > desk.png",
	.min_args = 1,
	.max_args = 2,
	.complete = "instance",
	.run = run,
};
