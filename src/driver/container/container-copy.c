/* Copying what a mount covers into it (copy_up). Runs in the child, on a tree that a stranger made: links are copied, never
 * followed. Hard links stay such, holes stay holes, extended attributes and pipes come along, devices where the container's
 * users may make them; sockets are left out. */
#include "base/fs.h"
#include "base/map.h"
#include "base/str.h"
#include "driver/container/container-priv.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define DEPTH_MAX 128
#define NAMES_MAX ((size_t)64 << 10) /* the kernel's own limits */
#define VALUE_MAX ((size_t)64 << 10)

struct copy {
	int top;           /* where the copy begins */
	struct map *links; /* "device:inode" of a file with several names → its path below top */
};

static int copy_dir(struct copy *c, int from, int to, const char *path, int depth, struct error *err);

/* ---- what belongs to a file ---- */

static bool is_copied(const char *attribute) {
	return str_starts(attribute, "user.") || str_starts(attribute, "system.posix_acl_") || str_same(attribute, "security.capability");
}

/* A file system without such attributes gets none. */
static int copy_attributes(int in, int out) {
	_cleanup_(free_ptr) char *names = alloc_zero(NAMES_MAX), *value = NULL;
	ssize_t n = flistxattr(in, names, NAMES_MAX);
	for (const char *name = names; n > 0 && name < names + n; name += strlen(name) + 1) {
		if (!is_copied(name))
			continue;
		value = value ? value : alloc_zero(VALUE_MAX);
		ssize_t size = fgetxattr(in, name, value, VALUE_MAX);
		if (size < 0 || fsetxattr(out, name, value, (size_t)size, 0) < 0)
			return errno == EOPNOTSUPP ? 0 : -errno;
	}
	return n < 0 && errno != EOPNOTSUPP ? -errno : 0;
}

static int copy_meta(int to, const char *name, const struct stat *st) {
	if (fchownat(to, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (!S_ISLNK(st->st_mode) && fchmodat(to, name, st->st_mode & 07777, 0) < 0)
		return -errno;
	struct timespec times[2] = {st->st_atim, st->st_mtim};
	return utimensat(to, name, times, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

/* ---- files ---- */

/* Its owner first: a change of that takes capabilities away. */
static int copy_file(int from, int to, const char *name, const struct stat *st) {
	_cleanup_(close_fd) int in = openat(from, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	_cleanup_(close_fd) int out = openat(to, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	int r = in < 0 || out < 0 ? -errno : fs_clone(in, out);
	if (r == 0)
		r = copy_meta(to, name, st);
	if (r == 0)
		r = copy_attributes(in, out);
	return r;
}

static int copy_link(int from, int to, const char *name) {
	char target[PATH_MAX];
	ssize_t n = readlinkat(from, name, target, sizeof target - 1);
	if (n < 0)
		return -errno;
	target[n] = '\0';
	return symlinkat(target, to, name) < 0 ? -errno : 0;
}

/* 1: it is there, as a further name of what has been copied before. */
static int copy_hard_link(struct copy *c, int to, const char *name, const char *path, const struct stat *st) {
	_cleanup_(free_ptr) char *key = str_format("%llx:%llx", (unsigned long long)st->st_dev, (unsigned long long)st->st_ino);
	if (st->st_nlink < 2)
		return 0;
	const char *first = map_get(c->links, key);
	if (!first) {
		map_set(c->links, key, str_copy(path));
		return 0;
	}
	return linkat(c->top, first, to, name, 0) < 0 ? -errno : 1;
}

/* A device that may not be made, as in a user name space, is left out. */
static int copy_node(int to, const char *name, const struct stat *st, bool *made) {
	*made = !S_ISSOCK(st->st_mode) && mknodat(to, name, (st->st_mode & S_IFMT) | 0600, st->st_rdev) == 0;
	return *made || S_ISSOCK(st->st_mode) || errno == EPERM ? 0 : -errno;
}

static int copy_sub(struct copy *c, int from, int to, const char *name, const char *path, const struct stat *st, int depth,
		    struct error *err) {
	_cleanup_(close_fd) int in = openat(from, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (in < 0 || mkdirat(to, name, 0700) < 0)
		return error_errno(err, errno, "cannot copy the directory %s", path);
	_cleanup_(close_fd) int out = openat(to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (out < 0)
		return error_errno(err, errno, "cannot copy the directory %s", path);
	int r = copy_dir(c, in, out, path, depth + 1, err);
	if (r < 0)
		return r;
	r = copy_attributes(in, out);
	if (r == 0)
		r = copy_meta(to, name, st);
	return r < 0 ? error_errno(err, r, "cannot copy the directory %s", path) : 0;
}

static int copy_entry(struct copy *c, int from, int to, const char *name, const char *path, int depth, struct error *err) {
	struct stat st;
	bool made = true;
	if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return error_errno(err, errno, "cannot read %s", path);
	if (S_ISDIR(st.st_mode))
		return copy_sub(c, from, to, name, path, &st, depth, err);
	int r = S_ISREG(st.st_mode) || S_ISLNK(st.st_mode) ? copy_hard_link(c, to, name, path, &st) : 0;
	if (r > 0)
		return 0;
	if (r == 0 && S_ISREG(st.st_mode))
		r = copy_file(from, to, name, &st);
	else if (r == 0)
		r = S_ISLNK(st.st_mode) ? copy_link(from, to, name) : copy_node(to, name, &st, &made);
	if (r == 0 && made && !S_ISREG(st.st_mode))
		r = copy_meta(to, name, &st);
	return r < 0 ? error_errno(err, r, "cannot copy %s to what is mounted over it", path) : 0;
}

static void close_dir(DIR **d) {
	if (*d)
		closedir(*d);
}

static int copy_dir(struct copy *c, int from, int to, const char *path, int depth, struct error *err) {
	if (depth > DEPTH_MAX)
		return error_set(err, ERROR_TOO_LARGE, "a directory to copy is nested more than %d deep", DEPTH_MAX);
	int fd = openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_(close_dir) DIR *d = fd < 0 ? NULL : fdopendir(fd);
	if (!d) {
		error_errno(err, errno, "cannot list a directory to copy");
		close_fd(&fd);
		return -ERROR_INTERNAL;
	}
	for (struct dirent *e; (e = readdir(d));) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		_cleanup_(free_ptr) char *below = *path ? str_format("%s/%s", path, e->d_name) : str_copy(e->d_name);
		int r = copy_entry(c, from, to, e->d_name, below, depth, err);
		if (r < 0)
			return r;
	}
	return 0;
}

int copy_tree(int from, int to, struct error *err) {
	struct copy c = {.links = map_new(free)};
	struct stat st;
	/* from may be a descriptor that names alone */
	_cleanup_(close_fd) int in = openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_(close_fd) int out = openat(to, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	c.top = out;
	int r = in < 0 || out < 0 || fstat(in, &st) < 0 ? error_errno(err, errno, "cannot read the directory to copy") : 0;
	if (r == 0)
		r = copy_dir(&c, in, out, "", 0, err);
	map_free(c.links);
	if (r < 0)
		return r;
	r = copy_attributes(in, out);
	if (r == 0)
		r = copy_meta(out, ".", &st);
	return r < 0 ? error_errno(err, r, "cannot set the owner of the copy") : 0;
}
