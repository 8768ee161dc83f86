/* Docker and OCI archives, and OCI layout directories, into the content store.
 *
 * An archive is read once, from front to back, as it may come through a pipe: every file in it goes into
 * the content store as a blob as it passes, and is looked up by its name afterwards. Nothing is written
 * under a name that the archive gives, and no blob counts as the archive's unless its bytes were in it. */
#include "image/archive.h"

#include "base/fs.h"
#include "base/map.h"
#include "base/str.h"
#include "image/compress.h"
#include "image/hash.h"
#include "image/manifest.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define ENTRIES_MAX 65536
#define NAME_MAX_BYTES 1024
#define JSON_MAX ((size_t)16 << 20)
#define IMAGES_MAX 1024
#define LINKS_MAX 8
#define CHUNK ((size_t)256 << 10)

struct loader {
	struct content *c;
	struct map *files; /* clean name → digest */
	struct map *links; /* clean name → clean name */
	size_t entries;
	struct buf index, manifest; /* index.json, manifest.json */
	bool has_index, has_manifest;
	char *chunk;
	int dir; /* of a layout, else -1 */
	FIELD_LIST_OF(struct image) images;
};

/* --- names --- */

/* "./a//b/../c" is "a/c"; what leads out of the archive stays at its top. */
static char *clean_name(const char *name) {
	struct buf clean = BUF_INIT;
	struct str rest = str_view(name);
	while (rest.len) {
		struct str part = str_cut(&rest, '/');
		if (part.len == 0 || str_is(part, "."))
			continue;
		if (str_is(part, "..")) {
			const char *slash = strrchr(buf_str(&clean), '/');
			buf_truncate(&clean, slash ? (size_t)(slash - buf_str(&clean)) : 0);
			continue;
		}
		buf_adds(&clean, clean.len ? "/" : "");
		buf_add(&clean, part.p, part.len);
	}
	return buf_steal(&clean);
}

/* The name that a symbolic link at `name` leads to. */
static char *link_target(const char *name, const char *target) {
	const char *slash = strrchr(name, '/');
	int dir = slash && target[0] != '/' ? (int)(slash - name) : 0;
	_cleanup_(free_ptr) char *joined = str_format("%.*s/%s", dir, name, target);
	return clean_name(joined);
}

/* The digest of the file of that name, through links. */
static const char *find_file(const struct loader *l, const char *name) {
	_cleanup_(free_ptr) char *clean = clean_name(name);
	const char *at = clean;
	for (int i = 0; at && i < LINKS_MAX; i++) {
		const char *digest = map_get(l->files, at);
		if (digest)
			return digest;
		at = map_get(l->links, at);
	}
	return NULL;
}

static char *blob_name(const char *digest) {
	return str_format("blobs/sha256/%s", digest + 7);
}

/* --- reading the archive --- */

static int damaged(struct archive *a, struct error *err) {
	const char *why = archive_error_string(a);
	return error_set(err, ERROR_CORRUPT, "the archive is damaged: %s", why ? why : "unknown");
}

/* One piece of the entry's data: its length, 0 at the end. */
static ssize_t read_piece(struct loader *l, struct archive *a, struct error *err) {
	la_ssize_t n;
	do
		n = archive_read_data(a, l->chunk, CHUNK);
	while (n == ARCHIVE_RETRY);
	return n < 0 ? damaged(a, err) : (ssize_t)n;
}

static int read_text(struct loader *l, struct archive *a, struct buf *out, const char *name, struct error *err) {
	ssize_t n;
	buf_truncate(out, 0);
	while ((n = read_piece(l, a, err)) > 0) {
		if (out->len + (size_t)n > JSON_MAX)
			return error_set(err, ERROR_TOO_LARGE, "%s is over the limit of %zu bytes", name, JSON_MAX);
		buf_add(out, l->chunk, (size_t)n);
	}
	return (int)n;
}

