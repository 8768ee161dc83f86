/* Copying the content of files and devices: shared extents where the file system has them, else as the kernel copies
 * best, holes kept; and storage_copy_tree, storage_copy_block with their checks. */
#include "driver/storage/storage-priv.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define CHUNK ((size_t)1 << 20)
#define REFRESHED 4096
#define AT_ONCE (INT64_C(64) << 20) /* by the kernel, between two reports */

static void report(struct copying *c, int64_t n) {
	c->done += n;
	if (c->report && c->report->progress)
		c->report->progress(c->report->arg, MIN(c->done, c->total), c->total);
}

static bool all_zero(const char *p, size_t n) {
	return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}

static int write_at(int fd, const char *p, size_t n, int64_t at) {
	while (n) {
		ssize_t w = RETRY_EINTR(pwrite(fd, p, n, at));
		if (w < 0)
			return -errno;
		p += w;
		n -= (size_t)w;
		at += w;
	}
	return 0;
}

/* By hand; zeros are left out where the target reads as zeros already. */
static int copy_by_hand(int from, int to, int64_t at, int64_t end, bool target_zero, struct copying *c) {
	_cleanup_(free_ptr) char *chunk = alloc_zero(CHUNK);
	while (at < end) {
		ssize_t n = RETRY_EINTR(pread(from, chunk, (size_t)MIN((int64_t)CHUNK, end - at), at));
		if (n < 0)
			return -errno;
		if (n == 0)
			return 0; /* it became shorter: the check finds it */
		int r = target_zero && all_zero(chunk, (size_t)n) ? 0 : write_at(to, chunk, (size_t)n, at);
		if (r < 0)
			return r;
		at += n;
		report(c, n);
	}
	return 0;
}

static int copy_segment(int from, int to, int64_t at, int64_t end, bool kernel, bool target_zero, struct copying *c) {
	while (kernel && at < end) {
		loff_t in = at, out = at;
		ssize_t n = RETRY_EINTR(copy_file_range(from, &in, to, &out, (size_t)MIN(AT_ONCE, end - at), 0));
		if (n < 0 && (errno == ENOSPC || errno == EDQUOT || errno == EIO))
			return -errno;
		if (n <= 0)
			break; /* between these two files the kernel does not */
		at += n;
		report(c, n);
	}
	return copy_by_hand(from, to, at, end, target_zero, c);
}

int storage_copy_content(int from, int to, int64_t size, struct copying *c) {
	struct stat in, out;
	if (fstat(from, &in) < 0 || fstat(to, &out) < 0)
		return -errno;
	bool files = S_ISREG(in.st_mode) && S_ISREG(out.st_mode);
	if (files && !c->no_reflink) {
		if (ioctl(to, FICLONE, from) == 0) {
			report(c, size);
			return 0;
		}
		if (errno == ENOSPC || errno == EDQUOT || c->reflink_only)
			return -errno;
		c->no_reflink = true;
	}
	if (S_ISREG(out.st_mode) && (ftruncate(to, 0) < 0 || ftruncate(to, size) < 0))
		return -errno;
	bool target_zero = S_ISREG(out.st_mode);
	if (S_ISBLK(out.st_mode)) {
		uint64_t range[2] = {0, (uint64_t)size};
		target_zero = ioctl(to, BLKZEROOUT, range) == 0;
	}
	bool skip = S_ISREG(in.st_mode) && target_zero; /* holes */
	int64_t at = 0;
	while (at < size) {
		int64_t data = skip ? lseek(from, at, SEEK_DATA) : at;
		if (data < 0 && errno == ENXIO)
			break; /* only a hole is left */
		int64_t hole = data < 0 || !skip ? size : lseek(from, data, SEEK_HOLE);
		data = MAX(data, at);
		int r = copy_segment(from, to, data, hole < 0 ? size : MIN(hole, size), files, target_zero, c);
		if (r < 0)
			return r;
		at = hole < 0 ? size : hole;
	}
	return 0;
}

