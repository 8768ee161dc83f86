/* Images as files: docker archives (docker save), OCI archives, OCI layout directories; and images made
 * from a root file system. Runs in control, unprivileged. */
#pragma once

#include "base/json.h"
#include "image/content.h"
#include "model/image.h"

/* Reads a docker or OCI archive (plain, gzip or zstd) from fd into the content store. *images: what it
 * held, names filled from its tags; free each with fields_free(&image_table, …) and the array. Reads once
 * from front to back, so a pipe will do. Of an index the host's platform is taken. Hold the content store
 * (content_hold) until the images are filed. INVALID, CORRUPT (also: incomplete), TOO_LARGE, UNSUPPORTED,
 * NO_SPACE; no image is visible then, and blobs that came are left to the next collection. */
int archive_load(struct content *c, int fd, struct image **images, size_t *n, struct error *err);
/* A directory in OCI image layout. */
int archive_load_layout(struct content *c, const char *dir, struct image **images, size_t *n, struct error *err);
/* Writes one archive that is both: docker's manifest.json and OCI's index.json over the same blobs, as
 * `docker save` of today does. The same images give the same bytes. fd may be a pipe; SIGPIPE must be
 * ignored. CORRUPT (a blob fails its digest, which is looked at before anything is written): what was written has no end
 * mark. */
int archive_save(struct content *c, const struct image *images, size_t n, int fd, struct error *err);

/* Stores the tar (plain, gzip, zstd) from fd as the single layer of a new image, or on top of base (its
 * layers, its config) as a commit does. The layer is stored compressed with gzip unless it came
 * compressed. config NULL: empty or base's; else what wabe knows of the base's is replaced. A stream without the tar's end
 * mark is CORRUPT: its writer died. fd -1: without a layer of its own, the history says so. */
struct build_options {
	const struct image *base; /* NULL: none */
	/* Built upon base: the new one has its configuration and history, the tar is what its further layers come to. NULL:
	 * the configuration and history of base. */
	const struct image *squashed;
	const struct image_config *config;
	const char *architecture, *variant, *os; /* NULL: base's, or the host's */
	const char *comment, *author, *created_by;
	const json_t *history; /* its entry in the history, instead of one that is made of the above */
	const struct image_layer *layer; /* one that the content store holds already, instead of a tar; fd is -1 */
	const void *head; /* of the tar: bytes that have been read from fd already */
	size_t n_head;
	const char *compression; /* gzip (default) | zstd | none */
	void (*progress)(uint64_t done, void *arg);
	void *arg;
};
int image_from_tar(struct content *c, int fd, const struct build_options *o, struct image *out, struct error *err);

/* Writes the layers from number `from` on, which the content store holds, as one layer's tar. */
int layers_merge(struct content *c, const struct image *image, size_t from, int out, struct error *err);
