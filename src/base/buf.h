/* A growable byte string, always NUL-terminated, with a hard maximum.
 *
 * Adding never fails at the call: what would pass `max` is dropped and marks the buffer as overflowed,
 * which the owner asks for once at the end (buf_overflowed). */
#pragma once

#include "base/util.h"

struct buf {
	char *data;      /* never NULL after the first add; see buf_str */
	size_t len;      /* bytes before the NUL */
	size_t cap;
	size_t max;      /* 0: BUF_DEFAULT_MAX */
	bool overflowed;
};

#define BUF_DEFAULT_MAX ((size_t)256 << 20)
#define BUF_INIT ((struct buf){0})
#define BUF_INIT_MAX(m) ((struct buf){.max = (m)})

void buf_add(struct buf *b, const void *data, size_t n);
void buf_adds(struct buf *b, const char *s);
void buf_addc(struct buf *b, char c);
void buf_addf(struct buf *b, const char *fmt, ...) PRINTF(2, 3);
void buf_vaddf(struct buf *b, const char *fmt, va_list ap) PRINTF(2, 0);

/* Makes room for n more bytes and gives the place to write them (NULL past the maximum); buf_grown says
 * how many were written. */
char *buf_room(struct buf *b, size_t n);
void buf_grown(struct buf *b, size_t n);

/* Removes the first n bytes. */
void buf_consume(struct buf *b, size_t n);
/* Shortens to n bytes (n <= len). */
void buf_truncate(struct buf *b, size_t n);

/* The text; "" for a buffer that nothing was added to. Valid until the next add. */
const char *buf_str(const struct buf *b);
/* The text as memory of the caller's own; the buffer is empty afterwards. */
char *buf_steal(struct buf *b);
bool buf_overflowed(const struct buf *b);
void buf_free(struct buf *b);
