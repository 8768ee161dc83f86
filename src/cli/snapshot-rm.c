/* wabe snapshot rm */
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
	int status = 0;
	for (char **name = in->args + 1; *name; name++) {
		_cleanup_(free_ptr) char *rest = client_path("/%s", *name);
		if (api_call(in, "DELETE", snapshot_path(in, o->volume, rest), NULL, NULL, err) < 0) {
			print_error(err);
			status = EXIT_WABE;
		} else {
			puts(*name);
		}
	}
	return status;
}

const struct command command_snapshot_rm = {
	.name = "snapshot rm",
	.group = "Pools, volumes and snapshots",
	.usage = "[OPTION…] NAME SNAPSHOT…",
	.doc = "Remove snapshots",
	.examples = "wabe snapshot rm web before-upgrade",
	.options = options,
	.options_size = sizeof(struct options),
	.min_args = 2,
	.max_args = SIZE_MAX,
	.complete = "instance",
	.run = run,
};
