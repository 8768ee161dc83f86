/* Owners and extended attributes of a tree's entries, and how they move to another range of ids: the owners proper, those
 * in access lists, and the user name space that a file capability is for. */
#include "driver/storage/storage-priv.h"

#include <endian.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/posix_acl_xattr.h>
#include <stdio.h>
#include <sys/xattr.h>
#include <unistd.h>

#define ID_RANGE INT64_C(65536)
#define XATTR_NAMES_MAX ((size_t)64 << 10)
#define XATTR_VALUE_MAX ((size_t)64 << 10)
#define ENTRY_PATH_MAX (FD_PATH_MAX + 256)

uint32_t storage_owner(const struct owner_shift *s, uint32_t id) {
	return id < s->from ? id : (uint32_t)(id + s->by);
}

/* --- survey --- */

struct survey {
	int64_t min, max, low_max, bytes; /* of the ids from 65536 on; the greatest one below */
	struct map *seen;
};

static void survey_id(struct survey *s, int64_t id) {
	if (id < ID_RANGE) {
		s->low_max = MAX(s->low_max, id);
		return;
	}
	s->min = s->min ? MIN(s->min, id) : id;
	s->max = MAX(s->max, id);
}

static int survey_dir(void *arg, int parent, const char *name, const struct stat *st, const char *path,
		      struct error *err) {
	(void)parent, (void)name, (void)path, (void)err;
	survey_id(arg, st->st_uid);
	survey_id(arg, st->st_gid);
	return 0;
}

static int survey_entry(void *arg, int dir, const char *name, const struct stat *st, const char *path,
			struct error *err) {
	struct survey *s = arg;
	survey_dir(arg, dir, name, st, path, err);
	if (S_ISREG(st->st_mode) && !storage_seen_before(s->seen, st))
		s->bytes += MIN((int64_t)st->st_size, (int64_t)st->st_blocks * 512);
	return 0;
}

int storage_owners_survey(const char *root, int64_t by, struct owner_shift *out, int64_t *bytes, struct error *err) {
	_cleanup_(map_free_ptr) struct map *seen = map_new(NULL);
	struct survey s = {.low_max = -1, .seen = seen};
	int r = storage_tree_walk(root, &(struct tree_visitor){survey_dir, survey_entry, NULL, &s}, err);
	if (r < 0)
		return r;
	if (bytes)
		*bytes = s.bytes;
	*out = (struct owner_shift){.by = by, .from = s.max ? s.min : 0};
	if (!by)
		return 0;
	/* a tree of a user name space may hold what the host's root made for it (overlayfs's work directory) */
	if (s.max && s.low_max > 0)
		return error_set(err, ERROR_INVALID, "the tree has owners in two ranges of ids, %jd and %jd",
				 (intmax_t)s.low_max, (intmax_t)s.max);
	if (s.max && s.max - s.min >= ID_RANGE)
		return error_set(err, ERROR_INVALID, "the owners in the tree, %jd to %jd, do not lie in one range of 65536 ids",
				 (intmax_t)s.min, (intmax_t)s.max);
	int64_t low = s.max ? s.min : 0, high = s.max ? s.max : MAX(s.low_max, 0);
	if (low + by < 0 || high + by >= UINT32_MAX)
		return error_set(err, ERROR_INVALID, "the owners %jd to %jd cannot be shifted by %jd", (intmax_t)low,
				 (intmax_t)high, (intmax_t)by);
	return 0;
}

/* --- extended attributes --- */

static uint32_t get32(const uint8_t *p) {
	uint32_t v;
	memcpy(&v, p, sizeof v);
	return le32toh(v);
}

static void put32(uint8_t *p, uint32_t v) {
	v = htole32(v);
	memcpy(p, &v, sizeof v);
}

/* Version 2 belongs to the initial user name space, version 3 to the one of the root that it names. */
static void shift_capability(struct xattr *x, const struct owner_shift *s) {
	if (x->len != XATTR_CAPS_SZ_2 && x->len != XATTR_CAPS_SZ_3)
		return;
	uint32_t magic = get32(x->value), root = x->len == XATTR_CAPS_SZ_3 ? get32(x->value + XATTR_CAPS_SZ_2) : 0;
	root = (uint32_t)(root + s->by);
	x->value = alloc_resize(x->value, 1, XATTR_CAPS_SZ_3);
	x->len = root ? XATTR_CAPS_SZ_3 : XATTR_CAPS_SZ_2;
	put32(x->value, (magic & ~(uint32_t)VFS_CAP_REVISION_MASK) | (root ? VFS_CAP_REVISION_3 : VFS_CAP_REVISION_2));
	put32(x->value + XATTR_CAPS_SZ_2, root);
}

static void shift_acl(struct xattr *x, const struct owner_shift *s) {
	const size_t head = sizeof(struct posix_acl_xattr_header), each = sizeof(struct posix_acl_xattr_entry);
	for (size_t at = head; at + each <= x->len; at += each) {
		uint16_t tag;
		memcpy(&tag, x->value + at, sizeof tag);
		tag = le16toh(tag);
		uint8_t *id = x->value + at + offsetof(struct posix_acl_xattr_entry, e_id);
		if (tag == 0x02 /* ACL_USER */ || tag == 0x08 /* ACL_GROUP */)
			put32(id, storage_owner(s, get32(id)));
	}
}

