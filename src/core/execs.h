/* Execs: processes beside an instance's first one, that are described first and started later. They are known in memory
 * alone: a control that starts anew has forgotten those of the last one, whose processes go on. The newest 256 that have
 * ended are remembered, and all of an instance as long as it is there; one that was not started in the run in which it was
 * created is not there any more. */
#pragma once

#include "core/instances.h"

struct exec_info {
	char *id, *instance_id;
	struct msg_exec_start spec;
	char *note;        /* the caller's own, as given to exec_create */
	bool started;      /* or was tried to */
	bool running;
	int64_t pid;       /* on the host; 0: it does not run */
	int64_t exit_code; /* -1: it has not ended */
};
void exec_info_free(struct exec_info *i);

/* CONFLICT unless the instance runs; QUOTA when too many wait to be started or run. Copies spec, whose ids are not looked
 * at. note: any text, or NULL. *id: to be freed. */
int exec_create(struct core *c, const char *project, const char *name, const struct msg_exec_start *spec, const char *note,
		char **id, struct error *err);
/* By the whole id. NOT_FOUND. */
int exec_get(struct core *c, const char *project, const char *id, struct exec_info *out, struct error *err);
struct exec_start {
	bool detach;
	int64_t rows, columns; /* 0: as created, or resized since */
};
/* CONFLICT when it was started before. *fd as in instance_exec. A command that could not be executed has ended with 127
 * or 126. */
int exec_start(struct core *c, const char *project, const char *id, const struct exec_start *how, int *fd, struct error *err);
/* A new size of its terminal; before the start, that which it begins with. */
int exec_resize(struct core *c, const char *project, const char *id, int64_t rows, int64_t columns, struct error *err);
