/* The server's side of a request: what libmicrohttpd calls, in which order, and how a request gets to a
 * worker and its answer back.
 *
 * libmicrohttpd runs one thread. A request that a worker has is suspended: no event of its socket is looked
 * at until somebody resumes it, and all of libmicrohttpd but "resume" is called from its own thread alone. */
#include "http/http-priv.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/time.h"

#include <signal.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNECTIONS_MAX 4096
#define CONNECTION_MEMORY ((size_t)64 << 10) /* request line and headers fit in here */
/* Seconds without a byte, before the connection is cut (HTTP_IDLE_TIMEOUT between requests and in answers): */
#define HEAD_TIMEOUT 30  /* in the middle of the headers */
#define BODY_TIMEOUT 60  /* in the middle of a body */
#define STOP_GRACE (3 * NS_PER_SEC)

/* ---- requests ---- */

static struct http_request *request_new(struct http_server *s) {
	struct http_request *req = NEW(struct http_request);

	req->server = s;
	req->refs = 1;
	req->fd = req->gone_fd = req->gone_socket = req->upgraded = req->relay_to = req->hijacked = req->stand_in = -1;
	for (const char *const (*h)[2] = s->config.headers; h && (*h)[0]; h++)
		http_reply_header(req, (*h)[0], (*h)[1]);
	pthread_mutex_init(&req->lock, NULL);
	pthread_cond_init(&req->changed, NULL);
	pthread_mutex_lock(&s->lock);
	req->next = s->requests;
	req->place = &s->requests;
	if (req->next)
		req->next->place = &req->next;
	s->requests = req;
	pthread_mutex_unlock(&s->lock);
	return req;
}

struct http_request *http_request_ref(struct http_request *req) {
	__atomic_add_fetch(&req->refs, 1, __ATOMIC_RELAXED);
	return req;
}

static void request_free(struct http_request *req) {
	struct http_server *s = req->server;

	pthread_mutex_lock(&s->lock);
	*req->place = req->next;
	if (req->next)
		req->next->place = req->place;
	pthread_mutex_unlock(&s->lock);
	if (req->answer)
		MHD_destroy_response(req->answer);
	close_fd(&req->gone_fd);
	close_fd(&req->gone_socket);
	close_fd(&req->upgraded);
	close_fd(&req->relay_to);
	close_fd(&req->hijacked);
	close_fd(&req->stand_in);
	http_target_free(&req->target);
	http_pairs_free(&req->headers);
	http_pairs_free(&req->params);
	http_pairs_free(&req->extra);
	buf_free(&req->body);
	buf_free(&req->out);
	buf_free(&req->early);
	free(req->method);
	free(req->allow);
	pthread_cond_destroy(&req->changed);
	pthread_mutex_destroy(&req->lock);
	free(req);
}

void http_request_unref(struct http_request *req) {
	if (!__atomic_sub_fetch(&req->refs, 1, __ATOMIC_ACQ_REL))
		request_free(req);
}

bool http_server_stopping(const struct http_server *s) {
	return __atomic_load_n(&s->stopping, __ATOMIC_ACQUIRE);
}

bool http_server_stopped(const struct http_server *s) {
	return __atomic_load_n(&s->stopped, __ATOMIC_ACQUIRE);
}

bool http_suspend(struct http_request *req) {
	if (http_server_stopped(req->server))
		return false;
	req->suspended = true;
	MHD_suspend_connection(req->connection);
	return true;
}

void http_resume(struct http_request *req) {
	struct http_server *s = req->server;
	bool resume;

	pthread_mutex_lock(&s->resume);
	pthread_mutex_lock(&req->lock);
	resume = req->suspended && !s->stopped;
	if (resume)
		req->suspended = false;
	pthread_mutex_unlock(&req->lock);
	if (resume)
		MHD_resume_connection(req->connection);
	pthread_mutex_unlock(&s->resume);
}

void http_answer(struct http_request *req, int status, struct MHD_Response *response) {
	bool first;

	for (size_t i = 0; response && i < req->extra.n; i++)
		MHD_add_response_header(response, req->extra.items[i].name, req->extra.items[i].value);
	pthread_mutex_lock(&req->lock);
	first = req->phase < HTTP_ANSWERED;
	if (first) {
		req->phase = HTTP_ANSWERED;
		req->answer = response;
		req->status = response ? status : MHD_HTTP_INTERNAL_SERVER_ERROR;
	}
	pthread_mutex_unlock(&req->lock);
	if (!first && response)
		MHD_destroy_response(response);
	http_resume(req);
}

/* ---- on a worker ---- */

