/* One face for gzip, zstd and no compression in both directions, and for what else archives come in. */
#include "image/compress.h"

#include "base/fs.h"
#include "image/hash.h"

#include <bzlib.h>
#include <lzma.h>
#include <inttypes.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#define CHUNK ((size_t)256 << 10)
#define ZSTD_LEVEL 3
#define ZSTD_WINDOW_LOG_MAX 27 /* 128 MiB: more is not asked for in an image */
#define XZ_MEMORY_MAX (UINT64_C(192) << 20)

enum compression compression_of(const void *data, size_t n) {
	static const struct {
		const char *magic;
		size_t n;
		enum compression kind;
	} rows[] = {
		{"\x1f\x8b", 2, COMPRESSION_GZIP},
		{"\x28\xb5\x2f\xfd", 4, COMPRESSION_ZSTD},
		{"\xfd" "7zXZ\0", 6, COMPRESSION_XZ},
		{"BZh", 3, COMPRESSION_BZIP2},
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (n >= rows[i].n && memcmp(data, rows[i].magic, rows[i].n) == 0)
			return rows[i].kind;
	return COMPRESSION_NONE;
}

bool compression_of_layers(enum compression kind) {
	return kind <= COMPRESSION_ZSTD;
}

struct compressor {
	enum compression kind;
	stream_sink *sink;
	void *arg;
	struct gzip *gzip;
	ZSTD_CCtx *zstd;
	char *out;
};

struct compressor *compressor_new(enum compression kind, stream_sink *sink, void *arg) {
	struct compressor *c = NEW(struct compressor);
	*c = (struct compressor){.kind = kind, .sink = sink, .arg = arg, .out = alloc_zero(CHUNK)};
	if (kind == COMPRESSION_GZIP)
		c->gzip = gzip_new(sink, arg);
	if (kind == COMPRESSION_ZSTD) {
		c->zstd = ZSTD_createCCtx();
		if (!c->zstd)
			abort(); /* memory */
		long cpus = sysconf(_SC_NPROCESSORS_ONLN);
		ZSTD_CCtx_setParameter(c->zstd, ZSTD_c_compressionLevel, ZSTD_LEVEL);
		ZSTD_CCtx_setParameter(c->zstd, ZSTD_c_checksumFlag, 1);
		ZSTD_CCtx_setParameter(c->zstd, ZSTD_c_nbWorkers, (int)(cpus < 1 ? 1 : MIN(cpus, 4)));
	}
	return c;
}

static int zstd_run(struct compressor *c, const void *data, size_t n, ZSTD_EndDirective how, struct error *err) {
	ZSTD_inBuffer in = {data, n, 0};
	for (;;) {
		ZSTD_outBuffer out = {c->out, CHUNK, 0};
		size_t left = ZSTD_compressStream2(c->zstd, &out, &in, how);
		if (ZSTD_isError(left))
			return error_set(err, ERROR_INTERNAL, "cannot compress: %s", ZSTD_getErrorName(left));
		int r = out.pos ? c->sink(c->arg, c->out, out.pos, err) : 0;
		if (r < 0)
			return r;
		if (how == ZSTD_e_end ? left == 0 : in.pos == in.size)
			return 0;
	}
}

int compressor_add(struct compressor *c, const void *data, size_t n, struct error *err) {
	switch (c->kind) {
	case COMPRESSION_GZIP:
		return gzip_add(c->gzip, data, n, err);
	case COMPRESSION_ZSTD:
		return zstd_run(c, data, n, ZSTD_e_continue, err);
	default:
		return c->sink(c->arg, data, n, err);
	}
}

int compressor_finish(struct compressor *c, struct error *err) {
	switch (c->kind) {
	case COMPRESSION_GZIP:
		return gzip_finish(c->gzip, err);
	case COMPRESSION_ZSTD:
		return zstd_run(c, NULL, 0, ZSTD_e_end, err);
	default:
		return 0;
	}
}

void compressor_free(struct compressor *c) {
	if (!c)
		return;
	gzip_free(c->gzip);
	ZSTD_freeCCtx(c->zstd);
	free(c->out);
	free(c);
}

struct decompressor {
	enum compression kind;
	stream_sink *sink;
	void *arg;
	z_stream z;
	ZSTD_DCtx *zstd;
	bz_stream bzip2;
	lzma_stream xz;
	bool whole; /* at the end of a member or frame */
	char *out;
};

struct decompressor *decompressor_new(enum compression kind, stream_sink *sink, void *arg) {
	struct decompressor *d = NEW(struct decompressor);
	*d = (struct decompressor){.kind = kind, .sink = sink, .arg = arg, .out = alloc_zero(CHUNK)};
	d->whole = kind == COMPRESSION_NONE;
	if (kind == COMPRESSION_GZIP && inflateInit2(&d->z, MAX_WBITS + 16) != Z_OK)
		abort(); /* memory */
	if (kind == COMPRESSION_BZIP2 && BZ2_bzDecompressInit(&d->bzip2, 0, 0) != BZ_OK)
		abort(); /* memory */
	d->xz = (lzma_stream)LZMA_STREAM_INIT;
	if (kind == COMPRESSION_XZ && lzma_stream_decoder(&d->xz, XZ_MEMORY_MAX, LZMA_CONCATENATED) != LZMA_OK)
		abort(); /* memory */
	if (kind == COMPRESSION_ZSTD) {
		d->zstd = ZSTD_createDCtx();
		if (!d->zstd)
			abort(); /* memory */
		ZSTD_DCtx_setParameter(d->zstd, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG_MAX);
	}
	return d;
}

static int gunzip(struct decompressor *d, const void *data, size_t n, struct error *err) {
	d->z.next_in = (Bytef *)(uintptr_t)data;
	d->z.avail_in = (uInt)n;
	do {
		if (d->whole && d->z.avail_in)
			inflateReset(&d->z); /* gzip members may follow each other */
		d->z.next_out = (Bytef *)d->out;
		d->z.avail_out = (uInt)CHUNK;
		int state = inflate(&d->z, Z_NO_FLUSH);
		if (state != Z_OK && state != Z_STREAM_END && state != Z_BUF_ERROR)
			return error_set(err, ERROR_CORRUPT, "gzip data are damaged: %s", d->z.msg ? d->z.msg : "unknown");
		d->whole = state == Z_STREAM_END;
		size_t got = CHUNK - d->z.avail_out;
		int r = got ? d->sink(d->arg, d->out, got, err) : 0;
		if (r < 0)
			return r;
		if (state == Z_BUF_ERROR && !got)
			return 0;
	} while (d->z.avail_in || d->z.avail_out == 0);
	return 0;
}

static int unzstd(struct decompressor *d, const void *data, size_t n, struct error *err) {
	ZSTD_inBuffer in = {data, n, 0};
	bool full;
	do {
		ZSTD_outBuffer out = {d->out, CHUNK, 0};
		size_t left = ZSTD_decompressStream(d->zstd, &out, &in);
		if (ZSTD_isError(left))
			return error_set(err, ERROR_CORRUPT, "zstd data are damaged: %s", ZSTD_getErrorName(left));
		d->whole = left == 0;
		full = out.pos == CHUNK;
		int r = out.pos ? d->sink(d->arg, d->out, out.pos, err) : 0;
		if (r < 0)
			return r;
	} while (in.pos < in.size || (full && !d->whole));
	return 0;
}

static int bunzip2(struct decompressor *d, const void *data, size_t n, struct error *err) {
	d->bzip2.next_in = (char *)(uintptr_t)data;
	d->bzip2.avail_in = (unsigned)n;
	do {
		if (d->whole) { /* streams may follow each other */
			bz_stream next = {.next_in = d->bzip2.next_in, .avail_in = d->bzip2.avail_in};
			BZ2_bzDecompressEnd(&d->bzip2);
			d->bzip2 = next;
			if (BZ2_bzDecompressInit(&d->bzip2, 0, 0) != BZ_OK)
				abort(); /* memory */
		}
		d->bzip2.next_out = d->out;
		d->bzip2.avail_out = (unsigned)CHUNK;
		int state = BZ2_bzDecompress(&d->bzip2);
		if (state != BZ_OK && state != BZ_STREAM_END)
			return error_set(err, ERROR_CORRUPT, "bzip2 data are damaged");
		d->whole = state == BZ_STREAM_END;
		size_t got = CHUNK - d->bzip2.avail_out;
		int r = got ? d->sink(d->arg, d->out, got, err) : 0;
		if (r < 0)
			return r;
	} while (d->bzip2.avail_in || (d->bzip2.avail_out == 0 && !d->whole));
	return 0;
}

/* data NULL: there is no more. */
static int unxz(struct decompressor *d, const void *data, size_t n, struct error *err) {
	d->xz.next_in = data;
	d->xz.avail_in = n;
	do {
		d->xz.next_out = (uint8_t *)d->out;
		d->xz.avail_out = CHUNK;
		lzma_ret state = lzma_code(&d->xz, data ? LZMA_RUN : LZMA_FINISH);
		if (state == LZMA_MEMLIMIT_ERROR)
			return error_set(err, ERROR_TOO_LARGE, "xz data need more than %" PRIu64 " MiB to be decompressed", XZ_MEMORY_MAX >> 20);
		if (state != LZMA_OK && state != LZMA_STREAM_END && state != LZMA_BUF_ERROR)
			return error_set(err, ERROR_CORRUPT, "xz data are damaged");
		d->whole = state == LZMA_STREAM_END;
		size_t got = CHUNK - d->xz.avail_out;
		int r = got ? d->sink(d->arg, d->out, got, err) : 0;
		if (r < 0)
			return r;
	} while (!d->whole && (d->xz.avail_in || d->xz.avail_out == 0));
	return 0;
}

int decompressor_add(struct decompressor *d, const void *data, size_t n, struct error *err) {
	if (!n)
		return 0;
	switch (d->kind) {
	case COMPRESSION_GZIP:
		return gunzip(d, data, n, err);
	case COMPRESSION_ZSTD:
		return unzstd(d, data, n, err);
	case COMPRESSION_BZIP2:
		return bunzip2(d, data, n, err);
	case COMPRESSION_XZ:
		return unxz(d, data, n, err);
	default:
		return d->sink(d->arg, data, n, err);
	}
}

int decompressor_finish(struct decompressor *d, struct error *err) {
	int r = d->kind == COMPRESSION_XZ && !d->whole ? unxz(d, NULL, 0, err) : 0;
	return r < 0 || d->whole ? r : error_set(err, ERROR_CORRUPT, "the compressed data are cut off");
}

void decompressor_free(struct decompressor *d) {
	if (!d)
		return;
	if (d->kind == COMPRESSION_GZIP)
		inflateEnd(&d->z);
	if (d->kind == COMPRESSION_BZIP2)
		BZ2_bzDecompressEnd(&d->bzip2);
	lzma_end(&d->xz);
	ZSTD_freeDCtx(d->zstd);
	free(d->out);
	free(d);
}

/* ---- whole blobs ---- */

static int add_to_hash(void *arg, const void *data, size_t n, UNUSED struct error *err) {
	hash_add(arg, data, n);
	return 0;
}

static int decompress_fd(struct decompressor *d, int fd, char *chunk, struct error *err) {
	ssize_t n;
	while ((n = RETRY_EINTR(read(fd, chunk, CHUNK))) > 0) {
		int r = decompressor_add(d, chunk, (size_t)n, err);
		if (r < 0)
			return r;
	}
	return n < 0 ? error_errno(err, errno, "cannot read what is compressed") : decompressor_finish(d, err);
}

static int write_plain(void *arg, const void *data, size_t n, struct error *err) {
	int r = fs_write_all(*(int *)arg, data, n);
	return r < 0 ? error_errno(err, r, "writing what was compressed") : 0;
}

int decompress_stream(int from, int to, struct error *err) {
	_cleanup_(free_ptr) char *chunk = alloc_zero(CHUNK);
	ssize_t n = fs_read_full(from, chunk, COMPRESSION_MAGIC);
	if (n < 0)
		return error_errno(err, (int)n, "cannot read what is compressed");
	enum compression kind = compression_of(chunk, (size_t)n);
	_cleanup_(decompressor_free_ptr) struct decompressor *d = decompressor_new(kind, write_plain, &to);
	int r = decompressor_add(d, chunk, (size_t)n, err);
	return r < 0 ? r : decompress_fd(d, from, chunk, err);
}

int blob_diff_id(struct content *c, const char *digest, char **diff_id, struct error *err) {
	_cleanup_(close_fd) int fd = content_blob(c, digest, NULL, err);
	if (fd < 0)
		return fd;
	_cleanup_(free_ptr) char *chunk = alloc_zero(CHUNK);
	_cleanup_(hash_free_ptr) struct hash *h = hash_new();
	ssize_t n = pread(fd, chunk, COMPRESSION_MAGIC, 0);
	enum compression kind = compression_of(chunk, n > 0 ? (size_t)n : 0);
	if (!compression_of_layers(kind))
		return error_set(err, ERROR_UNSUPPORTED, "it is compressed with neither gzip nor zstd");
	_cleanup_(decompressor_free_ptr) struct decompressor *d = decompressor_new(kind, add_to_hash, h);
	int r = decompress_fd(d, fd, chunk, err);
	if (r == 0)
		*diff_id = hash_digest(h);
	return r;
}
