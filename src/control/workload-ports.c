/* Ports of the host that workloads have, and their addresses on networks: a balancer for each, which knows by itself which instances run
 * and are well. */
#include "control/workloads-priv.h"

#include "base/log.h"
#include "base/str.h"
#include "core/networks.h"

#include <inttypes.h>

static char *balancer_name(const struct workload *w, const struct port *p) {
	return str_format("%s-%" PRId64 "-%s", w->spec.name, p->host_port, p->protocol);
}

/* "web-net": its address on a network. */
static char *address_name(const struct workload *w, const char *network) {
	char *name = str_format("%.60s-%.60s", w->spec.name, network);
	for (char *p = name; *p; p++)
		*p = *p == '/' ? '-' : *p;
	return name;
}

static int create(struct core *c, const struct workload *w, const char *name, struct balancer_spec *s, struct error *err) {
	_cleanup_(object_snap_unref_ptr) struct object_snap *made = NULL;
	s->name = str_copy(name);
	s->target = str_format("label:" WORKLOAD_LABEL "=%s", w->id);
	pairs_set(&s->labels, WORKLOAD_LABEL, w->id);
	return balancer_create(c, w->project, s, &made, err);
}

static int make(struct core *c, const struct workload *w, const struct port *p, const char *name, struct error *err) {
	struct balancer_spec s;
	fields_init(&balancer_spec_table, &s);
	s.address = p->address ? str_copy(p->address) : NULL;
	s.host_port = p->host_port;
	s.port = p->port;
	free(s.protocol);
	s.protocol = str_copy(p->protocol);
	if (w->spec.template.networks.n)
		s.network = str_copy(w->spec.template.networks.items[0].network);
	return create(c, w, name, &s, err);
}

static int make_address(struct core *c, const struct workload *w, const char *network, const char *name, struct error *err) {
	struct balancer_spec s;
	fields_init(&balancer_spec_table, &s);
	s.inside = true;
	s.network = str_copy(network);
	s.names = strv_copy(w->spec.balanced_names);
	return create(c, w, name, &s, err);
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

static bool same_names(char *const *a, char *const *b) {
	for (; a && b && *a && *b && str_same(*a, *b); a++)
		b++;
	return (!a || !*a) && (!b || !*b);
}

static bool wants_address(const struct workload *w, const struct balancer_spec *s) {
	const attachments *on = &w->spec.template.networks;
	bool wanted = false;
	for (size_t i = 0; w->spec.balanced_names && i < on->n; i++)
		wanted = wanted || str_same(on->items[i].network, s->network);
	return wanted && same_names(w->spec.balanced_names, s->names);
}

static bool is_wanted(const struct workload *w, const struct balancer_spec *s) {
	return w && (s->inside ? wants_address(w, s) : wanted_port(w, s) != NULL);
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
		if (owner && is_wanted(by_id(all, owner), &one->spec))
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

static char *make_addresses(struct core *c, const struct workload *w, const struct map *have) {
	const attachments *on = &w->spec.template.networks;
	char *failed = NULL;
	for (size_t i = 0; w->spec.balanced_names && i < on->n; i++) {
		_cleanup_(error_free) struct error err = ERROR_INIT;
		_cleanup_(free_ptr) char *name = address_name(w, on->items[i].network);
		if (map_get(have, name) || make_address(c, w, on->items[i].network, name, &err) == 0)
			continue;
		free(failed);
		failed = str_format("its address on network %s: %s", on->items[i].network, error_text(&err));
	}
	return failed;
}

char *workload_ports_make(struct core *c, const struct workload *w, const struct map *have) {
	char *failed = make_addresses(c, w, have);
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
