/* wabe image export */
#include "cli/cli.h"

struct options {
	char *output, *format;
};

static const struct option_row options[] = {
	OPTION(struct options, output, STRING, "output,o", .placeholder = "FILE",
	       .doc = "A file; standard output if not given"),
	OPTION(struct options, format, STRING, "format", .placeholder = "FORMAT",
	       .doc = "Of a disk: qcow2, raw, vmdk, vdi, vpc, vhdx, or ova (its machine as well); as it came if not given"),
	{0},
};

static int export_files(struct invocation *in, const char *output, struct error *err) {
	_cleanup_(json_free_ptr) json_t *body = json_pack("{s:s,s:[s]}", "image", in->args[0], "command", "true"),
					*instance = NULL;
	int r = api_call(in, "POST", api_path(in, "/instances"), body, &instance, err);
	const char *id = json_get_str(instance, "id");
	if (r < 0 || !id)
		return r < 0 ? r : error_set(err, ERROR_CORRUPT, "the daemon's answer has no id");
	r = download(in, api_path(in, "/instances/%s/export", id), output, err);
	api_call(in, "DELETE", api_path(in, "/instances/%s?force=true", id), NULL, NULL, NULL);
	return r;
}

static int run(struct invocation *in, struct error *err) {
	const struct options *o = in->options;
	const char *output = in->args[1] ? in->args[1] : o->output;
	_cleanup_(json_free_ptr) json_t *image = NULL;
	int r = api_call(in, "GET", api_path(in, "/images/%s", in->args[0]), NULL, &image, err);
	if (r < 0)
		return r;
	const char *kind = json_get_str(image, "kind");
	if (!o->format && (!kind || strcmp(kind, "oci") == 0))
		return export_files(in, output, err);
	char *path = api_path(in, "/images/%s/export", in->args[0]);
	path_query(&path, "format", o->format);
	return download(in, path, output, err);
}

const struct command command_image_export = {
	.name = "image export",
	.group = "Images",
	.usage = "[OPTION…] IMAGE [FILE]",
	.doc = "Write an image's files to an archive, or a machine's disk in any format",
	.details = "Files: through an instance that is created for it and never started.",
	.examples = "wabe image export -o root.tar debian:bookworm\nwabe image export --format vmdk debian-vm:12 disk.vmdk\nwabe image export --format ova debian-vm:12 debian.ova",
	.options = options,
	.options_size = sizeof(struct options),
	.min_args = 1,
	.max_args = 2,
	.complete = "image",
	.run = run,
};
