/* POST /containers/{id}/update: limits and the restart policy, while it runs. What is zero stays as it is. */
#include "dialect/docker/containers.h"

static void add_number(json_t *to, const char *name, int64_t value) {
	if (value)
		json_set_int(to, name, value);
}

static void add_throttles(json_t *to, const char *name, const io_throttles *list) {
	json_t *all = json_array();
	for (size_t k = 0; k < list->n; k++)
		json_array_append_new(all, json_pack("{sssI}", "device", list->items[k].device, "rate",
						     (json_int_t)list->items[k].rate));
	if (list->n)
		json_object_set(to, name, all);
	json_decref(all);
}

/* Limits that were asked for, as a merge patch. */
static json_t *limits_patch(const struct limits *l, bool pids) {
	json_t *p = json_object();
	if (l->cpus) /* a field of its own kind: CPUs, not billionths */
		json_object_set_new(p, "cpus", json_real((double)l->cpus / 1e9));
	add_number(p, "cpu_shares", l->cpu_shares);
	add_number(p, "cpu_quota", l->cpu_quota);
	add_number(p, "cpu_period", l->cpu_period);
	json_set_str(p, "cpuset_cpus", l->cpuset_cpus);
	json_set_str(p, "cpuset_mems", l->cpuset_mems);
	add_number(p, "memory", l->memory);
	add_number(p, "memory_swap", l->memory_swap);
	add_number(p, "memory_reservation", l->memory_reservation);
	add_number(p, "io_weight", l->io_weight);
	json_t *weights = json_array();
	for (size_t k = 0; k < l->io_weights.n; k++)
		json_array_append_new(weights, json_pack("{sssI}", "device", l->io_weights.items[k].device, "weight",
							 (json_int_t)l->io_weights.items[k].weight));
	if (l->io_weights.n)
		json_object_set(p, "io_weights", weights);
	json_decref(weights);
	if (pids)
		json_set_int(p, "pids", l->pids ? l->pids : -1);
	add_throttles(p, "io_read_bps", &l->io_read_bps);
	add_throttles(p, "io_write_bps", &l->io_write_bps);
	add_throttles(p, "io_read_iops", &l->io_read_iops);
	add_throttles(p, "io_write_iops", &l->io_write_iops);
	return p;
}

static int refuse_fixed(const struct docker_resources *r, struct error *err) {
	const char *name = r->devices.n ? "Devices" : r->device_rules ? "DeviceCgroupRules" : r->ulimits.n ? "Ulimits" : NULL;
	if (!name)
		return 0;
	return error_set(err, ERROR_INVALID, "%s: cannot be changed after a container has been created", name);
}

/* The limits that are there and those to come, as dockerd judges them together. */
static int check_together(const char *id, const struct docker_resources *r, const struct limits *have, struct error *err) {
	const char *text = NULL;
	if (r->nano_cpus && have->cpu_period)
		text = "Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set";
	else if (r->nano_cpus && have->cpu_quota)
		text = "Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set";
	else if (r->cpu_period && have->cpus)
		text = "Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set";
	else if (r->cpu_quota && have->cpus)
		text = "Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set";
	else if (r->memory && !r->memory_swap && have->memory_swap > 0 && r->memory > have->memory_swap)
		text = "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time";
	return text ? error_set(err, ERROR_INVALID, "Cannot update container %s: %s", id, text) : 0;
}

static int restart_patch(const struct docker_resources *r, const struct instance *i, json_t *patch, struct error *err) {
	struct restart_policy policy = {0};
	if (!r->restart.name || !*r->restart.name)
		return 0;
	int result = docker_restart_policy(&r->restart, &policy, err);
	if (result == 0 && i->spec.auto_remove && !str_same(policy.policy, "no"))
		result = error_set(err, ERROR_CONFLICT, "Restart policy cannot be updated because AutoRemove is enabled for the container");
	if (result == 0)
		json_object_set_new(patch, "restart", json_pack("{sssI}", "policy", policy.policy, "max_retries",
							       (json_int_t)policy.max_retries));
	free(policy.policy);
	return result;
}

static int build_patch(struct core *c, struct docker_resources *r, bool pids, const struct instance *i, json_t *patch,
		       json_t *warnings, struct error *err) {
	struct limits limits = {0};
	int64_t memory = r->memory;
	if (!r->memory) /* what is there counts for what is asked of swap */
		r->memory = r->memory_swap > 0 ? i->spec.limits.memory : 0;
	int result = refuse_fixed(r, err);
	if (result == 0)
		result = docker_limits(c, r, &limits, warnings, err);
	if (result == 0)
		result = check_together(i->id, r, &i->spec.limits, err);
	if (result == 0)
		result = restart_patch(r, i, patch, err);
	limits.memory = memory;
	json_t *of_limits = limits_patch(&limits, pids);
	if (json_object_size(of_limits))
		json_object_set(patch, "limits", of_limits);
	json_decref(of_limits);
	fields_free(&limits_table, &limits);
	return result;
}

static void update(struct http_request *req, const json_t *body, struct docker_resources *r, const struct instance *i) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *now = NULL;
	_cleanup_(json_free_ptr) json_t *patch = json_object(), *warnings = json_array();
	bool pids = docker_api(req) >= 40 && json_is_integer(json_object_get(body, "PidsLimit"));
	int result = build_patch(core_of(req), r, pids, i, patch, warnings, &err);
	if (result == 0 && json_object_size(patch))
		result = instance_update(core_of(req), DOCKER_PROJECT, i->id, patch, &now, &err);
	if (result < 0) {
		if (err.field)
			error_wrap(&err, "%s", err.field);
		return fail(req, &err);
	}
	json_t *answer = json_object();
	json_object_set(answer, "Warnings", json_array_size(warnings) ? warnings : json_null());
	docker_reply(req, 200, answer);
}

void docker_update(struct http_request *req) {
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL;
	_cleanup_(json_free_ptr) json_t *body = docker_body(req);
	struct docker_resources r;
	if (!body || !docker_parse_json(req, &docker_resources_table, body, &r))
		return;
	if (docker_container(req, http_param(req, "id"), &snap))
		update(req, body, &r, &snap->instance);
	fields_free(&docker_resources_table, &r);
}
