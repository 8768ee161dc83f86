/* Writing a blob: into a file of its own that is hashed as it grows, and that becomes visible by a rename
 * once it is whole and on disk. */
#include "image/content-priv.h"

#include "base/fs.h"
#include "base/str.h"
#include "base/time.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define CHUNK ((size_t)1 << 20)
#define CANCEL_CHECK_NS (100 * NS_PER_MS)

struct ingest {
	struct content *c;
	char *digest; /* NULL: not known before */
	char *name;   /* in the ingest directory */
	int fd;
	uint64_t size;
	struct hash *hash;
	bool keep; /* the partial file is worth keeping */
};

static void wait_changed(struct content *c, const volatile bool *cancel) {
	if (!cancel) {
		pthread_cond_wait(&c->changed, &c->lock);
		return;
	}
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += CANCEL_CHECK_NS;
	until.tv_sec += until.tv_nsec / NS_PER_SEC;
	until.tv_nsec %= NS_PER_SEC;
	pthread_cond_timedwait(&c->changed, &c->lock, &until);
}

/* Makes this thread the only writer of the digest. *there: the blob is complete, and it is not. */
static int claim(struct content *c, const char *hex, const volatile bool *cancel, bool *there, struct error *err) {
	int r = 0;
	pthread_mutex_lock(&c->lock);
	while (map_get(c->busy, hex) && !flag_is_set(cancel))
		wait_changed(c, cancel);
	*there = faccessat(c->blobs, hex, F_OK, 0) == 0;
	if (*there)
		content_note(c, hex);
	else if (map_get(c->busy, hex))
		r = error_set(err, ERROR_CANCELLED, "cancelled");
	else
		map_set(c->busy, hex, c);
	pthread_mutex_unlock(&c->lock);
	return r;
}

static void ingest_free(struct ingest *i) {
	struct content *c = i->c;
	if (i->digest) {
		pthread_mutex_lock(&c->lock);
		map_remove(c->busy, i->digest + 7);
		pthread_cond_broadcast(&c->changed);
		pthread_mutex_unlock(&c->lock);
	}
	close_fd(&i->fd);
	hash_free(i->hash);
	free(i->digest);
	free(i->name);
	free(i);
}

/* Hashes what an earlier try left. */
static int resume(struct ingest *i) {
	_cleanup_(free_ptr) char *chunk = alloc_zero(CHUNK);
	for (;;) {
		ssize_t n = RETRY_EINTR(read(i->fd, chunk, CHUNK));
		if (n < 0)
			return -errno;
		if (n == 0)
			return 0;
		hash_add(i->hash, chunk, (size_t)n);
		i->size += (uint64_t)n;
	}
}

int content_ingest_until(struct content *c, const char *digest, const volatile bool *cancel, struct ingest **out,
			 struct error *err) {
	*out = NULL;
	const char *hex = NULL;
	bool there = false;
	int r = digest ? digest_hex(digest, &hex, err) : 0;
	if (r == 0 && digest)
		r = claim(c, hex, cancel, &there, err);
	if (r < 0 || there)
		return r;
	_cleanup_(free_ptr) char *salt = random_hex(12);
	struct ingest *i = NEW(struct ingest);
	i->c = c;
	i->digest = digest ? str_copy(digest) : NULL;
	i->name = digest ? str_copy(hex) : str_format("tmp-%s", salt);
	i->hash = hash_new();
	i->keep = digest != NULL;
	i->fd = openat(c->ingest, i->name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	r = i->fd < 0 ? -errno : resume(i);
	if (r < 0) {
		error_errno(err, r, "cannot write to the content store");
		ingest_abort(i);
		return -(int)error_kind_from_errno(r);
	}
	*out = i;
	return 0;
}

int content_ingest(struct content *c, const char *digest, struct ingest **out, struct error *err) {
	return content_ingest_until(c, digest, NULL, out, err);
}

uint64_t ingest_offset(const struct ingest *i) {
	return i->size;
}

void ingest_restart(struct ingest *i) {
	/* should the file keep a longer tail, its digest fails at commit and it is dropped */
	(void)!ftruncate(i->fd, 0);
	lseek(i->fd, 0, SEEK_SET);
	i->size = 0;
	hash_reset(i->hash);
}

int ingest_write(struct ingest *i, const void *data, size_t n, struct error *err) {
	int r = fs_write_all(i->fd, data, n);
	if (r < 0) {
		i->keep = false; /* the space goes back at once */
		return error_errno(err, r, "cannot write to the content store");
	}
	hash_add(i->hash, data, n);
	i->size += n;
	return 0;
}

/* Makes the finished file the blob. */
static int publish(struct ingest *i, const char *hex) {
	struct content *c = i->c;
	if (fsync(i->fd) < 0)
		return -errno;
	pthread_mutex_lock(&c->lock);
	int r = renameat(c->ingest, i->name, c->blobs, hex) < 0 ? -errno : 0;
	if (r == 0)
		content_note(c, hex);
	pthread_mutex_unlock(&c->lock);
	if (r == 0 && fsync(c->blobs) < 0)
		r = -errno;
	return r;
}

int ingest_commit(struct ingest *i, char **digest_out, struct error *err) {
	_cleanup_(free_ptr) char *real = hash_digest(i->hash);
	int r;
	if (i->digest && strcmp(i->digest, real) != 0) {
		i->keep = false;
		r = error_set(err, ERROR_CORRUPT, "blob %s is corrupt: what came has the digest %s", i->digest, real);
		ingest_abort(i);
		return r;
	}
	r = publish(i, real + 7);
	if (r < 0) {
		i->keep = false;
		error_errno(err, r, "cannot store blob %s", real);
		ingest_abort(i);
		return -(int)error_kind_from_errno(r);
	}
	ingest_free(i);
	if (digest_out)
		*digest_out = TAKE_PTR(real);
	return 0;
}

void ingest_abort(struct ingest *i) {
	if (!i)
		return;
	if (i->fd >= 0 && (!i->keep || !i->size))
		unlinkat(i->c->ingest, i->name, 0);
	ingest_free(i);
}

int content_put(struct content *c, const void *data, size_t n, char **digest, struct error *err) {
	_cleanup_(free_ptr) char *real = digest_of(data, n);
	struct ingest *i;
	int r = content_ingest(c, real, &i, err);
	if (r == 0 && i) {
		ingest_restart(i);
		r = ingest_write(i, data, n, err);
		if (r == 0)
			r = ingest_commit(i, NULL, err);
		else
			ingest_abort(i);
	}
	if (r == 0 && digest)
		*digest = TAKE_PTR(real);
	return r;
}
