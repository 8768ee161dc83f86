/* A layer blob as a stream of blocks of the uncompressed tar: a second thread reads, decompresses and
 * hashes while the caller works on the block before. Private to the image room. */
#pragma once

#include "base/error.h"

enum layer_compression { LAYER_DETECT, LAYER_PLAIN, LAYER_GZIP, LAYER_ZSTD };

struct layer_stream;

/* fd stays the caller's. A regular file is read from its beginning without moving its offset, anything
 * else as it comes. open readies the decoders (which may read files of their own), start makes the
 * thread, and the first byte is read by the first layer_stream_next: a caller confines itself in steps
 * between them. */
int layer_stream_open(int fd, enum layer_compression compression, struct layer_stream **out, struct error *err);
int layer_stream_start(struct layer_stream *s, struct error *err);
/* The next block of the tar, valid until the next call. Its length; 0 at the end; a negative number when
 * the blob is corrupt or cannot be read (again so at each later call). */
ssize_t layer_stream_next(struct layer_stream *s, const void **block, struct error *err);
/* Bytes of the blob that were read so far, and its size (0 when it is not known). */
uint64_t layer_stream_done(const struct layer_stream *s);
uint64_t layer_stream_total(const struct layer_stream *s);
/* Reads what is left and gives the SHA-256 of the whole tar. */
#define LAYER_DIGEST_SIZE 32
int layer_stream_finish(struct layer_stream *s, uint8_t digest[LAYER_DIGEST_SIZE], struct error *err);
void layer_stream_close(struct layer_stream *s);
DEFINE_CLEANUP(layer_stream_close_ptr, struct layer_stream *, layer_stream_close);
