/* wabe image load */
#include "cli/cli.h"

struct options {
	char *input;
};

static const struct option_row options[] = {
	OPTION(struct options, input, STRING, "input,i", .placeholder = "FILE", .def = "-",
	       .doc = "A file; - is standard input"),
	{0},
};

static int upload(const struct invocation *in, int fd, json_t **reply, struct error *err) {
	_cleanup_(free_ptr) char *path = api_path(in, "/images/load");
	return client_upload(in->client, "POST", path, "application/x-tar", fd, reply, err);
}

static void print_image(const json_t *image) {
	_cleanup_(strv_free_ptr) char **names = json_get_strv(image, "names");
	_cleanup_(free_ptr) char *text = names ? strv_join(names, " ") : NULL;
	const char *id = json_get_str(image, "id");
	puts(text ? text : json_is_string(image) ? json_string_value(image) : id ? id : "?");
}

static int run(struct invocation *in, struct error *err) {
	const struct options *o = in->options;
	const char *file = in->args ? in->args[0] : o->input;
	_cleanup_(close_fd) int fd = open_input(file, err);
	if (fd < 0)
		return fd;
	_cleanup_(json_free_ptr) json_t *reply = NULL;
	struct progress *p = progress_of_upload(in->client, "loading", fd);
	int r = upload(in, fd, &reply, err);
	progress_end(p);
	if (r < 0)
		return r;
	size_t i;
	json_t *image;
	json_array_foreach(json_object_get(reply, "images"), i, image)
		print_image(image);
	return 0;
}

const struct command command_image_load = {
	.name = "image load",
	.group = "Images",
	.usage = "[OPTION…] [FILE]",
	.doc = "Read images from an archive",
	.details = "One that `wabe image save`, docker, podman or skopeo has written, or the tar of an OCI layout; it may be\n"
		   "compressed.",
	.examples = "wabe image load debian.tar\nzcat images.tar.gz | wabe image load",
	.options = options,
	.options_size = sizeof(struct options),
	.max_args = 1,
	.run = run,
};