static bool is_content(const char *name) {
	if (str_starts(name, "trusted.SGI_")) /* xfs shows access lists once more */
		return false;
	return str_starts(name, "user.") || str_starts(name, "trusted.") || strcmp(name, "security.capability") == 0 ||
	       strcmp(name, "system.posix_acl_access") == 0 || strcmp(name, "system.posix_acl_default") == 0;
}

static int compare_xattrs(const void *a, const void *b) {
	return strcmp(((const struct xattr *)a)->name, ((const struct xattr *)b)->name);
}

static int read_value(const char *path, const char *name, const struct owner_shift *s, xattrs *out) {
	struct xattr x = {.value = alloc_zero(XATTR_VALUE_MAX)};
	ssize_t n = lgetxattr(path, name, x.value, XATTR_VALUE_MAX);
	if (n < 0) {
		free(x.value);
		return errno == ENODATA ? 0 : -errno;
	}
	x.len = (size_t)n;
	x.name = str_copy(name);
	x.value = alloc_resize(x.value, MAX(x.len, (size_t)1), 1);
	if (s->by && strcmp(name, "security.capability") == 0)
		shift_capability(&x, s);
	else if (s->by && str_starts(name, "system.posix_acl_"))
		shift_acl(&x, s);
	out->items = alloc_resize(out->items, out->n + 1, sizeof *out->items);
	out->items[out->n++] = x;
	return 0;
}

int storage_xattrs_read(int dir, const char *entry, const struct owner_shift *s, xattrs *out) {
	char path[ENTRY_PATH_MAX];
	snprintf(path, sizeof path, "/proc/self/fd/%d/%s", dir, entry);
	*out = (xattrs){0};
	ssize_t n = llistxattr(path, NULL, 0);
	if (n <= 0)
		return n == 0 || errno == EOPNOTSUPP ? 0 : -errno;
	_cleanup_(free_ptr) char *names = alloc_zero(XATTR_NAMES_MAX + 1);
	n = llistxattr(path, names, XATTR_NAMES_MAX);
	if (n < 0)
		return -errno;
	int r = 0;
	for (const char *name = names; r == 0 && name < names + n; name += strlen(name) + 1)
		if (is_content(name))
			r = read_value(path, name, s, out);
	if (out->n)
		qsort(out->items, out->n, sizeof *out->items, compare_xattrs);
	return r;
}

int storage_xattrs_write(int dir, const char *entry, const xattrs *x, size_t *failed) {
	char path[ENTRY_PATH_MAX];
	snprintf(path, sizeof path, "/proc/self/fd/%d/%s", dir, entry);
	for (*failed = 0; *failed < x->n; (*failed)++) {
		const struct xattr *one = &x->items[*failed];
		if (lsetxattr(path, one->name, one->value, one->len, 0) < 0)
			return -errno;
	}
	return 0;
}

void storage_xattrs_free(xattrs *x) {
	for (size_t i = 0; i < x->n; i++) {
		free(x->items[i].name);
		free(x->items[i].value);
	}
	free(x->items);
	*x = (xattrs){0};
}

/* --- in place --- */

struct shifting {
	struct owner_shift by;
	struct map *seen;
};

static int shift_one(struct shifting *x, int dir, const char *name, const struct stat *st, const char *path,
		     struct error *err) {
	_cleanup_(storage_xattrs_free) xattrs attrs = {0};
	size_t failed;
	int r = storage_xattrs_read(dir, name, &x->by, &attrs);
	if (r == 0 && fchownat(dir, name, storage_owner(&x->by, st->st_uid), storage_owner(&x->by, st->st_gid),
			       AT_SYMLINK_NOFOLLOW) < 0)
		r = -errno;
	/* the kernel takes these bits away with the owner */
	if (r == 0 && S_ISREG(st->st_mode) && (st->st_mode & (S_ISUID | S_ISGID))) {
		_cleanup_(close_fd) int fd = fs_open_entry(dir, name, O_RDONLY | O_NONBLOCK);
		if (fd < 0 || fchmod(fd, st->st_mode & 07777) < 0)
			r = fd < 0 ? fd : -errno;
	}
	if (r == 0)
		r = storage_xattrs_write(dir, name, &attrs, &failed);
	return r < 0 ? error_errno(err, r, "cannot shift the owner of %s", path) : 0;
}

static int shift_entry(void *arg, int dir, const char *name, const struct stat *st, const char *path, struct error *err) {
	struct shifting *x = arg;
	return storage_seen_before(x->seen, st) ? 0 : shift_one(x, dir, name, st, path, err);
}

static int shift_dir(void *arg, int dir, const struct stat *st, const char *path, struct error *err) {
	return shift_one(arg, dir, ".", st, path, err);
}

int storage_shift_owners(const char *dir, int64_t shift, struct error *err) {
	_cleanup_(map_free_ptr) struct map *seen = map_new(NULL);
	struct shifting x = {.seen = seen};
	int r = storage_owners_survey(dir, shift, &x.by, NULL, err);
	if (r < 0 || !shift)
		return r;
	r = storage_tree_walk(dir, &(struct tree_visitor){NULL, shift_entry, shift_dir, &x}, err);
	return r < 0 ? error_wrap(err, "shifting owners in %s", dir) : 0;
}
