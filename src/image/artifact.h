/* Images of machines: disks, media (iso, floppy) and kernels. In the content store, in archives and in registries each is an OCI
 * artifact: a manifest over a config, which is an image's with the members virtual_size and machine more, and over blobs as
 * they came, not compressed. Everything else is as of any image. */
#pragma once

#include "image/content.h"
#include "model/image.h"

#define TYPE_ARTIFACT_CONFIG "application/vnd.wabe.image.config.v1+json"

/* A kind of blob. A disk image has its disks in order, the one that is booted from first; an iso and a floppy one blob; a kernel image a
 * kernel, and perhaps an initrd. */
struct blob_type {
	const char *media_type;
	const char *kind;   /* of the image */
	const char *format; /* of the blob: qcow2 … of disks, iso, floppy, kernel, initrd */
};
const struct blob_type *blob_type_find(const char *media_type); /* NULL: a layer of files, or not known */
const struct blob_type *blob_type_of(const char *format);	/* NULL: not known */
/* Of an image that is not one of files: INVALID when its blobs are not those of one kind. *kind is static. */
int blobs_check(const struct image *image, const char **kind, struct error *err);

struct artifact_blob {
	char *digest;
	int64_t size;
	const struct blob_type *type;
};
struct artifact {
	const struct artifact_blob *blobs; /* that the content store holds */
	size_t n;
	int64_t virtual_size;
	const char *comment, *created_by;
	const struct machine_hardware *machine; /* NULL: not told */
};
/* Under a hold of the content store. */
int image_from_blobs(struct content *c, const struct artifact *a, struct image *out, struct error *err);
