/* Tasks: instances of workloads, records of those that could not be made, and those that wait. */
#pragma once

#include "core/instances.h"
#include "dialect/docker/swarm-priv.h"

struct swarm_task {
	char *id; /* SWARM_ID_LEN characters */
	const struct workload *workload;
	struct noun *of;                /* keeps it */
	struct instance_snap *instance; /* NULL: there is none */
	int64_t slot, generation, at;
	const char *state, *desired;
	char *error;
	const char *message;
};
struct tasks {
	struct swarm_task *items;
	size_t n;
};
/* Of one workload, or of all (NULL); free by tasks_free. */
int tasks_read(struct core *c, const char *workload, struct tasks *out, struct error *err);
void tasks_free(struct tasks *t);
/* ServiceStatus of a list of services. */
json_t *tasks_status(struct core *c, const struct workload *w);
