/* Matching by descent, with a note of what has failed already: no pattern takes more than length times length. */
#include "build/ignore.h"

#include "base/buf.h"
#include "base/str.h"

#include <ctype.h>

#define LINES_MAX 10000
#define PATTERN_MAX 4096

struct match {
	const char *pattern, *path;
	size_t width;	 /* of a row of failed */
	uint8_t *failed; /* a bit for each pair of places */
	bool deep;
};

static int match_at(struct match *m, const char *p, const char *s);

/* Behind '['; moves *p behind the ']'. */
static int match_class(const char **p, char c) {
	bool negated = **p == '^', found = false, any = false;
	*p += negated;
	while (**p && (**p != ']' || !any)) {
		if (**p == '\\')
			(*p)++;
		char low = **p, high = low;
		if (!low || (low == '-' && (*p)[-1] != '\\'))
			return -EINVAL;
		(*p)++;
		if (**p == '-' && (*p)[1] && (*p)[1] != ']') {
			*p += 1 + ((*p)[1] == '\\');
			if (!(high = **p))
				return -EINVAL;
			(*p)++;
		}
		found |= (unsigned char)low <= (unsigned char)c && (unsigned char)c <= (unsigned char)high;
		any = true;
	}
	if (**p != ']' || !any)
		return -EINVAL;
	(*p)++;
	return found != negated;
}

static int match_star(struct match *m, const char *p, const char *s, bool slashes) {
	for (;; s++) {
		int r = match_at(m, p, s);
		if (r)
			return r;
		if (!*s || (*s == '/' && !slashes))
			return 0;
	}
}

static int match_deep(struct match *m, const char *p, const char *s) {
	while (*p == '*')
		p++;
	if (*p != '/')
		return *p ? match_star(m, p, s, true) : 1;
	/* "**" and a slash: no directory at all, or some */
	for (int r = match_at(m, p + 1, s);; r = match_at(m, p + 1, s)) {
		if (r)
			return r;
		s = strchr(s, '/');
		if (!s++)
			return 0;
	}
}

static int match_one(struct match *m, const char *p, const char *s) {
	for (; *p; p++, s++) {
		if (p[0] == '*' && p[1] == '*' && m->deep)
			return match_deep(m, p, s);
		if (*p == '*')
			return match_star(m, p + 1, s, false);
		if (*p == '[') {
			const char *end = p + 1;
			int r = match_class(&end, *s ? *s : '/');
			if (r < 0)
				return r;
			if (!r || !*s || *s == '/')
				return 0;
			p = end - 1;
			continue;
		}
		bool literal = *p == '\\';
		if (literal && !*++p)
			return -EINVAL;
		if (*p == '?' && !literal ? !*s || *s == '/' : *p != *s)
			return 0;
	}
	return !*s;
}

static int match_at(struct match *m, const char *p, const char *s) {
	size_t at = (size_t)(p - m->pattern) * m->width + (size_t)(s - m->path);
	if (m->failed[at / 8] & 1 << at % 8)
		return 0;
	int r = match_one(m, p, s);
	if (r == 0)
		m->failed[at / 8] |= (uint8_t)(1 << at % 8);
	return r;
}

int path_match(const char *pattern, const char *path, bool deep) {
	size_t p = strlen(pattern), s = strlen(path);
	if (p > PATTERN_MAX || s > PATTERN_MAX)
		return -EINVAL;
	struct match m = {.pattern = pattern, .path = path, .width = s + 1, .deep = deep};
	_cleanup_(free_ptr) uint8_t *failed = alloc_zero((p + 1) * (s + 1) / 8 + 1);
	m.failed = failed;
	return match_at(&m, pattern, path);
}

bool path_has_wildcard(const char *word) {
	for (const char *c = word; *c; c++)
		if (*c == '\\' && c[1])
			c++;
		else if (strchr("*?[", *c))
			return true;
	return false;
}

char *path_clean(const char *path) {
	struct buf out = BUF_INIT;
	struct str rest = str_view(path);
	while (rest.len) {
		struct str part = str_cut(&rest, '/');
		if (!part.len || str_is(part, "."))
			continue;
		if (str_is(part, "..")) {
			const char *slash = out.len ? memrchr(out.data, '/', out.len) : NULL;
			buf_truncate(&out, slash ? (size_t)(slash - out.data) : 0);
			continue;
		}
		if (out.len)
			buf_addc(&out, '/');
		buf_add(&out, part.p, part.len);
	}
	return out.data ? buf_steal(&out) : str_copy("");
}

/* ---- .dockerignore ---- */

static void take_line(struct ignore *out, struct str line) {
	while (line.len && isspace((unsigned char)line.p[line.len - 1]))
		line.len--;
	while (line.len && isspace((unsigned char)*line.p))
		line = (struct str){line.p + 1, line.len - 1};
	if (!line.len || *line.p == '#' || out->n == LINES_MAX)
		return;
	bool except = *line.p == '!';
	_cleanup_(free_ptr) char *text = str_copyn(line.p + except, line.len - except);
	char *pattern = path_clean(text);
	if (!*pattern || path_match(pattern, "x", true) < 0) {
		free(pattern);
		return;
	}
	out->lines = alloc_resize(out->lines, out->n + 1, sizeof *out->lines);
	out->lines[out->n++] = (struct ignore_line){pattern, except};
}

void ignore_parse(const char *text, size_t n, struct ignore *out) {
	struct str rest = {text, n};
	*out = (struct ignore){0};
	if (n >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
		rest = (struct str){text + 3, n - 3};
	while (rest.len)
		take_line(out, str_cut(&rest, '\n'));
}

void ignore_free(struct ignore *i) {
	for (size_t k = 0; k < i->n; k++)
		free(i->lines[k].pattern);
	free(i->lines);
	*i = (struct ignore){0};
}

/* The path itself, or a directory that it is in. */
static bool line_fits(const char *pattern, const char *path) {
	if (path_match(pattern, path, true) == 1)
		return true;
	for (const char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
		_cleanup_(free_ptr) char *above = str_copyn(path, (size_t)(slash - path));
		if (path_match(pattern, above, true) == 1)
			return true;
	}
	return false;
}

bool ignore_fits(const struct ignore *i, const char *path) {
	bool ignored = false;
	for (size_t k = 0; k < i->n; k++)
		if (i->lines[k].except == ignored && line_fits(i->lines[k].pattern, path))
			ignored = !i->lines[k].except;
	return ignored;
}
