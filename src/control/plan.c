/* From what is wanted and what is to what is done next: slot by slot, and over all slots where a rollout is under way. */
#include "control/plan.h"

#include "base/str.h"
#include "base/time.h"

#include <inttypes.h>

/* One instance, or the record of one that could not be made. */
struct member {
	const char *id; /* NULL: of a record */
	int64_t slot, generation, attempt, created_at, started_at, ended_at;
	enum { FRESH, STARTING, WELL, ILL, ENDED } state; /* FRESH: never started; STARTING: not known to be well yet */
	bool asked; /* it was stopped by somebody */
	bool ok;    /* it ended by itself, and well */
};

struct planner {
	const struct plan_input *in;
	const struct workload *w;
	struct plan *out;
	struct member *members; /* by slot, the oldest first */
	size_t n;
	int64_t slots;
	int64_t in_flight;        /* slots that it is at work on */
	int64_t pending;          /* slots that are not what they are to become */
	int64_t failed;           /* slots in which a new one has failed since it began */
	const char *failed_id;
	int64_t live;             /* of a job */
	int64_t room;
	struct { int64_t slot; const char *id; } *candidates;
	size_t n_candidates;
};

char *plan_slot_key(const char *workload, int64_t slot) {
	return str_format("%s/%" PRId64, workload, slot);
}

int64_t plan_slots(const struct workload_spec *s, enum plan_place place) {
	if (place == PLACE_EVICT)
		return 0;
	int64_t n = workload_is_global(s) ? 1 : workload_is_job(s) ? s->completions : s->replicas;
	return s->max_per_node ? MIN(n, s->max_per_node) : n;
}

/* ---- members ---- */

static struct member member_of_instance(const struct instance *i) {
	const struct instance_status *s = &i->status;
	const struct instance_owner *o = &i->spec.owner;
	struct member m = {i->id, o->slot, o->generation, o->attempt, i->created_at, s->started_at, s->finished_at, ENDED,
			   s->stopped_by_user, false};
	bool up = str_same(s->state, "running") || str_same(s->state, "paused") || str_same(s->state, "restarting");
	if (up)
		m.state = str_same(s->health, "unhealthy") ? ILL : !s->health || str_same(s->health, "healthy") ? WELL : STARTING;
	else if (str_same(s->state, "created") && !s->error && !s->started_at)
		m.state = FRESH;
	m.ok = m.state == ENDED && !m.asked && s->exit_code == 0 && !s->error && str_same(s->state, "exited");
	if (m.state == ENDED && !m.ended_at)
		m.ended_at = i->created_at;
	return m;
}

static struct member member_of_failure(const struct workload_failure *f) {
	return (struct member){.slot = f->slot, .generation = f->generation, .attempt = f->attempt, .created_at = f->at,
			       .started_at = f->at, .ended_at = f->at, .state = ENDED};
}

static int compare(const void *a, const void *b) {
	const struct member *x = a, *y = b;
	if (x->slot != y->slot)
		return x->slot < y->slot ? -1 : 1;
	return x->created_at < y->created_at ? -1 : x->created_at > y->created_at;
}

static void collect(struct planner *p) {
	const struct workload *w = p->w;
	p->members = alloc_array(p->in->n + w->failures.n + 1, sizeof *p->members);
	for (size_t i = 0; i < p->in->n; i++)
		p->members[p->n++] = member_of_instance(p->in->instances[i]);
	for (size_t i = 0; i < w->failures.n; i++)
		p->members[p->n++] = member_of_failure(&w->failures.items[i]);
	qsort(p->members, p->n, sizeof *p->members, compare);
}

/* ---- actions ---- */

static void act(struct planner *p, enum plan_action_kind kind, int64_t slot, int64_t attempt, const char *id) {
	p->out->actions = alloc_resize(p->out->actions, p->out->n + 1, sizeof *p->out->actions);
	p->out->actions[p->out->n++] = (struct plan_action){kind, slot, attempt, id};
}

static void wake_at(struct planner *p, int64_t when) {
	p->out->wake = MIN(p->out->wake, when);
}

static bool is_busy(const struct planner *p, const char *id) {
	return p->in->busy && p->in->busy(id, p->in->arg);
}

static bool slot_busy(const struct planner *p, int64_t slot) {
	_cleanup_(free_ptr) char *key = plan_slot_key(p->w->id, slot);
	return is_busy(p, key);
}

static void stop(struct planner *p, const struct member *m) {
	if (!is_busy(p, m->id))
		act(p, PLAN_STOP, m->slot, 0, m->id);
}

static void start(struct planner *p, const struct member *m) {
	if (!is_busy(p, m->id))
		act(p, PLAN_START, m->slot, m->attempt, m->id);
}

/* A fresh one was never anything: it goes as one that has ended. */
static void let_go(struct planner *p, const struct member *m) {
	if (m->state != FRESH)
		return stop(p, m);
	if (!is_busy(p, m->id))
		act(p, PLAN_REMOVE, m->slot, 0, m->id);
}

