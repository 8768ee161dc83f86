/* Reads OVA archives. Each file of the archive goes through three hashes as it passes, for what a manifest says of it may stand
 * before or behind it; disks go into the content store, everything else nowhere. */
#include "image/ova.h"

#include "base/fs.h"
#include "base/str.h"

#include <archive.h>
#include <archive_entry.h>
#include <openssl/evp.h>
#include <strings.h>

#define ENTRIES_MAX 64
#define NAME_BYTES_MAX 255
#define DESCRIPTOR_MAX ((size_t)4 << 20)
#define MANIFEST_MAX ((size_t)1 << 20)
#define CHUNK ((size_t)256 << 10)

struct reader {
	struct content *content;
	struct ova *out;
	struct archive *archive;
	struct {
		const char *head;
		size_t n;
		int fd;
		char *chunk;
	} in;
	char *chunk;
	EVP_MD_CTX *hashes[3];
	struct ova_file files[ENTRIES_MAX];
	size_t n;
	struct buf descriptor, manifest;
	bool has_manifest;
};

/* ---- bytes ---- */

static la_ssize_t on_read(struct archive *a, void *arg, const void **data) {
	struct reader *r = arg;
	if (r->in.n) {
		*data = r->in.head;
		size_t n = r->in.n;
		r->in.n = 0;
		return (la_ssize_t)n;
	}
	ssize_t n = RETRY_EINTR(read(r->in.fd, r->in.chunk, CHUNK));
	if (n < 0)
		archive_set_error(a, errno, "%s", strerror(errno));
	*data = r->in.chunk;
	return n;
}

static int damaged(struct reader *r, struct error *err) {
	const char *why = archive_error_string(r->archive);
	return error_set(err, ERROR_CORRUPT, "the OVA is damaged or cut off: %s", why ? why : "unknown");
}

static void must(int ok) {
	if (!ok)
		abort(); /* memory */
}

/* One piece of the entry's data, hashed: its length, 0 at the end. */
static ssize_t read_piece(struct reader *r, struct error *err) {
	la_ssize_t n;
	do
		n = archive_read_data(r->archive, r->chunk, CHUNK);
	while (n == ARCHIVE_RETRY);
	for (size_t i = 0; n > 0 && i < ARRAY_SIZE(r->hashes); i++)
		must(EVP_DigestUpdate(r->hashes[i], r->chunk, (size_t)n));
	return n < 0 ? damaged(r, err) : (ssize_t)n;
}

static void hashes_begin(struct reader *r) {
	const EVP_MD *const kinds[] = {EVP_sha1(), EVP_sha256(), EVP_sha512()};
	for (size_t i = 0; i < ARRAY_SIZE(r->hashes); i++)
		must(EVP_DigestInit_ex(r->hashes[i], kinds[i], NULL));
}

static void hashes_end(struct reader *r, struct ova_file *f) {
	uint8_t raw[EVP_MAX_MD_SIZE];
	char hex[2 * EVP_MAX_MD_SIZE + 1];
	unsigned n;
	for (size_t i = 0; i < ARRAY_SIZE(r->hashes); i++) {
		must(EVP_DigestFinal_ex(r->hashes[i], raw, &n));
		hex_encode(raw, n, hex);
		f->sums[i] = str_copy(hex);
	}
}

/* ---- entries ---- */

static int read_text(struct reader *r, struct buf *to, size_t max, const char *name, struct error *err) {
	ssize_t n;
	while ((n = read_piece(r, err)) > 0) {
		if (to->len + (size_t)n > max)
			return error_set(err, ERROR_TOO_LARGE, "%s of the OVA has more than %zu bytes", name, max);
		buf_add(to, r->chunk, (size_t)n);
	}
	return (int)n;
}

static int skip(struct reader *r, struct error *err) {
	ssize_t n;
	while ((n = read_piece(r, err)) > 0)
		;
	return (int)n;
}

static int store(struct reader *r, size_t disk, struct error *err) {
	struct ingest *to;
	ssize_t n = 0;
	int result = content_ingest(r->content, NULL, &to, err);
	if (result < 0)
		return result;
	while (result == 0 && (n = read_piece(r, err)) > 0)
		result = ingest_write(to, r->chunk, (size_t)n, err);
	if (result < 0 || n < 0) {
		ingest_abort(to);
		return result < 0 ? result : (int)n;
	}
	r->out->sizes[disk] = (int64_t)ingest_offset(to);
	return ingest_commit(to, &r->out->digests[disk], err);
}

/* Whether it is that of a disk, which is stored then. */
static int take_disk(struct reader *r, const char *name, struct error *err) {
	struct ovf *o = &r->out->ovf;
	for (size_t i = 0; i < o->n; i++)
		if (str_same(o->disks[i].file, name))
			return store(r, i, err);
	return skip(r, err);
}

static bool has_suffix(const char *name, const char *suffix) {
	size_t n = strlen(name), len = strlen(suffix);
	return n > len && strcasecmp(name + n - len, suffix) == 0;
}

static int read_entry(struct reader *r, const char *name, struct error *err) {
	if (r->n == 1 && !has_suffix(name, ".ovf"))
		return error_set(err, ERROR_INVALID, "the first file of the OVA is %s: it must be its descriptor, NAME.ovf", name);
	if (r->n == 1) {
		int result = read_text(r, &r->descriptor, DESCRIPTOR_MAX, name, err);
		return result < 0 ? result : ovf_parse(buf_str(&r->descriptor), r->descriptor.len, &r->out->ovf, err);
	}
	if (has_suffix(name, ".ovf"))
		return error_set(err, ERROR_INVALID, "the OVA has two descriptors, %s and %s", r->files[0].name, name);
	if (!has_suffix(name, ".mf"))
		return take_disk(r, name, err);
	if (r->has_manifest)
		return error_set(err, ERROR_INVALID, "the OVA has two manifests, one of them %s", name);
	r->has_manifest = true;
	return read_text(r, &r->manifest, MANIFEST_MAX, name, err);
}

