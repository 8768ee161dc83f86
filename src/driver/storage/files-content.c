/* Content of volumes in pools of files: how each kind is copied, and goes. */
#include "driver/storage/files-priv.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

int files_sync_dir(const char *path, struct error *err) {
	int r = fs_fsync_dir(path);
	return r < 0 ? error_errno(err, r, "cannot write %s", path) : 0;
}

/* On disk, in both directories. */
int files_rename(const char *from, const char *to, struct error *err) {
	if (rename(from, to) < 0)
		return error_errno(err, errno, "cannot move %s to %s", from, to);
	_cleanup_(free_ptr) char *a = str_copyn(from, (size_t)(strrchr(from, '/') - from));
	_cleanup_(free_ptr) char *b = str_copyn(to, (size_t)(strrchr(to, '/') - to));
	int r = files_sync_dir(b, err);
	return r < 0 ? r : files_sync_dir(a, err);
}

static int copy_tree(const char *from, const char *to, bool linked, struct error *err) {
	if (mkdir(to, 0700) < 0)
		return error_errno(err, errno, "cannot make %s", to);
	struct owner_shift none = {0};
	struct copying c = {.reflink_only = linked};
	int r = storage_tree_copy(from, to, &none, &c, err);
	if (r < 0)
		return r;
	_cleanup_(close_fd) int fd = open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 || syncfs(fd) < 0 ? error_errno(err, errno, "cannot write %s", to) : 0;
}

int files_content_copy(enum content_kind kind, const char *from, const char *to, bool read_only, bool linked,
		       struct error *err) {
	switch (kind) {
	case CONTENT_SUBVOLUME:
	case CONTENT_DISK_SUBVOLUME: return btrfs_snapshot(from, to, read_only, err);
	case CONTENT_TREE: return copy_tree(from, to, linked, err);
	default: return storage_copy_file(from, to, linked, err);
	}
}

/* A subvolume is taken away as such; other things are left for the removal of the tree. */
static int destroy_subvolume(const char *path, struct error *err) {
	return btrfs_is_subvolume(path) ? btrfs_destroy(path, err) : 0;
}

static int destroy_in(const char *dir, struct error *err) {
	_cleanup_(close_fd) int fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	_cleanup_(strv_free_ptr) char **names = NULL;
	if (fd < 0)
		return errno == ENOENT || errno == ENOTDIR ? 0 : error_errno(err, errno, "cannot open %s", dir);
	int r = fs_names(fd, &names);
	if (r < 0)
		return error_errno(err, r, "cannot read %s", dir);
	for (size_t i = 0; names && names[i]; i++) {
		_cleanup_(free_ptr) char *path = str_format("%s/%s", dir, names[i]);
		r = destroy_subvolume(path, err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* path is a directory of unfinished work, with content or a whole volume (in "volume") in it; or a whole volume; or a
 * content itself. */
int files_discard(const char *path, struct error *err) {
	static const char *const places[] = {"", "/snapshots", "/volume", "/volume/snapshots"};
	int r = 0;
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(places); i++) {
		_cleanup_(free_ptr) char *dir = str_format("%s%s", path, places[i]);
		r = destroy_in(dir, err);
	}
	if (r < 0)
		return r;
	r = fs_remove_tree(path);
	return r < 0 ? error_errno(err, r, "cannot remove %s", path) : 0;
}

int64_t files_size(const struct storage_pool *p, const char *id) {
	_cleanup_(free_ptr) char *volume = files_volume(p, id), *path = str_format("%s/size", volume);
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	int64_t size = 0;
	if (fs_read(path, 64, &text) == 0)
		str_to_i64(buf_str(&text), &size);
	return size;
}

int files_set_size(const char *volume, int64_t size, struct error *err) {
	_cleanup_(free_ptr) char *path = str_format("%s/size", volume), *text = str_format("%jd", (intmax_t)size);
	int r = fs_replace(path, text, strlen(text), 0600);
	return r < 0 ? error_errno(err, r, "cannot write %s", path) : 0;
}
