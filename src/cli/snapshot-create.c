/* wabe snapshot create */
#include "cli/cli.h"

struct options {
	bool volume, memory;
	char *description;
};

static const struct option_row options[] = {
	OPTION(struct options, volume, BOOL, "volume", .doc = "NAME is a volume, not an instance"),
	OPTION(struct options, memory, BOOL, "memory", .doc = "Of a machine that runs, with its memory"),
	OPTION(struct options, description, STRING, "description", .placeholder = "TEXT", .doc = "What it is for"),
	{0},
};

static int run(struct invocation *in, struct error *err) {
	const struct options *o = in->options;
	_cleanup_(json_free_ptr) json_t *body = json_object(), *snapshot = NULL;
	json_set_str(body, "name", in->args[1]);
	json_set_str(body, "description", o->description);
	json_set_bool(body, "memory", o->memory);
	int r = api_call(in, "POST", snapshot_path(in, o->volume, ""), body, &snapshot, err);
	if (r == 0 && json_get_str(snapshot, "name"))
		puts(json_get_str(snapshot, "name"));
	return r;
}

const struct command command_snapshot_create = {
	.name = "snapshot create",
	.group = "Pools, volumes and snapshots",
	.usage = "[OPTION…] NAME [SNAPSHOT]",
	.doc = "Take a snapshot of an instance's root or of a volume",
	.examples = "wabe snapshot create web before-upgrade\nwabe snapshot create --memory desktop booted\nwabe snapshot create --volume data",
	.options = options,
	.options_size = sizeof(struct options),
	.min_args = 1,
	.max_args = 2,
	.complete = "instance",
	.run = run,
};
