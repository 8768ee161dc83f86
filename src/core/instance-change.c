/* Changes of an instance that is there: its spec, its networks, its ports. The agent first, for it checks by doing; then
 * the store. A mark in the store says that a change is under way: were this process to die in the midst of it, the
 * next one has the agent go back to what the store says. */
#include "core/core-priv.h"
#include "core/volumes-priv.h"

#include "base/log.h"
#include "base/str.h"

/* ---- the mark ---- */

static char *mark_key(const struct instance *i) {
	return str_format("changing/%s/%s", i->project, i->id);
}

/* It names where volumes come or go: nobody else knows what the agent may have mounted. */
static int mark(struct core *c, const struct instance *old, const struct instance *new, struct error *err) {
	_cleanup_(json_free_ptr) json_t *targets = mounts_changing(old, new);
	_cleanup_(free_ptr) char *key = mark_key(old), *text = json_print(targets);
	struct store_op op = {STORE_PUT, key, text, STORE_ANY};
	return events_txn(c, &op, 1, err);
}

static int unmark(struct core *c, const struct instance *i, struct error *err) {
	_cleanup_(free_ptr) char *key = mark_key(i);
	struct store_op op = {STORE_DELETE, key, NULL, STORE_ANY};
	return events_txn(c, &op, 1, err);
}

static json_t *marked_targets(struct core *c, const struct instance *i) {
	_cleanup_(free_ptr) char *key = mark_key(i);
	_cleanup_(store_item_free) struct store_item item = {0};
	return store_get(c->store, key, &item, NULL) < 0 ? NULL : json_parse(item.value, strlen(item.value), NULL);
}

int changes_load(struct core *c, struct error *err) {
	_cleanup_(store_items_free) struct store_items list = {0};
	int r = store_list(c->store, "changing/", &list, err);
	for (size_t i = 0; r == 0 && i < list.n; i++) {
		struct entry *e = map_get(c->by_id, strrchr(list.items[i].key, '/') + 1);
		if (e)
			e->unsure = true;
		else
			r = store_delete(c->store, list.items[i].key, STORE_ANY, err);
	}
	return r;
}

/* ---- the agent ---- */

static const struct nic *nic_on(const nics *list, const char *network_id) {
	for (size_t i = 0; i < list->n; i++)
		if (str_same(list->items[i].network_id, network_id))
			return &list->items[i];
	return NULL;
}

/* The agent changes the rest of an interface in place. */
static bool same_interface(const struct nic *a, const struct nic *b) {
	return b && str_same(a->ipv4, b->ipv4) && str_same(a->ipv6, b->ipv6) && str_same(a->mac, b->mac) &&
	       str_same(a->interface, b->interface);
}

/* Whether those that stay come first, in the order that they had. */
static bool order_stays(const nics *old, const nics *new) {
	size_t at = 0;
	for (size_t i = 0; i < old->n; i++)
		if (same_interface(&old->items[i], nic_on(new, old->items[i].network_id))) {
			if (!str_same(old->items[i].network_id, new->items[at].network_id))
				return false;
			at++;
		}
	return true;
}

static int nic_set(struct core *c, const char *id, const struct nic *n, struct error *err) {
	struct msg_nic_set body = {.id = (char *)id, .nic = *n};
	return agent_call(c, "nic-set", &body, NULL, err);
}

static int nic_remove(struct core *c, const char *id, const char *network_id, struct error *err) {
	struct msg_nic_remove body = {.id = (char *)id, .network_id = (char *)network_id};
	return agent_call(c, "nic-remove", &body, NULL, err);
}

static int change_nics(struct core *c, const char *id, const nics *old, const nics *new, struct error *err) {
	bool stays = order_stays(old, new);
	int r = 0;
	for (size_t i = 0; r == 0 && i < old->n; i++) {
		const struct nic *n = &old->items[i];
		if (!stays || !same_interface(n, nic_on(new, n->network_id)))
			r = nic_remove(c, id, n->network_id, err);
	}
	for (size_t i = 0; r == 0 && i < new->n; i++) {
		const struct nic *n = &new->items[i], *had = nic_on(old, n->network_id);
		if (!stays || !had || !fields_equal(&nic_table, n, had))
			r = nic_set(c, id, n, err);
	}
	return r;
}

