/* Macros and allocation that every file uses: ownership by cleanup attribute, memory that never fails.
 *
 * Out of memory aborts the process (every process of wabe can be killed at any moment anyway); a length
 * that comes from outside is capped before it reaches these functions. */
#pragma once

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define UNUSED __attribute__((unused))

/* Runs a system call again for as long as it fails with EINTR; gives its result. */
#define RETRY_EINTR(call)                                  \
	({                                                 \
		__typeof__(call) retry_result_;            \
		do                                         \
			retry_result_ = (call);            \
		while (retry_result_ == -1 && errno == EINTR); \
		retry_result_;                             \
	})

/* Declares a variable whose release function runs when it goes out of scope:
 * _cleanup_(buf_free) struct buf b = BUF_INIT; */
#define _cleanup_(fn) __attribute__((cleanup(fn)))

/* The value of an owning pointer, which is left NULL: the owner changes. */
#define TAKE_PTR(p)                             \
	({                                      \
		__typeof__(p) *from_ = &(p);    \
		__typeof__(p) taken_ = *from_;  \
		*from_ = NULL;                  \
		taken_;                         \
	})

/* The same for a descriptor, left at -1. */
#define TAKE_FD(fd)              \
	({                       \
		int *from_ = &(fd);     \
		int taken_ = *from_;    \
		*from_ = -1;     \
		taken_;          \
	})

/* Defines NAME, usable with _cleanup_ on a variable of type `type` (a pointer), that calls fn on its value. */
#define DEFINE_CLEANUP(name, type, fn)     \
	static inline void name(type *p) { \
		fn(*p);                    \
	}                                  \
	struct name##_needs_semicolon

/* Never NULL: they abort when memory is out. `alloc_zero` and `alloc_array` give zeroed memory. */
void *alloc_zero(size_t size) __attribute__((malloc, returns_nonnull));
void *alloc_array(size_t n, size_t size) __attribute__((malloc, returns_nonnull));
void *alloc_resize(void *p, size_t n, size_t size) __attribute__((returns_nonnull));
char *str_copy(const char *s) __attribute__((malloc, returns_nonnull));
char *str_copyn(const char *s, size_t n) __attribute__((malloc, returns_nonnull));
char *str_format(const char *fmt, ...) PRINTF(1, 2) __attribute__((returns_nonnull));
char *str_vformat(const char *fmt, va_list ap) PRINTF(1, 0) __attribute__((returns_nonnull));

#define NEW(type) ((type *)alloc_zero(sizeof(type)))

/* Frees *p, which holds a malloc'd pointer of any type: for _cleanup_(free_ptr). */
static inline void free_ptr(void *p) {
	free(*(void **)p);
}

/* Closes *fd if it is not negative, keeps errno: for _cleanup_(close_fd). */
void close_fd(int *fd);
