/* Volumes. The agent makes one before the store knows it, and removes it after the store has forgotten it: what the
 * agent has and the store has not is never anybody's data. */
#include "core/volumes.h"

#include "base/log.h"
#include "base/str.h"
#include "base/time.h"
#include "core/volumes-priv.h"
#include "model/migration.h"

const struct noun_kind volume_kind = {
	.prefix = "volumes",
	.noun = "volume",
	.table = &volume_table,
	.id = offsetof(struct volume, id),
	.name = offsetof(struct volume, spec.name),
	.labels = offsetof(struct volume, spec.labels),
	.project = offsetof(struct volume, project),
};

int pool_id_of(struct core *c, const char *name, char **id, struct error *err) {
	struct error why = ERROR_INIT;
	WITH_LOCK(c);
	struct noun *o = noun_find(c, c->pools, NULL, name, &why);
	if (!o) {
		error_in_field(&why, "pool");
		return error_move(err, &why);
	}
	*id = str_copy(((const struct pool *)o->of)->id);
	return 0;
}

const char *volume_user(struct core *c, const char *id, bool running) {
	void *value;
	for (size_t i = 0; map_next(c->by_id, &i, NULL, &value);) {
		const struct entry *e = value;
		const struct instance *one = &e->snap->instance;
		if (e->leaving || (running && !state_is_up(one->status.state) && !str_same(one->status.state, "suspended")))
			continue;
		for (size_t k = 0; k < one->volumes.n; k++)
			if (str_same(one->volumes.items[k].volume_id, id))
				return one->spec.name;
	}
	return NULL;
}

const char *volume_other_user(struct core *c, const char *id, const char *but) {
	void *value;
	for (size_t i = 0; map_next(c->by_id, &i, NULL, &value);) {
		const struct instance *one = &((const struct entry *)value)->snap->instance;
		for (size_t k = 0; k < one->volumes.n; k++)
			if (!str_same(one->id, but) && str_same(one->volumes.items[k].volume_id, id))
				return one->spec.name;
	}
	return NULL;
}

/* ---- making ---- */

/* A new volume that nobody sees yet: its id is kept from being cleaned away, its name from being taken. */
struct making {
	struct core *core;
	struct held name;
	struct volume volume; /* borrows project and spec */
	char *pool_id;
};

static void making_end(struct making *m) {
	if (m->volume.id) {
		core_lock(m->core);
		map_remove(m->core->making, m->volume.id);
		core_unlock(m->core);
	}
	free(m->volume.id);
	free(m->pool_id);
	held_release(&m->name);
}

static int making_begin(struct core *c, const char *project, const struct volume_spec *spec, struct making *m,
			struct error *err) {
	_cleanup_(free_ptr) char *key = str_format("%s/%s", project, spec->name);
	*m = (struct making){.core = c, .name = hold(c, "volume-name", key)};
	int r = pool_id_of(c, spec->pool, &m->pool_id, err);
	if (r < 0)
		return r;
	m->volume = (struct volume){
		.id = random_hex(INSTANCE_ID_LEN / 2),
		.project = (char *)project,
		.created_at = time_now_ns(),
		.spec = *spec,
	};
	WITH_LOCK(c);
	map_set(c->making, m->volume.id, c);
	r = core_project_check(c, project, err);
	return r < 0 ? r : noun_name_free(c->volumes, project, spec->name, err);
}

static void remove_made(struct core *c, const struct making *m) {
	struct msg_volume_ref body = {.pool_id = m->pool_id, .id = m->volume.id};
	_cleanup_(error_free) struct error err = ERROR_INIT;
	if (agent_call(c, "volume-delete", &body, NULL, &err) < 0)
		log_warn("volume %.12s is left over until the next start: %s", m->volume.id, error_text(&err));
}

/* The agent has made it (made 0) or not. */
static int making_finish(struct core *c, const struct making *m, int made, struct noun **out, struct error *err) {
	if (made < 0)
		return made;
	int r = noun_save(c, c->volumes, &m->volume, "create", NULL, 0, out, err);
	if (r < 0)
		remove_made(c, m);
	return r;
}

