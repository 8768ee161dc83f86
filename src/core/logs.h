/* Logs of instances: files in the format of the Kubernetes CRI, a line each:
 * "2026-11-22T23:09:46.123456789Z stdout F text". P instead of F: the line goes on in the next entry. */
#pragma once

#include "core/core.h"

struct log_entry {
	int stream;            /* 1: stdout, 2: stderr */
	bool partial;
	const char *time_text; /* time_len bytes */
	size_t time_len;
	const char *text;      /* len bytes, without the newline */
	size_t len;
};

/* One line without its newline. false when it is none: the caller skips it. */
bool log_entry_parse(const char *line, size_t len, struct log_entry *out);
/* Where the last n whole lines of the file begin (0: all fit), reading from the end; *found: how many lines
 * there are from there on (partial entries count as one with what completes them). -errno. */
int64_t log_tail_offset(int fd, int64_t n, int64_t *found);

struct log_filter {
	bool want_stdout, want_stderr, follow;
	int64_t tail;         /* lines; < 0: all */
	int64_t since, until; /* ns since the epoch; 0: not limited */
};
struct log_sink {
	void (*begin)(void *arg); /* the first call, once nothing can fail any more, from the caller's thread */
	void (*entry)(void *arg, const struct log_entry *e); /* adds it to what flush sends */
	/* block: waits until there is room. 0, -EAGAIN, -EPIPE */
	int (*flush)(void *arg, bool block);
	bool (*gone)(void *arg);
	void (*end)(void *arg, bool complete); /* the last call */
	void *arg;
};
/* Sends what is there and, with follow, what comes until the instance has stopped. Returns when the past is
 * done; what follows is given by a thread of the core's. On an error the sink is not used. */
int instance_logs(struct core *c, const char *project, const char *name, const struct log_filter *filter,
		  const struct log_sink *sink, struct error *err);
