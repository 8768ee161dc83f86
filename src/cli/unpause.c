/* wabe unpause */
#include "cli/cli.h"

static int run(struct invocation *in, UNUSED struct error *err) {
	return api_each(in, "POST", "/instances/%s/unpause", NULL, false);
}

const struct command command_unpause = {
	.name = "unpause",
	.group = "Instances",
	.usage = "INSTANCE…",
	.doc = "Let frozen instances go on",
	.examples = "wabe unpause web",
	.min_args = 1,
	.max_args = SIZE_MAX,
	.complete = "instance",
	.run = run,
};
