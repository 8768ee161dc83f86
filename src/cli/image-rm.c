/* wabe image rm */
#include "cli/cli.h"

struct options {
	bool force;
};

static const struct option_row options[] = {
	OPTION(struct options, force, BOOL, "force,f", .doc = "By id: with all its names; of an image that runs the names alone go"),
	{0},
};

static void print_all(const char *key, const json_t *reply) {
	_cleanup_(strv_free_ptr) char **values = json_get_strv(reply, key);
	for (char **v = values; v && *v; v++)
		printf("%s %s\n", key, *v);
}

static int run(struct invocation *in, struct error *err) {
	const struct options *o = in->options;
	int status = 0;
	for (char **name = in->args; *name; name++) {
		_cleanup_(json_free_ptr) json_t *reply = NULL;
		char *path = api_path(in, "/images/%s", *name);
		path_query(&path, "force", o->force ? "true" : NULL);
		if (api_call(in, "DELETE", path, NULL, &reply, err) < 0) {
			print_error(err);
			status = EXIT_WABE;
		}
		print_all("untagged", reply);
		print_all("deleted", reply);
	}
	return status;
}

const struct command command_image_rm = {
	.name = "image rm",
	.group = "Images",
	.usage = "[OPTION…] IMAGE…",
	.doc = "Remove names of images, and images with their last one",
	.examples = "wabe image rm my/base:1",
	.options = options,
	.options_size = sizeof(struct options),
	.min_args = 1,
	.max_args = SIZE_MAX,
	.complete = "image",
	.run = run,
};
