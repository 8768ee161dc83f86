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

/* JSON texts, owned by the caller. Tasks that have ended are kept for a while (the last 128). */
char *task_list(struct core *c, const char *project);
int task_get(struct core *c, const char *project, const char *id, char **json, struct error *err);
int task_cancel(struct core *c, const char *project, const char *id, char **json, struct error *err);
/* The task now, at each change (at most ten times a second), and at its end. Returns at once. */
int task_follow(struct core *c, const char *project, const char *id, const struct task_sink *sink, struct error *err);
