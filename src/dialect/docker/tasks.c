#include "dialect/docker/tasks.h"

#include "base/time.h"

#include <limits.h>
#include <strings.h>
#include <unistd.h>

/* ---- what there is ---- */

static struct swarm_task *add(struct tasks *t, struct noun *of, const char *id, int64_t slot, int64_t generation, int64_t at) {
	t->items = alloc_resize(t->items, t->n + 1, sizeof *t->items);
	struct swarm_task *one = &t->items[t->n++];
	*one = (struct swarm_task){.id = str_copyn(id, strnlen(id, SWARM_ID_LEN)), .workload = of->of, .of = noun_ref(of), .slot = slot,
			     .generation = generation, .at = at};
	return one;
}

/* What an instance does, and what it is to do. */
static void judge(struct swarm_task *t) {
	const struct instance_status *s = &t->instance->instance.status;
	bool job = workload_is_job(&t->workload->spec), current = t->generation == t->workload->generation;
	t->desired = job ? "complete" : current ? "running" : "shutdown";
	t->message = "started";
	if (str_same(s->state, "created") && !s->error) {
		t->state = "starting";
		t->message = "starting";
	} else if (str_same(s->state, "running") || str_same(s->state, "paused") || str_same(s->state, "restarting")) {
		t->state = str_same(s->health, "starting") ? "starting" : "running";
	} else {
		bool ok = s->exit_code == 0 && !s->error && !s->stopped_by_user;
		t->desired = ok && job ? "complete" : "shutdown";
		t->state = s->stopped_by_user ? "shutdown" : ok ? "complete" : "failed";
		t->message = s->stopped_by_user ? "shutdown" : ok ? "finished" : "started";
		if (str_same(t->state, "failed"))
			t->error = s->error ? str_copy(s->error) : str_format("task: non-zero exit (%lld)", (long long)s->exit_code);
	}
}

static void add_instance(struct tasks *t, struct noun *of, struct instance_snap *snap) {
	const struct instance *i = &snap->instance;
	struct swarm_task *one = add(t, of, i->spec.owner.run, i->spec.owner.slot, i->spec.owner.generation, i->created_at);
	one->instance = instance_snap_ref(snap);
	judge(one);
}

static void add_failure(struct tasks *t, struct noun *of, const struct workload_failure *f) {
	struct swarm_task *one = add(t, of, f->run, f->slot, f->generation, f->at);
	one->state = "rejected";
	one->desired = "shutdown";
	one->message = "preparing";
	one->error = str_copy(f->error);
}

static bool has_live(const struct tasks *t, size_t from, int64_t slot) {
	for (size_t i = from; i < t->n; i++)
		if (t->items[i].slot == slot && !str_same(t->items[i].desired, "shutdown"))
			return true;
	return false;
}

/* Slots that wait because nothing suits them. */
static void add_waiting(struct tasks *t, struct noun *of, size_t from) {
	const struct workload *w = of->of;
	int64_t slots = workload_is_global(&w->spec) ? 1 : workload_is_job(&w->spec) ? 0 : w->spec.replicas;
	if (!w->error || !str_starts(w->error, "no suitable node"))
		return;
	for (int64_t slot = 1; slot <= slots; slot++) {
		if (has_live(t, from, slot))
			continue;
		_cleanup_(free_ptr) char *id = str_format("%05llx%.20s", (unsigned long long)slot & 0xfffff, w->id);
		struct swarm_task *one = add(t, of, id, slot, w->generation, w->updated_at);
		one->state = "pending";
		one->desired = "running";
		one->message = "pending task scheduling";
		one->error = str_copy(w->error);
	}
}

static int add_workload(struct core *c, struct noun *of, struct tasks *t, struct error *err) {
	const struct workload *w = of->of;
	struct instance_snap **snaps;
	size_t from = t->n;
	const struct instance_filter f = {.all = true, .workload = w->id};
	int r = instance_snaps(c, DOCKER_PROJECT, &f, &snaps, err);
	if (r < 0)
		return r;
	for (struct instance_snap **s = snaps; *s; s++) {
		add_instance(t, of, *s);
		instance_snap_unref(*s);
	}
	free(snaps);
	for (size_t i = 0; i < w->failures.n; i++)
		add_failure(t, of, &w->failures.items[i]);
	add_waiting(t, of, from);
	return 0;
}

int tasks_read(struct core *c, const char *workload, struct tasks *out, struct error *err) {
	_cleanup_(nouns_unref_ptr) struct noun **all = NULL;
	*out = (struct tasks){0};
	int r = workload_all(c, DOCKER_PROJECT, &all, err);
	for (struct noun **n = all; r == 0 && *n; n++)
		if (!workload || str_same(((const struct workload *)(*n)->of)->id, workload))
			r = add_workload(c, *n, out, err);
	if (r < 0)
		tasks_free(out);
	return r;
}