int volume_create(struct core *c, const char *project, struct volume_spec *spec, struct noun **out, struct error *err) {
	_cleanup_(making_end) struct making m;
	if (!spec->name)
		spec->name = random_hex(INSTANCE_ID_LEN / 2);
	int r = making_begin(c, project, spec, &m, err);
	if (r == 0) {
		struct msg_volume_create body = {.pool_id = m.pool_id, .volume = m.volume};
		struct msg_volume_usage made = {0};
		r = agent_call(c, "volume-create", &body, &made, err);
		m.volume.path = made.path;
		r = making_finish(c, &m, r, out, err);
		fields_free(&msg_volume_usage_table, &made);
	}
	fields_free(&volume_spec_table, spec);
	return r;
}

int volume_create_arriving(struct core *c, const char *project, const struct migration_disk *d, struct error *err) {
	_cleanup_(making_end) struct making m;
	struct volume_spec spec = d->spec;
	int r = making_begin(c, project, &spec, &m, err);
	if (r < 0)
		return r;
	core_lock(c);
	bool taken = noun_by_id(c->volumes, d->id) || map_get(c->making, d->id);
	if (!taken) {
		map_remove(c->making, m.volume.id);
		free(m.volume.id);
		m.volume.id = str_copy(d->id);
		map_set(c->making, m.volume.id, c);
	}
	core_unlock(c);
	if (taken)
		return error_set(err, ERROR_EXISTS, "volume %.12s is here already", d->id);
	m.volume.transient = true;
	struct msg_volume_create body = {.pool_id = m.pool_id, .volume = m.volume};
	r = agent_call(c, "volume-create", &body, NULL, err);
	return making_finish(c, &m, r, NULL, err);
}

static int import(struct core *c, const char *project, struct volume_spec *spec, bool transient, const char *format, int fd,
		  struct noun **out, struct error *err) {
	_cleanup_(making_end) struct making m;
	if (!spec->name)
		spec->name = random_hex(INSTANCE_ID_LEN / 2);
	int r = making_begin(c, project, spec, &m, err);
	m.volume.transient = transient;
	if (r == 0) {
		struct msg_volume_data body = {.pool_id = m.pool_id, .volume = m.volume, .format = (char *)format};
		r = making_finish(c, &m, agent_call_fd(c, "volume-import", &body, fd, NULL, NULL, err), out, err);
	}
	fields_free(&volume_spec_table, spec);
	return r;
}

int volume_import(struct core *c, const char *project, struct volume_spec *spec, const char *format, int fd,
		  struct noun **out, struct error *err) {
	return import(c, project, spec, false, format, fd, out, err);
}

int volume_import_passing(struct core *c, const char *project, struct volume_spec *spec, const char *format, int fd,
			  struct noun **out, struct error *err) {
	return import(c, project, spec, true, format, fd, out, err);
}

/* ---- looking ---- */

int volume_find(struct core *c, const char *project, const char *name, struct noun **out, struct error *err) {
	return noun_get(c, c->volumes, project, name, out, err);
}

int volume_get(struct core *c, const char *project, const char *name, struct noun **out, struct error *err) {
	_cleanup_(noun_unref_ptr) struct noun *o = NULL;
	_cleanup_(free_ptr) char *pool_id = NULL;
	int r = noun_get(c, c->volumes, project, name, &o, err);
	if (r < 0)
		return r;
	const struct volume *v = o->of;
	struct msg_volume_usage usage = {0};
	struct msg_volume_ref body = {.id = v->id};
	r = pool_id_of(c, v->spec.pool, &pool_id, NULL);
	body.pool_id = pool_id;
	if (r == 0 && agent_call(c, "volume-usage", &body, &usage, NULL) == 0) {
		WITH_LOCK(c);
		struct noun *now = noun_by_id(c->volumes, v->id);
		if (now) {
			struct volume changed = *(const struct volume *)now->of;
			changed.used = usage.used;
			changed.path = usage.path ? usage.path : changed.path;
			noun_replace(c->volumes, &changed);
		}
		fields_free(&msg_volume_usage_table, &usage);
	}
	return noun_get(c, c->volumes, project, v->id, out, err);
}

