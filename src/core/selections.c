/* Whom a label, a group or a balancer means: the addresses of instances, kept up to date instance by instance, and sent to
 * the agent when they have changed. */
#include "core/core-priv.h"

#include "base/log.h"
#include "base/str.h"

#include <sys/socket.h>

struct selection {
	char *peer;          /* "label:…", "group:ID" of rules; NULL: a balancer's */
	char *balancer;      /* its id */
	struct map *members; /* instance → its addresses with spaces between; those without any are not in it */
	bool dirty;          /* not sent yet */
	bool failed;         /* just now: left for the next time */
	bool wanted;         /* still asked for; what is not is told to the agent and goes */
};

struct selections {
	struct map *all;           /* peer or balancer's id → selection */
	pthread_mutex_t send_lock; /* one sender at a time, so that an older state never follows a newer one */
	bool job;                  /* a sender is on its way */
};

static void selection_free(void *p) {
	struct selection *s = p;
	free(s->peer);
	free(s->balancer);
	map_free(s->members);
	free(s);
}

struct selections *selections_new(void) {
	struct selections *s = NEW(struct selections);
	s->all = map_new(selection_free);
	pthread_mutex_init(&s->send_lock, NULL);
	return s;
}

void selections_free(struct selections *s) {
	if (!s)
		return;
	map_free(s->all);
	pthread_mutex_destroy(&s->send_lock);
	free(s);
}

/* ---- who fits ---- */

static void add_addresses(struct buf *b, const struct nic *n) {
	const char *both[] = {n->ipv4, n->ipv6};
	for (size_t i = 0; i < ARRAY_SIZE(both); i++)
		if (both[i])
			buf_addf(b, "%s%s", b->len ? " " : "", both[i]);
}

static bool nic_in_group(struct core *c, const struct nic *n, const char *group) {
	const struct object *o = map_get(c->networks.by_id, n->network_id);
	return strv_has(n->rules, group) || (o && strv_has(use_of(o)->group_ids, group));
}

static void add_peer(struct core *c, const char *peer, const struct instance *i, struct buf *b) {
	bool label = str_starts(peer, "label:");
	if (label && !label_fits(&i->spec.labels, peer + strlen("label:")))
		return;
	for (size_t k = 0; k < i->nics.n; k++)
		if (label || nic_in_group(c, &i->nics.items[k], peer + strlen("group:")))
			add_addresses(b, &i->nics.items[k]);
}

static bool is_target(const struct balancer_spec *s, const struct instance *i) {
	if (str_starts(s->target, "label:"))
		return label_fits(&i->spec.labels, s->target + strlen("label:"));
	const char *name = s->target + strlen("instance:");
	return str_same(name, i->spec.name) || str_same(name, i->id);
}

static void add_backend(struct core *c, const struct balancer *l, const struct instance *i, struct buf *b) {
	if (!str_same(i->project, l->project) || !str_same(i->status.state, "running") ||
	    str_same(i->status.health, "unhealthy") || !is_target(&l->spec, i))
		return;
	const struct object *o =
		l->spec.network ? object_find(c, &c->networks, l->project, l->spec.network, NULL) : NULL;
	for (size_t k = 0; k < i->nics.n; k++)
		if (!l->spec.network || (o && str_same(i->nics.items[k].network_id, object_id(o)))) {
			add_addresses(b, &i->nics.items[k]);
			return;
		}
}

static void add_members(struct core *c, const struct selection *s, const struct instance *i, struct buf *b) {
	if (s->peer)
		return add_peer(c, s->peer, i, b);
	const struct object *o = map_get(c->balancers.by_id, s->balancer);
	if (o)
		add_backend(c, o->snap->noun, i, b);
}

/* ---- keeping up ---- */

static void send_job(void *arg) {
	struct core *c = arg;
	core_lock(c);
	c->selections->job = false;
	core_unlock(c);
	selections_send(c);
}

static void mark(struct core *c, struct selection *s) {
	s->dirty = true;
	if (c->selections->job || !c->synced)
		return;
	c->selections->job = true;
	crew_run(c->senders, send_job, c);
}

static void update_member(struct core *c, struct selection *s, const char *id, const struct instance *i) {
	_cleanup_(buf_free) struct buf now = BUF_INIT;
	const char *before = map_get(s->members, id);
	if (i)
		add_members(c, s, i, &now);
	if (str_same(before, now.len ? buf_str(&now) : NULL))
		return;
	if (now.len)
		map_set(s->members, id, buf_steal(&now));
	else
		map_remove(s->members, id);
	mark(c, s);
}

void selections_instance(struct core *c, const char *id, const struct instance *i) {
	void *value;
	for (size_t k = 0; map_next(c->selections->all, &k, NULL, &value);)
		update_member(c, value, id, i);
}

static void want(struct core *c, const char *peer, const char *balancer) {
	struct selections *all = c->selections;
	const char *key = peer ? peer : balancer;
	struct selection *s = map_get(all->all, key);
	if (!s) {
		s = NEW(struct selection);
		*s = (struct selection){
			.peer = peer ? str_copy(peer) : NULL,
			.balancer = balancer ? str_copy(balancer) : NULL,
			.members = map_new(free),
		};
		map_set(all->all, key, s);
		mark(c, s);
	}
	s->wanted = true;
}

static void want_peer(struct core *c, const char *peer) {
	if (peer && (str_starts(peer, "label:") || str_starts(peer, "group:")))
		want(c, peer, NULL);
}

