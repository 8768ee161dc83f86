/* wabe show */
#include "cli/cli.h"

/* A machine that runs is asked, too; one whose guest has no agent tells nothing. */
static void add_inside(const struct invocation *in, const char *name, json_t *instance) {
	_cleanup_(error_free) struct error none = ERROR_INIT;
	json_t *told = NULL;
	if (!str_same(json_get_str(json_object_get(instance, "spec"), "kind"), "machine") ||
	    !str_same(json_get_str(json_object_get(instance, "status"), "state"), "running"))
		return;
	if (api_call(in, "GET", api_path(in, "/instances/%s/inside", name), NULL, &told, &none) == 0)
		json_object_set_new(instance, "inside", told);
}

static int run(struct invocation *in, UNUSED struct error *err) {
	return show_each(in, "/instances/%s", add_inside);
}

const struct command command_show = {
	.name = "show",
	.group = "Instances",
	.usage = "INSTANCE…",
	.doc = "Show all about instances, as JSON",
	.details = "Of a machine that runs also what its guest tells (inside), where an agent answers in it.",
	.examples = "wabe show web\nwabe show web | jq .status.state\nwabe show db | jq .inside.interfaces",
	.min_args = 1,
	.max_args = SIZE_MAX,
	.listing = true,
	.complete = "instance",
	.run = run,
};
