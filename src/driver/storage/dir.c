/* The driver dir: a directory on whatever file system. File-system volumes are directories; with a size, where a
 * directory has no quota, ext4 in a sparse file. Block volumes are raw files. Snapshots and clones share extents on xfs and
 * btrfs; elsewhere snapshots are full copies, and linked clones are refused. */
#include "driver/storage/files-priv.h"

static int dir_probe(struct error *err) {
	(void)err;
	return 0;
}

static int dir_create(const struct storage_pool *p, struct error *err) {
	_cleanup_(free_ptr) char *root = files_root(p);
	if (root[0] != '/')
		return error_field(err, "source", "must be an absolute path, not %s", root);
	int r = fs_mkdir_p(root, 0700);
	return r < 0 ? error_errno(err, r, "cannot make %s", root) : files_claim(p, err);
}

static int dir_deactivate(const struct storage_pool *p, struct error *err) {
	(void)p, (void)err;
	return 0;
}

const struct storage_driver storage_dir = {
	.name = "dir",
	.can = {.filesystems = true, .blocks = true, .snapshots = true, .instant_snapshots = true, .linked_clones = true,
		.restore_older = true,
		.quotas = true, .grow_online = true, .persistent = true, .full_safe = true},
	.probe = dir_probe,
	.create = dir_create,
	.activate = files_check,
	.deactivate = dir_deactivate,
	.remove = files_release,
	.status = files_status,
	FILES_OPERATIONS,
};
