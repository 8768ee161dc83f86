/* Pools whose volumes are block devices: lvm-thin, rbd, iscsi, nvme-tcp. A file-system volume is a device with ext4 on
 * it, mounted at storage_mount_point while it is open. Private to them. */
#pragma once

#include "driver/storage/storage-priv.h"

/* A device that is there, to be used: as it is, or mounted. */
int disk_open(const struct storage_pool *p, const char *device, const char *id, bool block, const char *snapshot,
	      struct storage_handle *out, struct error *err);
int disk_close(const struct storage_pool *p, const char *id, const char *snapshot, struct error *err);
/* The bytes for a volume: a file system's default where it has no size. */
int disk_size(const struct storage_pool *p, const struct storage_volume *v, int64_t *size, struct error *err);
/* Whether a volume of `now` bytes may get `size`; CONFLICT, UNSUPPORTED. */
int disk_can_grow(const struct storage_pool *p, const char *id, bool block, int64_t now, int64_t size, struct error *err);
/* The device has grown: so does the file system, at once where it is mounted. */
int disk_grown(const struct storage_pool *p, const char *id, bool block, int64_t size, struct error *err);
/* A size of 0 that is asked for; it stays as it is. */
int disk_no_size(struct error *err);