static void run_handler(struct http_request *req) {
	_cleanup_(error_free) struct error refused = ERROR_INIT;
	bool silent;

	if (req->server->config.check && req->server->config.check(req->target.path, &refused) < 0)
		http_fail(req, &refused);
	else
		req->route->handler(req);
	pthread_mutex_lock(&req->lock);
	silent = req->phase == HTTP_RUNNING;
	pthread_mutex_unlock(&req->lock);
	if (silent) {
		struct error e = ERROR_INIT;
		error_set(&e, ERROR_INTERNAL, "%s %s: no answer was given", req->method, req->target.path);
		http_reply_error(req, MHD_HTTP_INTERNAL_SERVER_ERROR, &e);
		error_free(&e);
	}
	http_request_unref(req);
}

/* ---- on libmicrohttpd's thread ---- */

static void set_timeout(struct MHD_Connection *connection, unsigned seconds) {
	MHD_set_connection_option(connection, MHD_CONNECTION_OPTION_TIMEOUT, seconds);
}

static void *on_uri(void *arg, const char *uri, struct MHD_Connection *connection) {
	struct http_request *req = request_new(arg);

	set_timeout(connection, HEAD_TIMEOUT);
	req->bad = http_target_parse(uri, req->server->config.prefix, &req->target);
	return req;
}

static enum MHD_Result add_header(void *arg, UNUSED enum MHD_ValueKind kind, const char *name, const char *value) {
	http_pairs_add(arg, str_copy(name), str_copy(value ? value : ""));
	return MHD_YES;
}

static size_t body_limit(const struct http_request *req) {
	return req->server->config.max_body;
}

/* The length that the client announces; 0 where it does not. */
static uint64_t announced(struct http_request *req) {
	const char *text = http_pairs_get(&req->headers, "Content-Length", true);
	uint64_t n = 0;

	return text && !str_to_u64(text, 10, &n) ? n : 0;
}

static void refuse(struct http_request *req, int status) {
	struct error e = ERROR_INIT;

	switch (status) {
	case MHD_HTTP_BAD_REQUEST:
		error_set(&e, ERROR_INVALID, "the path or query of the request is not properly encoded, or too long");
		break;
	case MHD_HTTP_NOT_FOUND:
		error_set(&e, ERROR_NOT_FOUND, "there is nothing at %s", req->target.path);
		break;
	case MHD_HTTP_METHOD_NOT_ALLOWED:
		error_set(&e, ERROR_INVALID, "%s is not possible on %s, only %s", req->method, req->target.path, req->allow);
		http_reply_header(req, "Allow", req->allow);
		break;
	default:
		error_set(&e, ERROR_TOO_LARGE, "the body is larger than %zu bytes", body_limit(req));
	}
	http_reply_error(req, status, &e);
	error_free(&e);
}

static void dispatch(struct http_request *req) {
	req->phase = HTTP_RUNNING;
	http_pool_add(req->server->pool, http_request_ref(req));
}

static bool streams_body(const struct http_request *req) {
	return req->route && (req->route->flags & HTTP_STREAM_BODY);
}

/* The headers are there. A body that would be too long even to be thrown away, or that the client has not
 * begun to send, is refused now. */
static void headers_seen(struct http_request *req, struct MHD_Connection *connection, const char *method) {
	const char *expect;

	set_timeout(connection, BODY_TIMEOUT);
	req->seen = true;
	req->connection = connection;
	req->fd = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
	req->method = str_copy(method);
	MHD_get_connection_values(connection, MHD_HEADER_KIND, add_header, &req->headers);
	if (req->bad)
		req->refuse = MHD_HTTP_BAD_REQUEST;
	else
		req->route = http_route_find(req->server->config.routes, method, req->target.segments, &req->params,
					     &req->allow);
	if (!req->refuse && !req->route)
		req->refuse = req->allow ? MHD_HTTP_METHOD_NOT_ALLOWED : MHD_HTTP_NOT_FOUND;
	if (!req->refuse && !streams_body(req) && announced(req) > body_limit(req))
		req->refuse = MHD_HTTP_CONTENT_TOO_LARGE;
	expect = http_pairs_get(&req->headers, "Expect", true);
	if (req->refuse && ((expect && !strcasecmp(expect, "100-continue")) || announced(req) > HTTP_DRAIN_MAX))
		refuse(req, req->refuse);
	else if (!req->refuse && streams_body(req))
		dispatch(req);
}

/* Bytes of the body; gives how many were taken, -1 to cut the connection. */
static ssize_t body_seen(struct http_request *req, const char *data, size_t n) {
	if (req->refuse || (streams_body(req) && req->phase != HTTP_RUNNING)) {
		req->drained += n;
		/* an answer that is there already is worth reading all that was being sent */
		return req->refuse && req->drained > HTTP_DRAIN_MAX ? -1 : (ssize_t)n;
	}
	if (streams_body(req)) {
		size_t room = HTTP_UPLOAD_MAX - (req->body.len - req->body_taken);
		/* what is left over is offered again after a resume; without one, not before more arrives, which never
		 * happens for the end of a body */
		if (n > room && !http_suspend(req))
			return -1;
		n = MIN(n, room);
		buf_add(&req->body, data, n);
		pthread_cond_broadcast(&req->changed);
	} else if (req->body.len + n > body_limit(req)) {
		buf_free(&req->body);
		req->refuse = MHD_HTTP_CONTENT_TOO_LARGE;
	} else {
		buf_add(&req->body, data, n);
	}
	return (ssize_t)n;
}

