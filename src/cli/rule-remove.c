/* wabe rule remove */
#include "cli/cli.h"

static int run(struct invocation *in, struct error *err) {
	return api_call(in, "DELETE", api_path(in, "/rules/%s/rules/%s", in->args[0], in->args[1]), NULL, NULL, err);
}

const struct command command_rule_remove = {
	.name = "rule remove",
	.group = "Networks",
	.usage = "GROUP NUMBER",
	.doc = "Remove one rule of a group",
	.examples = "wabe rule show strict\nwabe rule remove strict 2",
	.min_args = 2,
	.complete = "rule",
	.run = run,
};
