/* Starting, stopping and waiting. The agent does it; what it answers and what its events say is merged by
 * entry_apply. */
#include "core/core-priv.h"

#include "base/log.h"
#include "base/str.h"

#include <signal.h>
#include <time.h>

#define KILL_WAIT 20 /* s */

#define PORT_TRIES 16

void entry_take_state(struct core *c, struct entry *e, struct msg_instance_state *state) {
	WITH_LOCK(c);
	if (!e->removed)
		entry_apply(c, e, &state->status, state->uid_base);
	fields_free(&msg_instance_state_table, state);
}

/* One request about one instance that answers with its state. */
static int call_state_fds(struct core *c, struct entry *e, const char *request, const void *body, const int *fds, size_t nfds,
			  struct error *err) {
	struct msg_instance_state state = {0};
	int r = agent_call_fds(c, request, body, fds, nfds, &state, err);
	if (r == 0)
		entry_take_state(c, e, &state);
	return r;
}

static int call_state(struct core *c, struct entry *e, const char *request, const void *body, struct error *err) {
	return call_state_fds(c, e, request, body, NULL, 0, err);
}

static void entry_event(struct core *c, struct entry *e, const char *what) {
	WITH_LOCK(c);
	const struct instance *i = &e->snap->instance;
	event_add(c, "instance", what, i->project, i->id, i->spec.name, "image", i->spec.image, NULL);
}

static int image_ready(struct core *c, const struct instance *i, struct error *err) {
	_cleanup_(image_snap_unref_ptr) struct image_snap *image = instance_image(c, i);
	return image ? layers_ensure(c, &image->image, err) : 0;
}

/* What the agent's event will say as well: whoever asks next shall see why. */
static void note_failure(struct core *c, struct entry *e, const struct error *why) {
	WITH_LOCK(c);
	bool tried = why->kind != ERROR_UNAVAILABLE && why->kind != ERROR_BUSY;
	if (!tried || e->removed || state_is_up(e->snap->instance.status.state))
		return;
	struct instance failed = e->snap->instance;
	failed.status.error = (char *)error_text(why);
	failed.status.exit_code = start_failure_code(why->kind);
	entry_set(c, e, instance_snap_new(&failed));
}

/* The index in "ports[3]"; -1. */
static int64_t port_in(const struct error *e) {
	int64_t k = -1;
	_cleanup_(free_ptr) char *digits =
		e->field && str_starts(e->field, "ports[") ? str_copyn(e->field + 6, strcspn(e->field + 6, "]")) : NULL;
	return digits && str_to_i64(digits, &k) == 0 ? k : -1;
}

/* A port that was picked, and that a program of the host has by now, is given up for another one. */
static int call_start(struct core *c, struct entry *e, struct error *err) {
	struct error why = ERROR_INIT;
	for (int tries = 1;; tries++) {
		_cleanup_(instance_snap_unref_ptr) struct instance_snap *now = entry_snap(c, e);
		struct msg_id body = {.id = now->instance.id};
		int sockets[WIRE_FDS_MAX];
		size_t n;
		int r = kept_sockets(c, &now->instance.spec.files, sockets, &n, &why);
		if (r == 0)
			r = call_state_fds(c, e, "instance-start", &body, sockets, n, &why);
		if (r == 0)
			return 0;
		int64_t k = why.kind == ERROR_CONFLICT ? port_in(&why) : -1;
		if (k < 0 || !port_is_picked(&now->instance, (size_t)k) || tries == PORT_TRIES)
			return error_move(err, &why);
		log_info("%s; picking another one", error_text(&why));
		error_free(&why);
		r = instance_repick_port(c, &now->instance, (size_t)k, err);
		if (r < 0)
			return r;
	}
}

static int start_entry(struct core *c, struct entry *e, struct error *err) {
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *before = entry_snap(c, e);
	if (str_same(before->instance.status.state, "running"))
		return 0;
	int r = image_ready(c, &before->instance, err);
	if (r < 0)
		return r;
	struct error why = ERROR_INIT;
	r = call_start(c, e, &why);
	if (r < 0)
		note_failure(c, e, &why);
	if (r < 0 && before->instance.spec.auto_remove && before->instance.status.started_at == 0) {
		_cleanup_(error_free) struct error undo = ERROR_INIT;
		if (instance_remove_entry(c, e, true, &undo) < 0)
			log_warn("removing %s, which did not start: %s", before->instance.spec.name, error_text(&undo));
	}
	return r < 0 ? error_move(err, &why) : 0;
}