int volume_list(struct core *c, const char *project, char *const *labels, char **json, size_t *len, struct error *err) {
	return nouns_text(c, c->volumes, project, labels, json, len, err);
}

int volume_snaps(struct core *c, const char *project, struct noun ***out, struct error *err) {
	WITH_LOCK(c);
	int r = core_project_check(c, project, err);
	if (r < 0)
		return r;
	struct noun **all = alloc_array(nouns_count(c->volumes) + 1, sizeof(struct noun *)), *o;
	for (size_t i = 0, n = 0; (o = nouns_next(c->volumes, &i));)
		if (str_same(((const struct volume *)o->of)->project, project))
			all[n++] = noun_ref(o);
	*out = all;
	return 0;
}

/* ---- changing ---- */

/* Holds a volume and gives it as it is then. */
int volume_take_hold(struct core *c, const char *project, const char *name, struct held *h, struct noun **out,
		struct error *err) {
	_cleanup_(noun_unref_ptr) struct noun *o = NULL;
	int r = noun_get(c, c->volumes, project, name, &o, err);
	if (r < 0)
		return r;
	const char *id = ((const struct volume *)o->of)->id;
	*h = hold(c, "volume", id);
	return noun_get(c, c->volumes, project, id, out, err);
}

static int resize(struct core *c, const struct volume *v, int64_t size, struct error *err) {
	_cleanup_(free_ptr) char *pool_id = NULL;
	int r = pool_id_of(c, v->spec.pool, &pool_id, err);
	struct msg_volume_resize body = {.pool_id = pool_id, .id = v->id, .size = size};
	if (r == 0)
		r = agent_call(c, "volume-resize", &body, NULL, err);
	return r;
}

static int rename_check(struct core *c, const struct volume *old, const struct volume *new, struct error *err) {
	WITH_LOCK(c);
	const char *user = volume_user(c, old->id, false);
	if (user)
		return error_set(err, ERROR_CONFLICT, "volume %s cannot be renamed while instance %s mounts it by that name",
				 old->spec.name, user);
	return noun_name_free(c->volumes, new->project, new->spec.name, err);
}

int volume_update(struct core *c, const char *project, const char *name, const json_t *patch, struct noun **out,
		  struct error *err) {
	_cleanup_(held_release) struct held h = {0};
	_cleanup_(noun_unref_ptr) struct noun *o = NULL;
	int r = volume_take_hold(c, project, name, &h, &o, err);
	if (r < 0)
		return r;
	const struct volume *old = o->of;
	struct volume new;
	fields_copy(&volume_table, old, &new);
	r = fields_patch(&volume_spec_table, patch, false, &new.spec, err);
	bool renamed = r == 0 && !str_same(new.spec.name, old->spec.name);
	_cleanup_(free_ptr) char *key = str_format("%s/%s", project, renamed ? new.spec.name : "");
	_cleanup_(held_release) struct held name_held = renamed ? hold(c, "volume-name", key) : (struct held){0};
	if (renamed)
		r = rename_check(c, old, &new, err);
	if (r == 0 && new.spec.size != old->spec.size)
		r = resize(c, old, new.spec.size, err);
	if (r == 0)
		r = noun_save(c, c->volumes, &new, renamed ? "rename" : "update", NULL, 0, out, err);
	fields_free(&volume_table, &new);
	return r;
}

/* ---- removing ---- */

static int delete_held(struct core *c, const struct volume *v, struct error *err) {
	core_lock(c);
	const char *user = volume_user(c, v->id, false);
	int r = user ? error_set(err, ERROR_CONFLICT, "volume %s is mounted by instance %s: remove that one first",
				 v->spec.name, user)
		     : 0;
	core_unlock(c);
	_cleanup_(free_ptr) char *pool_id = NULL, *snapshots_key = str_format("snapshots/%s", v->id);
	if (r == 0)
		r = pool_id_of(c, v->spec.pool, &pool_id, err);
	struct msg_volume_ref body = {.pool_id = pool_id, .id = v->id};
	struct store_op with = {STORE_DELETE, snapshots_key, NULL, STORE_ANY};
	if (r == 0)
		r = noun_delete(c, c->volumes, v, &with, 1, err);
	if (r < 0)
		return r;
	snapshots_forget(c, v->id);
	r = agent_call(c, "volume-delete", &body, NULL, err);
	if (r < 0) /* it stays until both sides are put in order again; to who asked it is still there */
		noun_save(c, c->volumes, v, "create", NULL, 0, NULL, NULL);
	return r;
}

