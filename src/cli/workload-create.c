/* wabe workload create */
#include "cli/cli.h"
#include "model/workload.h"

struct options {
	struct create_options create;
};

static const struct option_row options[] = {CREATE_OPTIONS(struct options, create), {0}};

static int run(struct invocation *in, struct error *err) {
	const struct options *o = in->options;
	struct workload_spec *spec = in->fields;
	_cleanup_(json_free_ptr) json_t *workload = NULL;
	struct invocation template = *in; /* what is said of an instance is said of the template */
	template.fields = &spec->template;
	template.args = in->args + 1;
	template.n_args = in->n_args - 1;
	int r = spec_finish(&template, &o->create, err);
	spec->name = str_copy(in->args[0]);
	if (r == 0 && workload_is_job(spec) && !strv_has(in->fields_given, "restart-condition")) {
		free(spec->restart.condition);
		spec->restart.condition = str_copy("on-failure");
	}
	if (r < 0)
		return r;
	_cleanup_(json_free_ptr) json_t *body = fields_print(&workload_spec_table, spec);
	r = api_call(in, "POST", api_path(in, "/workloads"), body, &workload, err);
	if (r == 0)
		puts(in->args[0]);
	return r;
}

const struct command command_workload_create = {
	.name = "workload create",
	.group = "Workloads, secrets and configs",
	.usage = "[OPTION…] NAME IMAGE [COMMAND [ARGUMENT…]]",
	.doc = "Declare a set of instances that is kept running",
	.examples = "wabe workload create --replicas 3 -p 8080:80 --network back web web:1\n"
		    "wabe workload create --mode job --completions 5 --max-concurrent 2 sum tools:1 sum",
	.options = options,
	.options_size = sizeof(struct options),
	.fields = &workload_spec_table,
	.min_args = 2,
	.max_args = SIZE_MAX,
	.stop_at_first = true,
	.run = run,
};
