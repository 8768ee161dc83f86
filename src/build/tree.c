/* Reading archives into a tree, and finding one's way in it. */
#include "build/tree.h"

#include "base/fs.h"
#include "base/str.h"
#include "build/ignore.h"
#include "image/hash.h"
#include "model/field.h"

#include <archive.h>
#include <archive_entry.h>
#include <unistd.h>

#define NODES_MAX ((size_t)2000000)
#define PATH_LENGTH_MAX 4096
#define LINKS_MAX 40
#define CAPABILITY_MAX 64
#define PIECE ((size_t)128 << 10)
#define SPOOL_MAX ((uint64_t)1 << 44)

struct tree {
	struct tree_node root;
	int spool;
	uint64_t end; /* of what is in it */
	size_t n;
	struct hash *hash;
};

static void node_free(void *value);

static void node_clear(struct tree_node *n) {
	map_free(n->children);
	free(n->link);
	free(n->capability);
	free(n->digest);
	n->children = NULL;
	n->link = NULL;
	n->capability = NULL;
	n->digest = NULL;
	n->size = n->capability_len = 0;
}

static void node_free(void *value) {
	struct tree_node *n = value;
	node_clear(n);
	free(n->name);
	free(n);
}

struct tree *tree_new(int spool) {
	struct tree *t = NEW(struct tree);
	*t = (struct tree){.spool = spool, .hash = hash_new()};
	t->root.mode = S_IFDIR | 0755;
	t->root.name = (char *)"";
	return t;
}

void tree_free(struct tree *t) {
	if (!t)
		return;
	node_clear(&t->root);
	hash_free(t->hash);
	close_fd(&t->spool);
	free(t);
}

struct tree_node *tree_root(struct tree *t) {
	return &t->root;
}

size_t tree_count(const struct tree *t) {
	return t->n;
}

uint64_t tree_bytes(const struct tree *t) {
	return t->end;
}

/* ---- places ---- */

static struct tree_node *child_of(const struct tree_node *dir, const char *name) {
	return dir->children ? map_get(dir->children, name) : NULL;
}

static struct tree_node *add_child(struct tree *t, struct tree_node *dir, const char *name) {
	struct tree_node *n = NEW(struct tree_node);
	*n = (struct tree_node){.parent = dir, .name = str_copy(name), .mode = S_IFDIR | 0755};
	if (!dir->children)
		dir->children = map_new(node_free);
	map_set(dir->children, name, n);
	t->n++;
	return n;
}

/* The node at a clean path, made with the directories above it; what stands in the way of those goes. */
static struct tree_node *make_place(struct tree *t, const char *path) {
	struct tree_node *n = &t->root;
	struct str rest = str_view(path);
	while (rest.len) {
		struct str part = str_cut(&rest, '/');
		_cleanup_(free_ptr) char *name = str_copyn(part.p, part.len);
		if (!S_ISDIR(n->mode)) {
			node_clear(n);
			n->mode = S_IFDIR | 0755;
		}
		struct tree_node *next = child_of(n, name);
		n = next ? next : add_child(t, n, name);
	}
	return n;
}

static bool leads_out(const char *path) {
	struct str rest = str_view(path);
	while (rest.len)
		if (str_is(str_cut(&rest, '/'), ".."))
			return true;
	return false;
}

void tree_remove(struct tree *t, struct tree_node *n) {
	if (n->parent && map_remove(n->parent->children, n->name))
		t->n--;
}

/* One step of a walk: what `text` (a path) leads to from `from`. */
static struct tree_node *walk(struct tree *t, struct tree_node *from, const char *text, int *links) {
	struct tree_node *n = *text == '/' ? &t->root : from;
	struct str rest = str_view(text);
	while (n && rest.len) {
		struct str part = str_cut(&rest, '/');
		if (!part.len || str_is(part, "."))
			continue;
		if (str_is(part, "..")) {
			n = n->parent ? n->parent : n;
			continue;
		}
		_cleanup_(free_ptr) char *name = str_copyn(part.p, part.len);
		struct tree_node *next = child_of(n, name);
		if (next && S_ISLNK(next->mode))
			next = ++*links > LINKS_MAX ? NULL : walk(t, n, next->link, links);
		n = next;
	}
	return n;
}

struct tree_node *tree_find(struct tree *t, const char *path) {
	int links = 0;
	return walk(t, &t->root, path, &links);
}

char *tree_path(const struct tree_node *n) {
	if (!n->parent)
		return str_copy("");
	_cleanup_(free_ptr) char *above = tree_path(n->parent);
	return str_format("%s%s%s", above, *above ? "/" : "", n->name);
}

