/* wabe volume detach */
#include "cli/cli.h"

static int run(struct invocation *in, struct error *err) {
	return api_call(in, "DELETE", api_path(in, "/instances/%s/volumes/%s", in->args[1], in->args[0]), NULL, NULL, err);
}

const struct command command_volume_detach = {
	.name = "volume detach",
	.group = "Pools, volumes and snapshots",
	.usage = "VOLUME|PATH INSTANCE",
	.doc = "Unmount a volume from an instance, at once if it runs",
	.examples = "wabe volume detach data web",
	.min_args = 2,
	.complete = "volume",
	.run = run,
};
