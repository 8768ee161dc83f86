/* Volumes in pools of files. */
#include "driver/storage/files-priv.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>
#include <unistd.h>

/* File systems with a size, where directories have no quotas, are ext4 in a sparse file. */
static enum content_kind kind_for(const struct storage_pool *p, const struct storage_volume *v) {
	if (p->driver == &storage_btrfs)
		return v->block ? CONTENT_DISK_SUBVOLUME : CONTENT_SUBVOLUME;
	if (v->block)
		return CONTENT_DISK;
	return v->size || files_needs_images(p) ? CONTENT_IMAGE : CONTENT_TREE;
}

static int make_file(const char *path, int64_t size, bool in_place, struct error *err) {
	_cleanup_(close_fd) int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return error_errno(err, errno, "cannot make %s", path);
	int flags;
	/* rewritten in place: a disk that is written at random would fall to pieces otherwise */
	if (in_place && ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0) {
		flags |= FS_NOCOW_FL;
		ioctl(fd, FS_IOC_SETFLAGS, &flags);
	}
	return ftruncate(fd, size) < 0 || fsync(fd) < 0 ? error_errno(err, errno, "cannot make %s", path) : 0;
}

/* A step that takes effect, on disk when it is done. */
static int put(const struct storage_pool *p, const char *from, const char *to, struct error *err) {
	if (!p->unsynced)
		return files_rename(from, to, err);
	return rename(from, to) < 0 ? error_errno(err, errno, "cannot rename %s", from) : 0;
}

static int make_tree(const struct storage_pool *p, const char *path, const struct storage_volume *v, struct error *err) {
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return error_errno(err, errno, "cannot make %s", path);
	if (chown(path, v->uid, v->gid) < 0 || chmod(path, v->mode) < 0)
		return error_errno(err, errno, "cannot give %s its owner", path);
	return p->unsynced ? 0 : files_sync_dir(path, err);
}

static int make_image(const struct storage_pool *p, const char *path, const struct storage_volume *v, struct error *err) {
	int64_t size = v->size ? v->size : storage_default_size(p);
	int r = storage_ext4_size_check(size, err);
	if (r == 0)
		r = make_file(path, size, false, err);
	return r < 0 ? r : storage_ext4_make(p, path, v, err);
}

static int make_subvolume(const struct storage_pool *p, const char *volume, const char *path,
			  const struct storage_volume *v, struct error *err) {
	int r = btrfs_make(path, err);
	if (r < 0)
		return r;
	_cleanup_(free_ptr) char *disk = str_format("%s/disk", path);
	if (v->block)
		return make_file(disk, v->size, true, err);
	r = make_tree(p, path, v, err);
	if (r == 0 && v->size)
		r = btrfs_limit(path, v->size, err);
	return r < 0 || !v->size ? r : files_set_size(volume, v->size, err);
}

static int make_content(const struct storage_pool *p, const char *volume, const struct storage_volume *v,
			struct error *err) {
	enum content_kind kind = kind_for(p, v);
	_cleanup_(free_ptr) char *path = str_format("%s/%s", volume, files_content_name(kind));
	switch (kind) {
	case CONTENT_SUBVOLUME:
	case CONTENT_DISK_SUBVOLUME: return make_subvolume(p, volume, path, v, err);
	case CONTENT_DISK: return make_file(path, v->size, false, err);
	case CONTENT_IMAGE: return make_image(p, path, v, err);
	default: return make_tree(p, path, v, err);
	}
}

int files_begin(const struct storage_pool *p, char **temporary, char **volume, struct error *err) {
	int r = files_check(p, err);
	if (r == 0)
		r = files_temporary(p, temporary, err);
	if (r < 0)
		return r;
	*volume = str_format("%s/volume", *temporary);
	_cleanup_(free_ptr) char *snapshots = str_format("%s/snapshots", *volume);
	if (mkdir(*volume, 0700) < 0 || mkdir(snapshots, 0700) < 0)
		return error_errno(err, errno, "cannot make %s", *volume);
	return 0;
}

