/* wabe volume rename */
#include "cli/cli.h"

static int run(struct invocation *in, struct error *err) {
	_cleanup_(json_free_ptr) json_t *body = json_pack("{s:s}", "name", in->args[1]);
	return api_call(in, "PATCH", api_path(in, "/volumes/%s", in->args[0]), body, NULL, err);
}

const struct command command_volume_rename = {
	.name = "volume rename",
	.group = "Pools, volumes and snapshots",
	.usage = "VOLUME NAME",
	.doc = "Give a volume another name",
	.examples = "wabe volume rename data data-old",
	.min_args = 2,
	.complete = "volume",
	.run = run,
};
