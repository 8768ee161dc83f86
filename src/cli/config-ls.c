/* wabe config ls */
#include "cli/cli.h"

static int run(struct invocation *in, struct error *err) {
	return kept_ls(in, "configs", err);
}

const struct command command_config_ls = {
	.name = "config ls",
	.group = "Workloads, secrets and configs",
	.usage = "",
	.doc = "List configs",
	.examples = "wabe config ls",
	.listing = true,
	.run = run,
};
