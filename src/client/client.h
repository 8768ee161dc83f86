/* The native API from the outside: HTTP/1.1 over RUN/wabe.sock. Blocking, one connection a client, kept
 * open between requests. */
#pragma once

#include "base/buf.h"
#include "base/error.h"
#include "base/json.h"

struct client;

/* run: the daemon's run directory; NULL: WABE_RUN or /run/wabe. Connects on the first request;
 * UNAVAILABLE with a hint ("is wabe daemon running?") when nobody listens. */
struct client *client_new(const char *run);
void client_free(struct client *c);
DEFINE_CLEANUP(client_free_ptr, struct client *, client_free);

/* A JSON request; body NULL: none. *reply (NULL: not wanted) is the JSON answer, or NULL for an empty one.
 * An error answer becomes *err with its kind, message and field. path is already encoded: client_path. */
int client_call(struct client *c, const char *method, const char *path, const json_t *body, json_t **reply,
		struct error *err);
/* The answer's body goes to `sink` in pieces as they come (sink < 0 stops with CANCELLED). */
int client_stream(struct client *c, const char *method, const char *path, const json_t *body,
		  int (*sink)(const char *data, size_t n, void *arg), void *arg, struct error *err);
/* A request whose body is read from fd, chunked (image load, cp). */
int client_upload(struct client *c, const char *method, const char *path, const char *content_type, int fd,
		  json_t **reply, struct error *err);
/* An upgraded stream by POST, on a connection of its own: the raw socket, owned by the caller; *early is what came
 * behind the headers. */
int client_upgrade(struct client *c, const char *path, const json_t *body, int *sock, struct buf *early,
		   struct error *err);

/* Waits until nobody listens on the daemon's socket any more; TIMEOUT after a minute. */
int client_wait_end(struct client *c, struct error *err);

/* A header of the last answer (any case), or NULL; valid until the next request. */
const char *client_header(const struct client *c, const char *name);
/* While fd (-1: none) is readable, waiting for an answer ends with CANCELLED and the connection is closed. */
void client_cancel_on(struct client *c, int fd);
/* Called while client_upload sends, with the bytes sent so far; NULL: nobody. */
void client_on_upload(struct client *c, void (*fn)(uint64_t sent, void *arg), void *arg);

/* "/v1/projects/default/instances/%s/start": each %s is percent-encoded as one segment; free it. */
char *client_path(const char *fmt, ...);
char *client_vpath(const char *fmt, va_list ap);
