/* wabe export */
#include "cli/cli.h"

struct options {
	char *output;
};

static const struct option_row options[] = {
	OPTION(struct options, output, STRING, "output,o", .placeholder = "FILE",
	       .doc = "A file; standard output if not given"),
	{0},
};

static int run(struct invocation *in, struct error *err) {
	const struct options *o = in->options;
	return download(in, api_path(in, "/instances/%s/export", in->args[0]), o->output, err);
}

const struct command command_export = {
	.name = "export",
	.group = "Instances",
	.usage = "[OPTION…] INSTANCE",
	.doc = "Write an instance's files to an archive",
	.examples = "wabe export web > web.tar",
	.options = options,
	.options_size = sizeof(struct options),
	.min_args = 1,
	.complete = "instance",
	.run = run,
};
