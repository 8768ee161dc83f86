/* A tar writer (POSIX.1-2017 pax): no state but one large chunk that is written when full. */
#include "image/layer-tar.h"

#include "base/fs.h"

#include <stdio.h>
#include <unistd.h>

#define RECORD 512
#define CHUNK ((size_t)1 << 20)
#define OCTAL_7_MAX UINT64_C(07777777)
#define OCTAL_11_MAX UINT64_C(077777777777)

struct header {
	char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], sum[8], type, link[100], magic[6], version[2];
	char user[32], group[32], major[8], minor[8], prefix[155], pad[12];
};
_Static_assert(sizeof(struct header) == RECORD, "a tar header is one record");

void tar_open(struct tar_writer *w, int fd) {
	w->fd = fd;
	w->len = 0;
	w->chunk = alloc_resize(NULL, CHUNK, 1);
}

void tar_close(struct tar_writer *w) {
	free(TAKE_PTR(w->chunk));
}

static int flush(struct tar_writer *w, struct error *err) {
	if (w->tap)
		w->tap(w->tap_arg, w->chunk, w->len);
	int r = w->fd < 0 ? 0 : fs_write_all(w->fd, w->chunk, w->len);
	w->len = 0;
	return r < 0 ? error_errno(err, r, "cannot write the archive") : 0;
}

static int put(struct tar_writer *w, const void *data, size_t n, struct error *err) {
	const char *p = data;
	while (n) {
		if (w->len == CHUNK) {
			int r = flush(w, err);
			if (r < 0)
				return r;
		}
		size_t part = MIN(n, CHUNK - w->len);
		if (p) {
			memcpy(w->chunk + w->len, p, part);
			p += part;
		} else {
			memset(w->chunk + w->len, 0, part);
		}
		w->len += part;
		n -= part;
	}
	return 0;
}

static int pad(struct tar_writer *w, uint64_t size, struct error *err) {
	return put(w, NULL, (size_t)(-size & (RECORD - 1)), err);
}

/* What does not fit is given by a pax record, and 0 here. */
static void octal(char *field, size_t size, uint64_t value, uint64_t max) {
	char text[32];
	snprintf(text, sizeof text, "%0*llo", (int)size - 1, (unsigned long long)(value <= max ? value : 0));
	memcpy(field, text, size);
}

static int put_header(struct tar_writer *w, const struct tar_entry *e, struct error *err) {
	struct header h = {.magic = "ustar", .version = {'0', '0'}, .type = e->type};
	memcpy(h.name, e->path, MIN(strlen(e->path), sizeof h.name));
	if (e->link)
		memcpy(h.link, e->link, MIN(strlen(e->link), sizeof h.link));
	octal(h.mode, sizeof h.mode, e->mode, OCTAL_7_MAX);
	octal(h.uid, sizeof h.uid, e->uid, OCTAL_7_MAX);
	octal(h.gid, sizeof h.gid, e->gid, OCTAL_7_MAX);
	octal(h.size, sizeof h.size, e->size, OCTAL_11_MAX);
	octal(h.mtime, sizeof h.mtime, e->mtime.tv_sec < 0 ? 0 : (uint64_t)e->mtime.tv_sec, OCTAL_11_MAX);
	octal(h.major, sizeof h.major, e->major, OCTAL_7_MAX);
	octal(h.minor, sizeof h.minor, e->minor, OCTAL_7_MAX);
	memset(h.sum, ' ', sizeof h.sum);
	unsigned sum = 0;
	for (size_t i = 0; i < sizeof h; i++)
		sum += ((const unsigned char *)&h)[i];
	octal(h.sum, 7, sum, OCTAL_7_MAX);
	return put(w, &h, sizeof h, err);
}

/* "LENGTH KEY=VALUE\n", where LENGTH counts itself. */
static void pax_record(struct buf *b, const char *key, const void *value, size_t len) {
	size_t rest = strlen(key) + len + 3, digits = 1;
	for (size_t limit = 10; rest + digits >= limit; limit *= 10)
		digits++;
	buf_addf(b, "%zu %s=", rest + digits, key);
	buf_add(b, value, len);
	buf_addc(b, '\n');
}

static void pax_text(struct buf *b, const char *key, const char *value) {
	pax_record(b, key, value, strlen(value));
}