static int compare_names(const void *a, const void *b) {
	return strcmp((*(struct tree_node *const *)a)->name, (*(struct tree_node *const *)b)->name);
}

struct tree_node **tree_list(const struct tree_node *dir) {
	size_t n = dir->children ? map_count(dir->children) : 0, count = 0;
	struct tree_node **list = alloc_array(n + 1, sizeof(*list));
	void *value;
	for (size_t i = 0; dir->children && map_next(dir->children, &i, NULL, &value);)
		list[count++] = value;
	qsort(list, count, sizeof(*list), compare_names);
	return list;
}

/* ---- contents ---- */

ssize_t tree_pread(const struct tree *t, const struct tree_node *file, uint64_t offset, void *data, size_t n) {
	if (offset >= file->size)
		return 0;
	ssize_t got = RETRY_EINTR(pread(t->spool, data, (size_t)MIN((uint64_t)n, file->size - offset),
					(off_t)(file->offset + offset)));
	return got < 0 ? -errno : got == 0 ? -EIO : got;
}

int tree_content(const struct tree *t, const struct tree_node *file, size_t max, struct buf *out, struct error *err) {
	if (!S_ISREG(file->mode))
		return error_set(err, ERROR_INVALID, "%s is no regular file", file->name);
	if (file->size > max)
		return error_set(err, ERROR_TOO_LARGE, "%s has more than %zu bytes", file->name, max);
	for (uint64_t at = 0; at < file->size;) {
		char *room = buf_room(out, (size_t)(file->size - at));
		ssize_t n = room ? tree_pread(t, file, at, room, (size_t)(file->size - at)) : -EFBIG;
		if (n < 0)
			return error_errno(err, (int)n, "reading %s", file->name);
		buf_grown(out, (size_t)n);
		at += (uint64_t)n;
	}
	return 0;
}

static int write_at(const struct tree *t, uint64_t at, const void *data, size_t n, struct error *err) {
	for (const char *p = data; n;) {
		ssize_t done = RETRY_EINTR(pwrite(t->spool, p, n, (off_t)at));
		if (done < 0)
			return error_errno(err, errno, "keeping what comes");
		p += done;
		n -= (size_t)done;
		at += (uint64_t)done;
	}
	return 0;
}

static int spool_write(struct tree *t, const void *data, size_t n, struct error *err) {
	hash_add(t->hash, data, n);
	int r = write_at(t, t->end, data, n, err);
	t->end += r == 0 ? n : 0;
	return r;
}

struct tree_filling {
	struct tree *tree;
	struct tree_node *file;
	uint64_t size, got;
	struct hash *hash;
};

/* Its bytes have their place in the spool from the beginning. */
struct tree_filling *tree_fill_begin(struct tree *t, struct tree_node *file, uint64_t size, struct error *err) {
	if (size > SPOOL_MAX || t->end > SPOOL_MAX - size) {
		error_set(err, ERROR_TOO_LARGE, "%s has %llu bytes, which is too much", file->name, (unsigned long long)size);
		return NULL;
	}
	struct tree_filling *f = NEW(struct tree_filling);
	*f = (struct tree_filling){.tree = t, .file = file, .size = size, .hash = hash_new()};
	file->offset = t->end;
	t->end += size;
	return f;
}

int tree_fill(struct tree_filling *f, const void *data, size_t n, struct error *err) {
	size_t counts = (size_t)MIN((uint64_t)n, f->size - f->got);
	int r = write_at(f->tree, f->file->offset + f->got, data, counts, err);
	if (r < 0)
		return r;
	hash_add(f->hash, data, counts);
	f->got += counts;
	return 0;
}

void tree_fill_end(struct tree_filling *f) {
	free(f->file->digest);
	f->file->size = f->got;
	f->file->digest = hash_digest(f->hash);
	hash_free(f->hash);
	free(f);
}

static int spool_zeros(struct tree *t, uint64_t n, struct error *err) {
	static const char zeros[4096];
	int r = 0;
	for (; r == 0 && n; n -= MIN(n, sizeof zeros))
		r = spool_write(t, zeros, (size_t)MIN(n, sizeof zeros), err);
	return r;
}

/* ---- archives ---- */

static int broken(struct archive *a, struct error *err) {
	const char *why = archive_error_string(a);
	return error_set(err, ERROR_INVALID, "the archive cannot be read: %s", why ? why : "unknown reason");
}

