/* The thread that looks, and the crew that does. Everything that is done is keyed by its instance or slot, so that nothing is done
 * twice at a time; when it is done, all is looked at again. */
#include "control/workloads-priv.h"

#include "base/log.h"
#include "base/str.h"
#include "base/time.h"
#include "control/expand.h"
#include "control/place.h"
#include "core/tasks.h"

#define CREW 32
#define AWAY (1 * NS_PER_SEC) /* until the agent is asked again after it was not there */

struct deed {
	struct workloads *all;
	enum plan_action_kind kind;
	struct noun *workload; /* NULL: of one that is gone */
	char *key, *id;        /* in busy; of the instance */
	int64_t slot, attempt;
};

static bool is_busy(const char *key, const void *arg) {
	return map_get(((const struct workloads *)arg)->at_work, key) != NULL;
}

static void note_busy(struct workloads *w) {
	const char *key;
	map_free(w->at_work);
	w->at_work = map_new(NULL);
	pthread_mutex_lock(&w->lock);
	for (size_t i = 0; map_next(w->busy, &i, &key, NULL);)
		map_set(w->at_work, key, w);
	pthread_mutex_unlock(&w->lock);
}

static bool take(struct workloads *w, const char *key) {
	pthread_mutex_lock(&w->lock);
	bool had = map_get(w->busy, key) != NULL;
	if (!had)
		map_set(w->busy, key, w);
	pthread_mutex_unlock(&w->lock);
	return !had;
}

static void give_back(struct workloads *w, const char *key) {
	pthread_mutex_lock(&w->lock);
	map_remove(w->busy, key);
	pthread_mutex_unlock(&w->lock);
	workloads_poke(w->core);
}

/* ---- doing ---- */

/* The agent's being away is nobody's failure. */
static void fail(const struct deed *d, const char *run, const struct error *err) {
	const struct workload *w = d->workload->of;
	log_info("workload %s: instance %lld could not be made: %s", w->spec.name, (long long)d->slot, error_text(err));
	if (err->kind == ERROR_UNAVAILABLE)
		return;
	struct workload_failure f = {(char *)run, d->slot, w->generation, d->attempt, (char *)error_text(err), time_now_ns()};
	workload_note_failure(d->all->core, w->id, &f);
}

/* One that did not come to run and shows no reason itself is put away, with a record in its place. */
static void start(const struct deed *d, const char *id, const char *run) {
	struct core *c = d->all->core;
	_cleanup_(error_free) struct error err = ERROR_INIT, gone = ERROR_INIT;
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *started = NULL, *now = NULL;
	if (instance_start(c, PROJECT, id, &started, &err) == 0 || err.kind == ERROR_UNAVAILABLE)
		return;
	if (instance_get(c, PROJECT, id, &now, NULL) == 0 && (now->instance.status.error || now->instance.status.started_at))
		return;
	if (instance_delete(c, PROJECT, id, true, &gone) < 0)
		log_warn("removing %.12s, which did not start: %s", id, error_text(&gone));
	fail(d, run, &err);
}

/* The image, where it is not there and may be fetched. */
static int fetch_image(struct core *c, const struct workload_spec *s, struct error *err) {
	_cleanup_(image_snap_unref_ptr) struct image_snap *image = NULL;
	_cleanup_(free_ptr) char *task = NULL;
	if (s->never_pull || image_get(c, PROJECT, s->template.image, &image, NULL) == 0)
		return 0;
	const struct image_pull_options o = {.name = s->template.image, .username = s->pull_user, .password = s->pull_password};
	int r = image_pull(c, PROJECT, &o, &task, err);
	_cleanup_(json_free_ptr) json_t *json = r == 0 ? json_parse(task, strlen(task), err) : NULL;
	return json ? task_await(c, PROJECT, json_get_str(json, "id"), err) : -(int)err->kind;
}

static void create(const struct deed *d) {
	struct core *c = d->all->core;
	const struct workload *w = d->workload->of;
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *made = NULL;
	struct instance_spec spec;
	struct node_facts node;
	node_facts_read(c, &node);
	expand_template(w, d->slot, d->attempt, &(struct expand_node){node.id, node.hostname}, &spec);
	node_facts_free(&node);
	_cleanup_(free_ptr) char *run = str_copy(spec.owner.run);
	if (fetch_image(c, &w->spec, &err) < 0) {
		fields_free(&instance_spec_table, &spec);
		error_wrap(&err, "no image %s", w->spec.template.image);
		err.kind = err.kind == ERROR_UNAVAILABLE ? ERROR_NOT_FOUND : err.kind; /* the registry is away, not the agent */
		return fail(d, run, &err);
	}
	if (instance_create(c, PROJECT, &spec, &made, &err) == 0)
		start(d, made->instance.id, run);
	else
		fail(d, run, &err);
}

