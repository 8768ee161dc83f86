/* wabe secret ls */
#include "cli/cli.h"

static int run(struct invocation *in, struct error *err) {
	return kept_ls(in, "secrets", err);
}

const struct command command_secret_ls = {
	.name = "secret ls",
	.group = "Workloads, secrets and configs",
	.usage = "",
	.doc = "List secrets",
	.examples = "wabe secret ls",
	.listing = true,
	.run = run,
};
