/* Writes OVA archives: descriptor, manifest (SHA-256), disks. The same machine gives the same bytes. */
#include "image/ova.h"

#include "base/buf.h"
#include "base/str.h"
#include "image/hash.h"

#include <archive.h>
#include <archive_entry.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK ((size_t)256 << 10)

struct writer {
	struct archive *archive;
	char *chunk;
};

static int failed(struct writer *w, struct error *err) {
	int errnum = archive_errno(w->archive);
	return error_errno(err, errnum > 0 ? errnum : EIO, "cannot write the OVA");
}

static int begin(struct writer *w, const char *name, uint64_t size, struct error *err) {
	struct archive_entry *e = archive_entry_new();
	if (!e)
		abort(); /* memory */
	archive_entry_set_pathname(e, name);
	archive_entry_set_filetype(e, AE_IFREG);
	archive_entry_set_perm(e, 0644);
	archive_entry_set_size(e, (la_int64_t)size);
	archive_entry_set_mtime(e, 0, 0);
	int state = archive_write_header(w->archive, e);
	archive_entry_free(e);
	return state == ARCHIVE_OK ? 0 : failed(w, err);
}

static int put(struct writer *w, const void *data, size_t n, struct error *err) {
	for (const char *p = data; n;) {
		la_ssize_t done = archive_write_data(w->archive, p, n);
		if (done <= 0)
			return failed(w, err);
		p += done;
		n -= (size_t)done;
	}
	return 0;
}

static int put_text(struct writer *w, const char *name, const char *text, struct error *err) {
	int r = begin(w, name, strlen(text), err);
	return r < 0 ? r : put(w, text, strlen(text), err);
}

/* Through the hash (NULL: none) or into the archive. */
static int read_file(struct writer *w, int fd, struct hash *h, struct error *err) {
	int r = 0;
	off_t at = 0;
	for (ssize_t n; r == 0 && (n = RETRY_EINTR(pread(fd, w->chunk, CHUNK, at))) != 0; at += n) {
		if (n < 0)
			return error_errno(err, errno, "cannot read a disk");
		if (h)
			hash_add(h, w->chunk, (size_t)n);
		else
			r = put(w, w->chunk, (size_t)n, err);
	}
	return r;
}

/* "SHA256(name)= hex"; digest: "sha256:hex". */
static void list(struct buf *manifest, const char *name, const char *digest) {
	buf_addf(manifest, "SHA256(%s)= %s\n", name, strchr(digest, ':') + 1);
}

static int list_disks(struct writer *w, const struct ovf *o, const int *files, struct buf *manifest, struct error *err) {
	_cleanup_(hash_free_ptr) struct hash *h = hash_new();
	for (size_t i = 0; i < o->n; i++) {
		int r = read_file(w, files[i], h, err);
		_cleanup_(free_ptr) char *digest = hash_digest(h);
		if (r < 0)
			return r;
		list(manifest, o->disks[i].file, digest);
	}
	return 0;
}

static int write_all(struct writer *w, const struct ovf *o, const int *files, const uint64_t *sizes, const char *name, struct error *err) {
	_cleanup_(buf_free) struct buf manifest = BUF_INIT;
	_cleanup_(free_ptr) char *text = ovf_print(o, sizes), *digest = digest_of(text, strlen(text)), *descriptor = str_format("%s.ovf", name),
				 *listing = str_format("%s.mf", name);
	list(&manifest, descriptor, digest);
	int r = list_disks(w, o, files, &manifest, err);
	if (r == 0)
		r = put_text(w, descriptor, text, err);
	if (r == 0)
		r = put_text(w, listing, buf_str(&manifest), err);
	for (size_t i = 0; r == 0 && i < o->n; i++) {
		r = begin(w, o->disks[i].file, sizes[i], err);
		if (r == 0)
			r = read_file(w, files[i], NULL, err);
	}
	return r == 0 && archive_write_close(w->archive) != ARCHIVE_OK ? failed(w, err) : r;
}

int ova_write(const struct ovf *o, const int *files, const char *name, int to, struct error *err) {
	struct writer w = {archive_write_new(), alloc_zero(CHUNK)};
	uint64_t sizes[OVF_DISKS_MAX] = {0};
	int r = 0;
	if (!w.archive)
		abort(); /* memory */
	for (size_t i = 0; r == 0 && i < o->n; i++) {
		struct stat st;
		r = fstat(files[i], &st) < 0 ? error_errno(err, errno, "cannot read a disk") : 0;
		sizes[i] = r == 0 ? (uint64_t)st.st_size : 0;
	}
	/* ustar's sizes end at 8 GiB; what goes beyond has them in the GNU way */
	archive_write_set_format_gnutar(w.archive);
	archive_write_set_bytes_per_block(w.archive, 0);
	if (r == 0 && archive_write_open_fd(w.archive, to) != ARCHIVE_OK)
		r = failed(&w, err);
	if (r == 0)
		r = write_all(&w, o, files, sizes, name, err);
	archive_write_free(w.archive);
	free(w.chunk);
	return r;
}
