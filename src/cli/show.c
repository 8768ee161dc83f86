/* wabe show */
#include "cli/cli.h"

static int run(struct invocation *in, struct error *err) {
	int status = 0;
	for (char **name = in->args; *name; name++) {
		_cleanup_(json_free_ptr) json_t *instance = NULL;
		if (api_call(in, "GET", api_path(in, "/instances/%s", *name), NULL, &instance, err) < 0) {
			print_error(err);
			status = EXIT_WABE;
		} else {
			print_json(instance);
		}
	}
	return status;
}

const struct command command_show = {
	.name = "show",
	.group = "Instances",
	.usage = "INSTANCE…",
	.doc = "Show all about instances, as JSON",
	.examples = "wabe show web\nwabe show web | jq .status.state",
	.min_args = 1,
	.max_args = SIZE_MAX,
	.listing = true,
	.complete = "instance",
	.run = run,
};
