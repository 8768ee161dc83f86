/* The tables of workloads, secrets and configs. */
#include "model/workload.h"

#include "base/base64.h"

#include <string.h>

#define NAMES(...) (const char *const[]){__VA_ARGS__, NULL}
#define TABLE(var_, name_, struct_, fields_, doc_, ...) \
	const struct field_table var_ = {name_, doc_, sizeof(struct_), fields_, ARRAY_SIZE(fields_), ##__VA_ARGS__}
#define RATIO_MAX 1000000000

#define ROLLOUT_FIELDS(delay_flag_, monitor_flag_, parallelism_flag_, failure_flag_, ratio_flag_, order_flag_)              \
	FIELD(struct rollout_policy, parallelism, FIELD_INT, .max = 1000000, .def = "1", .flag = parallelism_flag_,        \
	      .placeholder = "N", .doc = "So many at a time; 0: all at once"),                                             \
	FIELD(struct rollout_policy, delay, FIELD_DURATION, .flag = delay_flag_, .placeholder = "TIME",                    \
	      .doc = "Time between one batch and the next"),                                                               \
	FIELD(struct rollout_policy, monitor, FIELD_DURATION, .def = "5s", .flag = monitor_flag_, .placeholder = "TIME",   \
	      .doc = "Time after a start in which an end counts as a failure"),                                            \
	FIELD(struct rollout_policy, on_failure, FIELD_ENUM, .def = "pause", .values = NAMES("pause", "continue", "rollback"), \
	      .flag = failure_flag_, .placeholder = "ACTION", .doc = "What too many failures do: pause, continue or rollback"), \
	FIELD(struct rollout_policy, max_failure_ratio, FIELD_CPUS, .max = RATIO_MAX, .flag = ratio_flag_,                 \
	      .placeholder = "RATIO", .doc = "How many of all may fail: 0.2"),                                             \
	FIELD(struct rollout_policy, order, FIELD_ENUM, .def = "stop-first", .values = NAMES("stop-first", "start-first"), \
	      .flag = order_flag_, .placeholder = "ORDER", .doc = "What comes first: stop-first or start-first")

static int rollback_validate(const void *object, struct error *err) {
	const struct rollout_policy *p = object;
	if (str_same(p->on_failure, "rollback"))
		return error_field(err, "on_failure", "of a rollback cannot be another rollback");
	return 0;
}

static const struct field update_policy_fields[] = {
	ROLLOUT_FIELDS("update-delay", "update-monitor", "update-parallelism", "update-failure-action",
		       "update-max-failure-ratio", "update-order"),
};
TABLE(rollout_policy_table, "rollout_policy", struct rollout_policy, update_policy_fields,
      "How instances of an older template give way to new ones");
static const struct field rollback_policy_fields[] = {
	ROLLOUT_FIELDS("rollback-delay", "rollback-monitor", "rollback-parallelism", "rollback-failure-action",
		       "rollback-max-failure-ratio", "rollback-order"),
};
static TABLE(rollback_policy_table, "rollback_policy", struct rollout_policy, rollback_policy_fields,
		   "The same for the way back to the previous template", rollback_validate);

static const struct field replace_fields[] = {
	FIELD(struct replace_policy, condition, FIELD_ENUM, .def = "any", .values = NAMES("any", "on-failure", "none"),
	      .flag = "restart-condition", .placeholder = "CONDITION", .doc = "Which end has a new one started: any, on-failure, none"),
	FIELD(struct replace_policy, delay, FIELD_DURATION, .def = "1s", .flag = "restart-delay", .placeholder = "TIME",
	      .doc = "Time from an end to the next start"),
	FIELD(struct replace_policy, max_delay, FIELD_DURATION, .def = "1m", .flag = "restart-max-delay", .placeholder = "TIME",
	      .doc = "With each end in a row that time doubles, up to this"),
	FIELD(struct replace_policy, max_attempts, FIELD_INT, .max = 1000000, .flag = "restart-max-attempts",
	      .placeholder = "N", .doc = "After so many ends in a row a slot stays empty; 0: never"),
	FIELD(struct replace_policy, window, FIELD_DURATION, .flag = "restart-window", .placeholder = "TIME",
	      .doc = "One that has run so long has not ended in a row; 0: all ends count"),
};
TABLE(replace_policy_table, "replace_policy", struct replace_policy, replace_fields,
      "What happens when an instance of a workload ends");

static const struct field reservation_fields[] = {
	FIELD(struct reservations, cpus, FIELD_CPUS, .max = 1000000000000000, .flag = "reserve-cpus", .placeholder = "N",
	      .doc = "CPUs' time"),
	FIELD(struct reservations, memory, FIELD_SIZE, .flag = "reserve-memory", .placeholder = "BYTES", .doc = "Memory"),
};
static TABLE(reservations_table, "reservations", struct reservations, reservation_fields,
		   "What must be left on a host for an instance to be started there");

/* ---- constraints ---- */

static char *trimmed(const char *from, size_t n) {
	while (n && *from == ' ')
		from++, n--;
	while (n && from[n - 1] == ' ')
		n--;
	return str_copyn(from, n);
}

int constraint_parse(const char *text, struct constraint *out, struct error *err) {
	const char *equal = strstr(text, "=="), *unequal = strstr(text, "!=");
	const char *at = equal && (!unequal || equal < unequal) ? equal : unequal;
	*out = (struct constraint){.unequal = at && at == unequal};
	if (at) {
		out->key = trimmed(text, (size_t)(at - text));
		out->value = trimmed(at + 2, strlen(at + 2));
	}
	if (at && *out->key && *out->value && text_check(text, NULL) == 0)
		return 0;
	free(TAKE_PTR(out->key));
	free(TAKE_PTR(out->value));
	return error_set(err, ERROR_INVALID, "must be KEY==VALUE or KEY!=VALUE, such as node.labels.disk==ssd");
}

int constraint_check(const char *text, struct error *err) {
	struct constraint c;
	int r = constraint_parse(text, &c, err);
	free(c.key);
	free(c.value);
	return r;
}

/* ---- the workload ---- */

bool workload_is_job(const struct workload_spec *s) {
	return str_ends(s->mode, "job");
}

bool workload_is_global(const struct workload_spec *s) {
	return str_starts(s->mode, "global");
}

static int template_validate(const struct instance_spec *t, struct error *err) {
	if (t->name)
		return error_field(err, "template.name", "is made of the workload's name and cannot be given");
	if (t->auto_remove)
		return error_field(err, "template.auto_remove", "does not go with a workload, which removes its instances itself");
	if (t->restart.policy && !str_same(t->restart.policy, "no"))
		return error_field(err, "template.restart", "does not go with a workload: its own restart policy decides");
	return 0;
}

static int workload_spec_validate(const void *object, struct error *err) {
	const struct workload_spec *s = object;
	if (workload_is_job(s) && str_same(s->restart.condition, "any"))
		return error_field(err, "restart.condition", "of a job must be on-failure or none");
	if (strlen(s->name ? s->name : "") > 63)
		return error_field(err, "name", "must have at most 63 characters");
	return template_validate(&s->template, err);
}

static int parse_published(const char *text, void *to, struct error *err) {
	return port_parse(text, to, err);
}

static const struct field workload_spec_fields[] = {
	FIELD(struct workload_spec, name, FIELD_STRING, .flags = FIELD_REQUIRED, .max = 63, .check = instance_name_check,
	      .doc = "Its name"),
	FIELD(struct workload_spec, description, FIELD_STRING, .check = text_check, .flag = "description", .placeholder = "TEXT",
	      .doc = "What it is for"),
	FIELD(struct workload_spec, labels, FIELD_PAIRS, .flag = "workload-label", .placeholder = "KEY=VALUE",
	      .doc = "Labels of the workload itself"),
	FIELD(struct workload_spec, mode, FIELD_ENUM, .flags = FIELD_IMMUTABLE, .def = "replicated",
	      .values = NAMES("replicated", "global", "job", "global-job"), .flag = "mode", .placeholder = "MODE",
	      .doc = "replicated, global (one on each node), job (runs to its end) or global-job"),
	FIELD(struct workload_spec, replicas, FIELD_INT, .max = 100000, .def = "1", .flag = "replicas", .placeholder = "N",
	      .doc = "How many instances, when replicated"),
	FIELD(struct workload_spec, completions, FIELD_INT, .min = 0, .max = 100000, .def = "1", .flag = "completions",
	      .placeholder = "N", .doc = "How many must end well, of a job"),
	FIELD(struct workload_spec, parallelism, FIELD_INT, .max = 100000, .flag = "max-concurrent", .placeholder = "N",
	      .doc = "How many of a job run at a time; 0: all"),
	FIELD(struct workload_spec, ports, FIELD_LIST, .max = 64, .sub = &port_table, .flag = "publish,p",
	      .placeholder = "[[IP:]HOSTPORT:]PORT[/PROTOCOL]", .parse = parse_published,
	      .doc = "Ports of the host, spread over the instances that are well"),
	FIELD(struct workload_spec, balanced_names, FIELD_STRINGS, .max = 64, .check = instance_name_check, .flag = "balanced-name",
	      .placeholder = "NAME", .doc = "On its networks this is one address, which leads to the instances that are well"),
	FIELD(struct workload_spec, template, FIELD_OBJECT, .sub = &instance_spec_table, .doc = "What each instance is"),
	FIELD(struct workload_spec, pull_user, FIELD_STRING, .flags = FIELD_SECRET, .check = text_check,
	      .doc = "As whom a missing image is fetched"),
	FIELD(struct workload_spec, pull_password, FIELD_STRING, .flags = FIELD_SECRET, .max = 65536, .doc = "That user's"),
	FIELD(struct workload_spec, never_pull, FIELD_BOOL, .flag = "never-pull", .doc = "A missing image is not fetched"),
	FIELD(struct workload_spec, force, FIELD_INT, .doc = "Another number replaces all instances"),
	FIELD(struct workload_spec, update, FIELD_OBJECT, .sub = &rollout_policy_table, .doc = "How changes reach the instances"),
	FIELD(struct workload_spec, rollback, FIELD_OBJECT, .sub = &rollback_policy_table, .doc = "How they are taken back"),
	FIELD(struct workload_spec, restart, FIELD_OBJECT, .sub = &replace_policy_table, .doc = "What the end of one does"),
	FIELD(struct workload_spec, reservations, FIELD_OBJECT, .sub = &reservations_table, .doc = "What must be left for each"),
	FIELD(struct workload_spec, constraints, FIELD_STRINGS, .max = 64, .check = constraint_check, .flag = "constraint",
	      .placeholder = "KEY==VALUE", .doc = "On which nodes: node.hostname, node.labels.KEY …, == or !="),
	FIELD(struct workload_spec, max_per_node, FIELD_INT, .max = 100000, .flag = "replicas-max-per-node", .placeholder = "N",
	      .doc = "At most so many on one node; 0: no limit"),
	FIELD(struct workload_spec, history, FIELD_INT, .max = 100, .def = "4", .flag = "history", .placeholder = "N",
	      .doc = "Ended instances that are kept in each slot"),
	FIELD(struct workload_spec, origin, FIELD_JSON, .doc = "What a dialect has made it of, kept for it"),
};
TABLE(workload_spec_table, "workload_spec", struct workload_spec, workload_spec_fields, "What is wanted of a workload",
      workload_spec_validate);

static const struct field failure_fields[] = {
	FIELD(struct workload_failure, run, FIELD_STRING, .max = 25, .doc = "Told apart by this"),
	FIELD(struct workload_failure, slot, FIELD_INT, .doc = "In which slot"),
	FIELD(struct workload_failure, generation, FIELD_INT, .doc = "Of which template"),
	FIELD(struct workload_failure, attempt, FIELD_INT, .doc = "How many have ended before, in a row"),
	FIELD(struct workload_failure, error, FIELD_STRING, .max = 65536, .doc = "Why it could not be made"),
	FIELD(struct workload_failure, at, FIELD_TIME, .doc = "When"),
};
static TABLE(failure_table, "workload_failure", struct workload_failure, failure_fields,
		   "An instance that could not be made");

static const struct field update_fields[] = {
	FIELD(struct workload_update, state, FIELD_ENUM,
	      .values = NAMES("updating", "paused", "completed", "rollback_started", "rollback_paused", "rollback_completed"),
	      .doc = "How far it is"),
	FIELD(struct workload_update, message, FIELD_STRING, .max = 65536, .doc = "In words"),
	FIELD(struct workload_update, started_at, FIELD_TIME, .doc = "When it began"),
	FIELD(struct workload_update, completed_at, FIELD_TIME, .doc = "When it ended"),
};
static TABLE(update_table, "workload_update", struct workload_update, update_fields, "The last change of a template");

#define ID_FIELD(struct_)                                                                                     \
	FIELD(struct_, id, FIELD_STRING, .flags = FIELD_READONLY | FIELD_REQUIRED, .check = instance_id_check, \
	      .doc = "64 hexadecimal digits")
#define NOTED(struct_, member_, type_, doc_) FIELD(struct_, member_, type_, .flags = FIELD_READONLY, .doc = doc_)
#define IDENTITY_FIELDS(struct_)                                                      \
	ID_FIELD(struct_), NOTED(struct_, project, FIELD_STRING, "Whose it is"),      \
		NOTED(struct_, created_at, FIELD_TIME, "When it was made"),           \
		NOTED(struct_, updated_at, FIELD_TIME, "When its spec changed last"), \
		NOTED(struct_, version, FIELD_INT, "Of the spec: one more with each change")

static const struct field workload_fields[] = {
	IDENTITY_FIELDS(struct workload),
	NOTED(struct workload, generation, FIELD_INT, "Of the template"),
	NOTED(struct workload, last_generation, FIELD_INT, "The highest that was given"),
	FIELD(struct workload, spec, FIELD_OBJECT, .sub = &workload_spec_table, .doc = "What is wanted"),
	FIELD(struct workload, previous, FIELD_JSON, .flags = FIELD_READONLY | FIELD_SECRET, .doc = "The spec before the last change"),
	NOTED(struct workload, previous_generation, FIELD_INT, "Of that template"),
	FIELD(struct workload, update, FIELD_OBJECT, .flags = FIELD_READONLY, .sub = &update_table,
	      .doc = "The last change of the template"),
	FIELD(struct workload, failures, FIELD_LIST, .flags = FIELD_READONLY, .sub = &failure_table, .max = 4096,
	      .doc = "Instances that could not be made, the last few"),
	NOTED(struct workload, error, FIELD_STRING, "What keeps it from being true"),
};
TABLE(workload_table, "workload", struct workload, workload_fields, "A declared set of instances");

/* ---- secrets and configs ---- */

static int kept_validate(const void *object, struct error *err) {
	const struct kept_spec *s = object;
	ssize_t n = s->data ? base64_size(s->data) : 0;
	if (n < 0)
		return error_field(err, "data", "must be base64");
	if ((size_t)n > KEPT_DATA_MAX)
		return error_field(err, "data", "must be at most %zu bytes", KEPT_DATA_MAX);
	return 0;
}

static const struct field kept_spec_fields[] = {
	FIELD(struct kept_spec, name, FIELD_STRING, .flags = FIELD_REQUIRED | FIELD_IMMUTABLE, .max = 64,
	      .check = instance_name_check, .doc = "Its name"),
	FIELD(struct kept_spec, labels, FIELD_PAIRS, .flag = "label,l", .placeholder = "KEY=VALUE", .doc = "Labels"),
	FIELD(struct kept_spec, data, FIELD_STRING, .flags = FIELD_SECRET | FIELD_IMMUTABLE, .max = 1400000,
	      .doc = "What is in it, as base64"),
	FIELD(struct kept_spec, origin, FIELD_JSON, .doc = "What a dialect has made it of, kept for it"),
};
#define KEPT_FIELDS(spec_table_)                                                           \
	IDENTITY_FIELDS(struct kept), NOTED(struct kept, size, FIELD_SIZE, "Of the data"), \
		FIELD(struct kept, spec, FIELD_OBJECT, .sub = spec_table_, .doc = "What it is")

TABLE(secret_spec_table, "secret_spec", struct kept_spec, kept_spec_fields, "A new secret", kept_validate);
TABLE(config_spec_table, "config_spec", struct kept_spec, kept_spec_fields, "A new config", kept_validate);
static const struct field secret_fields[] = {KEPT_FIELDS(&secret_spec_table)};
static const struct field config_fields[] = {KEPT_FIELDS(&config_spec_table)};
TABLE(secret_table, "secret", struct kept, secret_fields, "Data that instances get as a file, and nobody else");
TABLE(config_table, "config", struct kept, config_fields, "Data that instances get as a file");
