/* wabe volume export */
#include "cli/cli.h"

struct options {
	char *output, *format, *snapshot;
};

static const struct option_row options[] = {
	OPTION(struct options, output, STRING, "output,o", .placeholder = "FILE", .doc = "A file; standard output if not given"),
	OPTION(struct options, format, STRING, "format", .placeholder = "FORMAT", .def = "tar",
	       .doc = "tar of a file system; raw or qcow2 of a block volume"),
	OPTION(struct options, snapshot, STRING, "snapshot,s", .placeholder = "NAME", .doc = "As it was then"),
	{0},
};

static int run(struct invocation *in, struct error *err) {
	const struct options *o = in->options;
	char *path = api_path(in, "/volumes/%s/export", in->args[0]);
	path_query(&path, "format", o->format);
	path_query(&path, "snapshot", o->snapshot);
	return download(in, path, o->output, err);
}

const struct command command_volume_export = {
	.name = "volume export",
	.group = "Pools, volumes and snapshots",
	.usage = "[OPTION…] VOLUME",
	.doc = "Write a volume's content to a file",
	.examples = "wabe volume export data > data.tar\nwabe volume export --format qcow2 -o disk.qcow2 disk0",
	.options = options,
	.options_size = sizeof(struct options),
	.min_args = 1,
	.complete = "volume",
	.run = run,
};
