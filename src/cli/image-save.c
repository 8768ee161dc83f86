/* wabe image save */
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
	char *path = api_path(in, "/images/save");
	for (char **name = in->args; *name; name++)
		path_query(&path, "name", *name);
	return download(in, path, o->output, err);
}

const struct command command_image_save = {
	.name = "image save",
	.group = "Images",
	.usage = "[OPTION…] IMAGE…",
	.doc = "Write images to an archive",
	.examples = "wabe image save -o debian.tar debian:bookworm\nwabe image save debian | gzip > debian.tar.gz",
	.options = options,
	.options_size = sizeof(struct options),
	.min_args = 1,
	.max_args = SIZE_MAX,
	.complete = "image",
	.run = run,
};
