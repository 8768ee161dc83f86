/* The verbs of balancers. Who gets connections is in selections.c. */
#include "core/core-priv.h"

#include "base/log.h"
#include "base/str.h"
#include "base/time.h"

#include <ctype.h>
#include <inttypes.h>

const struct object_kind balancer_kind = {
	.noun = "balancer",
	.keys = "balancers",
	.names = "balancer-names",
	.list = "balancers",
	.table = &balancer_table,
	.project = offsetof(struct balancer, project),
	.name = offsetof(struct balancer, spec.name),
};

static struct balancer *balancer_of(const struct object *o) {
	return o->snap->noun;
}

int balancer_get(struct core *c, const char *project, const char *name, struct object_snap **out, struct error *err) {
	return object_get(c, &c->balancers, project, name, out, err);
}

int balancer_list(struct core *c, const char *project, char **json, size_t *len, struct error *err) {
	return object_list(c, &c->balancers, project, json, len, err);
}

int balancer_all(struct core *c, const char *project, struct object_snap ***out, struct error *err) {
	WITH_LOCK(c);
	int r = core_project_check(c, project, err);
	if (r < 0)
		return r;
	size_t n = 0;
	void *value;
	*out = alloc_array(map_count(c->balancers.by_id) + 1, sizeof(**out));
	for (size_t i = 0; map_next(c->balancers.by_id, &i, NULL, &value);) {
		const struct object *o = value;
		if (!o->creating && !o->removing && str_same(balancer_of(o)->project, project))
			(*out)[n++] = object_snap_ref(o->snap);
	}
	return 0;
}

struct port balancer_host_port(const struct balancer_spec *s) {
	return (struct port){.address = s->address, .host_port = s->host_port, .port = s->port, .count = 1, .protocol = s->protocol};
}

/* "label:app=web" port 80 → "app-web-80", inside net → "app-web-net" */
static char *name_for(const struct balancer_spec *s) {
	const char *target = strchr(s->target, ':') + 1;
	char *name = s->inside ? str_format("%.60s-%.60s", target, s->network) : str_format("%.100s-%" PRId64, target, s->host_port);
	for (char *p = name; *p; p++)
		if (!isalnum((unsigned char)*p) && !strchr("_.-", *p))
			*p = '-';
	if (!isalnum((unsigned char)name[0]))
		name[0] = 'b';
	return name;
}

static void fill_defaults(struct balancer_spec *s) {
	if (!s->host_port && !s->inside)
		s->host_port = s->port;
	if (!s->name)
		s->name = name_for(s);
}

/* Needs the lock. */
static int check_references(struct core *c, const char *project, const struct balancer_spec *s, struct error *err) {
	const struct object *o = s->network ? object_find(c, &c->networks, project, s->network, err) : NULL;
	if (s->network && !o) {
		error_in_field(err, "network");
		return -ERROR_NOT_FOUND;
	}
	if (str_starts(s->target, "instance:") && !entry_find(c, project, s->target + strlen("instance:"), err)) {
		error_in_field(err, "target");
		return -ERROR_NOT_FOUND;
	}
	return 0;
}

/* Its port of the host, or its address inside. Needs the lock. */
static int hold_place(struct core *c, struct balancer *b, struct error *err) {
	struct port port = balancer_host_port(&b->spec);
	int r = b->spec.inside ? balancer_address(c, b->project, &b->spec, err) : port_check(c, &port, b->id, true, err);
	if (r < 0)
		error_in_field(err, b->spec.inside ? "address" : "host_port");
	else if (b->spec.inside)
		b->network_id = str_copy(object_id(object_find(c, &c->networks, b->project, b->spec.network, NULL)));
	return r;
}

void balancer_hold(struct core *c, const struct balancer *b, bool held) {
	struct port port = balancer_host_port(&b->spec);
	if (b->spec.inside)
		balancer_claim(c, b, held);
	else if (held)
		port_claim(c, &port, b->id);
	else
		port_unclaim(c, &port, b->id);
}

static struct object *balancer_reserve(struct core *c, const char *project, struct balancer_spec *spec,
				       struct error *err) {
	WITH_LOCK(c);
	_cleanup_(free_ptr) char *id = random_hex(INSTANCE_ID_LEN / 2);
	struct balancer b = {.id = id, .project = (char *)project, .created_at = time_now_ns(), .spec = *spec};
	if (core_project_check(c, project, err) < 0 || check_references(c, project, spec, err) < 0)
		return NULL;
	int r = hold_place(c, &b, err);
	*spec = b.spec; /* with its address */
	struct object *o = r == 0 ? object_add(&c->balancers, &b, err) : NULL;
	if (o)
		balancer_hold(c, balancer_of(o), true);
	free(b.network_id);
	return o;
}

static void take_out(struct core *c, struct object *o) {
	WITH_LOCK(c);
	balancer_hold(c, balancer_of(o), false);
	object_take_out(c, &c->balancers, o);
	selections_rebuild(c);
}

