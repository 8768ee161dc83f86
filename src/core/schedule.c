/* Which snapshots a schedule wants. */
#include "core/schedule.h"

#include "base/str.h"
#include "base/time.h"

#include <time.h>

enum { HOURLY, DAILY, WEEKLY, MONTHLY, PERIODS };
static const char *const period_names[PERIODS] = {"hourly", "daily", "weekly", "monthly"};

/* The number of the period that a time falls in. */
static int64_t period_of(int64_t ns, int period) {
	int64_t seconds = ns / NS_PER_SEC, days = seconds / 86400;
	struct tm tm;
	switch (period) {
	case HOURLY:
		return seconds / 3600;
	case DAILY:
		return days;
	case WEEKLY:
		return (days + 3) / 7; /* the epoch was a Thursday */
	default:
		gmtime_r(&(time_t){seconds}, &tm);
		return tm.tm_year * 12 + tm.tm_mon;
	}
}

static int64_t wanted(const struct snapshot_schedule *s, int period) {
	return (int64_t[]){s->hourly, s->daily, s->weekly, s->monthly}[period];
}

bool schedule_wanted(const struct snapshot_schedule *s) {
	return s->hourly || s->daily || s->weekly || s->monthly;
}

bool schedule_due(const struct snapshot_schedule *s, const snapshots *have, int64_t now) {
	int shortest = HOURLY;
	while (shortest < PERIODS && !wanted(s, shortest))
		shortest++;
	if (shortest == PERIODS)
		return false;
	int64_t newest = 0;
	for (size_t i = 0; i < have->n; i++)
		if (have->items[i].scheduled)
			newest = MAX(newest, have->items[i].created_at);
	return newest == 0 || period_of(newest, shortest) < period_of(now, shortest);
}

/* The newest of each of the last so many periods that have one. */
static void mark_period(snapshots *have, int period, int64_t keep) {
	int64_t last = INT64_MAX;
	for (size_t i = have->n; i-- > 0 && keep > 0;) {
		struct snapshot *one = &have->items[i];
		int64_t number = period_of(one->created_at, period);
		if (!one->scheduled || number >= last)
			continue;
		last = number;
		keep--;
		if (!one->kept_as)
			one->kept_as = str_copy(period_names[period]);
	}
}

void schedule_mark(const struct snapshot_schedule *s, snapshots *have) {
	for (size_t i = 0; i < have->n; i++)
		free(TAKE_PTR(have->items[i].kept_as));
	for (int p = MONTHLY; p >= HOURLY; p--)
		mark_period(have, p, wanted(s, p));
}

int64_t schedule_next(int64_t now) {
	return (period_of(now, HOURLY) + 1) * 3600 * NS_PER_SEC;
}