static void stop(const struct deed *d) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *stopped = NULL;
	if (instance_stop(d->all->core, PROJECT, d->id, NULL, -1, &stopped, &err) < 0 && err.kind != ERROR_NOT_FOUND)
		log_warn("stopping %.12s: %s", d->id, error_text(&err));
}

static void remove_ended(const struct deed *d) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	if (instance_delete(d->all->core, PROJECT, d->id, true, &err) < 0 && err.kind != ERROR_NOT_FOUND)
		log_warn("removing %.12s: %s", d->id, error_text(&err));
}

static void do_deed(void *arg) {
	struct deed *d = arg;
	if (d->all->closing)
		;
	else if (d->kind == PLAN_CREATE)
		create(d);
	else if (d->kind == PLAN_START)
		start(d, d->id, "");
	else if (d->kind == PLAN_STOP)
		stop(d);
	else
		remove_ended(d);
	give_back(d->all, d->key);
	noun_unref(d->workload);
	free(d->key);
	free(d->id);
	free(d);
}

static void begin(struct workloads *all, struct noun *workload, const struct plan_action *a) {
	struct deed *d = NEW(struct deed);
	*d = (struct deed){all, a->kind, workload ? noun_ref(workload) : NULL, NULL, a->id ? str_copy(a->id) : NULL, a->slot, a->attempt};
	d->key = a->kind == PLAN_CREATE ? plan_slot_key(((struct workload *)workload->of)->id, a->slot) : str_copy(a->id);
	if (take(all, d->key))
		return crew_run(all->crew, do_deed, d);
	noun_unref(d->workload);
	free(d->key);
	free(d->id);
	free(d);
}

/* ---- what the whole workload is told ---- */

static void conclude(struct core *c, const struct workload *w, const struct plan_action *a) {
	bool back = str_starts(w->update.state, "rollback");
	_cleanup_(free_ptr) char *why = str_format("due to failure or early termination of instance %.25s", a->id ? a->id : "");
	_cleanup_(free_ptr) char *message = NULL;
	if (a->kind == PLAN_DONE) {
		workload_note_update(c, w->id, w->generation, back ? "rollback_completed" : "completed",
				     back ? "rollback completed" : "update completed");
	} else if (a->kind == PLAN_PAUSE) {
		message = str_format("%s paused %s", back ? "rollback" : "update", why);
		workload_note_update(c, w->id, w->generation, back ? "rollback_paused" : "paused", message);
	} else {
		message = str_format("update rolled back %s", why);
		workload_undo(c, w->id, w->generation, message);
	}
}

static void carry_out(struct workloads *all, struct noun *workload, const struct plan *p, const char *failed) {
	const struct workload *w = workload->of;
	for (size_t i = 0; i < p->n; i++)
		if (p->actions[i].kind >= PLAN_DONE)
			conclude(all->core, w, &p->actions[i]);
		else
			begin(all, workload, &p->actions[i]);
	if (failed && !str_same(failed, w->error))
		log_warn("workload %s: %s", w->spec.name, failed);
	workload_note_error(all->core, w->id, failed ? failed : p->lacks);
}

/* ---- looking ---- */

struct owned {
	const struct instance **items;
	size_t n;
};

static void owned_free(void *o) {
	free(((struct owned *)o)->items);
	free(o);
}

/* By the id of their workload. */
static struct map *group(struct instance_snap *const *snaps) {
	struct map *groups = map_new(owned_free);
	for (; *snaps; snaps++) {
		const struct instance *i = &(*snaps)->instance;
		struct owned *o = map_get(groups, i->spec.owner.workload);
		if (!o)
			map_set(groups, i->spec.owner.workload, o = NEW(struct owned));
		o->items = alloc_resize(o->items, o->n + 1, sizeof(*o->items));
		o->items[o->n++] = i;
	}
	return groups;
}

