/* wabe export */
#include "cli/cli.h"

struct options {
	char *output, *format;
};

static const struct option_row options[] = {
	OPTION(struct options, output, STRING, "output,o", .placeholder = "FILE",
	       .doc = "A file; standard output if not given"),
	OPTION(struct options, format, STRING, "format", .placeholder = "FORMAT",
	       .doc = "tar (of its files), or ova: a machine's hardware and disks, for other systems"),
	{0},
};

static int run(struct invocation *in, struct error *err) {
	const struct options *o = in->options;
	char *path = api_path(in, "/instances/%s/export", in->args[0]);
	if (o->format && strcmp(o->format, "tar") != 0 && strcmp(o->format, "ova") != 0) {
		free(path);
		return error_set(err, ERROR_INVALID, "--format must be tar or ova");
	}
	path_query(&path, "format", o->format);
	return download(in, path, o->output, err);
}

const struct command command_export = {
	.name = "export",
	.group = "Instances",
	.usage = "[OPTION…] INSTANCE",
	.doc = "Write an instance's files to an archive, or a machine as an OVA",
	.examples = "wabe export web > web.tar\nwabe export --format ova -o db.ova db",
	.options = options,
	.options_size = sizeof(struct options),
	.min_args = 1,
	.complete = "instance",
	.run = run,
};
