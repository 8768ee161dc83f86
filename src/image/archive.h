/* Images as files: docker archives (docker save), OCI archives, OCI layout directories; and images made
 * from a root file system. Runs in control, unprivileged. */
#pragma once

#include "image/content.h"
#include "model/image.h"

/* Reads a docker or OCI archive (plain, gzip or zstd) from fd into the content store. *images: what it
 * held, names filled from its tags; free each with fields_free(&image_table, …) and the array. */
int archive_load(struct content *c, int fd, struct image **images, size_t *n, struct error *err);
/* A directory in OCI image layout. */
int archive_load_layout(struct content *c, const char *dir, struct image **images, size_t *n, struct error *err);
/* Writes one archive that is both: docker's manifest.json and OCI's index.json over the same blobs, as
 * `docker save` of today does. */
int archive_save(struct content *c, const struct image *images, size_t n, int fd, struct error *err);

/* Stores the tar (plain, gzip, zstd) from fd as the single layer of a new image, or on top of base (its
 * layers, its config) as a commit does. The layer is stored compressed with gzip unless it came
 * compressed. config NULL: empty or base's. */
struct build_options {
	const struct image *base; /* NULL: none */
	const struct image_config *config;
	const char *architecture, *comment, *author, *created_by;
	const char *compression; /* gzip (default) | zstd | none */
	void (*progress)(uint64_t done, void *arg);
	void *arg;
};
int image_from_tar(struct content *c, int fd, const struct build_options *o, struct image *out, struct error *err);
