/* wabe volume prune */
#include "cli/cli.h"

struct options {
	bool force;
};

static const struct option_row options[] = {
	OPTION(struct options, force, BOOL, "force,f", .doc = "Yes, their data too"),
	{0},
};

static int run(struct invocation *in, struct error *err) {
	const struct options *o = in->options;
	_cleanup_(json_free_ptr) json_t *reply = NULL;
	if (!o->force)
		return error_set(err, ERROR_INVALID, "this removes the data of every volume that no instance mounts: say --force");
	int r = api_call(in, "POST", api_path(in, "/volumes/prune"), NULL, &reply, err);
	_cleanup_(strv_free_ptr) char **deleted = r == 0 ? json_get_strv(reply, "deleted") : NULL;
	for (char **name = deleted; name && *name; name++)
		puts(*name);
	return r;
}

const struct command command_volume_prune = {
	.name = "volume prune",
	.group = "Pools, volumes and snapshots",
	.usage = "--force",
	.doc = "Remove all volumes that no instance mounts",
	.examples = "wabe volume prune --force",
	.options = options,
	.options_size = sizeof(struct options),
	.run = run,
};
