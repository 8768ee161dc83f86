/* Copying a tree that strangers filled: everything is read beneath descriptors, the copy is made in a directory that
 * nobody else can reach yet. Files with several links are held by one more link in a directory of the copy's own meanwhile. */
#include "driver/storage/storage-priv.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#define HELD ".wabe-links"

struct above {
	dev_t dev;
	ino_t ino;
};

struct tree_copy {
	const struct owner_shift *shift;
	struct copying *c;
	int out;  /* the directory that is being filled */
	int held; /* the directory of links; -1: none yet */
	int root;
	struct above *above;
	size_t n, cap;
	struct map *seen;
};

static void tree_copy_free(struct tree_copy *t) {
	close_fd(&t->out);
	close_fd(&t->held);
	close_fd(&t->root);
	free(t->above);
	map_free(t->seen);
}

static int set_attributes(struct tree_copy *t, int in, const char *from, const char *to, const struct stat *st,
			  const char *path, struct error *err) {
	_cleanup_(storage_xattrs_free) xattrs attrs = {0};
	struct timespec times[2] = {st->st_atim, st->st_mtim};
	size_t failed = 0;
	int r = storage_xattrs_read(in, from, t->shift, &attrs);
	if (r == 0 && fchownat(t->out, to, storage_owner(t->shift, st->st_uid), storage_owner(t->shift, st->st_gid),
			       AT_SYMLINK_NOFOLLOW) < 0)
		r = -errno;
	if (r == 0 && !S_ISLNK(st->st_mode) && fchmodat(t->out, to, st->st_mode & 07777, 0) < 0)
		r = -errno;
	if (r < 0)
		return error_errno(err, r, "cannot copy the owner and mode of %s", path);
	r = storage_xattrs_write(t->out, to, &attrs, &failed);
	if (r < 0)
		return error_errno(err, r, "cannot copy the attribute %s of %s", attrs.items[failed].name, path);
	if (utimensat(t->out, to, times, AT_SYMLINK_NOFOLLOW) < 0)
		return error_errno(err, errno, "cannot copy the times of %s", path);
	return 0;
}

