/* The verbs of rule groups. Within the store peers of rules have names; the agent gets ids. */
#include "core/core-priv.h"

#include "base/log.h"
#include "base/str.h"
#include "base/time.h"

#include <inttypes.h>

const struct object_kind rules_kind = {
	.noun = "rule group",
	.keys = "rules",
	.names = "rule-names",
	.list = "rules",
	.table = &rule_group_table,
	.project = offsetof(struct rule_group, project),
	.name = offsetof(struct rule_group, spec.name),
};

static struct rule_group *group_of(const struct object *o) {
	return o->snap->noun;
}

int rules_get(struct core *c, const char *project, const char *name, struct object_snap **out, struct error *err) {
	return object_get(c, &c->groups, project, name, out, err);
}

int rules_list(struct core *c, const char *project, char **json, size_t *len, struct error *err) {
	return object_list(c, &c->groups, project, json, len, err);
}

int group_ids(struct core *c, const char *project, char *const *names, const char *field, char ***ids,
	      struct error *err) {
	for (size_t i = 0; names && names[i]; i++) {
		const struct object *o = object_find(c, &c->groups, project, names[i], err);
		if (!o) {
			_cleanup_(free_ptr) char *at = str_format("%s[%zu]", field, i);
			error_in_field(err, at);
			return -ERROR_NOT_FOUND;
		}
		if (!strv_has(*ids, object_id(o)))
			strv_add(ids, object_id(o));
	}
	return 0;
}

/* ---- peers ---- */

/* "group:NAME" and "network:NAME" → by id; NULL: there is none. The group itself may name itself: self. */
static const char *peer_id(struct core *c, const struct rule_group *self, const char *peer) {
	bool group = str_starts(peer, "group:");
	const char *name = strchr(peer, ':') + 1;
	if (group && (str_same(name, self->spec.name) || str_same(name, self->id)))
		return self->id;
	const struct object *o =
		object_find(c, group ? &c->groups : &c->networks, self->project, name, NULL);
	return o && !o->removing ? object_id(o) : NULL;
}

static bool has_name(const char *peer) {
	return peer && (str_starts(peer, "group:") || str_starts(peer, "network:"));
}

static void peer_for_agent(struct core *c, const struct rule_group *self, char **peer) {
	const char *id = has_name(*peer) ? peer_id(c, self, *peer) : NULL;
	if (!id)
		return;
	char *by_id = str_format("%.*s:%s", (int)strcspn(*peer, ":"), *peer, id);
	free(*peer);
	*peer = by_id;
}

void group_for_agent(struct core *c, const struct rule_group *g, struct rule_group *out) {
	fields_copy(&rule_group_table, g, out);
	for (size_t i = 0; i < out->spec.rules.n; i++) {
		peer_for_agent(c, g, &out->spec.rules.items[i].source);
		peer_for_agent(c, g, &out->spec.rules.items[i].destination);
	}
}

static int check_peers(struct core *c, const struct rule_group *g, struct error *err) {
	for (size_t i = 0; i < g->spec.rules.n; i++) {
		const struct rule *r = &g->spec.rules.items[i];
		const char *peer = r->source ? r->source : r->destination;
		if (!has_name(peer) || peer_id(c, g, peer))
			continue;
		_cleanup_(free_ptr) char *field = str_format("rules[%zu].%s", i, r->source ? "source" : "destination");
		error_set(err, ERROR_NOT_FOUND, "there is no %s", peer);
		error_in_field(err, field);
		return -ERROR_NOT_FOUND;
	}
	return 0;
}

const char *rules_naming(struct core *c, const char *peer) {
	void *value;
	for (size_t i = 0; map_next(c->groups.by_id, &i, NULL, &value);) {
		const struct rule_group *g = group_of(value);
		struct rule_group sent;
		group_for_agent(c, g, &sent);
		bool named = false;
		for (size_t k = 0; k < sent.spec.rules.n; k++)
			named = named || str_same(sent.spec.rules.items[k].source, peer) ||
				str_same(sent.spec.rules.items[k].destination, peer);
		fields_free(&rule_group_table, &sent);
		if (named)
			return g->spec.name;
	}
	return NULL;
}

int rules_send(struct core *c, const struct rule_group *g, struct error *err) {
	struct rule_group sent;
	core_lock(c);
	group_for_agent(c, g, &sent);
	core_unlock(c);
	int r = agent_call(c, "rules-set", &sent, NULL, err);
	fields_free(&rule_group_table, &sent);
	return r;
}

