/* The verbs of networks. The store knows a network before the agent does; the agent makes it, and picks its subnets. */
#include "core/core-priv.h"
#include "core/workloads.h"

#include "base/log.h"
#include "base/str.h"
#include "base/time.h"

#include <ctype.h>

const struct object_kind network_kind = {
	.noun = "network",
	.keys = "networks",
	.names = "network-names",
	.list = "networks",
	.table = &network_table,
	.project = offsetof(struct network, project),
	.name = offsetof(struct network, spec.name),
};

/* Holds c->net_write to the end of the block. */
static void net_unlock(struct core **c) {
	pthread_mutex_unlock(&(*c)->net_write);
}

int network_get(struct core *c, const char *project, const char *name, struct object_snap **out, struct error *err) {
	return object_get(c, &c->networks, project, name, out, err);
}

int network_list(struct core *c, const char *project, char **json, size_t *len, struct error *err) {
	return object_list(c, &c->networks, project, json, len, err);
}

int network_snaps(struct core *c, const char *project, struct object_snap ***out, struct error *err) {
	return object_snaps(c, &c->networks, project, out, err);
}

void network_for_agent(const struct object *o, struct network *out) {
	fields_copy(&network_table, network_of(o), out);
	strv_free(out->spec.rules);
	out->spec.rules = strv_copy(use_of(o)->group_ids);
}

/* The agent's are complete: with gateways, and with those that it has picked. */
static void take_subnets(subnets *ours, subnets *theirs) {
	for (size_t i = 0; i < theirs->n; i++)
		for (size_t k = 0; k < ours->n; k++) {
			struct subnet *to = &theirs->items[i], *from = &ours->items[k];
			if (!str_same(to->cidr, from->cidr))
				continue;
			if (!to->range)
				to->range = TAKE_PTR(from->range);
			struct pairs aside = to->aside;
			to->aside = aside.n ? aside : from->aside;
			from->aside = aside.n ? from->aside : aside;
		}
	subnets old = *ours;
	*ours = *theirs;
	*theirs = old;
}

/* Has the agent make it, or bring it in line: *n becomes what the agent says it is. */
int network_send(struct core *c, const struct network *wanted, struct network *n, struct error *err) {
	struct msg_network_state state = {0};
	int r = agent_call(c, "network-create", wanted, &state, err);
	if (r < 0)
		return r;
	fields_free(&network_status_table, &n->status);
	n->status = state.status;
	take_subnets(&n->spec.subnets, &state.subnets);
	state.status = (struct network_status){0};
	fields_free(&msg_network_state_table, &state);
	return 0;
}

/* ---- create ---- */

/* Where packets are bridged or routed by this host, addresses must tell its networks apart. */
static bool shares_parents_addresses(const struct network_spec *s) {
	return str_same(s->driver, "macvlan") || str_same(s->driver, "ipvlan") || str_same(s->driver, "physical");
}

static int subnet_conflict(const struct network_spec *s, size_t i, const struct network *other, struct error *err) {
	struct cidr mine, theirs;
	if (cidr_parse(s->subnets.items[i].cidr, &mine) < 0)
		return 0;
	for (size_t k = 0; k < other->spec.subnets.n; k++) {
		const char *cidr = other->spec.subnets.items[k].cidr;
		if (cidr_parse(cidr, &theirs) < 0 || !cidr_overlap(&mine, &theirs))
			continue;
		_cleanup_(free_ptr) char *field = str_format("subnets[%zu].cidr", i);
		error_set(err, ERROR_CONFLICT, "%s overlaps %s of network %s", s->subnets.items[i].cidr, cidr, other->spec.name);
		error_in_field(err, field);
		return -ERROR_CONFLICT;
	}
	return 0;
}

