/* Images of a Ceph pool by the rbd program and the kernel's client. Private to rbd.
 *
 * An image's name says what it is: wabe-POOL.KIND.ID with KIND fs, block, new (not finished) or gone (to be removed once no clone needs it),
 * so that each step is one renaming. */
#pragma once

#include "driver/storage/disk-priv.h"

#define RBD_CLONING "wabe-clone-" /* snapshots that a clone is made from */

/* The files that say where the cluster is and who we are there, in p->dir, root only. */
int rbd_configure(const struct storage_pool *p, struct error *err);
/* rbd ARGUMENTS…; output may be NULL. `pool/image` and the like are the caller's. */
int rbd_run(const struct storage_pool *p, const char *const *args, struct buf *output, struct error *err);
#define RBD(p, err, ...) rbd_run(p, (const char *const[]){__VA_ARGS__, NULL}, NULL, err)

char *rbd_name(const struct storage_pool *p, const char *kind, const char *id);  /* wabe-POOL.KIND.ID */
char *rbd_image(const struct storage_pool *p, const char *kind, const char *id); /* the same behind "pool/" */
/* The names of this wabe pool's images. */
int rbd_list(const struct storage_pool *p, char ***names, struct error *err);
/* "KIND" and "ID" of such a name; false: it is none. */
bool rbd_split(const struct storage_pool *p, const char *name, char **kind, char **id);
int rbd_size(const struct storage_pool *p, const char *image, int64_t *size, struct error *err);
int rbd_rename(const struct storage_pool *p, const char *from, const char *to, struct error *err);

/* The device of an image or its snapshot (NULL: the image): mapped at need; the path in *device. */
int rbd_map(const struct storage_pool *p, const char *name, const char *snapshot, char **device, struct error *err);
/* Unmaps it if it is mapped. snapshot "*": it and all its snapshots. */
int rbd_unmap(const struct storage_pool *p, const char *name, const char *snapshot, struct error *err);
