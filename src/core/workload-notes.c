/* What the controller of workloads waits for, and what it has to say about them. */
#include "core/core-priv.h"

#include "base/log.h"
#include "base/str.h"
#include "base/time.h"
#include "core/workloads.h"

/* ---- waiting ---- */

bool workloads_await(struct core *c, uint64_t *seen, int64_t until) {
	struct timespec at = {until / NS_PER_SEC, until % NS_PER_SEC};
	WITH_LOCK(c);
	while (!c->closing && !c->stopping && *seen == c->generation) {
		if (until == INT64_MAX)
			pthread_cond_wait(&c->changed, &c->lock);
		else if (pthread_cond_timedwait(&c->changed, &c->lock, &at) != 0)
			break;
	}
	*seen = c->generation;
	return !c->closing && !c->stopping;
}

void workloads_poke(struct core *c) {
	WITH_LOCK(c);
	c->generation++;
	pthread_cond_broadcast(&c->changed);
}

bool workload_exists(struct core *c, const char *id) {
	WITH_LOCK(c);
	return noun_by_id(c->workloads, id) != NULL;
}

/* ---- what is on its way out ---- */

static bool is_orphan(struct core *c, const char *workload) {
	return workload && !noun_by_id(c->workloads, workload);
}

/* Needs the lock. */
static bool is_left_by_all(struct core *c, const struct network *n) {
	void *value;
	for (size_t i = 0; map_next(c->by_id, &i, NULL, &value);) {
		const struct instance *one = &((const struct entry *)value)->snap->instance;
		for (size_t k = 0; is_orphan(c, one->spec.owner.workload) && k < one->nics.n; k++)
			if (str_same(one->nics.items[k].network_id, n->id))
				return false;
	}
	for (size_t i = 0; map_next(c->balancers.by_id, &i, NULL, &value);) {
		const struct balancer *b = ((const struct object *)value)->snap->noun;
		if (is_orphan(c, pairs_get(&b->spec.labels, WORKLOAD_LABEL)) && (str_same(b->spec.network, n->spec.name) || str_same(b->spec.network, n->id)))
			return false;
	}
	return true;
}

#define LEAVING_SECONDS 60
void workloads_await_leaving(struct core *c, const char *project, const char *network) {
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += LEAVING_SECONDS;
	WITH_LOCK(c);
	const struct object *o;
	while (!c->closing && (o = object_find(c, &c->networks, project, network, NULL)) && !is_left_by_all(c, network_of(o)))
		if (pthread_cond_timedwait(&c->changed, &c->lock, &until) != 0)
			break;
}

const char *workload_on(struct core *c, const struct object *network) {
	const struct network *n = network_of(network);
	struct noun *one;
	for (size_t i = 0; (one = nouns_next(c->workloads, &i));) {
		const struct workload *w = one->of;
		for (size_t k = 0; k < w->spec.template.networks.n; k++) {
			const char *name = w->spec.template.networks.items[k].network;
			if (str_same(w->project, n->project) && (str_same(name, n->spec.name) || str_same(name, n->id)))
				return w->spec.name;
		}
	}
	return NULL;
}

/* ---- notes ---- */

/* Changes a copy of the workload by fn and saves it; fn gives NULL, or the action of the event. generation < 0: any. */
static void note(struct core *c, const char *id, int64_t generation, const char *(*fn)(struct workload *w, const void *arg),
		 const void *arg) {
	_cleanup_(held_release) struct held h = hold(c, "workload", "");
	_cleanup_(error_free) struct error err = ERROR_INIT;
	core_lock(c);
	struct noun *found = noun_by_id(c->workloads, id);
	_cleanup_(noun_unref_ptr) struct noun *o = found ? noun_ref(found) : NULL;
	core_unlock(c);
	if (!o || (generation >= 0 && ((const struct workload *)o->of)->generation != generation))
		return;
	struct workload new;
	fields_copy(&workload_table, o->of, &new);
	const char *action = fn(&new, arg);
	if (action && noun_save(c, c->workloads, &new, action, NULL, 0, NULL, &err) < 0)
		log_warn("workload %s: %s", new.spec.name, error_text(&err));
	fields_free(&workload_table, &new);
	workloads_poke(c);
}

struct update_note {
	const char *state, *message;
};

static const char *apply_update(struct workload *w, const void *arg) {
	const struct update_note *n = arg;
	free(w->update.state);
	free(w->update.message);
	w->update.state = str_copy(n->state);
	w->update.message = str_copy(n->message);
	w->update.completed_at = str_ends(n->state, "completed") ? time_now_ns() : 0;
	return "rollout";
}

void workload_note_update(struct core *c, const char *id, int64_t generation, const char *state, const char *message) {
	note(c, id, generation, apply_update, &(struct update_note){state, message});
}

/* The oldest ones of the slot go, beyond what is kept of ended instances. */
static void trim_failures(struct workload *w, int64_t slot) {
	int64_t n = 0;
	for (size_t i = 0; i < w->failures.n; i++)
		n += w->failures.items[i].slot == slot;
	for (size_t i = 0; i < w->failures.n && n > MAX(w->spec.history, 1);) {
		struct workload_failure *f = &w->failures.items[i];
		if (f->slot != slot) {
			i++;
			continue;
		}
		free(f->run);
		free(f->error);
		memmove(f, f + 1, (--w->failures.n - i) * sizeof *f);
		n--;
	}
}

#define FAILURES_MAX 4096
static const char *apply_failure(struct workload *w, const void *arg) {
	const struct workload_failure *from = arg;
	if (w->failures.n >= FAILURES_MAX)
		return NULL;
	w->failures.items = alloc_resize(w->failures.items, w->failures.n + 1, sizeof *from);
	struct workload_failure *f = &w->failures.items[w->failures.n++];
	*f = *from;
	f->run = str_copy(from->run);
	f->error = str_copy(from->error);
	trim_failures(w, from->slot);
	return "failure";
}

void workload_note_failure(struct core *c, const char *id, const struct workload_failure *f) {
	note(c, id, f->generation, apply_failure, f);
}

static const char *apply_undo(struct workload *w, const void *arg) {
	struct workload_spec spec;
	if (!w->previous || fields_parse(&workload_spec_table, w->previous, FIELDS_TRUSTED, &spec, NULL) < 0)
		return apply_update(w, &(struct update_note){"paused", arg});
	fields_free(&workload_spec_table, &w->spec);
	w->spec = spec;
	w->generation = w->previous_generation;
	w->version++;
	w->updated_at = time_now_ns();
	json_decref(w->previous);
	w->previous = NULL;
	apply_update(w, &(struct update_note){"rollback_started", arg});
	w->update.started_at = time_now_ns();
	return "rollout";
}

void workload_undo(struct core *c, const char *id, int64_t generation, const char *message) {
	note(c, id, generation, apply_undo, message);
}

void workload_note_error(struct core *c, const char *id, const char *error) {
	WITH_LOCK(c);
	struct noun *o = noun_by_id(c->workloads, id);
	if (!o || str_same(((const struct workload *)o->of)->error, error))
		return;
	struct workload changed = *(const struct workload *)o->of;
	changed.error = (char *)error;
	noun_replace(c->workloads, &changed);
}