static const char no_node[] = "no suitable node (scheduling constraints not satisfied on 1 node)",
		  no_room[] = "no suitable node (insufficient resources on 1 node)";

static void create(struct planner *p, int64_t slot, int64_t attempt) {
	int64_t most = p->w->spec.parallelism;
	if (workload_is_job(&p->w->spec) && most && p->live >= most)
		return;
	if (p->in->place != PLACE_HERE || p->room == 0) {
		p->out->lacks = p->in->place != PLACE_HERE ? no_node : no_room;
		return;
	}
	p->room -= p->room > 0;
	p->live++;
	act(p, PLAN_CREATE, slot, attempt, NULL);
}

/* ---- one slot ---- */

struct slot {
	int64_t number;
	struct member *first;
	size_t n;
	const struct member *current, *last; /* the live one of the template that is wanted; the last that has ended */
	const struct member *old;            /* a live one of another template */
	bool finished; /* one of this template has ended well */
	bool failed;   /* one has failed since the rollout began */
};

static bool is_live(const struct member *m) {
	return m->state != ENDED;
}

static bool fails(const struct planner *p, const struct member *m) {
	const struct rollout_policy *policy =
		str_starts(p->w->update.state, "rollback") ? &p->w->spec.rollback : &p->w->spec.update;
	if (m->generation != p->w->generation || m->created_at < p->w->update.started_at)
		return false;
	if (m->state == ILL)
		return true;
	return m->state == ENDED && !m->asked && m->ended_at - m->started_at <= policy->monitor;
}

static void look(struct planner *p, struct slot *s) {
	for (size_t i = 0; i < s->n; i++) {
		const struct member *m = &s->first[i];
		bool ours = m->generation == p->w->generation;
		if (!is_live(m)) {
			s->last = m;
			s->finished |= ours && m->ok;
		} else if (!ours) {
			if (s->old)
				let_go(p, s->old);
			s->old = m;
		} else {
			if (s->current)
				let_go(p, m); /* two: the older one stays */
			else
				s->current = m;
		}
		if (p->w->update.state && fails(p, m)) {
			s->failed = true;
			p->failed_id = m->id;
		}
	}
}

/* Whether the end of m has another one started, when, and as which attempt. */
static bool replaces(const struct planner *p, const struct member *m, int64_t *when, int64_t *attempt) {
	const struct replace_policy *r = &p->w->spec.restart;
	bool ran = r->window && m->ended_at - m->started_at >= r->window && m->id;
	*attempt = ran ? 0 : m->attempt + 1;
	*when = m->ended_at + r->delay;
	if (m->asked) {
		*attempt = m->attempt;
		return true;
	}
	for (int64_t k = 1, delay = r->delay; k < *attempt && delay < r->max_delay; k++) {
		delay = MIN(delay * 2, r->max_delay);
		*when = m->ended_at + delay;
	}
	if (str_same(r->condition, "none") || (str_same(r->condition, "on-failure") && m->ok))
		return false;
	return !r->max_attempts || *attempt <= r->max_attempts;
}

/* Nothing lives in it. */
static void fill(struct planner *p, struct slot *s) {
	int64_t when, attempt;
	if (workload_is_job(&p->w->spec) && s->finished)
		return;
	if (!s->last || s->last->generation != p->w->generation) {
		if (s->last && p->w->update.state) {
			p->in_flight++;
			p->pending++;
		}
		create(p, s->number, 0);
		return;
	}
	if (!replaces(p, s->last, &when, &attempt))
		return;
	if (when > p->in->now)
		wake_at(p, when);
	else
		create(p, s->number, attempt);
}

/* An old one is there and no new one. */
static void offer(struct planner *p, struct slot *s) {
	if (workload_is_job(&p->w->spec)) {
		let_go(p, s->old);
		return;
	}
	p->pending++;
	if (is_busy(p, s->old->id)) {
		p->in_flight++;
		return;
	}
	int64_t when, attempt;
	if (s->last && s->last->generation == p->w->generation) { /* one that was to start first has failed */
		if (!replaces(p, s->last, &when, &attempt))
			return;
		if (when > p->in->now)
			return wake_at(p, when);
	}
	p->candidates = alloc_resize(p->candidates, p->n_candidates + 1, sizeof *p->candidates);
	p->candidates[p->n_candidates].slot = s->number;
	p->candidates[p->n_candidates++].id = s->old->id;
}

static void tend(struct planner *p, struct slot *s) {
	const struct rollout_policy *policy =
		str_starts(p->w->update.state ? p->w->update.state : "", "rollback") ? &p->w->spec.rollback : &p->w->spec.update;
	const struct member *m = s->current;
	bool rolled = p->w->update.state && m->created_at >= p->w->update.started_at;
	if (m->state == FRESH)
		start(p, m);
	else if (m->state == ILL)
		stop(p, m);
	else if (m->state == WELL && s->old)
		let_go(p, s->old);
	if (s->old || m->state == FRESH || m->state == STARTING) {
		p->in_flight++;
		p->pending++;
	} else if (rolled && m->started_at + policy->delay > p->in->now) {
		p->in_flight++;
		wake_at(p, m->started_at + policy->delay);
	}
	if (rolled && m->started_at + policy->monitor > p->in->now) {
		p->pending++;
		wake_at(p, m->started_at + policy->monitor);
	}
}

