/* wabe top */
#include "cli/cli.h"

static void add_process(struct table *t, const json_t *p) {
	_cleanup_(free_ptr) char *pid = str_format("%lld", (long long)json_get_int(p, "pid"));
	_cleanup_(free_ptr) char *parent = str_format("%lld", (long long)json_get_int(p, "parent"));
	_cleanup_(free_ptr) char *memory = format_bytes(json_get_int(p, "memory"));
	_cleanup_(free_ptr) char *time = format_seconds(json_get_int(p, "cpu_ns"));
	table_add(t, json_get_str(p, "user"), pid, parent, json_get_str(p, "state"), memory, time,
		  json_get_str(p, "command"));
}

static int run(struct invocation *in, struct error *err) {
	_cleanup_(json_free_ptr) json_t *reply = NULL;
	int r = api_call(in, "GET", api_path(in, "/instances/%s/top", in->args[0]), NULL, &reply, err);
	if (r < 0)
		return r;
	const json_t *processes = json_object_get(reply, "processes");
	if (in->json) {
		print_json(processes);
		return 0;
	}
	struct table *t =
		table_new((const char *const[]){"USER", "PID", "PARENT", "STATE", "MEMORY", "TIME", "COMMAND", NULL});
	size_t i;
	json_t *p;
	json_array_foreach(processes, i, p)
		add_process(t, p);
	table_print(t, true);
	return 0;
}

const struct command command_top = {
	.name = "top",
	.group = "Instances",
	.usage = "INSTANCE",
	.doc = "List an instance's processes",
	.examples = "wabe top web",
	.min_args = 1,
	.listing = true,
	.complete = "instance",
	.run = run,
};