/* Reads the entry through the hash alone: the blob is in the store already. */
static int hash_entry(struct loader *l, struct archive *a, char **digest, struct error *err) {
	_cleanup_(hash_free_ptr) struct hash *h = hash_new();
	ssize_t n;
	while ((n = read_piece(l, a, err)) > 0)
		hash_add(h, l->chunk, (size_t)n);
	if (n == 0)
		*digest = hash_digest(h);
	return (int)n;
}

static int store_entry(struct loader *l, struct archive *a, char **digest, struct error *err) {
	struct ingest *i;
	int r = content_ingest(l->c, NULL, &i, err);
	if (r < 0)
		return r;
	ssize_t n;
	while ((n = read_piece(l, a, err)) > 0) {
		r = ingest_write(i, l->chunk, (size_t)n, err);
		if (r < 0)
			break;
	}
	if (n < 0 || r < 0) {
		ingest_abort(i);
		return r < 0 ? r : (int)n;
	}
	return ingest_commit(i, digest, err);
}

static int take_file(struct loader *l, struct archive *a, const char *name, struct error *err) {
	_cleanup_(free_ptr) char *said = str_starts(name, "blobs/sha256/") ? str_format("sha256:%s", name + 13) : NULL;
	if (said && digest_check(said, NULL) < 0)
		free(TAKE_PTR(said));
	_cleanup_(free_ptr) char *digest = NULL;
	int r = said && content_has(l->c, said) ? hash_entry(l, a, &digest, err) : store_entry(l, a, &digest, err);
	if (r < 0)
		return r;
	if (said && strcmp(said, digest) != 0)
		return error_set(err, ERROR_CORRUPT, "blob %s of the archive is corrupt: its content has the digest %s",
				 said, digest);
	map_set(l->files, name, TAKE_PTR(digest));
	return 0;
}

/* Files that nothing refers to. */
static bool is_unused(const char *name) {
	return strcmp(name, "repositories") == 0 || strcmp(name, "oci-layout") == 0 || str_ends(name, "/VERSION") ||
	       str_ends(name, "/json");
}

static int take_entry(struct loader *l, struct archive *a, struct archive_entry *e, struct error *err) {
	const char *raw = archive_entry_pathname(e);
	const char *target = archive_entry_symlink(e), *hard = archive_entry_hardlink(e);
	if (++l->entries > ENTRIES_MAX)
		return error_set(err, ERROR_TOO_LARGE, "the archive has more than %d entries", ENTRIES_MAX);
	if (!raw || strlen(raw) > NAME_MAX_BYTES)
		return error_set(err, ERROR_INVALID, "the archive has an entry whose name is not valid or too long");
	_cleanup_(free_ptr) char *name = clean_name(raw);
	if (hard)
		map_set(l->links, name, clean_name(hard));
	else if (target)
		map_set(l->links, name, link_target(name, target));
	if (hard || target || archive_entry_filetype(e) != AE_IFREG)
		return 0;
	if (archive_entry_sparse_count(e) > 0)
		return error_set(err, ERROR_INVALID, "the archive has a sparse file, %s", name);
	if (strcmp(name, "index.json") == 0) {
		l->has_index = true;
		return read_text(l, a, &l->index, name, err);
	}
	if (strcmp(name, "manifest.json") == 0) {
		l->has_manifest = true;
		return read_text(l, a, &l->manifest, name, err);
	}
	return is_unused(name) ? 0 : take_file(l, a, name, err);
}

static void archive_cleanup(struct archive **a) {
	archive_read_free(*a);
}

