/* Rule groups, members of peers and balancers: kept on disk, applied to the table. What the table is to be follows from
 * the disk alone, so that it can be loaded whole whenever somebody has removed it. */
#include "agent/network-priv.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"

#include <dirent.h>
#include <openssl/evp.h>
#include <sys/file.h>
#include <unistd.h>

/* --- what there is --- */

struct loading {
	const char *kind;
	const struct field_table *table;
	void **items; /* array of the table's structs */
	size_t *n;
};

static void load_object(const struct agent *a, const char *id, void *arg) {
	struct loading *l = arg;
	_cleanup_(free_ptr) char *path = firewall_path(a, l->kind, id);
	_cleanup_(error_free) struct error err = ERROR_INIT;
	*l->items = alloc_resize(*l->items, *l->n + 1, l->table->size);
	if (object_load(l->table, path, (char *)*l->items + *l->n * l->table->size, &err) == 0)
		(*l->n)++;
	else if (err.kind != ERROR_NOT_FOUND)
		log_error("%s", error_text(&err));
}

static void load_objects(const struct agent *a, const char *kind, const struct field_table *t, void **items, size_t *n) {
	_cleanup_(free_ptr) char *dir = firewall_path(a, kind, NULL);
	struct loading l = {kind, t, items, n};
	for_each_id(dir, load_object, a, &l);
}

static void free_objects(const struct field_table *t, void *items, size_t n) {
	for (size_t i = 0; i < n; i++)
		fields_free(t, (char *)items + i * t->size);
	free(items);
}

static bool has_rules(const struct network *n) {
	const struct network_driver *d = network_driver_find(n->spec.driver);
	return d && (d->rules || d->ports);
}

/* Points the state at what has been loaded. */
static void refer(const struct agent *a, const char *without, struct rules *r) {
	struct firewall_state *s = &r->state;
	r->network_refs = alloc_array(r->networks.n + 1, sizeof *r->network_refs);
	r->group_refs = alloc_array(r->groups.n + 1, sizeof *r->group_refs);
	r->balancer_refs = alloc_array(r->balancers.n + 1, sizeof *r->balancer_refs);
	r->instances = alloc_array(r->wirings.n + 1, sizeof *r->instances);
	r->member_refs = alloc_array(r->members.n + 1, sizeof *r->member_refs);
	*s = (struct firewall_state){.tag = a->tag, .networks = r->network_refs, .instances = r->instances, .groups = r->group_refs,
				     .members = r->member_refs, .balancers = r->balancer_refs};
	for (size_t i = 0; i < r->networks.n; i++)
		if (!str_same(r->networks.items[i].id, without) && has_rules(&r->networks.items[i]))
			r->network_refs[s->n_networks++] = &r->networks.items[i];
	for (size_t i = 0; i < r->wirings.n; i++) {
		const struct wiring *w = &r->wirings.items[i];
		r->instances[s->n_instances++] =
			(struct firewall_instance){w->id, w->nics.items, w->nics.n, w->ports.items, w->ports.n};
	}
	for (size_t i = 0; i < r->groups.n; i++)
		r->group_refs[s->n_groups++] = &r->groups.items[i];
	for (size_t i = 0; i < r->members.n; i++)
		r->member_refs[s->n_members++] = (struct firewall_members){r->members.items[i].peer, r->members.items[i].addresses};
	for (size_t i = 0; i < r->balancers.n; i++)
		r->balancer_refs[s->n_balancers++] = &r->balancers.items[i];
}

void rules_load(const struct agent *a, const char *without, bool instances, struct rules *r) {
	*r = (struct rules){0};
	networks_load(a, &r->networks);
	if (instances)
		wirings_load(a, &r->wirings);
	load_objects(a, "groups", &rule_group_table, (void **)&r->groups.items, &r->groups.n);
	load_objects(a, "members", &msg_members_table, (void **)&r->members.items, &r->members.n);
	load_objects(a, "balancers", &balancer_table, (void **)&r->balancers.items, &r->balancers.n);
	refer(a, without, r);
}

void rules_free(struct rules *r) {
	networks_free(&r->networks);
	wirings_free(&r->wirings);
	free_objects(&rule_group_table, r->groups.items, r->groups.n);
	free_objects(&msg_members_table, r->members.items, r->members.n);
	free_objects(&balancer_table, r->balancers.items, r->balancers.n);
	free(r->network_refs);
	free(r->group_refs);
	free(r->balancer_refs);
	free(r->instances);
	free(r->member_refs);
	*r = (struct rules){0};
}

