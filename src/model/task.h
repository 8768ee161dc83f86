/* The task: one long operation, with its progress and result; and the event: one change that was seen. */
#pragma once

#include "model/field.h"

/* One of several things that a task works on, some of them at once: a layer, by its digest; an image, by its name. */
struct task_part {
	char *id;
	char *message; /* what is done with it just now, or was done last */
	int64_t done, total; /* bytes */
};

struct task {
	char *id;
	char *project;
	char *kind;    /* image-pull, image-push, image-bootstrap, … */
	char *target;  /* what it works on: an image reference, an instance's name */
	char *state;   /* running | done | failed | cancelled */
	char *message; /* what it does just now, one line */
	int64_t done, total; /* progress in bytes, or 0 0 where it is not known */
	FIELD_LIST_OF(struct task_part) parts;
	int64_t created_at, finished_at;
	char *error, *error_kind; /* when it failed */
	char *result;  /* an image's id … */
};

struct event {
	int64_t revision;
	int64_t time;
	char *type;    /* instance | image | task | network | rules | balancer | address */
	char *action;  /* create start die stop kill restart pause unpause rename update destroy oom health attach
			* exec_create exec_start exec_die; pull push tag untag delete import load … */
	char *project;
	char *id, *name;
	struct pairs attributes; /* exit_code, image, signal … */
	struct pairs labels;     /* that the instance or image had then */
};

extern const struct field_table task_table, event_table;