/* ---- create, change ---- */

/* The store knows it before the agent. */
static int group_make(struct core *c, struct object *o, struct error *err) {
	int r = object_store(c, &c->groups, o->snap, true, err);
	if (r < 0)
		return r;
	r = rules_send(c, group_of(o), err);
	if (r < 0 && object_unstore(c, &c->groups, o->snap, NULL) < 0)
		log_error("rule group %s stays in the store without the agent's knowing it", group_of(o)->spec.name);
	return r;
}

static struct object *group_reserve(struct core *c, const char *project, struct rule_group_spec *spec,
				    struct error *err) {
	WITH_LOCK(c);
	_cleanup_(free_ptr) char *id = random_hex(INSTANCE_ID_LEN / 2);
	struct rule_group g = {.id = id, .project = (char *)project, .created_at = time_now_ns(), .spec = *spec};
	if (core_project_check(c, project, err) < 0 || check_peers(c, &g, err) < 0)
		return NULL;
	return object_add(&c->groups, &g, err);
}

int rules_create(struct core *c, const char *project, struct rule_group_spec *spec, struct object_snap **out,
		 struct error *err) {
	struct error e = ERROR_INIT;
	pthread_mutex_lock(&c->net_write);
	int r = fields_validate(&rule_group_spec_table, spec, &e);
	struct object *o = r == 0 ? group_reserve(c, project, spec, &e) : NULL;
	fields_free(&rule_group_spec_table, spec);
	r = o ? group_make(c, o, &e) : -(int)e.kind;
	core_lock(c);
	if (r == 0) {
		o->creating = false;
		selections_rebuild(c);
		event_add(c, "rules", "create", project, object_id(o), group_of(o)->spec.name, NULL);
		*out = object_snap_ref(o->snap);
	} else if (o) {
		object_take_out(c, &c->groups, o);
	}
	core_unlock(c);
	pthread_mutex_unlock(&c->net_write);
	selections_send(c);
	return r < 0 ? error_move(err, &e) : 0;
}

/* The agent first: it checks by doing. */
static int group_change(struct core *c, struct object *o, const struct rule_group *new, struct error *err) {
	core_lock(c);
	int r = check_peers(c, new, err);
	core_unlock(c);
	if (r == 0)
		r = rules_send(c, new, err);
	if (r < 0)
		return r;
	_cleanup_(object_snap_unref_ptr) struct object_snap *snap = object_snap_new(&rule_group_table, new);
	r = object_store(c, &c->groups, snap, false, err);
	if (r < 0) {
		_cleanup_(error_free) struct error undo = ERROR_INIT;
		if (rules_send(c, group_of(o), &undo) < 0)
			log_warn("taking back the change of rule group %s: %s", new->spec.name, error_text(&undo));
		return r;
	}
	WITH_LOCK(c);
	object_set(c, o, new);
	selections_rebuild(c);
	event_add(c, "rules", "update", new->project, new->id, new->spec.name, NULL);
	return 0;
}

/* One change of a group: fn does it to a copy. */
static int group_edit(struct core *c, const char *project, const char *name,
		      int (*fn)(struct rule_group *g, void *arg, struct error *err), void *arg,
		      struct object_snap **out, struct error *err) {
	pthread_mutex_lock(&c->net_write);
	core_lock(c);
	struct object *o = object_find(c, &c->groups, project, name, err);
	core_unlock(c);
	int r = o ? 0 : -ERROR_NOT_FOUND;
	if (o) {
		struct rule_group new;
		fields_copy(&rule_group_table, group_of(o), &new);
		r = fn(&new, arg, err);
		if (r == 0)
			r = group_change(c, o, &new, err);
		fields_free(&rule_group_table, &new);
	}
	if (r == 0) {
		WITH_LOCK(c);
		*out = object_snap_ref(o->snap);
	}
	pthread_mutex_unlock(&c->net_write);
	selections_send(c);
	return r;
}

static int edit_patch(struct rule_group *g, void *arg, struct error *err) {
	return fields_patch(&rule_group_spec_table, arg, false, &g->spec, err);
}

int rules_update(struct core *c, const char *project, const char *name, const json_t *patch, struct object_snap **out,
		 struct error *err) {
	return group_edit(c, project, name, edit_patch, (void *)patch, out, err);
}

/* ---- single rules ---- */

struct rule_edit {
	int64_t number;
	struct rule *rule;
};