static int read_archive(struct loader *l, int fd, struct error *err) {
	_cleanup_(archive_cleanup) struct archive *a = archive_read_new();
	if (!a)
		abort(); /* memory */
	archive_read_support_format_tar(a);
	archive_read_support_filter_gzip(a);
	archive_read_support_filter_zstd(a);
	archive_read_support_filter_bzip2(a);
	archive_read_support_filter_xz(a);
	if (archive_read_open_fd(a, fd, CHUNK) != ARCHIVE_OK)
		return error_set(err, ERROR_INVALID, "it is not a tar archive, nor one compressed with gzip, bzip2, xz or zstd");
	for (;;) {
		struct archive_entry *e;
		int state = archive_read_next_header(a, &e);
		if (state == ARCHIVE_EOF)
			return 0;
		if (state == ARCHIVE_RETRY)
			continue;
		if (state != ARCHIVE_OK && state != ARCHIVE_WARN)
			return l->entries ? damaged(a, err)
					  : error_set(err, ERROR_INVALID,
						      "it is not a tar archive, nor one compressed with gzip, bzip2, xz or zstd");
		int r = take_entry(l, a, e, err);
		if (r < 0)
			return r;
	}
}

/* --- a layout directory --- */

static int open_in_layout(struct loader *l, const char *name, struct error *err) {
	_cleanup_(close_fd) int fd = fs_open_beneath(l->dir, name, O_RDONLY | O_NONBLOCK, 0);
	struct stat st;
	if (fd < 0)
		return error_errno(err, fd, "cannot open %s in the image layout", name);
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return error_set(err, ERROR_INVALID, "%s in the image layout is not a regular file", name);
	return TAKE_FD(fd);
}

/* Copies a blob of the layout into the content store, unless it is there. */
static int take_from_layout(struct loader *l, const char *digest, struct error *err) {
	_cleanup_(free_ptr) char *name = blob_name(digest);
	if (map_get(l->files, name))
		return 0;
	_cleanup_(close_fd) int fd = open_in_layout(l, name, err);
	struct ingest *i;
	int r = fd < 0 ? fd : content_ingest(l->c, digest, &i, err);
	if (r < 0)
		return r;
	if (i) {
		ingest_restart(i);
		ssize_t n;
		while ((n = RETRY_EINTR(read(fd, l->chunk, CHUNK))) > 0 &&
		       (r = ingest_write(i, l->chunk, (size_t)n, err)) == 0)
			;
		if (n < 0)
			r = error_errno(err, errno, "cannot read %s in the image layout", name);
		if (r == 0)
			r = ingest_commit(i, NULL, err);
		else
			ingest_abort(i);
	}
	if (r == 0)
		map_set(l->files, name, str_copy(digest));
	return r;
}

/* --- images --- */

/* Whether a blob that an image needs came with the archive (of a layout it is fetched now). */
static int need_blob(struct loader *l, const char *digest, struct error *err) {
	if (l->dir >= 0)
		return take_from_layout(l, digest, err);
	_cleanup_(free_ptr) char *name = blob_name(digest);
	const char *found = find_file(l, name);
	if (found && strcmp(found, digest) == 0)
		return 0;
	return error_set(err, ERROR_CORRUPT, "the archive is not complete: blob %s is missing", digest);
}

static int add_name(struct image *image, const char *text, struct error *err) {
	struct image_ref ref = {0};
	int r = image_ref_parse(text, &ref, err);
	if (r < 0)
		return error_wrap(err, "the archive names an image \"%.100s\"", text);
	_cleanup_(free_ptr) char *full = image_ref_print(&ref);
	image_ref_free(&ref);
	if (!strv_has(image->names, full))
		strv_add(&image->names, full);
	return 0;
}

static struct image *add_image(struct loader *l, struct image *image) {
	l->images.items = alloc_resize(l->images.items, l->images.n + 1, sizeof *l->images.items);
	l->images.items[l->images.n] = *image;
	return &l->images.items[l->images.n++];
}

/* The annotations' name, if it is a whole one: "latest" alone names nothing. */
static int add_annotated_name(struct image *image, const struct descriptor *d, struct error *err) {
	if (d->name)
		return add_name(image, d->name, err);
	if (d->ref_name && strpbrk(d->ref_name, ":/"))
		return add_name(image, d->ref_name, err);
	return 0;
}

