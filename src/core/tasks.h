/* Tasks: long operations with progress, waited for and cancelled from outside. */
#pragma once

#include "core/core.h"
#include "model/task.h"

struct task_sink { /* as event_sink */
	void (*begin)(void *arg);
	int (*task)(void *arg, const char *json, size_t len);
	bool (*gone)(void *arg);
	void (*end)(void *arg, bool complete);
	void *arg;
};

/* One step of one part of a task: what has begun, or how far it is. */
struct task_step {
	const char *part, *message;
	int64_t done, total;
};
/* Where steps go; all calls but begin come from one thread, which must not be held up. */
struct task_step_sink {
	int (*step)(void *arg, const struct task_step *s); /* 0; -EAGAIN: offer it again; -EPIPE: no more */
	bool (*gone)(void *arg);
	/* The last call. task: as it ended, and why it failed (kind none: it did not); NULL: the sink went, or the core. */
	void (*end)(void *arg, const struct task *task, const struct error *err);
	void *arg;
};

/* JSON texts, owned by the caller. Tasks that have ended are kept for a while (the last 128). */
char *task_list(struct core *c, const char *project);
int task_get(struct core *c, const char *project, const char *id, char **json, struct error *err);
/* CONFLICT: it is past where it could be called off. */
int task_cancel(struct core *c, const char *project, const char *id, char **json, struct error *err);
/* Waits for its end; its error is the caller's. */
int task_await(struct core *c, const char *project, const char *id, struct error *err);
/* The task now, at each change (at most ten times a second), and at its end. Returns at once. */
int task_follow(struct core *c, const char *project, const char *id, const struct task_sink *sink, struct error *err);
/* Every step that any part has begun since the task's beginning, whoever comes however late; of how far a step is, the
 * newest (at most ten times a second). Returns at once. */
int task_follow_steps(struct core *c, const char *project, const char *id, const struct task_step_sink *sink,
		      struct error *err);