static int send_spec(struct core *c, const struct instance *i, bool back, struct error *err) {
	struct msg_instance_update body = {.id = i->id, .spec = i->spec, .ports = i->ports, .back = back};
	body.volumes.items = i->volumes.items;
	body.volumes.n = i->volumes.n;
	return agent_call(c, "instance-update", &body, NULL, err);
}

static int agent_change(struct core *c, const struct instance *old, const struct instance *new, bool back, struct error *err) {
	int r = mounts_take(c, old, new, err);
	if (r == 0)
		r = send_spec(c, new, back, err);
	if (r == 0)
		r = change_nics(c, new->id, &old->nics, &new->nics, err);
	if (r == 0)
		r = mounts_give(c, old, new, err);
	return r == 0 && media_differ(old, new) ? media_send(c, new, err) : r;
}

/* ---- the store ---- */

static int store_changed(struct core *c, const struct instance *old, const struct instance *new, struct error *err) {
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = instance_snap_new(new);
	_cleanup_(free_ptr) char *key = instance_key(new->project, new->id), *under_way = mark_key(new);
	_cleanup_(free_ptr) char *old_name = str_format("names/%s/%s", old->project, old->spec.name);
	_cleanup_(free_ptr) char *name = str_format("names/%s/%s", new->project, new->spec.name);
	struct store_op ops[] = {{STORE_PUT, key, snap->json, STORE_ANY},
				 {STORE_DELETE, under_way, NULL, STORE_ANY},
				 {STORE_DELETE, old_name, NULL, STORE_ANY},
				 {STORE_PUT, name, new->id, STORE_ABSENT}};
	return events_txn(c, ops, str_same(old->spec.name, new->spec.name) ? 2 : ARRAY_SIZE(ops), err);
}

static void set_unsure(struct core *c, struct entry *e, bool unsure) {
	WITH_LOCK(c);
	e->unsure = unsure;
}

/* What cannot be taken back now is settled before the next change, or when the agent has come back. */
static void undo(struct core *c, struct entry *e, const struct instance *old, const struct instance *new) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	int r = agent_change(c, new, old, true, &err);
	if (r == 0)
		r = unmark(c, old, &err);
	if (r < 0) {
		log_warn("taking back a change of instance %.12s: %s", old->id, error_text(&err));
		set_unsure(c, e, true);
	}
}

static int change(struct core *c, struct entry *e, const struct instance *old, const struct instance *new, struct error *err) {
	int r = mark(c, old, new, err);
	if (r < 0)
		return r;
	r = agent_change(c, old, new, false, err);
	if (r == 0)
		r = store_changed(c, old, new, err);
	if (r < 0)
		undo(c, e, old, new);
	return r;
}

/* ---- what was cut off ---- */

/* nic-set refuses one that is there with other addresses. */
static int settle_nics(struct core *c, const struct instance *i, struct error *err) {
	_cleanup_(strv_free_ptr) char **others = NULL;
	const char *id;
	core_lock(c);
	for (size_t k = 0; map_next(c->networks.by_id, &k, &id, NULL);)
		if (!nic_on(&i->nics, id))
			strv_add(&others, id);
	core_unlock(c);
	int r = 0;
	for (char **o = others; r == 0 && o && *o; o++)
		r = nic_remove(c, i->id, *o, err);
	for (size_t k = 0; r == 0 && k < i->nics.n; k++) {
		const struct nic *n = &i->nics.items[k];
		if (nic_set(c, i->id, n, NULL) == 0)
			continue;
		r = nic_remove(c, i->id, n->network_id, err);
		if (r == 0)
			r = nic_set(c, i->id, n, err);
	}
	return r;
}