void tasks_free(struct tasks *t) {
	for (size_t i = 0; i < t->n; i++) {
		free(t->items[i].id);
		free(t->items[i].error);
		noun_unref(t->items[i].of);
		instance_snap_unref(t->items[i].instance);
	}
	free(t->items);
	*t = (struct tasks){0};
}

json_t *tasks_status(struct core *c, const struct workload *w) {
	_cleanup_(tasks_free) struct tasks all;
	int64_t running = 0, desired = 0, completed = 0;
	if (tasks_read(c, w->id, &all, NULL) < 0)
		return json_null();
	for (size_t i = 0; i < all.n; i++) {
		running += str_same(all.items[i].state, "running");
		completed += str_same(all.items[i].state, "complete") && all.items[i].generation == w->generation;
		desired += str_same(all.items[i].desired, "running");
	}
	if (str_same(w->spec.mode, "replicated"))
		desired = w->spec.replicas;
	else if (workload_is_job(&w->spec))
		desired = MAX((workload_is_global(&w->spec) ? 1 : w->spec.completions) - completed, 0);
	return json_pack("{sI,sI,sI}", "RunningTasks", (json_int_t)running, "DesiredTasks", (json_int_t)desired, "CompletedTasks",
			 (json_int_t)(workload_is_job(&w->spec) ? completed : 0));
}

/* ---- how one looks ---- */

static json_t *spec_json(const struct swarm_task *t) {
	const struct workload *w = t->workload;
	struct workload_spec previous;
	json_t *spec = NULL;
	if (t->generation == w->previous_generation && w->previous && t->generation != w->generation &&
	    fields_parse(&workload_spec_table, w->previous, FIELDS_TRUSTED, &previous, NULL) == 0) {
		spec = service_spec_show(&previous);
		fields_free(&workload_spec_table, &previous);
	}
	if (!spec)
		spec = service_spec_show(&w->spec);
	json_t *task = json_incref(json_object_get(spec, "TaskTemplate"));
	json_decref(spec);
	return task;
}

static json_t *status_json(const struct swarm_task *t) {
	json_t *s = json_object();
	const struct instance *i = t->instance ? &t->instance->instance : NULL;
	int64_t at = !i ? t->at : MAX(MAX(i->status.finished_at, i->status.started_at), i->created_at);
	json_object_set_new(s, "Timestamp", docker_time(at));
	json_set_str(s, "State", t->state);
	json_set_str(s, "Message", t->message);
	json_set_str(s, "Err", t->error);
	if (i)
		json_object_set_new(s, "ContainerStatus", json_pack("{ss,sI,sI}", "ContainerID", i->id, "PID", (json_int_t)i->status.pid,
								    "ExitCode", (json_int_t)i->status.exit_code));
	json_object_set_new(s, "PortStatus", json_object());
	return s;
}

static json_t *attachments_json(const struct swarm_task *t) {
	json_t *list = json_array();
	const nics *all = &t->instance->instance.nics;
	for (size_t i = 0; i < all->n; i++) {
		const struct nic *n = &all->items[i];
		json_t *addresses = json_array();
		if (n->ipv4)
			json_array_append_new(addresses, json_sprintf("%s/24", n->ipv4));
		json_array_append_new(list, json_pack("{s{ss,s{ss}},so}", "Network", "ID", n->network_id, "Spec", "Name",
						      docker_network_name(n->network), "Addresses", addresses));
	}
	return list;
}

static json_t *task_json(const struct swarm_task *t, const struct cluster *k) {
	const struct instance *i = t->instance ? &t->instance->instance : NULL;
	int64_t changed = i ? MAX(MAX(i->status.finished_at, i->status.started_at), t->at) : t->at;
	json_t *o = swarm_object(t->id, t->workload->version, t->at, changed);
	json_object_set_new(o, "Labels", json_object());
	json_object_set_new(o, "Spec", spec_json(t));
	swarm_set_id(o, "ServiceID", t->workload->id);
	if (!workload_is_global(&t->workload->spec))
		json_set_int(o, "Slot", t->slot);
	if (!str_same(t->state, "pending"))
		swarm_set_id(o, "NodeID", k->node.id);
	json_object_set_new(o, "Status", status_json(t));
	json_set_str(o, "DesiredState", t->desired);
	if (i)
		json_object_set_new(o, "NetworksAttachments", attachments_json(t));
	json_object_set_new(o, "GenericResources", json_null());
	if (workload_is_job(&t->workload->spec))
		json_object_set_new(o, "JobIteration", json_pack("{sI}", "Index", (json_int_t)(t->generation - 1)));
	return o;
}