int volume_delete(struct core *c, const char *project, const char *name, struct error *err) {
	_cleanup_(held_release) struct held h = {0};
	_cleanup_(noun_unref_ptr) struct noun *o = NULL;
	int r = volume_take_hold(c, project, name, &h, &o, err);
	return r < 0 ? r : delete_held(c, o->of, err);
}

int volume_prune(struct core *c, const char *project, char ***deleted, struct error *err) {
	_cleanup_(strv_free_ptr) char **unused = NULL;
	struct noun *o;
	core_lock(c);
	int r = core_project_check(c, project, err);
	for (size_t i = 0; r == 0 && (o = nouns_next(c->volumes, &i));) {
		const struct volume *v = o->of;
		if (str_same(v->project, project) && !volume_user(c, v->id, false))
			strv_add(&unused, v->spec.name);
	}
	core_unlock(c);
	*deleted = NULL;
	for (char **name = unused; r == 0 && name && *name; name++) {
		_cleanup_(error_free) struct error one = ERROR_INIT;
		int gone = volume_delete(c, project, *name, &one);
		if (gone == 0)
			strv_add(deleted, *name);
		else if (one.kind != ERROR_NOT_FOUND && one.kind != ERROR_CONFLICT)
			r = error_move(err, &one);
	}
	return r;
}

/* ---- content ---- */

int volume_export(struct core *c, const char *project, const char *name, const char *snapshot, const char *format,
		  int *fd, struct error *err) {
	_cleanup_(noun_unref_ptr) struct noun *o = NULL;
	_cleanup_(free_ptr) char *pool_id = NULL;
	int r = noun_get(c, c->volumes, project, name, &o, err);
	if (r < 0)
		return r;
	const struct volume *v = o->of;
	r = pool_id_of(c, v->spec.pool, &pool_id, err);
	struct msg_volume_data body = {.pool_id = pool_id, .volume = *v, .snapshot = (char *)snapshot, .format = (char *)format};
	return r < 0 ? r : agent_call_fd(c, "volume-export", &body, -1, NULL, fd, err);
}

/* ---- copies and moves, as tasks ---- */

struct copy {
	char *project, *name, *new_name, *pool, *snapshot;
	bool linked;
};

static void copy_free(void *arg) {
	struct copy *k = arg;
	free(k->project);
	free(k->name);
	free(k->new_name);
	free(k->pool);
	free(k->snapshot);
	free(k);
}

/* Of a volume that is held. */
static int copy_held(struct core *c, struct task_run *t, const struct copy *k, const struct volume *from, struct volume_spec *spec,
		     bool transient, struct noun **out, struct error *err) {
	_cleanup_(free_ptr) char *from_pool = NULL;
	_cleanup_(making_end) struct making m;
	int r = making_begin(c, k->project, spec, &m, err);
	m.volume.transient = transient;
	if (r == 0)
		r = pool_id_of(c, from->spec.pool, &from_pool, err);
	struct msg_volume_create body = {
		.pool_id = m.pool_id,
		.volume = m.volume,
		.from = {.pool_id = from_pool, .id = from->id, .snapshot = k->snapshot},
		.linked = k->linked,
	};
	return r < 0 ? r : making_finish(c, &m, agent_task(c, t, "volume-create", &body, NULL, err), out, err);
}

static int copy_run(struct core *c, struct task_run *t, void *arg, char **result, struct error *err) {
	struct copy *k = arg;
	_cleanup_(held_release) struct held h = {0};
	_cleanup_(noun_unref_ptr) struct noun *o = NULL, *made = NULL;
	int r = volume_take_hold(c, k->project, k->name, &h, &o, err);
	if (r < 0)
		return r;
	const struct volume *from = o->of;
	struct volume_spec spec = from->spec;
	spec.name = k->new_name;
	if (k->pool)
		spec.pool = k->pool;
	spec.schedule = (struct snapshot_schedule){0};
	r = copy_held(c, t, k, from, &spec, false, &made, err);
	if (r == 0)
		*result = str_copy(((const struct volume *)made->of)->id);
	return r;
}

