/* Images as one archive that docker, podman, skopeo and wabe itself read: an OCI layout with docker's
 * manifest.json beside it. The same images give the same bytes. */
#include "image/archive.h"

#include "base/map.h"
#include "base/str.h"
#include "image/hash.h"
#include "image/manifest.h"

#include <archive.h>
#include <archive_entry.h>
#include <stdio.h>
#include <unistd.h>

#define CHUNK ((size_t)256 << 10)

struct saver {
	struct content *c;
	struct archive *archive;
	char *chunk;
	char **digests; /* of the blobs to write, each once, sorted */
};

static int failed(struct saver *s, struct error *err) {
	int errnum = archive_errno(s->archive);
	return error_errno(err, errnum > 0 ? errnum : EIO, "cannot write the archive");
}

static int begin_entry(struct saver *s, const char *name, mode_t type, uint64_t size, struct error *err) {
	struct archive_entry *e = archive_entry_new();
	if (!e)
		abort(); /* memory */
	archive_entry_set_pathname(e, name);
	archive_entry_set_filetype(e, type);
	archive_entry_set_perm(e, type == AE_IFDIR ? 0755 : 0644);
	archive_entry_set_size(e, (la_int64_t)size);
	archive_entry_set_mtime(e, 0, 0);
	int state = archive_write_header(s->archive, e);
	archive_entry_free(e);
	return state == ARCHIVE_OK ? 0 : failed(s, err);
}

static int write_data(struct saver *s, const void *data, size_t n, struct error *err) {
	for (const char *p = data; n;) {
		la_ssize_t w = archive_write_data(s->archive, p, n);
		if (w <= 0)
			return failed(s, err);
		p += w;
		n -= (size_t)w;
	}
	return 0;
}

static int write_text(struct saver *s, const char *name, const char *text, struct error *err) {
	int r = begin_entry(s, name, AE_IFREG, strlen(text), err);
	return r < 0 ? r : write_data(s, text, strlen(text), err);
}

/* Reads a blob, and checks that it still is what its digest says. */
static int read_blob(struct saver *s, const char *digest, bool write, struct error *err) {
	uint64_t size;
	_cleanup_(close_fd) int fd = content_blob(s->c, digest, &size, err);
	_cleanup_(hash_free_ptr) struct hash *h = hash_new();
	_cleanup_(free_ptr) char *name = str_format("blobs/sha256/%s", digest + 7);
	int r = fd < 0 ? fd : write ? begin_entry(s, name, AE_IFREG, size, err) : 0;
	ssize_t n = 0;
	while (r == 0 && (n = RETRY_EINTR(read(fd, s->chunk, CHUNK))) > 0) {
		hash_add(h, s->chunk, (size_t)n);
		r = write ? write_data(s, s->chunk, (size_t)n, err) : 0;
	}
	if (r < 0)
		return r;
	if (n < 0)
		return error_errno(err, errno, "cannot read blob %s", digest);
	_cleanup_(free_ptr) char *real = hash_digest(h);
	if (strcmp(real, digest) == 0)
		return 0;
	content_drop(s->c, digest);
	return error_set(err, ERROR_CORRUPT, "blob %s is corrupt on disk: its content has the digest %s. Pull or load the image again",
			 digest, real);
}

static void collect_digests(struct saver *s, const struct image *images, size_t n) {
	struct map *seen = map_new(NULL);
	for (size_t i = 0; i < n; i++) {
		map_set(seen, images[i].digest, s);
		for (size_t k = 0; images[i].index_blobs && images[i].index_blobs[k]; k++)
			map_set(seen, images[i].index_blobs[k], s);
		map_set(seen, images[i].id, s);
		for (size_t k = 0; k < images[i].layers.n; k++)
			map_set(seen, images[i].layers.items[k].digest, s);
	}
	s->digests = alloc_array(map_count(seen) + 1, sizeof *s->digests);
	const char *digest;
	size_t count = 0;
	for (size_t at = 0; map_next(seen, &at, &digest, NULL);)
		s->digests[count++] = str_copy(digest);
	map_free(seen);
	strv_sort(s->digests);
}

static json_t *platform_of(const struct image *image) {
	json_t *platform = json_object();
	json_set_str(platform, "architecture", image->architecture);
	json_set_str(platform, "os", image->os);
	json_set_str(platform, "variant", image->variant);
	return platform;
}

static json_t *index_entry(const struct image *image, uint64_t size, const char *name) {
	json_t *o = json_object();
	json_set_str(o, "mediaType", image->index ? TYPE_OCI_INDEX : image->media_type);
	json_set_str(o, "digest", image->index ? image->index : image->digest);
	json_set_int(o, "size", (int64_t)size);
	if (!image->index)
		json_object_set_new(o, "platform", platform_of(image));
	if (name) {
		json_t *annotations = json_object();
		const char *tag = strrchr(name, ':');
		json_set_str(annotations, "io.containerd.image.name", name);
		json_set_str(annotations, "org.opencontainers.image.ref.name",
			     tag && !strchr(tag, '/') ? tag + 1 : name);
		json_object_set_new(o, "annotations", annotations);
	}
	return o;
}

