/* Reading, decompressing and hashing a layer blob, one block ahead of the caller.
 *
 * The producer thread owns everything of the reading side; the two threads share the ring, its counters
 * and the outcome, all under one lock. The thread begins stopped: a seccomp filter that denies clone
 * may be loaded between layer_stream_start and the first layer_stream_next. */
#include "image/layer-stream.h"

#include <openssl/evp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#define BLOCK_SIZE ((size_t)256 << 10)
#define BLOCKS 8
#define INPUT_SIZE ((size_t)256 << 10)
#define MAGIC_SIZE 4

struct block {
	uint8_t *data;
	size_t len;
};

struct layer_stream {
	int fd;
	bool seekable;
	uint64_t total;
	_Atomic uint64_t done;
	enum layer_compression compression;
	uint8_t *input;
	size_t input_pos, input_len;
	bool input_ended;
	z_stream gzip;
	bool gzip_open, gzip_member;
	ZSTD_DStream *zstd;
	bool zstd_frame; /* inside a frame */
	EVP_MD_CTX *hash;

	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool thread_runs, started, stop, ended;
	struct block ring[BLOCKS];
	size_t produced, consumed; /* counts of blocks, ever */
	bool holding;		   /* the caller still uses ring[consumed] */
	struct error failure;
};

/* Makes input[input_pos..input_len) not empty, or input_ended true. */
static int fill_input(struct layer_stream *s, struct error *err) {
	if (s->input_pos < s->input_len || s->input_ended)
		return 0;
	ssize_t n = s->seekable ? RETRY_EINTR(pread(s->fd, s->input, INPUT_SIZE, (off_t)s->done))
				: RETRY_EINTR(read(s->fd, s->input, INPUT_SIZE));
	if (n < 0)
		return error_errno(err, errno, "cannot read the layer's blob");
	s->input_pos = 0;
	s->input_len = (size_t)n;
	s->input_ended = n == 0;
	s->done += (uint64_t)n;
	return 0;
}

/* Decides by the first bytes; a pipe may give them one at a time. */
static int detect(struct layer_stream *s, struct error *err) {
	while (s->input_len < MAGIC_SIZE) {
		ssize_t n = s->seekable ? RETRY_EINTR(pread(s->fd, s->input + s->input_len, INPUT_SIZE - s->input_len,
							    (off_t)s->done))
					: RETRY_EINTR(read(s->fd, s->input + s->input_len, INPUT_SIZE - s->input_len));
		if (n < 0)
			return error_errno(err, errno, "cannot read the layer's blob");
		if (n == 0)
			break;
		s->input_len += (size_t)n;
		s->done += (uint64_t)n;
	}
	if (s->compression != LAYER_DETECT)
		return 0;
	if (s->input_len >= 2 && memcmp(s->input, "\x1f\x8b", 2) == 0)
		s->compression = LAYER_GZIP;
	else if (s->input_len >= 4 && memcmp(s->input, "\x28\xb5\x2f\xfd", 4) == 0)
		s->compression = LAYER_ZSTD;
	else
		s->compression = LAYER_PLAIN;
	return 0;
}

static int produce_plain(struct layer_stream *s, struct block *b, struct error *err) {
	int r = fill_input(s, err);
	if (r < 0)
		return r;
	b->len = MIN(s->input_len - s->input_pos, BLOCK_SIZE);
	memcpy(b->data, s->input + s->input_pos, b->len);
	s->input_pos += b->len;
	return 0;
}

/* Behind a member: zero bytes are padding, another member goes on, anything else is damage. */
static int gzip_between_members(struct layer_stream *s, struct error *err) {
	for (;;) {
		int r = fill_input(s, err);
		if (r < 0 || s->input_ended)
			return r;
		while (s->input_pos < s->input_len && s->input[s->input_pos] == 0)
			s->input_pos++;
		if (s->input_pos == s->input_len)
			continue;
		if (inflateReset(&s->gzip) != Z_OK)
			return error_set(err, ERROR_INTERNAL, "cannot reset the gzip decoder");
		s->gzip_member = true;
		return 0;
	}
}

