/* wabe volume move */
#include "cli/cli.h"

static int run(struct invocation *in, struct error *err) {
	_cleanup_(json_free_ptr) json_t *body = json_pack("{s:s}", "pool", in->args[1]);
	return run_task(in, api_path(in, "/volumes/%s/move", in->args[0]), body, in->args[0], err);
}

const struct command command_volume_move = {
	.name = "volume move",
	.group = "Pools, volumes and snapshots",
	.usage = "VOLUME POOL",
	.doc = "Move a volume to another pool",
	.examples = "wabe volume move data fast",
	.min_args = 2,
	.complete = "volume",
	.run = run,
};