static int read_content(struct tree *t, struct archive *a, struct tree_node *n, struct error *err) {
	const void *block;
	size_t len;
	la_int64_t offset;
	int r;
	n->offset = t->end;
	hash_reset(t->hash);
	while ((r = archive_read_data_block(a, &block, &len, &offset)) == ARCHIVE_OK) {
		uint64_t have = t->end - n->offset;
		int result = offset < 0 || (uint64_t)offset < have ? broken(a, err) : spool_zeros(t, (uint64_t)offset - have, err);
		if (result == 0)
			result = spool_write(t, block, len, err);
		if (result < 0)
			return result;
	}
	if (r != ARCHIVE_EOF)
		return broken(a, err);
	n->size = t->end - n->offset;
	n->digest = hash_digest(t->hash);
	return 0;
}

static void take_capability(struct archive_entry *e, struct tree_entry *to) {
	const char *name;
	const void *value;
	size_t len;
	archive_entry_xattr_reset(e);
	while (archive_entry_xattr_next(e, &name, &value, &len) == ARCHIVE_OK)
		if (name && strcmp(name, "security.capability") == 0 && !to->capability) {
			to->capability = value;
			to->capability_len = len;
		}
}

static void set_capability(struct tree_node *n, const void *value, size_t len) {
	if (!value || !len || len > CAPABILITY_MAX)
		return;
	n->capability = memcpy(alloc_zero(len), value, len);
	n->capability_len = len;
}

/* A further name of what came before. */
static int take_hard_link(struct tree *t, struct tree_node *n, const char *at, const char *target, struct error *err) {
	_cleanup_(free_ptr) char *path = str_format("%s/%s", at, target);
	_cleanup_(free_ptr) char *clean = path_clean(path);
	const struct tree_node *from = leads_out(target) ? NULL : tree_find(t, clean);
	if (!from || !S_ISREG(from->mode) || from == n) {
		_cleanup_(free_ptr) char *shown = text_shown(target);
		return error_set(err, ERROR_INVALID, "the archive has a hard link to %s, which is no file in it", shown);
	}
	n->mode = from->mode;
	n->uid = from->uid;
	n->gid = from->gid;
	n->mtime = from->mtime;
	n->mtime_rest = from->mtime_rest;
	n->offset = from->offset;
	n->size = from->size;
	n->digest = str_copy(from->digest);
	set_capability(n, from->capability, from->capability_len);
	return 0;
}

static int add_entry(struct tree *t, const struct tree_entry *e, const char *at, struct tree_node **out, struct error *err) {
	const char *name = e->path;
	mode_t type = e->hard ? S_IFREG : e->mode & S_IFMT;
	*out = NULL;
	if (!name || strlen(name) > PATH_LENGTH_MAX || leads_out(name)) {
		_cleanup_(free_ptr) char *shown = text_shown(name ? name : "");
		return error_set(err, ERROR_INVALID, "the archive has an entry \"%s\", which leads out of it", shown);
	}
	if (t->n >= NODES_MAX)
		return error_set(err, ERROR_TOO_LARGE, "the archive has more than %zu entries", NODES_MAX);
	if (type == S_IFSOCK || (type == S_IFLNK && (!e->link || strlen(e->link) > PATH_LENGTH_MAX)))
		return 0;
	_cleanup_(free_ptr) char *path = str_format("%s/%s", at, name);
	_cleanup_(free_ptr) char *clean = path_clean(path);
	struct tree_node *n = make_place(t, clean);
	if (n == &t->root && type != S_IFDIR)
		return error_set(err, ERROR_INVALID, "the archive's top is no directory");
	if (type != S_IFDIR || !S_ISDIR(n->mode))
		node_clear(n);
	n->mode = type | (e->mode & 07777);
	n->uid = e->uid;
	n->gid = e->gid;
	n->mtime = e->mtime;
	n->mtime_rest = e->mtime_rest;
	*out = n;
	if (e->hard)
		return take_hard_link(t, n, at, e->hard, err);
	set_capability(n, e->capability, e->capability_len);
	if (type == S_IFLNK)
		n->link = str_copy(e->link);
	if (type == S_IFCHR || type == S_IFBLK) {
		n->major = e->major;
		n->minor = e->minor;
	}
	return 0;
}

int tree_add(struct tree *t, const struct tree_entry *e, struct tree_node **out, struct error *err) {
	return add_entry(t, e, "", out, err);
}

