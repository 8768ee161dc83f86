/* wabe convert */
#include "cli/cli.h"

struct options {
	char *message;
};

static const struct option_row options[] = {
	OPTION(struct options, message, STRING, "message,m", .placeholder = "TEXT", .doc = "Where it is from"),
	{0},
};

static int run(struct invocation *in, struct error *err) {
	const struct options *o = in->options;
	_cleanup_(json_free_ptr) json_t *body = json_object();
	json_set_str(body, "name", in->args[1]);
	json_set_str(body, "comment", o->message);
	return api_make(in, api_path(in, "/instances/%s/convert", in->args[0]), body, err);
}

const struct command command_convert = {
	.name = "convert",
	.group = "Instances",
	.usage = "[OPTION…] MACHINE [IMAGE]",
	.doc = "Make a container's image of the Linux system on a machine's disk",
	.details = "The machine must not run, and must have been shut down. Its partition with /etc/os-release is taken, if that is ext2,\n"
		   "ext3 or ext4. The other way round, wabe run --vm starts a container's image as a machine.",
	.examples = "wabe stop db && wabe convert db db-files && wabe run -d --name db2 db-files",
	.options = options,
	.options_size = sizeof(struct options),
	.min_args = 1,
	.max_args = 2,
	.complete = "instance",
	.run = run,
};
