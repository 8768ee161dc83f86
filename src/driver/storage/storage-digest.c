/* SHA-256 over trees and devices: what two copies must have in common, whatever lies under them. */
#include "driver/storage/storage-priv.h"

#include <fcntl.h>
#include <limits.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <unistd.h>

#define BLOCK 4096
#define CHUNK ((size_t)1 << 20)

struct digest {
	EVP_MD_CTX *ctx;
};

/* OpenSSL fails here for want of memory alone. */
static void must(int ok) {
	if (!ok)
		abort();
}

struct digest *digest_new(void) {
	struct digest *d = NEW(struct digest);
	d->ctx = EVP_MD_CTX_new();
	must(d->ctx != NULL);
	must(EVP_DigestInit_ex(d->ctx, EVP_sha256(), NULL));
	return d;
}

void digest_add(struct digest *d, const void *data, size_t n) {
	must(EVP_DigestUpdate(d->ctx, data, n));
}

void digest_adds(struct digest *d, const char *text) {
	digest_add(d, text, strlen(text) + 1);
}

char *digest_end(struct digest *d) {
	uint8_t raw[EVP_MAX_MD_SIZE];
	unsigned n;
	must(EVP_DigestFinal_ex(d->ctx, raw, &n));
	char *hex = alloc_zero(2 * (size_t)n + 1);
	hex_encode(raw, n, hex);
	EVP_MD_CTX_free(d->ctx);
	free(d);
	return hex;
}

static void digest_drop(struct digest **d) {
	if (*d)
		free(digest_end(*d));
}

/* Where it lies and what it is, for each block that is not all zeros. */
static void add_blocks(struct digest *d, const char *p, size_t n, int64_t at) {
	static const char zeros[BLOCK];
	for (size_t i = 0; i < n; i += BLOCK) {
		size_t len = MIN((size_t)BLOCK, n - i);
		int64_t where = at + (int64_t)i;
		if (memcmp(p + i, zeros, len) == 0)
			continue;
		digest_add(d, &where, sizeof where);
		digest_add(d, p + i, len);
	}
}

/* n bytes or less at the end of the file; -errno. */
static ssize_t read_full(int fd, char *p, size_t n, int64_t at) {
	size_t have = 0;
	while (have < n) {
		ssize_t r = RETRY_EINTR(pread(fd, p + have, n - have, at + (int64_t)have));
		if (r < 0)
			return -errno;
		if (r == 0)
			break;
		have += (size_t)r;
	}
	return (ssize_t)have;
}

int digest_add_content(struct digest *d, int fd, int64_t size) {
	_cleanup_(free_ptr) char *chunk = alloc_zero(CHUNK);
	digest_add(d, &size, sizeof size);
	for (int64_t at = 0; at < size;) {
		int64_t data = lseek(fd, at, SEEK_DATA); /* of a device: at */
		if (data < 0 && errno == ENXIO)
			break;
		if (data > at)
			at = data / BLOCK * BLOCK;
		ssize_t n = read_full(fd, chunk, (size_t)MIN((int64_t)CHUNK, size - at), at);
		if (n <= 0)
			return (int)n;
		add_blocks(d, chunk, (size_t)n, at);
		at += n;
	}
	return 0;
}

int storage_digest_file(int fd, int64_t size, char **out) {
	struct digest *d = digest_new();
	int r = digest_add_content(d, fd, size);
	*out = digest_end(d);
	return r;
}

struct tree_digest {
	struct digest *d;
	const struct owner_shift *shift;
	struct map *seen; /* files with several links: by what number they were met */
};

static int add_xattrs(struct tree_digest *t, int dir, const char *name) {
	_cleanup_(storage_xattrs_free) xattrs attrs = {0};
	int r = storage_xattrs_read(dir, name, t->shift, &attrs);
	for (size_t i = 0; r == 0 && i < attrs.n; i++) {
		digest_adds(t->d, attrs.items[i].name);
		digest_add(t->d, &attrs.items[i].len, sizeof attrs.items[i].len);
		digest_add(t->d, attrs.items[i].value, attrs.items[i].len);
	}
	return r;
}

static void add_stat(struct tree_digest *t, const struct stat *st) {
	uint64_t v[4] = {st->st_mode, storage_owner(t->shift, st->st_uid), storage_owner(t->shift, st->st_gid),
			 S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode) ? st->st_rdev : 0};
	digest_add(t->d, v, sizeof v);
}

/* True: this file's content was added under another name, which was now added instead. */
static bool add_link(struct tree_digest *t, const struct stat *st) {
	if (st->st_nlink < 2)
		return false;
	char key[48];
	snprintf(key, sizeof key, "%jx:%jx", (uintmax_t)st->st_dev, (uintmax_t)st->st_ino);
	uintptr_t number = (uintptr_t)map_get(t->seen, key);
	if (number) {
		digest_add(t->d, &number, sizeof number);
		return true;
	}
	map_set(t->seen, key, (void *)(map_count(t->seen) + 1));
	return false;
}

static int add_target(struct tree_digest *t, int dir, const char *name) {
	char target[PATH_MAX];
	ssize_t n = readlinkat(dir, name, target, sizeof target);
	if (n < 0)
		return -errno;
	digest_add(t->d, target, (size_t)n);
	return 0;
}

static int add_file(struct tree_digest *t, int dir, const char *name) {
	_cleanup_(close_fd) int fd = fs_open_entry(dir, name, O_RDONLY | O_NONBLOCK);
	struct stat st;
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	return S_ISREG(st.st_mode) ? digest_add_content(t->d, fd, st.st_size) : -ESTALE;
}

static int digest_entry(void *arg, int dir, const char *name, const struct stat *st, const char *path,
			struct error *err) {
	struct tree_digest *t = arg;
	digest_adds(t->d, name);
	if (add_link(t, st))
		return 0;
	add_stat(t, st);
	int r = add_xattrs(t, dir, name);
	if (r == 0 && S_ISREG(st->st_mode))
		r = add_file(t, dir, name);
	else if (r == 0 && S_ISLNK(st->st_mode))
		r = add_target(t, dir, name);
	return r < 0 ? error_errno(err, r, "cannot check %s", path) : 0;
}

static int digest_enter(void *arg, int parent, const char *name, const struct stat *st, const char *path,
			struct error *err) {
	struct tree_digest *t = arg;
	digest_adds(t->d, name ? name : "/");
	add_stat(t, st);
	int r = name ? add_xattrs(t, parent, name) : 0;
	return r < 0 ? error_errno(err, r, "cannot check %s", path) : 0;
}

static int digest_leave(void *arg, int dir, const struct stat *st, const char *path, struct error *err) {
	struct tree_digest *t = arg;
	(void)st;
	digest_adds(t->d, "..");
	int r = *path ? 0 : add_xattrs(t, dir, ".");
	return r < 0 ? error_errno(err, r, "cannot check the tree's root") : 0;
}

int storage_tree_digest(const char *root, const struct owner_shift *s, char **out, struct error *err) {
	_cleanup_(digest_drop) struct digest *d = digest_new();
	_cleanup_(map_free_ptr) struct map *seen = map_new(NULL);
	struct tree_digest t = {d, s, seen};
	int r = storage_tree_walk(root, &(struct tree_visitor){digest_enter, digest_entry, digest_leave, &t}, err);
	if (r == 0)
		*out = digest_end(TAKE_PTR(d));
	return r;
}
