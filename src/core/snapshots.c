/* Snapshots of volumes and of instances' roots. What the agent keeps of one is its name; its description and place in
 * the tree are in the store, one text for each owner under snapshots/<owner id>. */
#include "core/volumes.h"

#include "base/log.h"
#include "base/str.h"
#include "base/time.h"
#include "core/schedule.h"
#include "core/volumes-priv.h"

#include <time.h>

/* All of one owner's. */
struct snapshot_set {
	char *current; /* the newest, or what was restored last: parent of the next one; NULL */
	snapshots snapshots;
};

static const struct field set_fields[] = {
	FIELD(struct snapshot_set, current, FIELD_STRING, .max = 128, .doc = "Parent of the next one"),
	FIELD(struct snapshot_set, snapshots, FIELD_LIST, .max = 4096, .sub = &snapshot_table, .doc = "The oldest first"),
};
static const struct field_table set_table = {
	"snapshot_set", "The snapshots of one volume or instance", sizeof(struct snapshot_set), set_fields, ARRAY_SIZE(set_fields),
};

static void set_free(void *p) {
	struct snapshot_set *s = p;
	fields_free(&set_table, s);
	free(s);
}

int snapshots_load(struct core *c, struct error *err) {
	_cleanup_(store_items_free) struct store_items list = {0};
	c->snapshots = map_new(set_free);
	int r = store_list(c->store, "snapshots/", &list, err);
	for (size_t i = 0; r == 0 && i < list.n; i++) {
		_cleanup_(json_free_ptr) json_t *json = json_parse(list.items[i].value, strlen(list.items[i].value), err);
		_cleanup_(free_ptr) struct snapshot_set *s = NEW(struct snapshot_set);
		r = json ? fields_parse(&set_table, json, FIELDS_TRUSTED, s, err) : -ERROR_CORRUPT;
		if (r < 0)
			return error_wrap(err, "reading %s", list.items[i].key);
		map_set(c->snapshots, list.items[i].key + strlen("snapshots/"), TAKE_PTR(s));
	}
	return r;
}

char **snapshots_names(struct core *c, const char *owner_id) {
	const struct snapshot_set *s = map_get(c->snapshots, owner_id);
	char **names = NULL;
	for (size_t i = 0; s && i < s->snapshots.n; i++)
		strv_add(&names, s->snapshots.items[i].name);
	return names;
}

void snapshots_forget(struct core *c, const char *owner_id) {
	WITH_LOCK(c);
	map_remove(c->snapshots, owner_id);
}

/* ---- whose ---- */

struct owner {
	char *id, *name, *project, *pool_id;
	bool instance, block, running;
	struct snapshot_schedule schedule;
};

static void owner_free(struct owner *o) {
	free(o->id);
	free(o->name);
	free(o->project);
	free(o->pool_id);
}

static void instance_owner(const struct instance *i, struct owner *out) {
	*out = (struct owner){
		.id = str_copy(i->id),
		.name = str_copy(i->spec.name),
		.project = str_copy(i->project),
		.pool_id = str_copy(i->pool_id ? i->pool_id : POOL_LOCAL_ID),
		.instance = true,
		.running = state_is_up(i->status.state),
		.schedule = i->spec.schedule,
	};
}

static int volume_owner(struct core *c, const struct volume *v, struct owner *out, struct error *err) {
	*out = (struct owner){
		.id = str_copy(v->id),
		.name = str_copy(v->spec.name),
		.project = str_copy(v->project),
		.block = str_same(v->spec.kind, "block"),
		.schedule = v->spec.schedule,
	};
	int r = pool_id_of(c, v->spec.pool, &out->pool_id, err);
	WITH_LOCK(c);
	out->running = volume_user(c, v->id, true) != NULL;
	return r;
}

static int owner_get(struct core *c, const struct snapshot_owner *of, struct owner *out, struct error *err) {
	*out = (struct owner){0};
	if (of->instance) {
		_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL;
		int r = instance_get(c, of->project, of->name, &snap, err);
		if (r == 0)
			instance_owner(&snap->instance, out);
		return r;
	}
	_cleanup_(noun_unref_ptr) struct noun *o = NULL;
	int r = noun_get(c, c->volumes, of->project, of->name, &o, err);
	return r < 0 ? r : volume_owner(c, o->of, out, err);
}

static struct held owner_hold(struct core *c, const struct owner *o) {
	return hold(c, o->instance ? "instance" : "volume", o->id);
}

/* ---- the sets ---- */

