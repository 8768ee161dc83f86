/* The messages between control and agent.
 *
 * One connection carries one request: control connects to RUN/agent.sock, sends the request, reads any
 * number of progress messages and one final answer (ok or error); for the `events` request the answers go
 * on without end. Closing the connection cancels the operation. There is nothing to multiplex.
 *
 * On the socket: a frame is a 32-bit little-endian length (at most WIRE_FRAME_MAX) and that many bytes of
 * JSON {"type": "...", "body": {...}}; descriptors ride on the frame's first byte (SCM_RIGHTS). Bodies are
 * described by field tables, so that both sides check every field of every message. */
#pragma once

#include "base/error.h"
#include "model/field.h"

#define WIRE_FRAME_MAX ((size_t)2 << 20)
#define WIRE_ANSWER_MAX ((size_t)64 << 20) /* of the agent, who is trusted: the list of all instances */
#define WIRE_FDS_MAX 16

/* A row of the table of requests. */
struct wire_request {
	const char *name; /* "instance-start" */
	const struct field_table *request, *reply;
	size_t min_fds, max_fds; /* that come with the request */
	const char *doc;
};

/* messages.c: all requests, NULL-named row last. */
extern const struct wire_request wire_requests[];
const struct wire_request *wire_request_find(const char *name);

struct wire_frame {
	char *type;     /* a request's name, "ok", "progress" or "error" */
	json_t *body;
	int fds[WIRE_FDS_MAX]; /* owned; taken ones are set to -1 */
	size_t nfds;
};
void wire_frame_free(struct wire_frame *f);

int wire_send(int sock, const char *type, const json_t *body, const int *fds, size_t nfds, struct error *err);
int wire_send_error(int sock, const struct error *e);
/* Blocks for one frame. UNAVAILABLE at the end of the stream (also within a frame), TIMEOUT when the socket has
 * SO_RCVTIMEO and it passes; INVALID for a malformed frame, whose descriptors are closed. */
int wire_recv(int sock, struct wire_frame *out, struct error *err);

/* Control's side of one request: sends, calls on_progress for each progress message, gives the final
 * reply parsed into *reply (of r->reply) and its descriptors. An error answer comes back as *err, with
 * kind and field. */
struct wire_call {
	const char *socket_path;
	const struct wire_request *request;
	const void *body;  /* of request->request */
	const int *fds;
	size_t nfds;
	void *reply;       /* filled; free with fields_free(request->reply, …) */
	int *reply_fds;    /* room for reply_fds_max; owned by the caller afterwards */
	size_t reply_fds_max, reply_nfds; /* what is more than the maximum is closed */
	void (*on_progress)(const json_t *body, void *arg);
	void *arg;
	int cancel_fd;     /* readable: give up with CANCELLED; 0: none */
};
int wire_call(struct wire_call *call, struct error *err);
