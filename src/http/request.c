/* What a handler asks of its request, and the simple answers. */
#include "http/http-priv.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define JSON_DEPTH_MAX 256

void *http_context(struct http_request *req) {
	return req->server->config.context;
}

const void *http_route_data(struct http_request *req) {
	return req->route ? req->route->data : NULL;
}

const char *http_method(struct http_request *req) {
	return req->method;
}

const char *http_path(struct http_request *req) {
	return req->target.path;
}

const char *http_param(struct http_request *req, const char *name) {
	return http_pairs_get(&req->params, name, false);
}

const char *http_query(struct http_request *req, const char *name) {
	return http_pairs_get(&req->target.query, name, false);
}

char **http_query_all(struct http_request *req, const char *name) {
	const struct http_pairs *q = &req->target.query;
	char **all = NULL;

	for (size_t i = 0; i < q->n; i++)
		if (!strcmp(q->items[i].name, name))
			strv_add(&all, q->items[i].value);
	return all;
}

const char *http_header(struct http_request *req, const char *name) {
	return http_pairs_get(&req->headers, name, true);
}

struct str http_body(struct http_request *req) {
	return (struct str){buf_str(&req->body), req->body.len};
}

ssize_t http_body_read(struct http_request *req, void *data, size_t max) {
	bool cut, waiting;
	size_t n;

	pthread_mutex_lock(&req->lock);
	while (req->body.len == req->body_taken && !req->body_complete && !req->done &&
	       !http_server_stopped(req->server))
		pthread_cond_wait(&req->changed, &req->lock);
	n = MIN(max, req->body.len - req->body_taken);
	cut = !n && max && !req->body_complete;
	if (n)
		memcpy(data, req->body.data + req->body_taken, n);
	req->body_taken += n;
	if (req->body_taken == req->body.len) {
		buf_truncate(&req->body, 0);
		req->body_taken = 0;
	}
	waiting = req->suspended && !req->body_taken && !req->body_complete;
	pthread_mutex_unlock(&req->lock);
	if (waiting)
		http_resume(req);
	return cut ? -EPIPE : (ssize_t)n;
}

/* Deep nesting costs stack in every function that later walks the value. */
static bool too_deep(const char *text, size_t n) {
	size_t depth = 0;
	bool quoted = false;

	for (size_t i = 0; i < n; i++) {
		char c = text[i];

		if (quoted && c == '\\')
			i++;
		else if (c == '"')
			quoted = !quoted;
		else if (!quoted && (c == '[' || c == '{') && ++depth > JSON_DEPTH_MAX)
			return true;
		else if (!quoted && (c == ']' || c == '}') && depth)
			depth--;
	}
	return false;
}

json_t *http_body_json(struct http_request *req, struct error *err) {
	struct str body = http_body(req);

	if (!body.len)
		return json_object();
	if (too_deep(body.p, body.len)) {
		error_set(err, ERROR_INVALID, "the body is JSON of more than %d levels", JSON_DEPTH_MAX);
		return NULL;
	}
	return json_parse(body.p, body.len, err);
}

/* ---- the client ---- */

static bool is_unix(int fd) {
	int domain = 0;
	socklen_t n = sizeof(domain);

	return !getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &n) && domain == AF_UNIX;
}

/* Over a unix socket one that has only ended its sending still listens (and a hang-up is reported unasked);
 * over TCP the two look the same. */
bool http_client_gone(struct http_request *req) {
	struct pollfd p = {.events = POLLRDHUP};
	bool gone;

	if (http_server_stopping(req->server))
		return true;
	pthread_mutex_lock(&req->lock);
	p.fd = req->fd;
	gone = req->done || (poll(&p, 1, 0) > 0 &&
			     (p.revents & (POLLHUP | POLLERR | POLLNVAL) || !is_unix(req->fd)));
	pthread_mutex_unlock(&req->lock);
	return gone;
}

