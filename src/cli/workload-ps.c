/* wabe workload ps */
#include "cli/cli.h"

static void print_row(struct table *t, const json_t *one) {
	const json_t *spec = json_object_get(one, "spec"), *status = json_object_get(one, "status");
	const json_t *owner = json_object_get(spec, "owner");
	_cleanup_(free_ptr) char *slot = str_format("%lld", (long long)json_get_int(owner, "slot")),
				 *generation = str_format("%lld", (long long)json_get_int(owner, "generation")),
				 *exit = str_format("%lld", (long long)json_get_int(status, "exit_code")),
				 *age = format_age(json_get_str(one, "created_at"));
	bool ended = str_same(json_get_str(status, "state"), "exited");
	const char *error = json_get_str(status, "error"), *health = json_get_str(status, "health");
	table_add(t, slot, json_get_str(spec, "name"), generation, json_get_str(status, "state"), ended ? exit : NULL, age,
		  error ? error : health);
}

static int run(struct invocation *in, struct error *err) {
	_cleanup_(json_free_ptr) json_t *reply = NULL;
	int r = api_call(in, "GET", api_path(in, "/workloads/%s/instances", in->args[0]), NULL, &reply, err);
	if (r < 0)
		return r;
	const json_t *instances = json_object_get(reply, "instances");
	if (in->json) {
		print_json(instances);
		return 0;
	}
	struct table *t = table_new((const char *const[]){"SLOT", "NAME", "GENERATION", "STATE", "EXIT", "CREATED", "REMARK", NULL});
	size_t i;
	json_t *one;
	json_array_foreach(instances, i, one)
		print_row(t, one);
	table_print(t, true);
	return 0;
}

const struct command command_workload_ps = {
	.name = "workload ps",
	.group = "Workloads, secrets and configs",
	.usage = "WORKLOAD",
	.doc = "List the instances of a workload, also those that have ended",
	.examples = "wabe workload ps web",
	.min_args = 1,
	.listing = true,
	.complete = "workload",
	.run = run,
};
