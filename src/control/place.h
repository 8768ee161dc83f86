/* Whether this node may have a workload's instances, and how many more fit. */
#pragma once

#include "control/plan.h"
#include "core/core.h"

struct node_facts {
	char *id, *hostname, *os, *arch;
	struct noun *cluster; /* NULL: none */
	int64_t cpus, memory; /* of the host: nano CPUs, bytes */
	int64_t cpus_reserved, memory_reserved; /* by what runs */
};
void node_facts_read(struct core *c, struct node_facts *f);
void node_facts_free(struct node_facts *f);
enum plan_place place_of(const struct workload_spec *s, const struct node_facts *f);
/* -1: any number. */
int64_t place_room(const struct workload_spec *s, const struct node_facts *f);
