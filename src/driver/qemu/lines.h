/* JSON messages, one a line, over a unix socket: what QEMU's monitor and the guest's agent have in common. With deadlines
 * (monotonic ns), and trusting nobody. */
#pragma once

#include "base/buf.h"
#include "base/error.h"
#include "base/json.h"

struct lines {
	int fd;
	size_t max;     /* longest message */
	struct buf in;
	size_t seen;    /* of what is in, this has no end of a line */
};
void lines_init(struct lines *l, int fd, size_t max); /* takes the descriptor over */
void lines_free(struct lines *l);

/* NOT_FOUND: nobody listens on the socket `name` in dir. TIMEOUT when too many wait already. Descriptor or negative. */
int lines_connect(const char *dir, const char *name, int64_t deadline, struct error *err);
/* pass: a descriptor that goes along; -1: none. */
int lines_send(struct lines *l, const char *text, size_t n, int pass, int64_t deadline, struct error *err);
/* One message of those that have come, an object: 1, 0 when none is whole yet. CORRUPT: one that is none, which is skipped;
 * TOO_LARGE: one without end. What
 * stands before a byte 0xff, which no JSON has, is void: so the guest's agent marks a new beginning. */
int lines_next(struct lines *l, json_t **message, struct error *err);
/* Takes in more of what has come: 1, 0 when nothing has. UNAVAILABLE: the other side has ended. */
int lines_fill(struct lines *l, struct error *err);
/* Waits for the next message. */
int lines_await(struct lines *l, int64_t deadline, json_t **message, struct error *err);
/* The other side's words as they may stand in a message: some hundred bytes at most, without control characters; free it. NULL
 * says that there are none. */
char *lines_words(const char *text);
