/* The verbs of pools, volumes and snapshots. `name` is a name, an id, or a prefix of at least 4 digits of an id, as with
 * instances. Pools belong to the host, volumes to projects. */
#pragma once

#include "core/core.h"
#include "core/instances.h"
#include "core/nouns.h"
#include "model/storage.h"

/* ---- pools: struct pool ---- */
/* Takes what spec holds, also on failure. CONFLICT where the source holds something else; nothing stays then. */
int pool_create(struct core *c, struct pool_spec *spec, struct noun **out, struct error *err);
/* With its state and usage as they are now. */
int pool_find(struct core *c, const char *name, struct noun **out, struct error *err);
int pool_list(struct core *c, char *const *labels, char **json, size_t *len, struct error *err);
int pool_update(struct core *c, const char *name, const json_t *patch, struct noun **out, struct error *err);
/* CONFLICT while volumes or instances live in it, naming one; also for "local". */
int pool_delete(struct core *c, const char *name, struct error *err);

/* ---- volumes: struct volume ---- */
int volume_create(struct core *c, const char *project, struct volume_spec *spec, struct noun **out, struct error *err);
/* As it is known here. */
int volume_find(struct core *c, const char *project, const char *name, struct noun **out, struct error *err);
/* With what it takes now. */
int volume_get(struct core *c, const char *project, const char *name, struct noun **out, struct error *err);
int volume_list(struct core *c, const char *project, char *const *labels, char **json, size_t *len, struct error *err);
/* All as snapshots, in order of creation, NULL-terminated; see nouns_unref. */
int volume_snaps(struct core *c, const char *project, struct noun ***out, struct error *err);
/* A new name, labels, description, schedule; a new size grows it (or shrinks it where the pool can). */
int volume_update(struct core *c, const char *project, const char *name, const json_t *patch, struct noun **out,
		  struct error *err);
/* CONFLICT while an instance mounts it, naming it. */
int volume_delete(struct core *c, const char *project, const char *name, struct error *err);
/* Those that no instance mounts; names, to be freed. */
int volume_prune(struct core *c, const char *project, char ***deleted, struct error *err);

struct volume_copy_options {
	const char *name;     /* of the new one; NULL: the volume moves, keeping name and id */
	const char *pool;     /* NULL: the same */
	const char *snapshot; /* not for a move; NULL: as it is now */
	bool linked;          /* sharing what is common; not for a move */
	bool memory;          /* of a machine: goes on with its memory, and runs; not for volumes */
};
/* A task (JSON, to be freed). A move takes the snapshots along; UNSUPPORTED where there are some and the other pool has
 * none. */
int volume_duplicate(struct core *c, const char *project, const char *name, const struct volume_copy_options *o, char **task,
		struct error *err);
/* *fd: a stream of format tar, raw or qcow2. */
int volume_export(struct core *c, const char *project, const char *name, const char *snapshot, const char *format,
		  int *fd, struct error *err);
int volume_import(struct core *c, const char *project, struct volume_spec *spec, const char *format, int fd,
		  struct noun **out, struct error *err);
/* The same for an operation of control's own: without a name it gets one, and should the operation be cut off the volume goes at
 * control's next start. */
int volume_import_passing(struct core *c, const char *project, struct volume_spec *spec, const char *format, int fd,
			  struct noun **out, struct error *err);

/* The root of a machine that runs, into another pool, while it goes on: a task. CONFLICT: it does not run. */
int instance_move(struct core *c, const char *project, const char *name, const char *pool, char **task, struct error *err);

/* Of an instance that is gone: the volumes that were made for its mounts, as far as nobody else has them. */
void volumes_drop_anonymous(struct core *c, const struct instance *i);

/* A mount of type volume for an instance, at once if it runs. */
int volume_attach(struct core *c, const char *project, const char *instance, const struct mount *m,
		  struct instance_snap **out, struct error *err);
int volume_detach(struct core *c, const char *project, const char *instance, const char *target,
		  struct instance_snap **out, struct error *err);

/* ---- snapshots of a volume, or of an instance's root ---- */
struct snapshot_owner {
	const char *project, *name;
	bool instance;
};
/* {"current":NAME,"snapshots":[snapshot…]}, the oldest first; free it. */
int snapshot_list(struct core *c, const struct snapshot_owner *of, char **json, struct error *err);
/* s->name NULL: made of the time. The snapshot as JSON, to be freed. EXISTS for a name that is taken. */
int snapshot_create(struct core *c, const struct snapshot_owner *of, const struct snapshot *s, char **json,
		    struct error *err);
int snapshot_update(struct core *c, const struct snapshot_owner *of, const char *snapshot, const char *description,
		    char **json, struct error *err);
int snapshot_delete(struct core *c, const struct snapshot_owner *of, const char *snapshot, struct error *err);
/* CONFLICT while it is in use: a volume by a running instance, an instance that runs. A machine whose snapshot has its memory runs
 * afterwards. */
int snapshot_restore(struct core *c, const struct snapshot_owner *of, const char *snapshot, struct error *err);
/* A new instance of the same spec whose root begins as that of another one, or of a snapshot of it (NULL: as it is now).
 * Static addresses, MACs and host ports are not taken along. A full copy takes long: a task, whose result is the id. */
int instance_clone(struct core *c, const char *project, const char *instance, const struct volume_copy_options *o, char **task,
		   struct error *err);
