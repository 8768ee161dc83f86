/* Patterns of paths: those of .dockerignore, and wildcards of COPY and ADD. Pure data, no I/O. */
#pragma once

#include "base/util.h"

/* As Go's filepath.Match: * and ? stop at slashes, [a-z] [^a-z] and \x as usual. deep: "**" stands for any number of
 * directories. 1, 0, or -EINVAL for a pattern that is none. */
int path_match(const char *pattern, const char *path, bool deep);
/* Whether a word has a wildcard in it. */
bool path_has_wildcard(const char *word);

/* A .dockerignore file. Lines that are no pattern are skipped; later lines win, "!" makes an exception. */
struct ignore {
	struct ignore_line {
		char *pattern;
		bool except;
	} *lines;
	size_t n;
};
void ignore_parse(const char *text, size_t n, struct ignore *out);
void ignore_free(struct ignore *i);
/* path: without a slash at its beginning. What is in an ignored directory is ignored. */
bool ignore_fits(const struct ignore *i, const char *path);

/* "/a/./b//../c/" → "a/c": without slashes at the ends; ".." at the top goes away. "" for the top. Free it. */
char *path_clean(const char *path);
