/* A bounded pool of threads (a crew) with small stacks: they come when there is work, and go a few seconds after the
 * last of it, so that an idle daemon holds none. */
#pragma once

#include "base/util.h"

struct crew;
struct crew *crew_new(size_t max);
void crew_run(struct crew *p, void (*fn)(void *arg), void *arg);
void crew_free(struct crew *p); /* waits for what is queued */
