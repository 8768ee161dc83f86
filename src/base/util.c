/* Memory that never fails, and the cleanup handlers that every file uses. */
#include "base/util.h"

#include <stdio.h>
#include <unistd.h>

static void out_of_memory(void) {
	static const char text[] = "wabe: out of memory\n";
	(void)!write(STDERR_FILENO, text, sizeof text - 1);
	abort();
}

void *alloc_zero(size_t size) {
	return alloc_array(1, size);
}

void *alloc_array(size_t n, size_t size) {
	void *p = calloc(n ? n : 1, size ? size : 1);
	if (!p)
		out_of_memory();
	return p;
}

void *alloc_resize(void *p, size_t n, size_t size) {
	void *q = reallocarray(p, n ? n : 1, size ? size : 1);
	if (!q)
		out_of_memory();
	return q;
}

char *str_copy(const char *s) {
	return str_copyn(s, strlen(s));
}

char *str_copyn(const char *s, size_t n) {
	char *copy = alloc_zero(n + 1);
	memcpy(copy, s, n);
	return copy;
}

char *str_vformat(const char *fmt, va_list ap) {
	char *s;
	if (vasprintf(&s, fmt, ap) < 0)
		out_of_memory();
	return s;
}

char *str_format(const char *fmt, ...) {
	va_list ap;
	va_start(ap, fmt);
	char *s = str_vformat(fmt, ap);
	va_end(ap);
	return s;
}

void close_fd(int *fd) {
	if (*fd < 0)
		return;
	int saved = errno;
	close(*fd);
	errno = saved;
	*fd = -1;
}
