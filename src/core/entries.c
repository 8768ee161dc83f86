/* The instances in memory: snapshots, and finding one by what people call it. */
#include "core/core-priv.h"

#include "base/str.h"

struct instance_snap *instance_snap_new(const struct instance *i) {
	struct instance_snap *s = NEW(struct instance_snap);
	s->refs = 1;
	fields_copy(&instance_table, i, &s->instance);
	_cleanup_(json_free_ptr) json_t *json = fields_print(&instance_table, i);
	s->json = json_print(json);
	s->json_len = strlen(s->json);
	return s;
}

struct instance_snap *instance_snap_ref(struct instance_snap *s) {
	__atomic_add_fetch(&s->refs, 1, __ATOMIC_RELAXED);
	return s;
}

void instance_snap_unref(struct instance_snap *s) {
	if (!s || __atomic_sub_fetch(&s->refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	fields_free(&instance_table, &s->instance);
	free(s->json);
	free(s);
}

void entry_unref(struct core *c, struct entry *e) {
	core_lock(c);
	bool last = --e->refs == 0;
	core_unlock(c);
	if (!last)
		return;
	instance_snap_unref(e->snap);
	free(e);
}

void entry_ref_drop(struct entry_ref *r) {
	if (r->entry)
		entry_unref(r->core, r->entry);
}

char *name_key(const char *project, const char *name) {
	return str_format("%s/%s", project, name);
}

bool is_id_prefix(const char *text) {
	size_t n = strlen(text);
	return n >= 4 && n <= INSTANCE_ID_LEN && strspn(text, "0123456789abcdef") == n;
}

static bool visible(const struct entry *e, const char *project) {
	return !e->creating && str_same(e->snap->instance.project, project);
}

static struct entry *find_by_prefix(struct core *c, const char *project, const char *prefix, struct error *err) {
	struct entry *found = NULL;
	void *value;
	for (size_t i = 0; map_next(c->by_id, &i, NULL, &value);) {
		struct entry *e = value;
		if (!visible(e, project) || !str_starts(e->snap->instance.id, prefix))
			continue;
		if (found) {
			error_set(err, ERROR_INVALID, "%s is the beginning of two ids, %.12s (%s) and %.12s (%s)", prefix,
				  found->snap->instance.id, found->snap->instance.spec.name, e->snap->instance.id,
				  e->snap->instance.spec.name);
			return NULL;
		}
		found = e;
	}
	if (!found)
		error_set(err, ERROR_NOT_FOUND, "no instance is called %s", prefix);
	return found;
}

struct entry *entry_find(struct core *c, const char *project, const char *name, struct error *err) {
	if (core_project_check(c, project, err) < 0)
		return NULL;
	_cleanup_(free_ptr) char *key = name_key(project, name);
	struct entry *e = map_get(c->by_id, name); /* whatever others are called */
	if (e && visible(e, project))
		return e;
	e = map_get(c->by_name, key);
	if (e && visible(e, project))
		return e;
	if (is_id_prefix(name))
		return find_by_prefix(c, project, name, err);
	error_set(err, ERROR_NOT_FOUND, "no instance is called %.128s", name);
	return NULL;
}

int entry_get(struct core *c, const char *project, const char *name, struct entry **out, struct error *err) {
	WITH_LOCK(c);
	struct entry *e = entry_find(c, project, name, err);
	if (!e)
		return err ? -(int)err->kind : -ERROR_NOT_FOUND;
	e->refs++;
	*out = e;
	return 0;
}

bool state_is_up(const char *state) {
	return str_same(state, "running") || str_same(state, "paused") || str_same(state, "restarting");
}

struct instance_snap *entry_snap(struct core *c, struct entry *e) {
	WITH_LOCK(c);
	return instance_snap_ref(e->snap);
}

int entry_acquire(struct core *c, struct entry *e, struct error *err) {
	WITH_LOCK(c);
	while (e->busy && !e->removed)
		pthread_cond_wait(&c->changed, &c->lock);
	if (e->removed)
		return error_set(err, ERROR_NOT_FOUND, "instance %s has been removed", e->snap->instance.spec.name);
	e->busy = true;
	return 0;
}

void entry_release(struct core *c, struct entry *e) {
	WITH_LOCK(c);
	e->busy = false;
	pthread_cond_broadcast(&c->changed);
}

void entry_set(struct core *c, struct entry *e, struct instance_snap *snap) {
	instance_snap_unref(e->snap);
	e->snap = snap;
	if (!e->creating && !e->removed)
		selections_instance(c, snap->instance.id, &snap->instance);
	c->generation++;
	pthread_cond_broadcast(&c->changed);
	follow_wake(c->follow);
}

static bool has_ended(const struct instance_status *s) {
	return s->finished_at >= s->started_at && s->finished_at > 0;
}

/* Answers and events come over different connections: an answer may be overtaken by a later event. A run is
 * known by its start; within a run its end is final. */
static bool is_older(const struct instance_status *new, const struct instance_status *known) {
	if (new->started_at != known->started_at)
		return new->started_at < known->started_at;
	return new->started_at > 0 && has_ended(known) && !has_ended(new);
}

void entry_apply(struct core *c, struct entry *e, const struct instance_status *status, int64_t uid_base) {
	const struct instance *known = &e->snap->instance;
	bool same_base = uid_base < 0 || known->uid_base == uid_base;
	bool older = !e->loaded && is_older(status, &known->status);
	e->loaded = false;
	if (older ||
	    (same_base && fields_equal(&instance_status_table, status, &known->status)))
		return;
	if (status->finished_at > known->status.finished_at)
		e->exits++;
	struct instance changed = *known;
	changed.status = *status;
	if (uid_base >= 0)
		changed.uid_base = uid_base;
	entry_set(c, e, instance_snap_new(&changed));
}
