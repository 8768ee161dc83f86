/* Strings: views, vectors of strings, and numbers, sizes and times as people write them. */
#pragma once

#include "base/util.h"

/* A view of len bytes that somebody else owns; not NUL-terminated. */
struct str {
	const char *p;
	size_t len;
};

struct str str_view(const char *s); /* NULL gives an empty view */
bool str_is(struct str s, const char *text);
/* Splits s at the first `sep`: gives what is before it and moves *s behind it (to empty if there is none). */
struct str str_cut(struct str *s, char sep);
bool str_starts(const char *s, const char *prefix);
bool str_ends(const char *s, const char *suffix);
bool str_same(const char *a, const char *b); /* NULL equals NULL alone */

/* Decimal (or, from str_to_u64 with base 0, as strtoull) with nothing before or behind.
 * 0, -EINVAL, -ERANGE. */
int str_to_u64(const char *s, int base, uint64_t *out);
int str_to_i64(const char *s, int64_t *out);
/* "64", "512k", "1.5g", "10MiB": powers of 1024, any case, B and iB optional. Bytes. */
int str_to_size(const char *s, int64_t *out);
/* "90", "1.5s", "300ms", "1h30m", "2d": a plain number is seconds. Nanoseconds. */
int str_to_duration(const char *s, int64_t *ns);
/* The shortest exact form of the two ("1h30m", "512MiB"); free it. */
char *size_to_str(int64_t bytes);
char *duration_to_str(int64_t ns);

/* Vectors: NULL-terminated arrays of malloc'd strings; NULL is the empty vector. */
size_t strv_len(char *const *v);
void strv_add(char ***v, const char *s);
void strv_take(char ***v, char *s); /* owns s */
char **strv_copy(char *const *v);
bool strv_has(char *const *v, const char *s);
bool strv_same(char *const *a, char *const *b);
void strv_sort(char **v); /* by bytes; NULL is empty */
char **strv_split(const char *s, char sep); /* empty pieces are kept; "" gives one empty piece */
char *strv_join(char *const *v, const char *sep);
void strv_free(char **v);
DEFINE_CLEANUP(strv_free_ptr, char **, strv_free);

/* For environment-like vectors "KEY=VALUE": the value of key, or NULL; and set or replace. */
const char *strv_env_get(char *const *v, const char *key);
void strv_env_set(char ***v, const char *key_value);

/* Lower-case hexadecimal; out has room for 2 n + 1. */
void hex_encode(const uint8_t *data, size_t n, char *out);
/* n bytes of cryptographic randomness as 2 n hexadecimal digits; free it. */
char *random_hex(size_t n);
