/* The cluster that a host has founded (one with a single node, for now), and its node as schedulers see it. */
#pragma once

#include "model/field.h"

struct node_spec {
	char *name; /* a further name; the host's own is in its description */
	struct pairs labels;
	char *role;         /* manager | worker */
	char *availability; /* active | pause (nothing new comes) | drain (what runs goes) */
};

struct node {
	char *id; /* 64 hexadecimal digits */
	int64_t created_at, updated_at, version;
	struct node_spec spec;
};

struct cluster_spec {
	char *name;
	struct pairs labels;
	char *address;   /* at which others are to reach this node */
	int64_t history; /* ended instances that new workloads of it keep in each slot */
	json_t *origin;  /* what a dialect has made it of, kept for it */
};

struct cluster {
	char *id;
	int64_t created_at, updated_at, version;
	struct cluster_spec spec;
	char *worker_token, *manager_token; /* with which others may join */
	struct node node;
};
extern const struct field_table cluster_table, cluster_spec_table, node_table, node_spec_table;
