/* The tables of the cluster and its node. */
#include "model/cluster.h"

#include "model/instance.h"

#define NAMES(...) (const char *const[]){__VA_ARGS__, NULL}
#define TABLE(var_, name_, struct_, fields_, doc_, ...) \
	const struct field_table var_ = {name_, doc_, sizeof(struct_), fields_, ARRAY_SIZE(fields_), ##__VA_ARGS__}
#define NOTED(struct_, member_, type_, doc_) FIELD(struct_, member_, type_, .flags = FIELD_READONLY, .doc = doc_)
#define IDENTITY_FIELDS(struct_)                                                                                        \
	FIELD(struct_, id, FIELD_STRING, .flags = FIELD_READONLY | FIELD_REQUIRED, .check = instance_id_check,          \
	      .doc = "64 hexadecimal digits"),                                                                          \
		NOTED(struct_, created_at, FIELD_TIME, "When it was made"),                                             \
		NOTED(struct_, updated_at, FIELD_TIME, "When it changed last"),                                         \
		NOTED(struct_, version, FIELD_INT, "One more with each change")

static const struct field node_spec_fields[] = {
	FIELD(struct node_spec, name, FIELD_STRING, .max = 128, .check = text_check, .doc = "A further name"),
	FIELD(struct node_spec, labels, FIELD_PAIRS, .doc = "Labels, for constraints"),
	FIELD(struct node_spec, role, FIELD_ENUM, .def = "manager", .values = NAMES("manager", "worker"), .doc = "What it does"),
	FIELD(struct node_spec, availability, FIELD_ENUM, .def = "active", .values = NAMES("active", "pause", "drain"),
	      .doc = "active, pause (nothing new comes to it) or drain (what runs there goes)"),
};
TABLE(node_spec_table, "node_spec", struct node_spec, node_spec_fields, "What is wanted of a node");

static const struct field node_fields[] = {
	IDENTITY_FIELDS(struct node),
	FIELD(struct node, spec, FIELD_OBJECT, .sub = &node_spec_table, .doc = "What is wanted"),
};
TABLE(node_table, "node", struct node, node_fields, "A host of a cluster");

static const struct field cluster_spec_fields[] = {
	FIELD(struct cluster_spec, name, FIELD_STRING, .flags = FIELD_IMMUTABLE, .def = "default", .max = 64,
	      .check = instance_name_check, .doc = "Its name"),
	FIELD(struct cluster_spec, labels, FIELD_PAIRS, .doc = "Labels"),
	FIELD(struct cluster_spec, address, FIELD_STRING, .max = 256, .check = text_check, .doc = "Where others are to reach this node"),
	FIELD(struct cluster_spec, history, FIELD_INT, .max = 100, .def = "4", .doc = "Ended instances that new workloads keep in each slot"),
	FIELD(struct cluster_spec, origin, FIELD_JSON, .doc = "What a dialect has made it of, kept for it"),
};
TABLE(cluster_spec_table, "cluster_spec", struct cluster_spec, cluster_spec_fields, "What is wanted of a cluster");

static const struct field cluster_fields[] = {
	IDENTITY_FIELDS(struct cluster),
	FIELD(struct cluster, spec, FIELD_OBJECT, .sub = &cluster_spec_table, .doc = "What is wanted"),
	FIELD(struct cluster, worker_token, FIELD_STRING, .flags = FIELD_SECRET | FIELD_READONLY, .doc = "With it workers may join"),
	FIELD(struct cluster, manager_token, FIELD_STRING, .flags = FIELD_SECRET | FIELD_READONLY, .doc = "With it managers may join"),
	FIELD(struct cluster, node, FIELD_OBJECT, .flags = FIELD_READONLY, .sub = &node_table, .doc = "This host in it"),
};
TABLE(cluster_table, "cluster", struct cluster, cluster_fields, "Hosts that work together");