void change_settle(struct core *c, struct entry *e) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = entry_snap(c, e);
	const struct instance *i = &snap->instance;
	_cleanup_(json_free_ptr) json_t *targets = marked_targets(c, i);
	int r = send_spec(c, i, true, &err);
	if (r == 0)
		r = settle_nics(c, i, &err);
	if (r == 0)
		r = mounts_settle(c, i, targets, &err);
	if (r == 0)
		r = unmark(c, i, &err);
	if (r < 0) {
		log_warn("a change of instance %.12s was cut off, and cannot be taken back: %s", i->id, error_text(&err));
		return;
	}
	set_unsure(c, e, false);
}

static void settle_before(struct core *c, struct entry *e) {
	core_lock(c);
	bool unsure = e->unsure;
	core_unlock(c);
	if (unsure)
		change_settle(c, e);
}

/* ---- in memory ---- */

/* Takes the new name for e; name_drop gives it back. */
static int rename_begin(struct core *c, struct entry *e, const struct instance *new, struct error *err) {
	WITH_LOCK(c);
	_cleanup_(free_ptr) char *key = name_key(new->project, new->spec.name);
	struct entry *other = map_get(c->by_name, key);
	if (other) {
		error_set(err, ERROR_EXISTS, "the name %s is taken by instance %.12s", new->spec.name,
			  other->snap->instance.id);
		error_in_field(err, "name");
		return -ERROR_EXISTS;
	}
	map_set(c->by_name, key, e);
	return 0;
}

static void name_drop(struct core *c, const struct instance *i) {
	WITH_LOCK(c);
	_cleanup_(free_ptr) char *key = name_key(i->project, i->spec.name);
	map_take(c->by_name, key);
}

static void publish_change(struct core *c, struct entry *e, const struct instance *new) {
	WITH_LOCK(c);
	struct instance now = e->snap->instance; /* the status may have moved on */
	now.spec = new->spec;
	now.nics = new->nics;
	now.ports = new->ports;
	now.exposed = new->exposed;
	now.volumes = new->volumes;
	now.pool_id = new->pool_id;
	entry_set(c, e, instance_snap_new(&now));
}

static void tell_update(struct core *c, const struct instance *old, const struct instance *i) {
	WITH_LOCK(c);
	if (!str_same(old->spec.name, i->spec.name))
		event_add(c, "instance", "rename", i->project, i->id, i->spec.name, "image", i->spec.image, "old_name",
			  old->spec.name, NULL);
	else
		event_add(c, "instance", "update", i->project, i->id, i->spec.name, "image", i->spec.image, NULL);
}

/* Holds what the new state needs, changes it everywhere, and gives up what the old one had; or nothing of it. */
static int carry_out(struct core *c, struct entry *e, const struct instance *old, struct instance *new, bool nics,
		     bool ports, struct error *err) {
	core_lock(c);
	int r = instance_resolve(c, new, old, nics, ports, err);
	core_unlock(c);
	if (r < 0)
		return r;
	r = change(c, e, old, new, err);
	if (r == 0)
		publish_change(c, e, new);
	WITH_LOCK(c);
	instance_unclaim(c, r == 0 ? old : new);
	instance_claim(c, r == 0 ? new : old);
	return r;
}

/* ---- the verbs ---- */

static bool same_networks(const struct instance_spec *a, const struct instance_spec *b) {
	bool same = str_same(a->network, b->network) && a->networks.n == b->networks.n;
	for (size_t i = 0; same && i < a->networks.n; i++)
		same = fields_equal(&attachment_table, &a->networks.items[i], &b->networks.items[i]);
	return same;
}

static bool same_ports(const struct instance_spec *a, const struct instance_spec *b) {
	bool same = a->publish_all == b->publish_all && a->ports.n == b->ports.n && strv_same(a->expose, b->expose);
	for (size_t i = 0; same && i < a->ports.n; i++)
		same = fields_equal(&port_table, &a->ports.items[i], &b->ports.items[i]);
	return same;
}

