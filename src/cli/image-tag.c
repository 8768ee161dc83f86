/* wabe image tag */
#include "cli/cli.h"

static int run(struct invocation *in, struct error *err) {
	_cleanup_(json_free_ptr) json_t *body = json_pack("{s:s}", "name", in->args[1]);
	return api_call(in, "POST", api_path(in, "/images/%s/tag", in->args[0]), body, NULL, err);
}

const struct command command_image_tag = {
	.name = "image tag",
	.group = "Images",
	.usage = "IMAGE NAME",
	.doc = "Give an image a further name",
	.examples = "wabe image tag debian:bookworm my/base:1",
	.min_args = 2,
	.complete = "image",
	.run = run,
};
