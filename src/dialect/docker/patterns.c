/* Regular expressions that clients send in filters: none takes more time or memory than its length says. */
#include "dialect/docker/docker-priv.h"

#include <regex.h>

#define PATTERN_MAX 256

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