static int produce_gzip(struct layer_stream *s, struct block *b, struct error *err) {
	while (b->len < BLOCK_SIZE) {
		int r = s->gzip_member ? fill_input(s, err) : gzip_between_members(s, err);
		if (r < 0)
			return r;
		if (s->input_ended && !s->gzip_member)
			return 0;
		size_t before = b->len;
		s->gzip.next_in = s->input + s->input_pos;
		s->gzip.avail_in = (uInt)(s->input_len - s->input_pos);
		s->gzip.next_out = b->data + b->len;
		s->gzip.avail_out = (uInt)(BLOCK_SIZE - b->len);
		int z = inflate(&s->gzip, Z_NO_FLUSH);
		s->input_pos = s->input_len - s->gzip.avail_in;
		b->len = BLOCK_SIZE - s->gzip.avail_out;
		if (z == Z_STREAM_END)
			s->gzip_member = false;
		else if (z != Z_OK && z != Z_BUF_ERROR)
			return error_set(err, ERROR_CORRUPT, "the layer's blob is damaged (gzip: %s)",
					 s->gzip.msg ? s->gzip.msg : "error");
		else if (s->input_ended && b->len == before) /* also nothing was left inside the decoder */
			return error_set(err, ERROR_CORRUPT, "the layer's blob is cut off (gzip)");
	}
	return 0;
}

static int produce_zstd(struct layer_stream *s, struct block *b, struct error *err) {
	ZSTD_outBuffer out = {.dst = b->data, .size = BLOCK_SIZE};
	while (out.pos < out.size) {
		int r = fill_input(s, err);
		if (r < 0)
			return r;
		ZSTD_inBuffer in = {.src = s->input, .size = s->input_len, .pos = s->input_pos};
		size_t before = out.pos;
		if (s->input_ended && !s->zstd_frame)
			break;
		size_t z = ZSTD_decompressStream(s->zstd, &out, &in);
		if (ZSTD_isError(z))
			return error_set(err, ERROR_CORRUPT, "the layer's blob is damaged (zstd: %s)",
					 ZSTD_getErrorName(z));
		s->input_pos = in.pos;
		s->zstd_frame = z != 0;
		if (s->input_ended && out.pos == before && z != 0)
			return error_set(err, ERROR_CORRUPT, "the layer's blob is cut off (zstd)");
	}
	b->len = out.pos;
	return 0;
}

static int produce(struct layer_stream *s, struct block *b, struct error *err) {
	b->len = 0;
	if (!b->data)
		b->data = alloc_resize(NULL, BLOCK_SIZE, 1);
	int r = s->compression == LAYER_GZIP   ? produce_gzip(s, b, err)
		: s->compression == LAYER_ZSTD ? produce_zstd(s, b, err)
					       : produce_plain(s, b, err);
	if (r < 0)
		return r;
	if (EVP_DigestUpdate(s->hash, b->data, b->len) != 1)
		return error_set(err, ERROR_INTERNAL, "cannot hash the layer");
	return 0;
}

