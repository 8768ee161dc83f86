/* Pools: where volumes and the roots of instances live. */
#include "core/core-priv.h"

#include "base/log.h"
#include "base/str.h"
#include "base/time.h"
#include "core/volumes.h"

const struct noun_kind pool_kind = {
	.prefix = "pools",
	.noun = "pool",
	.table = &pool_table,
	.id = offsetof(struct pool, id),
	.name = offsetof(struct pool, spec.name),
	.labels = offsetof(struct pool, spec.labels),
	.project = NO_PROJECT,
};

/* The pool that every host has: the agent makes it by itself. */
static struct pool *local_pool(void) {
	struct pool *p = NEW(struct pool);
	fields_init(&pool_table, p);
	p->id = str_copy(POOL_LOCAL_ID);
	p->spec.name = str_copy("local");
	p->spec.description = str_copy("In wabe's own directory");
	free(p->status.state);
	p->status.state = str_copy("ready");
	return p;
}

int pools_read(struct core *c, struct error *err) {
	int r = nouns_load(c, c->pools, err);
	if (r < 0 || noun_by_id(c->pools, POOL_LOCAL_ID))
		return r;
	struct pool *p = local_pool();
	noun_replace(c->pools, p);
	fields_free(&pool_table, p);
	free(p);
	return 0;
}

/* What the agent says of it, in memory alone. Needs the lock. */
static void apply_status(struct core *c, const struct msg_pool_state *state) {
	struct noun *o = noun_by_id(c->pools, state->id);
	if (!o)
		return;
	struct pool changed = *(const struct pool *)o->of;
	changed.status = state->status;
	noun_replace(c->pools, &changed);
}

static int call_pool(struct core *c, const char *request, const void *body, struct error *err) {
	struct msg_pool_state state = {0};
	int r = agent_call(c, request, body, &state, err);
	if (r < 0)
		return r;
	WITH_LOCK(c);
	apply_status(c, &state);
	fields_free(&msg_pool_state_table, &state);
	return 0;
}

int pool_create(struct core *c, struct pool_spec *spec, struct noun **out, struct error *err) {
	_cleanup_(free_ptr) char *id = random_hex(INSTANCE_ID_LEN / 2);
	_cleanup_(held_release) struct held h = hold(c, "pool-name", spec->name);
	struct pool p = {.id = id, .created_at = time_now_ns(), .spec = *spec, .status = {.state = (char *)"unavailable"}};
	core_lock(c);
	int r = noun_name_free(c->pools, NULL, spec->name, err);
	core_unlock(c);
	/* The store first: what the agent has and the store has not is removed again. */
	if (r == 0)
		r = noun_save(c, c->pools, &p, "create", NULL, 0, NULL, err);
	if (r == 0) {
		r = call_pool(c, "pool-create", &p, err);
		_cleanup_(error_free) struct error undo = ERROR_INIT;
		if (r < 0 && noun_delete(c, c->pools, &p, NULL, 0, &undo) < 0)
			log_error("pool %s could not be made, and stays in the store: %s", spec->name, error_text(&undo));
	}
	if (r == 0)
		r = noun_get(c, c->pools, NULL, id, out, err);
	fields_free(&pool_spec_table, spec);
	return r;
}

/* A pool that the agent cannot look at is shown as unavailable. */
static void refresh(struct core *c, const char *id) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct msg_object body = {.id = (char *)id};
	if (call_pool(c, "pool-status", &body, &err) == 0)
		return;
	struct msg_pool_state away = {.id = (char *)id,
				      .status = {.state = (char *)"unavailable", .error = (char *)error_text(&err)}};
	WITH_LOCK(c);
	apply_status(c, &away);
}

int pool_find(struct core *c, const char *name, struct noun **out, struct error *err) {
	_cleanup_(noun_unref_ptr) struct noun *o = NULL;
	int r = noun_get(c, c->pools, NULL, name, &o, err);
	if (r < 0)
		return r;
	const char *id = ((const struct pool *)o->of)->id;
	refresh(c, id);
	return noun_get(c, c->pools, NULL, id, out, err);
}

int pool_list(struct core *c, char *const *labels, char **json, size_t *len, struct error *err) {
	return nouns_text(c, c->pools, NULL, labels, json, len, err);
}

