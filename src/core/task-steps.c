/* The steps of a task's parts: kept from its beginning, so that several can follow them, each from the first one. */
#include "core/tasks-priv.h"

#include "base/time.h"

#define STEPS_MAX ((size_t)65536) /* further ones are seen as progress alone */
#define PARTS_MAX ((size_t)4096)
#define TELL_EVERY (50 * NS_PER_MS)
#define REPORT_EVERY (100 * NS_PER_MS)

/* Needs the lock. The part's place; PARTS_MAX: there are too many. */
static size_t part_of(struct task *k, const char *id) {
	size_t i = 0;
	while (i < k->parts.n && !str_same(k->parts.items[i].id, id))
		i++;
	if (i < k->parts.n || i == PARTS_MAX)
		return i;
	k->parts.items = alloc_resize(k->parts.items, k->parts.n + 1, sizeof *k->parts.items);
	k->parts.items[k->parts.n++] = (struct task_part){.id = str_copy(id)};
	return i;
}

void task_step(struct core *c, struct task_run *t, const char *part, const char *message, int64_t done, int64_t total) {
	WITH_LOCK(c);
	size_t i = part_of(&t->task, part);
	if (i == PARTS_MAX)
		return;
	struct task_part *p = &t->task.parts.items[i];
	free(p->message);
	*p = (struct task_part){p->id, str_copy(message), done, total};
	if (t->n_steps < STEPS_MAX) {
		t->steps = alloc_resize(t->steps, t->n_steps + 1, sizeof *t->steps);
		t->steps[t->n_steps++] = (struct step_item){i, str_copy(message), done, total};
	}
	t->generation++;
	follow_wake(c->follow);
}

void task_step_progress(struct core *c, struct task_run *t, const char *part, int64_t done, int64_t total) {
	WITH_LOCK(c);
	size_t i = part_of(&t->task, part);
	if (i == PARTS_MAX)
		return;
	t->task.parts.items[i].done = done;
	t->task.parts.items[i].total = total;
	t->generation++;
	if (time_mono_ns() - t->woken < TELL_EVERY)
		return;
	t->woken = time_mono_ns();
	follow_wake(c->follow);
}

/* ---- following ---- */

struct step_follower {
	struct follower base;
	struct task_run *task;
	struct task_step_sink sink;
	size_t next;      /* of steps */
	int64_t *shown;   /* by part: how far it was when that was last told */
	size_t n_shown;
	int64_t reported; /* mono ns */
};

/* What is new, copied under the lock: strings are freed by batch_free. */
struct batch {
	struct task_step *steps;
	size_t n;
	bool begun;         /* they are steps that have begun, not how far they are */
	bool running, more;
};

static void batch_free(struct batch *b) {
	for (size_t i = 0; i < b->n; i++) {
		free((char *)b->steps[i].part);
		free((char *)b->steps[i].message);
	}
	free(b->steps);
}

#define BATCH_MAX ((size_t)256)

/* Needs the lock. */
static void batch_add(struct batch *b, const struct task_part *p, const char *message, int64_t done, int64_t total) {
	b->steps[b->n++] = (struct task_step){str_copy(p->id), str_copy(message), done, total};
}

/* Needs the lock. */
static void batch_progress(struct batch *b, const struct step_follower *f) {
	const struct task *k = &f->task->task;
	for (size_t i = 0; i < k->parts.n && b->n < BATCH_MAX; i++) {
		const struct task_part *p = &k->parts.items[i];
		if (p->message && p->done != (i < f->n_shown ? f->shown[i] : 0))
			batch_add(b, p, p->message, p->done, p->total);
	}
}

/* Steps first; only who has them all is told how far the parts are. */
static struct batch batch_take(struct step_follower *f, bool due) {
	const struct task_run *t = f->task;
	WITH_LOCK(t->core);
	struct batch b = {.steps = alloc_array(BATCH_MAX, sizeof(struct task_step)), .running = is_running(t)};
	for (size_t i = f->next; i < t->n_steps && b.n < BATCH_MAX; i++)
		batch_add(&b, &t->task.parts.items[t->steps[i].part], t->steps[i].message, t->steps[i].done, t->steps[i].total);
	b.begun = b.n > 0;
	b.more = f->next + b.n < t->n_steps;
	if (b.n == 0 && due && b.running)
		batch_progress(&b, f);
	return b;
}

static void shown_set(struct step_follower *f, const char *part, int64_t done) {
	WITH_LOCK(f->task->core);
	const struct task *k = &f->task->task;
	if (f->n_shown < k->parts.n) {
		f->shown = alloc_resize(f->shown, k->parts.n, sizeof *f->shown);
		memset(f->shown + f->n_shown, 0, (k->parts.n - f->n_shown) * sizeof *f->shown);
		f->n_shown = k->parts.n;
	}
	for (size_t i = 0; i < k->parts.n; i++)
		if (str_same(k->parts.items[i].id, part))
			f->shown[i] = done;
}

static enum follow_result step_look(struct follower *base) {
	struct step_follower *f = (struct step_follower *)base;
	if (f->sink.gone(f->sink.arg))
		return FOLLOW_END;
	bool due = time_mono_ns() - f->reported >= REPORT_EVERY;
	_cleanup_(batch_free) struct batch b = batch_take(f, due);
	for (size_t i = 0; i < b.n; i++) {
		int r = f->sink.step(f->sink.arg, &b.steps[i]);
		if (r < 0)
			return r == -EAGAIN ? FOLLOW_SOON : FOLLOW_END;
		shown_set(f, b.steps[i].part, b.steps[i].done);
		f->next += b.begun;
	}
	if (b.n)
		f->reported = time_mono_ns();
	if (!b.running && !b.more)
		return FOLLOW_END;
	return b.more || (b.n == 0 && !due) ? FOLLOW_SOON : FOLLOW_WAIT;
}

/* Needs the lock. */
static void leave(struct task_run *t) {
	if (t->followers && --t->followers == 0 && !t->kept && is_running(t))
		task_run_cancel(t);
}

static void step_drop(struct follower *base, UNUSED bool ended) {
	struct step_follower *f = (struct step_follower *)base;
	struct task_run *t = f->task;
	struct core *c = t->core;
	core_lock(c);
	bool running = is_running(t);
	core_unlock(c);
	f->sink.end(f->sink.arg, running ? NULL : &t->task, &t->failed); /* an ended one does not change */
	core_lock(c);
	leave(t);
	task_run_drop(t);
	core_unlock(c);
	free(f->shown);
	free(f);
}

int task_follow_steps(struct core *c, const char *project, const char *id, const struct task_step_sink *sink,
		      struct error *err) {
	struct task_run *t = task_hold(c, project, id, err);
	if (!t)
		return -ERROR_NOT_FOUND;
	struct step_follower *f = NEW(struct step_follower);
	*f = (struct step_follower){.base = {.step = step_look, .drop = step_drop}, .task = t, .sink = *sink};
	follow_add(c->follow, &f->base);
	return 0;
}
