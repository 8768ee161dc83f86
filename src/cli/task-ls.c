/* wabe task ls */
#include "cli/cli.h"

static int run(struct invocation *in, struct error *err) {
	_cleanup_(json_free_ptr) json_t *reply = NULL;
	int r = api_call(in, "GET", api_path(in, "/tasks"), NULL, &reply, err);
	if (r < 0)
		return r;
	const json_t *tasks = json_object_get(reply, "tasks");
	if (in->json) {
		print_json(tasks);
		return 0;
	}
	struct table *t = table_new((const char *const[]){"ID", "KIND", "TARGET", "STATE", "AGE", "MESSAGE", NULL});
	size_t i;
	json_t *task;
	json_array_foreach(tasks, i, task) {
		const char *error = json_get_str(task, "error");
		_cleanup_(free_ptr) char *age = format_age(json_get_str(task, "created_at"));
		table_add(t, json_get_str(task, "id"), json_get_str(task, "kind"), json_get_str(task, "target"),
			  json_get_str(task, "state"), age, error ? error : json_get_str(task, "message"));
	}
	table_print(t, true);
	return 0;
}

const struct command command_task_ls = {
	.name = "task ls",
	.group = "Tasks",
	.usage = "",
	.doc = "List tasks",
	.examples = "wabe task ls",
	.listing = true,
	.complete = "",
	.run = run,
};
