/* wabe restart */
#include "cli/cli.h"

static int run(struct invocation *in, UNUSED struct error *err) {
	return stop_each(in, "/instances/%s/restart");
}

const struct command command_restart = {
	.name = "restart",
	.group = "Instances",
	.usage = "[OPTION…] INSTANCE…",
	.doc = "Stop instances and start them again",
	.examples = "wabe restart web\nwabe restart -t 1m -s SIGINT web db",
	.options = stop_options,
	.options_size = sizeof(struct stop_options),
	.min_args = 1,
	.max_args = SIZE_MAX,
	.complete = "instance",
	.run = run,
};
