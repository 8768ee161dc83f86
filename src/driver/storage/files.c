/* The root of a pool of files: whose it is, where things lie in it, how room is told, how unfinished work goes. */
#include "driver/storage/files-priv.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/vfs.h>
#include <unistd.h>

#define MARKER "wabe-pool"
#define MARKER_MAX ((size_t)256)

static const char *const content_names[] = {
	[CONTENT_TREE] = "tree",	 [CONTENT_SUBVOLUME] = "subvolume", [CONTENT_DISK_SUBVOLUME] = "disk-subvolume",
	[CONTENT_IMAGE] = "image", [CONTENT_DISK] = "disk"};

const char *files_content_name(enum content_kind kind) {
	return content_names[kind];
}

bool files_content_is_subvolume(enum content_kind kind) {
	return kind == CONTENT_SUBVOLUME || kind == CONTENT_DISK_SUBVOLUME;
}

char *files_content_data(enum content_kind kind, const char *path) {
	return kind == CONTENT_DISK_SUBVOLUME ? str_format("%s/disk", path) : str_copy(path);
}

char *files_root(const struct storage_pool *p) {
	const char *source = p->pool->spec.source;
	struct stat st;
	bool own = p->driver == &storage_dir ? !source : !source || stat(source, &st) < 0 || !S_ISDIR(st.st_mode);
	return own ? str_format("%s/root", p->dir) : str_copy(source);
}

char *files_volume(const struct storage_pool *p, const char *id) {
	_cleanup_(free_ptr) char *root = files_root(p);
	return str_format("%s/volumes/%s", root, id);
}

char *files_snapshot(const struct storage_pool *p, const char *id, const char *name) {
	_cleanup_(free_ptr) char *volume = files_volume(p, id);
	return str_format("%s/snapshots/%s", volume, name);
}

enum content_kind files_content(const struct storage_pool *p, const char *id, char **path) {
	_cleanup_(free_ptr) char *volume = files_volume(p, id);
	for (enum content_kind k = CONTENT_TREE; k <= CONTENT_DISK; k++) {
		*path = str_format("%s/%s", volume, content_names[k]);
		if (fs_exists(*path))
			return k;
		free_ptr(path);
	}
	*path = NULL;
	return CONTENT_NONE;
}

int files_find(const struct storage_pool *p, const char *id, bool block, enum content_kind *kind, char **path,
	       struct error *err) {
	*kind = files_content(p, id, path);
	if (*kind == CONTENT_NONE)
		return error_set(err, ERROR_NOT_FOUND, "the pool %s has no volume %s", p->pool->spec.name, id);
	if (block == (*kind == CONTENT_DISK || *kind == CONTENT_DISK_SUBVOLUME))
		return 0;
	free_ptr(path);
	*path = NULL;
	return error_set(err, ERROR_INVALID, "the volume %s is %s block volume", id, block ? "no" : "a");
}

/* --- the root --- */

/* The pool whose root this is: NULL for nobody's; -errno. */
static int read_marker(const char *root, char **id) {
	_cleanup_(free_ptr) char *path = str_format("%s/%s", root, MARKER);
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	int r = fs_read(path, MARKER_MAX, &text);
	*id = NULL;
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	*id = buf_steal(&text);
	(*id)[strcspn(*id, "\n")] = '\0';
	return 0;
}

static int check_marker(const struct storage_pool *p, const char *root, const char *id, struct error *err) {
	if (strcmp(id, p->pool->id) == 0)
		return 0;
	return error_set(err, ERROR_CONFLICT, "%s belongs to another pool, %.12s; remove that one first", root, id);
}

/* Nothing but what wabe may have begun to put there. */
static int check_empty(const char *root, struct error *err) {
	_cleanup_(strv_free_ptr) char **names = NULL;
	_cleanup_(close_fd) int fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = fd < 0 ? -errno : fs_names(fd, &names);
	if (r < 0)
		return error_errno(err, r, "cannot read %s", root);
	for (size_t i = 0; names && names[i]; i++)
		if (strcmp(names[i], "lost+found") != 0 && !str_starts(names[i], MARKER "."))
			return error_set(err, ERROR_CONFLICT, "%s is not empty, it holds %s; give an empty directory", root,
					 names[i]);
	return 0;
}

int files_claim(const struct storage_pool *p, struct error *err) {
	_cleanup_(free_ptr) char *root = files_root(p), *id = NULL;
	int r = read_marker(root, &id);
	if (r < 0)
		return error_errno(err, r, "cannot read %s in %s", MARKER, root);
	r = id ? check_marker(p, root, id, err) : check_empty(root, err);
	if (r < 0)
		return r;
	_cleanup_(free_ptr) char *volumes = str_format("%s/volumes", root), *marker = str_format("%s/" MARKER, root);
	_cleanup_(free_ptr) char *text = str_format("%s\n", p->pool->id);
	if (!id)
		r = fs_replace(marker, text, strlen(text), 0600);
	storage_fault("storage-claimed");
	if (r == 0 && mkdir(volumes, 0700) < 0 && errno != EEXIST)
		r = -errno;
	return r < 0 ? error_errno(err, r, "cannot write in %s", root) : files_sync_dir(root, err);
}

int files_check(const struct storage_pool *p, struct error *err) {
	_cleanup_(free_ptr) char *root = files_root(p), *id = NULL;
	int r = p->driver == &storage_nfs ? nfs_ask(p, err) : 0;
	if (r < 0)
		return r;
	r = read_marker(root, &id);
	if (r < 0)
		return error_set(err, ERROR_UNAVAILABLE, "cannot read %s in %s: %s", MARKER, root, strerror(-r));
	if (!id)
		return error_set(err, ERROR_UNAVAILABLE, "%s does not hold the pool (no file %s); is it mounted?", root, MARKER);
	return check_marker(p, root, id, err);
}

