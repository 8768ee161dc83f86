/* The verbs of images. */
#pragma once

#include "base/buf.h"
#include "core/core.h"
#include "model/image.h"

/* One state of an image, never changed; shared by count. */
struct image_snap {
	int refs;
	struct image image;
	char *json;
	size_t json_len;
};
struct image_snap *image_snap_ref(struct image_snap *s);
void image_snap_unref(struct image_snap *s);
DEFINE_CLEANUP(image_snap_unref_ptr, struct image_snap *, image_snap_unref);

struct image_pull_options {
	const char *name, *platform, *username, *password;
	bool plain_http, insecure_tls;
	bool all_tags; /* every tag of the repository: those that the registry has, or of a push those that are here */
	bool followed; /* as TASK_FOLLOWED: task_follow_steps follows */
};

/* name: a reference, an id ("sha256:…" or its digits) or a prefix of at least 4 digits of it. */
int image_get(struct core *c, const char *project, const char *name, struct image_snap **out, struct error *err);
/* That of an instance, also when it has been removed by force since then; NULL: the instance has none. */
struct instance;
struct image_snap *instance_image(struct core *c, const struct instance *i);
/* {"revision":N,"images":[…]}; name: a reference or its repository part; free the text. */
int image_list(struct core *c, const char *project, const char *name, bool dangling_only, char **json, size_t *len,
	       struct error *err);
/* Long ones give the task as JSON, to be freed. A second pull of what is being pulled gives the same task.
 *
 * Steps of the task's parts. An image, by its name: "found" (in the registry; then its layers are known), "digest …" (of
 * the manifest, or index), "new" or "unchanged" (pulled; the last), "pushing", "pushed …" (digest and bytes of the manifest).
 * A layer, by the digest of its blob, or of a push by its diff_id: "present", "queued", "waiting", "downloading", "retrying",
 * "verifying", "downloaded", "unpacking", "done"; "uploading", "done". */
int image_pull(struct core *c, const char *project, const struct image_pull_options *o, char **task, struct error *err);
int image_push(struct core *c, const char *project, const char *image, const struct image_pull_options *o, char **task,
	       struct error *err);
int image_bootstrap(struct core *c, const char *project, const char *name, const char *variant, char *const *include,
		    char **task, struct error *err);
/* Reads an archive from fd; images: NULL-terminated, each to be unreferenced, and the array freed. loaded (NULL: not wanted):
 * the names in the archive, and the ids of images that have none there. */
int image_load(struct core *c, const char *project, int fd, struct image_snap ***images, char ***loaded, struct error *err);
/* Writes an archive of the named images to fd. */
int image_save(struct core *c, const char *project, char *const *names, int fd, struct error *err);
/* One image, as it would be with these names and no others. */
int image_save_as(struct core *c, const char *project, const char *image, char *const *names, int fd, struct error *err);
/* What comes from fd becomes an image: a tar of a root file system, or a disk, medium or kernel of a machine. */
struct image_import_options {
	const char *name;   /* NULL: none */
	const char *kind;   /* oci | disk | iso | kernel; NULL: by its first bytes */
	const char *format; /* of a disk: qcow2 raw vmdk vdi vpc vhdx, or ova; NULL: by its first bytes */
	const char *comment;
	const struct image_config *config; /* of a root file system; NULL: empty */
	const char *os, *architecture, *variant; /* of a root file system; NULL: the host's */
};
int image_import(struct core *c, const char *project, const struct image_import_options *o, int fd, struct image_snap **out,
		 struct error *err);
/* *fd: a stream with its disk in that format (qcow2 raw vmdk vdi vpc vhdx), or what it holds as it is: format NULL. */
int image_export(struct core *c, const char *project, const char *name, const char *format, int *fd, struct error *err);
/* Writes an OVA of a disk image, with what it says of its machine, to fd. */
int image_export_ova(struct core *c, const char *project, const char *name, int to, struct error *err);
int image_tag(struct core *c, const char *project, const char *image, const char *name, struct image_snap **out,
	      struct error *err);
/* Tells followers of events that a build has given an image; image_tag tells of its names. */
void image_built(struct core *c, const char *project, const char *id);
/* The configuration blob as it came, JSON. */
int image_config_text(struct core *c, const struct image *image, struct buf *out, struct error *err);
/* ---- building ---- */
/* A new image without a name on top of another one, whose id becomes its parent. */
struct image_step {
	const char *base;		   /* name or id; NULL: nothing is below */
	const struct image_config *config; /* as it shall be; NULL: the base's */
	const char *created_by, *comment, *author; /* of its entry in the history */
	const char *os, *architecture, *variant;   /* of one without a base; NULL: the host's */
	const json_t *history;			   /* its entry in the history as it is; NULL: one is made */
};
/* As the base but for the config. */
int image_step_config(struct core *c, const char *project, const struct image_step *s, struct image_snap **out,
		      struct error *err);