/* A copy of what there is. */
static void set_get(struct core *c, const struct owner *o, struct snapshot_set *out) {
	WITH_LOCK(c);
	const struct snapshot_set *s = map_get(c->snapshots, o->id);
	if (s)
		fields_copy(&set_table, s, out);
	else
		fields_init(&set_table, out);
}

static int set_put(struct core *c, const struct owner *o, const struct snapshot_set *s, const char *action,
		   const char *snapshot, struct error *err) {
	_cleanup_(json_free_ptr) json_t *json = fields_print(&set_table, s);
	_cleanup_(free_ptr) char *text = json_print(json), *key = str_format("snapshots/%s", o->id);
	struct store_op op = {s->snapshots.n ? STORE_PUT : STORE_DELETE, key, s->snapshots.n ? text : NULL, STORE_ANY};
	int r = events_txn(c, &op, 1, err);
	if (r < 0)
		return r;
	struct snapshot_set *copy = NEW(struct snapshot_set);
	fields_copy(&set_table, s, copy);
	WITH_LOCK(c);
	map_set(c->snapshots, o->id, copy);
	event_add(c, o->instance ? "instance" : "volume", action, o->project, o->id, o->name, "snapshot", snapshot, NULL);
	return 0;
}

static struct snapshot *set_find(const struct snapshot_set *s, const char *name) {
	for (size_t i = 0; i < s->snapshots.n; i++)
		if (str_same(s->snapshots.items[i].name, name))
			return &s->snapshots.items[i];
	return NULL;
}

static struct snapshot *set_need(const struct snapshot_set *s, const struct owner *o, const char *name,
				 struct error *err) {
	struct snapshot *found = set_find(s, name);
	if (!found)
		error_set(err, ERROR_NOT_FOUND, "%s has no snapshot %.128s", o->name, name);
	return found;
}

static void set_free_members(struct snapshot_set *s) {
	fields_free(&set_table, s);
}

static char *snapshot_text(const struct snapshot *s) {
	_cleanup_(json_free_ptr) json_t *json = fields_print(&snapshot_table, s);
	return json_print(json);
}

/* Its children become its parent's. */
static void set_drop(struct snapshot_set *s, struct snapshot *gone) {
	size_t at = (size_t)(gone - s->snapshots.items);
	struct snapshot held = *gone;
	memmove(gone, gone + 1, (s->snapshots.n - at - 1) * sizeof *gone);
	s->snapshots.n--;
	for (size_t i = 0; i < s->snapshots.n; i++) {
		char **parent = &s->snapshots.items[i].parent;
		if (str_same(*parent, held.name)) {
			free(*parent);
			*parent = held.parent ? str_copy(held.parent) : NULL;
		}
	}
	if (str_same(s->current, held.name)) {
		free(s->current);
		s->current = held.parent ? str_copy(held.parent) : NULL;
	}
	fields_free(&snapshot_table, &held);
}

static void set_add(struct snapshot_set *s, const struct snapshot *new) {
	s->snapshots.items = alloc_resize(s->snapshots.items, s->snapshots.n + 1, sizeof *s->snapshots.items);
	fields_copy(&snapshot_table, new, &s->snapshots.items[s->snapshots.n++]);
	free(s->current);
	s->current = str_copy(new->name);
}

/* ---- verbs ---- */

int snapshot_list(struct core *c, const struct snapshot_owner *of, char **json, struct error *err) {
	_cleanup_(owner_free) struct owner o;
	_cleanup_(set_free_members) struct snapshot_set s;
	int r = owner_get(c, of, &o, err);
	if (r < 0) {
		fields_init(&set_table, &s);
		return r;
	}
	set_get(c, &o, &s);
	_cleanup_(json_free_ptr) json_t *set = fields_print(&set_table, &s);
	if (!json_object_get(set, "snapshots"))
		json_object_set_new(set, "snapshots", json_array());
	*json = json_print(set);
	return 0;
}

static char *name_of_time(const char *prefix, int64_t now) {
	char text[32];
	struct tm tm;
	gmtime_r(&(time_t){now / NS_PER_SEC}, &tm);
	strftime(text, sizeof text, "%Y%m%d-%H%M%S", &tm);
	return str_format("%s-%s", prefix, text);
}

static int call_snapshot(struct core *c, const struct owner *o, const char *request, const struct snapshot *s, struct error *err) {
	struct msg_snapshot body = {
		.pool_id = o->pool_id, .id = o->id, .name = s->name, .instance = o->instance, .memory = s->memory};
	return agent_call(c, request, &body, NULL, err);
}

