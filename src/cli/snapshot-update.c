/* wabe snapshot update */
#include "cli/cli.h"

struct options {
	bool volume;
	char *description;
};

static const struct option_row options[] = {
	OPTION(struct options, volume, BOOL, "volume", .doc = "NAME is a volume, not an instance"),
	OPTION(struct options, description, STRING, "description", .placeholder = "TEXT", .doc = "What it is for"),
	{0},
};

static int run(struct invocation *in, struct error *err) {
	const struct options *o = in->options;
	if (!o->description)
		return error_set(err, ERROR_INVALID, "nothing to change: give --description");
	_cleanup_(json_free_ptr) json_t *body = json_pack("{s:s}", "description", o->description);
	_cleanup_(free_ptr) char *rest = client_path("/%s", in->args[1]);
	return api_call(in, "PATCH", snapshot_path(in, o->volume, rest), body, NULL, err);
}

const struct command command_snapshot_update = {
	.name = "snapshot update",
	.group = "Pools, volumes and snapshots",
	.usage = "--description TEXT NAME SNAPSHOT",
	.doc = "Describe a snapshot",
	.examples = "wabe snapshot update --description \"works\" web before-upgrade",
	.options = options,
	.options_size = sizeof(struct options),
	.min_args = 2,
	.complete = "instance",
	.run = run,
};
