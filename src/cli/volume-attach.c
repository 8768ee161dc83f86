/* wabe volume attach */
#include "cli/cli.h"

struct options {
	bool read_only;
	char *subpath;
};

static const struct option_row options[] = {
	OPTION(struct options, read_only, BOOL, "read-only,r", .doc = "It cannot be written there"),
	OPTION(struct options, subpath, STRING, "subpath", .placeholder = "PATH", .doc = "Only this path of the volume"),
	{0},
};

static int run(struct invocation *in, struct error *err) {
	const struct options *o = in->options;
	_cleanup_(json_free_ptr) json_t *body = json_pack("{s:s, s:s, s:b}", "volume", in->args[0], "target", in->args[2],
							  "read_only", o->read_only);
	json_set_str(body, "subpath", o->subpath);
	return api_call(in, "POST", api_path(in, "/instances/%s/volumes", in->args[1]), body, NULL, err);
}

const struct command command_volume_attach = {
	.name = "volume attach",
	.group = "Pools, volumes and snapshots",
	.usage = "[OPTION…] VOLUME INSTANCE PATH",
	.doc = "Mount a volume in an instance, at once if it runs",
	.examples = "wabe volume attach data web /srv\nwabe volume attach --read-only conf web /etc/app",
	.options = options,
	.options_size = sizeof(struct options),
	.min_args = 3,
	.complete = "volume",
	.run = run,
};
