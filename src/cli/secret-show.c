/* wabe secret show */
#include "cli/cli.h"

static int run(struct invocation *in, UNUSED struct error *err) {
	return show_each(in, "/secrets/%s", NULL);
}

const struct command command_secret_show = {
	.name = "secret show",
	.group = "Workloads, secrets and configs",
	.usage = "SECRET…",
	.doc = "Show all about secrets but what is in them, as JSON",
	.examples = "wabe secret show db-password",
	.min_args = 1,
	.max_args = SIZE_MAX,
	.listing = true,
	.complete = "secret",
	.run = run,
};
