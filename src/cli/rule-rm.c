/* wabe rule rm */
#include "cli/cli.h"

static int run(struct invocation *in, UNUSED struct error *err) {
	return api_each(in, "DELETE", "/rules/%s", NULL, false);
}

const struct command command_rule_rm = {
	.name = "rule rm",
	.group = "Networks",
	.usage = "GROUP…",
	.doc = "Remove groups of rules that nothing uses",
	.examples = "wabe rule rm strict",
	.min_args = 1,
	.max_args = SIZE_MAX,
	.complete = "rule",
	.run = run,
};
