/* Which snapshots a schedule takes and keeps. */
#include "core/schedule.h"

#include "base/str.h"
#include "base/time.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define HOUR (3600 * NS_PER_SEC)
#define DAY (24 * HOUR)
#define START (INT64_C(1767225600) * NS_PER_SEC) /* 2026-01-01, a Thursday, 00:00 UTC */

static void add(snapshots *s, int64_t when, bool scheduled) {
	s->items = alloc_resize(s->items, s->n + 1, sizeof *s->items);
	s->items[s->n++] = (struct snapshot){.created_at = when, .scheduled = scheduled};
}

static void drop(snapshots *s) {
	for (size_t i = 0; i < s->n; i++)
		fields_free(&snapshot_table, &s->items[i]);
	free(s->items);
}

static size_t kept(const snapshots *s, const char *as) {
	size_t n = 0;
	for (size_t i = 0; i < s->n; i++)
		n += s->items[i].scheduled && str_same(s->items[i].kept_as, as);
	return n;
}

static void due_once_a_period(UNUSED void **state) {
	struct snapshot_schedule hourly = {.hourly = 3}, daily = {.daily = 2}, none = {0};
	snapshots s = {0};
	assert_true(schedule_due(&hourly, &s, START));
	assert_false(schedule_due(&none, &s, START));
	add(&s, START - 5 * DAY, false); /* a person's does not count */
	assert_true(schedule_due(&daily, &s, START));
	add(&s, START + HOUR / 2, true);
	assert_false(schedule_due(&hourly, &s, START + HOUR - 1));
	assert_true(schedule_due(&hourly, &s, START + HOUR));
	assert_false(schedule_due(&daily, &s, START + 23 * HOUR));
	assert_true(schedule_due(&daily, &s, START + DAY));
	assert_true(schedule_due(&hourly, &s, START + 40 * DAY)); /* what was missed is taken once */
	drop(&s);
}

static void a_year_of_hours(UNUSED void **state) {
	struct snapshot_schedule all = {.hourly = 24, .daily = 7, .weekly = 4, .monthly = 12};
	snapshots s = {0};
	add(&s, START - DAY, false);
	for (int64_t t = START; t < START + 400 * DAY; t += HOUR) {
		add(&s, t, true);
		if ((t - START) % DAY)
			continue;
		schedule_mark(&all, &s);
		size_t n = 0;
		for (size_t i = 0; i < s.n; i++)
			if (!s.items[i].scheduled || s.items[i].kept_as)
				s.items[n++] = s.items[i];
		s.n = n;
	}
	schedule_mark(&all, &s);
	assert_int_equal(kept(&s, "monthly"), 12);
	/* the longest wins: the newest of all is this month's, and so on */
	assert_in_range(kept(&s, "weekly"), 2, 4);
	assert_in_range(kept(&s, "daily"), 5, 7);
	assert_in_range(kept(&s, "hourly"), 22, 24);
	assert_false(s.items[0].scheduled);
	drop(&s);
}

static void nothing_wanted_keeps_nothing(UNUSED void **state) {
	struct snapshot_schedule none = {0};
	snapshots s = {0};
	add(&s, START, true);
	schedule_mark(&none, &s);
	assert_null(s.items[0].kept_as);
	drop(&s);
}

static void next_full_hour(UNUSED void **state) {
	assert_true(schedule_next(START) == START + HOUR);
	assert_true(schedule_next(START + HOUR - 1) == START + HOUR);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(due_once_a_period),
		cmocka_unit_test(a_year_of_hours),
		cmocka_unit_test(nothing_wanted_keeps_nothing),
		cmocka_unit_test(next_full_hour),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
