/* Strings: views, vectors, and the numbers that people write. */
#include "base/str.h"

#include "base/buf.h"

#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <sys/random.h>

struct str str_view(const char *s) {
	return (struct str){s ? s : "", s ? strlen(s) : 0};
}

bool str_is(struct str s, const char *text) {
	return s.len == strlen(text) && memcmp(s.p, text, s.len) == 0;
}

struct str str_cut(struct str *s, char sep) {
	const char *at = s->len ? memchr(s->p, sep, s->len) : NULL;
	struct str head = {s->p, at ? (size_t)(at - s->p) : s->len};
	size_t skip = at ? head.len + 1 : head.len;
	s->p += skip;
	s->len -= skip;
	return head;
}

bool str_starts(const char *s, const char *prefix) {
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

bool str_ends(const char *s, const char *suffix) {
	size_t n = strlen(s), m = strlen(suffix);
	return n >= m && memcmp(s + n - m, suffix, m) == 0;
}

bool str_same(const char *a, const char *b) {
	return a && b ? strcmp(a, b) == 0 : a == b;
}

int str_to_u64(const char *s, int base, uint64_t *out) {
	if (!isalnum((unsigned char)s[0]))
		return -EINVAL;
	char *end;
	errno = 0;
	unsigned long long v = strtoull(s, &end, base);
	if (errno)
		return -errno;
	if (end == s || *end)
		return -EINVAL;
	*out = v;
	return 0;
}

int str_to_i64(const char *s, int64_t *out) {
	bool negative = s[0] == '-';
	uint64_t magnitude;
	int r = str_to_u64(s + negative, 10, &magnitude);
	if (r < 0)
		return r;
	if (magnitude > (uint64_t)INT64_MAX + negative)
		return -ERANGE;
	*out = negative ? (int64_t)(-magnitude) : (int64_t)magnitude;
	return 0;
}

/* Reads digits with an optional fraction; moves *s behind them. */
static int parse_decimal(const char **s, double *out) {
	if (!isdigit((unsigned char)**s))
		return -EINVAL;
	const char *p = *s;
	double v = 0, scale = 1;
	for (; isdigit((unsigned char)*p); p++)
		v = v * 10 + (*p - '0');
	if (*p == '.') {
		if (!isdigit((unsigned char)p[1]))
			return -EINVAL;
		for (p++; isdigit((unsigned char)*p); p++)
			v += (*p - '0') * (scale /= 10);
	}
	*s = p;
	*out = v;
	return 0;
}

static int to_i64(double v, int64_t *out) {
	if (v >= 9223372036854775807.0)
		return -ERANGE;
	*out = (int64_t)llround(v);
	return 0;
}

int str_to_size(const char *s, int64_t *out) {
	static const char units[] = "kmgtpe";
	if (str_to_i64(s, out) == 0)
		return *out < 0 ? -EINVAL : 0;
	double v;
	int r = parse_decimal(&s, &v);
	if (r < 0)
		return r;
	const char *unit = *s ? strchr(units, tolower((unsigned char)*s)) : NULL;
	if (unit) {
		v = ldexp(v, 10 * (int)(unit - units + 1));
		s++;
		if (tolower((unsigned char)*s) == 'i' && tolower((unsigned char)s[1]) == 'b')
			s++;
	}
	if (tolower((unsigned char)*s) == 'b')
		s++;
	if (*s)
		return -EINVAL;
	return to_i64(v, out);
}

static const struct {
	const char *name;
	int64_t ns;
} duration_units[] = {
	{"d", 86400000000000}, {"h", 3600000000000}, {"ms", 1000000}, {"m", 60000000000},
	{"s", 1000000000},     {"us", 1000},         {"ns", 1},
};

int str_to_duration(const char *s, int64_t *ns) {
	double total = 0, v;
	if (!*s)
		return -EINVAL;
	while (*s) {
		int r = parse_decimal(&s, &v);
		if (r < 0)
			return r;
		if (!*s && total == 0) { /* a plain number */
			total = v * 1e9;
			break;
		}
		size_t i;
		for (i = 0; i < ARRAY_SIZE(duration_units); i++)
			if (str_starts(s, duration_units[i].name))
				break;
		if (i == ARRAY_SIZE(duration_units))
			return -EINVAL;
		s += strlen(duration_units[i].name);
		total += v * (double)duration_units[i].ns;
	}
	return to_i64(total, ns);
}

char *size_to_str(int64_t bytes) {
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
	size_t u = 0;
	while (bytes && bytes % 1024 == 0 && u + 1 < ARRAY_SIZE(units)) {
		bytes /= 1024;
		u++;
	}
	return str_format("%" PRId64 "%s", bytes, units[u]);
}

char *duration_to_str(int64_t ns) {
	static const size_t order[] = {0, 1, 3, 4, 2, 5, 6};
	if (ns == 0)
		return str_copy("0s");
	struct buf b = BUF_INIT;
	for (size_t i = 0; i < ARRAY_SIZE(order); i++) {
		int64_t unit = duration_units[order[i]].ns;
		if (ns / unit)
			buf_addf(&b, "%" PRId64 "%s", ns / unit, duration_units[order[i]].name);
		ns %= unit;
	}
	return buf_steal(&b);
}

size_t strv_len(char *const *v) {
	size_t n = 0;
	while (v && v[n])
		n++;
	return n;
}

void strv_take(char ***v, char *s) {
	size_t n = strv_len(*v);
	*v = alloc_resize(*v, n + 2, sizeof **v);
	(*v)[n] = s;
	(*v)[n + 1] = NULL;
}

void strv_add(char ***v, const char *s) {
	strv_take(v, str_copy(s));
}

char **strv_copy(char *const *v) {
	if (!v)
		return NULL;
	size_t n = strv_len(v);
	char **copy = alloc_array(n + 1, sizeof *copy);
	for (size_t i = 0; i < n; i++)
		copy[i] = str_copy(v[i]);
	return copy;
}

bool strv_has(char *const *v, const char *s) {
	for (size_t i = 0; v && v[i]; i++)
		if (strcmp(v[i], s) == 0)
			return true;
	return false;
}

bool strv_same(char *const *a, char *const *b) {
	size_t n = strv_len(a);
	if (n != strv_len(b))
		return false;
	for (size_t i = 0; i < n; i++)
		if (strcmp(a[i], b[i]) != 0)
			return false;
	return true;
}

char **strv_split(const char *s, char sep) {
	char **v = NULL;
	for (const char *end; (end = strchr(s, sep)); s = end + 1)
		strv_take(&v, str_copyn(s, (size_t)(end - s)));
	strv_add(&v, s);
	return v;
}

char *strv_join(char *const *v, const char *sep) {
	struct buf b = BUF_INIT;
	for (size_t i = 0; v && v[i]; i++) {
		if (i)
			buf_adds(&b, sep);
		buf_adds(&b, v[i]);
	}
	return buf_steal(&b);
}

void strv_free(char **v) {
	for (size_t i = 0; v && v[i]; i++)
		free(v[i]);
	free(v);
}

static int compare(const void *a, const void *b) {
	return strcmp(*(char *const *)a, *(char *const *)b);
}

void strv_sort(char **v) {
	if (v)
		qsort(v, strv_len(v), sizeof *v, compare);
}

const char *strv_env_get(char *const *v, const char *key) {
	size_t n = strlen(key);
	for (size_t i = 0; v && v[i]; i++)
		if (strncmp(v[i], key, n) == 0 && v[i][n] == '=')
			return v[i] + n + 1;
	return NULL;
}

void strv_env_set(char ***v, const char *key_value) {
	size_t n = strcspn(key_value, "=");
	for (size_t i = 0; *v && (*v)[i]; i++)
		if (strncmp((*v)[i], key_value, n) == 0 && ((*v)[i][n] == '=' || (*v)[i][n] == '\0')) {
			free((*v)[i]);
			(*v)[i] = str_copy(key_value);
			return;
		}
	strv_add(v, key_value);
}

void hex_encode(const uint8_t *data, size_t n, char *out) {
	static const char digits[] = "0123456789abcdef";
	for (size_t i = 0; i < n; i++) {
		out[2 * i] = digits[data[i] >> 4];
		out[2 * i + 1] = digits[data[i] & 15];
	}
	out[2 * n] = '\0';
}

char *random_hex(size_t n) {
	_cleanup_(free_ptr) uint8_t *bytes = alloc_zero(n);
	for (size_t have = 0; have < n;) {
		ssize_t r = RETRY_EINTR(getrandom(bytes + have, n - have, 0));
		if (r < 0)
			abort(); /* getrandom fails on no kernel that wabe runs on */
		have += (size_t)r;
	}
	char *out = alloc_zero(2 * n + 1);
	hex_encode(bytes, n, out);
	return out;
}
