/* wabe move */
#include "cli/cli.h"

static int run(struct invocation *in, struct error *err) {
	_cleanup_(json_free_ptr) json_t *body = json_pack("{s:s}", "pool", in->args[1]);
	return run_task(in, api_path(in, "/instances/%s/move", in->args[0]), body, in->args[0], err);
}

const struct command command_move = {
	.name = "move",
	.group = "Instances",
	.usage = "MACHINE POOL",
	.doc = "Move the root of a machine that runs to another pool",
	.details = "The guest goes on meanwhile. Volumes move by \"wabe volume move\".",
	.examples = "wabe move db fast",
	.min_args = 2,
	.max_args = 2,
	.complete = "instance",
	.run = run,
};
