/* gRPC over HTTP/2 on a connected socket, in both roles, on nghttp2. Knows no message: bytes go in and come out.
 *
 * One thread runs a connection (grpc_run); calls are made and answered by others, in straight blocking code. What the other
 * side sends is a stranger's: messages, headers, calls at a time and bytes that wait for a reader are bounded. */
#pragma once

#include "base/buf.h"
#include "base/error.h"
#include "base/str.h"

#define GRPC_MESSAGE_MAX ((size_t)4 << 20)

struct grpc_connection;
struct grpc_call;

/* gRPC's codes, as far as they are used. */
enum grpc_status {
	GRPC_OK = 0,
	GRPC_CANCELLED = 1,
	GRPC_UNKNOWN = 2,
	GRPC_INVALID_ARGUMENT = 3,
	GRPC_NOT_FOUND = 5,
	GRPC_UNIMPLEMENTED = 12,
	GRPC_INTERNAL = 13,
	GRPC_UNAVAILABLE = 14,
};

/* Answers a call with grpc_receive and grpc_send, on a thread of its own. Negative and *err: the call fails with it. */
typedef int (*grpc_handler)(struct grpc_call *call, void *context, struct error *err);
struct grpc_method {
	const char *path; /* "/package.Service/Method" */
	grpc_handler handler;
};

/* ---- connections ---- */
/* On a socket that is connected (taken), from which early has been read already. methods: we are its server (a row with path
 * NULL last); NULL: its client. NULL: out of resources, the socket is closed. */
struct grpc_connection *grpc_open(int fd, const struct buf *early, const struct grpc_method *methods, void *context,
				  struct error *err);
/* Until the connection has ended, or `stop` (-1: none) is readable. Then all its calls fail and, of a server, all handlers have
 * returned. Once. */
void grpc_run(struct grpc_connection *c, int stop);
/* Has grpc_run end soon; from any thread. */
void grpc_close(struct grpc_connection *c);
bool grpc_closed(struct grpc_connection *c);
/* Waits until the other side has said that it is there. false: the connection has ended. */
bool grpc_greeted(struct grpc_connection *c);
struct grpc_connection *grpc_ref(struct grpc_connection *c);
void grpc_unref(struct grpc_connection *c);
DEFINE_CLEANUP(grpc_unref_ptr, struct grpc_connection *, grpc_unref);

/* ---- calls: from any thread, one at a time for each direction of a call ---- */
struct grpc_header {
	const char *name, *value; /* the name in lower case */
};
struct grpc_call *grpc_call(struct grpc_connection *c, const char *path, const struct grpc_header *headers, size_t n,
			    struct error *err);
/* Blocks while a megabyte waits. UNAVAILABLE: the call is over. */
int grpc_send(struct grpc_call *call, const void *data, size_t n, struct error *err);
/* Nothing more will be sent by a client; to a server's call, which ends with its handler, it does nothing. */
void grpc_send_end(struct grpc_call *call);
/* Ends a client's call, from any thread: whoever waits for it hears that. To a server's it does nothing. */
void grpc_call_give_up(struct grpc_call *call);
/* The next message, which replaces what is in it. 1; 0: there is none any more, and of a client's call all was well; negative:
 * in the other side's own words what is wrong, of the kind that its code has, or UNAVAILABLE: the connection broke. */
int grpc_receive(struct grpc_call *call, struct buf *message, struct error *err);
/* One message there and one back, in *message (both may be the same). */
int grpc_ask(struct grpc_connection *c, const char *path, const struct buf *request, struct buf *answer, struct error *err);
/* Of a call that came in: a header's value, or NULL. */
const char *grpc_header(const struct grpc_call *call, const char *name);
/* Whether the other side has given it up, or is gone. */
bool grpc_call_over(struct grpc_call *call);
/* Gives up a client's call that is not over, and frees it. */
void grpc_call_free(struct grpc_call *call);
DEFINE_CLEANUP(grpc_call_free_ptr, struct grpc_call *, grpc_call_free);