static enum MHD_Result queue_answer(struct http_request *req) {
	enum MHD_Result r;

	if (!req->answer) /* memory or descriptors of libmicrohttpd ran out */
		req->answer = MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
	if (!req->answer)
		return MHD_NO;
	req->phase = HTTP_QUEUED;
	/* a stream may stand still for as long as its reader likes; stream.c sets this back at its end */
	set_timeout(req->connection, req->streams ? 0 : HTTP_IDLE_TIMEOUT);
	r = MHD_queue_response(req->connection, (unsigned)req->status, req->answer);
	MHD_destroy_response(TAKE_PTR(req->answer));
	log_debug("http: %s %s: %d", req->method, req->target.path, req->status);
	return r;
}

/* Locked. The whole request is there. */
static enum MHD_Result complete_seen(struct http_request *req) {
	req->body_complete = true;
	pthread_cond_broadcast(&req->changed);
	if (req->phase == HTTP_READING)
		dispatch(req);
	if (req->phase == HTTP_RUNNING)
		return http_suspend(req) ? MHD_YES : MHD_NO;
	return req->phase == HTTP_ANSWERED ? queue_answer(req) : MHD_YES;
}

static enum MHD_Result on_request(UNUSED void *arg, struct MHD_Connection *connection, UNUSED const char *url,
				  const char *method, UNUSED const char *version, const char *data, size_t *size,
				  void **context) {
	struct http_request *req = *context;
	enum MHD_Result r = MHD_YES;
	bool first = !req->seen;

	if (http_server_stopped(req->server))
		return MHD_NO;
	if (first)
		headers_seen(req, connection, method);
	if (!first && !*size && req->refuse && req->phase == HTTP_READING)
		refuse(req, req->refuse);
	pthread_mutex_lock(&req->lock);
	if (first) {
		if (req->phase == HTTP_ANSWERED && req->refuse)
			r = queue_answer(req);
	} else if (*size) {
		ssize_t taken = body_seen(req, data, *size);
		if (taken < 0)
			r = MHD_NO;
		else
			*size -= (size_t)taken;
	} else {
		r = complete_seen(req);
	}
	pthread_mutex_unlock(&req->lock);
	return r;
}

static void on_completed(UNUSED void *arg, UNUSED struct MHD_Connection *connection, void **context,
			 enum MHD_RequestTerminationCode code) {
	struct http_request *req = TAKE_PTR(*context);

	if (!req)
		return;
	pthread_mutex_lock(&req->lock);
	req->done = true;
	if (req->gone_socket >= 0 && code != MHD_REQUEST_TERMINATED_COMPLETED_OK)
		shutdown(req->gone_socket, SHUT_RDWR);
	pthread_cond_broadcast(&req->changed);
	pthread_mutex_unlock(&req->lock);
	pthread_mutex_lock(&req->server->lock);
	pthread_cond_broadcast(&req->server->completed);
	pthread_mutex_unlock(&req->server->lock);
	http_request_unref(req);
}

/* Targets are decoded by us, from the raw text. */
static size_t keep_escaped(UNUSED void *arg, UNUSED struct MHD_Connection *connection, char *text) {
	return strlen(text);
}

static void on_log(UNUSED void *arg, const char *fmt, va_list ap) {
	_cleanup_(free_ptr) char *text = str_vformat(fmt, ap);

	text[strcspn(text, "\n")] = 0;
	log_debug("http: %s", text);
}

/* ---- start and stop ---- */

static void server_free(struct http_server *s) {
	if (s->relay)
		http_relay_free(s->relay);
	if (s->pool)
		http_pool_free(s->pool);
	pthread_mutex_destroy(&s->lock);
	pthread_mutex_destroy(&s->resume);
	pthread_cond_destroy(&s->completed);
	close_fd(&s->stop_event);
	free(s);
}