/* One that was cut off may be there all the same, or its memory. */
static void undo_create(struct core *c, const struct owner *o, const struct snapshot *new) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	if (call_snapshot(c, o, "snapshot-delete", new, &err) < 0)
		log_debug("snapshot %s of %s, which was not taken: %s", new->name, o->name, error_text(&err));
}

/* The store first: a snapshot that the agent has and the store has not would stay for ever. One that the store alone
 * has is seen when it is used, and can be removed. */
static int create_held(struct core *c, const struct owner *o, struct snapshot *new, char **json, struct error *err) {
	_cleanup_(set_free_members) struct snapshot_set s;
	set_get(c, o, &s);
	if (set_find(&s, new->name)) {
		error_set(err, ERROR_EXISTS, "%s has a snapshot %s already", o->name, new->name);
		error_in_field(err, "name");
		return -ERROR_EXISTS;
	}
	if (s.snapshots.n >= 4096)
		return error_set(err, ERROR_QUOTA, "%s has 4096 snapshots: remove some", o->name);
	new->created_at = time_now_ns();
	new->parent = s.current ? str_copy(s.current) : NULL;
	set_add(&s, new);
	if (new->scheduled)
		schedule_mark(&o->schedule, &s.snapshots);
	int r = set_put(c, o, &s, "snapshot-create", new->name, err);
	if (r == 0)
		r = call_snapshot(c, o, "snapshot-create", new, err);
	if (r < 0) {
		undo_create(c, o, new);
		struct snapshot *failed = set_find(&s, new->name);
		set_drop(&s, failed);
		set_put(c, o, &s, "snapshot-delete", new->name, NULL);
		return r;
	}
	*json = snapshot_text(new);
	return 0;
}

int snapshot_create(struct core *c, const struct snapshot_owner *of, const struct snapshot *wanted, char **json,
		    struct error *err) {
	_cleanup_(owner_free) struct owner o;
	int r = owner_get(c, of, &o, err);
	if (r < 0)
		return r;
	_cleanup_(held_release) struct held h = owner_hold(c, &o);
	struct snapshot new;
	fields_copy(&snapshot_table, wanted, &new);
	if (new.memory && !o.instance)
		r = error_field(err, "memory", "is a machine's: a volume has none");
	else if (new.memory && !o.running)
		r = error_set(err, ERROR_CONFLICT, "instance %s does not run: it has no memory to be saved", o.name);
	if (!new.name)
		new.name = name_of_time("snap", time_now_ns());
	r = r < 0 ? r : create_held(c, &o, &new, json, err);
	fields_free(&snapshot_table, &new);
	return r;
}

int snapshot_update(struct core *c, const struct snapshot_owner *of, const char *name, const char *description,
		    char **json, struct error *err) {
	_cleanup_(owner_free) struct owner o;
	int r = owner_get(c, of, &o, err);
	if (r < 0)
		return r;
	_cleanup_(held_release) struct held h = owner_hold(c, &o);
	_cleanup_(set_free_members) struct snapshot_set s;
	set_get(c, &o, &s);
	struct snapshot *one = set_need(&s, &o, name, err);
	if (!one)
		return -ERROR_NOT_FOUND;
	free(one->description);
	one->description = description ? str_copy(description) : NULL;
	r = set_put(c, &o, &s, "snapshot-update", name, err);
	if (r == 0)
		*json = snapshot_text(one);
	return r;
}

static int delete_held(struct core *c, const struct owner *o, const char *name, struct error *err) {
	_cleanup_(set_free_members) struct snapshot_set s;
	set_get(c, o, &s);
	struct snapshot *one = set_need(&s, o, name, err);
	if (!one)
		return -ERROR_NOT_FOUND;
	int r = call_snapshot(c, o, "snapshot-delete", one, err);
	if (r < 0)
		return r;
	_cleanup_(free_ptr) char *kept = str_copy(name); /* may be its own */
	set_drop(&s, one);
	return set_put(c, o, &s, "snapshot-delete", kept, err);
}

int snapshot_delete(struct core *c, const struct snapshot_owner *of, const char *name, struct error *err) {
	_cleanup_(owner_free) struct owner o;
	int r = owner_get(c, of, &o, err);
	if (r < 0)
		return r;
	_cleanup_(held_release) struct held h = owner_hold(c, &o);
	return delete_held(c, &o, name, err);
}

/* It is suspended at the moment of the snapshot. */
static int go_on(struct core *c, const struct owner *o, struct error *err) {
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *started = NULL;
	int r = instance_start(c, o->project, o->id, &started, err);
	return r < 0 ? error_wrap(err, "%s is back at the snapshot, but does not start", o->name) : 0;
}