/* Files alone, beside each other. "./" before a name is none of it. */
static int check_name(const struct reader *r, struct archive_entry *e, const char *name, const char *shown, struct error *err) {
	if (!*name || strlen(name) > NAME_BYTES_MAX || str_same(name, ".") || str_same(name, "..") || name[0] == '/' ||
	    str_starts(name, "../") || strstr(name, "/../") || text_check(name, NULL) < 0)
		return error_set(err, ERROR_INVALID, "the OVA has a file with the name \"%s\", which is none for a file within it", shown);
	if (archive_entry_filetype(e) != AE_IFREG || archive_entry_symlink(e) || archive_entry_hardlink(e))
		return error_set(err, ERROR_INVALID, "%s in the OVA is no file but a link, directory or device", shown);
	if (archive_entry_sparse_count(e) > 0)
		return error_set(err, ERROR_INVALID, "%s in the OVA is stored with holes, as no OVA is", shown);
	for (size_t i = 0; i < r->n; i++)
		if (strcasecmp(r->files[i].name, name) == 0)
			return error_set(err, ERROR_INVALID, "the OVA has two files %s", shown);
	if (r->n == ENTRIES_MAX)
		return error_set(err, ERROR_TOO_LARGE, "the OVA has more than %d files", ENTRIES_MAX);
	return 0;
}

static int take_entry(struct reader *r, struct archive_entry *e, struct error *err) {
	const char *name = archive_entry_pathname(e);
	name = name ? name : "";
	if (archive_entry_filetype(e) == AE_IFDIR && (str_same(name, "./") || str_same(name, ".")))
		return 0;
	if (str_starts(name, "./"))
		name += 2;
	_cleanup_(free_ptr) char *shown = text_shown(name);
	int result = check_name(r, e, name, shown, err);
	if (result < 0)
		return result;
	struct ova_file *f = &r->files[r->n++];
	f->name = str_copy(name);
	hashes_begin(r);
	result = read_entry(r, f->name, err);
	hashes_end(r, f);
	return result;
}

static int read_archive(struct reader *r, struct error *err) {
	struct archive_entry *e;
	archive_read_support_format_tar(r->archive);
	if (archive_read_open(r->archive, r, NULL, on_read, NULL) != ARCHIVE_OK)
		return damaged(r, err);
	for (;;) {
		int state = archive_read_next_header(r->archive, &e);
		if (state == ARCHIVE_EOF)
			return r->n ? 0 : error_set(err, ERROR_INVALID, "the OVA is empty");
		if (state == ARCHIVE_RETRY)
			continue;
		int result = state == ARCHIVE_OK || state == ARCHIVE_WARN ? take_entry(r, e, err) : damaged(r, err);
		if (result < 0)
			return result;
	}
}

/* ---- what it says of itself ---- */

static int check_complete(const struct reader *r, struct error *err) {
	const struct ova *o = r->out;
	for (size_t i = 0; i < o->ovf.n; i++) {
		_cleanup_(free_ptr) char *file = text_shown(o->ovf.disks[i].file), *id = text_shown(o->ovf.disks[i].id);
		for (size_t k = 0; k < i; k++)
			if (str_same(o->ovf.disks[k].file, o->ovf.disks[i].file))
				return error_set(err, ERROR_INVALID, "the OVF descriptor has two disks of the same file %s", file);
		if (!o->digests[i])
			return error_set(err, ERROR_CORRUPT, "the OVA has no file %s, which its descriptor names as disk %s: it is cut off, or was made wrongly",
					 file, id);
	}
	return r->has_manifest ? ova_manifest_check(buf_str(&r->manifest), r->files, r->n, err) : 0;
}

static void reader_free(struct reader *r) {
	for (size_t i = 0; i < r->n; i++) {
		free(r->files[i].name);
		for (size_t k = 0; k < ARRAY_SIZE(r->files[i].sums); k++)
			free(r->files[i].sums[k]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(r->hashes); i++)
		EVP_MD_CTX_free(r->hashes[i]);
	archive_read_free(r->archive);
	buf_free(&r->descriptor);
	buf_free(&r->manifest);
	free(r->chunk);
	free(r->in.chunk);
}

int ova_load(struct content *c, const void *head, size_t n, int fd, struct ova *out, struct error *err) {
	_cleanup_(free_ptr) struct reader *r = NEW(struct reader);
	*out = (struct ova){0};
	r->content = c;
	r->out = out;
	r->in.head = head;
	r->in.n = n;
	r->in.fd = fd;
	r->in.chunk = alloc_zero(CHUNK);
	r->chunk = alloc_zero(CHUNK);
	r->archive = archive_read_new();
	must(r->archive != NULL);
	for (size_t i = 0; i < ARRAY_SIZE(r->hashes); i++)
		must((r->hashes[i] = EVP_MD_CTX_new()) != NULL);
	int result = read_archive(r, err);
	if (result == 0)
		result = check_complete(r, err);
	reader_free(r);
	if (result < 0)
		ova_free(out);
	return result;
}

void ova_free(struct ova *o) {
	for (size_t i = 0; i < OVF_DISKS_MAX; i++)
		free(o->digests[i]);
	ovf_free(&o->ovf);
	*o = (struct ova){0};
}
