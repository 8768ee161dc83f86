/* wabe workload rm */
#include "cli/cli.h"

static int run(struct invocation *in, UNUSED struct error *err) {
	return api_each(in, "DELETE", "/workloads/%s", NULL, false);
}

const struct command command_workload_rm = {
	.name = "workload rm",
	.group = "Workloads, secrets and configs",
	.usage = "WORKLOAD…",
	.doc = "Remove workloads; their instances are stopped and removed",
	.examples = "wabe workload rm web",
	.min_args = 1,
	.max_args = SIZE_MAX,
	.complete = "workload",
	.run = run,
};