/* Locked. The server's stop and the client's end in one descriptor. */
static int gone_open(struct http_request *req) {
	struct epoll_event end = {.events = is_unix(req->fd) ? 0 : EPOLLRDHUP}, stop = {.events = EPOLLIN};

	req->gone_fd = epoll_create1(EPOLL_CLOEXEC);
	req->gone_socket = fcntl(req->fd, F_DUPFD_CLOEXEC, 3);
	if (req->gone_fd < 0 || req->gone_socket < 0 ||
	    epoll_ctl(req->gone_fd, EPOLL_CTL_ADD, req->gone_socket, &end) ||
	    epoll_ctl(req->gone_fd, EPOLL_CTL_ADD, req->server->stop_event, &stop)) {
		close_fd(&req->gone_fd);
		close_fd(&req->gone_socket);
		req->gone_fd = req->gone_socket = -1;
	}
	return req->gone_fd;
}

int http_client_fd(struct http_request *req) {
	int fd;

	pthread_mutex_lock(&req->lock);
	fd = req->gone_fd >= 0 || req->done ? req->gone_fd : gone_open(req);
	pthread_mutex_unlock(&req->lock);
	return fd;
}

int http_peer(struct http_request *req, uid_t *uid, pid_t *pid) {
	struct ucred c;
	socklen_t n = sizeof(c);
	int r = 0;

	pthread_mutex_lock(&req->lock);
	if (req->done)
		r = -EPIPE;
	else if (!is_unix(req->fd))
		r = -EOPNOTSUPP;
	else if (getsockopt(req->fd, SOL_SOCKET, SO_PEERCRED, &c, &n))
		r = -errno;
	pthread_mutex_unlock(&req->lock);
	if (!r && uid)
		*uid = c.uid;
	if (!r && pid)
		*pid = c.pid;
	return r;
}

/* ---- answers ---- */

void http_reply_header(struct http_request *req, const char *name, const char *value) {
	http_pairs_add(&req->extra, str_copy(name), str_copy(value));
}

static void answer_with(struct http_request *req, int status, const char *content_type, struct MHD_Response *response) {
	if (response && content_type)
		MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, content_type);
	http_answer(req, status, response);
}

void http_reply(struct http_request *req, int status, const char *content_type, const void *data, size_t n) {
	void *copy = (void *)(uintptr_t)data; /* libmicrohttpd copies it, but wants it not const */

	answer_with(req, status, content_type, MHD_create_response_from_buffer(n, copy, MHD_RESPMEM_MUST_COPY));
}

void http_reply_shared(struct http_request *req, int status, const char *content_type, const void *data, size_t n,
		       void (*drop)(void *arg), void *arg) {
	struct MHD_Response *r = MHD_create_response_from_buffer_with_free_callback_cls(
		n, (void *)(uintptr_t)data, drop, arg);

	if (!r)
		drop(arg);
	answer_with(req, status, content_type, r);
}

void http_reply_json(struct http_request *req, int status, const json_t *value) {
	char *text = json_print(value);

	http_reply_shared(req, status, "application/json", text, strlen(text), free, text);
}

void http_reply_empty(struct http_request *req, int status) {
	http_reply(req, status, NULL, "", 0);
}

void http_reply_error(struct http_request *req, int status, const struct error *e) {
	bool answered;

	if (req->server->config.render_error)
		req->server->config.render_error(req, status, e);
	pthread_mutex_lock(&req->lock);
	answered = req->phase >= HTTP_ANSWERED;
	pthread_mutex_unlock(&req->lock);
	if (!answered)
		http_reply(req, status, "text/plain; charset=utf-8", error_text(e), strlen(error_text(e)));
}

void http_fail(struct http_request *req, const struct error *e) {
	const int *statuses = req->server->config.statuses;

	http_reply_error(req, statuses ? statuses[e->kind] : MHD_HTTP_INTERNAL_SERVER_ERROR, e);
}

void http_reply_fd(struct http_request *req, int status, const char *content_type, int fd, uint64_t offset,
		   uint64_t size) {
	struct MHD_Response *r = MHD_create_response_from_fd_at_offset64(size, fd, offset);

	if (!r)
		close(fd);
	answer_with(req, status, content_type, r);
}
