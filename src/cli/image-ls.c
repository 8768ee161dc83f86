/* wabe image ls */
#include "cli/cli.h"

#include "model/image.h"

struct options {
	bool quiet, dangling;
};

static const struct option_row options[] = {
	OPTION(struct options, quiet, BOOL, "quiet,q", .doc = "Ids only"),
	OPTION(struct options, dangling, BOOL, "dangling", .doc = "Only those without a name"),
	{0},
};

static void add_row(struct table *t, const json_t *image, const char *name) {
	char digits[13];
	const char *os = json_get_str(image, "os"), *architecture = json_get_str(image, "architecture"),
		   *variant = json_get_str(image, "variant");
	const char *kind = json_get_str(image, "kind");
	int64_t virtual_size = json_get_int(image, "virtual_size");
	_cleanup_(free_ptr) char *disk = virtual_size ? format_bytes(virtual_size) : NULL,
				 *what = disk ? str_format("%s %s", kind ? kind : "oci", disk) : str_copy(kind ? kind : "oci");
	_cleanup_(free_ptr) char *age = format_age(json_get_str(image, "created_at")),
				 *size = format_bytes(json_get_int(image, "size")),
				 *platform = str_format("%s/%s%s%s", os ? os : "?", architecture ? architecture : "?",
							variant ? "/" : "", variant ? variant : "");
	table_add(t, name, short_id(json_get_str(image, "id"), digits), what, platform, age, size);
}

/* A row for each of its names, or one without. */
static void add_image(struct table *t, const json_t *image) {
	_cleanup_(strv_free_ptr) char **names = json_get_strv(image, "names");
	if (!names)
		add_row(t, image, NULL);
	for (char **name = names; name && *name; name++) {
		struct image_ref ref;
		if (image_ref_parse(*name, &ref, NULL) < 0) {
			add_row(t, image, *name);
			continue;
		}
		_cleanup_(free_ptr) char *familiar = image_ref_familiar(&ref);
		add_row(t, image, familiar);
		image_ref_free(&ref);
	}
}

static int run(struct invocation *in, struct error *err) {
	const struct options *o = in->options;
	_cleanup_(json_free_ptr) json_t *reply = NULL;
	char *path = api_path(in, "/images");
	path_query(&path, "name", in->args ? in->args[0] : NULL);
	path_query(&path, "dangling", o->dangling ? "true" : NULL);
	int r = api_call(in, "GET", path, NULL, &reply, err);
	if (r < 0)
		return r;
	const json_t *images = json_object_get(reply, "images");
	if (in->json) {
		print_json(images);
		return 0;
	}
	struct table *t = table_new((const char *const[]){"NAME", "ID", "KIND", "PLATFORM", "CREATED", "SIZE", NULL});
	size_t i;
	json_t *image;
	json_array_foreach(images, i, image) {
		char digits[13];
		if (o->quiet)
			puts(short_id(json_get_str(image, "id"), digits));
		else
			add_image(t, image);
	}
	table_print(t, !o->quiet);
	return 0;
}

const struct command command_image_ls = {
	.name = "image ls",
	.group = "Images",
	.usage = "[OPTION…] [NAME]",
	.doc = "List images",
	.examples = "wabe image ls\nwabe image ls debian --json",
	.options = options,
	.options_size = sizeof(struct options),
	.max_args = 1,
	.listing = true,
	.complete = "image",
	.run = run,
};