static int copy_regular(struct tree_copy *t, int dir, const char *name, const struct stat *st) {
	_cleanup_(close_fd) int in = fs_open_entry(dir, name, O_RDONLY | O_NONBLOCK);
	if (in < 0)
		return in;
	struct stat now;
	if (fstat(in, &now) < 0)
		return -errno;
	if (now.st_ino != st->st_ino || !S_ISREG(now.st_mode))
		return -ESTALE;
	_cleanup_(close_fd) int out = openat(t->out, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	return out < 0 ? -errno : storage_copy_content(in, out, now.st_size, t->c);
}

static int copy_symlink(struct tree_copy *t, int dir, const char *name) {
	char target[PATH_MAX];
	ssize_t n = readlinkat(dir, name, target, sizeof target - 1);
	if (n < 0)
		return -errno;
	target[n] = '\0';
	return symlinkat(target, t->out, name) < 0 ? -errno : 0;
}

static void held_name(const struct stat *st, char out[48]) {
	snprintf(out, 48, "%jx-%jx", (uintmax_t)st->st_dev, (uintmax_t)st->st_ino);
}

/* One more link to what was copied, for those that come. */
static int hold(struct tree_copy *t, const char *name, const struct stat *st) {
	char as[48];
	held_name(st, as);
	if (t->held < 0) {
		if (mkdirat(t->root, HELD, 0700) < 0)
			return -errno;
		t->held = openat(t->root, HELD, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (t->held < 0)
			return -errno;
	}
	return linkat(t->out, name, t->held, as, 0) < 0 ? -errno : 0;
}

static int copy_entry(void *arg, int dir, const char *name, const struct stat *st, const char *path, struct error *err) {
	struct tree_copy *t = arg;
	if (storage_seen_before(t->seen, st)) {
		char as[48];
		held_name(st, as);
		return linkat(t->held, as, t->out, name, 0) < 0 ? error_errno(err, errno, "cannot copy the link %s", path) : 0;
	}
	int r;
	if (S_ISREG(st->st_mode))
		r = copy_regular(t, dir, name, st);
	else if (S_ISLNK(st->st_mode))
		r = copy_symlink(t, dir, name);
	else
		r = mknodat(t->out, name, (st->st_mode & S_IFMT) | 0600, st->st_rdev) < 0 ? -errno : 0;
	if (r < 0)
		return error_errno(err, r, "cannot copy %s", path);
	r = set_attributes(t, dir, name, name, st, path, err);
	if (r == 0 && st->st_nlink > 1) {
		r = hold(t, name, st);
		if (r < 0)
			return error_errno(err, r, "cannot keep a link to the copy of %s", path);
	}
	return r;
}

static int copy_enter(void *arg, int parent, const char *name, const struct stat *st, const char *path,
		      struct error *err) {
	struct tree_copy *t = arg;
	struct stat up;
	(void)parent, (void)st;
	if (!name)
		return 0;
	if (fstat(t->out, &up) < 0)
		return error_errno(err, errno, "cannot read the copy of %s", path);
	if (t->n == t->cap) {
		t->cap = t->cap ? 2 * t->cap : 32;
		t->above = alloc_resize(t->above, t->cap, sizeof *t->above);
	}
	t->above[t->n++] = (struct above){up.st_dev, up.st_ino};
	_cleanup_(close_fd) int out = mkdirat(t->out, name, 0700) < 0 ? -errno : fs_open_entry(t->out, name, O_RDONLY | O_DIRECTORY);
	if (out < 0)
		return error_errno(err, out, "cannot make the copy of the directory %s", path);
	close_fd(&t->out);
	t->out = TAKE_FD(out);
	return 0;
}

static int copy_leave(void *arg, int dir, const struct stat *st, const char *path, struct error *err) {
	struct tree_copy *t = arg;
	int r = set_attributes(t, dir, ".", ".", st, *path ? path : "the tree's root", err);
	if (r < 0 || t->n == 0)
		return r;
	int up = openat(t->out, "..", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat there;
	if (up < 0 || fstat(up, &there) < 0) {
		r = error_errno(err, errno, "cannot go on behind the copy of %s", path);
		close_fd(&up);
		return r;
	}
	close_fd(&t->out);
	t->out = up;
	const struct above *was = &t->above[--t->n];
	if (there.st_dev != was->dev || there.st_ino != was->ino)
		return error_set(err, ERROR_CONFLICT, "the copy of %s was moved while it was made", path);
	return 0;
}

/* Takes the links away again; the root's times are set anew, as that has changed it. */
static int let_go(struct tree_copy *t, const char *from, struct error *err) {
	if (t->held < 0)
		return 0;
	struct stat st;
	int r = fs_remove_tree_at(t->root, HELD);
	if (r == 0 && stat(from, &st) < 0)
		r = -errno;
	struct timespec times[2] = {st.st_atim, st.st_mtim};
	if (r == 0 && utimensat(t->root, ".", times, 0) < 0)
		r = -errno;
	return r < 0 ? error_errno(err, r, "cannot remove the links kept in the copy") : 0;
}

int storage_tree_copy(const char *from, const char *to, const struct owner_shift *s, struct copying *c,
		      struct error *err) {
	_cleanup_(tree_copy_free) struct tree_copy t = {.shift = s, .c = c, .out = -1, .held = -1, .root = -1};
	t.seen = map_new(NULL);
	t.root = open(to, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	t.out = t.root < 0 ? -1 : fcntl(t.root, F_DUPFD_CLOEXEC, 3);
	if (t.out < 0)
		return error_errno(err, errno, "cannot open %s", to);
	_cleanup_(strv_free_ptr) char **there = NULL;
	int r = fs_names(t.root, &there);
	if (r == 0 && there)
		return error_set(err, ERROR_CONFLICT, "%s is not empty", to);
	if (r < 0)
		return error_errno(err, r, "cannot read %s", to);
	r = storage_tree_walk(from, &(struct tree_visitor){copy_enter, copy_entry, copy_leave, &t}, err);
	return r < 0 ? r : let_go(&t, from, err);
}
