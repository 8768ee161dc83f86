/* Patterns that clients send in filters: regular expressions of names, and Go's path.Match of references. Neither takes more
 * time or memory than its length says. */
#include "dialect/docker/docker-priv.h"

#include <regex.h>

#define PATTERN_MAX 256

/* ---- regular expressions ---- */

/* Repetitions by number and back references can take all memory or time. */
static bool is_cheap(const char *pattern) {
	bool cheap = strlen(pattern) <= PATTERN_MAX && !strchr(pattern, '{');
	for (const char *s = pattern; cheap && (s = strchr(s, '\\')); s += 1 + (s[1] != '\0'))
		cheap = s[1] < '0' || s[1] > '9';
	return cheap;
}

bool docker_text_fits(const char *pattern, const void *text) {
	regex_t re;
	if (!pattern[strspn(pattern, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-/")] || !is_cheap(pattern) ||
	    regcomp(&re, pattern, REG_EXTENDED | REG_NOSUB) != 0)
		return strstr(text, pattern) != NULL;
	bool fits = regexec(&re, text, 0, NULL, 0) == 0;
	regfree(&re);
	return fits;
}

/* ---- globs ---- */

/* A letter of a set, perhaps behind a backslash. */
static char set_letter(const char **at) {
	*at += **at == '\\' && (*at)[1];
	return **at ? *(*at)++ : '\0';
}

/* *at is behind "[": whether c is in the set, and *at behind "]". A set that does not end holds nothing. */
static bool set_has(const char **at, char c) {
	bool in = false, not = **at == '^';
	*at += not;
	for (bool first = true; **at && (first || **at != ']'); first = false) {
		char low = set_letter(at), high = low;
		if ((*at)[0] == '-' && (*at)[1] && (*at)[1] != ']') {
			++*at;
			high = set_letter(at);
		}
		in |= low <= c && c <= high;
	}
	if (**at != ']')
		return false;
	++*at;
	return in != not;
}

/* One letter of text, which is not at its end, by one part of the pattern that is no star. */
static bool one_fits(const char **pattern, char c) {
	const char *at = *pattern;
	bool fits;
	if (*at == '[') {
		at++;
		fits = c != '/' && set_has(&at, c);
	} else if (*at == '?') {
		at++;
		fits = c != '/';
	} else {
		at += *at == '\\' && at[1];
		fits = *at == c;
		at += *at != '\0';
	}
	*pattern = at;
	return fits;
}

/* Only the last star need ever take more: what is between two of them fits best at its first place. */
bool docker_glob_fits(const char *pattern, const char *text) {
	const char *star = NULL, *from = NULL;
	while (*text) {
		if (*pattern == '*') {
			star = ++pattern;
			from = text;
		} else if (*pattern && one_fits(&pattern, *text)) {
			text++;
		} else if (star && *from != '/') {
			pattern = star;
			text = ++from;
		} else {
			return false;
		}
	}
	while (*pattern == '*')
		pattern++;
	return !*pattern;
}
