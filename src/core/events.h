/* Events: what has happened to instances, images and tasks, numbered by revision. */
#pragma once

#include "core/core.h"
#include "model/task.h"

struct event_filter {
	int64_t from;            /* the first revision wanted; 0: from now on (or from since, where given) */
	int64_t since, until;    /* ns since the epoch; 0: not limited */
	const char *project, *type, *instance; /* NULL: any; instance: a name or an id */
};

/* Where events go. begin comes first, from the caller's own thread, once nothing can fail any more; the others
 * from one thread at a time. */
struct event_sink {
	void (*begin)(void *arg);
	/* json: the event on one line without a newline. 0; -EAGAIN: not now, offer it again; -EPIPE: no more */
	int (*event)(void *arg, const struct event *e, const char *json, size_t len);
	bool (*gone)(void *arg);
	void (*end)(void *arg, bool complete); /* the last call */
	void *arg;
};

/* Gives the events of the past that pass the filter and, with follow, then those to come until the sink
 * goes or until is over. Returns when the past is done; what is to come is given by a thread of the core's.
 * CONFLICT when history from that revision on is gone. On an error the sink is not used. */
int events_follow(struct core *c, const struct event_filter *filter, bool follow, const struct event_sink *sink,
		  struct error *err);
/* Revision of the newest event. */
int64_t events_revision(struct core *c);