static bool lives(const struct instance *i) {
	const char *s = i->status.state;
	return str_same(s, "running") || str_same(s, "paused") || str_same(s, "restarting");
}

/* Of a workload that is gone: they end, and go. */
static void clear_orphans(struct workloads *all, struct map *groups) {
	const char *id;
	void *value;
	for (size_t g = 0; map_next(groups, &g, &id, &value);) {
		const struct owned *o = value;
		if (workload_exists(all->core, id))
			continue;
		for (size_t i = 0; i < o->n; i++)
			begin(all, NULL, &(struct plan_action){lives(o->items[i]) ? PLAN_STOP : PLAN_REMOVE, 0, 0, o->items[i]->id});
	}
}

static bool has_reservation(const struct workload *w) {
	return w->spec.reservations.cpus || w->spec.reservations.memory;
}

/* By what runs of these workloads, or is about to. */
static void add_reserved(struct noun *const *workloads, struct map *groups, struct node_facts *f) {
	for (; *workloads; workloads++) {
		const struct workload *w = (*workloads)->of;
		const struct owned *o = has_reservation(w) ? map_get(groups, w->id) : NULL;
		for (size_t i = 0; o && i < o->n; i++) {
			bool counts = lives(o->items[i]) || str_same(o->items[i]->status.state, "created");
			f->cpus_reserved += counts ? w->spec.reservations.cpus : 0;
			f->memory_reserved += counts ? w->spec.reservations.memory : 0;
		}
	}
}

/* When to look again. */
static int64_t look(struct workloads *all) {
	_cleanup_(nouns_unref_ptr) struct noun **workloads = NULL;
	struct instance_snap **snaps = NULL;
	_cleanup_(error_free) struct error err = ERROR_INIT;
	int64_t wake = INT64_MAX;
	const struct instance_filter filter = {.all = true, .owned = true};
	note_busy(all);
	/* instances first: of one whose workload comes later there is none yet */
	if (instance_snaps(all->core, PROJECT, &filter, &snaps, &err) < 0)
		return time_now_ns() + AWAY;
	if (workload_all(all->core, PROJECT, &workloads, &err) < 0)
		workloads = alloc_array(1, sizeof(*workloads));
	_cleanup_(map_free_ptr) struct map *groups = group(snaps), *ports = workload_ports_collect(all->core, workloads);
	struct node_facts node;
	node_facts_read(all->core, &node);
	add_reserved(workloads, groups, &node);
	for (struct noun **w = workloads; *w; w++) {
		const struct workload *one = (*w)->of;
		const struct owned *o = map_get(groups, one->id);
		const struct plan_input in = {
			.workload = one, .instances = o ? o->items : NULL, .n = o ? o->n : 0, .busy = is_busy, .arg = all,
			.now = time_now_ns(), .place = place_of(&one->spec, &node), .room = place_room(&one->spec, &node),
		};
		struct plan p;
		plan_make(&in, &p);
		_cleanup_(free_ptr) char *failed = workload_ports_make(all->core, one, ports);
		carry_out(all, *w, &p, failed);
		wake = MIN(wake, p.wake);
		plan_free(&p);
	}
	node_facts_free(&node);
	clear_orphans(all, groups);
	for (struct instance_snap **s = snaps; *s; s++)
		instance_snap_unref(*s);
	free(snaps);
	return wake;
}

static void *thread(void *arg) {
	struct workloads *all = arg;
	uint64_t seen = 0;
	int64_t wake = 0;
	while (workloads_await(all->core, &seen, wake) && !all->closing)
		wake = look(all);
	return NULL;
}

int workloads_start(struct core *c, struct workloads **out, struct error *err) {
	struct workloads *w = NEW(struct workloads);
	w->core = c;
	w->busy = map_new(NULL);
	w->crew = crew_new(CREW);
	pthread_mutex_init(&w->lock, NULL);
	int r = pthread_create(&w->thread, NULL, thread, w);
	if (r == 0) {
		*out = w;
		return 0;
	}
	crew_free(w->crew);
	map_free(w->busy);
	free(w);
	return error_errno(err, r, "starting a thread");
}

void workloads_stop(struct workloads *w) {
	if (!w)
		return;
	w->closing = true;
	workloads_poke(w->core);
	pthread_join(w->thread, NULL);
	crew_free(w->crew);
	map_free(w->busy);
	map_free(w->at_work);
	free(w);
}
