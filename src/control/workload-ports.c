/* Ports of the host that workloads have: a balancer for each, which knows by itself which instances run and are well. */
#include "control/workloads-priv.h"

#include "base/log.h"
#include "base/str.h"
#include "core/networks.h"

#include <inttypes.h>

static char *balancer_name(const struct workload *w, const struct port *p) {
	return str_format("%s-%" PRId64 "-%s", w->spec.name, p->host_port, p->protocol);
}

static int make(struct core *c, const struct workload *w, const struct port *p, const char *name, struct error *err) {
	_cleanup_(object_snap_unref_ptr) struct object_snap *made = NULL;
	struct balancer_spec s;
	fields_init(&balancer_spec_table, &s);
	s.name = str_copy(name);
	s.target = str_format("label:" WORKLOAD_LABEL "=%s", w->id);
	s.address = p->address ? str_copy(p->address) : NULL;
	s.host_port = p->host_port;
	s.port = p->port;
	free(s.protocol);
	s.protocol = str_copy(p->protocol);
	pairs_set(&s.labels, WORKLOAD_LABEL, w->id);
	if (w->spec.template.networks.n)
		s.network = str_copy(w->spec.template.networks.items[0].network);
	return balancer_create(c, w->project, &s, &made, err);
}

static bool is_as_wanted(const struct balancer_spec *s, const struct port *p) {
	return s->host_port == p->host_port && s->port == p->port && str_same(s->protocol, p->protocol) &&
	       str_same(s->address, p->address);
}

static const struct port *wanted_port(const struct workload *w, const struct balancer_spec *s) {
	for (size_t i = 0; w && i < w->spec.ports.n; i++)
		if (is_as_wanted(s, &w->spec.ports.items[i]))
			return &w->spec.ports.items[i];
	return NULL;
}

static const struct workload *by_id(struct noun *const *all, const char *id) {
	for (; *all; all++)
		if (str_same(((const struct workload *)(*all)->of)->id, id))
			return (*all)->of;
	return NULL;
}

struct map *workload_ports_collect(struct core *c, struct noun *const *all) {
	struct object_snap **balancers = NULL;
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct map *have = map_new(NULL);
	if (balancer_all(c, PROJECT, &balancers, &err) < 0)
		return have;
	for (struct object_snap **b = balancers; *b; b++) {
		const struct balancer *one = (*b)->noun;
		const char *owner = pairs_get(&one->spec.labels, WORKLOAD_LABEL);
		if (owner && wanted_port(by_id(all, owner), &one->spec))
			map_set(have, one->spec.name, c);
		else if (owner && balancer_delete(c, PROJECT, one->id, &err) < 0)
			log_warn("balancer %s, which no workload wants: %s", one->spec.name, error_text(&err));
		else if (owner)
			workloads_poke(c); /* somebody may wait for that */
		error_free(&err);
		object_snap_unref(*b);
	}
	free(balancers);
	return have;
}

char *workload_ports_make(struct core *c, const struct workload *w, const struct map *have) {
	char *failed = NULL;
	for (size_t i = 0; i < w->spec.ports.n; i++) {
		const struct port *p = &w->spec.ports.items[i];
		_cleanup_(error_free) struct error err = ERROR_INIT;
		_cleanup_(free_ptr) char *name = balancer_name(w, p);
		if (map_get(have, name) || make(c, w, p, name, &err) == 0)
			continue;
		free(failed);
		failed = str_format("port %" PRId64 " of the host: %s", p->host_port, error_text(&err));
	}
	return failed;
}
