/* wabe volume show */
#include "cli/cli.h"

static int run(struct invocation *in, UNUSED struct error *err) {
	return show_each(in, "/volumes/%s", NULL);
}

const struct command command_volume_show = {
	.name = "volume show",
	.group = "Pools, volumes and snapshots",
	.usage = "VOLUME…",
	.doc = "Show all about volumes, as JSON",
	.examples = "wabe volume show data",
	.min_args = 1,
	.max_args = SIZE_MAX,
	.listing = true,
	.complete = "volume",
	.run = run,
};
