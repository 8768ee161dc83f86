/* Volumes that instances mount and let go of while they run. It is a change of the spec as any other, to which the agent follows within
 * the change's mark (instance-change.c): what is cut off is settled with the rest of it. */
#include "core/volumes.h"

#include "base/log.h"
#include "base/str.h"
#include "core/volumes-priv.h"

/* ---- what the agent does ---- */

static int ask(struct core *c, const struct instance *i, const char *request, const struct mount *m, struct error *err) {
	const struct volume_use *use = volume_use_named(i, m->source);
	struct msg_volume_attach body = {
		.id = i->id,
		.pool_id = use ? use->pool_id : NULL,
		.volume_id = use ? use->volume_id : NULL,
		.target = m->target,
		.subpath = m->subpath,
		.read_only = m->read_only,
	};
	return agent_call(c, request, &body, NULL, err);
}

static const struct mount *volume_on(const struct instance *i, const char *target) {
	for (size_t k = 0; k < i->spec.mounts.n; k++)
		if (mount_is_volume(&i->spec.mounts.items[k]) && str_same(i->spec.mounts.items[k].target, target))
			return &i->spec.mounts.items[k];
	return NULL;
}

/* Another name or pool of the same volume is no other one. */
static bool stays(const struct instance *old, const struct mount *m, const struct instance *new) {
	const struct mount *after = volume_on(new, m->target);
	const struct volume_use *had = volume_use_named(old, m->source), *has = after ? volume_use_named(new, after->source) : NULL;
	return had && has && str_same(had->volume_id, has->volume_id);
}

static int each_other(struct core *c, const struct instance *of, const struct instance *than, const char *request, struct error *err) {
	int r = 0;
	for (size_t k = 0; r == 0 && state_is_up(of->status.state) && k < of->spec.mounts.n; k++) {
		const struct mount *m = &of->spec.mounts.items[k];
		if (mount_is_volume(m) && !stays(of, m, than))
			r = ask(c, of, request, m, err);
	}
	return r;
}

int mounts_take(struct core *c, const struct instance *old, const struct instance *new, struct error *err) {
	return each_other(c, old, new, "volume-detach", err);
}

int mounts_give(struct core *c, const struct instance *old, const struct instance *new, struct error *err) {
	return each_other(c, new, old, "volume-attach", err);
}

static void add_targets(const struct instance *of, const struct instance *than, json_t *list) {
	for (size_t k = 0; k < of->spec.mounts.n; k++) {
		const struct mount *m = &of->spec.mounts.items[k];
		if (mount_is_volume(m) && !stays(of, m, than))
			json_array_append_new(list, json_string(m->target));
	}
}

json_t *mounts_changing(const struct instance *old, const struct instance *new) {
	json_t *list = json_array();
	add_targets(old, new, list);
	add_targets(new, old, list);
	return list;
}

int mounts_settle(struct core *c, const struct instance *i, const json_t *targets, struct error *err) {
	int r = 0;
	size_t k;
	json_t *one;
	if (!state_is_up(i->status.state))
		return 0;
	json_array_foreach(targets, k, one) {
		const struct mount gone = {.target = (char *)json_string_value(one)}, *m = gone.target ? volume_on(i, gone.target) : NULL;
		if (r == 0 && gone.target)
			r = ask(c, i, m ? "volume-attach" : "volume-detach", m ? m : &gone, err);
	}
	return r;
}

/* ---- the verbs ---- */

static json_t *mounts_without(const struct instance_spec *s, const char *target) {
	json_t *list = json_array();
	_cleanup_(json_free_ptr) json_t *spec = fields_print(&instance_spec_table, s);
	size_t i;
	json_t *one;
	json_array_foreach(json_object_get(spec, "mounts"), i, one)
		if (!str_same(json_get_str(one, "target"), target))
			json_array_append(list, one);
	return list;
}

int volume_attach(struct core *c, const char *project, const char *instance, const struct mount *m,
		  struct instance_snap **out, struct error *err) {
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL;
	_cleanup_(noun_unref_ptr) struct noun *o = NULL;
	int r = instance_get(c, project, instance, &snap, err);
	if (r == 0)
		r = noun_get(c, c->volumes, project, m->source, &o, err);
	if (r < 0)
		return r;
	_cleanup_(json_free_ptr) json_t *mounts = mounts_without(&snap->instance.spec, ""), *patch = json_object();
	json_array_append_new(mounts, json_pack("{s:s, s:s, s:s, s:b, s:s*}", "type", "volume", "source", m->source, "target",
						m->target, "read_only", m->read_only, "subpath", m->subpath));
	json_object_set(patch, "mounts", mounts);
	return instance_change_mounts(c, project, snap->instance.id, patch, out, err);
}

int volume_detach(struct core *c, const char *project, const char *instance, const char *target,
		  struct instance_snap **out, struct error *err) {
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL;
	int r = instance_get(c, project, instance, &snap, err);
	if (r < 0)
		return r;
	const struct instance *i = &snap->instance;
	const struct mount *found = NULL;
	for (size_t k = 0; k < i->spec.mounts.n; k++)
		if (mount_is_volume(&i->spec.mounts.items[k]) && (str_same(i->spec.mounts.items[k].target, target) ||
							    str_same(i->spec.mounts.items[k].source, target)))
			found = &i->spec.mounts.items[k];
	if (!found)
		return error_set(err, ERROR_NOT_FOUND, "instance %s has no volume %.128s, nor one mounted there", i->spec.name, target);
	_cleanup_(json_free_ptr) json_t *mounts = mounts_without(&i->spec, found->target), *patch = json_object();
	json_object_set(patch, "mounts", mounts);
	return instance_change_mounts(c, project, i->id, patch, out, err);
}

/* What is mounted stays as it is; where it is, is looked up anew. */
static void refresh(struct core *c, const struct instance *i) {
	_cleanup_(json_free_ptr) json_t *mounts = mounts_without(&i->spec, ""), *patch = json_object();
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *after = NULL;
	_cleanup_(error_free) struct error err = ERROR_INIT;
	json_object_set(patch, "mounts", mounts);
	if (instance_change_mounts(c, i->project, i->id, patch, &after, &err) < 0)
		log_warn("instance %s does not know where its volumes are until it is changed: %s", i->spec.name, error_text(&err));
}

static bool names_volume(const struct instance *i, const char *id) {
	for (size_t k = 0; k < i->volumes.n; k++)
		if (str_same(i->volumes.items[k].volume_id, id))
			return true;
	return false;
}

void volume_users_refresh(struct core *c, const char *id) {
	void *value;
	core_lock(c);
	struct instance_snap **users = alloc_array(map_count(c->by_id) + 1, sizeof(struct instance_snap *));
	for (size_t i = 0, n = 0; map_next(c->by_id, &i, NULL, &value);) {
		const struct entry *e = value;
		if (!e->leaving && names_volume(&e->snap->instance, id))
			users[n++] = instance_snap_ref(e->snap);
	}
	core_unlock(c);
	for (struct instance_snap **u = users; *u; u++) {
		refresh(c, &(*u)->instance);
		instance_snap_unref(*u);
	}
	free(users);
}