int snapshot_restore(struct core *c, const struct snapshot_owner *of, const char *name, struct error *err) {
	_cleanup_(owner_free) struct owner o;
	int r = owner_get(c, of, &o, err);
	if (r < 0)
		return r;
	_cleanup_(held_release) struct held h = owner_hold(c, &o);
	_cleanup_(set_free_members) struct snapshot_set s;
	set_get(c, &o, &s);
	const struct snapshot *one = set_need(&s, &o, name, err);
	if (!one)
		return -ERROR_NOT_FOUND;
	if (o.running)
		return error_set(err, ERROR_CONFLICT, o.instance ? "instance %s runs: stop it first"
								 : "volume %s is mounted by a running instance: stop that first",
				 o.name);
	r = call_snapshot(c, &o, "snapshot-restore", one, err);
	if (r < 0)
		return r;
	free(s.current);
	s.current = str_copy(name);
	r = set_put(c, &o, &s, "snapshot-restore", name, err);
	return r == 0 && one->memory ? go_on(c, &o, err) : r;
}

/* ---- the schedule ---- */

static void remove_unkept(struct core *c, const struct owner *o, const struct snapshot_set *s) {
	for (size_t i = 0; i < s->snapshots.n; i++) {
		const struct snapshot *one = &s->snapshots.items[i];
		_cleanup_(error_free) struct error err = ERROR_INIT;
		if (one->scheduled && !one->kept_as && delete_held(c, o, one->name, &err) < 0)
			log_warn("snapshot %s of %s: %s", one->name, o->name, error_text(&err));
	}
}

static void run_schedule(struct core *c, const struct owner *o, int64_t now) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(held_release) struct held h = owner_hold(c, o);
	_cleanup_(free_ptr) char *json = NULL, *name = name_of_time("auto", now);
	_cleanup_(set_free_members) struct snapshot_set s;
	set_get(c, o, &s);
	if (!schedule_due(&o->schedule, &s.snapshots, now))
		return;
	struct snapshot new = {.name = name, .scheduled = true};
	if (create_held(c, o, &new, &json, &err) < 0) {
		log_warn("the snapshot of %s that is due: %s", o->name, error_text(&err));
		free(new.parent);
		return;
	}
	free(new.parent);
	fields_free(&set_table, &s);
	set_get(c, o, &s);
	remove_unkept(c, o, &s);
}

/* Everything that has a schedule, as it is now; free the owners and the array. */
static struct owner *scheduled(struct core *c, size_t *n) {
	struct noun *o;
	void *value;
	*n = 0;
	core_lock(c);
	size_t max = nouns_count(c->volumes) + map_count(c->by_id), n_volumes = 0;
	struct owner *all = alloc_array(max + 1, sizeof *all);
	struct noun **volumes = alloc_array(max + 1, sizeof(struct noun *));
	for (size_t i = 0; map_next(c->by_id, &i, NULL, &value);) {
		const struct entry *e = value;
		if (!e->creating && schedule_wanted(&e->snap->instance.spec.schedule))
			instance_owner(&e->snap->instance, &all[(*n)++]);
	}
	for (size_t i = 0; (o = nouns_next(c->volumes, &i));)
		if (schedule_wanted(&((const struct volume *)o->of)->spec.schedule))
			volumes[n_volumes++] = noun_ref(o);
	core_unlock(c);
	for (size_t i = 0; i < n_volumes; i++) {
		if (volume_owner(c, volumes[i]->of, &all[*n], NULL) == 0)
			++*n;
		else
			owner_free(&all[*n]);
		noun_unref(volumes[i]);
	}
	free(volumes);
	return all;
}

void snapshots_run_schedules(struct core *c, int64_t now) {
	size_t n;
	_cleanup_(free_ptr) struct owner *all = scheduled(c, &n);
	for (size_t i = 0; i < n; i++) {
		if (!c->closing)
			run_schedule(c, &all[i], now);
		owner_free(&all[i]);
	}
}

/* Looks at every full hour, and when a schedule may have changed. */
void *snapshots_clock(void *arg) {
	struct core *c = arg;
	while (!c->closing) {
		if (core_wait_agent(c, NS_PER_SEC))
			snapshots_run_schedules(c, time_now_ns());
		int64_t next = MIN(schedule_next(time_now_ns()), time_now_ns() + 60 * NS_PER_SEC);
		struct timespec until = {next / NS_PER_SEC, next % NS_PER_SEC};
		WITH_LOCK(c);
		while (!c->closing && pthread_cond_timedwait(&c->clock_wanted, &c->lock, &until) == 0)
			;
	}
	return NULL;
}
