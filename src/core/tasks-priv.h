/* A running or ended task, as tasks.c and task-steps.c know it. */
#pragma once

#include "core/core-priv.h"
#include "core/tasks.h"

#include "base/str.h"

struct step_item {
	size_t part;
	char *message;
	int64_t done, total; /* as it began */
};

struct task_run {
	struct task task;
	char *key;
	int refs;
	uint64_t generation; /* counts changes */
	struct step_item *steps;
	size_t n_steps;
	int64_t woken;       /* mono ns: when followers were told last */
	unsigned followers;  /* who started it to follow it, and has not left */
	bool kept;           /* goes on without them */
	struct error failed;
	volatile bool cancel;
	bool final;          /* cannot be called off any more */
	int cancel_fd;
	struct core *core;
	int (*fn)(struct core *c, struct task_run *t, void *arg, char **result, struct error *err);
	void *arg;
	void (*drop)(void *arg);
};

static inline bool is_running(const struct task_run *t) {
	return str_same(t->task.state, "running");
}
/* All of these need the lock. */
struct task_run *task_find(struct core *c, const char *project, const char *id, struct error *err);
/* The same with a reference; takes the lock itself. */
struct task_run *task_hold(struct core *c, const char *project, const char *id, struct error *err);
void task_run_cancel(struct task_run *t);
