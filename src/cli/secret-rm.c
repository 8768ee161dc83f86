/* wabe secret rm */
#include "cli/cli.h"

static int run(struct invocation *in, UNUSED struct error *err) {
	return api_each(in, "DELETE", "/secrets/%s", NULL, false);
}

const struct command command_secret_rm = {
	.name = "secret rm",
	.group = "Workloads, secrets and configs",
	.usage = "SECRET…",
	.doc = "Remove secrets that nobody gets",
	.examples = "wabe secret rm db-password",
	.min_args = 1,
	.max_args = SIZE_MAX,
	.complete = "secret",
	.run = run,
};
