/* wabe task show */
#include "cli/cli.h"

static int run(struct invocation *in, UNUSED struct error *err) {
	return show_each(in, "/tasks/%s", NULL);
}

const struct command command_task_show = {
	.name = "task show",
	.group = "Tasks",
	.usage = "TASK…",
	.doc = "Show all about tasks, as JSON",
	.examples = "wabe task show 5f0c",
	.min_args = 1,
	.max_args = SIZE_MAX,
	.listing = true,
	.complete = "task",
	.run = run,
};
