/* The driver btrfs: a loop file of wabe's own, a device, or a directory on btrfs. Volumes are subvolumes: snapshots and
 * clones take no time, quotas are the file system's. A block volume is the file "disk" in a subvolume of its own, written
 * in place, so that its snapshots are the subvolume's. */
#include "base/proc.h"
#include "base/time.h"
#include "driver/storage/files-priv.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/vfs.h>
#include <unistd.h>

#define LOOP_SIZE_MAX (INT64_C(32) << 30) /* of a loop file whose size is not given */

static int btrfs_probe(struct error *err) {
	int r = storage_need_program("mkfs.btrfs", "btrfs-progs", err);
	return r < 0 ? r : storage_need_fs("btrfs", "btrfs", err);
}

static bool is_directory(const char *path) {
	struct stat st;
	return path && stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static char *loop_file(const struct storage_pool *p) {
	return str_format("%s/pool.img", p->dir);
}

static char *label_of(const struct storage_pool *p) {
	return str_format("wabe-%.16s", p->pool->id);
}

static int make_fs(const struct storage_pool *p, const char *device, struct error *err) {
	_cleanup_(free_ptr) char *label = label_of(p);
	char *argv[] = {"mkfs.btrfs", "-q", "-L", label, (char *)device, NULL};
	int r = proc_run_ok(&(struct proc){.argv = argv, .deadline_ns = 300 * NS_PER_SEC}, err);
	return r < 0 ? error_wrap(err, "making a btrfs on %s", device) : 0;
}

static int64_t loop_size(const struct storage_pool *p) {
	struct statfs fs;
	if (p->pool->spec.size)
		return p->pool->spec.size;
	return statfs(p->dir, &fs) < 0 ? LOOP_SIZE_MAX : MIN(LOOP_SIZE_MAX, (int64_t)fs.f_bavail * fs.f_bsize / 2);
}

static int make_loop_file(const struct storage_pool *p, struct error *err) {
	_cleanup_(free_ptr) char *path = loop_file(p), *unfinished = str_format("%s.tmp", path);
	if (fs_exists(path))
		return 0;
	_cleanup_(close_fd) int fd = open(unfinished, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, loop_size(p)) < 0)
		return error_errno(err, errno, "cannot make %s", unfinished);
	int r = make_fs(p, unfinished, err);
	storage_fault("storage-loop-made");
	if (r == 0 && fsync(fd) < 0)
		r = error_errno(err, errno, "cannot write %s", unfinished);
	if (r == 0)
		return files_rename(unfinished, path, err);
	unlink(unfinished);
	return r;
}

/* Whether this pool's file system is on a device; *type is what lies there, NULL for nothing. */
static int look_at(const struct storage_pool *p, const char *device, bool *ours, char **type, struct error *err) {
	_cleanup_(free_ptr) char *label = NULL, *wanted = label_of(p);
	int r = storage_signature(device, type, &label, err);
	*ours = r == 0 && str_same(*type, "btrfs") && str_same(label, wanted);
	return r;
}

/* A device with something else on it is not touched. */
static int make_device(const struct storage_pool *p, const char *device, struct error *err) {
	_cleanup_(free_ptr) char *type = NULL;
	bool ours;
	int r = look_at(p, device, &ours, &type, err);
	if (r < 0 || ours)
		return r;
	if (type)
		return error_set(err, ERROR_CONFLICT, "%s already holds something (%s); clear it with wipefs if it is not needed",
				 device, type);
	return make_fs(p, device, err);
}

static int btrfs_mount(const struct storage_pool *p, struct error *err) {
	const char *source = p->pool->spec.source;
	if (is_directory(source))
		return 0;
	_cleanup_(free_ptr) char *root = files_root(p), *file = loop_file(p), *loop = NULL;
	_cleanup_(close_fd) int held = -1;
	if (storage_is_mounted(root))
		return 0;
	if (!source) {
		held = storage_loop_attach(file, false, &loop, err);
		if (held < 0)
			return held;
	}
	struct pair items[POOL_OPTIONS_MAX];
	struct pairs options = storage_mount_options(p, items);
	return storage_mount("btrfs", loop ? loop : source, &options, 0, root, err);
}

static int btrfs_create(const struct storage_pool *p, struct error *err) {
	const char *source = p->pool->spec.source;
	if (source && *source != '/')
		return error_field(err, "source", "must be an absolute path, not %s", source);
	if (source && !fs_exists(source))
		return error_field(err, "source", "%s does not exist", source);
	int r = 0;
	if (!source)
		r = make_loop_file(p, err);
	else if (!is_directory(source))
		r = make_device(p, source, err);
	if (r == 0)
		r = btrfs_mount(p, err);
	if (r < 0)
		return r;
	return files_is_btrfs(p) ? files_claim(p, err) : error_field(err, "source", "%s does not lie on btrfs", source);
}

static int btrfs_activate(const struct storage_pool *p, struct error *err) {
	int r = btrfs_mount(p, err);
	return r < 0 ? r : files_check(p, err);
}

static int btrfs_deactivate(const struct storage_pool *p, struct error *err) {
	if (is_directory(p->pool->spec.source))
		return 0;
	_cleanup_(free_ptr) char *root = files_root(p);
	return storage_unmount(root, err);
}

