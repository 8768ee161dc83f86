/* How a workload looks as a service. */
#include "core/networks.h"

#include "dialect/docker/networks-priv.h"
#include "dialect/docker/swarm-priv.h"

/* ---- the spec ---- */

static json_t *mode_json(const struct workload_spec *s) {
	if (str_same(s->mode, "global"))
		return json_pack("{s{}}", "Global");
	if (str_same(s->mode, "global-job"))
		return json_pack("{s{}}", "GlobalJob");
	if (str_same(s->mode, "job"))
		return json_pack("{s{sI,sI}}", "ReplicatedJob", "MaxConcurrent", (json_int_t)s->parallelism, "TotalCompletions",
				 (json_int_t)s->completions);
	return json_pack("{s{sI}}", "Replicated", "Replicas", (json_int_t)s->replicas);
}

static json_t *ports_json(const struct workload_spec *s) {
	const struct {
		const ports *list;
		const char *mode;
	} both[] = {{&s->ports, "ingress"}, {&s->template.ports, "host"}};
	json_t *list = json_array();
	for (size_t k = 0; k < ARRAY_SIZE(both); k++)
		for (size_t i = 0; i < both[k].list->n; i++) {
			const struct port *p = &both[k].list->items[i];
			json_t *one = json_pack("{ss,sI}", "Protocol", p->protocol, "TargetPort", (json_int_t)p->port);
			if (p->host_port)
				json_set_int(one, "PublishedPort", p->host_port);
			json_set_str(one, "PublishMode", both[k].mode);
			json_array_append_new(list, one);
		}
	return list;
}

/* Of a workload that Docker has not made: what Docker has a word for. */
static json_t *made_elsewhere(const struct workload_spec *s) {
	const struct instance_spec *t = &s->template;
	json_t *container = json_object(), *task = json_object(), *spec = json_object();
	json_set_str(container, "Image", t->image);
	json_object_set_new(container, "Labels", pairs_print(&t->labels));
	if (t->entrypoint)
		json_object_set_new(container, "Command", json_from_strv(t->entrypoint));
	if (t->command)
		json_object_set_new(container, "Args", json_from_strv(t->command));
	if (t->env)
		json_object_set_new(container, "Env", json_from_strv(t->env));
	json_object_set_new(container, "StopGracePeriod", json_integer(t->stop_timeout));
	json_object_set_new(task, "ContainerSpec", container);
	json_object_set_new(task, "Resources", json_object());
	json_object_set_new(task, "Placement", s->constraints ? json_pack("{so}", "Constraints", json_from_strv(s->constraints)) : json_object());
	json_object_set_new(spec, "TaskTemplate", task);
	if (s->ports.n)
		json_object_set_new(spec, "EndpointSpec", json_pack("{ss,so}", "Mode", "vip", "Ports", ports_json(s)));
	return spec;
}

/* What may have been changed by others than Docker since is taken from the workload. */
json_t *service_spec_show(const struct workload_spec *s) {
	const json_t *kept = swarm_origin(s->origin);
	_cleanup_(json_free_ptr) json_t *rest = json_is_object(kept) ? json_deep_copy(kept) : made_elsewhere(s);
	json_t *spec = json_object(), *task = json_object_get(rest, "TaskTemplate"), *container = json_object_get(task, "ContainerSpec");
	json_set_str(spec, "Name", s->name);
	json_object_set_new(spec, "Labels", pairs_print(&s->labels));
	json_object_set(spec, "TaskTemplate", task);
	json_set_int(task, "ForceUpdate", s->force);
	json_set_str(task, "Runtime", "container");
	json_set_str(container, "Image", s->template.image);
	json_set_str(container, "Isolation", "default");
	json_object_set_new(spec, "Mode", mode_json(s));
	json_object_del(rest, "Name");
	json_object_del(rest, "Labels");
	json_object_del(rest, "Mode");
	json_object_update(spec, rest);
	if (!json_is_object(json_object_get(spec, "EndpointSpec")))
		json_object_set_new(spec, "EndpointSpec", json_pack("{ss}", "Mode", "vip"));
	return spec;
}

/* ---- defaults that are asked for ---- */