/* Finds its backends and has the agent take it. The store knows it before. */
static int balancer_make(struct core *c, struct object *o, struct error *err) {
	_cleanup_(object_snap_unref_ptr) struct object_snap *snap = object_snap_ref(o->snap); /* not selected yet */
	int r = object_store(c, &c->balancers, snap, true, err);
	if (r < 0)
		return r;
	core_lock(c);
	selections_rebuild(c);
	core_unlock(c);
	r = selections_send_balancer(c, ((struct balancer *)snap->noun)->id, err);
	if (r < 0 && object_unstore(c, &c->balancers, snap, NULL) < 0)
		log_error("a balancer stays in the store without the agent's knowing it");
	return r;
}

int balancer_create(struct core *c, const char *project, struct balancer_spec *spec, struct object_snap **out,
		    struct error *err) {
	struct error e = ERROR_INIT;
	pthread_mutex_lock(&c->net_write);
	int r = fields_validate(&balancer_spec_table, spec, &e);
	if (r == 0)
		fill_defaults(spec);
	struct object *o = r == 0 ? balancer_reserve(c, project, spec, &e) : NULL;
	fields_free(&balancer_spec_table, spec);
	r = o ? balancer_make(c, o, &e) : -(int)e.kind;
	if (r == 0) {
		WITH_LOCK(c);
		o->creating = false;
		event_add(c, "balancer", "create", project, object_id(o), balancer_of(o)->spec.name, "target",
			  balancer_of(o)->spec.target, NULL);
		*out = object_snap_ref(o->snap);
	} else if (o) {
		take_out(c, o);
	}
	pthread_mutex_unlock(&c->net_write);
	return r < 0 ? error_move(err, &e) : 0;
}

/* Seen from now on, with the backends that it means. */
static void show(struct core *c, struct object *o, const struct balancer *b) {
	WITH_LOCK(c);
	object_set(c, o, b);
	selections_rebuild(c);
}

/* The agent first: it checks by doing. */
static int balancer_change(struct core *c, struct object *o, const struct object_snap *old, const struct balancer *new,
			   struct error *err) {
	if (new->spec.inside && !str_same(new->spec.network, ((const struct balancer *)old->noun)->spec.network))
		return error_field(err, "network", "cannot change: its address is one of that network");
	core_lock(c);
	int r = check_references(c, new->project, &new->spec, err);
	core_unlock(c);
	if (r < 0)
		return r;
	show(c, o, new);
	r = selections_send_balancer(c, new->id, err);
	if (r == 0) {
		_cleanup_(object_snap_unref_ptr) struct object_snap *snap = object_snap_new(&balancer_table, new);
		r = object_store(c, &c->balancers, snap, false, err);
	}
	if (r < 0) {
		show(c, o, old->noun);
		selections_send_balancer(c, new->id, NULL);
		return r;
	}
	WITH_LOCK(c);
	event_add(c, "balancer", "update", new->project, new->id, new->spec.name, NULL);
	return 0;
}

int balancer_update(struct core *c, const char *project, const char *name, const json_t *patch,
		    struct object_snap **out, struct error *err) {
	pthread_mutex_lock(&c->net_write);
	core_lock(c);
	struct object *o = object_find(c, &c->balancers, project, name, err);
	_cleanup_(object_snap_unref_ptr) struct object_snap *old = o ? object_snap_ref(o->snap) : NULL;
	core_unlock(c);
	int r = o ? 0 : -ERROR_NOT_FOUND;
	if (o) {
		struct balancer new;
		fields_copy(&balancer_table, old->noun, &new);
		r = fields_patch(&balancer_spec_table, patch, false, &new.spec, err);
		if (r == 0)
			r = balancer_change(c, o, old, &new, err);
		fields_free(&balancer_table, &new);
	}
	if (r == 0) {
		WITH_LOCK(c);
		*out = object_snap_ref(o->snap);
	}
	pthread_mutex_unlock(&c->net_write);
	return r;
}

int balancer_delete(struct core *c, const char *project, const char *name, struct error *err) {
	pthread_mutex_lock(&c->net_write);
	core_lock(c);
	struct object *o = object_find(c, &c->balancers, project, name, err);
	_cleanup_(object_snap_unref_ptr) struct object_snap *snap = o ? object_snap_ref(o->snap) : NULL;
	if (o)
		o->removing = true;
	core_unlock(c);
	int r = o ? object_unstore(c, &c->balancers, snap, err) : -ERROR_NOT_FOUND;
	if (r == 0) {
		r = selections_drop_balancer(c, ((struct balancer *)snap->noun)->id, err);
		if (r < 0 && object_store(c, &c->balancers, snap, true, NULL) < 0)
			log_error("balancer %s has left the store, but not the agent", name);
	}
	core_lock(c);
	if (r == 0)
		event_add(c, "balancer", "delete", project, object_id(o), balancer_of(o)->spec.name, NULL);
	else if (o)
		o->removing = false;
	core_unlock(c);
	if (r == 0)
		take_out(c, o);
	pthread_mutex_unlock(&c->net_write);
	return r;
}
