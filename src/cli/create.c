/* wabe create */
#include "cli/cli.h"

struct options {
	struct create_options create;
};

static const struct option_row options[] = {CREATE_OPTIONS(struct options, create), {0}};

static int run(struct invocation *in, struct error *err) {
	const struct options *o = in->options;
	_cleanup_(json_free_ptr) json_t *instance = NULL;
	int r = spec_finish(in, &o->create, err);
	if (r == 0)
		r = spec_create(in, &o->create, &instance, err);
	if (r == 0)
		puts(json_get_str(instance, "id"));
	return r;
}

const struct command command_create = {
	.name = "create",
	.group = "Instances",
	.usage = "[OPTION…] IMAGE [COMMAND [ARGUMENT…]]",
	.doc = "Create an instance without starting it",
	.examples = "wabe create --name web web:1\nwabe start web",
	.options = options,
	.options_size = sizeof(struct options),
	.fields = &instance_spec_table,
	.min_args = 1,
	.max_args = SIZE_MAX,
	.stop_at_first = true,
	.complete = "image",
	.run = run,
};
