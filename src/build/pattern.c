/* A pattern is tried at all lengths at once: which of them fit so far, part by part. */
#include "build/pattern.h"

#include "base/buf.h"
#include "base/str.h"

#define BUDGET ((size_t)32 << 20)

/* One part of the pattern against what fits so far. */
static void step(bool *fits, const char *s, size_t n, char part, bool literal) {
	if (part == '*' && !literal) {
		for (size_t i = 1; i <= n; i++)
			fits[i] |= fits[i - 1];
		return;
	}
	for (size_t i = n; i > 0; i--)
		fits[i] = fits[i - 1] && ((part == '?' && !literal) || s[i - 1] == part);
	fits[0] = false;
}

ssize_t pattern_fits(const char *pattern, char escape, const char *s, size_t n, enum pattern_how how, size_t *budget) {
	_cleanup_(free_ptr) bool *fits = alloc_array(n + 1, sizeof *fits);
	fits[0] = true;
	for (const char *p = pattern; *p; p++) {
		bool literal = *p == escape && p[1];
		p += literal;
		if (*budget < n + 1) {
			*budget = 0;
			return -1;
		}
		*budget -= n + 1;
		step(fits, s, n, *p, literal);
	}
	ssize_t found = how == PATTERN_ALL && fits[n] ? (ssize_t)n : -1;
	for (size_t i = 0; how != PATTERN_ALL && i <= n && (found < 0 || how == PATTERN_LONGEST); i++)
		found = fits[i] ? (ssize_t)i : found;
	return found;
}

static int too_long(struct error *err) {
	return error_set(err, ERROR_TOO_LARGE, "a pattern in a substitution takes too long");
}

/* Where the end that fits begins; n: nowhere, or nothing is cut. */
static size_t find_end(const char *s, size_t n, const char *pattern, char escape, bool longest, size_t *budget) {
	for (size_t k = 0; k <= n && *budget; k++) {
		size_t at = longest ? k : n - k;
		if (pattern_fits(pattern, escape, s + at, n - at, PATTERN_ALL, budget) >= 0)
			return at;
	}
	return n;
}

int pattern_cut(const char *value, char end, const char *pattern, char escape, bool longest, char **out, struct error *err) {
	size_t n = strlen(value), budget = BUDGET, keep = n;
	ssize_t cut = 0;
	if (end == '#')
		cut = pattern_fits(pattern, escape, value, n, longest ? PATTERN_LONGEST : PATTERN_SHORTEST, &budget);
	else
		keep = find_end(value, n, pattern, escape, longest, &budget);
	if (!budget)
		return too_long(err);
	cut = MAX(cut, (ssize_t)0);
	*out = str_copyn(value + cut, keep - (size_t)cut);
	return 0;
}

int pattern_replace(const char *value, const char *pattern, char escape, const char *by, bool each, char **out, struct error *err) {
	_cleanup_(buf_free) struct buf text = BUF_INIT_MAX((size_t)1 << 20);
	size_t budget = BUDGET;
	bool more = *pattern != '\0';
	for (const char *p = value; *p;) {
		ssize_t n = more ? pattern_fits(pattern, escape, p, strlen(p), PATTERN_LONGEST, &budget) : 0;
		if (!budget)
			return too_long(err);
		if (n > 0) {
			buf_adds(&text, by);
			p += n;
			more = each;
		} else {
			buf_addc(&text, *p++);
		}
	}
	if (buf_overflowed(&text))
		return error_set(err, ERROR_TOO_LARGE, "a substitution makes more than 1 MiB of text");
	*out = text.data ? buf_steal(&text) : str_copy("");
	return 0;
}
