/* Streams that are compressed (gzip on several threads, zstd) and decompressed (bzip2 and xz, too) on the way. */
#pragma once

#include "base/error.h"
#include "image/content.h"

typedef int stream_sink(void *arg, const void *data, size_t n, struct error *err);

/* What a stream's first bytes say that it is. */
enum compression { COMPRESSION_NONE, COMPRESSION_GZIP, COMPRESSION_ZSTD, COMPRESSION_BZIP2, COMPRESSION_XZ };
#define COMPRESSION_MAGIC ((size_t)6)
enum compression compression_of(const void *data, size_t n);
bool compression_of_layers(enum compression kind); /* whether a layer's blob may be so */

/* kind: NONE, GZIP, ZSTD. The output of both does not depend on the number of threads. sink is called from the caller's thread
 * alone, during add and finish. Errors of sink come back. */
struct compressor;
struct compressor *compressor_new(enum compression kind, stream_sink *sink, void *arg);
int compressor_add(struct compressor *c, const void *data, size_t n, struct error *err);
int compressor_finish(struct compressor *c, struct error *err);
void compressor_free(struct compressor *c);
DEFINE_CLEANUP(compressor_free_ptr, struct compressor *, compressor_free);

struct decompressor;
struct decompressor *decompressor_new(enum compression kind, stream_sink *sink, void *arg);
int decompressor_add(struct decompressor *d, const void *data, size_t n, struct error *err); /* CORRUPT */
int decompressor_finish(struct decompressor *d, struct error *err);                          /* CORRUPT: cut off */
void decompressor_free(struct decompressor *d);
DEFINE_CLEANUP(decompressor_free_ptr, struct decompressor *, decompressor_free);

/* All that comes from one descriptor, in its plain form to the other. CORRUPT. */
int decompress_stream(int from, int to, struct error *err);
/* The digest of a blob's content, as it is decompressed: free it. CORRUPT: damaged or cut off. */
int blob_diff_id(struct content *c, const char *digest, char **diff_id, struct error *err);

/* gzip.c: the part of compressor that does gzip. */
struct gzip;
struct gzip *gzip_new(stream_sink *sink, void *arg);
int gzip_add(struct gzip *g, const void *data, size_t n, struct error *err);
int gzip_finish(struct gzip *g, struct error *err);
void gzip_free(struct gzip *g);
