/* What pools of block devices have in common. */
#include "driver/storage/disk-priv.h"

int disk_open(const struct storage_pool *p, const char *device, const char *id, bool block, const char *snapshot,
	      struct storage_handle *out, struct error *err) {
	*out = (struct storage_handle){0};
	if (block) {
		out->path = str_copy(device);
		return 0;
	}
	_cleanup_(free_ptr) char *mount = storage_mount_point(p, id, snapshot);
	struct pair items[POOL_OPTIONS_MAX];
	struct pairs options = storage_mount_options(p, items);
	int r = storage_ext4_mount(device, &options, snapshot != NULL, mount, err);
	if (r < 0)
		return r;
	*out = (struct storage_handle){TAKE_PTR(mount), true};
	return 0;
}

int disk_close(const struct storage_pool *p, const char *id, const char *snapshot, struct error *err) {
	_cleanup_(free_ptr) char *mount = storage_mount_point(p, id, snapshot);
	return storage_unmount(mount, err);
}

int disk_size(const struct storage_pool *p, const struct storage_volume *v, int64_t *size, struct error *err) {
	*size = v->size ? v->size : storage_default_size(p);
	return v->block ? 0 : storage_ext4_size_check(*size, err);
}

int disk_no_size(struct error *err) {
	return error_field(err, "size", "is needed: volumes of this pool lie on devices of a fixed size");
}

int disk_can_grow(const struct storage_pool *p, const char *id, bool block, int64_t now, int64_t size, struct error *err) {
	_cleanup_(free_ptr) char *mount = storage_mount_point(p, id, NULL);
	if (size == 0)
		return disk_no_size(err);
	if (size < now)
		return error_set(err, ERROR_CONFLICT, "the volume has %jd bytes and cannot become smaller; copy what it holds "
				 "to a new one", (intmax_t)now);
	if (!block && storage_is_mounted(mount) && !storage_ext4_grows_online())
		return error_set(err, ERROR_UNSUPPORTED, "this host's root may not grow a file system that is in use "
				 "(no CAP_SYS_RESOURCE); stop what uses the volume first");
	return 0;
}

int disk_grown(const struct storage_pool *p, const char *id, bool block, int64_t size, struct error *err) {
	_cleanup_(free_ptr) char *mount = storage_mount_point(p, id, NULL);
	if (block || !storage_is_mounted(mount))
		return 0; /* a file system grows when it is mounted next */
	return storage_ext4_grow(mount, size, err);
}
