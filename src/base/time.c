/* Time in nanoseconds, and as RFC 3339 text. */
#include "base/time.h"

#include <ctype.h>
#include <stdio.h>
#include <time.h>

static int64_t clock_ns(clockid_t clock) {
	struct timespec t;
	clock_gettime(clock, &t);
	return t.tv_sec * NS_PER_SEC + t.tv_nsec;
}

int64_t time_now_ns(void) {
	return clock_ns(CLOCK_REALTIME);
}

int64_t time_mono_ns(void) {
	return clock_ns(CLOCK_BOOTTIME);
}

void time_format(int64_t ns, char out[TIME_TEXT_MAX]) {
	time_t sec = ns / NS_PER_SEC;
	int64_t fraction = ns % NS_PER_SEC;
	if (fraction < 0) {
		fraction += NS_PER_SEC;
		sec--;
	}
	struct tm tm;
	gmtime_r(&sec, &tm);
	size_t n = strftime(out, TIME_TEXT_MAX, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(out + n, TIME_TEXT_MAX - n, ".%09dZ", (int)fraction);
}

/* ".123" in nanoseconds; moves *s behind it. */
static int parse_fraction(const char **s, int64_t *ns) {
	*ns = 0;
	if (**s != '.')
		return 0;
	int64_t unit = NS_PER_SEC / 10;
	const char *p = *s + 1;
	if (!isdigit((unsigned char)*p))
		return -EINVAL;
	for (; isdigit((unsigned char)*p); p++, unit /= 10)
		*ns += (*p - '0') * unit;
	*s = p;
	return 0;
}

/* Nanoseconds reach to the year 2262. */
static int to_ns(int64_t sec, int64_t fraction, int64_t *ns) {
	if (__builtin_mul_overflow(sec, NS_PER_SEC, &sec) || __builtin_add_overflow(sec, fraction, ns))
		return -EINVAL;
	return 0;
}

int time_parse(const char *s, int64_t *ns) {
	int64_t fraction;
	size_t digits = strspn(s, "0123456789");
	if (digits && digits <= 10 && (s[digits] == '\0' || s[digits] == '.')) {
		int64_t sec = strtoll(s, NULL, 10);
		s += digits;
		if (parse_fraction(&s, &fraction) < 0 || *s)
			return -EINVAL;
		return to_ns(sec, fraction, ns);
	}
	struct tm tm = {0};
	int used = 0;
	if (sscanf(s, "%4d-%2d-%2d%*1[Tt ]%2d:%2d:%2d%n", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &tm.tm_hour,
		   &tm.tm_min, &tm.tm_sec, &used) != 6 ||
	    !used)
		return -EINVAL;
	if (tm.tm_mon < 1 || tm.tm_mon > 12 || tm.tm_mday < 1 || tm.tm_mday > 31 || tm.tm_hour > 23 ||
	    tm.tm_min > 59 || tm.tm_sec > 60)
		return -EINVAL;
	tm.tm_year -= 1900;
	tm.tm_mon -= 1;
	s += used;
	if (parse_fraction(&s, &fraction) < 0)
		return -EINVAL;
	int64_t offset = 0;
	if (*s == '+' || *s == '-') {
		int hours, minutes;
		used = 0;
		if (sscanf(s + 1, "%2d:%2d%n", &hours, &minutes, &used) != 2 || s[1 + used] || minutes > 59)
			return -EINVAL;
		offset = (hours * INT64_C(3600) + minutes * INT64_C(60)) * (*s == '-' ? -1 : 1);
	} else if ((*s != 'Z' && *s != 'z') || s[1]) {
		return -EINVAL;
	}
	return to_ns(timegm(&tm) - offset, fraction, ns);
}
