/* Between the files of http. */
#pragma once

#include "base/buf.h"
#include "http/http.h"

#include <microhttpd.h>
#include <pthread.h>
#include <time.h>

#define HTTP_BODY_DEFAULT ((size_t)4 << 20)
#define HTTP_WORKERS_DEFAULT ((size_t)256)
#define HTTP_STREAM_MAX ((size_t)1 << 20)    /* bytes that wait for a slow reader */
#define HTTP_UPLOAD_MAX ((size_t)256 << 10)  /* bytes of a streamed body that wait for a slow handler */
#define HTTP_DRAIN_MAX ((uint64_t)64 << 20)  /* of a refused body are read, so that the client hears why */

#define HTTP_IDLE_TIMEOUT 300u               /* seconds, of a connection */

struct http_pair {
	char *name, *value;
};
struct http_pairs {
	struct http_pair *items;
	size_t n;
};

void http_pairs_add(struct http_pairs *p, char *name, char *value); /* takes both */
const char *http_pairs_get(const struct http_pairs *p, const char *name, bool any_case);
void http_pairs_free(struct http_pairs *p);

/* ---- target.c: the request line ---- */

struct http_target {
	char *path;                /* raw */
	char **segments;           /* decoded */
	struct http_pairs query;
};

/* Decodes %XX (and, with plus, "+"); NULL for a bad or NUL encoding. */
char *http_decode(struct str s, bool plus);
/* 0, or -EINVAL for a bad encoding or a target that is no path. prefix: as in http_config. */
int http_target_parse(const char *uri, size_t (*prefix)(const char *path), struct http_target *out);
void http_target_free(struct http_target *t);

/* The row that fits, with its parameters; NULL and in *allow the methods that there are ("GET, HEAD"), or
 * NULL where no row has that path. */
const struct http_route *http_route_find(const struct http_route *routes, const char *method, char *const *segments,
					 struct http_pairs *params, char **allow);

/* ---- the request ---- */

enum http_phase {
	HTTP_READING,   /* the body comes in */
	HTTP_RUNNING,   /* a worker has it (a streamed body may still come in) */
	HTTP_ANSWERED,  /* `answer` waits to be queued */
	HTTP_QUEUED,    /* MHD has it */
};

struct http_request {
	struct http_server *server;
	struct MHD_Connection *connection;
	int fd;
	int gone_fd, gone_socket;    /* of http_client_fd: an epoll, and the duplicate of fd in it; or -1 */
	struct http_target target;
	int bad;                     /* the target could not be parsed */
	char *method;
	struct http_pairs headers, params, extra; /* extra: of the answer */
	const struct http_route *route;
	bool seen;                   /* the headers have been looked at */
	int refuse;                  /* status of an answer without a handler, or 0 */
	char *allow;
	uint64_t drained;

	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned refs;
	enum http_phase phase;
	bool suspended;              /* MHD waits until server_resume */
	bool done;                   /* MHD has no more to do with it: connection and fd are gone */
	struct buf body;
	size_t body_taken;           /* of a streamed one, by the handler */
	bool body_complete;

	struct MHD_Response *answer;
	int status;

	/* stream.c */
	bool streams;
	struct buf out;
	size_t out_taken;
	bool out_ended, out_complete;

	/* upgrade.c */
	int upgraded;                /* the socket, or -1 */
	int relay_to;                /* or -1 */
	int hijacked, stand_in;      /* the client's socket, taken from MHD; the far end of what MHD has for it; or -1 */
	struct buf early;

	struct http_request *next_job;           /* pool.c */
	struct http_request *next, **place;      /* of all requests of the server */
};

struct http_request *http_request_ref(struct http_request *req);
void http_request_unref(struct http_request *req);

/* Sets the answer and wakes MHD; only the first one counts. Takes the response (NULL: 500). */
void http_answer(struct http_request *req, int status, struct MHD_Response *response);

/* ---- the server ---- */

struct http_pool;
struct http_relay;

struct http_server {
	struct http_config config;
	struct MHD_Daemon *mhd;
	struct http_pool *pool;
	struct http_relay *relay;
	pthread_mutex_t lock;        /* of the list of requests */
	struct http_request *requests;
	pthread_cond_t completed;    /* one of them */
	pthread_mutex_t resume;      /* held while MHD is told to resume, so that stop can shut that door */
	int stop_event;              /* readable from then on */
	bool stopping;               /* asked to stop: long waits end */
	bool stopped;                /* nothing is suspended or resumed any more; set under resume */
};

bool http_server_stopping(const struct http_server *s);
bool http_server_stopped(const struct http_server *s);

/* Lets MHD go on with a request if it waits. Not with the request locked. */
void http_resume(struct http_request *req);
/* Has MHD wait; the request is locked, and we are in one of MHD's callbacks. false: the server has stopped. */
bool http_suspend(struct http_request *req);

/* pool.c: workers that call fn. */
struct http_pool *http_pool_new(size_t max, void (*fn)(struct http_request *req));
void http_pool_add(struct http_pool *p, struct http_request *req);
/* Waits up to timeout_ns for all work to end; false when some goes on. */
bool http_pool_idle(struct http_pool *p, int64_t timeout_ns);
void http_pool_free(struct http_pool *p); /* when idle */

/* relay.c: a thread that carries bytes between pairs of sockets. */
struct http_relay *http_relay_new(void);
/* Takes both; early came from a already, and is emptied. filter NULL: bytes as they are; else a is its client, b its fd. */
void http_relay_add(struct http_relay *r, int a, int b, struct buf *early, const struct http_filter *filter);
void http_relay_free(struct http_relay *r); /* cuts what still runs */

/* For waits with a deadline on the monotonic clock. */
void http_cond_init(pthread_cond_t *c);
struct timespec http_deadline(int64_t from_now_ns);
/* A thread that takes no signals, with a small stack; 0 or -errno. */
int http_thread(pthread_t *out, void *(*fn)(void *arg), void *arg);