static int write_index(struct saver *s, const struct image *images, size_t n, struct error *err) {
	_cleanup_(json_free_ptr) json_t *o = json_object();
	json_t *entries = json_array();
	json_set_int(o, "schemaVersion", 2);
	json_set_str(o, "mediaType", TYPE_OCI_INDEX);
	json_object_set_new(o, "manifests", entries);
	for (size_t i = 0; i < n; i++) {
		uint64_t size;
		_cleanup_(close_fd) int fd = content_blob(s->c, images[i].index ? images[i].index : images[i].digest, &size, err);
		if (fd < 0)
			return fd;
		for (size_t k = 0; images[i].names && images[i].names[k]; k++)
			json_array_append_new(entries, index_entry(&images[i], size, images[i].names[k]));
		if (!images[i].names || !images[i].names[0])
			json_array_append_new(entries, index_entry(&images[i], size, NULL));
	}
	_cleanup_(free_ptr) char *text = json_print(o);
	return write_text(s, "index.json", text, err);
}

/* Tags as docker writes them; a name with a digest alone is none. */
static char **tags_of(const struct image *image) {
	char **tags = NULL;
	for (size_t i = 0; image->names && image->names[i]; i++) {
		struct image_ref ref = {0};
		if (image_ref_parse(image->names[i], &ref, NULL) < 0)
			continue;
		free(TAKE_PTR(ref.digest));
		if (ref.tag)
			strv_take(&tags, image_ref_familiar(&ref));
		image_ref_free(&ref);
	}
	return tags;
}

static void add_repositories(json_t *repositories, const struct image *image, char *const *tags) {
	if (!image->layers.n)
		return;
	const char *top = image->layers.items[image->layers.n - 1].digest + 7;
	for (size_t i = 0; tags && tags[i]; i++) {
		const char *tag = strrchr(tags[i], ':');
		if (!tag)
			continue;
		_cleanup_(free_ptr) char *repository = str_copyn(tags[i], (size_t)(tag - tags[i]));
		json_t *of = json_object_get(repositories, repository);
		if (!of)
			json_object_set_new(repositories, repository, of = json_object());
		json_set_str(of, tag + 1, top);
	}
}

static int write_docker(struct saver *s, const struct image *images, size_t n, struct error *err) {
	_cleanup_(json_free_ptr) json_t *list = json_array(), *repositories = json_object();
	for (size_t i = 0; i < n; i++) {
		if (!image_is_oci(&images[i]))
			continue; /* nothing that docker could load */
		_cleanup_(strv_free_ptr) char **tags = tags_of(&images[i]);
		_cleanup_(free_ptr) char *config = str_format("blobs/sha256/%s", images[i].id + 7);
		json_t *o = json_object(), *layers = json_array();
		json_set_str(o, "Config", config);
		json_object_set_new(o, "RepoTags", json_from_strv(tags));
		for (size_t k = 0; k < images[i].layers.n; k++)
			json_array_append_new(layers,
					      json_sprintf("blobs/sha256/%s", images[i].layers.items[k].digest + 7));
		json_object_set_new(o, "Layers", layers);
		json_array_append_new(list, o);
		add_repositories(repositories, &images[i], tags);
	}
	_cleanup_(free_ptr) char *manifest = json_print(list), *legacy = json_print(repositories);
	int r = write_text(s, "manifest.json", manifest, err);
	return r < 0 ? r : write_text(s, "repositories", legacy, err);
}

static int save(struct saver *s, const struct image *images, size_t n, int fd, struct error *err) {
	archive_write_set_format_pax_restricted(s->archive);
	archive_write_set_bytes_in_last_block(s->archive, 1);
	if (archive_write_open_fd(s->archive, fd) != ARCHIVE_OK)
		return failed(s, err);
	collect_digests(s, images, n);
	/* first all are looked at: what is found amid the archive can only cut it off, and tells nobody why */
	int r = 0;
	for (size_t i = 0; r == 0 && s->digests[i]; i++)
		r = read_blob(s, s->digests[i], false, err);
	if (r == 0)
		r = write_text(s, "oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}", err);
	if (r == 0)
		r = write_index(s, images, n, err);
	if (r == 0)
		r = write_docker(s, images, n, err);
	if (r == 0)
		r = begin_entry(s, "blobs/", AE_IFDIR, 0, err);
	if (r == 0)
		r = begin_entry(s, "blobs/sha256/", AE_IFDIR, 0, err);
	for (size_t i = 0; r == 0 && s->digests[i]; i++)
		r = read_blob(s, s->digests[i], true, err);
	if (r == 0 && archive_write_close(s->archive) != ARCHIVE_OK)
		r = failed(s, err);
	if (r < 0)
		archive_write_fail(s->archive); /* no end mark behind half of it */
	return r;
}

int archive_save(struct content *c, const struct image *images, size_t n, int fd, struct error *err) {
	struct saver s = {.c = c, .archive = archive_write_new(), .chunk = alloc_zero(CHUNK)};
	if (!s.archive)
		abort(); /* memory */
	int r = save(&s, images, n, fd, err);
	archive_write_free(s.archive);
	free(s.chunk);
	strv_free(s.digests);
	return r;
}
