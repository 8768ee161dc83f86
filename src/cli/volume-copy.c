/* wabe volume copy */
#include "cli/cli.h"

struct options {
	char *pool, *snapshot;
	bool linked;
};

static const struct option_row options[] = {
	OPTION(struct options, pool, STRING, "pool", .placeholder = "NAME", .doc = "Where it lives; the same pool if not given"),
	OPTION(struct options, snapshot, STRING, "snapshot,s", .placeholder = "NAME", .doc = "As it was then"),
	OPTION(struct options, linked, BOOL, "linked", .doc = "Shares what they have in common: takes no time"),
	{0},
};

static int run(struct invocation *in, struct error *err) {
	const struct options *o = in->options;
	_cleanup_(json_free_ptr) json_t *body = json_pack("{s:s, s:b}", "name", in->args[1], "linked", o->linked);
	json_set_str(body, "pool", o->pool);
	json_set_str(body, "snapshot", o->snapshot);
	return run_task(in, api_path(in, "/volumes/%s/copy", in->args[0]), body, in->args[1], err);
}

const struct command command_volume_copy = {
	.name = "volume copy",
	.group = "Pools, volumes and snapshots",
	.usage = "[OPTION…] VOLUME NAME",
	.doc = "Make a volume with the content of another one",
	.examples = "wabe volume copy data data2\nwabe volume copy --snapshot before --linked data trial",
	.options = options,
	.options_size = sizeof(struct options),
	.min_args = 2,
	.complete = "volume",
	.run = run,
};
