/* The driver tmpfs: volumes in memory, gone with the host's running. As the driver dir, on a tmpfs of the pool's own. */
#include "driver/storage/files-priv.h"

#include <stdio.h>

static int tmpfs_probe(struct error *err) {
	(void)err;
	return 0;
}

/* Also what create does: after the host's start nothing is there. */
static int tmpfs_activate(const struct storage_pool *p, struct error *err) {
	_cleanup_(free_ptr) char *root = files_root(p), *size = str_format("%jd", (intmax_t)p->pool->spec.size);
	struct pair items[POOL_OPTIONS_MAX];
	struct pairs options = storage_mount_options(p, items);
	items[options.n++] = (struct pair){"mode", "0700"};
	if (p->pool->spec.size)
		items[options.n++] = (struct pair){"size", size};
	int r = storage_mount("tmpfs", "wabe", &options, 0, root, err);
	return r < 0 ? r : files_claim(p, err);
}

static int tmpfs_deactivate(const struct storage_pool *p, struct error *err) {
	_cleanup_(free_ptr) char *root = files_root(p);
	return storage_unmount(root, err);
}

static int tmpfs_remove(const struct storage_pool *p, struct error *err) {
	_cleanup_(free_ptr) char *root = files_root(p);
	int r = storage_is_mounted(root) ? files_release(p, err) : 0;
	return r < 0 ? r : storage_unmount(root, err);
}

const struct storage_driver storage_tmpfs = {
	.name = "tmpfs",
	.can = {.filesystems = true, .blocks = true, .snapshots = true, .restore_older = true, .quotas = true, .grow_online = true,
		.full_safe = true},
	.probe = tmpfs_probe,
	.create = tmpfs_activate,
	.activate = tmpfs_activate,
	.deactivate = tmpfs_deactivate,
	.remove = tmpfs_remove,
	.status = files_status,
	FILES_OPERATIONS,
};