static int remove_temporary(const char *root, const char *name, struct error *err) {
	_cleanup_(free_ptr) char *dir = str_format("%s/%s", root, name);
	_cleanup_(close_fd) int fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	_cleanup_(strv_free_ptr) char **names = NULL;
	if (fd < 0)
		return errno == ENOENT ? 0 : error_errno(err, errno, "cannot open %s", dir);
	int r = fs_names(fd, &names);
	if (r < 0)
		return error_errno(err, r, "cannot read %s", dir);
	for (size_t i = 0; names && names[i]; i++) {
		_cleanup_(free_ptr) char *path = str_format("%s/%s", dir, names[i]);
		r = files_discard(path, err);
		if (r < 0)
			return r;
	}
	return rmdir(dir) < 0 ? error_errno(err, errno, "cannot remove %s", dir) : 0;
}

int files_release(const struct storage_pool *p, struct error *err) {
	_cleanup_(free_ptr) char *root = files_root(p), *id = NULL;
	int r = read_marker(root, &id);
	if (r < 0 || !id)
		return r < 0 ? error_errno(err, r, "cannot read %s in %s", MARKER, root) : 0;
	r = check_marker(p, root, id, err);
	if (r < 0)
		return r;
	_cleanup_(free_ptr) char *volumes = str_format("%s/volumes", root), *marker = str_format("%s/" MARKER, root);
	if (rmdir(volumes) < 0 && errno != ENOENT)
		return errno == ENOTEMPTY ? error_set(err, ERROR_CONFLICT, "the pool %s still holds volumes", p->pool->spec.name)
					  : error_errno(err, errno, "cannot remove %s", volumes);
	_cleanup_(close_fd) int fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_(strv_free_ptr) char **names = NULL;
	r = fd < 0 ? -errno : fs_names(fd, &names);
	if (r < 0)
		return error_errno(err, r, "cannot read %s", root);
	for (size_t i = 0; names && names[i]; i++) {
		r = str_starts(names[i], "tmp-") ? remove_temporary(root, names[i], err) : 0;
		if (r < 0)
			return r;
	}
	return unlink(marker) < 0 && errno != ENOENT ? error_errno(err, errno, "cannot remove %s", marker) : 0;
}

bool files_is_btrfs(const struct storage_pool *p) {
	_cleanup_(free_ptr) char *root = files_root(p);
	struct statfs fs;
	return statfs(root, &fs) == 0 && fs.f_type == BTRFS_SUPER_MAGIC;
}

bool files_needs_images(const struct storage_pool *p) {
	_cleanup_(free_ptr) char *root = files_root(p);
	return p->driver == &storage_nfs || !storage_can_idmap(root);
}

int files_status(const struct storage_pool *p, struct pool_status *out, struct error *err) {
	int r = files_check(p, err);
	if (r < 0)
		return r;
	_cleanup_(free_ptr) char *root = files_root(p);
	struct statfs fs;
	if (statfs(root, &fs) < 0)
		return error_errno(err, errno, "cannot read %s", root);
	out->total = (int64_t)fs.f_blocks * fs.f_bsize;
	out->used = (int64_t)(fs.f_blocks - fs.f_bfree) * fs.f_bsize;
	out->capabilities = p->driver->can;
	if (p->driver != &storage_btrfs && !storage_ext4_grows_online())
		out->capabilities.grow_online = false;
	out->capabilities.full_safe &= !files_needs_images(p);
	if (p->driver->can.linked_clones && !storage_can_reflink(root))
		out->capabilities.instant_snapshots = out->capabilities.linked_clones = false;
	return 0;
}

/* --- unfinished work --- */

/* Several hosts may share a pool: each has its own. */
static char *temporary_dir(const struct storage_pool *p) {
	_cleanup_(free_ptr) char *root = files_root(p);
	_cleanup_(buf_free) struct buf machine = BUF_INIT_MAX(256);
	fs_read("/etc/machine-id", 128, &machine);
	struct digest *d = digest_new();
	digest_adds(d, buf_str(&machine));
	digest_adds(d, p->dir);
	_cleanup_(free_ptr) char *hex = digest_end(d);
	return str_format("%s/tmp-%.8s", root, hex);
}

int files_trash(const struct storage_pool *p, char **path, struct error *err) {
	_cleanup_(free_ptr) char *dir = temporary_dir(p), *salt = random_hex(8);
	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		return error_errno(err, errno, "cannot make %s", dir);
	*path = str_format("%s/%s", dir, salt);
	return 0;
}

int files_temporary(const struct storage_pool *p, char **path, struct error *err) {
	_cleanup_(free_ptr) char *made = NULL;
	int r = files_trash(p, &made, err);
	if (r < 0)
		return r;
	if (mkdir(made, 0700) < 0)
		return error_errno(err, errno, "cannot make %s", made);
	*path = TAKE_PTR(made);
	return 0;
}

int files_recover(const struct storage_pool *p, struct error *err) {
	int r = storage_mount_recover(p, err);
	if (r < 0)
		return r;
	_cleanup_(free_ptr) char *dir = temporary_dir(p), *root = files_root(p);
	r = remove_temporary(root, strrchr(dir, '/') + 1, err);
	mkdir(dir, 0700); /* there before the disk is full */
	if (r == 0 && p->driver == &storage_btrfs)
		btrfs_forget_gone(root);
	return r < 0 ? error_wrap(err, "finishing what was begun in the pool %s", p->pool->spec.name) : 0;
}
