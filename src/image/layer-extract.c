/* Writing the entries of an archive below a root.
 *
 * Directories get their owner, mode, xattrs and times last, when nothing is written into them any more.
 * Nothing here trusts a name: the parent of each entry is opened inside root, the last component is never
 * followed. */
#include "image/layer-extract.h"

#include "base/fs.h"
#include "base/str.h"
#include "base/time.h"
#include "image/layer-walk.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#define DEFAULT_MAX_ENTRIES ((uint64_t)10000000)
#define XATTRS_MAX 256

struct xattr {
	char *name;
	void *value;
	size_t len;
};

/* What an entry says about its file. */
struct meta {
	uint32_t uid, gid;
	mode_t mode;
	struct timespec times[2];
	struct xattr *xattrs;
	size_t n_xattrs;
};

struct late_dir {
	char *path;
	dev_t dev;
	ino_t ino;
	struct meta meta;
};

struct run {
	struct extract *x;
	struct archive *a;
	/* the entry at hand: path inside root is dir "/" name */
	const char *shown;
	char *dir, *name;
	/* the directory that was used last */
	char *cached;
	int cached_fd;
	struct late_dir *late;
	size_t n_late, cap_late;
};

static void meta_free(struct meta *m) {
	for (size_t i = 0; i < m->n_xattrs; i++) {
		free(m->xattrs[i].name);
		free(m->xattrs[i].value);
	}
	free(m->xattrs);
	*m = (struct meta){0};
}

static void run_free(struct run *r) {
	for (size_t i = 0; i < r->n_late; i++) {
		free(r->late[i].path);
		meta_free(&r->late[i].meta);
	}
	free(r->late);
	free(r->dir);
	free(r->name);
	free(r->cached);
	close_fd(&r->cached_fd);
}

static int fail(const struct run *r, int errnum, const char *what, struct error *err) {
	return error_errno(err, errnum, "cannot %s \"%s\"", what, r->shown);
}

/* Splits an archive's path into the clean path of its directory ("" for the root) and its name (""
 * when it is the root itself). */
static int split_path(const char *path, const char *base, char **dir, char **name, struct error *err) {
	if (strlen(path) > TREE_PATH_MAX)
		return error_set(err, ERROR_INVALID, "the archive has a path of more than %d bytes: \"%.64s…\"",
				 TREE_PATH_MAX, path);
	_cleanup_(buf_free) struct buf clean = BUF_INIT;
	struct str rest = str_view(path), last = {0};
	while (rest.len) {
		struct str part = str_cut(&rest, '/');
		if (part.len == 0 || str_is(part, "."))
			continue;
		if (str_is(part, ".."))
			return error_set(err, ERROR_INVALID, "the archive has a path with \"..\": \"%s\"", path);
		if (last.len) {
			buf_addc(&clean, '/');
			buf_add(&clean, last.p, last.len);
		}
		last = part;
	}
	*name = str_copyn(last.p ? last.p : "", last.len);
	*dir = str_format("%s%s", base ? base : "", buf_str(&clean));
	return 0;
}

static char *entry_path(const struct run *r) {
	return r->name[0] ? str_format("%s/%s", r->dir, r->name) : str_copy(r->dir);
}

static void drop_cache(struct run *r) {
	free(TAKE_PTR(r->cached));
	close_fd(&r->cached_fd);
	r->cached_fd = -1;
}

static int open_dir(int root, const char *path) {
	return tree_open_in(root, path[0] ? path : "/", O_PATH | O_DIRECTORY, 0);
}

static void add_opaque(struct run *r, const char *path) {
	if (r->x->layer)
		strv_take(&r->x->opaque, str_copy(path));
}

