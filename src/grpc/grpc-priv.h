/* Between the files of grpc. */
#pragma once

#include "grpc/grpc.h"

#include <nghttp2/nghttp2.h>
#include <pthread.h>

#define GRPC_CALLS_MAX 64		     /* that come in, at a time */
#define GRPC_WINDOW ((int32_t)2 << 20)	     /* bytes of a call that wait for their reader */
#define GRPC_OUT_MAX ((size_t)1 << 20)	     /* bytes of a call that wait to be sent */
#define GRPC_HEADERS_MAX 64		     /* of a call that comes in */
#define GRPC_PREFIX ((size_t)5)		     /* of a message: a flag and its length */

struct grpc_call {
	struct grpc_connection *connection; /* a reference */
	struct grpc_call *next;		    /* of the connection's */
	int32_t id;			    /* the stream's; -1: it is closed */
	int refs;			    /* the caller's or handler's, the stream's */
	struct buf in, out;
	size_t in_taken, out_taken;
	bool in_ended, out_ended, out_deferred;
	bool over; /* nothing more will come or go */
	char *path;
	struct grpc_text_pair {
		char *name, *value;
	} *headers;
	size_t n_headers;
	/* how it ended: the client's side of what the server said */
	int status; /* enum grpc_status; -1: it has not said */
	int http_status;
	char *message;
};

struct grpc_connection {
	int refs;
	int fd, wake;
	const struct grpc_method *methods;
	void *context;
	pthread_mutex_t lock; /* over all that is below and over all of its calls */
	pthread_cond_t changed;
	nghttp2_session *session;
	struct grpc_call *calls;
	struct buf out; /* that the socket has not taken yet */
	size_t out_taken;
	size_t handlers; /* that run */
	bool greeted, closing, ended;
};

/* All need the lock. */
void grpc_wake(struct grpc_connection *c);
/* stream.c: what nghttp2 calls; its user data is the connection. */
nghttp2_session_callbacks *grpc_callbacks(void);
nghttp2_data_provider grpc_provider(struct grpc_call *call);
/* call.c */
struct grpc_call *grpc_call_new(struct grpc_connection *c, int32_t id);
/* true: it was the last one: its reference of the connection is the caller's, to be given back without the lock. */
bool grpc_call_unref(struct grpc_call *call);
/* The stream is closed: who waits for it hears that. */
void grpc_call_cut(struct grpc_call *call);
/* Has the handler answer it, on a thread. */
void grpc_call_serve(struct grpc_call *call);
