/* wabe commit */
#include "cli/cli.h"

struct options {
	char *message, *author;
	bool pause;
};

static const struct option_row options[] = {
	OPTION(struct options, message, STRING, "message,m", .placeholder = "TEXT", .doc = "What changed"),
	OPTION(struct options, author, STRING, "author,a", .placeholder = "NAME", .doc = "Who made it"),
	OPTION(struct options, pause, BOOL, "pause,p", .def = "true", .doc = "Frozen meanwhile; =false is not"),
	{0},
};

static int run(struct invocation *in, struct error *err) {
	const struct options *o = in->options;
	_cleanup_(json_free_ptr) json_t *body = json_object();
	json_set_str(body, "name", in->args[1]);
	json_set_str(body, "comment", o->message);
	json_set_str(body, "author", o->author);
	json_set_bool(body, "pause", o->pause);
	return api_make(in, api_path(in, "/instances/%s/commit", in->args[0]), body, err);
}

const struct command command_commit = {
	.name = "commit",
	.group = "Instances",
	.usage = "[OPTION…] INSTANCE [IMAGE]",
	.doc = "Make an image of an instance's files",
	.examples = "wabe commit -m 'with vim' shell my/debian:vim",
	.options = options,
	.options_size = sizeof(struct options),
	.min_args = 1,
	.max_args = 2,
	.complete = "instance",
	.run = run,
};