static json_t *rollout_json(const struct rollout_policy *p) {
	return json_pack("{sI,sI,ss,sI,sf,ss}", "Parallelism", (json_int_t)p->parallelism, "Delay", (json_int_t)p->delay, "FailureAction",
			 p->on_failure, "Monitor", (json_int_t)p->monitor, "MaxFailureRatio", (double)p->max_failure_ratio / 1e9, "Order", p->order);
}

static void add(json_t *to, const char *name, json_t *value) {
	if (!json_is_object(json_object_get(to, name)))
		json_object_set(to, name, value);
	json_decref(value);
}

static void add_defaults(const struct workload_spec *s, json_t *spec) {
	json_t *task = json_object_get(spec, "TaskTemplate"), *container = json_object_get(task, "ContainerSpec");
	if (!json_object_get(container, "StopGracePeriod"))
		json_object_set_new(container, "StopGracePeriod", json_integer(s->template.stop_timeout));
	add(container, "DNSConfig", json_object());
	add(task, "RestartPolicy", json_pack("{ss,sI,sI}", "Condition", s->restart.condition, "Delay", (json_int_t)s->restart.delay, "MaxAttempts",
					     (json_int_t)s->restart.max_attempts));
	if (workload_is_job(s))
		return;
	add(spec, "UpdateConfig", rollout_json(&s->update));
	add(spec, "RollbackConfig", rollout_json(&s->rollback));
}

/* ---- the service ---- */

/* Its address on each of its networks. */
static json_t *virtual_ips(struct core *c, const struct workload *w) {
	struct object_snap **balancers = NULL;
	json_t *list = json_array();
	if (balancer_all(c, DOCKER_PROJECT, &balancers, NULL) < 0)
		return list;
	for (struct object_snap **s = balancers; *s; s++) {
		const struct balancer *b = (*s)->noun;
		_cleanup_(object_snap_unref_ptr) struct object_snap *network = NULL;
		if (b->spec.inside && str_same(pairs_get(&b->spec.labels, WORKLOAD_LABEL), w->id) &&
		    network_get(c, DOCKER_PROJECT, b->network_id, &network, NULL) == 0)
			json_array_append_new(list, json_pack("{ss,so}", "NetworkID", b->network_id, "Addr",
							      json_sprintf("%s/%lld", b->spec.address,
									   (long long)docker_prefix_len(network->noun, b->spec.address))));
		object_snap_unref(*s);
	}
	free(balancers);
	return list;
}

static json_t *endpoint_json(struct core *c, const struct workload *w, const json_t *spec) {
	json_t *e = json_object(), *ports = ports_json(&w->spec), *vips = virtual_ips(c, w);
	json_object_set(e, "Spec", json_object_get(spec, "EndpointSpec"));
	if (json_array_size(ports))
		json_object_set(e, "Ports", ports);
	if (json_array_size(vips))
		json_object_set(e, "VirtualIPs", vips);
	json_decref(ports);
	json_decref(vips);
	return e;
}

static json_t *update_json(const struct workload_update *u) {
	json_t *o = json_object();
	json_set_str(o, "State", u->state);
	if (u->started_at)
		json_object_set_new(o, "StartedAt", docker_time(u->started_at));
	if (u->completed_at)
		json_object_set_new(o, "CompletedAt", docker_time(u->completed_at));
	json_set_str(o, "Message", u->message);
	return o;
}

json_t *service_show(struct core *c, const struct workload *w, bool defaults) {
	json_t *o = swarm_object(w->id, w->version, w->created_at, w->updated_at), *spec = service_spec_show(&w->spec);
	struct workload_spec previous;
	if (defaults)
		add_defaults(&w->spec, spec);
	json_object_set_new(o, "Spec", spec);
	if (w->previous && fields_parse(&workload_spec_table, w->previous, FIELDS_TRUSTED, &previous, NULL) == 0) {
		json_object_set_new(o, "PreviousSpec", service_spec_show(&previous));
		fields_free(&workload_spec_table, &previous);
	}
	json_object_set_new(o, "Endpoint", endpoint_json(c, w, spec));
	if (w->update.state)
		json_object_set_new(o, "UpdateStatus", update_json(&w->update));
	if (workload_is_job(&w->spec))
		json_object_set_new(o, "JobStatus", json_pack("{s{sI},so}", "JobIteration", "Index", (json_int_t)(w->generation - 1),
							      "LastExecution", docker_time(w->updated_at)));
	return o;
}