/* Needs the lock. */
static int check_subnets(struct core *c, const struct network_spec *s, struct error *err) {
	void *value;
	for (size_t k = 0; !shares_parents_addresses(s) && map_next(c->networks.by_id, &k, NULL, &value);) {
		const struct network *other = network_of(value);
		for (size_t i = 0; !shares_parents_addresses(&other->spec) && i < s->subnets.n; i++) {
			int r = subnet_conflict(s, i, other, err);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

/* "My_net.1" is "My-net-1.wabe". */
static char *default_domain(const char *name) {
	_cleanup_(free_ptr) char *label = str_copyn(name, MIN(strlen(name), (size_t)63));
	for (char *p = label; *p; p++)
		*p = isalnum((unsigned char)*p) ? *p : '-';
	for (size_t n = strlen(label); n > 1 && label[n - 1] == '-'; n--)
		label[n - 1] = '\0';
	return str_format("%s.wabe", label);
}

static void fill_defaults(struct network_spec *s) {
	if (!s->domain)
		s->domain = default_domain(s->name);
	if (!s->mode && str_same(s->driver, "macvlan"))
		s->mode = str_copy("bridge");
	if (!s->mode && str_same(s->driver, "ipvlan"))
		s->mode = str_copy("l2");
	for (size_t i = 0; i < s->subnets.n; i++)
		s->ipv6 = s->ipv6 || strchr(s->subnets.items[i].cidr, ':');
}

/* Checks it and holds its name and subnets. */
static int network_reserve(struct core *c, const char *project, struct network_spec *spec, struct object **out,
			   struct error *err) {
	WITH_LOCK(c);
	_cleanup_(free_ptr) char *id = random_hex(INSTANCE_ID_LEN / 2);
	_cleanup_(strv_free_ptr) char **ids = NULL;
	int r = core_project_check(c, project, err);
	if (r == 0)
		r = check_subnets(c, spec, err);
	if (r == 0)
		r = group_ids(c, project, spec->rules, "rules", &ids, err);
	if (r < 0)
		return r;
	struct network n = {.id = id, .project = (char *)project, .created_at = time_now_ns(), .spec = *spec,
			    .status = {.state = (char *)"down"}};
	struct object *o = object_add(&c->networks, &n, err);
	if (!o)
		return -ERROR_EXISTS;
	struct network_use *u = network_use_new();
	u->group_ids = TAKE_PTR(ids);
	o->more = u;
	*out = o;
	return 0;
}

/* Takes over what the agent has made of it. */
static int network_made(struct core *c, struct object *o, const struct network *n, struct error *err) {
	core_lock(c);
	object_set(c, o, n);
	network_use_subnets(use_of(o), &n->spec);
	_cleanup_(object_snap_unref_ptr) struct object_snap *snap = object_snap_ref(o->snap);
	core_unlock(c);
	return object_store(c, &c->networks, snap, false, err);
}

static void network_undo(struct core *c, struct object *o) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct msg_object body = {.id = network_of(o)->id};
	int r = object_unstore(c, &c->networks, o->snap, &err);
	if (r == 0)
		r = agent_call(c, "network-delete", &body, NULL, &err);
	if (r < 0)
		log_warn("taking back network %s: %s", network_of(o)->spec.name, error_text(&err));
	WITH_LOCK(c);
	object_take_out(c, &c->networks, o);
}

static int network_make(struct core *c, struct object *o, struct error *err) {
	struct network n, wanted;
	int r = object_store(c, &c->networks, o->snap, true, err);
	if (r < 0)
		return r;
	core_lock(c);
	network_for_agent(o, &wanted);
	fields_copy(&network_table, network_of(o), &n);
	core_unlock(c);
	r = network_send(c, &wanted, &n, err);
	if (r == 0)
		r = network_made(c, o, &n, err);
	fields_free(&network_table, &wanted);
	fields_free(&network_table, &n);
	return r;
}

int network_create(struct core *c, const char *project, struct network_spec *spec, struct object_snap **out,
		   struct error *err) {
	struct object *o = NULL;
	pthread_mutex_lock(&c->net_write);
	_cleanup_(net_unlock) UNUSED struct core *locked = c;
	int r = fields_validate(&network_spec_table, spec, err);
	if (r == 0) {
		fill_defaults(spec);
		r = network_reserve(c, project, spec, &o, err);
	}
	fields_free(&network_spec_table, spec);
	if (r < 0)
		return r;
	r = network_make(c, o, err);
	if (r < 0) {
		network_undo(c, o);
		return r;
	}
	WITH_LOCK(c);
	o->creating = false;
	const struct network *n = network_of(o);
	event_add(c, "network", "create", project, n->id, n->spec.name, "driver", n->spec.driver, NULL);
	*out = object_snap_ref(o->snap);
	return 0;
}

/* ---- change ---- */

/* The agent first: it checks by doing. */
static int apply_change(struct core *c, struct object *o, struct network *new, char **ids, struct error *err) {
	struct network old, wanted;
	core_lock(c);
	network_for_agent(o, &old);
	core_unlock(c);
	fields_copy(&network_table, new, &wanted);
	strv_free(wanted.spec.rules);
	wanted.spec.rules = strv_copy(ids);
	int r = network_send(c, &wanted, new, err);
	if (r == 0) {
		_cleanup_(object_snap_unref_ptr) struct object_snap *snap = object_snap_new(&network_table, new);
		r = object_store(c, &c->networks, snap, false, err);
	}
	if (r < 0) { /* it may have done a part */
		_cleanup_(error_free) struct error undo = ERROR_INIT;
		if (agent_call(c, "network-create", &old, NULL, &undo) < 0)
			log_warn("taking back the change of network %s: %s", old.spec.name, error_text(&undo));
	}
	fields_free(&network_table, &old);
	fields_free(&network_table, &wanted);
	return r;
}

static int update_found(struct core *c, struct object *o, const json_t *patch, struct error *err) {
	struct network new;
	char **ids = NULL;
	fields_copy(&network_table, network_of(o), &new);
	int r = fields_patch(&network_spec_table, patch, false, &new.spec, err);
	core_lock(c);
	if (r == 0)
		r = group_ids(c, new.project, new.spec.rules, "rules", &ids, err);
	core_unlock(c);
	if (r == 0)
		r = apply_change(c, o, &new, ids, err);
	if (r == 0) {
		WITH_LOCK(c);
		object_set(c, o, &new);
		strv_free(use_of(o)->group_ids);
		use_of(o)->group_ids = TAKE_PTR(ids);
		selections_rebuild(c);
		event_add(c, "network", "update", new.project, new.id, new.spec.name, NULL);
	}
	strv_free(ids);
	fields_free(&network_table, &new);
	return r;
}

int network_update(struct core *c, const char *project, const char *name, const json_t *patch, struct object_snap **out,
		   struct error *err) {
	pthread_mutex_lock(&c->net_write);
	_cleanup_(net_unlock) UNUSED struct core *locked = c;
	core_lock(c);
	struct object *o = object_find(c, &c->networks, project, name, err);
	core_unlock(c);
	int r = o ? update_found(c, o, patch, err) : -ERROR_NOT_FOUND;
	if (r < 0)
		return r;
	selections_send(c);
	WITH_LOCK(c);
	*out = object_snap_ref(o->snap);
	return 0;
}

/* ---- delete ---- */

int network_empty(struct core *c, const char *project, const char *name, struct error *err) {
	_cleanup_(strv_free_ptr) char **idle = NULL;
	core_lock(c);
	const struct object *o = object_find(c, &c->networks, project, name, err);
	const char *id;
	for (size_t i = 0; o && map_next(use_of(o)->instances, &i, &id, NULL);) {
		const struct entry *e = map_get(c->by_id, id);
		if (e && !e->creating && !state_is_up(e->snap->instance.status.state))
			strv_add(&idle, id);
	}
	core_unlock(c);
	int r = o ? 0 : -ERROR_NOT_FOUND;
	for (char **i = idle; r == 0 && i && *i; i++) {
		_cleanup_(instance_snap_unref_ptr) struct instance_snap *left = NULL;
		struct error why = ERROR_INIT;
		r = network_disconnect(c, project, *i, name, &left, &why);
		if (r == -ERROR_NOT_FOUND) { /* somebody was quicker */
			error_free(&why);
			r = 0;
		} else if (r < 0) {
			error_move(err, &why);
		}
	}
	return r;
}

/* "a, b, c and 4 more" */
static char *names_text(char *const *names) {
	struct buf b = BUF_INIT;
	size_t n = strv_len(names), shown = MIN(n, 5);
	for (size_t i = 0; i < shown; i++)
		buf_addf(&b, "%s%s", i ? ", " : "", names[i]);
	if (n > shown)
		buf_addf(&b, " and %zu more", n - shown);
	return buf_steal(&b);
}

static char **instances_on(struct core *c, const struct object *o) {
	char **names = NULL;
	const char *id;
	for (size_t i = 0; map_next(use_of(o)->instances, &i, &id, NULL);) {
		const struct entry *e = map_get(c->by_id, id);
		strv_add(&names, e ? e->snap->instance.spec.name : id);
	}
	return names;
}

static const char *balancer_on(struct core *c, const struct object *network) {
	void *value;
	for (size_t i = 0; map_next(c->balancers.by_id, &i, NULL, &value);) {
		const struct balancer *b = ((struct object *)value)->snap->noun;
		if (b->spec.network && object_find(c, &c->networks, b->project, b->spec.network, NULL) == network)
			return b->spec.name;
	}
	return NULL;
}

/* Needs the lock. */
static int check_unused(struct core *c, const struct object *o, struct error *err) {
	const char *name = network_of(o)->spec.name;
	_cleanup_(strv_free_ptr) char **on = instances_on(c, o), **reserved = address_reservations(o);
	_cleanup_(free_ptr) char *peer = str_format("network:%s", network_of(o)->id), *names = names_text(on);
	if (on)
		return error_set(err, ERROR_CONFLICT, "network %s is in use by %s: disconnect or remove them first", name, names);
	if (workload_on(c, o))
		return error_set(err, ERROR_CONFLICT, "network %s is in use by workload %s: remove that first", name, workload_on(c, o));
	if (reserved)
		return error_set(err, ERROR_CONFLICT, "network %s has reserved addresses (%s): release them first", name,
				 strrchr(reserved[0], '/') + 1);
	if (rules_naming(c, peer))
		return error_set(err, ERROR_CONFLICT, "the rules of group %s name network %s: remove those first",
				 rules_naming(c, peer), name);
	if (balancer_on(c, o))
		return error_set(err, ERROR_CONFLICT, "balancer %s works on network %s: remove it first", balancer_on(c, o), name);
	return 0;
}

/* The store first: were this process to die in between, the next one finds that the agent has what the store has not. */
static int delete_found(struct core *c, struct object *o, struct error *err) {
	core_lock(c);
	int r = check_unused(c, o, err);
	o->removing = r == 0;
	core_unlock(c);
	if (r == 0)
		r = object_unstore(c, &c->networks, o->snap, err);
	if (r == 0) {
		struct msg_object body = {.id = network_of(o)->id};
		r = agent_call(c, "network-delete", &body, NULL, err);
		if (r < 0 && object_store(c, &c->networks, o->snap, true, NULL) < 0)
			log_error("network %s has left the store, but not the agent", network_of(o)->spec.name);
	}
	WITH_LOCK(c);
	o->removing = false;
	if (r < 0)
		return r;
	const struct network *n = network_of(o);
	event_add(c, "network", "delete", n->project, n->id, n->spec.name, NULL);
	object_take_out(c, &c->networks, o);
	return 0;
}

int network_delete(struct core *c, const char *project, const char *name, struct error *err) {
	workloads_await_leaving(c, project, name);
	pthread_mutex_lock(&c->net_write);
	_cleanup_(net_unlock) UNUSED struct core *locked = c;
	core_lock(c);
	struct object *o = object_find(c, &c->networks, project, name, err);
	core_unlock(c);
	return o ? delete_found(c, o, err) : -ERROR_NOT_FOUND;
}

int network_prune(struct core *c, const char *project, char ***deleted, struct error *err) {
	_cleanup_(strv_free_ptr) char **unused = NULL;
	core_lock(c);
	int r = core_project_check(c, project, err);
	void *value;
	for (size_t i = 0; r == 0 && map_next(c->networks.by_id, &i, NULL, &value);) {
		const struct object *o = value;
		if (!o->creating && str_same(network_of(o)->project, project) && check_unused(c, o, NULL) == 0)
			strv_add(&unused, network_of(o)->spec.name);
	}
	core_unlock(c);
	for (char **n = unused; r == 0 && n && *n; n++) {
		struct error e = ERROR_INIT;
		r = network_delete(c, project, *n, &e);
		if (r == 0)
			strv_add(deleted, *n);
		else if (e.kind == ERROR_CONFLICT || e.kind == ERROR_NOT_FOUND)
			r = 0; /* somebody was quicker */
		if (r < 0)
			error_move(err, &e);
		error_free(&e);
	}
	return r;
}
