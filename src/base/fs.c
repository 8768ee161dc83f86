/* Files and directories. */
#include "base/fs.h"

#include "base/str.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

int fs_read_fd(int fd, size_t max, struct buf *out) {
	for (;;) {
		size_t have = out->len;
		if (have > max)
			return -EFBIG;
		char *room = buf_room(out, 16384);
		if (!room)
			return -EFBIG;
		ssize_t n = RETRY_EINTR(read(fd, room, MIN((size_t)16384, max - have + 1)));
		if (n < 0)
			return -errno;
		buf_grown(out, (size_t)n);
		if (n == 0)
			return 0;
	}
}

int fs_read_at(int dirfd, const char *path, size_t max, struct buf *out) {
	_cleanup_(close_fd) int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fs_read_fd(fd, max, out);
}

int fs_read(const char *path, size_t max, struct buf *out) {
	return fs_read_at(AT_FDCWD, path, max, out);
}

int fs_write_value_at(int dirfd, const char *path, const char *value) {
	_cleanup_(close_fd) int fd = openat(dirfd, path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	return RETRY_EINTR(write(fd, value, strlen(value))) < 0 ? -errno : 0;
}

int fs_write_value(const char *path, const char *value) {
	return fs_write_value_at(AT_FDCWD, path, value);
}

int fs_write_all(int fd, const void *data, size_t n) {
	const char *p = data;
	while (n) {
		ssize_t w = RETRY_EINTR(write(fd, p, n));
		if (w < 0)
			return -errno;
		p += w;
		n -= (size_t)w;
	}
	return 0;
}

static int fsync_parent_at(int dirfd, const char *path) {
	const char *slash = strrchr(path, '/');
	_cleanup_(free_ptr) char *parent =
		!slash ? str_copy(".") : slash == path ? str_copy("/") : str_copyn(path, (size_t)(slash - path));
	_cleanup_(close_fd) int fd = openat(dirfd, parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	return fsync(fd) < 0 ? -errno : 0;
}

int fs_replace_at(int dirfd, const char *path, const void *data, size_t n, mode_t mode) {
	_cleanup_(free_ptr) char *salt = random_hex(6);
	_cleanup_(free_ptr) char *temporary = str_format("%s.%s.tmp", path, salt);
	_cleanup_(close_fd) int fd = openat(dirfd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
	if (fd < 0)
		return -errno;
	int r = fs_write_all(fd, data, n);
	if (r == 0 && (fchmod(fd, mode) < 0 || fsync(fd) < 0))
		r = -errno;
	if (r == 0 && renameat(dirfd, temporary, dirfd, path) < 0)
		r = -errno;
	if (r < 0) {
		unlinkat(dirfd, temporary, 0);
		return r;
	}
	return fsync_parent_at(dirfd, path);
}

int fs_replace(const char *path, const void *data, size_t n, mode_t mode) {
	return fs_replace_at(AT_FDCWD, path, data, n, mode);
}

ssize_t fs_read_full(int fd, void *to, size_t n) {
	size_t have = 0;
	while (have < n) {
		ssize_t got = RETRY_EINTR(read(fd, (char *)to + have, n - have));
		if (got < 0)
			return -errno;
		if (got == 0)
			break;
		have += (size_t)got;
	}
	return (ssize_t)have;
}

int fs_copy(int from, int to, uint64_t *copied) {
	uint64_t total = 0;
	ssize_t n;
	bool kernel_copies = true;
	while (kernel_copies) {
		n = RETRY_EINTR(copy_file_range(from, NULL, to, NULL, (size_t)1 << 30, 0));
		if (n > 0)
			total += (uint64_t)n;
		else if (n == 0 && total)
			break;
		else
			kernel_copies = false; /* another file system, a pipe, an empty pseudo file */
	}
	_cleanup_(free_ptr) char *chunk = NULL;
	while (!kernel_copies) {
		if (!chunk)
			chunk = alloc_zero(131072);
		n = RETRY_EINTR(read(from, chunk, 131072));
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		int r = fs_write_all(to, chunk, (size_t)n);
		if (r < 0)
			return r;
		total += (uint64_t)n;
	}
	if (copied)
		*copied = total;
	return 0;
}

static int copy_through(int from, int to, size_t n) {
	_cleanup_(free_ptr) char *chunk = alloc_zero(131072);
	while (n) {
		ssize_t got = RETRY_EINTR(read(from, chunk, MIN(n, (size_t)131072)));
		int r = got > 0 ? fs_write_all(to, chunk, (size_t)got) : got < 0 ? -errno : -EIO; /* it became shorter */
		if (r < 0)
			return r;
		n -= (size_t)got;
	}
	return 0;
}

static int copy_range(int from, int to, off_t at, off_t end) {
	if (lseek(from, at, SEEK_SET) < 0 || lseek(to, at, SEEK_SET) < 0)
		return -errno;
	while (at < end) {
		ssize_t n = RETRY_EINTR(copy_file_range(from, NULL, to, NULL, (size_t)(end - at), 0));
		if (n < 0 && (errno == EXDEV || errno == EINVAL || errno == EOPNOTSUPP || errno == ENOSYS))
			return copy_through(from, to, (size_t)(end - at));
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		at += n;
	}
	return 0;
}

int fs_clone(int from, int to) {
	struct stat st;
	if (ioctl(to, FICLONE, from) == 0)
		return 0;
	if (fstat(from, &st) < 0 || ftruncate(to, st.st_size) < 0)
		return -errno;
	for (off_t at = 0, end; (at = lseek(from, at, SEEK_DATA)) >= 0; at = end) {
		end = lseek(from, at, SEEK_HOLE);
		int r = end < 0 ? -errno : copy_range(from, to, at, end);
		if (r < 0)
			return r;
	}
	return errno == ENXIO ? 0 : -errno;
}

int fs_mkdir_p(const char *path, mode_t mode) {
	_cleanup_(free_ptr) char *copy = str_copy(path);
	for (char *p = copy + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		if (mkdir(copy, mode) < 0 && errno != EEXIST)
			return -errno;
		*p = '/';
	}
	if (mkdir(copy, mode) < 0 && errno != EEXIST)
		return -errno;
	return 0;
}

int fs_fsync_dir(const char *path) {
	_cleanup_(close_fd) int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	return fsync(fd) < 0 ? -errno : 0;
}

#define REMOVE_DEPTH 64

/* A removal: whoever made the tree may have nested it deeper than there are descriptors or stack. */
struct removal {
	int top; /* where too deep directories are moved to */
	dev_t dev;
	unsigned moved;
};

static int remove_contents(struct removal *x, int fd, unsigned depth);

static int move_up(struct removal *x, int fd, const char *name) {
	for (;;) {
		char to[32];
		snprintf(to, sizeof to, ".deep-%u", x->moved++);
		if (renameat2(fd, name, x->top, to, RENAME_NOREPLACE) == 0)
			return 0;
		if (errno != EEXIST)
			return -errno;
	}
}

static int remove_directory(struct removal *x, int fd, const char *name, unsigned depth) {
	int sub = openat(fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;
	if (sub < 0)
		return errno == ENOENT ? 0 : -errno;
	if (fstat(sub, &st) < 0 || st.st_dev != x->dev) {
		close(sub);
		return -EXDEV; /* a mount: it is not ours to empty */
	}
	if (depth >= REMOVE_DEPTH) {
		close(sub);
		return move_up(x, fd, name);
	}
	int r = remove_contents(x, sub, depth + 1);
	return r == 0 && unlinkat(fd, name, AT_REMOVEDIR) < 0 && errno != ENOENT ? -errno : r;
}

/* Removes what is in the directory behind fd (owned). */
static int remove_contents(struct removal *x, int fd, unsigned depth) {
	DIR *dir = fdopendir(fd);
	if (!dir) {
		int r = -errno;
		close(fd);
		return r;
	}
	int r = 0;
	unsigned moved;
	do {
		moved = x->moved;
		for (struct dirent *e; r == 0 && (e = readdir(dir));) {
			if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
				continue;
			if (unlinkat(fd, e->d_name, 0) == 0 || errno == ENOENT)
				continue;
			r = errno != EISDIR && errno != EPERM ? -errno : remove_directory(x, fd, e->d_name, depth);
		}
		rewinddir(dir);
	} while (r == 0 && depth == 0 && moved != x->moved);
	closedir(dir);
	return r;
}

int fs_remove_tree_at(int dirfd, const char *name) {
	if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return -errno;
	int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	struct stat st;
	if (fstat(fd, &st) < 0) {
		int r = -errno;
		close(fd);
		return r;
	}
	struct removal x = {.top = fd, .dev = st.st_dev};
	int r = remove_contents(&x, fd, 0);
	if (r < 0)
		return r;
	return unlinkat(dirfd, name, AT_REMOVEDIR) < 0 && errno != ENOENT ? -errno : 0;
}

int fs_remove_tree(const char *path) {
	return fs_remove_tree_at(AT_FDCWD, path);
}

bool fs_exists(const char *path) {
	return access(path, F_OK) == 0;
}

static int open_how(int root, const char *path, int flags, mode_t mode, uint64_t resolve) {
	struct open_how how = {
		.flags = (uint64_t)(flags | O_CLOEXEC),
		.mode = flags & O_CREAT ? mode : 0,
		.resolve = resolve | RESOLVE_NO_MAGICLINKS,
	};
	for (int tries = 0;; tries++) {
		long fd = syscall(SYS_openat2, root, path, &how, sizeof how);
		if (fd >= 0)
			return (int)fd;
		/* EAGAIN: a rename raced with the look-up of "..", openat2(2) asks to try again */
		if ((errno != EAGAIN && errno != EINTR) || tries > 64)
			return -errno;
	}
}

int fs_open_in_root(int root, const char *path, int flags, mode_t mode) {
	return open_how(root, path, flags, mode, RESOLVE_IN_ROOT);
}

int fs_open_beneath(int root, const char *path, int flags, mode_t mode) {
	return open_how(root, path, flags, mode, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
}

int fs_open_within(int root, const char *path, int flags) {
	return open_how(root, path, flags, 0, RESOLVE_BENEATH);
}

int fs_open_entry(int dir, const char *name, int flags) {
	return open_how(dir, name, flags | O_NOFOLLOW, 0, RESOLVE_BENEATH | RESOLVE_NO_XDEV);
}

int fs_names(int dir, char ***names) {
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	DIR *d = fdopendir(fd);
	if (!d) {
		int r = -errno;
		close(fd);
		return r;
	}
	char **v = NULL;
	size_t n = 0, cap = 0;
	errno = 0;
	for (struct dirent *e; (e = readdir(d));) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (n + 2 > cap) {
			cap = cap ? cap * 2 : 32;
			v = alloc_resize(v, cap, sizeof *v);
		}
		v[n++] = str_copy(e->d_name);
		v[n] = NULL;
		errno = 0;
	}
	int r = -errno;
	closedir(d);
	if (r < 0) {
		strv_free(v);
		return r;
	}
	strv_sort(v);
	*names = v;
	return 0;
}

int fs_mkdir_in_root(int root, const char *path, mode_t mode) {
	/* The prefix that exists is looked up from the root, so that links in it resolve inside. */
	_cleanup_(free_ptr) char *prefix = alloc_zero(strlen(path) + 2);
	_cleanup_(close_fd) int dir = fs_open_in_root(root, "/", O_PATH | O_DIRECTORY, 0);
	if (dir < 0)
		return dir;
	struct str rest = str_view(path);
	while (rest.len) {
		struct str part = str_cut(&rest, '/');
		if (part.len == 0 || str_is(part, "."))
			continue;
		size_t have = strlen(prefix);
		prefix[have] = '/';
		memcpy(prefix + have + 1, part.p, part.len);
		prefix[have + 1 + part.len] = '\0';
		int next = fs_open_in_root(root, prefix, O_PATH | O_DIRECTORY, 0);
		if (next == -ENOENT) {
			if (str_is(part, ".."))
				return -ENOENT;
			_cleanup_(free_ptr) char *name = str_copyn(part.p, part.len);
			if (mkdirat(dir, name, mode) < 0 && errno != EEXIST)
				return -errno;
			next = fs_open_in_root(root, prefix, O_PATH | O_DIRECTORY, 0);
		}
		if (next < 0)
			return next;
		close(dir);
		dir = next;
	}
	return TAKE_FD(dir);
}

const char *fd_path(int fd, char out[FD_PATH_MAX]) {
	snprintf(out, FD_PATH_MAX, "/proc/self/fd/%d", fd);
	return out;
}

static int set_flag(int fd, int get, int set, int flag, bool on) {
	int flags = fcntl(fd, get);
	if (flags < 0)
		return -errno;
	int wanted = on ? flags | flag : flags & ~flag;
	return wanted != flags && fcntl(fd, set, wanted) < 0 ? -errno : 0;
}

int fd_set_cloexec(int fd, bool on) {
	return set_flag(fd, F_GETFD, F_SETFD, FD_CLOEXEC, on);
}

int fd_set_nonblock(int fd, bool on) {
	return set_flag(fd, F_GETFL, F_SETFL, O_NONBLOCK, on);
}
