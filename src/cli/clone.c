/* wabe clone */
#include "cli/cli.h"

struct options {
	char *snapshot;
	bool linked, memory;
};

static const struct option_row options[] = {
	OPTION(struct options, snapshot, STRING, "snapshot,s", .placeholder = "NAME", .doc = "As it was then"),
	OPTION(struct options, linked, BOOL, "linked", .doc = "Shares what they have in common: takes no time"),
	OPTION(struct options, memory, BOOL, "memory", .doc = "Of a machine: goes on with its memory, and runs"),
	{0},
};

static int run(struct invocation *in, struct error *err) {
	const struct options *o = in->options;
	_cleanup_(json_free_ptr) json_t *body = json_pack("{s:b,s:b}", "linked", o->linked, "memory", o->memory);
	json_set_str(body, "name", in->args[1]);
	json_set_str(body, "snapshot", o->snapshot);
	return run_task(in, api_path(in, "/instances/%s/clone", in->args[0]), body, in->args[1], err);
}

const struct command command_clone = {
	.name = "clone",
	.group = "Instances",
	.usage = "[OPTION…] INSTANCE [NAME]",
	.doc = "Make an instance that begins as another one",
	.examples = "wabe clone web web2\nwabe clone --snapshot before-upgrade --linked web trial\nwabe clone --memory --linked golden one",
	.options = options,
	.options_size = sizeof(struct options),
	.min_args = 1,
	.max_args = 2,
	.complete = "instance",
	.run = run,
};
