/* wabe snapshot restore */
#include "cli/cli.h"

struct options {
	bool volume;
};

static const struct option_row options[] = {
	OPTION(struct options, volume, BOOL, "volume", .doc = "NAME is a volume, not an instance"),
	{0},
};

static int run(struct invocation *in, struct error *err) {
	const struct options *o = in->options;
	_cleanup_(free_ptr) char *rest = client_path("/%s/restore", in->args[1]);
	return api_call(in, "POST", snapshot_path(in, o->volume, rest), NULL, NULL, err);
}

const struct command command_snapshot_restore = {
	.name = "snapshot restore",
	.group = "Pools, volumes and snapshots",
	.usage = "[OPTION…] NAME SNAPSHOT",
	.doc = "Go back to a snapshot; what has changed since is lost",
	.details = "A machine whose snapshot has its memory runs again, from that moment on.",
	.examples = "wabe snapshot restore web before-upgrade",
	.options = options,
	.options_size = sizeof(struct options),
	.min_args = 2,
	.complete = "instance",
	.run = run,
};
