/* Time: nanoseconds since the epoch (wall) or since boot (mono), and RFC 3339 texts of the former. */
#pragma once

#include "base/util.h"

#define NS_PER_SEC INT64_C(1000000000)
#define NS_PER_MS INT64_C(1000000)

int64_t time_now_ns(void);  /* CLOCK_REALTIME */
int64_t time_mono_ns(void); /* CLOCK_BOOTTIME */

#define TIME_TEXT_MAX 48
/* "2026-11-22T23:09:46.123456789Z"; always nine digits, so that texts sort as times do. */
void time_format(int64_t ns, char out[TIME_TEXT_MAX]);
/* RFC 3339 with optional fraction and any offset; also a plain number of seconds since the epoch, with
 * optional fraction. 0 or -EINVAL. */
int time_parse(const char *s, int64_t *ns);