/* What stops it, unless the caller names another one. */
static char *stop_signal_of(struct core *c, const struct instance *i) {
	if (i->spec.stop_signal)
		return str_copy(i->spec.stop_signal);
	WITH_LOCK(c);
	const struct image_entry *image = image_of_instance(c, i);
	const char *signal = image ? image->snap->image.config.stop_signal : NULL;
	return str_copy(signal ? signal : "SIGTERM");
}

static void kill_event(struct core *c, const struct instance *i, const char *signal) {
	WITH_LOCK(c);
	event_add(c, "instance", "kill", i->project, i->id, i->spec.name, "image", i->spec.image, "signal", signal, NULL);
}

static unsigned told(struct core *c, const unsigned *counter) {
	WITH_LOCK(c);
	return *counter;
}

static int stop_entry(struct core *c, struct entry *e, const char *signal, int64_t timeout, struct error *err) {
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *before = entry_snap(c, e);
	bool suspended = str_same(before->instance.status.state, "suspended");
	if (!state_is_up(before->instance.status.state) && !suspended)
		return 0;
	struct msg_instance_stop body = {
		.id = before->instance.id,
		.signal = (char *)signal,
		.timeout = timeout < 0 ? -1 : timeout,
	};
	_cleanup_(free_ptr) char *used = signal ? str_copy(signal) : stop_signal_of(c, &before->instance);
	unsigned ends = told(c, &e->ends);
	bool ends_now = !suspended && !str_same(before->instance.status.state, "restarting");
	if (ends_now)
		kill_event(c, &before->instance, used);
	int r = call_state(c, e, "instance-stop", &body, err);
	if (r < 0)
		return r;
	if (ends_now)
		event_await(c, &e->ends, ends);
	entry_event(c, e, "stop");
	return 0;
}

static int check_signal(const char *signal, struct error *err) {
	if (!signal || signal_from_name(signal) > 0)
		return 0;
	return error_field(err, "signal", "%.64s is not the name or number of a signal", signal);
}

struct transition {
	bool stop, start; /* in this order */
	const char *signal;
	int64_t timeout;
};

/* Between its end and its new start nothing removes an instance that is to go when it ends; afterwards, if it did not start. */
static void mark_restart(struct core *c, struct entry *e, bool begins) {
	WITH_LOCK(c);
	if (begins)
		e->restarts++;
	else if (--e->restarts == 0)
		entry_check_end(c, e);
}

static int transit(struct core *c, struct entry *e, const struct transition *want, struct error *err) {
	int r = want->stop ? stop_entry(c, e, want->signal, want->timeout, err) : 0;
	unsigned starts = told(c, &e->starts);
	if (r == 0 && want->start)
		r = start_entry(c, e, err);
	if (r == 0 && want->stop && want->start) {
		event_await(c, &e->starts, starts);
		entry_event(c, e, "restart");
	}
	return r;
}

static int entry_transit(struct core *c, struct entry *e, const struct transition *want, struct error *err) {
	bool restart = want->stop && want->start;
	if (restart)
		mark_restart(c, e, true);
	int r = transit(c, e, want, err);
	if (restart)
		mark_restart(c, e, false);
	return r;
}

static int instance_transit(struct core *c, const char *project, const char *name, const struct transition *want,
			   struct instance_snap **out, struct error *err) {
	_cleanup_(entry_ref_drop) struct entry_ref ref = {c, NULL};
	int r = check_signal(want->signal, err);
	if (r == 0)
		r = entry_get(c, project, name, &ref.entry, err);
	if (r == 0)
		r = entry_transit(c, ref.entry, want, err);
	if (r == 0)
		*out = entry_snap(c, ref.entry);
	return r;
}

int instance_start(struct core *c, const char *project, const char *name, struct instance_snap **out, struct error *err) {
	return instance_transit(c, project, name, &(struct transition){.start = true}, out, err);
}

int instance_stop(struct core *c, const char *project, const char *name, const char *signal, int64_t timeout,
		  struct instance_snap **out, struct error *err) {
	const struct transition want = {.stop = true, .signal = signal, .timeout = timeout};
	return instance_transit(c, project, name, &want, out, err);
}

int instance_restart(struct core *c, const char *project, const char *name, const char *signal, int64_t timeout,
		     struct instance_snap **out, struct error *err) {
	const struct transition want = {.stop = true, .start = true, .signal = signal, .timeout = timeout};
	return instance_transit(c, project, name, &want, out, err);
}

