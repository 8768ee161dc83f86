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
/* Holds a volume against other verbs, and gives it as it is then. */
int volume_take_hold(struct core *c, const char *project, const char *name, struct held *h, struct noun **out,
		struct error *err);

/* snapshots.c. The names, the oldest first: free them. Needs the lock. */
char **snapshots_names(struct core *c, const char *owner_id);
void snapshots_forget(struct core *c, const char *owner_id);
