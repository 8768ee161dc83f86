/* Pools that are a server's fixed devices: each LUN of an iSCSI target, each namespace of an NVMe subsystem, is one volume at
 * most, claimed by making a volume that it is large enough for, and zeroed when that is removed. Private to iscsi and
 * nvme-tcp.
 *
 * p->dir/claims/ID holds what the device calls itself; ID.new while its file system is made, ID.gone while it is zeroed. A
 * device with something on it that wabe did not put there is never taken. */
#pragma once

#include "driver/storage/disk-priv.h"

struct lun {
	char *device;   /* /dev/… */
	char *identity; /* what it calls itself, the same wherever it appears */
	int64_t size;
};
struct luns {
	struct lun *items;
	size_t n;
};
void luns_add(struct luns *l, const char *block); /* "sda": read from /sys */
void luns_free(struct luns *l);

/* What the driver has to say: the devices of the pool that the host sees. */
int iscsi_luns(const struct storage_pool *p, struct luns *out, struct error *err);
int nvme_luns(const struct storage_pool *p, struct luns *out, struct error *err);
/* One line of a file in /sys without its end; NULL. */
char *luns_read(const char *path);

/* UNAVAILABLE: no portal answers. Asked before a device is used, since what waits for one cannot be told to stop. */
int luns_ask(const struct storage_pool *p, struct error *err);
/* That wabe has logged in, and so logs out: the administrator's own sessions stay. */
bool luns_logged_in(const struct storage_pool *p);
/* CONFLICT: a new pool does not share its devices with whoever has logged in before it, as it cannot tell which are free. */
int luns_nobody_elses(const struct storage_pool *p, struct error *err);
int luns_set_logged_in(const struct storage_pool *p, bool on, struct error *err);
/* Devices come a moment after the session: waits for the first, some seconds at most. */
int luns_wait(const struct storage_pool *p, struct error *err);
/* CONFLICT while there are volumes. */
int luns_release(const struct storage_pool *p, struct error *err);

int luns_status(const struct storage_pool *p, struct pool_status *out, struct error *err);
int luns_volume_create(const struct storage_pool *p, const struct storage_volume *v, struct error *err);
int luns_volume_remove(const struct storage_pool *p, const char *id, bool block, struct error *err);
int luns_volume_resize(const struct storage_pool *p, const struct storage_volume *v, int64_t size, struct error *err);
int luns_volume_usage(const struct storage_pool *p, const char *id, bool block, int64_t *size, int64_t *used,
		      struct error *err);
int luns_volume_list(const struct storage_pool *p, char ***ids, struct error *err);
int luns_volume_open(const struct storage_pool *p, const char *id, bool block, const char *snapshot,
		     struct storage_handle *out, struct error *err);
int luns_volume_close(const struct storage_pool *p, const char *id, bool block, const char *snapshot, struct error *err);
int luns_recover(const struct storage_pool *p, struct error *err);

#define LUNS_OPERATIONS                                                                                           \
	.status = luns_status, .volume_create = luns_volume_create, .volume_remove = luns_volume_remove,             \
	.volume_resize = luns_volume_resize, .volume_usage = luns_volume_usage, .volume_list = luns_volume_list,     \
	.volume_open = luns_volume_open, .volume_close = luns_volume_close, .recover = luns_recover
