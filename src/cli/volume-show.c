/* wabe volume show */
#include "cli/cli.h"

static int run(struct invocation *in, struct error *err) {
	int status = 0;
	for (char **name = in->args; *name; name++) {
		_cleanup_(json_free_ptr) json_t *one = NULL;
		if (api_call(in, "GET", api_path(in, "/volumes/%s", *name), NULL, &one, err) < 0) {
			print_error(err);
			status = EXIT_WABE;
		} else {
			print_json(one);
		}
	}
	return status;
}

const struct command command_volume_show = {
	.name = "volume show",
	.group = "Pools, volumes and snapshots",
	.usage = "VOLUME…",
	.doc = "Show all about volumes, as JSON",
	.examples = "wabe volume show data",
	.min_args = 1,
	.max_args = SIZE_MAX,
	.listing = true,
	.complete = "volume",
	.run = run,
};
