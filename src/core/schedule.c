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

/* Is there a newer scheduled one in the same period? */
static bool is_newest(const snapshots *have, const struct snapshot *s, int period) {
	for (size_t i = 0; i < have->n; i++) {
		const struct snapshot *other = &have->items[i];
		if (other->scheduled && other->created_at > s->created_at &&
		    period_of(other->created_at, period) == period_of(s->created_at, period))
			return false;
	}
	return true;
}

/* How many later periods have a scheduled one. */
static int64_t later_periods(const snapshots *have, const struct snapshot *s, int period) {
	int64_t n = 0;
	for (size_t i = 0; i < have->n; i++) {
		const struct snapshot *other = &have->items[i];
		n += other->scheduled && period_of(other->created_at, period) > period_of(s->created_at, period) &&
		     is_newest(have, other, period);
	}
	return n;
}

void schedule_mark(const struct snapshot_schedule *s, snapshots *have) {
	for (size_t i = 0; i < have->n; i++) {
		struct snapshot *one = &have->items[i];
		if (!one->scheduled)
			continue;
		free(TAKE_PTR(one->kept_as));
		for (int p = MONTHLY; p >= HOURLY && !one->kept_as; p--)
			if (is_newest(have, one, p) && later_periods(have, one, p) < wanted(s, p))
				one->kept_as = str_copy(period_names[p]);
	}
}

int64_t schedule_next(int64_t now) {
	return (period_of(now, HOURLY) + 1) * 3600 * NS_PER_SEC;
}
