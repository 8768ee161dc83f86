/* wabe workload update */
#include "cli/cli.h"
#include "model/workload.h"

struct options {
	char *image;
	bool force;
};

static const struct option_row options[] = {
	OPTION(struct options, image, STRING, "image", .placeholder = "IMAGE", .doc = "Another image"),
	OPTION(struct options, force, BOOL, "force", .doc = "Replaces all instances, even if nothing has changed"),
	{0},
};

/* The number that the workload has, and one more. */
static int raise_force(const struct invocation *in, const char *name, json_t *patch, struct error *err) {
	_cleanup_(json_free_ptr) json_t *workload = NULL;
	int r = api_call(in, "GET", api_path(in, "/workloads/%s", name), NULL, &workload, err);
	if (r == 0)
		json_set_int(patch, "force", json_get_int(json_object_get(workload, "spec"), "force") + 1);
	return r;
}

static int run(struct invocation *in, struct error *err) {
	const struct options *o = in->options;
	_cleanup_(json_free_ptr) json_t *patch = fields_given_patch(in, &workload_spec_table), *workload = NULL;
	if (o->image) {
		if (!json_object_get(patch, "template"))
			json_object_set_new(patch, "template", json_object());
		json_set_str(json_object_get(patch, "template"), "image", o->image);
	}
	if (!json_object_size(patch) && !o->force)
		return error_set(err, ERROR_INVALID, "nothing to change: see wabe workload update --help");
	int r = o->force ? raise_force(in, in->args[0], patch, err) : 0;
	if (r == 0)
		r = api_call(in, "PATCH", api_path(in, "/workloads/%s", in->args[0]), patch, &workload, err);
	if (r == 0)
		puts(in->args[0]);
	return r;
}

const struct command command_workload_update = {
	.name = "workload update",
	.group = "Workloads, secrets and configs",
	.usage = "[OPTION…] WORKLOAD",
	.doc = "Change a workload; its instances are replaced where they have to be",
	.examples = "wabe workload update --image web:2 --update-parallelism 2 web\nwabe workload update --force web",
	.options = options,
	.options_size = sizeof(struct options),
	.fields = &workload_spec_table,
	.min_args = 1,
	.complete = "workload",
	.run = run,
};