static int btrfs_remove(const struct storage_pool *p, struct error *err) {
	const char *source = p->pool->spec.source;
	_cleanup_(free_ptr) char *file = loop_file(p), *unfinished = str_format("%s.tmp", file), *type = NULL;
	if (source && !is_directory(source)) {
		bool ours;
		int r = look_at(p, source, &ours, &type, err);
		if (r < 0 || !ours)
			return r; /* it has been removed already */
	}
	if (source || fs_exists(file)) {
		int r = btrfs_mount(p, err);
		if (r == 0)
			r = files_release(p, err);
		if (r == 0)
			r = btrfs_deactivate(p, err);
		if (r < 0)
			return r;
	}
	if (source && !is_directory(source)) {
		char *argv[] = {"wipefs", "-q", "-a", "-t", "btrfs", (char *)source, NULL};
		return proc_run_ok(&(struct proc){.argv = argv, .deadline_ns = 60 * NS_PER_SEC}, err);
	}
	if ((unlink(file) < 0 && errno != ENOENT) || (unlink(unfinished) < 0 && errno != ENOENT))
		return error_errno(err, errno, "cannot remove %s", file);
	return 0;
}

/* --- streams --- */

static int btrfs_send(const struct storage_pool *p, const char *id, bool block, const char *snapshot, const char *since,
		      int fd, struct error *err) {
	_cleanup_(free_ptr) char *path = NULL, *from = files_snapshot(p, id, snapshot);
	_cleanup_(free_ptr) char *parent = since ? files_snapshot(p, id, since) : NULL;
	enum content_kind kind;
	int r = files_check(p, err);
	if (r == 0)
		r = files_find(p, id, block, &kind, &path, err);
	if (r < 0)
		return r;
	if (!fs_exists(from) || (parent && !fs_exists(parent)))
		return error_set(err, ERROR_NOT_FOUND, "the volume %s has no snapshot %s", id, fs_exists(from) ? since : snapshot);
	char *whole[] = {"btrfs", "send", "-q", from, NULL};
	char *differences[] = {"btrfs", "send", "-q", "-p", parent, from, NULL};
	return proc_run_ok(&(struct proc){.argv = since ? differences : whole, .stdout_fd = fd}, err);
}

/* What was received has the name that it had: the only entry beside `volume`. */
static int received_entry(const char *dir, char **path, struct error *err) {
	_cleanup_(close_fd) int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_(strv_free_ptr) char **names = NULL;
	int r = fd < 0 ? -errno : fs_names(fd, &names);
	if (r < 0)
		return error_errno(err, r, "cannot read %s", dir);
	for (size_t i = 0; names && names[i]; i++)
		if (strcmp(names[i], "volume") != 0) {
			*path = str_format("%s/%s", dir, names[i]);
			return 0;
		}
	return error_set(err, ERROR_CORRUPT, "the stream holds no snapshot");
}

/* The snapshot becomes the volume's, and its content too. A read-only subvolume cannot be moved, but what is known of its
 * origin goes over to a read-only snapshot of it. */
static int take_received(const struct storage_pool *p, const struct storage_volume *to, const char *made,
			 const char *volume, const char *there, const char *snapshot, struct error *err) {
	enum content_kind kind = to->block ? CONTENT_DISK_SUBVOLUME : CONTENT_SUBVOLUME;
	_cleanup_(free_ptr) char *kept = there ? files_snapshot(p, to->id, snapshot) : str_format("%s/snapshots/%s", volume, snapshot);
	_cleanup_(free_ptr) char *content = str_format("%s/%s", volume, files_content_name(kind));
	int64_t size = to->block ? 0 : to->size;
	int r = btrfs_snapshot(made, content, false, err);
	if (r == 0 && size)
		r = btrfs_limit(content, size, err);
	if (r == 0 && size && !there)
		r = files_set_size(volume, size, err);
	if (r == 0)
		r = btrfs_snapshot(made, kept, true, err);
	storage_fault("storage-received");
	if (r < 0 || !there)
		return r;
	if (renameat2(AT_FDCWD, content, AT_FDCWD, there, RENAME_EXCHANGE) < 0)
		return error_errno(err, errno, "cannot put %s in place", content);
	return 0;
}

static int btrfs_receive(const struct storage_pool *p, const struct storage_volume *to, const char *snapshot, int fd,
			 struct error *err) {
	_cleanup_(free_ptr) char *there = NULL, *temporary = NULL, *volume = NULL, *made = NULL;
	_cleanup_(free_ptr) char *kept = files_snapshot(p, to->id, snapshot);
	if (files_content(p, to->id, &there) != CONTENT_NONE && fs_exists(kept))
		return 0;
	int r = files_begin(p, &temporary, &volume, err);
	if (r < 0)
		return r;
	/* a stream of another pool of wabe's, never a stranger's file: btrfs receive trusts the paths in it */
	char *argv[] = {"btrfs", "receive", "-q", "-e", temporary, NULL};
	r = proc_run_ok(&(struct proc){.argv = argv, .stdin_fd = fd}, err);
	if (r == 0)
		r = received_entry(temporary, &made, err);
	if (r == 0)
		r = take_received(p, to, made, volume, there, snapshot, err);
	if (!there)
		return files_finish(p, to->id, temporary, volume, r, err);
	int gone = files_discard(temporary, r < 0 ? NULL : err);
	return r < 0 ? r : gone;
}

const struct storage_driver storage_btrfs = {
	.name = "btrfs",
	.can = {.filesystems = true, .blocks = true, .snapshots = true, .instant_snapshots = true, .linked_clones = true,
		.restore_older = true,
		.quotas = true, .grow_online = true, .shrink = true, .send = true, .persistent = true, .full_safe = true},
	.probe = btrfs_probe,
	.create = btrfs_create,
	.activate = btrfs_activate,
	.deactivate = btrfs_deactivate,
	.remove = btrfs_remove,
	.status = files_status,
	.send = btrfs_send,
	.receive = btrfs_receive,
	FILES_OPERATIONS,
};
