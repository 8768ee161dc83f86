/* wabe backup forget */
#include "cli/cli.h"

static int run(struct invocation *in, struct error *err) {
	return api_call(in, "DELETE", api_path(in, "/instances/%s/checkpoints/%s", in->args[0], in->args[1]), NULL, NULL, err);
}

const struct command command_backup_forget = {
	.name = "backup forget",
	.group = "Backups of machines",
	.usage = "MACHINE CHECKPOINT",
	.doc = "Remove a checkpoint of a machine's disks",
	.examples = "wabe backup forget db monday",
	.min_args = 2,
	.max_args = 2,
	.complete = "instance",
	.run = run,
};