int rules_apply(const struct agent *a, const char *without, struct error *err) {
	_cleanup_(rules_free) struct rules r = {0};
	rules_load(a, without, true, &r);
	int result = r.state.n_networks ? firewall_load(&r.state, err) : firewall_unload(a->tag, err);
	return result < 0 ? error_wrap(err, "the firewall's rules") : 0;
}

/* --- one instance --- */

static void want_groups(char *const *ids, char ***wanted) {
	for (size_t i = 0; ids && ids[i]; i++)
		if (!strv_has(*wanted, ids[i]))
			strv_add(wanted, ids[i]);
}

/* As little as one instance's rules are made of: its networks, as the agent knows them, and the groups on both. */
static bool load_for(const struct agent *a, const struct wiring *w, struct rules *r) {
	_cleanup_(strv_free_ptr) char **wanted = NULL;
	*r = (struct rules){0};
	r->network_refs = alloc_array(w->nics.n + 1, sizeof *r->network_refs);
	r->state = (struct firewall_state){.tag = a->tag, .networks = r->network_refs};
	for (size_t i = 0; i < w->nics.n; i++) {
		const struct net *net = net_get(a, w->nics.items[i].network_id);
		if (!net || net->damaged || !has_rules(&net->network))
			continue;
		r->network_refs[r->state.n_networks++] = &net->network;
		want_groups(net->network.spec.rules, &wanted);
		want_groups(w->nics.items[i].rules, &wanted);
	}
	struct loading l = {"groups", &rule_group_table, (void **)&r->groups.items, &r->groups.n};
	for (size_t i = 0; wanted && wanted[i]; i++)
		load_object(a, wanted[i], &l);
	r->group_refs = alloc_array(r->groups.n + 1, sizeof *r->group_refs);
	for (size_t i = 0; i < r->groups.n; i++)
		r->group_refs[r->state.n_groups++] = &r->groups.items[i];
	r->state.groups = r->group_refs;
	return r->state.n_networks > 0;
}

int rules_add_instance(const struct agent *a, const struct wiring *w, struct error *err) {
	_cleanup_(rules_free) struct rules r = {0};
	struct firewall_instance i = {w->id, w->nics.items, w->nics.n, w->ports.items, w->ports.n};
	if (!load_for(a, w, &r))
		return 0;
	r.state.instances = &i;
	r.state.n_instances = 1;
	int result = firewall_instance_add(&r.state, &i, err);
	if (result == 0)
		return 0;
	log_warn("instance %.12s: %s; all rules are loaded again", w->id, error_text(err));
	error_free(err);
	return rules_apply(a, NULL, err);
}

int rules_remove_instance(const struct agent *a, const struct wiring *w, struct error *err) {
	_cleanup_(rules_free) struct rules r = {0};
	struct firewall_instance i = {w->id, w->nics.items, w->nics.n, w->ports.items, w->ports.n};
	return load_for(a, w, &r) ? firewall_instance_remove(&r.state, &i, err) : 0;
}

/* --- changes --- */

bool group_exists(const struct agent *a, const char *id) {
	_cleanup_(free_ptr) char *path = firewall_path(a, "groups", id);
	return fs_exists(path);
}

/* A change of one object: the file first, then the table; what the table refuses is taken back. */
struct edit {
	const struct job *job;
	char *path, *before; /* its text; NULL: it was not there */
	int lock;
};

static void edit_free(struct edit *e) {
	free(e->path);
	free(e->before);
	instance_unlock(&e->lock);
}

static int edit_begin(struct edit *e, const char *kind, const char *id, struct error *err) {
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	int r = firewall_lock(e->job->agent, &e->lock, err);
	e->path = firewall_path(e->job->agent, kind, id);
	if (r == 0 && fs_read(e->path, (size_t)8 << 20, &text) == 0)
		e->before = str_copy(buf_str(&text));
	return r;
}

static int edit_remove(const struct edit *e, struct error *err) {
	if (unlink(e->path) < 0 && errno != ENOENT)
		return error_errno(err, errno, "cannot remove %s", e->path);
	_cleanup_(free_ptr) char *dir = str_copyn(e->path, (size_t)(strrchr(e->path, '/') - e->path));
	fs_fsync_dir(dir);
	return 0;
}

static void edit_undo(const struct edit *e) {
	if (!e->before)
		unlink(e->path);
	else if (fs_replace(e->path, e->before, strlen(e->before), 0600) < 0)
		log_error("%s could not be put back", e->path);
}