static int check_still(struct core *c, const struct volume *v, struct error *err) {
	WITH_LOCK(c);
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *runner = volume_runner(c, v->id);
	return !runner ? 0 : error_set(err, ERROR_CONFLICT, "instance %s runs with the disk %s, a copy of which would not be of one "
				       "moment: stop it first, or detach the disk", runner->instance.spec.name, v->spec.name);
}

int disk_copy_passing(struct core *c, struct task_run *t, const char *project, const char *name, bool linked, struct noun **out,
		      struct error *err) {
	const struct copy k = {.project = (char *)project, .linked = linked};
	_cleanup_(held_release) struct held h = {0};
	_cleanup_(noun_unref_ptr) struct noun *o = NULL;
	int r = volume_take_hold(c, project, name, &h, &o, err);
	if (r == 0)
		r = check_still(c, o->of, err);
	if (r < 0)
		return r;
	struct volume_spec spec;
	fields_copy(&volume_spec_table, &((const struct volume *)o->of)->spec, &spec);
	free(spec.name);
	spec.name = random_hex(INSTANCE_ID_LEN / 2);
	spec.schedule = (struct snapshot_schedule){0};
	pairs_set(&spec.labels, ANONYMOUS_VOLUME, "true");
	r = copy_held(c, t, &k, o->of, &spec, true, out, err);
	fields_free(&volume_spec_table, &spec);
	return r;
}

/* The copy has the same id in the other pool; the store's word moves it. */
static int move_held(struct core *c, struct task_run *t, const struct volume *v, const char *pool, struct error *err) {
	_cleanup_(free_ptr) char *from_pool = NULL, *to_pool = NULL;
	_cleanup_(strv_free_ptr) char **snapshots = NULL;
	int r = pool_id_of(c, v->spec.pool, &from_pool, err);
	if (r == 0)
		r = pool_id_of(c, pool, &to_pool, err);
	if (r < 0 || str_same(from_pool, to_pool))
		return r;
	struct volume moved = *v;
	moved.spec.pool = (char *)pool;
	core_lock(c);
	snapshots = snapshots_names(c, v->id);
	core_unlock(c);
	struct msg_volume_create body = {.pool_id = to_pool, .volume = moved, .from = {.pool_id = from_pool, .id = v->id},
					 .snapshots = snapshots};
	r = agent_task(c, t, "volume-create", &body, NULL, err);
	if (r < 0)
		return r;
	r = noun_save(c, c->volumes, &moved, "move", NULL, 0, NULL, err);
	struct msg_volume_ref old = {.pool_id = r < 0 ? to_pool : from_pool, .id = v->id};
	_cleanup_(error_free) struct error left = ERROR_INIT;
	if (agent_call(c, "volume-delete", &old, NULL, &left) < 0)
		log_warn("a copy of volume %s stays in its former pool until the next start: %s", v->spec.name, error_text(&left));
	return r;
}

static int move_run(struct core *c, struct task_run *t, void *arg, char **result, struct error *err) {
	struct copy *k = arg;
	_cleanup_(held_release) struct held h = {0};
	_cleanup_(noun_unref_ptr) struct noun *o = NULL;
	int r = volume_take_hold(c, k->project, k->name, &h, &o, err);
	if (r < 0)
		return r;
	const struct volume *v = o->of;
	core_lock(c);
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *runner = str_same(v->spec.kind, "block") ? volume_runner(c, v->id) : NULL;
	const char *user = runner ? NULL : volume_user(c, v->id, false);
	if (user)
		r = error_set(err, ERROR_CONFLICT, "volume %s is mounted by instance %s: detach it first", v->spec.name, user);
	core_unlock(c);
	if (r == 0)
		r = runner ? disk_move_volume(c, t, v, runner, k->pool, err) : move_held(c, t, v, k->pool, err);
	if (r == 0)
		*result = str_copy(v->id);
	return r;
}

