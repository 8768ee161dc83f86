/* Networks, rules and balancers after the agent has been reached anew: it is told all that the store has, and gives up what
 * the store has not. It keeps its own records, so that most of this changes nothing. */
#include "core/core-priv.h"

#include "base/log.h"
#include "base/str.h"

static void network_loaded(struct core *c UNUSED, struct object *o) {
	o->more = network_use_new();
	network_use_subnets(use_of(o), &network_of(o)->spec);
}

static void balancer_loaded(struct core *c, struct object *o) {
	balancer_hold(c, o->snap->noun, true);
}

int networks_restore(struct core *c, struct error *err) {
	int r = objects_load(c, &c->networks, network_loaded, err);
	if (r == 0)
		r = objects_load(c, &c->groups, NULL, err);
	if (r == 0)
		r = objects_load(c, &c->balancers, balancer_loaded, err);
	if (r == 0)
		r = addresses_load(c, err);
	void *value;
	for (size_t i = 0; map_next(c->networks.by_id, &i, NULL, &value);) {
		const struct network *n = network_of(value);
		group_ids(c, n->project, n->spec.rules, "rules", &use_of(value)->group_ids, NULL);
	}
	return r;
}

/* Every object's id; the holder of c->net_write may look them up without fear that they go. */
static char **ids_of(struct core *c, const struct objects *all) {
	WITH_LOCK(c);
	char **ids = NULL;
	const char *id;
	for (size_t i = 0; map_next(all->by_id, &i, &id, NULL);)
		strv_add(&ids, id);
	return ids;
}

/* What fails on this host now is no reason to leave the rest undone; that the agent has gone is. */
static int tolerate(struct error *e, const char *what, const char *name, struct error *err) {
	if (e->kind == ERROR_UNAVAILABLE)
		return error_move(err, e);
	log_warn("%s %s: %s", what, name, error_text(e));
	error_free(e);
	return 0;
}

static void set_failed(struct network *n, const struct error *e) {
	fields_free(&network_status_table, &n->status);
	n->status = (struct network_status){.state = str_copy("failed"), .error = str_copy(error_text(e))};
}

static int sync_network(struct core *c, struct object *o, struct error *err) {
	struct network wanted, n;
	struct error e = ERROR_INIT;
	core_lock(c);
	network_for_agent(o, &wanted);
	fields_copy(&network_table, network_of(o), &n);
	core_unlock(c);
	int r = network_send(c, &wanted, &n, &e);
	if (r < 0)
		set_failed(&n, &e);
	bool changed = !fields_equal(&network_spec_table, &n.spec, &network_of(o)->spec);
	if (changed || !fields_equal(&network_status_table, &n.status, &network_of(o)->status)) {
		WITH_LOCK(c);
		object_set(c, o, &n);
		if (changed) /* it was made, and this process died before it heard */
			network_use_subnets(use_of(o), &n.spec);
	}
	if (changed)
		object_store(c, &c->networks, o->snap, false, NULL);
	if (r < 0)
		r = tolerate(&e, "network", n.spec.name, err);
	fields_free(&network_table, &wanted);
	fields_free(&network_table, &n);
	return r;
}

static int sync_networks(struct core *c, struct error *err) {
	_cleanup_(strv_free_ptr) char **ids = ids_of(c, &c->networks);
	int r = 0;
	for (char **id = ids; r == 0 && id && *id; id++)
		r = sync_network(c, map_get(c->networks.by_id, *id), err);
	return r;
}

static int sync_groups(struct core *c, struct error *err) {
	_cleanup_(strv_free_ptr) char **ids = ids_of(c, &c->groups);
	int r = 0;
	for (char **id = ids; r == 0 && id && *id; id++) {
		struct error e = ERROR_INIT;
		const struct object *o = map_get(c->groups.by_id, *id);
		if (rules_send(c, o->snap->noun, &e) < 0)
			r = tolerate(&e, "rule group", object_name(&c->groups, o), err);
	}
	return r;
}

static void delete_unknown(struct core *c, const char *request, const char *id) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct msg_object body = {.id = (char *)id};
	log_info("%s of %.12s, which the store does not know", request, id);
	if (agent_call(c, request, &body, NULL, &err) < 0)
		log_warn("%s of %.12s: %s", request, id, error_text(&err));
}

static bool known(struct core *c, const struct map *all, const char *key) {
	WITH_LOCK(c);
	return map_get(all, key) != NULL;
}

static void forget_members(struct core *c, const char *peer) {
	core_lock(c);
	bool wanted = selections_has(c, peer);
	core_unlock(c);
	struct msg_members body = {.peer = (char *)peer};
	if (!wanted)
		agent_call(c, "members-set", &body, NULL, NULL);
}

static int collect_firewall(struct core *c, struct error *err) {
	struct msg_empty empty = {0};
	struct msg_firewall list = {0};
	int r = agent_call(c, "firewall-list", &empty, &list, err);
	if (r < 0)
		return r;
	for (char **id = list.groups; id && *id; id++)
		if (!known(c, c->groups.by_id, *id))
			delete_unknown(c, "rules-delete", *id);
	for (char **id = list.balancers; id && *id; id++)
		if (!known(c, c->balancers.by_id, *id))
			delete_unknown(c, "balancer-delete", *id);
	for (char **peer = list.members; peer && *peer; peer++)
		forget_members(c, *peer);
	fields_free(&msg_firewall_table, &list);
	return 0;
}

int networks_resync(struct core *c, struct error *err) {
	pthread_mutex_lock(&c->net_write);
	int r = sync_networks(c, err);
	if (r == 0)
		r = sync_groups(c, err);
	pthread_mutex_unlock(&c->net_write);
	return r;
}

int networks_collect(struct core *c, struct error *err) {
	struct msg_empty empty = {0};
	struct msg_network_states list = {0};
	pthread_mutex_lock(&c->net_write);
	int r = agent_call(c, "network-list", &empty, &list, err);
	for (size_t i = 0; r == 0 && i < list.networks.n; i++)
		if (!known(c, c->networks.by_id, list.networks.items[i].id))
			delete_unknown(c, "network-delete", list.networks.items[i].id);
	if (r == 0)
		r = collect_firewall(c, err);
	pthread_mutex_unlock(&c->net_write);
	fields_free(&msg_network_states_table, &list);
	return r;
}