static void trim(struct planner *p, const struct slot *s) {
	int64_t ended = 0;
	for (size_t i = 0; i < s->n; i++)
		ended += !is_live(&s->first[i]);
	for (size_t i = 0; i < s->n && ended > p->w->spec.history; i++) {
		const struct member *m = &s->first[i];
		if (is_live(m) || (workload_is_job(&p->w->spec) && m->ok) || m == s->last)
			continue;
		ended--;
		if (m->id && !is_busy(p, m->id))
			act(p, PLAN_REMOVE, m->slot, 0, m->id);
	}
}

static void plan_slot(struct planner *p, struct slot *s) {
	bool busy = slot_busy(p, s->number);
	look(p, s);
	p->failed += s->failed;
	if (busy) {
		p->in_flight++;
		p->pending++;
		return;
	}
	if (s->current)
		tend(p, s);
	else if (s->old)
		offer(p, s);
	else
		fill(p, s);
	trim(p, s);
}

/* A slot that is not wanted: what lives ends, then all goes. */
static void clear(struct planner *p, const struct slot *s) {
	bool live = slot_busy(p, s->number), evict = p->in->place == PLACE_EVICT;
	for (size_t i = 0; i < s->n; i++)
		if (is_live(&s->first[i])) {
			live = true;
			let_go(p, &s->first[i]);
		}
	for (size_t i = 0; !live && !evict && i < s->n; i++)
		if (s->first[i].id && !is_busy(p, s->first[i].id))
			act(p, PLAN_REMOVE, s->number, 0, s->first[i].id);
}

/* ---- the rollout ---- */

static void roll(struct planner *p, const struct rollout_policy *policy) {
	int64_t free_places = policy->parallelism ? policy->parallelism - p->in_flight : INT64_MAX;
	for (size_t i = 0; i < p->n_candidates && free_places > 0; i++, free_places--)
		if (str_same(policy->order, "start-first"))
			create(p, p->candidates[i].slot, 0);
		else
			act(p, PLAN_STOP, p->candidates[i].slot, 0, p->candidates[i].id);
}

static void steer(struct planner *p) {
	const struct workload_update *u = &p->w->update;
	bool back = str_starts(u->state ? u->state : "", "rollback");
	const struct rollout_policy *policy = back ? &p->w->spec.rollback : &p->w->spec.update;
	bool rolling = str_same(u->state, "updating") || str_same(u->state, "rollback_started");
	if (!rolling)
		return;
	double ratio = (double)p->failed / (double)MAX(p->slots, 1);
	bool too_many = p->failed && ratio > (double)policy->max_failure_ratio / 1e9;
	if (too_many && !str_same(policy->on_failure, "continue"))
		act(p, !back && str_same(policy->on_failure, "rollback") ? PLAN_UNDO : PLAN_PAUSE, 0, 0, p->failed_id);
	else if (!p->pending)
		act(p, PLAN_DONE, 0, 0, NULL);
	else
		roll(p, policy);
}

/* How many of a job live, or are being made. */
static void count_live(struct planner *p) {
	for (size_t i = 0; i < p->n; i++)
		p->live += is_live(&p->members[i]) && !slot_busy(p, p->members[i].slot);
	for (int64_t n = 1; n <= p->slots; n++)
		p->live += slot_busy(p, n);
}

void plan_make(const struct plan_input *in, struct plan *out) {
	struct planner p = {.in = in, .w = in->workload, .out = out, .room = in->room};
	*out = (struct plan){.wake = INT64_MAX};
	p.slots = plan_slots(&p.w->spec, in->place);
	collect(&p);
	if (in->place == PLACE_EVICT && plan_slots(&p.w->spec, PLACE_HERE))
		out->lacks = no_node;
	for (int64_t n = 1; p.room > 0 && n <= p.slots; n++)
		p.room -= slot_busy(&p, n);
	if (workload_is_job(&p.w->spec))
		count_live(&p);
	size_t at = 0;
	for (int64_t n = 1; at < p.n || n <= p.slots;) {
		struct slot s = {.number = n, .first = &p.members[at]};
		if (at < p.n && (p.members[at].slot < n || n > p.slots))
			s.number = p.members[at].slot;
		while (at + s.n < p.n && p.members[at + s.n].slot == s.number)
			s.n++;
		at += s.n;
		if (s.number < 1 || s.number > p.slots)
			clear(&p, &s);
		else
			plan_slot(&p, &s);
		n = MAX(n, s.number + 1);
	}
	steer(&p);
	free(p.members);
	free(p.candidates);
}

void plan_free(struct plan *p) {
	free(p->actions);
	p->actions = NULL;
	p->n = 0;
}