/* Follows indexes to the manifest for this host, and sees to it that all of it is there. */
static int find_manifest(struct loader *l, const struct descriptor *top, struct manifest *m, char **digest,
			 struct error *err) {
	*digest = str_copy(top->digest);
	_cleanup_(free_ptr) char *type = str_copy(top->media_type);
	for (int depth = 0; depth < LINKS_MAX; depth++) {
		_cleanup_(buf_free) struct buf text = BUF_INIT;
		int r = need_blob(l, *digest, err);
		if (r == 0)
			r = content_read(l->c, *digest, &text, err);
		manifest_free(m);
		if (r == 0)
			r = manifest_parse(buf_str(&text), text.len, type, m, err);
		if (r < 0 || !m->index)
			return r;
		const struct descriptor *d;
		r = manifest_select(m, NULL, &d, err);
		if (r < 0)
			return r;
		free(*digest);
		free(type);
		*digest = str_copy(d->digest);
		type = str_copy(d->media_type);
	}
	return error_set(err, ERROR_INVALID, "indexes refer to indexes without end");
}

static int read_oci_image(struct loader *l, const struct descriptor *top, struct manifest *m, char **digest,
			  struct image *out, struct error *err) {
	_cleanup_(buf_free) struct buf config = BUF_INIT;
	int r = find_manifest(l, top, m, digest, err);
	if (r == 0)
		r = need_blob(l, m->config.digest, err);
	for (size_t i = 0; r == 0 && i < m->items.n; i++)
		r = need_blob(l, m->items.items[i].digest, err);
	if (r == 0)
		r = content_read(l->c, m->config.digest, &config, err);
	return r < 0 ? r : image_from_parts(m, *digest, buf_str(&config), config.len, out, err);
}

static int need_part(const struct descriptor *d, void *arg, struct error *err) {
	return need_blob(arg, d->digest, err);
}

/* An index that the archive holds whole stays whole. */
static void keep_index(struct loader *l, const struct descriptor *top, struct image *image) {
	struct index_parts parts;
	if (str_same(top->digest, image->digest) || index_read(l->c, top->digest, need_part, l, &parts, NULL) < 0)
		return;
	int r = 0;
	for (size_t i = 0; r == 0 && i < parts.blobs.n; i++)
		r = need_blob(l, parts.blobs.items[i].digest, NULL);
	if (r == 0)
		image_take_index(image, &parts);
	index_parts_free(&parts);
}

static int load_oci_image(struct loader *l, const struct descriptor *top, struct error *err) {
	struct manifest m = {0};
	struct image image;
	_cleanup_(free_ptr) char *digest = NULL;
	int r = read_oci_image(l, top, &m, &digest, &image, err);
	manifest_free(&m);
	if (r < 0)
		return r;
	keep_index(l, top, &image);
	for (size_t i = 0; i < l->images.n; i++)
		if (strcmp(l->images.items[i].digest, image.digest) == 0) { /* once more under another name */
			fields_free(&image_table, &image);
			return add_annotated_name(&l->images.items[i], top, err);
		}
	return add_annotated_name(add_image(l, &image), top, err);
}

/* Of entries for several platforms those of others are left out, if there is one for this host. */
static int load_oci(struct loader *l, struct error *err) {
	struct manifest index;
	int r = manifest_parse(buf_str(&l->index), l->index.len, TYPE_OCI_INDEX, &index, err);
	if (r < 0)
		return error_wrap(err, "index.json");
	bool any_fits = false;
	for (size_t i = 0; i < index.items.n; i++)
		any_fits |= platform_fits(&index.items.items[i], NULL);
	for (size_t i = 0; r == 0 && i < index.items.n; i++) {
		const struct descriptor *d = &index.items.items[i];
		if (!d->attestation && (!any_fits || platform_fits(d, NULL)))
			r = load_oci_image(l, d, err);
	}
	manifest_free(&index);
	return r;
}

