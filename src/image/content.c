/* The content store: which blobs are there, reading them, and removing those that nobody needs. Writing is
 * in ingest.c. Must not trust a name in its directories, nor know what a blob means. */
#include "image/content-priv.h"

#include "base/fs.h"
#include "base/str.h"
#include "base/time.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define PARTIAL_MAX_AGE_S 86400
#define HEX_LEN 64

static bool is_hex(const char *s) {
	return strspn(s, "0123456789abcdef") == HEX_LEN && s[HEX_LEN] == '\0';
}

int digest_hex(const char *digest, const char **hex, struct error *err) {
	if (str_starts(digest, "sha256:") && is_hex(digest + 7)) {
		*hex = digest + 7;
		return 0;
	}
	if (str_starts(digest, "sha512:") || str_starts(digest, "sha384:"))
		return error_set(err, ERROR_UNSUPPORTED, "digests of the kind %.6s are not supported, only sha256",
				 digest);
	return error_set(err, ERROR_INVALID, "\"%.80s\" is not a digest: it must be sha256: and 64 hexadecimal digits",
			 digest);
}

char *digest_of(const void *data, size_t n) {
	_cleanup_(hash_free_ptr) struct hash *h = hash_new();
	hash_add(h, data, n);
	return hash_digest(h);
}

static int open_dir(int at, const char *name, struct error *err) {
	if (mkdirat(at, name, 0700) < 0 && errno != EEXIST)
		return error_errno(err, errno, "cannot make the content directory %s", name);
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? error_errno(err, errno, "cannot open the content directory %s", name) : fd;
}

/* A stream over the directory behind fd with a position of its own. */
static DIR *list(int fd) {
	int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = copy < 0 ? NULL : fdopendir(copy);
	if (!d && copy >= 0)
		close(copy);
	return d;
}

static void close_list(DIR **d) {
	if (*d)
		closedir(*d);
}

/* Removes what nobody can go on with: files of unknown digest unless one is being written now (at_start:
 * none is), and partial files of a day ago. Under the lock. */
