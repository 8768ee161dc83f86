/* A growable byte string with a hard maximum. */
#include "base/buf.h"

#include <stdio.h>

char *buf_room(struct buf *b, size_t n) {
	size_t max = b->max ? b->max : BUF_DEFAULT_MAX;
	if (n > max || b->len > max - n) {
		b->overflowed = true;
		return NULL;
	}
	size_t need = b->len + n + 1;
	if (need > b->cap) {
		size_t cap = b->cap ? b->cap * 2 : 64;
		b->cap = MAX(cap, need);
		b->data = alloc_resize(b->data, b->cap, 1);
	}
	return b->data + b->len;
}

void buf_grown(struct buf *b, size_t n) {
	b->len += n;
	b->data[b->len] = '\0';
}

void buf_add(struct buf *b, const void *data, size_t n) {
	char *to = buf_room(b, n);
	if (!to)
		return;
	if (n)
		memcpy(to, data, n);
	buf_grown(b, n);
}

void buf_adds(struct buf *b, const char *s) {
	buf_add(b, s, strlen(s));
}

void buf_addc(struct buf *b, char c) {
	buf_add(b, &c, 1);
}

void buf_vaddf(struct buf *b, const char *fmt, va_list ap) {
	va_list again;
	va_copy(again, ap);
	char small[256];
	int n = vsnprintf(small, sizeof small, fmt, ap);
	if (n >= 0 && (size_t)n < sizeof small) {
		buf_add(b, small, (size_t)n);
	} else if (n >= 0) {
		_cleanup_(free_ptr) char *s = str_vformat(fmt, again);
		buf_add(b, s, (size_t)n);
	}
	va_end(again);
}

void buf_addf(struct buf *b, const char *fmt, ...) {
	va_list ap;
	va_start(ap, fmt);
	buf_vaddf(b, fmt, ap);
	va_end(ap);
}

void buf_consume(struct buf *b, size_t n) {
	if (n > b->len)
		n = b->len;
	if (!n)
		return;
	memmove(b->data, b->data + n, b->len - n);
	b->len -= n;
	b->data[b->len] = '\0';
}

void buf_truncate(struct buf *b, size_t n) {
	if (n >= b->len)
		return;
	b->len = n;
	b->data[n] = '\0';
}

const char *buf_str(const struct buf *b) {
	return b->data ? b->data : "";
}

char *buf_steal(struct buf *b) {
	char *s = b->data ? b->data : str_copy("");
	b->data = NULL;
	b->len = b->cap = 0;
	return s;
}

bool buf_overflowed(const struct buf *b) {
	return b->overflowed;
}

void buf_free(struct buf *b) {
	free(b->data);
	b->data = NULL;
	b->len = b->cap = 0;
}
