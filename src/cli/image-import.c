/* wabe image import */
#include "cli/cli.h"

struct options {
	char *message, *kind, *format;
};

static const struct option_row options[] = {
	OPTION(struct options, kind, STRING, "kind", .placeholder = "KIND",
	       .doc = "oci (a root file system), disk, iso, floppy, kernel; seen by its first bytes if not given, but a floppy"),
	OPTION(struct options, format, STRING, "format", .placeholder = "FORMAT",
	       .doc = "Of a disk: qcow2, raw, vmdk, vdi, vpc, vhdx; seen by its first bytes if not given"),
	OPTION(struct options, message, STRING, "message,m", .placeholder = "TEXT", .doc = "Where it is from"),
	{0},
};

static int run(struct invocation *in, struct error *err) {
	const struct options *o = in->options;
	_cleanup_(close_fd) int fd = open_input(in->args[0], err);
	if (fd < 0)
		return fd;
	_cleanup_(json_free_ptr) json_t *image = NULL;
	_cleanup_(free_ptr) char *path = api_path(in, "/images/import");
	path_query(&path, "name", in->args[1]);
	path_query(&path, "comment", o->message);
	path_query(&path, "kind", o->kind);
	path_query(&path, "format", o->format);
	struct progress *p = progress_of_upload(in->client, "importing", fd);
	int r = client_upload(in->client, "POST", path, "application/x-tar", fd, &image, err);
	progress_end(p);
	if (r == 0 && json_get_str(image, "id"))
		puts(json_get_str(image, "id"));
	return r;
}

const struct command command_image_import = {
	.name = "image import",
	.group = "Images",
	.usage = "[OPTION…] FILE|- IMAGE",
	.doc = "Make an image from an archive of a root file system, or from a machine's disk",
	.details = "A tar, which may be compressed; a disk image that stands alone, a CD (ISO 9660), a floppy or a kernel; or an OVA,\n"
		   "whose image then says what machine it is of. - is standard input.",
	.examples = "wabe image import rootfs.tar.gz my/root:1\nwabe image import debian-12.qcow2 debian-vm:12\nwabe image import appliance.ova appliance\n"
		    "wabe image import --format raw disk.img my/disk\nwabe image import --kind iso installer.iso installer",
	.options = options,
	.options_size = sizeof(struct options),
	.min_args = 2,
	.run = run,
};
