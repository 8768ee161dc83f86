/* What the files of the controller share. */
#pragma once

#include "base/crew.h"
#include "base/map.h"
#include "control/plan.h"
#include "control/workloads.h"
#include "core/instances.h"
#include "core/workloads.h"

#include <pthread.h>

#define PROJECT "default" /* for now there is one */

struct workloads {
	struct core *core;
	pthread_t thread;
	struct crew *crew;
	pthread_mutex_t lock;
	struct map *busy;   /* instances and slots (plan.h) that something is being done with; by lock */
	struct map *at_work; /* the same before the instances were last listed: what has ended since is not seen as ended yet */
	volatile bool closing;
};

/* The names of the balancers that these workloads have, after those are gone that none of them wants. */
struct map *workload_ports_collect(struct core *c, struct noun *const *all);
/* A balancer for each port, and for its address on each network, that has none; NULL, or why one could not be made, to be freed. */
char *workload_ports_make(struct core *c, const struct workload *w, const struct map *have);