int pool_update(struct core *c, const char *name, const json_t *patch, struct noun **out, struct error *err) {
	_cleanup_(noun_unref_ptr) struct noun *o = NULL;
	int r = noun_get(c, c->pools, NULL, name, &o, err);
	if (r < 0)
		return r;
	const struct pool *old = o->of;
	_cleanup_(held_release) struct held h = hold(c, "pool", old->id);
	struct pool new;
	fields_copy(&pool_table, old, &new);
	r = fields_patch(&pool_spec_table, patch, false, &new.spec, err);
	if (r == 0)
		r = call_pool(c, "pool-create", &new, err);
	if (r == 0)
		r = noun_save(c, c->pools, &new, "update", NULL, 0, out, err);
	fields_free(&pool_table, &new);
	return r;
}

/* Who lives in it. Needs the lock. */
static int check_empty(struct core *c, const struct pool *p, struct error *err) {
	struct noun *o;
	void *value;
	for (size_t i = 0; (o = nouns_next(c->volumes, &i));) {
		const struct volume *v = o->of;
		if (str_same(v->spec.pool, p->spec.name))
			return error_set(err, ERROR_CONFLICT, "volume %s lives in pool %s: remove or move it first", v->spec.name,
					 p->spec.name);
	}
	for (size_t i = 0; map_next(c->by_id, &i, NULL, &value);) {
		const struct instance *one = &((const struct entry *)value)->snap->instance;
		if (str_same(one->pool_id, p->id))
			return error_set(err, ERROR_CONFLICT, "the root of instance %s lives in pool %s", one->spec.name,
					 p->spec.name);
	}
	return 0;
}

int pool_delete(struct core *c, const char *name, struct error *err) {
	_cleanup_(noun_unref_ptr) struct noun *o = NULL;
	int r = noun_get(c, c->pools, NULL, name, &o, err);
	if (r < 0)
		return r;
	const struct pool *p = o->of;
	if (str_same(p->id, POOL_LOCAL_ID))
		return error_set(err, ERROR_CONFLICT, "the pool local is part of wabe");
	_cleanup_(held_release) struct held h = hold(c, "pool", p->id);
	core_lock(c);
	r = check_empty(c, p, err);
	core_unlock(c);
	struct msg_object body = {.id = p->id};
	if (r == 0)
		r = templates_drop(c, p->id, err);
	if (r == 0)
		r = agent_call(c, "pool-delete", &body, NULL, err);
	return r < 0 ? r : noun_delete(c, c->pools, p, NULL, 0, err);
}

/* ---- putting both sides in order ---- */

static void make_again(struct core *c, const struct pool *p) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	if (call_pool(c, "pool-create", p, &err) < 0)
		log_warn("pool %s: %s", p->spec.name, error_text(&err));
}

static int take_states(struct core *c, struct map *known, struct error *err) {
	struct msg_empty empty = {0};
	struct msg_pool_states list = {0};
	int r = agent_call(c, "pool-list", &empty, &list, err);
	if (r < 0)
		return r;
	WITH_LOCK(c);
	for (size_t i = 0; i < list.pools.n; i++) {
		apply_status(c, &list.pools.items[i]);
		map_set(known, list.pools.items[i].id, c);
	}
	fields_free(&msg_pool_states_table, &list);
	return 0;
}

static void remove_unknown(struct core *c, const char *id) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct msg_object body = {.id = (char *)id};
	log_info("removing pool %.12s, which the store does not know", id);
	if (agent_call(c, "pool-delete", &body, NULL, &err) < 0)
		log_warn("removing pool %.12s: %s", id, error_text(&err));
}

int pools_resync(struct core *c, struct error *err) {
	_cleanup_(map_free_ptr) struct map *known = map_new(NULL);
	int r = take_states(c, known, err);
	if (r < 0)
		return r;
	_cleanup_(strv_free_ptr) char **unknown = NULL;
	struct noun *o, *missing[64];
	const char *id;
	size_t n = 0;
	core_lock(c);
	for (size_t i = 0; map_next(known, &i, &id, NULL);)
		if (!noun_by_id(c->pools, id))
			strv_add(&unknown, id);
	for (size_t i = 0; n < ARRAY_SIZE(missing) && (o = nouns_next(c->pools, &i));)
		if (!map_get(known, ((const struct pool *)o->of)->id))
			missing[n++] = noun_ref(o);
	core_unlock(c);
	for (size_t i = 0; i < n; i++) {
		make_again(c, missing[i]->of);
		noun_unref(missing[i]);
	}
	for (char **u = unknown; u && *u; u++)
		remove_unknown(c, *u);
	return 0;
}
