/* wabe workload rollback */
#include "cli/cli.h"

static int run(struct invocation *in, UNUSED struct error *err) {
	return api_each(in, "POST", "/workloads/%s/rollback", NULL, false);
}

const struct command command_workload_rollback = {
	.name = "workload rollback",
	.group = "Workloads, secrets and configs",
	.usage = "WORKLOAD…",
	.doc = "Go back to what workloads were before their last change",
	.examples = "wabe workload rollback web",
	.min_args = 1,
	.max_args = SIZE_MAX,
	.complete = "workload",
	.run = run,
};
