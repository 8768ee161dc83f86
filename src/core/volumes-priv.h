/* What the files of storage share within core. */
#pragma once

#include "core/core-priv.h"
#include "core/volumes.h"

/* Label of a volume that nobody has named. */
#define ANONYMOUS_VOLUME "wabe.anonymous"

/* NOT_FOUND with field "pool"; free *id. */
int pool_id_of(struct core *c, const char *name, char **id, struct error *err);
/* Of an instance that goes: the further disks of its image, which are nobody else's. */
void volumes_drop_disks(struct core *c, const struct instance *i);
/* The name of an instance that mounts it (running: that runs), or NULL. Needs the lock. */
const char *volume_user(struct core *c, const char *id, bool running);
struct migration_disk;
/* The same, of another instance than that. */
const char *volume_other_user(struct core *c, const char *id, const char *but);
/* A disk of a machine that comes, empty so far, with the id that it has where it comes from; transient. EXISTS: it is here. */
int volume_create_arriving(struct core *c, const char *project, const struct migration_disk *d, struct error *err);
/* The block volumes of a machine that leaves become transient, and those that are go: whichever crash lets them lie, control's next start
 * removes them, when nobody mounts them any more. */
int volumes_pass(struct core *c, const struct instance *i, struct error *err);
void volumes_drop_passing(struct core *c, const struct instance *i);
/* Holds a volume against other verbs, and gives it as it is then. */
int volume_take_hold(struct core *c, const char *project, const char *name, struct held *h, struct noun **out,
		struct error *err);

/* A copy of a disk that nobody runs with, without a name that anybody knows; should the operation be cut off it goes at control's next
 * start. CONFLICT: somebody runs with it. */
int disk_copy_passing(struct core *c, struct task_run *t, const char *project, const char *name, bool linked, struct noun **out,
		      struct error *err);

/* disk-moves.c: a disk of a machine that runs, from one pool into another. A volume, held: */
int disk_move_volume(struct core *c, struct task_run *t, const struct volume *v, const struct instance_snap *user, const char *pool,
		     struct error *err);
/* Who runs with it, or NULL; unref it. Needs the lock. */
struct instance_snap *volume_runner(struct core *c, const char *id);
/* What the agent has in that pool, though the store says it is in another one, which has it no more: the store follows. */
bool disk_move_adopt(struct core *c, const struct pool *p, const char *id);
/* mounts-live.c: the instances that name a volume learn in which pool it is now. */
void volume_users_refresh(struct core *c, const char *id);
/* instance-change.c: the root is in that pool now. */
int instance_set_pool(struct core *c, const char *project, const char *id, const char *pool, const char *pool_id, struct error *err);

/* snapshots.c. The names, the oldest first: free them. Needs the lock. */
char **snapshots_names(struct core *c, const char *owner_id);
void snapshots_forget(struct core *c, const char *owner_id);