int files_finish(const struct storage_pool *p, const char *id, const char *temporary, const char *volume, int r,
		 struct error *err) {
	storage_fault("storage-made");
	_cleanup_(free_ptr) char *path = files_volume(p, id);
	if (r == 0 && !p->unsynced)
		r = files_sync_dir(volume, err);
	if (r == 0)
		r = put(p, volume, path, err);
	storage_fault("storage-renamed");
	if (temporary) {
		int gone = files_discard(temporary, r < 0 ? NULL : err);
		r = r < 0 ? r : gone;
	}
	return r;
}

int files_volume_create(const struct storage_pool *p, const struct storage_volume *v, struct error *err) {
	_cleanup_(free_ptr) char *there = NULL, *temporary = NULL, *volume = NULL;
	if (files_content(p, v->id, &there) != CONTENT_NONE)
		return 0;
	int r = files_begin(p, &temporary, &volume, err);
	if (r == 0)
		r = make_content(p, volume, v, err);
	return files_finish(p, v->id, temporary, volume, r, err);
}

int files_volume_remove(const struct storage_pool *p, const char *id, bool block, struct error *err) {
	_cleanup_(free_ptr) char *path = files_volume(p, id), *mount = storage_mount_point(p, id, NULL), *temporary = NULL;
	(void)block;
	int r = files_check(p, err);
	if (r == 0)
		r = storage_unmount(mount, err);
	if (r < 0 || !fs_exists(path))
		return r;
	r = files_trash(p, &temporary, err);
	if (r < 0)
		return r;
	r = put(p, path, temporary, err);
	storage_fault("storage-removed");
	return r < 0 ? r : files_discard(temporary, err);
}

/* act false: whether it could be. */
static int grow_file(const char *path, int64_t size, bool act, struct error *err) {
	_cleanup_(close_fd) int fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0)
		return error_errno(err, errno, "cannot open %s", path);
	if (size < st.st_size)
		return error_set(err, ERROR_CONFLICT, "the volume has %jd bytes and cannot become smaller; copy what it holds "
				 "to a new one", (intmax_t)st.st_size);
	return act && (ftruncate(fd, size) < 0 || fsync(fd) < 0) ? error_errno(err, errno, "cannot grow %s", path) : 0;
}

static int grow_image(const struct storage_pool *p, const char *id, const char *path, int64_t size, struct error *err) {
	_cleanup_(free_ptr) char *mount = storage_mount_point(p, id, NULL);
	bool mounted = storage_is_mounted(mount);
	int r = storage_ext4_size_check(size, err);
	if (r < 0)
		return r;
	r = grow_file(path, size, false, err);
	if (r < 0)
		return r;
	if (mounted && !storage_ext4_grows_online())
		return error_set(err, ERROR_UNSUPPORTED, "this host's root may not grow a file system that is in use "
				 "(no CAP_SYS_RESOURCE); stop what uses the volume first");
	r = grow_file(path, size, true, err);
	storage_fault("storage-grown");
	if (r < 0 || !mounted)
		return r; /* grown when it is mounted next */
	r = storage_loop_grow(mount, err);
	return r < 0 ? r : storage_ext4_grow(mount, size, err);
}

static int resize_subvolume(const struct storage_pool *p, const char *id, const char *path, int64_t size,
			    struct error *err) {
	_cleanup_(free_ptr) char *volume = files_volume(p, id);
	int64_t used;
	if (size && btrfs_referred(path, &used) == 0 && used > size)
		return error_set(err, ERROR_CONFLICT, "the volume holds %jd bytes already", (intmax_t)used);
	int r = btrfs_limit(path, size, err);
	storage_fault("storage-grown");
	return r < 0 ? r : files_set_size(volume, size, err);
}

int files_volume_resize(const struct storage_pool *p, const struct storage_volume *v, int64_t size, struct error *err) {
	_cleanup_(free_ptr) char *path = NULL;
	enum content_kind kind;
	int r = files_check(p, err);
	if (r == 0)
		r = files_find(p, v->id, v->block, &kind, &path, err);
	if (r < 0)
		return r;
	_cleanup_(free_ptr) char *data = files_content_data(kind, path);
	if (v->block)
		return grow_file(data, size, true, err);
	if (kind == CONTENT_IMAGE)
		return grow_image(p, v->id, path, size, err);
	if (kind == CONTENT_SUBVOLUME)
		return resize_subvolume(p, v->id, path, size, err);
	return size == 0 ? 0 : error_set(err, ERROR_UNSUPPORTED, "the volume was made without a size and cannot get one in a "
					 "pool of the driver %s; copy it to a new one with a size", p->driver->name);
}

