/* The request target: percent-decoding, segments, query, and which route they fit. Strangers write these
 * bytes; nothing here touches a connection. */
#include "http/http-priv.h"

#include <strings.h>

void http_pairs_add(struct http_pairs *p, char *name, char *value) {
	if (!(p->n & (p->n - 1))) /* grows at powers of two */
		p->items = alloc_resize(p->items, p->n ? 2 * p->n : 1, sizeof(*p->items));
	p->items[p->n++] = (struct http_pair){name, value};
}

const char *http_pairs_get(const struct http_pairs *p, const char *name, bool any_case) {
	for (size_t i = 0; i < p->n; i++)
		if (!(any_case ? strcasecmp : strcmp)(p->items[i].name, name))
			return p->items[i].value;
	return NULL;
}

void http_pairs_free(struct http_pairs *p) {
	for (size_t i = 0; i < p->n; i++) {
		free(p->items[i].name);
		free(p->items[i].value);
	}
	free(p->items);
	*p = (struct http_pairs){0};
}

static int hex_value(char c) {
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

char *http_decode(struct str s, bool plus) {
	char *out = alloc_zero(s.len + 1), *to = out;

	for (size_t i = 0; i < s.len; i++) {
		char c = s.p[i];

		if (c == '%') {
			int high = i + 2 < s.len ? hex_value(s.p[i + 1]) : -1;
			int low = high >= 0 ? hex_value(s.p[i + 2]) : -1;
			if (low < 0 || !(high | low)) {
				free(out);
				return NULL;
			}
			c = (char)(high << 4 | low);
			i += 2;
		} else if (c == '+' && plus) {
			c = ' ';
		}
		*to++ = c;
	}
	return out;
}

static int query_parse(struct str query, struct http_pairs *out) {
	while (query.len) {
		struct str value = str_cut(&query, '&'), name;
		char *n, *v;

		if (!value.len)
			continue;
		name = str_cut(&value, '=');
		n = http_decode(name, true);
		v = http_decode(value, true);
		if (!n || !v) {
			free(n);
			free(v);
			return -EINVAL;
		}
		http_pairs_add(out, n, v);
	}
	return 0;
}

/* No path of ours is longer; matching would take time for the square of it. */
#define SEGMENTS_MAX 256

static int segments_parse(const char *path, char ***out) {
	const char *p = path + 1;

	for (size_t n = 0; n < SEGMENTS_MAX; n++) {
		const char *end = strchrnul(p, '/');
		char *segment = http_decode((struct str){p, (size_t)(end - p)}, false);
		if (!segment)
			return -EINVAL;
		strv_take(out, segment);
		if (!*end)
			return 0;
		p = end + 1;
	}
	return -EINVAL;
}

/* "http://host/path", as to a proxy, is allowed by RFC 9112 and means the path. */
static const char *skip_authority(const char *uri) {
	const char *p = strstr(uri, "://");

	if (*uri == '/' || !p)
		return uri;
	p = strpbrk(p + 3, "/?");
	return p ? p : "/";
}

int http_target_parse(const char *uri, size_t (*prefix)(const char *path), struct http_target *out) {
	const char *start = skip_authority(uri), *question = strchrnul(start, '?');
	int r;

	*out = (struct http_target){.path = str_copyn(start, (size_t)(question - start))};
	if (*start != '/')
		return -EINVAL;
	r = segments_parse(out->path + (prefix ? prefix(out->path) : 0), &out->segments);
	return r || !*question ? r : query_parse(str_view(question + 1), &out->query);
}

void http_target_free(struct http_target *t) {
	free(t->path);
	strv_free(t->segments);
	http_pairs_free(&t->query);
	*t = (struct http_target){0};
}

/* ---- routes ---- */

enum piece_kind { LITERAL, ONE, REST };

/* The next segment of a pattern, and of what kind it is; *name is the literal or the parameter. */
static enum piece_kind pattern_cut(struct str *pattern, struct str *name) {
	*name = str_cut(pattern, '/');
	if (name->len < 3 || name->p[0] != '{' || name->p[name->len - 1] != '}')
		return LITERAL;
	*name = (struct str){name->p + 1, name->len - 2};
	if (name->len <= 3 || memcmp(name->p + name->len - 3, "...", 3) != 0)
		return ONE;
	name->len -= 3;
	return REST;
}

static char *join(char *const *segments, size_t n) {
	struct buf b = BUF_INIT;

	for (size_t i = 0; i < n; i++) {
		if (i)
			buf_addc(&b, '/');
		buf_adds(&b, segments[i]);
	}
	return buf_steal(&b);
}

static void params_truncate(struct http_pairs *params, size_t n) {
	while (params->n > n) {
		params->n--;
		free(params->items[params->n].name);
		free(params->items[params->n].value);
	}
}

/* The number of literal segments, or -1 when it does not fit. `last`: the pattern ends here. */
static int match(struct str pattern, bool last, char *const *segments, size_t n, struct http_pairs *params) {
	struct str name;
	enum piece_kind kind;
	size_t kept = params->n, most;
	int r = -1;

	if (last)
		return n ? -1 : 0;
	if (!n)
		return -1;
	last = !memchr(pattern.p, '/', pattern.len);
	kind = pattern_cut(&pattern, &name);
	if (kind == LITERAL) {
		r = str_is(name, segments[0]) ? match(pattern, last, segments + 1, n - 1, params) : -1;
		return r < 0 ? -1 : r + 1;
	}
	most = kind == ONE ? 1 : n;
	for (size_t taken = 1; r < 0 && taken <= most; taken++) {
		if (taken == 1 && !segments[0][0])
			return -1;
		params_truncate(params, kept);
		http_pairs_add(params, str_copyn(name.p, name.len), join(segments, taken));
		r = match(pattern, last, segments + taken, n - taken, params);
	}
	if (r < 0)
		params_truncate(params, kept);
	return r;
}

static bool method_fits(const char *wanted, const char *method) {
	return !strcmp(wanted, method) || (!strcmp(wanted, "GET") && !strcmp(method, "HEAD"));
}

static void allow_add(char **allow, const char *method) {
	char *more;

	if (*allow && strstr(*allow, method)) /* no method is a part of another's name */
		return;
	more = str_format("%s%s%s%s", *allow ? *allow : "", *allow ? ", " : "", method,
			  strcmp(method, "GET") ? "" : ", HEAD");
	free(*allow);
	*allow = more;
}

const struct http_route *http_route_find(const struct http_route *routes, const char *method, char *const *segments,
					 struct http_pairs *params, char **allow) {
	const struct http_route *found = NULL;
	size_t n = strv_len(segments);
	int best = -1;

	*allow = NULL;
	for (const struct http_route *r = routes; r->method; r++) {
		struct http_pairs here = {0};
		int score = match(str_view(r->path + 1), false, segments, n, &here);

		if (score >= 0)
			allow_add(allow, r->method);
		if (score > best && method_fits(r->method, method)) {
			struct http_pairs swap = *params;
			*params = here;
			here = swap;
			best = score;
			found = r;
		}
		http_pairs_free(&here);
	}
	if (found) {
		free(*allow);
		*allow = NULL;
	}
	return found;
}