int volume_duplicate(struct core *c, const char *project, const char *name, const struct volume_copy_options *o, char **task,
		struct error *err) {
	_cleanup_(noun_unref_ptr) struct noun *from = NULL;
	int r = noun_get(c, c->volumes, project, name, &from, err);
	if (r < 0)
		return r;
	if (!o->name && !o->pool)
		return error_field(err, "pool", "say where the volume moves");
	const struct volume *v = from->of;
	struct copy *k = NEW(struct copy);
	*k = (struct copy){str_copy(project), str_copy(v->id), copy_or_null(o->name), copy_or_null(o->pool),
			   copy_or_null(o->snapshot), o->linked};
	return task_start(c, project, o->name ? "volume-copy" : "volume-move", v->spec.name, NULL, o->name ? copy_run : move_run,
			  k, copy_free, task, err);
}

/* ---- putting both sides in order ---- */

/* Needs the lock. */
static bool is_known(struct core *c, const char *pool_name, const char *pool_id, const char *id) {
	struct noun *o = noun_by_id(c->volumes, id);
	if (o)
		return str_same(((const struct volume *)o->of)->spec.pool, pool_name);
	struct entry *e = map_get(c->by_id, id);
	if (template_known(c, pool_id, id))
		return true;
	return map_get(c->making, id) || (e && str_same(e->snap->instance.pool_id, pool_id));
}

static void resync_pool(struct core *c, const struct pool *p) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct msg_object body = {.id = p->id};
	struct msg_volumes list = {0};
	if (agent_call(c, "volume-list", &body, &list, &err) < 0) {
		log_warn("pool %s: %s", p->spec.name, error_text(&err));
		return;
	}
	for (char **id = list.ids; id && *id; id++) {
		core_lock(c);
		_cleanup_(free_ptr) char *busy = str_format("volume/%s", *id); /* a move under way has two */
		bool known = map_get(c->held, busy) || is_known(c, p->spec.name, p->id, *id);
		core_unlock(c);
		if (known || disk_move_adopt(c, p, *id))
			continue;
		struct msg_volume_ref unknown = {.pool_id = p->id, .id = *id};
		log_info("removing volume %.12s, which the store does not know", *id);
		if (agent_call(c, "volume-delete", &unknown, NULL, &err) < 0)
			log_warn("removing volume %.12s: %s", *id, error_text(&err));
	}
	fields_free(&msg_volumes_table, &list);
}

void volumes_note_left(struct core *c) {
	struct noun *o;
	for (size_t i = 0; (o = nouns_next(c->volumes, &i));)
		if (((const struct volume *)o->of)->transient)
			strv_add(&c->left_volumes, ((const struct volume *)o->of)->id);
}

void volumes_drop_left(struct core *c) {
	for (char **id = c->left_volumes; id && *id; id++) {
		_cleanup_(free_ptr) char *project = NULL;
		_cleanup_(error_free) struct error err = ERROR_INIT;
		core_lock(c);
		const struct noun *o = volume_user(c, *id, false) ? NULL : noun_by_id(c->volumes, *id);
		project = o ? str_copy(((const struct volume *)o->of)->project) : NULL;
		core_unlock(c);
		if (project && volume_delete(c, project, *id, &err) < 0 && err.kind != ERROR_NOT_FOUND)
			log_warn("volume %.12s of an operation that was cut off: %s", *id, error_text(&err));
	}
}

int volumes_resync(struct core *c, struct error *err) {
	struct noun *o, **pools;
	size_t n = 0;
	int r = pools_resync(c, err);
	if (r < 0)
		return r;
	core_lock(c);
	pools = alloc_array(nouns_count(c->pools) + 1, sizeof(struct noun *));
	for (size_t i = 0; (o = nouns_next(c->pools, &i));)
		pools[n++] = noun_ref(o);
	core_unlock(c);
	for (size_t i = 0; i < n; i++) {
		const struct pool *p = pools[i]->of;
		if (str_same(p->status.state, "ready"))
			resync_pool(c, p);
		noun_unref(pools[i]);
	}
	free(pools);
	volumes_drop_left(c);
	return 0;
}