static int take_entry(struct tree *t, struct archive *a, struct archive_entry *e, const char *at, bool keep_owner,
		      struct error *err) {
	const char *hard = archive_entry_hardlink(e);
	struct tree_entry entry = {
		.path = archive_entry_pathname(e),
		.mode = archive_entry_filetype(e) | (archive_entry_perm(e) & 07777),
		.uid = keep_owner ? (uint32_t)archive_entry_uid(e) : 0,
		.gid = keep_owner ? (uint32_t)archive_entry_gid(e) : 0,
		.mtime = archive_entry_mtime(e),
		.major = (uint32_t)archive_entry_rdevmajor(e),
		.minor = (uint32_t)archive_entry_rdevminor(e),
		.link = archive_entry_symlink(e),
		.hard = hard,
	};
	struct tree_node *n;
	take_capability(e, &entry);
	int r = add_entry(t, &entry, at, &n, err);
	return r == 0 && n && !hard && S_ISREG(n->mode) ? read_content(t, a, n, err) : r;
}

static void reader_free(struct archive **a) {
	archive_read_free(*a);
}

static struct archive *reader_new(void) {
	struct archive *a = archive_read_new();
	archive_read_support_filter_gzip(a);
	archive_read_support_filter_bzip2(a);
	archive_read_support_filter_xz(a);
	archive_read_support_filter_zstd(a);
	archive_read_support_format_tar(a);
	archive_read_set_format_option(a, "tar", "read_concatenated_archives", NULL);
	return a;
}

static int read_all(struct tree *t, struct archive *a, const char *at, bool keep_owner, struct error *err) {
	struct archive_entry *e;
	for (;;) {
		int r = archive_read_next_header(a, &e);
		if (r == ARCHIVE_EOF)
			return 0;
		if (r != ARCHIVE_OK && r != ARCHIVE_WARN)
			return broken(a, err);
		r = take_entry(t, a, e, at, keep_owner, err);
		if (r < 0)
			return r;
	}
}

int tree_read(struct tree *t, int fd, const char *at, bool keep_owner, struct error *err) {
	_cleanup_(reader_free) struct archive *a = reader_new();
	archive_read_support_format_empty(a);
	if (archive_read_open_fd(a, fd, 65536) != ARCHIVE_OK)
		return broken(a, err);
	int r = read_all(t, a, at, keep_owner, err);
	/* what stands behind the end mark belongs to the request all the same */
	char rest[4096];
	ssize_t n = 1;
	while (r == 0 && n > 0)
		n = RETRY_EINTR(read(fd, rest, sizeof rest));
	return r == 0 && n < 0 ? error_errno(err, errno, "the archive broke off") : r;
}

struct source {
	const struct tree *tree;
	const struct tree_node *file;
	uint64_t at;
	char *piece;
};

static la_ssize_t read_source(struct archive *a, void *arg, const void **data) {
	struct source *s = arg;
	ssize_t n = tree_pread(s->tree, s->file, s->at, s->piece, PIECE);
	if (n < 0)
		archive_set_error(a, (int)-n, "%s", strerror((int)-n));
	else
		s->at += (uint64_t)n;
	*data = s->piece;
	return n < 0 ? -1 : n;
}

int tree_unpack_node(struct tree *t, const struct tree *from, const struct tree_node *file, const char *at, bool *is,
		     struct error *err) {
	_cleanup_(free_ptr) char *piece = alloc_zero(PIECE);
	_cleanup_(reader_free) struct archive *a = reader_new();
	struct source s = {.tree = from, .file = file, .piece = piece};
	struct archive_entry *e;
	*is = false;
	if (archive_read_open(a, &s, NULL, read_source, NULL) != ARCHIVE_OK)
		return 0;
	int r = archive_read_next_header(a, &e);
	if (r != ARCHIVE_OK && r != ARCHIVE_WARN)
		return 0;
	*is = true;
	r = take_entry(t, a, e, at, true, err);
	return r < 0 ? r : read_all(t, a, at, true, err);
}

int tree_add_file(struct tree *t, const char *path, mode_t mode, int64_t mtime, int fd, struct error *err) {
	_cleanup_(free_ptr) char *clean = path_clean(path), *piece = alloc_zero(PIECE);
	struct tree_node *n = make_place(t, clean);
	node_clear(n);
	n->mode = S_IFREG | mode;
	n->mtime = mtime;
	n->offset = t->end;
	hash_reset(t->hash);
	for (;;) {
		ssize_t got = RETRY_EINTR(read(fd, piece, PIECE));
		if (got < 0)
			return error_errno(err, errno, "reading %s", path);
		if (got == 0)
			break;
		int r = spool_write(t, piece, (size_t)got, err);
		if (r < 0)
			return r;
	}
	n->size = t->end - n->offset;
	n->digest = hash_digest(t->hash);
	return 0;
}