static int bad_number(const struct rule_group *g, int64_t number, struct error *err) {
	return error_field(err, "number", "group %s has %zu rules: there is no place %" PRId64, g->spec.name,
			   g->spec.rules.n, number);
}

static int edit_add(struct rule_group *g, void *arg, struct error *err) {
	struct rule_edit *e = arg;
	size_t n = g->spec.rules.n, at = e->number ? (size_t)e->number - 1 : n;
	if (e->number < 0 || at > n)
		return bad_number(g, e->number, err);
	g->spec.rules.items = alloc_resize(g->spec.rules.items, n + 1, sizeof *g->spec.rules.items);
	memmove(g->spec.rules.items + at + 1, g->spec.rules.items + at, (n - at) * sizeof *g->spec.rules.items);
	g->spec.rules.items[at] = *e->rule;
	*e->rule = (struct rule){0};
	g->spec.rules.n++;
	return fields_validate(&rule_group_spec_table, &g->spec, err);
}

static int edit_remove(struct rule_group *g, void *arg, struct error *err) {
	const struct rule_edit *e = arg;
	size_t n = g->spec.rules.n, at = (size_t)e->number - 1;
	if (e->number < 1 || at >= n)
		return bad_number(g, e->number, err);
	fields_free(&rule_table, &g->spec.rules.items[at]);
	memmove(g->spec.rules.items + at, g->spec.rules.items + at + 1, (n - at - 1) * sizeof *g->spec.rules.items);
	g->spec.rules.n--;
	return 0;
}

int rules_add(struct core *c, const char *project, const char *name, int64_t number, struct rule *rule,
	      struct object_snap **out, struct error *err) {
	struct rule_edit e = {number, rule};
	int r = group_edit(c, project, name, edit_add, &e, out, err);
	fields_free(&rule_table, rule);
	return r;
}

int rules_remove(struct core *c, const char *project, const char *name, int64_t number, struct object_snap **out,
		 struct error *err) {
	struct rule_edit e = {.number = number};
	return group_edit(c, project, name, edit_remove, &e, out, err);
}

/* ---- delete ---- */

/* Needs the lock. */
static int check_unused(struct core *c, const struct object *o, struct error *err) {
	const char *id = object_id(o), *name = group_of(o)->spec.name;
	void *value;
	for (size_t i = 0; map_next(c->networks.by_id, &i, NULL, &value);)
		if (strv_has(use_of(value)->group_ids, id))
			return error_set(err, ERROR_CONFLICT, "rule group %s is in use by network %s: take it off first", name,
					 network_of(value)->spec.name);
	for (size_t i = 0; map_next(c->by_id, &i, NULL, &value);) {
		const struct instance *one = &((struct entry *)value)->snap->instance;
		for (size_t k = 0; k < one->nics.n; k++)
			if (strv_has(one->nics.items[k].rules, id))
				return error_set(err, ERROR_CONFLICT, "rule group %s is in use by instance %s on network %s: take it off first",
						 name, one->spec.name, one->nics.items[k].network);
	}
	_cleanup_(free_ptr) char *peer = str_format("group:%s", id);
	const char *other = rules_naming(c, peer);
	if (other && !str_same(other, name))
		return error_set(err, ERROR_CONFLICT, "the rules of group %s name group %s: remove those first", other, name);
	return 0;
}

int rules_delete(struct core *c, const char *project, const char *name, struct error *err) {
	pthread_mutex_lock(&c->net_write);
	core_lock(c);
	struct object *o = object_find(c, &c->groups, project, name, err);
	int r = o ? check_unused(c, o, err) : -ERROR_NOT_FOUND;
	if (r == 0)
		o->removing = true;
	core_unlock(c);
	if (r == 0)
		r = object_unstore(c, &c->groups, o->snap, err);
	if (r == 0) {
		struct msg_object body = {.id = (char *)object_id(o)};
		r = agent_call(c, "rules-delete", &body, NULL, err);
		if (r < 0 && object_store(c, &c->groups, o->snap, true, NULL) < 0)
			log_error("rule group %s has left the store, but not the agent", name);
	}
	core_lock(c);
	if (r == 0) {
		event_add(c, "rules", "delete", project, object_id(o), group_of(o)->spec.name, NULL);
		object_take_out(c, &c->groups, o);
		selections_rebuild(c);
	} else if (o) {
		o->removing = false;
	}
	core_unlock(c);
	pthread_mutex_unlock(&c->net_write);
	selections_send(c);
	return r;
}