/* new is old with the patched spec. */
static int change_spec(struct core *c, struct entry *e, const struct instance *old, struct instance *new,
		       struct error *err) {
	bool renamed = !str_same(new->spec.name, old->spec.name), networks = !same_networks(&old->spec, &new->spec);
	if (!new->spec.name)
		return error_field(err, "name", "an instance must have a name");
	int r = networks ? default_network_ensure(c, new->project, &new->spec, err) : 0;
	if (r == 0 && renamed)
		r = rename_begin(c, e, new, err);
	if (r < 0)
		return r;
	r = carry_out(c, e, old, new, networks, !same_ports(&old->spec, &new->spec), err);
	if (renamed)
		name_drop(c, r == 0 ? old : new);
	if (r == 0)
		tell_update(c, old, new);
	return r;
}

/* The volumes of changed mounts; those that are not there are made. */
static int resolve_mounts(struct core *c, struct instance *new, struct error *err) {
	_cleanup_(strv_free_ptr) char **made = NULL;
	for (size_t i = 0; i < new->volumes.n; i++)
		fields_free(&volume_use_table, &new->volumes.items[i]);
	new->volumes.n = 0;
	for (size_t i = 0; i < new->images.n; i++)
		fields_free(&image_use_table, &new->images.items[i]);
	new->images.n = 0;
	free(TAKE_PTR(new->pool_id));
	int r = instance_resolve_storage(c, new, &made, err);
	if (r == 0)
		r = mounted_images_ensure(c, new, err);
	if (r < 0)
		volumes_drop(c, new->project, made);
	return r;
}

static int apply_patch(struct core *c, struct entry *e, const struct instance *old, struct instance *new, bool running,
		       const json_t *patch, struct error *err) {
	int r = fields_patch(&instance_spec_table, patch, running, &new->spec, err);
	if (r == 0 && json_object_get(patch, "mounts"))
		r = resolve_mounts(c, new, err);
	if (r == 0 && json_object_get(patch, "links")) {
		WITH_LOCK(c);
		r = links_resolve(c, new->project, &new->spec, err);
	}
	return r < 0 ? r : change_spec(c, e, old, new, err);
}

static int edit_patch(struct core *c, struct entry *e, const struct instance *old, struct instance *new, void *arg,
		      struct error *err) {
	return apply_patch(c, e, old, new, state_is_up(old->status.state), arg, err);
}

static int edit_mounts(struct core *c, struct entry *e, const struct instance *old, struct instance *new, void *arg,
		       struct error *err) {
	return apply_patch(c, e, old, new, false, arg, err);
}

/* One change: fn does it to a copy, and carries it out. */
static int edit(struct core *c, const char *project, const char *name,
		int (*fn)(struct core *c, struct entry *e, const struct instance *old, struct instance *new, void *arg,
			  struct error *err),
		void *arg, struct instance_snap **out, struct error *err) {
	_cleanup_(entry_ref_drop) struct entry_ref ref = {c, NULL};
	int r = entry_get(c, project, name, &ref.entry, err);
	if (r == 0)
		r = entry_acquire(c, ref.entry, err);
	if (r < 0)
		return r;
	settle_before(c, ref.entry);
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *old = entry_snap(c, ref.entry);
	struct instance new;
	fields_copy(&instance_table, &old->instance, &new);
	r = fn(c, ref.entry, &old->instance, &new, arg, err);
	fields_free(&instance_table, &new);
	entry_release(c, ref.entry);
	if (r < 0)
		return r;
	selections_send(c);
	*out = entry_snap(c, ref.entry);
	return 0;
}

int instance_update(struct core *c, const char *project, const char *name, const json_t *patch,
		    struct instance_snap **out, struct error *err) {
	return edit(c, project, name, edit_patch, (void *)patch, out, err);
}