/* Until that run is over, which it soon is. Needs the lock. */
static void await_end(struct core *c, const char *id, int64_t run) {
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += KILL_WAIT;
	for (int r = 0; r == 0 && !c->closing;) {
		const struct entry *e = map_get(c->by_id, id);
		if (!e || e->snap->instance.status.started_at != run || !state_is_up(e->snap->instance.status.state))
			return;
		r = pthread_cond_timedwait(&c->changed, &c->lock, &until);
	}
}

void instance_await_end(struct core *c, const struct instance_snap *run) {
	WITH_LOCK(c);
	await_end(c, run->instance.id, run->instance.status.started_at);
}

int instance_kill(struct core *c, const char *project, const char *name, const char *signal, struct error *err) {
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL;
	int r = check_signal(signal, err);
	if (r == 0)
		r = instance_get(c, project, name, &snap, err);
	if (r < 0)
		return r;
	const struct instance *i = &snap->instance;
	struct msg_instance_kill body = {.id = i->id, .signal = (char *)(signal ? signal : "KILL")};
	if (state_is_up(i->status.state))
		kill_event(c, i, body.signal); /* before what it does to the instance */
	r = agent_call(c, "instance-kill", &body, NULL, err);
	if (r < 0)
		return r;
	WITH_LOCK(c);
	if (signal_from_name(body.signal) == SIGKILL)
		await_end(c, i->id, i->status.started_at);
	return 0;
}

/* One request by the id alone that gives another state. */
static int instance_turn(struct core *c, const char *project, const char *name, const char *request, struct instance_snap **out,
			 struct error *err) {
	_cleanup_(entry_ref_drop) struct entry_ref ref = {c, NULL};
	int r = entry_get(c, project, name, &ref.entry, err);
	if (r < 0)
		return r;
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *before = entry_snap(c, ref.entry);
	struct msg_id body = {.id = before->instance.id};
	r = call_state(c, ref.entry, request, &body, err);
	if (r == 0)
		*out = entry_snap(c, ref.entry);
	return r;
}

int instance_pause(struct core *c, const char *project, const char *name, bool pause, struct instance_snap **out,
		   struct error *err) {
	return instance_turn(c, project, name, pause ? "instance-pause" : "instance-unpause", out, err);
}

int instance_suspend(struct core *c, const char *project, const char *name, struct instance_snap **out, struct error *err) {
	return instance_turn(c, project, name, "machine-suspend", out, err);
}

/* ---- waiting ---- */

struct wait_follower {
	struct follower base;
	struct core *core;
	struct entry *entry;
	enum wait_condition condition;
	unsigned exits; /* at the beginning */
	struct wait_sink sink;
};

static bool wait_is_over(const struct wait_follower *w) {
	const struct entry *e = w->entry;
	switch (w->condition) {
	case WAIT_NOT_RUNNING:
		return e->removed || !state_is_up(e->snap->instance.status.state);
	case WAIT_NEXT_EXIT:
		return e->removed || e->exits != w->exits;
	case WAIT_REMOVED:
		return e->removed;
	}
	return true;
}

static enum follow_result wait_step(struct follower *base) {
	struct wait_follower *w = (struct wait_follower *)base;
	if (w->sink.gone(w->sink.arg))
		return FOLLOW_END;
	WITH_LOCK(w->core);
	return wait_is_over(w) ? FOLLOW_END : FOLLOW_WAIT;
}

static void wait_drop(struct follower *base, bool ended) {
	struct wait_follower *w = (struct wait_follower *)base;
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = entry_snap(w->core, w->entry);
	_cleanup_(error_free) struct error err = ERROR_INIT;
	if (!ended)
		error_set(&err, ERROR_UNAVAILABLE, "the daemon ends");
	w->sink.done(w->sink.arg, &snap->instance.status, ended ? NULL : &err);
	entry_unref(w->core, w->entry);
	free(w);
}

int instance_wait(struct core *c, const char *project, const char *name, enum wait_condition condition,
		  const struct wait_sink *sink, struct error *err) {
	struct entry *e;
	int r = entry_get(c, project, name, &e, err);
	if (r < 0)
		return r;
	struct wait_follower *w = NEW(struct wait_follower);
	*w = (struct wait_follower){
		.base = {.step = wait_step, .drop = wait_drop},
		.core = c,
		.entry = e,
		.condition = condition,
		.sink = *sink,
	};
	sink->begin(sink->arg);
	core_lock(c);
	w->exits = e->exits;
	bool over = wait_is_over(w);
	core_unlock(c);
	if (over)
		wait_drop(&w->base, true);
	else
		follow_add(c->follow, &w->base);
	return 0;
}
