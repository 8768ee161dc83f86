/* wabe rm */
#include "cli/cli.h"

struct options {
	bool force;
};

static const struct option_row options[] = {
	OPTION(struct options, force, BOOL, "force,f", .doc = "Also running ones: kills them first"),
	{0},
};

static int run(struct invocation *in, UNUSED struct error *err) {
	const struct options *o = in->options;
	return api_each(in, "DELETE", o->force ? "/instances/%s?force=true" : "/instances/%s", NULL, false);
}

const struct command command_rm = {
	.name = "rm",
	.group = "Instances",
	.usage = "[OPTION…] INSTANCE…",
	.doc = "Remove instances",
	.examples = "wabe rm web\nwabe rm -f web",
	.options = options,
	.options_size = sizeof(struct options),
	.min_args = 1,
	.max_args = SIZE_MAX,
	.complete = "instance",
	.run = run,
};