int instance_change_mounts(struct core *c, const char *project, const char *name, const json_t *patch,
			   struct instance_snap **out, struct error *err) {
	return edit(c, project, name, edit_mounts, (void *)patch, out, err);
}

struct pool_name {
	const char *name, *id;
};

static int edit_pool(struct core *c, struct entry *e, const struct instance *old, struct instance *new, void *arg,
		     struct error *err) {
	const struct pool_name *p = arg;
	free(new->spec.pool);
	free(new->pool_id);
	new->spec.pool = str_copy(p->name);
	new->pool_id = str_copy(p->id);
	return change_spec(c, e, old, new, err);
}

int instance_set_pool(struct core *c, const char *project, const char *id, const char *pool, const char *pool_id, struct error *err) {
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *after = NULL;
	struct pool_name p = {pool, pool_id};
	return edit(c, project, id, edit_pool, &p, &after, err);
}

static int edit_port(struct core *c, struct entry *e, const struct instance *old, struct instance *new, void *arg,
		     struct error *err) {
	size_t k = *(size_t *)arg;
	if (!port_is_picked(new, k) || state_is_up(old->status.state))
		return error_set(err, ERROR_CONFLICT, "instance %s has changed meanwhile", new->spec.name);
	new->ports.items[k].host_port = 0; /* to be picked */
	return carry_out(c, e, old, new, false, true, err);
}

int instance_repick_port(struct core *c, const struct instance *i, size_t k, struct error *err) {
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *after = NULL;
	return edit(c, i->project, i->spec.name, edit_port, &k, &after, err);
}

/* ---- networks of one that may run ---- */

static int check_private(const struct instance *i, struct error *err) {
	if (str_same(i->spec.network, "private"))
		return 0;
	return error_set(err, ERROR_CONFLICT, "instance %s has no networks of its own: its network is %s", i->spec.name,
			 i->spec.network);
}

/* The spec names what the instance is on, also what it was given without being asked for. */
static void spell_out(struct instance *i) {
	if (i->spec.networks.n)
		return;
	i->spec.networks.items = alloc_array(i->nics.n + 1, sizeof *i->spec.networks.items);
	for (; i->spec.networks.n < i->nics.n; i->spec.networks.n++) {
		struct attachment *a = &i->spec.networks.items[i->spec.networks.n];
		fields_init(&attachment_table, a);
		a->network = str_copy(i->nics.items[i->spec.networks.n].network);
	}
}

/* The attachment of a network, whose id is network_id; its index, or the number of attachments. nics and attachments are in
 * the same order. */
static size_t attachment_of(const struct instance *i, const char *network_id) {
	size_t k = 0;
	while (k < i->nics.n && !str_same(i->nics.items[k].network_id, network_id))
		k++;
	return MIN(k, i->spec.networks.n);
}

static char *network_id_of(struct core *c, const char *project, const char *name, struct error *err) {
	WITH_LOCK(c);
	const struct object *o = object_find(c, &c->networks, project, name, err);
	return o ? str_copy(object_id(o)) : NULL;
}

static void tell_network(struct core *c, const char *action, const struct nic *n, const struct instance *i) {
	WITH_LOCK(c);
	event_add(c, "network", action, i->project, n->network_id, n->network, "instance", i->id, "name", i->spec.name, NULL);
}

static bool differs(const char *wanted, const char *has) {
	struct ip a, b;
	if (!wanted || str_same(wanted, has))
		return false;
	return !has || ip_parse(wanted, &a) < 0 || ip_parse(has, &b) < 0 || a.family != b.family ||
	       memcmp(a.bytes, b.bytes, sizeof a.bytes) != 0;
}

/* On the network already: what is not asked for anew stays. */
static int check_same(const struct nic *n, const struct attachment *a, const char *name, struct error *err) {
	if (!differs(a->ipv4, n->ipv4) && !differs(a->ipv6, n->ipv6) && (!a->mac || (n->mac && strcasecmp(a->mac, n->mac) == 0)) &&
	    (!a->interface || str_same(a->interface, n->interface)))
		return 0;
	return error_set(err, ERROR_CONFLICT, "instance %s is on network %s with other addresses: disconnect it first", name,
			 n->network);
}