/* ---- list ---- */

static char *task_name(const struct swarm_task *t, const struct cluster *k) {
	if (workload_is_global(&t->workload->spec))
		return str_format("%s.%.25s.%s", t->workload->spec.name, k->node.id, t->id);
	return str_format("%s.%lld.%s", t->workload->spec.name, (long long)t->slot, t->id);
}

static bool is_service(const char *value, const void *arg) {
	const struct workload *w = arg;
	return str_same(value, w->spec.name) || (strlen(value) >= 4 && strlen(value) <= 64 && str_starts(w->id, value));
}

static bool is_state(const char *value, const void *arg) {
	return strcasecmp(value, arg) == 0 || (str_same(value, "accepted") && str_same(arg, "running"));
}

static bool is_node(const char *value, const void *arg) {
	const struct cluster *k = arg;
	char host[HOST_NAME_MAX + 1] = "";
	gethostname(host, sizeof host);
	return str_same(value, "self") || str_same(value, host) || (*value && strlen(value) <= 64 && str_starts(k->node.id, value));
}

static bool fits(const json_t *filters, const struct swarm_task *t, const struct cluster *k) {
	_cleanup_(free_ptr) char *name = task_name(t, k);
	if (json_array_size(json_object_get(filters, "_up-to-date")) && t->generation != t->workload->generation)
		return false;
	return swarm_fits(filters, t->id, name, &t->workload->spec.labels) &&
	       docker_filter_any(filters, "service", is_service, t->workload) && docker_filter_any(filters, "node", is_node, k) &&
	       docker_filter_any(filters, "desired-state", is_state, t->desired) && docker_filter_any(filters, "runtime", is_state, "container");
}

static bool states_known(struct http_request *req, const json_t *filters) {
	static const char *const states[] = {"new", "pending", "assigned", "accepted", "preparing", "ready", "starting", "running",
					     "complete", "shutdown", "failed", "rejected", "remove", "orphaned", ""};
	size_t i;
	json_t *value;
	json_array_foreach(json_object_get(filters, "desired-state"), i, value) {
		bool known = false;
		for (size_t k = 0; k < ARRAY_SIZE(states); k++)
			known |= strcasecmp(json_string_value(value), states[k]) == 0;
		if (known)
			continue;
		_cleanup_(free_ptr) char *shown = text_shown(json_string_value(value));
		docker_fail(req, 500, "Invalid desired-state filter: '%s'", shown);
		return false;
	}
	return true;
}

void tasks_list(struct http_request *req) {
	static const char *const known[] = {"name", "id", "label", "service", "node", "desired-state", "_up-to-date", "runtime", NULL};
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(noun_unref_ptr) struct noun *cluster = NULL;
	_cleanup_(tasks_free) struct tasks all = {0};
	if (!swarm_active(req, &cluster))
		return;
	_cleanup_(json_free_ptr) json_t *filters = docker_filters(req, known);
	if (!filters || !states_known(req, filters))
		return;
	if (tasks_read(core_of(req), NULL, &all, &err) < 0)
		return fail(req, &err);
	json_t *list = json_array();
	for (size_t i = 0; i < all.n; i++)
		if (fits(filters, &all.items[i], cluster->of))
			json_array_append_new(list, task_json(&all.items[i], cluster->of));
	docker_reply(req, 200, list);
}

/* ---- one ---- */

/* By id, its beginning, or the name. */
static const struct swarm_task *find(const struct tasks *all, const char *wanted, const struct cluster *k) {
	for (size_t i = 0; i < all->n; i++) {
		_cleanup_(free_ptr) char *name = task_name(&all->items[i], k);
		if (*wanted && (str_starts(all->items[i].id, wanted) || str_same(name, wanted)))
			return &all->items[i];
	}
	return NULL;
}

void task_inspect(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(noun_unref_ptr) struct noun *cluster = NULL;
	_cleanup_(tasks_free) struct tasks all = {0};
	const char *name = http_param(req, "id");
	if (!swarm_active(req, &cluster))
		return;
	if (tasks_read(core_of(req), NULL, &all, &err) < 0)
		return fail(req, &err);
	const struct swarm_task *t = find(&all, name, cluster->of);
	if (t)
		return docker_reply(req, 200, task_json(t, cluster->of));
	_cleanup_(free_ptr) char *shown = text_shown(name);
	docker_fail(req, 404, "task %s not found", shown);
}