static void *producer(void *arg) {
	struct layer_stream *s = arg;
	_cleanup_(error_free) struct error err = ERROR_INIT;
	pthread_mutex_lock(&s->lock);
	while (!s->started && !s->stop)
		pthread_cond_wait(&s->changed, &s->lock);
	bool stop = s->stop;
	pthread_mutex_unlock(&s->lock);
	int r = stop ? -ERROR_CANCELLED : detect(s, &err);
	for (bool more = r == 0; more;) {
		pthread_mutex_lock(&s->lock);
		while (s->produced - s->consumed == BLOCKS && !s->stop)
			pthread_cond_wait(&s->changed, &s->lock);
		stop = s->stop;
		pthread_mutex_unlock(&s->lock);
		if (stop)
			break;
		struct block *b = &s->ring[s->produced % BLOCKS];
		r = produce(s, b, &err);
		more = r == 0 && b->len > 0;
		pthread_mutex_lock(&s->lock);
		if (more)
			s->produced++;
		pthread_cond_broadcast(&s->changed);
		pthread_mutex_unlock(&s->lock);
	}
	pthread_mutex_lock(&s->lock);
	s->ended = true;
	if (r < 0)
		error_move(&s->failure, &err);
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

static int open_decoders(struct layer_stream *s, struct error *err) {
	s->hash = EVP_MD_CTX_new();
	if (!s->hash || EVP_DigestInit_ex(s->hash, EVP_sha256(), NULL) != 1)
		return error_set(err, ERROR_INTERNAL, "cannot set up SHA-256");
	s->gzip_open = inflateInit2(&s->gzip, 15 + 16) == Z_OK;
	s->zstd = ZSTD_createDStream();
	if (!s->gzip_open || !s->zstd)
		return error_set(err, ERROR_INTERNAL, "cannot set up the decoders");
	s->gzip_member = true;
	s->zstd_frame = true; /* an empty blob is no zstd stream */
	return 0;
}

int layer_stream_open(int fd, enum layer_compression compression, struct layer_stream **out, struct error *err) {
	struct stat st;
	if (fstat(fd, &st) < 0)
		return error_errno(err, errno, "cannot stat the layer's blob");
	_cleanup_(layer_stream_close_ptr) struct layer_stream *s = NEW(struct layer_stream);
	s->fd = fd;
	s->seekable = S_ISREG(st.st_mode);
	s->total = s->seekable ? (uint64_t)st.st_size : 0;
	s->compression = compression;
	s->input = alloc_resize(NULL, INPUT_SIZE, 1);
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->changed, NULL);
	int r = open_decoders(s, err);
	if (r < 0)
		return r;
	*out = TAKE_PTR(s);
	return 0;
}

int layer_stream_start(struct layer_stream *s, struct error *err) {
	int e = pthread_create(&s->thread, NULL, producer, s);
	if (e)
		return error_errno(err, e, "cannot start the reading thread");
	s->thread_runs = true;
	return 0;
}

ssize_t layer_stream_next(struct layer_stream *s, const void **block, struct error *err) {
	pthread_mutex_lock(&s->lock);
	s->started = true;
	if (s->holding) {
		s->holding = false;
		s->consumed++;
	}
	pthread_cond_broadcast(&s->changed);
	while (s->produced == s->consumed && !s->ended)
		pthread_cond_wait(&s->changed, &s->lock);
	ssize_t n = 0;
	if (s->produced > s->consumed) {
		struct block *b = &s->ring[s->consumed % BLOCKS];
		s->holding = true;
		*block = b->data;
		n = (ssize_t)b->len;
	} else if (s->failure.kind != ERROR_NONE) {
		n = error_set(err, s->failure.kind, "%s", error_text(&s->failure));
	}
	pthread_mutex_unlock(&s->lock);
	return n;
}

uint64_t layer_stream_done(const struct layer_stream *s) {
	return s->done;
}

uint64_t layer_stream_total(const struct layer_stream *s) {
	return s->total;
}

int layer_stream_finish(struct layer_stream *s, uint8_t digest[LAYER_DIGEST_SIZE], struct error *err) {
	const void *block;
	ssize_t n;
	do
		n = layer_stream_next(s, &block, err);
	while (n > 0);
	if (n < 0)
		return (int)n;
	unsigned int len = 0;
	if (EVP_DigestFinal_ex(s->hash, digest, &len) != 1 || len != LAYER_DIGEST_SIZE)
		return error_set(err, ERROR_INTERNAL, "cannot hash the layer");
	return 0;
}

void layer_stream_close(struct layer_stream *s) {
	if (!s)
		return;
	if (s->thread_runs) {
		pthread_mutex_lock(&s->lock);
		s->stop = true;
		pthread_cond_broadcast(&s->changed);
		pthread_mutex_unlock(&s->lock);
		pthread_join(s->thread, NULL);
	}
	if (s->gzip_open)
		inflateEnd(&s->gzip);
	ZSTD_freeDStream(s->zstd);
	EVP_MD_CTX_free(s->hash);
	error_free(&s->failure);
	for (size_t i = 0; i < BLOCKS; i++)
		free(s->ring[i].data);
	free(s->input);
	pthread_mutex_destroy(&s->lock);
	pthread_cond_destroy(&s->changed);
	free(s);
}
