/* Which snapshots a schedule wants: pure functions of times, for the clock in snapshots.c and its tests. Hours, days,
 * weeks (from Monday on) and months are those of UTC. */
#pragma once

#include "model/storage.h"

/* Whether one is due now: the newest scheduled one is of an earlier hour (day, week, month: the shortest that is kept). */
bool schedule_due(const struct snapshot_schedule *s, const snapshots *have, int64_t now);
/* Sets kept_as of each scheduled snapshot: the newest of each of the last `hourly` hours that have one is kept as hourly, and so on for
 * days, weeks and months; the longest one wins. NULL: it is to go. Snapshots that people took are
 * left alone. The oldest come first in have. */
void schedule_mark(const struct snapshot_schedule *s, snapshots *have);
/* The time of the next look, ns since the epoch: the next full hour. */
int64_t schedule_next(int64_t now);
bool schedule_wanted(const struct snapshot_schedule *s);
