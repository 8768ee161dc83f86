/* The HTTP server: routes, streams, upgrades, on libmicrohttpd. Knows no noun of wabe.
 *
 * One epoll thread owns sockets and idle connections. A request whose headers (and, unless the route
 * streams it, whose body) are complete goes to a pool of workers, which grows to a bound and shrinks when
 * idle; a handler is straight blocking code on a worker.
 *
 * A client that ends its sending (shutdown) before the answer has begun may not get one: libmicrohttpd takes
 * that for the end of the connection. Once a stream or an upgrade has begun, a half-close is one. */
#pragma once

#include "base/error.h"
#include "base/json.h"
#include "base/str.h"

struct http_server;
struct http_request;
struct http_stream;

typedef void (*http_handler)(struct http_request *req);

enum http_route_flags {
	HTTP_STREAM_BODY = 1 << 0, /* the handler reads the body itself with http_body_read */
};

struct http_route {
	const char *method; /* GET also serves HEAD */
	/* "/v1/projects/{project}/instances/{name}/start". "{name}" is one whole segment, not empty, "{rest...}"
	 * one or more. Of several rows that fit, the one with the most literal segments wins, then the first. */
	const char *path;
	http_handler handler;
	unsigned flags;
	const void *data;   /* for the handler: http_route_data */
};

struct http_config {
	const struct http_route *routes; /* NULL-method row last */
	size_t max_body;    /* of bodies that are not streamed; 0: 4 MiB. Larger ones get 413 */
	size_t max_workers; /* 0: 256 */
	void *context;      /* http_context */
	/* renders an error reply in the dialect's shape (unknown route, body too large, error of a handler) with
	 * one call of http_reply…; may run on the server's own thread, so that it must not block */
	void (*render_error)(struct http_request *req, int status, const struct error *e);
	const int *statuses; /* by error_kind, for http_fail; NULL: 500 for all */
	/* How many bytes at the beginning of a path stand before what routes fit ("/v1.44"); NULL: none ever. What is
	 * left must begin with a slash. */
	size_t (*prefix)(const char *path);
	/* Before any handler: whether a path that has a route is served at all; negative and *err answers it. NULL: all are. */
	int (*check)(const char *path, struct error *err);
	const char *const (*headers)[2]; /* {name, value} that every answer has, {NULL} last; NULL: none */
};

/* Serves on a listening socket (unix or TCP, taken over) with its own threads. */
int http_server_start(int listen_fd, const struct http_config *config, struct http_server **out, struct error *err);
/* Stops accepting, lets running handlers end for up to a few seconds, cuts the rest. */
void http_server_stop(struct http_server *s);

/* ---- in a handler ---- */
void *http_context(struct http_request *req);
const void *http_route_data(struct http_request *req);
const char *http_method(struct http_request *req);
const char *http_path(struct http_request *req); /* as sent, without the query */
const char *http_param(struct http_request *req, const char *name);  /* from the path, decoded; never NULL for a name of the route */
const char *http_query(struct http_request *req, const char *name);  /* decoded; NULL when absent, "" for "?name" */
char **http_query_all(struct http_request *req, const char *name);   /* free with strv_free */
const char *http_header(struct http_request *req, const char *name); /* any case; NULL */
struct str http_body(struct http_request *req);                      /* the whole body of a route that does not stream it */
/* Reads of a streamed body: bytes, 0 at the end, -EPIPE when the client has gone. Blocks. */
ssize_t http_body_read(struct http_request *req, void *data, size_t max);
/* The body as JSON (an empty one: {}), or NULL and *err. */
json_t *http_body_json(struct http_request *req, struct error *err);
/* true once the client has closed the connection (checked at once, for long waits), and when the server stops. */
bool http_client_gone(struct http_request *req);
/* For waits in poll(2) beside something else: readable (POLLIN) when http_client_gone has become true; never
 * read it. It lasts as long as the handler. -1: already gone. */
int http_client_fd(struct http_request *req);
/* Who is at the other end of a unix socket (SO_PEERCRED); -EOPNOTSUPP for TCP. uid, pid may be NULL. */
int http_peer(struct http_request *req, uid_t *uid, pid_t *pid);

/* One answer for each request: one of these, http_stream_begin or http_upgrade. A handler that returns
 * without any gets 500. Copies what it is given. */
void http_reply(struct http_request *req, int status, const char *content_type, const void *data, size_t n);
/* Without a copy: data stays as it is until drop(arg) is called, from any thread. */
void http_reply_shared(struct http_request *req, int status, const char *content_type, const void *data, size_t n,
		       void (*drop)(void *arg), void *arg);
void http_reply_json(struct http_request *req, int status, const json_t *value);
void http_reply_empty(struct http_request *req, int status);
void http_reply_error(struct http_request *req, int status, const struct error *e); /* through render_error */
void http_fail(struct http_request *req, const struct error *e); /* the same, with the status that its kind has */
/* A file from `offset`, with the kernel's sendfile; takes fd. */
void http_reply_fd(struct http_request *req, int status, const char *content_type, int fd, uint64_t offset, uint64_t size);
/* Further headers of the coming answer. */
void http_reply_header(struct http_request *req, const char *name, const char *value);

/* A chunked answer. Headers go out at once. The stream may outlive the handler and be written from any
 * one thread. */
struct http_stream *http_stream_begin(struct http_request *req, int status, const char *content_type);
/* Blocks while more than 1 MiB waits; 0 or -EPIPE when the client has gone. */
int http_stream_write(struct http_stream *s, const void *data, size_t n);
/* Never blocks; -EAGAIN (nothing taken) when more than 1 MiB waits. */
int http_stream_push(struct http_stream *s, const void *data, size_t n);
bool http_stream_gone(struct http_stream *s);
/* As http_client_fd; lasts until http_stream_end. */
int http_stream_fd(struct http_stream *s);
/* Frees the stream. Ends it well, or cuts the connection so that the client sees an incomplete answer. */
void http_stream_end(struct http_stream *s, bool complete);

/* 101 with "Upgrade: protocol"; the raw, blocking socket, owned by the caller, with what the client had
 * already sent behind its request put in *early (free it; may be empty). -1 when the client has gone.
 * protocol NULL: 200 without a length instead, and all that follows its headers is the raw stream both ways. Not for a
 * route that streams its body. */
int http_upgrade(struct http_request *req, const char *protocol, struct buf *early);
/* The same, and then bytes are relayed both ways between the client and fd (taken), half-closes included,
 * by the server's own relay thread. Returns at once. */
void http_upgrade_relay(struct http_request *req, const char *protocol, int fd);

/* What a relay makes of the bytes that come from either side. Each function gets n bytes that came in (n 0, once: that side
 * has ended its sending or is gone), and adds what the two sides shall get for them; the end itself is then passed on as a
 * half-close. Called on the relay's thread, one at a time: must not block. -1: the relay ends; what was added before is
 * still sent, nothing more is read. While one side does not take what it is sent, nothing is read that could add to it. */
struct http_filter {
	int (*from_client)(void *arg, const char *data, size_t n, struct buf *to_fd, struct buf *to_client);
	int (*from_fd)(void *arg, const char *data, size_t n, struct buf *to_fd, struct buf *to_client);
	void (*drop)(void *arg); /* the last call, once */
	void *arg;
};
/* Relays between two sockets (both taken), the client's being one that http_upgrade gave; *early is what that gave, and is
 * emptied. Returns at once. */
void http_relay(struct http_request *req, int client, struct buf *early, int fd, const struct http_filter *filter);