static int edit_connect(struct core *c, struct entry *e, const struct instance *old, struct instance *new, void *arg,
			struct error *err) {
	struct attachment *a = arg;
	_cleanup_(free_ptr) char *id = NULL;
	int r = check_private(new, err);
	if (r == 0 && !(id = network_id_of(c, new->project, a->network, err)))
		r = -ERROR_NOT_FOUND;
	if (r < 0)
		return r;
	spell_out(new);
	attachments *all = &new->spec.networks;
	size_t at = attachment_of(new, id);
	const struct nic *had = nic_on(&old->nics, id);
	if (had && at < all->n) {
		struct attachment *before = &all->items[at];
		r = state_is_up(old->status.state) ? check_same(had, a, new->spec.name, err) : 0;
		if (r < 0)
			return r;
		a->ipv4 = a->ipv4 ? a->ipv4 : TAKE_PTR(before->ipv4); /* stay static */
		a->ipv6 = a->ipv6 ? a->ipv6 : TAKE_PTR(before->ipv6);
		a->mac = a->mac ? a->mac : TAKE_PTR(before->mac);
		a->interface = a->interface ? a->interface : TAKE_PTR(before->interface);
		fields_free(&attachment_table, before);
	} else {
		all->items = alloc_resize(all->items, all->n + 1, sizeof *all->items);
		at = all->n++;
	}
	all->items[at] = *a;
	*a = (struct attachment){0};
	r = fields_validate(&instance_spec_table, &new->spec, err);
	if (r == 0)
		r = carry_out(c, e, old, new, true, false, err);
	if (r == 0)
		tell_network(c, had ? "update" : "connect", nic_on(&new->nics, id), new);
	return r;
}

int network_connect(struct core *c, const char *project, const char *instance, struct attachment *a,
		    struct instance_snap **out, struct error *err) {
	int r = fields_validate(&attachment_table, a, err);
	if (r == 0 && str_same(a->network, "default")) {
		struct instance_spec wish = {.network = (char *)"private", .networks = {a, 1}};
		r = default_network_ensure(c, project, &wish, err);
	}
	if (r == 0)
		r = edit(c, project, instance, edit_connect, a, out, err);
	fields_free(&attachment_table, a);
	return r;
}

static void drop_nic(struct instance *i, size_t at) {
	fields_free(&nic_table, &i->nics.items[at]);
	memmove(i->nics.items + at, i->nics.items + at + 1, (i->nics.n - at - 1) * sizeof *i->nics.items);
	i->nics.n--;
	attachments *all = &i->spec.networks;
	if (at >= all->n)
		return;
	fields_free(&attachment_table, &all->items[at]);
	memmove(all->items + at, all->items + at + 1, (all->n - at - 1) * sizeof *all->items);
	all->n--;
}

static int edit_disconnect(struct core *c, struct entry *e, const struct instance *old, struct instance *new, void *arg,
			   struct error *err) {
	_cleanup_(free_ptr) char *id = network_id_of(c, new->project, arg, err);
	if (!id)
		return -ERROR_NOT_FOUND;
	const struct nic *had = nic_on(&old->nics, id);
	if (!had)
		return error_set(err, ERROR_NOT_FOUND, "instance %s is not on network %s", new->spec.name, (const char *)arg);
	spell_out(new);
	drop_nic(new, (size_t)(had - old->nics.items));
	int r = carry_out(c, e, old, new, false, false, err);
	if (r == 0)
		tell_network(c, "disconnect", had, new);
	return r;
}

int network_disconnect(struct core *c, const char *project, const char *instance, const char *network,
		       struct instance_snap **out, struct error *err) {
	return edit(c, project, instance, edit_disconnect, (void *)network, out, err);
}
