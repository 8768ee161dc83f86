/* Patterns in substitutions of variables: * and ? stand for any bytes, an escape takes the meaning of what is behind it. */
#pragma once

#include "base/error.h"

enum pattern_how {
	PATTERN_SHORTEST,
	PATTERN_LONGEST,
	PATTERN_ALL, /* of the text, or nothing */
};
/* How much at the beginning of n bytes it fits: their number, or -1. *budget: steps that may be taken still; it is 0 when they were
 * not enough. */
ssize_t pattern_fits(const char *pattern, char escape, const char *s, size_t n, enum pattern_how how, size_t *budget);

/* "${x#p}" '#', '%': what is left without the beginning or the end that fits; all of it where nothing does. To be freed. TOO_LARGE:
 * it would take too long. */
int pattern_cut(const char *value, char end, const char *pattern, char escape, bool longest, char **out, struct error *err);
/* "${x/p/r}": with the first place that fits, or each, replaced. */
int pattern_replace(const char *value, const char *pattern, char escape, const char *by, bool each, char **out, struct error *err);
