/* gzip on several threads: the input is cut into blocks, each is deflated by itself with the end of the
 * block before it as its dictionary, and the results are joined to one ordinary gzip member. */
#include "image/compress.h"

#include <pthread.h>
#include <unistd.h>
#include <zlib.h>

#define LEVEL 5
#define BLOCK ((size_t)512 << 10)
#define WINDOW ((size_t)32 << 10)
#define THREADS_MAX 8

enum block_state { BLOCK_FREE, BLOCK_FULL, BLOCK_BUSY, BLOCK_DONE };

struct block {
	enum block_state state;
	bool last;
	uint8_t *in, *out, *dictionary;
	size_t n, n_out, n_dictionary, cap_out;
	uint32_t crc;
};

struct gzip {
	stream_sink *sink;
	void *arg;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	pthread_t threads[THREADS_MAX];
	size_t n_threads;
	bool quit;
	struct block blocks[2 * THREADS_MAX]; /* a ring */
	size_t n_blocks;
	size_t fill, take, drain; /* counts of blocks begun by the caller, by the threads, written out */
	bool begun;
	uint32_t crc;
	uint32_t size; /* modulo 2^32, as gzip has it */
};

static void deflate_block(struct block *b) {
	z_stream z = {0};
	if (deflateInit2(&z, LEVEL, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY) != Z_OK)
		abort(); /* memory */
	if (b->n_dictionary)
		deflateSetDictionary(&z, b->dictionary, (uInt)b->n_dictionary);
	z.next_in = b->in;
	z.avail_in = (uInt)b->n;
	z.next_out = b->out;
	z.avail_out = (uInt)b->cap_out;
	int r = deflate(&z, b->last ? Z_FINISH : Z_SYNC_FLUSH);
	if (r != (b->last ? Z_STREAM_END : Z_OK) || z.avail_in)
		abort(); /* cap_out is deflate's own bound */
	b->n_out = b->cap_out - z.avail_out;
	deflateEnd(&z);
	b->crc = (uint32_t)crc32(0, b->in, (uInt)b->n);
}

static void *work(void *arg) {
	struct gzip *g = arg;
	pthread_mutex_lock(&g->lock);
	while (!g->quit) {
		struct block *b = &g->blocks[g->take % g->n_blocks];
		if (g->take == g->fill || b->state != BLOCK_FULL) {
			pthread_cond_wait(&g->changed, &g->lock);
			continue;
		}
		g->take++;
		b->state = BLOCK_BUSY;
		pthread_mutex_unlock(&g->lock);
		deflate_block(b);
		pthread_mutex_lock(&g->lock);
		b->state = BLOCK_DONE;
		pthread_cond_broadcast(&g->changed);
	}
	pthread_mutex_unlock(&g->lock);
	return NULL;
}

struct gzip *gzip_new(stream_sink *sink, void *arg) {
	struct gzip *g = NEW(struct gzip);
	g->sink = sink;
	g->arg = arg;
	pthread_mutex_init(&g->lock, NULL);
	pthread_cond_init(&g->changed, NULL);
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	size_t want = (size_t)(cpus < 1 ? 1 : MIN(cpus, THREADS_MAX));
	g->n_blocks = 2 * want;
	for (size_t i = 0; i < g->n_blocks; i++) {
		struct block *b = &g->blocks[i];
		b->cap_out = compressBound(BLOCK) + 64;
		b->in = alloc_zero(BLOCK);
		b->out = alloc_zero(b->cap_out);
		b->dictionary = alloc_zero(WINDOW);
	}
	while (g->n_threads < want && pthread_create(&g->threads[g->n_threads], NULL, work, g) == 0)
		g->n_threads++;
	return g;
}

/* Waits for the oldest block and writes it out. */
static int drain_one(struct gzip *g, struct error *err) {
	struct block *b = &g->blocks[g->drain % g->n_blocks];
	pthread_mutex_lock(&g->lock);
	while (b->state != BLOCK_DONE)
		pthread_cond_wait(&g->changed, &g->lock);
	pthread_mutex_unlock(&g->lock);
	g->drain++;
	g->crc = (uint32_t)crc32_combine(g->crc, b->crc, (z_off_t)b->n);
	g->size += (uint32_t)b->n;
	int r = g->sink(g->arg, b->out, b->n_out, err);
	b->state = BLOCK_FREE;
	return r;
}

/* Hands the block that is being filled to the threads. */
static int submit(struct gzip *g, bool last, struct error *err) {
	static const uint8_t header[10] = {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff};
	struct block *b = &g->blocks[g->fill % g->n_blocks];
	if (!g->n_threads) /* none could be made */
		return error_set(err, ERROR_INTERNAL, "cannot start a thread to compress");
	if (!g->begun) {
		g->begun = true;
		int r = g->sink(g->arg, header, sizeof header, err);
		if (r < 0)
			return r;
	}
	b->last = last;
	pthread_mutex_lock(&g->lock);
	b->state = BLOCK_FULL;
	g->fill++;
	pthread_cond_broadcast(&g->changed);
	pthread_mutex_unlock(&g->lock);
	if (last)
		return 0;
	if (g->fill - g->drain == g->n_blocks) {
		int r = drain_one(g, err);
		if (r < 0)
			return r;
	}
	struct block *next = &g->blocks[g->fill % g->n_blocks];
	next->n = 0;
	next->n_dictionary = MIN(b->n, WINDOW);
	memcpy(next->dictionary, b->in + b->n - next->n_dictionary, next->n_dictionary);
	return 0;
}

int gzip_add(struct gzip *g, const void *data, size_t n, struct error *err) {
	for (const char *p = data; n;) {
		struct block *b = &g->blocks[g->fill % g->n_blocks];
		size_t part = MIN(n, BLOCK - b->n);
		memcpy(b->in + b->n, p, part);
		b->n += part;
		p += part;
		n -= part;
		int r = b->n == BLOCK ? submit(g, false, err) : 0;
		if (r < 0)
			return r;
	}
	return 0;
}

int gzip_finish(struct gzip *g, struct error *err) {
	int r = submit(g, true, err);
	while (r == 0 && g->drain < g->fill)
		r = drain_one(g, err);
	if (r < 0)
		return r;
	uint8_t trailer[8];
	for (int i = 0; i < 4; i++) {
		trailer[i] = (uint8_t)(g->crc >> (8 * i));
		trailer[4 + i] = (uint8_t)(g->size >> (8 * i));
	}
	return g->sink(g->arg, trailer, sizeof trailer, err);
}

void gzip_free(struct gzip *g) {
	if (!g)
		return;
	pthread_mutex_lock(&g->lock);
	g->quit = true;
	pthread_cond_broadcast(&g->changed);
	pthread_mutex_unlock(&g->lock);
	for (size_t i = 0; i < g->n_threads; i++)
		pthread_join(g->threads[i], NULL);
	for (size_t i = 0; i < g->n_blocks; i++) {
		free(g->blocks[i].in);
		free(g->blocks[i].out);
		free(g->blocks[i].dictionary);
	}
	pthread_cond_destroy(&g->changed);
	pthread_mutex_destroy(&g->lock);
	free(g);
}
