/* wabe task cancel */
#include "cli/cli.h"

static int run(struct invocation *in, UNUSED struct error *err) {
	return api_each(in, "POST", "/tasks/%s/cancel", NULL, false);
}

const struct command command_task_cancel = {
	.name = "task cancel",
	.group = "Tasks",
	.usage = "TASK…",
	.doc = "Cancel tasks",
	.examples = "wabe task cancel 5f0c",
	.min_args = 1,
	.max_args = SIZE_MAX,
	.complete = "task",
	.run = run,
};
