/* Tasks in memory: running ones on a bounded pool of threads, ended ones for a while. */
#include "core/tasks-priv.h"

#include "base/log.h"
#include "base/str.h"
#include "base/time.h"

#include <sys/eventfd.h>
#include <unistd.h>

#define ENDED_KEPT 128
#define REPORT_EVERY (100 * NS_PER_MS)

static char *task_json(const struct task_run *t) {
	_cleanup_(json_free_ptr) json_t *json = fields_print(&task_table, &t->task);
	return json_print(json);
}

/* Needs the lock, but for the last one of all. */
void task_run_drop(void *p) {
	struct task_run *t = p;
	if (--t->refs > 0)
		return;
	fields_free(&task_table, &t->task);
	free(t->key);
	error_free(&t->failed);
	for (size_t i = 0; i < t->n_steps; i++)
		free(t->steps[i].message);
	free(t->steps);
	close_fd(&t->cancel_fd);
	free(t);
}

/* Needs the lock. */
static void forget_old(struct core *c) {
	size_t ended = 0;
	const char *id;
	void *value;
	for (size_t i = 0; map_next(c->tasks, &i, NULL, &value);)
		ended += !is_running(value);
	for (size_t i = 0; ended > ENDED_KEPT && map_next(c->tasks, &i, &id, &value);)
		if (!is_running(value)) {
			map_remove(c->tasks, id);
			ended--;
		}
}

/* Needs the lock. */
static void task_end(struct core *c, struct task_run *t, int r, char *result, struct error *err) {
	struct task *k = &t->task;
	free(k->state);
	k->state = str_copy(r == 0 ? "done" : err->kind == ERROR_CANCELLED || t->cancel ? "cancelled" : "failed");
	k->finished_at = time_now_ns();
	k->result = result;
	free(TAKE_PTR(k->message));
	if (r < 0) {
		k->error = str_copy(error_text(err));
		k->error_kind = str_copy(error_kind_name(err->kind));
		log_info("task %s (%s): %s", k->kind, k->target, k->error);
		error_move(&t->failed, err);
	}
	close_fd(&t->cancel_fd);
	t->cancel_fd = -1; /* it is kept for a while, and shall cost no descriptor */
	t->generation++;
	pthread_cond_broadcast(&c->changed);
	event_add(c, "task", k->state, k->project, k->id, k->target, "kind", k->kind, NULL);
	forget_old(c);
}

static void task_main(void *arg) {
	struct task_run *t = arg;
	struct core *c = t->core;
	_cleanup_(error_free) struct error err = ERROR_INIT;
	char *result = NULL;
	int r = t->cancel ? error_set(&err, ERROR_CANCELLED, "cancelled before it began")
			  : t->fn(c, t, t->arg, &result, &err);
	if (t->drop)
		t->drop(t->arg);
	WITH_LOCK(c);
	task_end(c, t, r, result, &err);
	task_run_drop(t);
}

/* Needs the lock. */
static struct task_run *find_running(struct core *c, const char *kind, const char *key) {
	void *value;
	for (size_t i = 0; map_next(c->tasks, &i, NULL, &value);) {
		struct task_run *t = value;
		if (is_running(t) && !t->cancel && str_same(t->task.kind, kind) && str_same(t->key, key))
			return t;
	}
	return NULL;
}

/* Needs the lock. */
static void task_join(struct task_run *t, unsigned flags) {
	if (flags & TASK_FOLLOWED)
		t->followers++;
	else
		t->kept = true;
}

int task_start_flags(struct core *c, const char *project, const char *kind, const char *target, const char *key, unsigned flags,
		     int (*fn)(struct core *c, struct task_run *t, void *arg, char **result, struct error *err), void *arg,
		     void (*drop)(void *arg), char **json, struct error *err) {
	WITH_LOCK(c);
	int r = core_project_check(c, project, err);
	struct task_run *t = r == 0 && key ? find_running(c, kind, key) : NULL;
	if (r < 0 || t) {
		if (t) {
			task_join(t, flags);
			*json = task_json(t);
		}
		drop(arg);
		return r;
	}
	t = NEW(struct task_run);
	*t = (struct task_run){
		.task = {.id = random_hex(6), .project = str_copy(project), .kind = str_copy(kind),
			 .target = str_copy(target), .state = str_copy("running"), .created_at = time_now_ns()},
		.key = key ? str_copy(key) : NULL,
		.refs = 2, /* the map's, the thread's */
		.cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
		.core = c,
		.fn = fn,
		.arg = arg,
		.drop = drop,
	};
	task_join(t, flags);
	map_set(c->tasks, t->task.id, t);
	*json = task_json(t);
	crew_run(c->runners, task_main, t);
	return 0;
}

int task_start(struct core *c, const char *project, const char *kind, const char *target, const char *key,
	       int (*fn)(struct core *c, struct task_run *t, void *arg, char **result, struct error *err), void *arg,
	       void (*drop)(void *arg), char **json, struct error *err) {
	return task_start_flags(c, project, kind, target, key, 0, fn, arg, drop, json, err);
}

void task_progress(struct core *c, struct task_run *t, const char *message, int64_t done, int64_t total) {
	WITH_LOCK(c);
	if (message && !str_same(message, t->task.message)) {
		free(t->task.message);
		t->task.message = str_copy(message);
	}
	t->task.done = done;
	t->task.total = total;
	t->generation++;
	follow_wake(c->follow);
}

