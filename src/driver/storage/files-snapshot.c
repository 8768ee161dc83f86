/* Snapshots and clones in pools of files. */
#include "base/time.h"
#include "driver/storage/files-priv.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

/* The volume's content, at rest where it is a mounted file system of its own. */
static int copy_at_rest(const struct storage_pool *p, const char *id, enum content_kind kind, const char *from,
			const char *to, bool linked, bool read_only, struct error *err) {
	_cleanup_(free_ptr) char *mount = storage_mount_point(p, id, NULL);
	_cleanup_(storage_thaw) struct storage_frozen frozen = STORAGE_FROZEN_INIT;
	int r = kind == CONTENT_IMAGE && storage_is_mounted(mount) ? storage_freeze(mount, &frozen, err) : 0;
	storage_fault("storage-frozen");
	return r < 0 ? r : files_content_copy(kind, from, to, read_only, linked, err);
}

int files_snapshot_create(const struct storage_pool *p, const char *id, bool block, const char *name, struct error *err) {
	_cleanup_(free_ptr) char *path = NULL, *to = files_snapshot(p, id, name), *temporary = NULL;
	enum content_kind kind;
	int r = files_check(p, err);
	if (r == 0)
		r = files_find(p, id, block, &kind, &path, err);
	if (r < 0 || fs_exists(to))
		return r;
	if (files_content_is_subvolume(kind)) /* in one step, and nowhere else: read-only ones cannot be moved */
		return btrfs_snapshot(path, to, true, err);
	r = files_temporary(p, &temporary, err);
	if (r < 0)
		return r;
	_cleanup_(free_ptr) char *made = str_format("%s/snapshot", temporary);
	r = copy_at_rest(p, id, kind, path, made, false, true, err);
	storage_fault("storage-snapshot-made");
	if (r == 0)
		r = files_rename(made, to, err);
	storage_fault("storage-snapshot-renamed");
	int gone = files_discard(temporary, r < 0 ? NULL : err);
	return r < 0 ? r : gone;
}

int files_snapshot_remove(const struct storage_pool *p, const char *id, bool block, const char *name, struct error *err) {
	_cleanup_(free_ptr) char *path = files_snapshot(p, id, name), *mount = storage_mount_point(p, id, name);
	_cleanup_(free_ptr) char *temporary = NULL;
	(void)block;
	int r = files_check(p, err);
	if (r == 0)
		r = storage_unmount(mount, err);
	if (r < 0 || !fs_exists(path))
		return r;
	if (btrfs_is_subvolume(path))
		return btrfs_destroy(path, err);
	r = files_trash(p, &temporary, err);
	if (r < 0)
		return r;
	r = files_rename(path, temporary, err);
	storage_fault("storage-snapshot-removed");
	return r < 0 ? r : files_discard(temporary, err);
}

/* The new content takes the old one's place in one step; the old one is left at `made`, or gone. */
static int put_in_place(enum content_kind kind, const char *made, const char *path, struct error *err) {
	bool whole = kind == CONTENT_TREE || files_content_is_subvolume(kind); /* which rename does not replace */
	if (renameat2(AT_FDCWD, made, AT_FDCWD, path, whole ? RENAME_EXCHANGE : 0) < 0)
		return error_errno(err, errno, "cannot put %s in place", path);
	_cleanup_(free_ptr) char *dir = str_copyn(path, (size_t)(strrchr(path, '/') - path));
	return files_sync_dir(dir, err);
}

int files_snapshot_restore(const struct storage_pool *p, const char *id, bool block, const char *name, struct error *err) {
	_cleanup_(free_ptr) char *path = NULL, *from = files_snapshot(p, id, name), *mount = storage_mount_point(p, id, NULL);
	_cleanup_(free_ptr) char *temporary = NULL;
	enum content_kind kind;
	int r = files_check(p, err);
	if (r == 0)
		r = files_find(p, id, block, &kind, &path, err);
	if (r < 0)
		return r;
	if (!fs_exists(from))
		return error_set(err, ERROR_NOT_FOUND, "the volume %s has no snapshot %s", id, name);
	r = storage_unmount(mount, err);
	if (r == 0)
		r = files_temporary(p, &temporary, err);
	if (r < 0)
		return r;
	_cleanup_(free_ptr) char *made = str_format("%s/content", temporary);
	r = files_content_copy(kind, from, made, false, false, err);
	int64_t size = files_size(p, id);
	if (r == 0 && kind == CONTENT_SUBVOLUME && size)
		r = btrfs_limit(made, size, err);
	storage_fault("storage-restore-made");
	if (r == 0)
		r = put_in_place(kind, made, path, err);
	storage_fault("storage-restored");
	int gone = files_discard(temporary, r < 0 ? NULL : err);
	return r < 0 ? r : gone;
}

