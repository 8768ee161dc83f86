/* wabe task show */
#include "cli/cli.h"

static int run(struct invocation *in, struct error *err) {
	int status = 0;
	for (char **name = in->args; *name; name++) {
		_cleanup_(json_free_ptr) json_t *task = NULL;
		if (api_call(in, "GET", api_path(in, "/tasks/%s", *name), NULL, &task, err) < 0) {
			print_error(err);
			status = EXIT_WABE;
		} else {
			print_json(task);
		}
	}
	return status;
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
