/* wabe workload ls */
#include "cli/cli.h"

struct options {
	bool quiet;
	char **labels;
};

static const struct option_row options[] = {
	OPTION(struct options, quiet, BOOL, "quiet,q", .doc = "Names only"),
	OPTION(struct options, labels, STRINGS, "label,l", .placeholder = "KEY[=VALUE]", .doc = "Only those with this label"),
	{0},
};

static int64_t running(const json_t *instances, const char *workload) {
	int64_t n = 0;
	size_t i;
	json_t *one;
	json_array_foreach(instances, i, one) {
		const json_t *owner = json_object_get(json_object_get(one, "spec"), "owner");
		const char *state = json_get_str(json_object_get(one, "status"), "state");
		n += str_same(json_get_str(owner, "workload"), workload) && str_same(state, "running");
	}
	return n;
}

static char *wanted(const json_t *spec, int64_t have) {
	const char *mode = json_get_str(spec, "mode");
	int64_t n = str_same(mode, "replicated") ? json_get_int(spec, "replicas")
		    : str_same(mode, "job")	 ? json_get_int(spec, "completions")
						 : 1;
	return str_format("%lld/%lld", (long long)have, (long long)n);
}

static void print_row(struct table *t, const json_t *one, const json_t *instances) {
	const json_t *spec = json_object_get(one, "spec");
	_cleanup_(free_ptr) char *ports = format_ports(json_object_get(spec, "ports"));
	_cleanup_(free_ptr) char *count = wanted(spec, running(instances, json_get_str(one, "id")));
	const char *update = json_get_str(json_object_get(one, "update"), "state"), *error = json_get_str(one, "error");
	table_add(t, json_get_str(spec, "name"), json_get_str(spec, "mode"), count,
		  json_get_str(json_object_get(spec, "template"), "image"), *ports ? ports : NULL, error ? error : update);
}

static int run(struct invocation *in, struct error *err) {
	const struct options *o = in->options;
	_cleanup_(json_free_ptr) json_t *reply = NULL, *all = NULL;
	char *path = api_path(in, "/workloads");
	for (char **label = o->labels; label && *label; label++)
		path_query(&path, "label", *label);
	int r = api_call(in, "GET", path, NULL, &reply, err);
	if (r == 0 && !in->json && !o->quiet)
		r = api_call(in, "GET", api_path(in, "/instances"), NULL, &all, err);
	if (r < 0)
		return r;
	const json_t *workloads = json_object_get(reply, "workloads");
	if (in->json) {
		print_json(workloads);
		return 0;
	}
	struct table *t = table_new((const char *const[]){"NAME", "MODE", "RUNNING", "IMAGE", "PORTS", "STATE", NULL});
	size_t i;
	json_t *one;
	json_array_foreach(workloads, i, one) {
		if (o->quiet)
			puts(json_get_str(json_object_get(one, "spec"), "name"));
		else
			print_row(t, one, json_object_get(all, "instances"));
	}
	table_print(t, !o->quiet);
	return 0;
}

const struct command command_workload_ls = {
	.name = "workload ls",
	.group = "Workloads, secrets and configs",
	.usage = "[OPTION…]",
	.doc = "List workloads",
	.examples = "wabe workload ls\nwabe workload ls --label app=web -q",
	.options = options,
	.options_size = sizeof(struct options),
	.listing = true,
	.run = run,
};