/* libmicrohttpd's thread takes no signals. */
static struct MHD_Daemon *start_daemon(struct http_server *s, int fd) {
	unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_ALLOW_UPGRADE | MHD_USE_ITC |
			 MHD_USE_ERROR_LOG;
	struct MHD_Daemon *d;
	sigset_t all, before;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	d = MHD_start_daemon(flags, 0, NULL, NULL, on_request, s, MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL,
			     MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_URI_LOG_CALLBACK, on_uri, s,
			     MHD_OPTION_NOTIFY_COMPLETED, on_completed, s, MHD_OPTION_UNESCAPE_CALLBACK, keep_escaped, s,
			     MHD_OPTION_CONNECTION_MEMORY_LIMIT, CONNECTION_MEMORY, MHD_OPTION_CONNECTION_LIMIT,
			     (unsigned)CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)HTTP_IDLE_TIMEOUT,
			     MHD_OPTION_THREAD_STACK_SIZE, (size_t)512 << 10, MHD_OPTION_END);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return d;
}

int http_server_start(int listen_fd, const struct http_config *config, struct http_server **out, struct error *err) {
	struct http_server *s = NEW(struct http_server);

	s->config = *config;
	if (!s->config.max_body)
		s->config.max_body = HTTP_BODY_DEFAULT;
	pthread_mutex_init(&s->lock, NULL);
	pthread_mutex_init(&s->resume, NULL);
	http_cond_init(&s->completed);
	s->pool = http_pool_new(config->max_workers ? config->max_workers : HTTP_WORKERS_DEFAULT, run_handler);
	s->stop_event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	s->relay = s->stop_event >= 0 ? http_relay_new() : NULL;
	fd_set_nonblock(listen_fd, true);
	s->mhd = s->relay ? start_daemon(s, listen_fd) : NULL;
	if (!s->mhd) {
		int e = errno;
		close(listen_fd);
		server_free(s);
		return error_errno(err, e, "cannot start the HTTP server");
	}
	*out = s;
	return 0;
}

/* Wakes all who wait for a client. */
static void cut_all(struct http_server *s) {
	pthread_mutex_lock(&s->lock);
	for (struct http_request *req = s->requests; req; req = req->next) {
		pthread_mutex_lock(&req->lock);
		if (req->fd >= 0 && !req->done)
			shutdown(req->fd, SHUT_RDWR);
		pthread_cond_broadcast(&req->changed);
		pthread_mutex_unlock(&req->lock);
	}
	pthread_mutex_unlock(&s->lock);
}

/* One that waits, with a reference; no longer marked as such. */
static struct http_request *take_suspended(struct http_server *s) {
	struct http_request *found = NULL;

	pthread_mutex_lock(&s->lock);
	for (struct http_request *req = s->requests; req && !found; req = req->next) {
		pthread_mutex_lock(&req->lock);
		if (req->suspended)
			found = http_request_ref(req);
		req->suspended = false;
		pthread_mutex_unlock(&req->lock);
	}
	pthread_mutex_unlock(&s->lock);
	return found;
}

/* libmicrohttpd must not be stopped while it holds anything suspended; afterwards nothing resumes. It may call
 * on_completed with a lock of its own held, so that its functions are not called with the server's. */
static void resume_all(struct http_server *s) {
	struct http_request *req;

	pthread_mutex_lock(&s->resume);
	__atomic_store_n(&s->stopped, true, __ATOMIC_RELEASE);
	while ((req = take_suspended(s))) {
		MHD_resume_connection(req->connection);
		http_request_unref(req);
	}
	pthread_mutex_unlock(&s->resume);
}

/* The server is locked. */
static bool under_way(struct http_server *s) {
	bool yes = false;

	for (struct http_request *req = s->requests; req && !yes; req = req->next) {
		pthread_mutex_lock(&req->lock);
		yes = req->phase >= HTTP_RUNNING && !req->done;
		pthread_mutex_unlock(&req->lock);
	}
	return yes;
}

/* Until every request that has begun has its whole answer, or the time is over. */
static void wait_for_requests(struct http_server *s, int64_t timeout_ns) {
	struct timespec until = http_deadline(timeout_ns);
	int r = 0;

	pthread_mutex_lock(&s->lock);
	while (r != ETIMEDOUT && under_way(s))
		r = pthread_cond_timedwait(&s->completed, &s->lock, &until);
	pthread_mutex_unlock(&s->lock);
}

static bool all_gone(struct http_server *s) {
	bool none;

	pthread_mutex_lock(&s->lock);
	none = !s->requests;
	pthread_mutex_unlock(&s->lock);
	return none;
}

void http_server_stop(struct http_server *s) {
	MHD_socket listening;

	if (!s)
		return;
	listening = MHD_quiesce_daemon(s->mhd);
	__atomic_store_n(&s->stopping, true, __ATOMIC_RELEASE);
	eventfd_write(s->stop_event, 1);
	wait_for_requests(s, STOP_GRACE);
	resume_all(s);
	cut_all(s);
	MHD_stop_daemon(s->mhd);
	if (listening != MHD_INVALID_SOCKET)
		close(listening);
	/* a handler that still runs, or a stream that somebody still holds, keeps the server's memory */
	if (http_pool_idle(s->pool, STOP_GRACE) && all_gone(s))
		server_free(s);
}