/* r: of the change to the table. */
static int edit_end(const struct edit *e, int r, struct error *err) {
	fault_point("rules.applied");
	if (r < 0 && !firewall_present(e->job->agent->tag)) { /* somebody has removed it: as a whole, then */
		error_free(err);
		r = rules_apply(e->job->agent, NULL, err);
	}
	if (r < 0) {
		edit_undo(e);
		return r;
	}
	return job_answer(e->job, NULL, NULL, 0, err);
}

int work_rules_set(struct job *j, struct error *err) {
	const struct rule_group *g = j->body;
	_cleanup_(edit_free) struct edit e = {.job = j, .lock = -1};
	_cleanup_(rules_free) struct rules rules = {0};
	int r = edit_begin(&e, "groups", g->id, err);
	if (r == 0)
		r = object_save(&rule_group_table, e.path, g, err);
	if (r < 0)
		return r;
	fault_point("rules.saved");
	rules_load(j->agent, NULL, true, &rules);
	return edit_end(&e, rules.state.n_networks ? firewall_group_set(&rules.state, g, err) : 0, err);
}

/* Not while a network or an instance has it. */
int do_rules_delete(struct job *j, struct error *err) {
	const struct msg_object *m = j->body;
	void *value;
	for (size_t at = 0; map_next(j->agent->nets, &at, NULL, &value);) {
		const struct net *n = value;
		if (strv_has(n->network.spec.rules, m->id))
			return error_set(err, ERROR_CONFLICT, "network %s has rule group %.12s", n->network.spec.name, m->id);
	}
	for (size_t at = 0; map_next(j->agent->insts, &at, NULL, &value);) {
		const struct inst *i = value;
		for (size_t k = 0; k < i->nics.n; k++)
			if (strv_has(i->nics.items[k].rules, m->id))
				return error_set(err, ERROR_CONFLICT, "instance %.12s has rule group %.12s", i->id, m->id);
	}
	return worker_start(j->agent, j, err);
}

int work_rules_delete(struct job *j, struct error *err) {
	const struct msg_object *m = j->body;
	_cleanup_(edit_free) struct edit e = {.job = j, .lock = -1};
	int r = edit_begin(&e, "groups", m->id, err);
	if (r == 0)
		r = edit_remove(&e, err);
	if (r < 0)
		return r;
	fault_point("rules.saved");
	return edit_end(&e, e.before ? rules_apply(j->agent, NULL, err) : 0, err);
}

/* A peer as the name of a file. */
static char *peer_id(const char *peer) {
	uint8_t digest[EVP_MAX_MD_SIZE] = {0};
	char *hex = alloc_zero(2 * 32 + 1);
	EVP_Digest(peer, strlen(peer), digest, NULL, EVP_sha256(), NULL);
	hex_encode(digest, 32, hex);
	return hex;
}

int work_members_set(struct job *j, struct error *err) {
	const struct msg_members *m = j->body;
	_cleanup_(edit_free) struct edit e = {.job = j, .lock = -1};
	_cleanup_(rules_free) struct rules rules = {0};
	_cleanup_(free_ptr) char *id = peer_id(m->peer);
	int r = edit_begin(&e, "members", id, err);
	if (r == 0)
		r = m->addresses ? object_save(&msg_members_table, e.path, m, err) : edit_remove(&e, err);
	if (r < 0)
		return r;
	fault_point("rules.saved");
	rules_load(j->agent, NULL, false, &rules);
	struct firewall_members members = {m->peer, m->addresses};
	return edit_end(&e, rules.state.n_networks ? firewall_members_set(&rules.state, &members, err) : 0, err);
}

/* --- balancers --- */

/* One that is inside a network has its address on the bridge, and its names in the resolver. */
static int place_one(const struct agent *a, const struct network *n, const struct balancer *b, struct error *err) {
	_cleanup_(resolver_args_free) struct resolver_args args = {0};
	int r = network_address_add(a->tag, n, b->spec.address, err);
	if (r < 0 || !network_has_resolver(n))
		return r;
	resolver_args(a, n, &args);
	return fs_exists(args.run) ? resolver_names_set(&args.resolver, b->id, b->spec.address, b->spec.names, err) : 0;
}

static int place(const struct agent *a, const struct balancer *b, struct error *err) {
	const struct net *net = b->spec.inside && b->network_id ? net_get(a, b->network_id) : NULL;
	if (!b->spec.inside)
		return 0;
	if (!net || net->damaged || !b->spec.address)
		return error_set(err, ERROR_NOT_FOUND, "the agent has no network %s for balancer %s", b->spec.network, b->spec.name);
	return place_one(a, &net->network, b, err);
}

