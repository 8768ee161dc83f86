/* Disks of machines that run move into other pools: the agent does it, and says where the disk is in the end; the store follows. A
 * control that dies meanwhile finds the disk again when both sides are put in order. */
#include "core/volumes.h"

#include "base/log.h"
#include "base/str.h"
#include "core/tasks.h"
#include "core/volumes-priv.h"

#define SETTLE_TRIES 6 /* each waits as long as the agent waits for a lock */
#define SIZE_LEAST (1 << 20) /* the agent knows how large a root is whose image says it */

struct instance_snap *volume_runner(struct core *c, const char *id) {
	void *value;
	for (size_t i = 0; map_next(c->by_id, &i, NULL, &value);) {
		const struct entry *e = value;
		const struct instance *one = &e->snap->instance;
		for (size_t k = 0; !e->leaving && state_is_up(one->status.state) && k < one->volumes.n; k++)
			if (str_same(one->volumes.items[k].volume_id, id))
				return instance_snap_ref(e->snap);
	}
	return NULL;
}

/* Where it is now, once nobody works on it any more. */
static bool has_moved(struct core *c, const struct msg_disk_move *body) {
	struct msg_disk_move ask = *body;
	ask.settle = true;
	int r = -ERROR_BUSY;
	for (int i = 0; r == -ERROR_BUSY && i < SETTLE_TRIES; i++) {
		_cleanup_(error_free) struct error err = ERROR_INIT;
		struct msg_volume_ref at = {0};
		r = agent_call(c, "machine-disk-move", &ask, &at, &err);
		bool moved = r == 0 && str_same(at.pool_id, body->pool_id);
		if (r == 0)
			fields_free(&msg_volume_ref_table, &at);
		else
			log_warn("disk %.12s: %s", body->volume.id, error_text(&err));
		if (moved)
			return true;
	}
	return false;
}

/* Cancelled too late it has moved all the same. */
static int move_disk(struct core *c, struct task_run *t, const struct msg_disk_move *body, struct error *err) {
	int r = agent_task(c, t, "machine-disk-move", body, NULL, err);
	if (r < 0 && has_moved(c, body)) {
		error_free(err);
		r = 0;
	}
	return r;
}

/* ---- a volume ---- */

int disk_move_volume(struct core *c, struct task_run *t, const struct volume *v, const struct instance_snap *user, const char *pool,
		     struct error *err) {
	_cleanup_(free_ptr) char *from = NULL, *to = NULL;
	int r = pool_id_of(c, v->spec.pool, &from, err);
	if (r == 0)
		r = pool_id_of(c, pool, &to, err);
	if (r < 0 || str_same(from, to))
		return r;
	struct volume moved = *v;
	moved.spec.pool = (char *)pool;
	core_lock(c);
	_cleanup_(strv_free_ptr) char **snapshots = snapshots_names(c, v->id);
	core_unlock(c);
	struct msg_disk_move body = {
		.id = user->instance.id, .pool_id = to, .from = from, .volume = moved, .snapshots = snapshots};
	r = move_disk(c, t, &body, err);
	if (r == 0)
		r = noun_save(c, c->volumes, &moved, "move", NULL, 0, NULL, err);
	if (r == 0)
		volume_users_refresh(c, v->id);
	return r;
}

/* ---- a root ---- */

struct root_move {
	char *project, *id, *pool;
};

static void root_move_free(void *arg) {
	struct root_move *k = arg;
	free(k->project);
	free(k->id);
	free(k->pool);
	free(k);
}

static int check_machine(const struct instance *i, struct error *err) {
	if (!instance_is_machine(&i->spec))
		return error_set(err, ERROR_UNSUPPORTED, "instance %s is a container: only the root of a machine moves into another pool",
				 i->spec.name);
	if (!state_is_up(i->status.state))
		return error_set(err, ERROR_CONFLICT, "machine %s is %s: its root moves while it runs", i->spec.name, i->status.state);
	return 0;
}

