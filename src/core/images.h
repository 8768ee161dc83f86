/* The verbs of images. */
#pragma once

#include "core/core.h"
#include "model/image.h"

/* One state of an image, never changed; shared by count. */
struct image_snap {
	int refs;
	struct image image;
	char *json;
	size_t json_len;
};
void image_snap_unref(struct image_snap *s);
DEFINE_CLEANUP(image_snap_unref_ptr, struct image_snap *, image_snap_unref);

struct image_pull_options {
	const char *name, *platform, *username, *password;
	bool plain_http, insecure_tls;
};

/* name: a reference, an id ("sha256:…" or its digits) or a prefix of at least 4 digits of it. */
int image_get(struct core *c, const char *project, const char *name, struct image_snap **out, struct error *err);
/* {"revision":N,"images":[…]}; name: a reference or its repository part; free the text. */
int image_list(struct core *c, const char *project, const char *name, bool dangling_only, char **json, size_t *len,
	       struct error *err);
/* Long ones give the task as JSON, to be freed. A second pull of what is being pulled gives the same task. */
int image_pull(struct core *c, const char *project, const struct image_pull_options *o, char **task, struct error *err);
int image_push(struct core *c, const char *project, const char *image, const struct image_pull_options *o, char **task,
	       struct error *err);
int image_bootstrap(struct core *c, const char *project, const char *name, const char *variant, char *const *include,
		    char **task, struct error *err);
/* Reads an archive from fd; images: NULL-terminated, each to be unreferenced, and the array freed. */
int image_load(struct core *c, const char *project, int fd, struct image_snap ***images, struct error *err);
/* Writes an archive of the named images to fd. */
int image_save(struct core *c, const char *project, char *const *names, int fd, struct error *err);
/* A root file system from fd becomes an image. */
int image_import(struct core *c, const char *project, const char *name, int fd, const struct image_config *config,
		 const char *comment, struct image_snap **out, struct error *err);
int image_tag(struct core *c, const char *project, const char *image, const char *name, struct image_snap **out,
	      struct error *err);
/* Removes a name, and the image with its last one. CONFLICT where instances use it or, for an id, where it
 * has several names: force removes the names all the same; an image in use then stays without a name. */
int image_delete(struct core *c, const char *project, const char *name, bool force, char ***untagged, char ***deleted,
		 struct error *err);
/* Removes images without a name (all: without an instance) and everything in the stores that no image needs. */
int image_prune(struct core *c, const char *project, bool all, char ***deleted, uint64_t *freed, struct error *err);
