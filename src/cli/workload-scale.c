/* wabe workload scale */
#include "cli/cli.h"

static int scale(const struct invocation *in, const char *arg, struct error *err) {
	_cleanup_(free_ptr) char *name = str_copyn(arg, strcspn(arg, "="));
	_cleanup_(json_free_ptr) json_t *patch = NULL, *workload = NULL;
	int64_t n;
	if (!strchr(arg, '=') || str_to_i64(strchr(arg, '=') + 1, &n) < 0 || n < 0)
		return error_set(err, ERROR_INVALID, "%s is not WORKLOAD=NUMBER", arg);
	patch = json_pack("{s:I}", "replicas", (json_int_t)n);
	int r = api_call(in, "PATCH", api_path(in, "/workloads/%s", name), patch, &workload, err);
	if (r == 0)
		puts(arg);
	return r;
}

static int run(struct invocation *in, struct error *err) {
	int r = 0;
	for (char **arg = in->args; r == 0 && *arg; arg++)
		r = scale(in, *arg, err);
	return r;
}

const struct command command_workload_scale = {
	.name = "workload scale",
	.group = "Workloads, secrets and configs",
	.usage = "WORKLOAD=NUMBER…",
	.doc = "Change how many instances replicated workloads have",
	.examples = "wabe workload scale web=5 worker=0",
	.min_args = 1,
	.max_args = SIZE_MAX,
	.complete = "workload",
	.run = run,
};
