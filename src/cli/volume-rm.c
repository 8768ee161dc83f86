/* wabe volume rm */
#include "cli/cli.h"

static int run(struct invocation *in, UNUSED struct error *err) {
	return api_each(in, "DELETE", "/volumes/%s", NULL, false);
}

const struct command command_volume_rm = {
	.name = "volume rm",
	.group = "Pools, volumes and snapshots",
	.usage = "VOLUME…",
	.doc = "Remove volumes that no instance mounts, with their snapshots",
	.examples = "wabe volume rm data",
	.min_args = 1,
	.max_args = SIZE_MAX,
	.complete = "volume",
	.run = run,
};