int storage_copy_file(const char *from, const char *to, bool reflink_only, struct error *err) {
	_cleanup_(close_fd) int in = open(from, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	_cleanup_(close_fd) int out = in < 0 ? -1 : open(to, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	struct stat st;
	struct copying c = {.reflink_only = reflink_only};
	int r = in < 0 || out < 0 || fstat(in, &st) < 0 ? -errno : storage_copy_content(in, out, st.st_size, &c);
	if (r == 0 && fsync(out) < 0)
		r = -errno;
	return r < 0 ? error_errno(err, r, "cannot copy %s", from) : 0;
}

/* What is the same stays as it is, and so stays shared with the snapshots of it. */
static int refresh_content(int from, int to, int64_t size, struct copying *c) {
	_cleanup_(free_ptr) char *new = alloc_zero(CHUNK), *old = alloc_zero(CHUNK);
	for (int64_t at = 0; at < size;) {
		size_t step = (size_t)MIN((int64_t)CHUNK, size - at);
		ssize_t n = RETRY_EINTR(pread(from, new, step, at)), have = RETRY_EINTR(pread(to, old, step, at));
		if (n < 0 || have < 0)
			return -errno;
		if (n == 0)
			return 0; /* it became shorter: the check finds it */
		for (ssize_t i = 0; i < n; i += REFRESHED) {
			size_t len = (size_t)MIN((ssize_t)REFRESHED, n - i);
			bool same = i + (ssize_t)len <= have && memcmp(new + i, old + i, len) == 0;
			int r = same ? 0 : write_at(to, new + i, len, at + i);
			if (r < 0)
				return r;
		}
		at += n;
		report(c, n);
	}
	return 0;
}

bool storage_can_reflink(const char *dir) {
	_cleanup_(close_fd) int a = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	_cleanup_(close_fd) int b = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	static const char block[4096] = "x";
	return a >= 0 && b >= 0 && write(a, block, sizeof block) == sizeof block && ioctl(b, FICLONE, a) == 0;
}

/* --- with checks --- */

static int compare(const char *a, const char *b, const char *from, const char *to, struct error *err) {
	if (strcmp(a, b) == 0)
		return 0;
	return error_set(err, ERROR_CORRUPT, "the copy %s does not have the content of %s (SHA-256 %.16s… and %.16s…)", to,
			 from, b, a);
}

/* Is checked as it is on disk, as far as the kernel lets go of its cache. */
static int settle(int fd) {
	if (syncfs(fd) < 0)
		return -errno;
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	return 0;
}

int storage_copy_tree(const char *from, const char *to, int64_t shift, const struct storage_copy *c, struct error *err) {
	struct owner_shift s;
	struct copying x = {.report = c};
	int r = c && c->again ? storage_tree_empty(to, err) : 0;
	if (r == 0)
		r = storage_owners_survey(from, shift, &s, &x.total, err);
	if (r == 0)
		r = storage_tree_copy(from, to, &s, &x, err);
	if (r < 0)
		return error_wrap(err, "copying %s", from);
	storage_fault("storage-copied");
	_cleanup_(close_fd) int root = open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = root < 0 ? -errno : settle(root);
	if (r < 0)
		return error_errno(err, r, "cannot write %s", to);
	_cleanup_(free_ptr) char *a = NULL, *b = NULL;
	r = storage_tree_digest(from, &s, &a, err);
	if (r == 0)
		r = storage_tree_digest(to, &(struct owner_shift){0}, &b, err);
	return r < 0 ? r : compare(a, b, from, to, err);
}

/* Of a regular file or a block device; negative: -errno. */
static int64_t content_size(int fd) {
	struct stat st;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (S_ISREG(st.st_mode))
		return st.st_size;
	uint64_t size;
	if (!S_ISBLK(st.st_mode))
		return -ENOTBLK;
	return ioctl(fd, BLKGETSIZE64, &size) < 0 ? -errno : (int64_t)size;
}

int storage_copy_block(const char *from, const char *to, const struct storage_copy *c, struct error *err) {
	_cleanup_(close_fd) int in = open(from, O_RDONLY | O_CLOEXEC), out = open(to, O_RDWR | O_CLOEXEC);
	if (in < 0 || out < 0)
		return error_errno(err, errno, "cannot open %s", in < 0 ? from : to);
	int64_t size = content_size(in), room = content_size(out);
	if (size < 0 || room < 0)
		return error_errno(err, (int)(size < 0 ? size : room), "cannot read the size of %s", size < 0 ? from : to);
	if (room < size)
		return error_set(err, ERROR_INVALID, "%s (%jd bytes) does not fit into %s (%jd bytes)", from, (intmax_t)size, to,
				 (intmax_t)room);
	struct copying x = {.report = c, .total = size};
	int r = c && c->again ? refresh_content(in, out, size, &x) : storage_copy_content(in, out, size, &x);
	struct stat st;
	/* sharing extents and truncating gave it the size of what was copied */
	if (r == 0 && fstat(out, &st) == 0 && S_ISREG(st.st_mode) && ftruncate(out, room) < 0)
		r = -errno;
	if (r == 0)
		r = fsync(out) < 0 ? -errno : settle(out);
	if (r < 0)
		return error_errno(err, r, "cannot copy %s to %s", from, to);
	storage_fault("storage-copied");
	_cleanup_(free_ptr) char *a = NULL, *b = NULL;
	r = storage_digest_file(in, size, &a);
	if (r == 0)
		r = storage_digest_file(out, size, &b);
	if (r < 0)
		return error_errno(err, r, "cannot read what was copied from %s to %s", from, to);
	return compare(a, b, from, to, err);
}