void task_final(struct core *c, struct task_run *t) {
	WITH_LOCK(c);
	t->final = true;
}

volatile bool *task_cancel_flag(struct task_run *t) {
	return &t->cancel;
}

int task_cancel_fd(struct task_run *t) {
	return t->cancel_fd;
}

void task_run_cancel(struct task_run *t) {
	t->cancel = true;
	uint64_t one = 1;
	if (write(t->cancel_fd, &one, sizeof one) < 0)
		return; /* full: it is set */
}

void tasks_cancel_all(struct core *c) {
	WITH_LOCK(c);
	void *value;
	for (size_t i = 0; map_next(c->tasks, &i, NULL, &value);)
		if (is_running(value))
			task_run_cancel(value);
}

/* ---- the verbs ---- */

struct task_run *task_find(struct core *c, const char *project, const char *id, struct error *err) {
	struct task_run *t = map_get(c->tasks, id);
	if (t && str_same(t->task.project, project))
		return t;
	error_set(err, ERROR_NOT_FOUND, "no task is called %.64s", id);
	return NULL;
}

struct task_run *task_hold(struct core *c, const char *project, const char *id, struct error *err) {
	WITH_LOCK(c);
	struct task_run *t = task_find(c, project, id, err);
	if (t)
		t->refs++;
	return t;
}

int task_await(struct core *c, const char *project, const char *id, struct error *err) {
	WITH_LOCK(c);
	struct task_run *t = task_find(c, project, id, err);
	if (!t)
		return -ERROR_NOT_FOUND;
	t->refs++;
	while (is_running(t))
		pthread_cond_wait(&c->changed, &c->lock);
	int r = t->failed.kind ? error_set(err, t->failed.kind, "%s", error_text(&t->failed)) : 0;
	task_run_drop(t);
	return r;
}

char *task_list(struct core *c, const char *project) {
	WITH_LOCK(c);
	struct buf text = BUF_INIT;
	buf_adds(&text, "{\"tasks\":[");
	void *value;
	for (size_t i = 0, n = 0; map_next(c->tasks, &i, NULL, &value);) {
		struct task_run *t = value;
		if (!str_same(t->task.project, project))
			continue;
		_cleanup_(free_ptr) char *json = task_json(t);
		buf_addf(&text, "%s%s", n++ ? "," : "", json);
	}
	buf_adds(&text, "]}");
	return buf_steal(&text);
}

int task_get(struct core *c, const char *project, const char *id, char **json, struct error *err) {
	WITH_LOCK(c);
	struct task_run *t = task_find(c, project, id, err);
	if (!t)
		return -ERROR_NOT_FOUND;
	*json = task_json(t);
	return 0;
}

int task_cancel(struct core *c, const char *project, const char *id, char **json, struct error *err) {
	WITH_LOCK(c);
	struct task_run *t = task_find(c, project, id, err);
	if (!t)
		return -ERROR_NOT_FOUND;
	if (is_running(t) && t->final)
		return error_set(err, ERROR_CONFLICT, "%s of %s cannot be called off any more: %s", t->task.kind, t->task.target, t->task.message);
	if (is_running(t))
		task_run_cancel(t);
	*json = task_json(t);
	return 0;
}

/* ---- followers ---- */

struct task_follower {
	struct follower base;
	struct task_run *task;
	struct task_sink sink;
	uint64_t seen;
	int64_t reported; /* mono ns */
};

static enum follow_result task_look(struct follower *base) {
	struct task_follower *f = (struct task_follower *)base;
	if (f->sink.gone(f->sink.arg))
		return FOLLOW_END;
	struct core *c = f->task->core;
	core_lock(c);
	bool running = is_running(f->task);
	uint64_t generation = f->task->generation;
	_cleanup_(free_ptr) char *json = generation + 1 != f->seen ? task_json(f->task) : NULL;
	core_unlock(c);
	if (!json)
		return FOLLOW_WAIT;
	if (running && time_mono_ns() - f->reported < REPORT_EVERY)
		return FOLLOW_SOON;
	if (f->sink.task(f->sink.arg, json, strlen(json)) == -EAGAIN)
		return FOLLOW_SOON;
	f->seen = generation + 1;
	f->reported = time_mono_ns();
	return running ? FOLLOW_WAIT : FOLLOW_END;
}

static void task_follow_drop(struct follower *base, bool ended) {
	struct task_follower *f = (struct task_follower *)base;
	struct core *c = f->task->core;
	f->sink.end(f->sink.arg, ended);
	core_lock(c);
	task_run_drop(f->task);
	core_unlock(c);
	free(f);
}

int task_follow(struct core *c, const char *project, const char *id, const struct task_sink *sink, struct error *err) {
	struct task_run *t = task_hold(c, project, id, err);
	if (!t)
		return -ERROR_NOT_FOUND;
	struct task_follower *f = NEW(struct task_follower);
	*f = (struct task_follower){.base = {.step = task_look, .drop = task_follow_drop}, .task = t, .sink = *sink};
	sink->begin(sink->arg);
	follow_add(c->follow, &f->base);
	return 0;
}
