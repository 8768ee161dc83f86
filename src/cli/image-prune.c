/* wabe image prune */
#include "cli/cli.h"

struct options {
	bool all;
};

static const struct option_row options[] = {
	OPTION(struct options, all, BOOL, "all,a", .doc = "Also those with a name, unless an instance uses them"),
	{0},
};

static int run(struct invocation *in, struct error *err) {
	const struct options *o = in->options;
	_cleanup_(json_free_ptr) json_t *body = json_pack("{s:b}", "all", (int)o->all), *reply = NULL;
	int r = api_call(in, "POST", api_path(in, "/images/prune"), body, &reply, err);
	if (r < 0)
		return r;
	if (in->json) {
		print_json(reply);
		return 0;
	}
	_cleanup_(strv_free_ptr) char **deleted = json_get_strv(reply, "deleted");
	for (char **id = deleted; id && *id; id++)
		puts(*id);
	_cleanup_(free_ptr) char *freed = format_bytes(json_get_int(reply, "freed"));
	printf("freed %s\n", freed);
	return 0;
}

const struct command command_image_prune = {
	.name = "image prune",
	.group = "Images",
	.usage = "[OPTION…]",
	.doc = "Remove images without a name that nothing uses",
	.examples = "wabe image prune\nwabe image prune -a",
	.options = options,
	.options_size = sizeof(struct options),
	.listing = true,
	.complete = "",
	.run = run,
};