static int sweep_ingest(struct content *c, bool at_start, uint64_t *freed) {
	_cleanup_(close_list) DIR *d = list(c->ingest);
	if (!d)
		return -errno;
	int64_t now = time_now_ns() / NS_PER_SEC;
	for (struct dirent *e; (e = readdir(d));) {
		struct stat st;
		if (e->d_name[0] == '.' || fstatat(c->ingest, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		bool partial = is_hex(e->d_name);
		bool stale = partial ? !map_get(c->busy, e->d_name) && st.st_mtime < now - PARTIAL_MAX_AGE_S : at_start;
		if (stale && unlinkat(c->ingest, e->d_name, 0) == 0)
			*freed += (uint64_t)st.st_size;
	}
	return 0;
}

int content_open(const char *dir, struct content **out, struct error *err) {
	*out = NULL;
	int r = fs_mkdir_p(dir, 0700);
	if (r < 0)
		return error_errno(err, r, "cannot make the content directory %s", dir);
	struct content *c = NEW(struct content);
	c->blobs = c->ingest = -1;
	pthread_mutex_init(&c->lock, NULL);
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&c->changed, &attr);
	pthread_condattr_destroy(&attr);
	c->busy = map_new(NULL);
	c->held = map_new(NULL);
	c->dir = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	uint64_t freed = 0;
	if (c->dir < 0)
		r = error_errno(err, errno, "cannot open the content directory %s", dir);
	else if (flock(c->dir, LOCK_EX | LOCK_NB) < 0)
		r = errno == EWOULDBLOCK
			    ? error_set(err, ERROR_BUSY, "the content directory %s is in use by another process", dir)
			    : error_errno(err, errno, "cannot lock the content directory %s", dir);
	else {
		_cleanup_(close_fd) int all = open_dir(c->dir, "blobs", err);
		r = all;
		if (all >= 0)
			r = c->blobs = open_dir(all, "sha256", err);
		if (r >= 0)
			r = c->ingest = open_dir(c->dir, "ingest", err);
		if (r >= 0 && (r = sweep_ingest(c, true, &freed)) < 0)
			error_errno(err, r, "cannot read the content directory %s", dir);
	}
	if (r < 0) {
		content_close(c);
		return r;
	}
	*out = c;
	return 0;
}

void content_close(struct content *c) {
	if (!c)
		return;
	close_fd(&c->dir);
	close_fd(&c->blobs);
	close_fd(&c->ingest);
	map_free(c->busy);
	map_free(c->held);
	pthread_cond_destroy(&c->changed);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

void content_note(struct content *c, const char *hex) {
	if (c->holds)
		map_set(c->held, hex, c);
}

bool content_has(struct content *c, const char *digest) {
	const char *hex;
	if (digest_hex(digest, &hex, NULL) < 0)
		return false;
	pthread_mutex_lock(&c->lock);
	bool there = faccessat(c->blobs, hex, F_OK, 0) == 0;
	if (there)
		content_note(c, hex);
	pthread_mutex_unlock(&c->lock);
	return there;
}

int content_blob(struct content *c, const char *digest, uint64_t *size, struct error *err) {
	const char *hex;
	int r = digest_hex(digest, &hex, err);
	if (r < 0)
		return r;
	_cleanup_(close_fd) int fd = openat(c->blobs, hex, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;
	if (fd < 0 && errno == ENOENT)
		return error_set(err, ERROR_NOT_FOUND, "blob %s is not in the content store", digest);
	if (fd < 0 || fstat(fd, &st) < 0)
		return error_errno(err, errno, "cannot open blob %s", digest);
	if (size)
		*size = (uint64_t)st.st_size;
	return TAKE_FD(fd);
}

int content_read(struct content *c, const char *digest, struct buf *out, struct error *err) {
	_cleanup_(close_fd) int fd = content_blob(c, digest, NULL, err);
	if (fd < 0)
		return fd;
	size_t before = out->len;
	int r = fs_read_fd(fd, before + CONTENT_READ_MAX, out);
	if (r == -EFBIG)
		return error_set(err, ERROR_TOO_LARGE, "blob %s is larger than %zu bytes", digest, CONTENT_READ_MAX);
	if (r < 0)
		return error_errno(err, r, "cannot read blob %s", digest);
	_cleanup_(free_ptr) char *real = digest_of(buf_str(out) + before, out->len - before);
	if (strcmp(real, digest) == 0)
		return 0;
	content_drop(c, digest);
	return error_set(err, ERROR_CORRUPT, "blob %s is corrupt on disk: its content has the digest %s", digest, real);
}

void content_drop(struct content *c, const char *digest) {
	const char *hex;
	if (digest_hex(digest, &hex, NULL) == 0)
		unlinkat(c->blobs, hex, 0);
}

void content_hold(struct content *c) {
	pthread_mutex_lock(&c->lock);
	c->holds++;
	pthread_mutex_unlock(&c->lock);
}

void content_release(struct content *c) {
	pthread_mutex_lock(&c->lock);
	if (--c->holds == 0) {
		map_free(c->held);
		c->held = map_new(NULL);
	}
	pthread_mutex_unlock(&c->lock);
}

/* Removes the blob unless somebody has come to count on it; adds its size to *freed. */
static int collect_one(struct content *c, const char *hex, uint64_t *freed) {
	struct stat st;
	int r = 0;
	pthread_mutex_lock(&c->lock);
	if (!map_get(c->held, hex) && fstatat(c->blobs, hex, &st, AT_SYMLINK_NOFOLLOW) == 0) {
		if (unlinkat(c->blobs, hex, 0) == 0)
			*freed += (uint64_t)st.st_size;
		else
			r = -errno;
	}
	pthread_mutex_unlock(&c->lock);
	return r;
}

static int collect(struct content *c, bool (*keep)(const char *digest, void *arg), void *arg, uint64_t *freed) {
	pthread_mutex_lock(&c->lock);
	int r = sweep_ingest(c, false, freed);
	pthread_mutex_unlock(&c->lock);
	_cleanup_(close_list) DIR *d = list(c->blobs);
	if (!d)
		return -errno;
	for (struct dirent *e; r == 0 && (e = readdir(d));) {
		if (!is_hex(e->d_name))
			continue;
		_cleanup_(free_ptr) char *digest = str_format("sha256:%s", e->d_name);
		if (!keep(digest, arg))
			r = collect_one(c, e->d_name, freed);
	}
	return r;
}

int content_collect(struct content *c, bool (*keep)(const char *digest, void *arg), void *arg, uint64_t *freed,
		    struct error *err) {
	uint64_t bytes = 0;
	content_hold(c);
	int r = collect(c, keep, arg, &bytes);
	content_release(c);
	if (freed)
		*freed = bytes;
	return r < 0 ? error_errno(err, r, "cannot collect unused blobs") : 0;
}