/* A layer of a docker archive: plain tar, or compressed by some programs. */
static int take_docker_layer(struct loader *l, const char *name, const char *diff_id, struct image *image,
			     struct error *err) {
	const char *digest = find_file(l, name);
	if (!digest)
		return error_set(err, ERROR_CORRUPT, "the archive is not complete: layer %.200s is missing", name);
	uint64_t size;
	_cleanup_(close_fd) int fd = content_blob(l->c, digest, &size, err);
	char magic[COMPRESSION_MAGIC];
	ssize_t n = fd < 0 ? -1 : pread(fd, magic, sizeof magic, 0);
	if (n < 0)
		return fd < 0 ? fd : error_errno(err, errno, "cannot read blob %s", digest);
	const char *type = TYPE_OCI_LAYER;
	switch (compression_of(magic, (size_t)n)) {
	case COMPRESSION_GZIP:
		type = TYPE_OCI_LAYER "+gzip";
		break;
	case COMPRESSION_ZSTD:
		type = TYPE_OCI_LAYER "+zstd";
		break;
	case COMPRESSION_BZIP2:
	case COMPRESSION_XZ:
		return error_set(err, ERROR_UNSUPPORTED, "layer %.200s is compressed with neither gzip nor zstd", name);
	case COMPRESSION_NONE:
		if (strcmp(digest, diff_id) != 0)
			return error_set(err, ERROR_CORRUPT, "layer %.200s is corrupt: it should be %s and is %s", name,
					 diff_id, digest);
	}
	image->layers.items[image->layers.n++] =
		(struct image_layer){str_copy(digest), str_copy(diff_id), str_copy(type), (int64_t)size};
	image->size += (int64_t)size;
	return 0;
}

