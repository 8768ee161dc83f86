/* The workload: a declared set of instances that a controller keeps true; and secrets and configs, which instances get
 * as files. */
#pragma once

#include "model/instance.h"

/* How instances of an older template give way to new ones. */
struct rollout_policy {
	int64_t parallelism;       /* so many at a time; 0: all at once */
	int64_t delay;             /* ns between one batch and the next */
	int64_t monitor;           /* ns after its start in which the end of a new one counts as a failure */
	char *on_failure;          /* pause | continue | rollback */
	int64_t max_failure_ratio; /* of all instances, in billionths */
	char *order;               /* stop-first | start-first */
};

/* What happens when one of its instances ends. */
struct replace_policy {
	char *condition;      /* any | on-failure | none */
	int64_t delay;        /* ns from an end to the next start */
	int64_t max_delay;    /* ns: the delay doubles with each end in a row up to this; at most delay: it does not */
	int64_t max_attempts; /* 0: without end */
	int64_t window;       /* ns: who has run so long has not failed in a row; 0: attempts are counted for ever */
};

struct reservations {
	int64_t cpus;   /* nano CPUs */
	int64_t memory; /* bytes */
};

struct workload_spec {
	char *name;
	char *description;
	struct pairs labels; /* of the workload; those of the instances are the template's */
	char *mode;          /* replicated | global (one on each node) | job (until so many have ended well) | global-job */
	int64_t replicas;    /* replicated */
	int64_t completions; /* job */
	int64_t parallelism; /* job: at most so many at a time; 0: all */
	char **balanced_names; /* on each network of the template these stand for one address, which leads to those that are well */
	struct instance_spec template; /* without a name: that is the workload's, the slot and something random */
	ports ports;         /* of the host, spread over the instances that are well */
	char *pull_user, *pull_password; /* with which a missing image is fetched; NULL: nobody's */
	bool never_pull;     /* a missing image is a failure */
	int64_t force;       /* another number replaces all instances */
	struct rollout_policy update, rollback;
	struct replace_policy restart;
	struct reservations reservations; /* of each instance: it is started only where so much is left */
	char **constraints;  /* on nodes: "node.hostname==a", "node.labels.disk!=ssd" */
	int64_t max_per_node; /* 0: no limit */
	int64_t history;     /* ended instances that are kept in each slot */
	json_t *origin;      /* what a dialect has made it of, kept for it */
};

/* An instance that could not be made: there is nothing else to show of it. */
struct workload_failure {
	char *run; /* as instance_owner */
	int64_t slot, generation, attempt;
	char *error;
	int64_t at;
};

struct workload_update {
	char *state; /* NULL: none | updating | paused | completed | rollback_started | rollback_paused | rollback_completed */
	char *message;
	int64_t started_at, completed_at;
};

struct workload {
	char *id; /* 64 hexadecimal digits */
	char *project;
	int64_t created_at, updated_at;
	int64_t version;    /* of the spec: one more with each change */
	int64_t generation; /* of the template */
	int64_t last_generation; /* the highest that was ever given */
	struct workload_spec spec;
	json_t *previous;   /* the spec before the last change; NULL: none */
	int64_t previous_generation;
	struct workload_update update;
	FIELD_LIST_OF(struct workload_failure) failures;
	char *error;        /* what keeps it from being true just now; NULL: nothing */
};

extern const struct field_table workload_table, workload_spec_table, rollout_policy_table, replace_policy_table;

/* One expression of constraints: true when it can be understood. */
struct constraint {
	char *key, *value;
	bool unequal;
};
int constraint_parse(const char *text, struct constraint *out, struct error *err); /* frees of out are the caller's */
int constraint_check(const char *text, struct error *err);
bool workload_is_job(const struct workload_spec *s);
bool workload_is_global(const struct workload_spec *s);

/* ---- secrets and configs: the same but for who may see the data ---- */
#define KEPT_DATA_MAX ((size_t)1000 << 10)
struct kept_spec {
	char *name;
	struct pairs labels;
	char *data;     /* base64 */
	json_t *origin; /* as in a workload */
};
struct kept {
	char *id; /* 64 hexadecimal digits */
	char *project;
	int64_t created_at, updated_at;
	int64_t version; /* one more with each change */
	int64_t size;    /* bytes */
	struct kept_spec spec;
};
/* The same struct behind both. Neither prints the data. */
extern const struct field_table secret_table, secret_spec_table, config_table, config_spec_table;