static void displace(const struct agent *a, const struct balancer *b) {
	const struct net *net = b->spec.inside && b->network_id ? net_get(a, b->network_id) : NULL;
	_cleanup_(resolver_args_free) struct resolver_args args = {0};
	_cleanup_(error_free) struct error err = ERROR_INIT;
	if (!net || net->damaged || !b->spec.address)
		return;
	resolver_args(a, &net->network, &args);
	int r = network_address_remove(a->tag, &net->network, b->spec.address, &err);
	if (r == 0 && network_has_resolver(&net->network))
		r = resolver_host_remove(&args.resolver, b->id, &err);
	if (r < 0)
		log_warn("balancer %s: %s", b->spec.name, error_text(&err));
}

void balancers_place(const struct agent *a, const struct network *n) {
	_cleanup_(rules_free) struct rules rules = {0};
	load_objects(a, "balancers", &balancer_table, (void **)&rules.balancers.items, &rules.balancers.n);
	for (size_t i = 0; i < rules.balancers.n; i++) {
		const struct balancer *b = &rules.balancers.items[i];
		_cleanup_(error_free) struct error err = ERROR_INIT;
		if (b->spec.inside && b->spec.address && str_same(b->network_id, n->id) && place_one(a, n, b, &err) < 0)
			log_warn("balancer %s: %s", b->spec.name, error_text(&err));
	}
}

int work_balancer_set(struct job *j, struct error *err) {
	const struct balancer *b = j->body;
	_cleanup_(edit_free) struct edit e = {.job = j, .lock = -1};
	_cleanup_(rules_free) struct rules rules = {0};
	int r = edit_begin(&e, "balancers", b->id, err);
	if (r == 0)
		r = object_save(&balancer_table, e.path, b, err);
	if (r < 0)
		return r;
	fault_point("rules.saved");
	rules_load(j->agent, NULL, false, &rules);
	r = rules.state.n_networks ? firewall_balancer_set(&rules.state, b, err) : 0;
	if (r == 0)
		r = place(j->agent, b, err);
	return edit_end(&e, r, err);
}

int work_balancer_delete(struct job *j, struct error *err) {
	const struct msg_object *m = j->body;
	_cleanup_(edit_free) struct edit e = {.job = j, .lock = -1};
	_cleanup_(rules_free) struct rules rules = {0};
	struct balancer old = {0};
	int r = edit_begin(&e, "balancers", m->id, err);
	bool known = r == 0 && object_load(&balancer_table, e.path, &old, NULL) == 0;
	if (known)
		displace(j->agent, &old); /* before it is forgotten: a repeated call finds what is left */
	if (r == 0)
		r = edit_remove(&e, err);
	if (r == 0) {
		fault_point("rules.saved");
		rules_load(j->agent, NULL, false, &rules);
		r = edit_end(&e, known && rules.state.n_networks ? firewall_balancer_remove(&rules.state, &old, err) : 0, err);
	}
	if (known)
		fields_free(&balancer_table, &old);
	return r;
}

int work_firewall_list(struct job *j, struct error *err) {
	_cleanup_(rules_free) struct rules rules = {0};
	_cleanup_(instance_unlock) int lock = -1;
	struct msg_firewall reply = {0};
	int r = firewall_lock(j->agent, &lock, err);
	if (r < 0)
		return r;
	rules_load(j->agent, NULL, false, &rules);
	for (size_t i = 0; i < rules.groups.n; i++)
		strv_add(&reply.groups, rules.groups.items[i].id);
	for (size_t i = 0; i < rules.members.n; i++)
		strv_add(&reply.members, rules.members.items[i].peer);
	for (size_t i = 0; i < rules.balancers.n; i++)
		strv_add(&reply.balancers, rules.balancers.items[i].id);
	r = job_answer(j, &reply, NULL, 0, err);
	fields_free(&msg_firewall_table, &reply);
	return r;
}

/* A table of ours was removed, maybe by one of us, who has the lock for as long as it is not there. */
int work_firewall(struct job *j, struct error *err) {
	_cleanup_(instance_unlock) int lock = -1;
	_cleanup_(rules_free) struct rules rules = {0};
	int r = firewall_lock(j->agent, &lock, err);
	if (r < 0 || firewall_present(j->agent->tag))
		return r;
	rules_load(j->agent, NULL, true, &rules);
	if (!rules.state.n_networks)
		return 0;
	log_warn("the rules of this daemon have been removed by somebody: they are loaded again");
	return firewall_load(&rules.state, err);
}