static int take_docker_layers(struct loader *l, const json_t *layers, char *const *diff_ids, struct image *image,
			      struct error *err) {
	size_t n = json_array_size(layers);
	if (n != strv_len(diff_ids))
		return error_set(err, ERROR_INVALID, "manifest.json has %zu layers, the image's config %zu", n,
				 strv_len(diff_ids));
	image->layers.items = alloc_array(n, sizeof *image->layers.items);
	for (size_t i = 0; i < n; i++) {
		const char *name = json_string_value(json_array_get(layers, i));
		if (!name)
			return error_set(err, ERROR_INVALID, "a layer in manifest.json must be a string");
		int r = take_docker_layer(l, name, diff_ids[i], image, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int add_tags(struct image *image, const json_t *entry, struct error *err) {
	size_t i;
	json_t *tag;
	json_array_foreach(json_object_get(entry, "RepoTags"), i, tag) {
		const char *text = json_string_value(tag);
		int r = text ? add_name(image, text, err) : error_set(err, ERROR_INVALID, "RepoTags must be strings");
		if (r < 0)
			return r;
	}
	return 0;
}

static int fill_docker_image(struct loader *l, const json_t *entry, struct image *image, struct error *err) {
	const char *name = json_get_str(entry, "Config");
	const char *digest = name ? find_file(l, name) : NULL;
	if (!digest)
		return error_set(err, ERROR_CORRUPT, "the archive is not complete: config %.200s is missing",
				 name ? name : "");
	_cleanup_(buf_free) struct buf config = BUF_INIT, manifest = BUF_INIT;
	_cleanup_(strv_free_ptr) char **diff_ids = NULL;
	int r = content_read(l->c, digest, &config, err);
	if (r == 0)
		r = config_parse(buf_str(&config), config.len, image, &diff_ids, err);
	if (r == 0)
		r = take_docker_layers(l, json_object_get(entry, "Layers"), diff_ids, image, err);
	if (r < 0)
		return r;
	image->id = str_copy(digest);
	image->media_type = str_copy(TYPE_OCI_MANIFEST);
	_cleanup_(free_ptr) char *text = manifest_print(image, (int64_t)config.len);
	r = content_put(l->c, text, strlen(text), &image->digest, err);
	return r < 0 ? r : add_tags(image, entry, err);
}

static int load_docker_image(struct loader *l, const json_t *entry, struct error *err) {
	struct image image;
	fields_init(&image_table, &image);
	int r = fill_docker_image(l, entry, &image, err);
	if (r == 0)
		add_image(l, &image);
	else
		fields_free(&image_table, &image);
	return r;
}

/* In an archive that is both, docker's manifest.json may know further names. */
static int add_docker_names(struct loader *l, const json_t *entry, struct error *err) {
	const char *name = json_get_str(entry, "Config");
	const char *digest = name ? find_file(l, name) : NULL;
	for (size_t i = 0; digest && i < l->images.n; i++)
		if (strcmp(l->images.items[i].id, digest) == 0)
			return add_tags(&l->images.items[i], entry, err);
	return 0;
}

static int load_docker(struct loader *l, int (*each)(struct loader *, const json_t *, struct error *),
		       struct error *err) {
	_cleanup_(json_free_ptr) json_t *list = json_parse(buf_str(&l->manifest), l->manifest.len, err);
	if (!list)
		return error_wrap(err, "manifest.json");
	if (!json_is_array(list) || json_array_size(list) > IMAGES_MAX)
		return error_set(err, ERROR_INVALID, "manifest.json must be a list of at most %d images", IMAGES_MAX);
	size_t i;
	json_t *entry;
	json_array_foreach(list, i, entry) {
		int r = each(l, entry, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int load_images(struct loader *l, struct error *err) {
	int r;
	if (l->has_index) {
		r = load_oci(l, err);
		if (r == 0 && l->has_manifest)
			r = load_docker(l, add_docker_names, err);
	} else if (l->has_manifest) {
		r = load_docker(l, load_docker_image, err);
	} else {
		r = error_set(err, ERROR_INVALID,
			      "the archive holds no image: neither index.json nor manifest.json is in it");
	}
	if (r == 0 && !l->images.n)
		r = error_set(err, ERROR_INVALID, "the archive holds no image");
	return r;
}

/* --- the whole --- */

static int read_layout(struct loader *l, const char *dir, struct error *err) {
	l->dir = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (l->dir < 0)
		return error_errno(err, errno, "cannot open %s", dir);
	_cleanup_(close_fd) int fd = open_in_layout(l, "index.json", err);
	if (fd < 0)
		return fd;
	l->has_index = true;
	int r = fs_read_fd(fd, JSON_MAX, &l->index);
	return r < 0 ? error_errno(err, r, "cannot read index.json in %s", dir) : 0;
}

static int load(struct content *c, int fd, const char *dir, struct image **images, size_t *n, struct error *err) {
	struct loader l = {
		.c = c, .files = map_new(free), .links = map_new(free), .chunk = alloc_zero(CHUNK), .dir = -1};
	content_hold(c);
	int r = dir ? read_layout(&l, dir, err) : read_archive(&l, fd, err);
	if (r == 0)
		r = load_images(&l, err);
	content_release(c);
	for (size_t i = 0; r < 0 && i < l.images.n; i++)
		fields_free(&image_table, &l.images.items[i]);
	if (r < 0) {
		free(l.images.items);
		l.images.items = NULL;
		l.images.n = 0;
	}
	*images = l.images.items;
	*n = l.images.n;
	map_free(l.files);
	map_free(l.links);
	buf_free(&l.index);
	buf_free(&l.manifest);
	free(l.chunk);
	close_fd(&l.dir);
	return r;
}

int archive_load(struct content *c, int fd, struct image **images, size_t *n, struct error *err) {
	return load(c, fd, NULL, images, n, err);
}

int archive_load_layout(struct content *c, const char *dir, struct image **images, size_t *n, struct error *err) {
	return load(c, -1, dir, images, n, err);
}
