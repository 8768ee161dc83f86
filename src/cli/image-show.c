/* wabe image show */
#include "cli/cli.h"

static int run(struct invocation *in, struct error *err) {
	int status = 0;
	for (char **name = in->args; *name; name++) {
		_cleanup_(json_free_ptr) json_t *image = NULL;
		if (api_call(in, "GET", api_path(in, "/images/%s", *name), NULL, &image, err) < 0) {
			print_error(err);
			status = EXIT_WABE;
		} else {
			print_json(image);
		}
	}
	return status;
}

const struct command command_image_show = {
	.name = "image show",
	.group = "Images",
	.usage = "IMAGE…",
	.doc = "Show all about images, as JSON",
	.examples = "wabe image show debian:bookworm",
	.min_args = 1,
	.max_args = SIZE_MAX,
	.listing = true,
	.complete = "image",
	.run = run,
};
