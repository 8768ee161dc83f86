/* The verbs of the cluster. For now it has one node, this host. What comes out is a struct noun of a struct cluster. */
#pragma once

#include "core/core.h"
#include "core/nouns.h"
#include "model/cluster.h"

#define ANY_CLUSTER_VERSION INT64_C(-1)

/* Founds one. CONFLICT where there is one already. Takes what the specs hold. */
int cluster_init(struct core *c, struct cluster_spec *spec, struct node_spec *node, struct noun **out, struct error *err);
/* NOT_FOUND where this host is in none. */
int cluster_get(struct core *c, struct noun **out, struct error *err);
struct cluster_change {
	const json_t *spec, *node; /* merge patches; NULL: none */
	int64_t version, node_version; /* what the caller has seen, CONFLICT where it is another by now; -1: any */
	bool new_worker_token, new_manager_token;
};
int cluster_update(struct core *c, const struct cluster_change *change, struct noun **out, struct error *err);
/* It is gone, and with it the workloads, secrets and configs that a dialect has made in it. */
int cluster_leave(struct core *c, struct error *err);
