/* Logical volumes by the lvm program; only those that carry this pool's tag are ever touched. Private to lvm-thin.
 *
 * Names of logical volumes are made up; what each is, its tags say: wabe-pool-ID, wabe-volume-ID, wabe-snapshot-NAME, wabe-block,
 * wabe-unfinished (to be removed), wabe-restored (takes the place of the volume's other one). */
#pragma once

#include "driver/storage/disk-priv.h"

struct lv {
	char *name;   /* in the volume group */
	char *volume, *snapshot; /* snapshot NULL: the volume itself */
	bool block, unfinished, restored;
	int64_t size, created_at;
	double percent; /* of size, that is in use */
};
struct lvs {
	struct lv *items;
	size_t n;
};

/* VG and THINPOOL of the pool's source. */
int lvm_source(const struct storage_pool *p, char **vg, char **thin, struct error *err);
struct lvm_pool {
	int64_t size;
	double percent, metadata_percent; /* in use */
};
/* INVALID where the source is no thin pool. */
int lvm_thin_pool(const struct storage_pool *p, struct lvm_pool *out, struct error *err);
int lvm_list(const struct storage_pool *p, struct lvs *out, struct error *err);
void lvm_list_free(struct lvs *l);
/* The volume, or its snapshot; NULL. */
const struct lv *lvm_find(const struct lvs *l, const char *id, const char *snapshot);

struct lvm_new {
	const char *volume, *snapshot;
	bool block, unfinished, restored;
	int64_t size;       /* a new, empty one */
	const char *origin; /* or one that shares what this one holds */
};
/* Gives its name. NO_SPACE, as of lvm_grow, from 95 % of the thin pool on. */
int lvm_create(const struct storage_pool *p, const struct lvm_new *n, char **name, struct error *err);
int lvm_remove(const struct storage_pool *p, const char *name, struct error *err);
int lvm_untag(const struct storage_pool *p, const char *name, const char *tag, struct error *err);
int lvm_grow(const struct storage_pool *p, const char *name, int64_t size, struct error *err);
int lvm_activate(const struct storage_pool *p, const char *name, bool on, struct error *err);
char *lvm_device(const struct storage_pool *p, const char *name);