static void want_all(struct core *c) {
	void *value;
	for (size_t i = 0; map_next(c->groups.by_id, &i, NULL, &value);) {
		struct rule_group g;
		group_for_agent(c, ((struct object *)value)->snap->noun, &g);
		for (size_t k = 0; k < g.spec.rules.n; k++) {
			want_peer(c, g.spec.rules.items[k].source);
			want_peer(c, g.spec.rules.items[k].destination);
		}
		fields_free(&rule_group_table, &g);
	}
	for (size_t i = 0; map_next(c->balancers.by_id, &i, NULL, &value);)
		want(c, NULL, object_id(value));
}

void selections_rebuild(struct core *c) {
	void *value;
	for (size_t i = 0; map_next(c->selections->all, &i, NULL, &value);)
		((struct selection *)value)->wanted = false;
	want_all(c);
	for (size_t i = 0; map_next(c->selections->all, &i, NULL, &value);)
		if (!((struct selection *)value)->wanted)
			mark(c, value);
	for (size_t i = 0; map_next(c->by_id, &i, NULL, &value);) {
		const struct entry *e = value;
		if (!e->creating)
			selections_instance(c, e->snap->instance.id, &e->snap->instance);
	}
}

void selections_resend(struct core *c) {
	WITH_LOCK(c);
	void *value;
	for (size_t i = 0; map_next(c->selections->all, &i, NULL, &value);)
		((struct selection *)value)->dirty = true;
}

bool selections_has(struct core *c, const char *peer) {
	const struct selection *s = map_get(c->selections->all, peer);
	return s && s->wanted;
}

/* ---- sending ---- */

static char **addresses_of(const struct selection *s) {
	char **all = NULL;
	void *value;
	for (size_t i = 0; s->wanted && map_next(s->members, &i, NULL, &value);) {
		_cleanup_(strv_free_ptr) char **some = strv_split(value, ' ');
		for (char **a = some; *a; a++)
			strv_add(&all, *a);
	}
	return all;
}

/* The balancer as it is to be seen from now on. */
static void with_backends(struct core *c, struct object *o, const struct selection *s, struct balancer *out) {
	fields_copy(&balancer_table, o->snap->noun, out);
	strv_free(out->backends);
	out->backends = addresses_of(s);
	object_set(c, o, out);
}

/* What is to be told next, taken out of the lock. */
struct telling {
	char *key;
	bool is_balancer, gone;
	struct msg_members members;
	struct balancer balancer;
};

static void telling_free(struct telling *t) {
	free(t->key);
	fields_free(&msg_members_table, &t->members);
	fields_free(&balancer_table, &t->balancer);
}

/* A balancer that is gone is not told: its removal was. */
static bool next_telling(struct core *c, struct telling *t) {
	const char *key;
	void *value;
	for (size_t i = 0; map_next(c->selections->all, &i, &key, &value);) {
		struct selection *s = value;
		if (!s->dirty || s->failed)
			continue;
		struct object *o = s->balancer ? map_get(c->balancers.by_id, s->balancer) : NULL;
		if (s->balancer && (!o || o->removing)) {
			if (!o)
				map_remove(c->selections->all, key);
			continue;
		}
		s->dirty = false;
		*t = (struct telling){.key = str_copy(key), .is_balancer = o, .gone = !s->wanted};
		if (o)
			with_backends(c, o, s, &t->balancer);
		else
			t->members = (struct msg_members){str_copy(s->peer), addresses_of(s)};
		return true;
	}
	return false;
}

static void told(struct core *c, const struct telling *t, bool well) {
	struct selection *s = map_get(c->selections->all, t->key);
	if (s && !well)
		s->dirty = s->failed = true;
	else if (s && t->gone && !s->wanted)
		map_remove(c->selections->all, t->key);
}

static bool tell(struct core *c, const struct telling *t) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	int r = t->is_balancer ? agent_call(c, "balancer-set", &t->balancer, NULL, &err)
			       : agent_call(c, "members-set", &t->members, NULL, &err);
	if (r < 0)
		log_warn("telling the agent whom %s means: %s", t->is_balancer ? t->balancer.spec.name : t->members.peer,
			 error_text(&err));
	return r == 0;
}

/* Before both sides are in order nobody knows who runs: the agent keeps what it has. */
static bool begin_sending(struct core *c) {
	WITH_LOCK(c);
	void *value;
	for (size_t i = 0; map_next(c->selections->all, &i, NULL, &value);)
		((struct selection *)value)->failed = false;
	return c->synced;
}

void selections_send(struct core *c) {
	pthread_mutex_lock(&c->selections->send_lock);
	for (bool more = begin_sending(c); more;) {
		struct telling t = {0};
		core_lock(c);
		bool any = next_telling(c, &t);
		core_unlock(c);
		if (!any)
			break;
		bool well = tell(c, &t);
		core_lock(c);
		told(c, &t, well);
		core_unlock(c);
		telling_free(&t);
	}
	pthread_mutex_unlock(&c->selections->send_lock);
}

int selections_send_balancer(struct core *c, const char *id, struct error *err) {
	struct balancer b = {0};
	pthread_mutex_lock(&c->selections->send_lock);
	core_lock(c);
	struct selection *s = map_get(c->selections->all, id);
	s->dirty = false;
	with_backends(c, map_get(c->balancers.by_id, id), s, &b);
	core_unlock(c);
	int r = agent_call(c, "balancer-set", &b, NULL, err);
	pthread_mutex_unlock(&c->selections->send_lock);
	fields_free(&balancer_table, &b);
	return r;
}

int selections_drop_balancer(struct core *c, const char *id, struct error *err) {
	struct msg_object body = {.id = (char *)id};
	pthread_mutex_lock(&c->selections->send_lock);
	int r = agent_call(c, "balancer-delete", &body, NULL, err);
	pthread_mutex_unlock(&c->selections->send_lock);
	return r;
}