static int usage_of_file(const char *path, int64_t *size, int64_t *used, struct error *err) {
	struct stat st;
	if (stat(path, &st) < 0)
		return error_errno(err, errno, "cannot read %s", path);
	*size = st.st_size;
	*used = (int64_t)st.st_blocks * 512;
	return 0;
}

int files_volume_usage(const struct storage_pool *p, const char *id, bool block, int64_t *size, int64_t *used,
		       struct error *err) {
	_cleanup_(free_ptr) char *path = NULL;
	enum content_kind kind;
	int r = files_check(p, err);
	if (r == 0)
		r = files_find(p, id, block, &kind, &path, err);
	if (r < 0)
		return r;
	_cleanup_(free_ptr) char *data = files_content_data(kind, path), *mount = storage_mount_point(p, id, NULL);
	if (block)
		return usage_of_file(data, size, used, err);
	if (kind == CONTENT_IMAGE) {
		struct statfs fs;
		r = usage_of_file(path, size, used, err);
		if (r == 0 && storage_is_mounted(mount) && statfs(mount, &fs) == 0)
			*used = (int64_t)(fs.f_blocks - fs.f_bfree) * fs.f_bsize;
		return r;
	}
	*size = files_size(p, id);
	if (kind == CONTENT_SUBVOLUME && btrfs_referred(path, used) == 0)
		return 0;
	return storage_tree_usage(path, used, err);
}

int files_volume_list(const struct storage_pool *p, char ***ids, struct error *err) {
	_cleanup_(free_ptr) char *root = files_root(p), *path = str_format("%s/volumes", root);
	int r = files_check(p, err);
	if (r < 0)
		return r;
	_cleanup_(close_fd) int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*ids = NULL;
	r = fd < 0 ? -errno : fs_names(fd, ids);
	return r < 0 ? error_errno(err, r, "cannot read %s", path) : 0;
}

int files_volume_open(const struct storage_pool *p, const char *id, bool block, const char *snapshot,
		      struct storage_handle *out, struct error *err) {
	_cleanup_(free_ptr) char *path = NULL, *from = NULL, *mount = storage_mount_point(p, id, snapshot);
	enum content_kind kind;
	int r = files_check(p, err);
	if (r == 0)
		r = files_find(p, id, block, &kind, &path, err);
	if (r < 0)
		return r;
	from = snapshot ? files_snapshot(p, id, snapshot) : str_copy(path);
	if (!fs_exists(from))
		return error_set(err, ERROR_NOT_FOUND, "the volume %s has no snapshot %s", id, snapshot);
	*out = (struct storage_handle){0};
	if (kind == CONTENT_IMAGE)
		r = storage_ext4_mount(from, NULL, snapshot != NULL, mount, err);
	else if (kind == CONTENT_TREE && snapshot)
		r = storage_mount_read_only(from, mount, err);
	if (r < 0)
		return r;
	out->mounted = kind == CONTENT_IMAGE || (kind == CONTENT_TREE && snapshot);
	if (out->mounted)
		out->path = TAKE_PTR(mount);
	else
		out->path = files_content_data(kind, from);
	return 0;
}

char *files_volume_path(const struct storage_pool *p, const char *id) {
	_cleanup_(free_ptr) char *path = NULL;
	enum content_kind kind = files_content(p, id, &path);
	return kind == CONTENT_NONE || kind == CONTENT_IMAGE ? NULL : files_content_data(kind, path);
}

int files_volume_close(const struct storage_pool *p, const char *id, bool block, const char *snapshot,
		       struct error *err) {
	(void)block;
	_cleanup_(free_ptr) char *mount = storage_mount_point(p, id, snapshot);
	return storage_unmount(mount, err);
}
