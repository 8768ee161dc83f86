/* wabe image show */
#include "cli/cli.h"

static int run(struct invocation *in, UNUSED struct error *err) {
	return show_each(in, "/images/%s", NULL);
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
