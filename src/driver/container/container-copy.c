/* Copying what a mount covers into it (copy_up). Runs in the child, on a tree that a stranger made:
 * links are copied, never followed; devices and sockets are left out. */
#include "base/fs.h"
#include "driver/container/container-priv.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEPTH_MAX 128

static int copy_dir(int from, int to, int depth, struct error *err);

static int copy_meta(int to, const char *name, const struct stat *st) {
	if (fchownat(to, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (!S_ISLNK(st->st_mode) && fchmodat(to, name, st->st_mode & 07777, 0) < 0)
		return -errno;
	struct timespec times[2] = {st->st_atim, st->st_mtim};
	return utimensat(to, name, times, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

static int copy_file(int from, int to, const char *name) {
	_cleanup_(close_fd) int in = openat(from, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	_cleanup_(close_fd) int out = openat(to, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	return in < 0 || out < 0 ? -errno : fs_copy(in, out, NULL);
}

static int copy_link(int from, int to, const char *name) {
	char target[PATH_MAX];
	ssize_t n = readlinkat(from, name, target, sizeof target - 1);
	if (n < 0)
		return -errno;
	target[n] = '\0';
	return symlinkat(target, to, name) < 0 ? -errno : 0;
}

static int copy_sub(int from, int to, const char *name, int depth, struct error *err) {
	_cleanup_(close_fd) int in = openat(from, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (in < 0 || mkdirat(to, name, 0700) < 0)
		return error_errno(err, errno, "cannot copy the directory %s", name);
	_cleanup_(close_fd) int out = openat(to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (out < 0)
		return error_errno(err, errno, "cannot copy the directory %s", name);
	return copy_dir(in, out, depth + 1, err);
}

static int copy_entry(int from, int to, const char *name, int depth, struct error *err) {
	struct stat st;
	if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return error_errno(err, errno, "cannot read %s", name);
	int r = 0;
	if (S_ISDIR(st.st_mode)) {
		r = copy_sub(from, to, name, depth, err);
		if (r < 0)
			return r;
	} else if (S_ISREG(st.st_mode)) {
		r = copy_file(from, to, name);
	} else if (S_ISLNK(st.st_mode)) {
		r = copy_link(from, to, name);
	} else {
		return 0;
	}
	if (r == 0)
		r = copy_meta(to, name, &st);
	return r < 0 ? error_errno(err, r, "cannot copy %s to what is mounted over it", name) : 0;
}

static void close_dir(DIR **d) {
	if (*d)
		closedir(*d);
}

static int copy_dir(int from, int to, int depth, struct error *err) {
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
		int r = copy_entry(from, to, e->d_name, depth, err);
		if (r < 0)
			return r;
	}
	return 0;
}

int copy_tree(int from, int to, struct error *err) {
	struct stat st;
	if (fstat(from, &st) < 0)
		return error_errno(err, errno, "cannot read the directory to copy");
	int r = copy_dir(from, to, 0, err);
	if (r < 0)
		return r;
	r = copy_meta(to, ".", &st);
	return r < 0 ? error_errno(err, r, "cannot set the owner of the copy") : 0;
}