/* One missing (or, in a layer, whited-out) component of a parent directory. */
static int make_parent(struct run *r, int at, const char *name, const char *path) {
	mode_t mode = 0755;
	if (mkdirat(at, name, mode) < 0) {
		struct stat st;
		if (errno != EEXIST || fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			return -errno;
		if (!r->x->layer || !tree_is_whiteout(&st))
			return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
		if (unlinkat(at, name, 0) < 0 || mkdirat(at, name, mode) < 0)
			return -errno;
		add_opaque(r, path);
	}
	uint32_t owner = tree_id_shift(0, r->x->uid_base);
	return owner && fchownat(at, name, owner, owner, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

/* From the directory `at` on to its entry `name`, whose whole path is given. Only links and ".." (in the base)
 * ask for a look-up from the root, or else a deep path would take time of its square. */
static int enter_dir(struct run *r, int at, const char *name, const char *path) {
	if (strcmp(name, "..") == 0)
		return open_dir(r->x->root, path);
	_cleanup_(close_fd) int fd = fs_open_entry(at, name, O_PATH);
	struct stat st;
	if (fd < 0 && fd != -ENOENT)
		return fd;
	if (fd >= 0 && fstat(fd, &st) < 0)
		return -errno;
	if (fd >= 0 && S_ISDIR(st.st_mode))
		return TAKE_FD(fd);
	if (fd >= 0 && S_ISLNK(st.st_mode)) {
		int to = open_dir(r->x->root, path);
		return to == -ENOENT ? -ENOTDIR : to; /* what a link dangles to is not made */
	}
	int e = make_parent(r, at, name, path);
	return e < 0 ? e : fs_open_entry(at, name, O_PATH);
}

static int make_dirs(struct run *r, const char *path) {
	_cleanup_(free_ptr) char *prefix = alloc_zero(strlen(path) + 2);
	size_t have = 0;
	_cleanup_(close_fd) int at = open_dir(r->x->root, "");
	if (at < 0)
		return at;
	struct str rest = str_view(path);
	while (rest.len) {
		struct str part = str_cut(&rest, '/');
		if (part.len == 0)
			continue;
		char *name = prefix + have + 1;
		prefix[have] = '/';
		memcpy(name, part.p, part.len);
		have += 1 + part.len;
		int next = enter_dir(r, at, name, prefix);
		if (next < 0)
			return next;
		close(at);
		at = next;
	}
	return TAKE_FD(at);
}

/* The directory of the entry at hand, made if it is missing; the descriptor stays the run's. */
static int parent_dir(struct run *r, struct error *err) {
	if (r->cached && strcmp(r->cached, r->dir) == 0)
		return r->cached_fd;
	drop_cache(r);
	int fd = open_dir(r->x->root, r->dir);
	if (fd == -ENOENT || fd == -ENOTDIR)
		fd = make_dirs(r, r->dir);
	if (fd == -EXDEV)
		return error_set(err, ERROR_INVALID, "\"%s\" lies on another mount: unpack into that one itself",
				 r->shown);
	if (fd < 0)
		return fail(r, fd, "make the directory of", err);
	r->cached = str_copy(r->dir);
	return r->cached_fd = fd;
}

static uint32_t owner_of(const struct run *r, int64_t id) {
	if (r->x->layer)
		return (uint32_t)id;
	return tree_id_shift(r->x->keep_owner && id >= 0 ? (uint64_t)id : 0, r->x->uid_base);
}

static bool wanted_xattr(const char *name) {
	return !str_starts(name, "trusted.") && !str_starts(name, "user.overlay.") &&
	       (!str_starts(name, "system.") || str_starts(name, "system.posix_acl_"));
}

static int read_xattrs(struct run *r, struct archive_entry *e, struct meta *m, struct error *err) {
	int n = archive_entry_xattr_reset(e);
	if (n > XATTRS_MAX)
		return error_set(err, ERROR_TOO_LARGE, "\"%s\" has %d extended attributes, the most is %d", r->shown, n,
				 XATTRS_MAX);
	if (n <= 0)
		return 0;
	m->xattrs = alloc_array((size_t)n, sizeof *m->xattrs);
	const char *name;
	const void *value;
	size_t len;
	while (m->n_xattrs < (size_t)n && archive_entry_xattr_next(e, &name, &value, &len) == ARCHIVE_OK) {
		if (!name || !wanted_xattr(name))
			continue;
		if (len > TREE_XATTR_MAX)
			return error_set(err, ERROR_TOO_LARGE,
					 "the extended attribute %s of \"%s\" has %zu bytes, the most is %zu", name,
					 r->shown, len, TREE_XATTR_MAX);
		struct xattr x = {
			.name = str_copy(name), .value = alloc_zero(MAX(len, (size_t)TREE_CAP_MAX)), .len = len};
		if (len)
			memcpy(x.value, value, len);
		m->xattrs[m->n_xattrs++] = x;
		if (strcmp(name, "security.capability") != 0)
			continue;
		ssize_t shifted = tree_cap_shift(x.value, len, r->x->uid_base);
		if (shifted < 0)
			return error_set(err, ERROR_INVALID, "the file capabilities of \"%s\" are malformed", r->shown);
		m->xattrs[m->n_xattrs - 1].len = (size_t)shifted;
	}
	return 0;
}

static int read_meta(struct run *r, struct archive_entry *e, struct meta *m, struct error *err) {
	int64_t uid = archive_entry_uid(e), gid = archive_entry_gid(e);
	if (r->x->layer && (uid < 0 || gid < 0 || uid >= UINT32_MAX || gid >= UINT32_MAX))
		return error_set(err, ERROR_INVALID, "\"%s\" has an owner that no file can have", r->shown);
	long nsec = archive_entry_mtime_nsec(e);
	struct timespec t = {.tv_sec = archive_entry_mtime(e), .tv_nsec = nsec >= 0 && nsec < NS_PER_SEC ? nsec : 0};
	*m = (struct meta){
		.uid = owner_of(r, uid),
		.gid = owner_of(r, gid),
		.mode = archive_entry_perm(e) & 07777,
		.times = {t, t},
	};
	return read_xattrs(r, e, m, err);
}

static int set_xattrs(struct run *r, int fd, const struct meta *m, struct error *err) {
	for (size_t i = 0; i < m->n_xattrs; i++) {
		const struct xattr *x = &m->xattrs[i];
		if (fsetxattr(fd, x->name, x->value, x->len, 0) == 0 || errno == EOPNOTSUPP)
			continue;
		/* labels of security modules that this host does not run */
		if (errno == EPERM && str_starts(x->name, "security.") && strcmp(x->name, "security.capability") != 0)
			continue;
		int e = errno == ENOSPC && x->len > 2048 ? E2BIG : errno; /* a value the file system has no room for */
		return error_errno(err, e, "cannot set the extended attribute %s of \"%s\"", x->name, r->shown);
	}
	return 0;
}

/* chown takes setuid bits and capabilities away, so it comes first. A new file of a layer has owner 0:0 and
 * its plain mode bits already; a directory was made with more. */
static int set_meta_fd(struct run *r, int fd, const struct meta *m, bool is_dir, struct error *err) {
	bool own = m->uid || m->gid || !r->x->layer;
	if (own && fchown(fd, m->uid, m->gid) < 0)
		return fail(r, errno, "set the owner of", err);
	if ((own || is_dir || m->mode & 07000) && fchmod(fd, m->mode) < 0)
		return fail(r, errno, "set the mode of", err);
	int e = set_xattrs(r, fd, m, err);
	if (e < 0)
		return e;
	return futimens(fd, m->times) < 0 ? fail(r, errno, "set the time of", err) : 0;
}

/* Links and special files; they were made with their mode. Their xattrs cannot be set by descriptor, and
 * neither user.* nor capabilities exist on them. */
static int set_meta_at(struct run *r, int dir, const struct meta *m, struct error *err) {
	if (fchownat(dir, r->name, m->uid, m->gid, AT_SYMLINK_NOFOLLOW) < 0)
		return fail(r, errno, "set the owner of", err);
	if (utimensat(dir, r->name, m->times, AT_SYMLINK_NOFOLLOW) < 0)
		return fail(r, errno, "set the time of", err);
	return 0;
}

/* Takes away what is in the place of the entry at hand. */
static int clear_place(struct run *r, int dir, bool for_dir, struct error *err) {
	struct stat st;
	if (fstatat(dir, r->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : fail(r, errno, "look at", err);
	if (r->x->no_overwrite_dir && S_ISDIR(st.st_mode) != for_dir)
		return error_set(err, ERROR_CONFLICT, "cannot overwrite %s \"%s\" with %s",
				 for_dir ? "what is no directory," : "directory", r->shown,
				 for_dir ? "a directory" : "what is none");
	_cleanup_(close_fd) int there = fs_open_entry(dir, r->name, O_PATH);
	if (there == -EXDEV) /* a volume of a running container */
		return fail(r, EBUSY, "replace the mount", err);
	int e = fs_remove_tree_at(dir, r->name);
	return e < 0 ? fail(r, e, "replace", err) : 0;
}

/* Runs `make`, which gives an -errno; once more after clearing the place when something is there. */
#define MAKE_IN_PLACE(r, dir, make, err)                                                                               \
	({                                                                                                             \
		int made_ = (make) < 0 ? -errno : 0;                                                                   \
		if (made_ == -EEXIST) {                                                                                \
			made_ = clear_place(r, dir, false, err);                                                       \
			if (made_ == 0 && (make) < 0)                                                                  \
				made_ = fail(r, errno, "make", err);                                                   \
		} else if (made_ < 0) {                                                                                \
			made_ = fail(r, made_, "make", err);                                                           \
		}                                                                                                      \
		made_;                                                                                                 \
	})

static int write_block(int fd, const uint8_t *p, size_t n, off_t offset) {
	while (n) {
		ssize_t w = RETRY_EINTR(pwrite(fd, p, n, offset));
		if (w < 0)
			return -errno;
		p += w;
		n -= (size_t)w;
		offset += w;
	}
	return 0;
}

static int write_data(struct run *r, int fd, int64_t size, struct error *err) {
	int64_t end = 0;
	for (;;) {
		const void *block;
		size_t n;
		la_int64_t offset;
		int z = archive_read_data_block(r->a, &block, &n, &offset);
		if (z == ARCHIVE_EOF)
			break;
		if (z == ARCHIVE_RETRY)
			continue;
		if (z < ARCHIVE_WARN || offset < 0)
			return error_set(err, ERROR_CORRUPT, "the archive is damaged at \"%s\": %s", r->shown,
					 z < ARCHIVE_WARN ? archive_error_string(r->a) : "negative offset");
		int e = write_block(fd, block, n, offset);
		if (e < 0)
			return fail(r, e, "write", err);
		end = MAX(end, (int64_t)(offset + (int64_t)n));
		r->x->size += n;
		if (r->x->progress)
			r->x->progress(r->x->arg);
	}
	if (end < size && ftruncate(fd, size) < 0)
		return fail(r, errno, "extend", err);
	return 0;
}

static int put_file(struct run *r, int dir, struct archive_entry *e, const struct meta *m, struct error *err) {
	_cleanup_(close_fd) int fd = -1;
	int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
	int z = MAKE_IN_PLACE(r, dir, fd = openat(dir, r->name, flags, m->mode & 0777), err);
	if (z == 0)
		z = write_data(r, fd, archive_entry_size(e), err);
	return z < 0 ? z : set_meta_fd(r, fd, m, false, err);
}

static int put_symlink(struct run *r, int dir, struct archive_entry *e, const struct meta *m, struct error *err) {
	const char *to = archive_entry_symlink(e);
	if (!to || !to[0] || strlen(to) >= TREE_PATH_MAX)
		return error_set(err, ERROR_INVALID, "the symbolic link \"%s\" has %s target", r->shown,
				 to && to[0] ? "too long a" : "no");
	int z = MAKE_IN_PLACE(r, dir, symlinkat(to, dir, r->name), err);
	return z < 0 ? z : set_meta_at(r, dir, m, err);
}

static int put_node(struct run *r, int dir, struct archive_entry *e, const struct meta *m, struct error *err) {
	mode_t type = archive_entry_filetype(e);
	dev_t device = type == AE_IFIFO
			       ? 0
			       : makedev((unsigned)archive_entry_rdevmajor(e), (unsigned)archive_entry_rdevminor(e));
	if (type == AE_IFCHR && device == 0)
		return error_set(err, ERROR_INVALID, "\"%s\" is a character device 0:0, which would delete a file",
				 r->shown);
	int z = MAKE_IN_PLACE(r, dir, mknodat(dir, r->name, type | m->mode, device), err);
	return z < 0 ? z : set_meta_at(r, dir, m, err);
}

static int put_hardlink(struct run *r, int dir, const char *to, struct error *err) {
	_cleanup_(free_ptr) char *to_dir = NULL, *to_name = NULL;
	int z = split_path(to, r->x->base, &to_dir, &to_name, err);
	if (z < 0)
		return z;
	_cleanup_(close_fd) int from = open_dir(r->x->root, to_dir);
	struct stat st, there;
	int e = from < 0 ? from : fstatat(from, to_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
	if (e == -ENOENT || e == -ENOTDIR || (e == 0 && tree_is_whiteout(&st)))
		return error_set(err, ERROR_INVALID,
				 "the hard link \"%s\" points to \"%s\", which the archive does not have before it",
				 r->shown, to);
	if (e < 0)
		return fail(r, e, "look at the target of", err);
	if (S_ISDIR(st.st_mode))
		return error_set(err, ERROR_INVALID, "the hard link \"%s\" points to the directory \"%s\"", r->shown,
				 to);
	if (fstatat(dir, r->name, &there, AT_SYMLINK_NOFOLLOW) == 0 && there.st_ino == st.st_ino &&
	    there.st_dev == st.st_dev)
		return 0; /* to itself; clearing the place would delete it */
	return MAKE_IN_PLACE(r, dir, linkat(from, to_name, dir, r->name, 0), err);
}

/* Takes m over. */
static int remember_dir(struct run *r, int fd, struct meta *m, struct error *err) {
	struct stat st;
	if (fstat(fd, &st) < 0)
		return fail(r, errno, "look at", err);
	if (r->n_late == r->cap_late) {
		r->cap_late = r->cap_late ? r->cap_late * 2 : 64;
		r->late = alloc_resize(r->late, r->cap_late, sizeof *r->late);
	}
	r->late[r->n_late++] = (struct late_dir){.path = entry_path(r), .dev = st.st_dev, .ino = st.st_ino, .meta = *m};
	*m = (struct meta){0};
	return 0;
}

static int put_dir(struct run *r, int dir, struct meta *m, struct error *err) {
	mode_t mode = (m->mode & 0777) | 0700;
	if (mkdirat(dir, r->name, mode) < 0) {
		struct stat st;
		if (errno != EEXIST || fstatat(dir, r->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			return fail(r, errno, "make", err);
		if (!S_ISDIR(st.st_mode)) {
			int e = clear_place(r, dir, true, err);
			if (e < 0)
				return e;
			if (mkdirat(dir, r->name, mode) < 0)
				return fail(r, errno, "make", err);
			/* what a lower layer has here was gone before this directory came */
			_cleanup_(free_ptr) char *path = entry_path(r);
			add_opaque(r, path);
		}
	}
	_cleanup_(close_fd) int fd = openat(dir, r->name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return fail(r, errno, "open", err);
	return remember_dir(r, fd, m, err);
}

static int put_root(struct run *r, struct archive_entry *e, struct meta *m, struct error *err) {
	if (archive_entry_hardlink(e) || archive_entry_filetype(e) != AE_IFDIR)
		return error_set(err, ERROR_INVALID, "the archive's \"%s\" is the root and must be a directory",
				 r->shown);
	if (r->x->no_overwrite_dir)
		return 0;
	int fd = parent_dir(r, err);
	return fd < 0 ? fd : remember_dir(r, fd, m, err);
}

/* ".wh.NAME" hides what lower layers have under that name; what this layer has there stays, and if that
 * is a directory, it does not show the lower one's entries. */
static int put_whiteout(struct run *r, int dir, struct error *err) {
	memmove(r->name, r->name + 4, strlen(r->name + 4) + 1);
	if (!r->name[0] || strcmp(r->name, ".") == 0 || strcmp(r->name, "..") == 0)
		return error_set(err, ERROR_INVALID, "\"%s\" hides no possible name", r->shown);
	if (mknodat(dir, r->name, S_IFCHR, makedev(0, 0)) == 0)
		return 0;
	struct stat st;
	if (errno != EEXIST || fstatat(dir, r->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return fail(r, errno, "make the whiteout", err);
	if (S_ISDIR(st.st_mode)) {
		_cleanup_(free_ptr) char *path = entry_path(r);
		add_opaque(r, path);
	}
	return 0;
}

/* Does a component of the path begin with ".wh..wh."? That is aufs' own housekeeping. */
static bool is_aufs_private(const struct run *r) {
	if (str_starts(r->name, ".wh..wh."))
		return true;
	for (const char *p = r->dir; (p = strstr(p, ".wh..wh.")); p++)
		if (p == r->dir || p[-1] == '/')
			return true;
	return false;
}

static int put_entry(struct run *r, struct archive_entry *e, struct meta *m, struct error *err) {
	if (!r->name[0])
		return put_root(r, e, m, err);
	bool mark = r->x->layer && strcmp(r->name, ".wh..wh..opq") == 0;
	if (r->x->layer && !mark && is_aufs_private(r))
		return 0;
	const char *link = archive_entry_hardlink(e);
	mode_t type = archive_entry_filetype(e);
	if (!link && type == AE_IFSOCK)
		return 0;
	int dir = parent_dir(r, err);
	if (dir < 0)
		return dir;
	if (mark) {
		add_opaque(r, r->dir);
		return 0;
	}
	if (r->x->layer && str_starts(r->name, ".wh."))
		return put_whiteout(r, dir, err);
	if (link)
		return put_hardlink(r, dir, link, err);
	switch (type) {
	case AE_IFDIR:
		return put_dir(r, dir, m, err);
	case AE_IFREG:
		return put_file(r, dir, e, m, err);
	case AE_IFLNK:
		return put_symlink(r, dir, e, m, err);
	case AE_IFCHR:
	case AE_IFBLK:
	case AE_IFIFO:
		return put_node(r, dir, e, m, err);
	default:
		return error_set(err, ERROR_CORRUPT, "\"%s\" has an unknown type", r->shown);
	}
}

static int extract_entry(struct run *r, struct archive_entry *e, struct error *err) {
	r->shown = archive_entry_pathname(e);
	if (!r->shown)
		return error_set(err, ERROR_CORRUPT, "the archive has an entry without a name");
	free(TAKE_PTR(r->dir));
	free(TAKE_PTR(r->name));
	int z = split_path(r->shown, r->x->base, &r->dir, &r->name, err);
	if (z < 0)
		return z;
	_cleanup_(meta_free) struct meta m = {0};
	z = read_meta(r, e, &m, err);
	return z < 0 ? z : put_entry(r, e, &m, err);
}

static int finish_dirs(struct run *r, struct error *err) {
	for (size_t i = 0; i < r->n_late; i++) {
		struct late_dir *d = &r->late[i];
		r->shown = d->path[0] ? d->path : "/";
		_cleanup_(close_fd) int fd = tree_open_in(r->x->root, r->shown, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
		struct stat st;
		if (fd < 0 || fstat(fd, &st) < 0 || st.st_ino != d->ino || st.st_dev != d->dev)
			continue; /* a later entry has replaced it */
		int z = set_meta_fd(r, fd, &d->meta, true, err);
		if (z < 0)
			return z;
	}
	return 0;
}

int extract_archive(struct extract *x, struct archive *a, struct error *err) {
	_cleanup_(run_free) struct run r = {.x = x, .a = a, .cached_fd = -1};
	uint64_t max = x->max_entries ? x->max_entries : DEFAULT_MAX_ENTRIES;
	for (uint64_t n = 0;; n++) {
		struct archive_entry *e;
		int z = archive_read_next_header(a, &e);
		if (z == ARCHIVE_EOF)
			break;
		if (z == ARCHIVE_RETRY)
			continue;
		/* a warning: a name that is not of this locale; it is taken byte by byte */
		if (z < ARCHIVE_WARN)
			return error_set(err, ERROR_CORRUPT, "the archive is damaged: %s", archive_error_string(a));
		if (n == max)
			return error_set(err, ERROR_TOO_LARGE, "the archive has more than %llu entries",
					 (unsigned long long)max);
		z = extract_entry(&r, e, err);
		if (z < 0)
			return z;
		if (x->progress)
			x->progress(x->arg);
	}
	return finish_dirs(&r, err);
}
