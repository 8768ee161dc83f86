/* wabe image export */
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
	_cleanup_(json_free_ptr) json_t *body = json_pack("{s:s,s:[s]}", "image", in->args[0], "command", "true"),
					*instance = NULL;
	int r = api_call(in, "POST", api_path(in, "/instances"), body, &instance, err);
	const char *id = json_get_str(instance, "id");
	if (r < 0 || !id)
		return r < 0 ? r : error_set(err, ERROR_CORRUPT, "the daemon's answer has no id");
	r = download(in, api_path(in, "/instances/%s/export", id), o->output, err);
	api_call(in, "DELETE", api_path(in, "/instances/%s?force=true", id), NULL, NULL, NULL);
	return r;
}

const struct command command_image_export = {
	.name = "image export",
	.group = "Images",
	.usage = "[OPTION…] IMAGE",
	.doc = "Write an image's files to an archive",
	.details = "Through an instance that is created for it and never started.",
	.examples = "wabe image export -o root.tar debian:bookworm",
	.options = options,
	.options_size = sizeof(struct options),
	.min_args = 1,
	.complete = "image",
	.run = run,
};