/* When it was made: of the entry itself, whose content may be older. */
static int64_t made_at(const char *path) {
	struct statx st;
	if (statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_BTIME | STATX_CTIME, &st) < 0)
		return 0;
	const struct statx_timestamp *t = st.stx_mask & STATX_BTIME ? &st.stx_btime : &st.stx_ctime;
	return t->tv_sec * NS_PER_SEC + t->tv_nsec;
}

int files_snapshot_list(const struct storage_pool *p, const char *id, bool block, snapshots *out, struct error *err) {
	_cleanup_(free_ptr) char *path = NULL, *volume = files_volume(p, id), *dir = str_format("%s/snapshots", volume);
	_cleanup_(strv_free_ptr) char **names = NULL;
	enum content_kind kind;
	int r = files_check(p, err);
	if (r == 0)
		r = files_find(p, id, block, &kind, &path, err);
	if (r < 0)
		return r;
	_cleanup_(close_fd) int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = fd < 0 ? -errno : fs_names(fd, &names);
	if (r < 0)
		return error_errno(err, r, "cannot read %s", dir);
	size_t n = strv_len(names);
	*out = (snapshots){.items = n ? alloc_array(n, sizeof *out->items) : NULL, .n = n};
	for (size_t i = 0; i < n; i++) {
		_cleanup_(free_ptr) char *one = str_format("%s/%s", dir, names[i]);
		out->items[i] = (struct snapshot){.name = str_copy(names[i]), .created_at = made_at(one)};
	}
	return 0;
}

/* The clone's own size, where it is another one than that of what it was made from. */
static int give_size(enum content_kind kind, const char *volume, const char *path, const struct storage_volume *to,
		     struct error *err) {
	_cleanup_(free_ptr) char *file = files_content_data(kind, path);
	if (kind == CONTENT_SUBVOLUME) {
		int r = to->size ? btrfs_limit(path, to->size, err) : 0;
		return r < 0 || !to->size ? r : files_set_size(volume, to->size, err);
	}
	if (kind == CONTENT_TREE)
		return to->size ? error_set(err, ERROR_UNSUPPORTED, "what is cloned has no size, so a linked clone cannot have "
					    "one; make a full copy") : 0;
	struct stat st;
	if (stat(file, &st) < 0)
		return error_errno(err, errno, "cannot read %s", file);
	if (to->size && to->size < st.st_size)
		return error_field(err, "size", "must be at least that of what is cloned, %jd bytes", (intmax_t)st.st_size);
	return to->size > st.st_size && truncate(file, to->size) < 0 ? error_errno(err, errno, "cannot grow %s", file) : 0;
}

int files_clone(const struct storage_pool *p, const char *from, const char *snapshot, const struct storage_volume *to,
		struct error *err) {
	_cleanup_(free_ptr) char *path = NULL, *there = NULL, *temporary = NULL, *volume = NULL, *root = files_root(p);
	enum content_kind kind;
	int r = files_check(p, err);
	if (r == 0)
		r = files_find(p, from, to->block, &kind, &path, err);
	if (r < 0 || files_content(p, to->id, &there) != CONTENT_NONE)
		return r;
	if (!files_content_is_subvolume(kind) && !storage_can_reflink(root))
		return error_set(err, ERROR_UNSUPPORTED, "files in %s cannot share what they have in common; make a full copy", root);
	_cleanup_(free_ptr) char *source = snapshot ? files_snapshot(p, from, snapshot) : str_copy(path);
	if (!fs_exists(source))
		return error_set(err, ERROR_NOT_FOUND, "the volume %s has no snapshot %s", from, snapshot);
	r = files_begin(p, &temporary, &volume, err);
	if (r < 0)
		return r;
	_cleanup_(free_ptr) char *made = str_format("%s/%s", volume, files_content_name(kind));
	r = snapshot ? files_content_copy(kind, source, made, false, true, err)
		     : copy_at_rest(p, from, kind, source, made, true, false, err);
	if (r == 0)
		r = give_size(kind, volume, made, to, err);
	return files_finish(p, to->id, temporary, volume, r, err);
}