/* The same step as another image has it: with the layer of that number of its own; layer < 0: none. */
int image_step_borrowed(struct core *c, const char *project, const struct image_step *s, const char *from, ssize_t layer,
			struct image_snap **out, struct error *err);
/* With a layer more: the tar from fd (owners as in it), unpacked into the directory path, which is made where it is
 * missing, for the given owner. */
struct image_place {
	const char *path;
	uint32_t uid, gid;
};
int image_step_files(struct core *c, const char *project, const struct image_step *s, const struct image_place *to, int fd,
		     struct image_snap **out, struct error *err);
/* With what an instance of the base, which does not run any more, has changed. That may be taken from it: it is to be
 * deleted, not to be started again. */
int image_step_instance(struct core *c, const char *project, const struct image_step *s, const char *instance,
			struct image_snap **out, struct error *err);
/* The layers that an image has more than `base` (NULL: all) as one; the rest as in the image. It must have been built upon
 * base. */
int image_squash(struct core *c, const char *project, const char *image, const char *base, struct image_snap **out,
		 struct error *err);
/* *fd: a stream with a tar of what path (links followed) leads to in the image's tree, named by the path's last part; *out:
 * what it is, with its table. NOT_FOUND. image NULL: the empty tree. */
struct msg_file;
int image_tree(struct core *c, const char *project, const char *image, const char *path, struct msg_file *out, int *fd,
	       struct error *err);
/* Only what is there. */
int image_tree_stat(struct core *c, const char *project, const char *image, const char *path, struct msg_file *out,
		    struct error *err);
/* Calls fn for each image that has this parent. */
void image_children(struct core *c, const char *parent, void (*fn)(struct image_snap *child, void *arg), void *arg);

/* All of them, in the order in which they came. */
int image_snaps(struct core *c, const char *project, struct image_snap ***out, struct error *err);
void image_snaps_free(struct image_snap **list);
DEFINE_CLEANUP(image_snaps_free_ptr, struct image_snap **, image_snaps_free);

/* ---- what registries are asked; name and platform of o are not looked at but where it says so ---- */
/* UNAUTHORIZED when it does not take the credentials. */
int image_registry_login(struct core *c, const char *registry, const struct image_pull_options *o, struct error *err);
/* An array as Docker's search has it: name, description, star_count, is_official. */
int image_registry_search(struct core *c, const char *registry, const char *term, int limit, const struct image_pull_options *o,
			  json_t **results, struct error *err);
/* What o->name leads to: {"media_type","digest","size","platforms":[{"architecture","os","variant"}]}. */
int image_registry_describe(struct core *c, const struct image_pull_options *o, json_t **description, struct error *err);

/* ---- removing ---- */
enum image_conflict {
	IMAGE_NO_CONFLICT,
	IMAGE_NAME_IN_USE,  /* its last name, and an instance has it */
	IMAGE_HAS_CHILDREN, /* is the parent of others; force does not help */
	IMAGE_RUNS,         /* an instance that is up has it; force takes its names alone */
	IMAGE_HAS_NAMES,    /* in several repositories */
	IMAGE_IN_USE,       /* an instance that is not up has it */
};
struct image_removal {
	char **untagged, **digests, **deleted; /* names, repository@digest, ids of images: what has gone */
	enum image_conflict conflict; /* why CONFLICT, and the ids of what it is about */
	char *image, *instance;
};
void image_removal_free(struct image_removal *m);
enum image_remove_flags {
	IMAGE_FORCE = 1 << 0,
	IMAGE_KEEP_PARENTS = 1 << 1,
	IMAGE_DIGESTS_HOLD = 1 << 2, /* without a name, an image stays while a repository knows it by a digest */
};
/* Removes a name, and the image with its last one, and parents that only it held. An id removes all names of one
 * repository; CONFLICT where there are several, or instances have it: force removes it all the same, and what instances that are
 * not up need of it goes with the last of those; one that is up has it stay without a name. *out is filled also on CONFLICT. */
int image_remove(struct core *c, const char *project, const char *name, unsigned flags, struct image_removal *out,
		 struct error *err);
int image_delete(struct core *c, const char *project, const char *name, bool force, char ***untagged, char ***deleted,
		 struct error *err);
struct image_prune_options {
	bool all;      /* also those that have a name */
	int64_t until; /* not those created later; 0: no limit */
	bool (*fits)(const struct image *image, void *arg); /* NULL: all; holds up all other verbs */
	void *arg;
};
/* Removes images without a tag (all: without an instance) and everything in the stores that no image needs. */
int image_prune_fitting(struct core *c, const char *project, const struct image_prune_options *o, struct image_removal *out,
			uint64_t *freed, struct error *err);
int image_prune(struct core *c, const char *project, bool all, char ***deleted, uint64_t *freed, struct error *err);
