/* wabe workload show */
#include "cli/cli.h"

static int run(struct invocation *in, UNUSED struct error *err) {
	return show_each(in, "/workloads/%s", NULL);
}

const struct command command_workload_show = {
	.name = "workload show",
	.group = "Workloads, secrets and configs",
	.usage = "WORKLOAD…",
	.doc = "Show all about workloads, as JSON",
	.examples = "wabe workload show web",
	.min_args = 1,
	.max_args = SIZE_MAX,
	.listing = true,
	.complete = "workload",
	.run = run,
};