static int root_move_run(struct core *c, struct task_run *t, void *arg, char **result, struct error *err) {
	struct root_move *k = arg;
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL;
	_cleanup_(held_release) struct held h = hold(c, "instance", k->id); /* its snapshots stay meanwhile */
	_cleanup_(free_ptr) char *to = NULL;
	int r = instance_get(c, k->project, k->id, &snap, err);
	if (r == 0)
		r = check_machine(&snap->instance, err);
	if (r == 0)
		r = pool_id_of(c, k->pool, &to, err);
	if (r < 0)
		return r;
	const struct instance *i = &snap->instance;
	const char *from = i->pool_id ? i->pool_id : POOL_LOCAL_ID;
	if (str_same(from, to))
		return 0;
	core_lock(c);
	_cleanup_(strv_free_ptr) char **snapshots = snapshots_names(c, i->id);
	core_unlock(c);
	struct msg_disk_move body = {
		.id = i->id,
		.pool_id = to,
		.from = (char *)from,
		.volume = {.id = i->id, .project = k->project, .created_at = i->created_at,
			   .spec = {.name = i->spec.name, .pool = k->pool, .kind = (char *)"block",
				    .size = MAX(i->spec.root_size, SIZE_LEAST)}},
		.snapshots = snapshots,
	};
	r = move_disk(c, t, &body, err);
	if (r == 0)
		r = instance_set_pool(c, k->project, k->id, k->pool, to, err);
	if (r == 0)
		*result = str_copy(k->id);
	return r;
}

int instance_move(struct core *c, const char *project, const char *name, const char *pool, char **task, struct error *err) {
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL;
	_cleanup_(free_ptr) char *to = NULL;
	int r = instance_get(c, project, name, &snap, err);
	if (r == 0 && !pool)
		r = error_field(err, "pool", "say where the root moves");
	if (r == 0)
		r = check_machine(&snap->instance, err);
	if (r == 0)
		r = pool_id_of(c, pool, &to, err);
	if (r < 0)
		return r;
	struct root_move *k = NEW(struct root_move);
	*k = (struct root_move){str_copy(project), str_copy(snap->instance.id), str_copy(pool)};
	return task_start(c, project, "instance-move", snap->instance.spec.name, snap->instance.id, root_move_run, k, root_move_free, task, err);
}

/* ---- after a crash ---- */

static bool pool_has(struct core *c, const char *pool_id, const char *id) {
	struct msg_object body = {.id = (char *)pool_id};
	struct msg_volumes list = {0};
	if (agent_call(c, "volume-list", &body, &list, NULL) < 0)
		return true; /* as far as anybody knows */
	bool has = strv_has(list.ids, id);
	fields_free(&msg_volumes_table, &list);
	return has;
}

static bool adopt_volume(struct core *c, const struct pool *p, const struct volume *v) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(free_ptr) char *was = NULL;
	if (pool_id_of(c, v->spec.pool, &was, &err) < 0 || pool_has(c, was, v->id))
		return false;
	struct volume moved = *v;
	moved.spec.pool = p->spec.name;
	if (noun_save(c, c->volumes, &moved, "move", NULL, 0, NULL, &err) < 0)
		log_warn("volume %s is in the pool %s now: %s", v->spec.name, p->spec.name, error_text(&err));
	else
		volume_users_refresh(c, v->id);
	return true;
}

static bool adopt_root(struct core *c, const struct pool *p, const struct instance *i) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	if (pool_has(c, i->pool_id ? i->pool_id : POOL_LOCAL_ID, i->id))
		return false;
	if (instance_set_pool(c, i->project, i->id, p->spec.name, p->id, &err) < 0)
		log_warn("the root of %s is in the pool %s now: %s", i->spec.name, p->spec.name, error_text(&err));
	return true;
}

bool disk_move_adopt(struct core *c, const struct pool *p, const char *id) {
	core_lock(c);
	struct noun *o = noun_by_id(c->volumes, id);
	_cleanup_(noun_unref_ptr) struct noun *volume = o ? noun_ref(o) : NULL;
	const struct entry *e = map_get(c->by_id, id);
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *root = e ? instance_snap_ref(e->snap) : NULL;
	core_unlock(c);
	if (volume)
		return adopt_volume(c, p, volume->of);
	return root && adopt_root(c, p, &root->instance);
}