static void pax_number(struct buf *b, const char *key, uint64_t value) {
	char text[32];
	snprintf(text, sizeof text, "%llu", (unsigned long long)value);
	pax_text(b, key, text);
}

static void pax_time(struct buf *b, struct timespec t) {
	/* the fraction counts away from zero */
	bool negative = t.tv_sec < 0;
	long long seconds = negative && t.tv_nsec ? (long long)t.tv_sec + 1 : (long long)t.tv_sec;
	long fraction = negative && t.tv_nsec ? 1000000000L - t.tv_nsec : t.tv_nsec;
	char text[64];
	snprintf(text, sizeof text, "%s%lld.%09ld", negative ? "-" : "", negative ? -seconds : seconds, fraction);
	if (!fraction)
		*strchr(text, '.') = '\0';
	pax_text(b, "mtime", text);
}

static bool fits(const char *text, size_t max) {
	for (const char *p = text; *p; p++)
		if ((unsigned char)*p >= 0x80)
			return false;
	return strlen(text) <= max;
}

static void pax_records(struct buf *b, const struct tar_entry *e) {
	for (size_t i = 0; i < e->n_xattrs; i++) {
		if (strchr(e->xattrs[i].name, '='))
			continue; /* a record's key cannot hold it */
		_cleanup_(free_ptr) char *key = str_format("SCHILY.xattr.%s", e->xattrs[i].name);
		pax_record(b, key, e->xattrs[i].value, e->xattrs[i].len);
	}
	if (e->gid > OCTAL_7_MAX)
		pax_number(b, "gid", e->gid);
	if (e->link && !fits(e->link, 100))
		pax_text(b, "linkpath", e->link);
	if (e->mtime.tv_nsec || e->mtime.tv_sec < 0 || (uint64_t)e->mtime.tv_sec > OCTAL_11_MAX)
		pax_time(b, e->mtime);
	if (!fits(e->path, 100))
		pax_text(b, "path", e->path);
	if (e->size > OCTAL_11_MAX)
		pax_number(b, "size", e->size);
	if (e->uid > OCTAL_7_MAX)
		pax_number(b, "uid", e->uid);
}

int tar_add(struct tar_writer *w, const struct tar_entry *entry, struct error *err) {
	struct tar_entry e = *entry;
	_cleanup_(free_ptr) char *path = str_format("%s%s", e.path, e.type == '5' ? "/" : "");
	e.path = path;
	_cleanup_(buf_free) struct buf records = BUF_INIT;
	pax_records(&records, &e);
	if (records.len) {
		struct tar_entry x = {.type = 'x', .path = "PaxHeaders/entry", .mode = 0644, .size = records.len};
		int r = put_header(w, &x, err);
		if (r == 0)
			r = put(w, records.data, records.len, err);
		if (r == 0)
			r = pad(w, records.len, err);
		if (r < 0)
			return r;
	}
	return put_header(w, &e, err);
}

int tar_file(struct tar_writer *w, int fd, uint64_t size, struct error *err) {
	uint64_t left = size;
	while (left) {
		if (w->len == CHUNK) {
			int r = flush(w, err);
			if (r < 0)
				return r;
		}
		ssize_t n = RETRY_EINTR(read(fd, w->chunk + w->len, (size_t)MIN(left, (uint64_t)(CHUNK - w->len))));
		if (n < 0)
			return error_errno(err, errno, "cannot read a file");
		if (n == 0)
			break;
		w->len += (size_t)n;
		left -= (uint64_t)n;
	}
	while (left) {
		size_t part = (size_t)MIN(left, (uint64_t)CHUNK);
		int r = put(w, NULL, part, err);
		if (r < 0)
			return r;
		left -= part;
	}
	return pad(w, size, err);
}

int tar_bytes(struct tar_writer *w, const void *data, size_t n, struct error *err) {
	return put(w, data, n, err);
}

int tar_pad(struct tar_writer *w, uint64_t size, struct error *err) {
	return pad(w, size, err);
}

int tar_finish(struct tar_writer *w, struct error *err) {
	int r = put(w, NULL, 2 * (size_t)RECORD, err);
	return r < 0 ? r : flush(w, err);
}
