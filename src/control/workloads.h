/* The controller of workloads: makes their instances what they say. It looks at everything again whenever something has changed, and
 * keeps nothing of its own but what it is doing at the moment: killed, the next one goes on from what is. */
#pragma once

#include "core/core.h"

struct workloads;
int workloads_start(struct core *c, struct workloads **out, struct error *err);
/* When the core's followers are stopped and before it is closed. Waits for what is under way. */
void workloads_stop(struct workloads *w);
