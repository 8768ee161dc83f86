/* Requests to the native API: JSON calls, streams, uploads, upgrades. */
#include "client/client.h"

#include "base/fs.h"
#include "base/str.h"
#include "base/time.h"
#include "client/http.h"

#include <ctype.h>
#include <poll.h>
#include <unistd.h>

#define REPLY_MAX ((size_t)64 << 20)
#define END_WAIT (60 * NS_PER_SEC)
#define UPLOAD_PIECE ((size_t)64 << 10)

struct client {
	char *path;
	struct connection conn;
	void (*on_upload)(uint64_t sent, void *arg);
	void *upload_arg;
};

struct client *client_new(const char *run) {
	if (!run)
		run = getenv("WABE_RUN");
	struct client *c = NEW(struct client);
	c->path = str_format("%s/wabe.sock", run && *run ? run : "/run/wabe");
	c->conn.fd = c->conn.cancel_fd = -1;
	return c;
}

static void connection_free(struct connection *conn) {
	connection_close(conn);
	free(conn->headers);
}

void client_free(struct client *c) {
	if (!c)
		return;
	connection_free(&c->conn);
	free(c->path);
	free(c);
}

const char *client_header(const struct client *c, const char *name) {
	return header_find(c->conn.headers, name);
}

void client_cancel_on(struct client *c, int fd) {
	c->conn.cancel_fd = fd;
}

void client_on_upload(struct client *c, void (*fn)(uint64_t sent, void *arg), void *arg) {
	c->on_upload = fn;
	c->upload_arg = arg;
}

/* A kept connection on which something waits before anything was asked has been closed by the daemon. */
static bool is_stale(const struct connection *conn) {
	struct pollfd p = {conn->fd, POLLIN, 0};
	return conn->fd >= 0 && poll(&p, 1, 0) != 0;
}

static int connect_daemon(const char *path, struct connection *conn, struct error *err) {
	if (is_stale(conn))
		connection_close(conn);
	if (conn->fd >= 0)
		return 0;
	conn->fd = sock_connect_unix(path);
	if (conn->fd >= 0)
		return 0;
	int errnum = -conn->fd;
	conn->fd = -1;
	if (errnum == EACCES)
		return error_set(err, ERROR_DENIED, "no access to the daemon at %s: be root or in the group wabe",
				 path);
	return error_set(err, ERROR_UNAVAILABLE, "cannot reach the daemon at %s (%s): is \"wabe daemon\" running?",
			 path, strerror(errnum));
}

static int send_request(struct connection *conn, const char *method, const char *path, const char *headers,
			const json_t *body, struct error *err) {
	_cleanup_(buf_free) struct buf b = BUF_INIT;
	_cleanup_(free_ptr) char *text = body ? json_print(body) : NULL;
	buf_addf(&b, "%s %s HTTP/1.1\r\nHost: wabe\r\n%s", method, path, headers);
	if (text)
		buf_addf(&b, "Content-Type: application/json\r\nContent-Length: %zu\r\n", strlen(text));
	else if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0 && !strstr(headers, "Transfer-Encoding"))
		buf_adds(&b, "Content-Length: 0\r\n");
	buf_adds(&b, "\r\n");
	if (text)
		buf_adds(&b, text);
	int r = connection_send(conn, b.data, b.len, err);
	if (r < 0)
		connection_close(conn);
	return r;
}

static int collect(const char *data, size_t n, void *arg) {
	struct buf *b = arg;
	buf_add(b, data, n);
	return buf_overflowed(b) ? -1 : 0;
}

static enum error_kind kind_of_status(int status) {
	switch (status) {
	case 400:
		return ERROR_INVALID;
	case 401:
		return ERROR_UNAUTHORIZED;
	case 403:
		return ERROR_DENIED;
	case 404:
		return ERROR_NOT_FOUND;
	case 408:
		return ERROR_TIMEOUT;
	case 409:
		return ERROR_CONFLICT;
	case 413:
		return ERROR_TOO_LARGE;
	case 501:
		return ERROR_UNSUPPORTED;
	case 503:
		return ERROR_UNAVAILABLE;
	default:
		return ERROR_INTERNAL;
	}
}

/* The daemon's error, as docs/API.md shapes it. */
static int take_error(const struct connection *conn, const char *text, struct error *err) {
	_cleanup_(json_free_ptr) json_t *json = text ? json_parse(text, strlen(text), NULL) : NULL;
	const json_t *e = json_object_get(json, "error");
	const char *kind = json_get_str(e, "kind"), *message = json_get_str(e, "message"),
		   *field = json_get_str(e, "field");
	enum error_kind k = kind ? error_kind_from_name(kind) : kind_of_status(conn->status);
	if (k == ERROR_NONE)
		k = ERROR_INTERNAL;
	int r = message ? error_set(err, k, "%s", message)
			: error_set(err, k, "the daemon answered with status %d", conn->status);
	if (field)
		error_in_field(err, field);
	return r;
}

static int read_error(struct connection *conn, bool head, struct error *err) {
	_cleanup_(buf_free) struct buf body = BUF_INIT_MAX((size_t)1 << 20);
	int r = connection_read_body(conn, head, collect, &body, err);
	return r < 0 ? r : take_error(conn, head ? header_find(conn->headers, "Wabe-Error") : buf_str(&body), err);
}

/* Reads an answer: a good one's body goes to sink, another becomes the error. */
static int read_answer(struct connection *conn, bool head, body_sink sink, void *arg, struct error *err) {
	int r = connection_read_headers(conn, err);
	if (r < 0) {
		connection_close(conn);
		return r;
	}
	if (conn->status == 101) {
		connection_close(conn);
		return error_set(err, ERROR_CORRUPT, "the daemon opened a stream that was not asked for");
	}
	if (conn->status >= 300)
		return read_error(conn, head, err);
	return connection_read_body(conn, head, sink, arg, err);
}

int client_stream(struct client *c, const char *method, const char *path, const json_t *body, body_sink sink, void *arg,
		  struct error *err) {
	int r = connect_daemon(c->path, &c->conn, err);
	if (r == 0)
		r = send_request(&c->conn, method, path, "", body, err);
	return r < 0 ? r : read_answer(&c->conn, strcmp(method, "HEAD") == 0, sink, arg, err);
}

/* The listening socket outlives all of the daemon's roles, so that a connection to it ends last of all. */
int client_wait_end(struct client *c, struct error *err) {
	int64_t until = time_mono_ns() + END_WAIT;
	connection_close(&c->conn);
	for (int64_t left; (left = until - time_mono_ns()) > 0;) {
		_cleanup_(close_fd) int fd = sock_connect_unix(c->path);
		if (fd < 0)
			return 0;
		struct pollfd closed = {fd, POLLIN, 0};
		poll(&closed, 1, (int)(left / NS_PER_MS) + 1);
	}
	return error_set(err, ERROR_TIMEOUT, "all instances are stopped, but the daemon still listens on %s", c->path);
}

static int parse_reply(const struct buf *text, json_t **reply, struct error *err) {
	if (!reply)
		return 0;
	*reply = NULL;
	if (!text->len)
		return 0;
	*reply = json_parse(text->data, text->len, err);
	return *reply ? 0 : error_wrap(err, "the daemon's answer");
}

int client_call(struct client *c, const char *method, const char *path, const json_t *body, json_t **reply,
		struct error *err) {
	_cleanup_(buf_free) struct buf text = BUF_INIT_MAX(REPLY_MAX);
	int r = client_stream(c, method, path, body, collect, &text, err);
	return r < 0 ? r : parse_reply(&text, reply, err);
}

static int send_chunk(struct connection *conn, const char *data, size_t n, struct error *err) {
	_cleanup_(buf_free) struct buf b = BUF_INIT;
	buf_addf(&b, "%zx\r\n", n);
	buf_add(&b, data, n);
	buf_adds(&b, "\r\n");
	return connection_send(conn, b.data, b.len, err);
}

/* Sends fd to its end, unless the daemon answers or hangs up before: its answer tells why then, and the
 * connection is of no further use. */
static int send_body(struct client *c, int fd, struct error *err) {
	_cleanup_(free_ptr) char *piece = alloc_zero(UPLOAD_PIECE);
	uint64_t sent = 0;
	for (;;) {
		ssize_t n = RETRY_EINTR(read(fd, piece, UPLOAD_PIECE));
		if (n < 0)
			return error_errno(err, errno, "cannot read what is to be sent");
		if (is_stale(&c->conn) || send_chunk(&c->conn, piece, (size_t)n, NULL) < 0) {
			c->conn.close_after = true;
			return 0;
		}
		if (n == 0)
			return 0;
		sent += (uint64_t)n;
		if (c->on_upload)
			c->on_upload(sent, c->upload_arg);
	}
}

int client_upload(struct client *c, const char *method, const char *path, const char *content_type, int fd,
		  json_t **reply, struct error *err) {
	_cleanup_(buf_free) struct buf text = BUF_INIT_MAX(REPLY_MAX);
	_cleanup_(free_ptr) char *headers =
		str_format("Content-Type: %s\r\nTransfer-Encoding: chunked\r\n", content_type);
	int r = connect_daemon(c->path, &c->conn, err);
	c->conn.close_after = false;
	if (r == 0)
		r = send_request(&c->conn, method, path, headers, NULL, err);
	if (r == 0)
		r = send_body(c, fd, err);
	if (r < 0) {
		connection_close(&c->conn);
		return r;
	}
	bool cut = c->conn.close_after;
	r = read_answer(&c->conn, false, collect, &text, err);
	if (cut)
		connection_close(&c->conn);
	return r < 0 ? r : parse_reply(&text, reply, err);
}

int client_upgrade(struct client *c, const char *path, const json_t *body, int *sock, struct buf *early,
		   struct error *err) {
	struct connection conn = {.fd = -1, .cancel_fd = c->conn.cancel_fd};
	int r = connect_daemon(c->path, &conn, err);
	if (r == 0)
		r = send_request(&conn, "POST", path, "Connection: Upgrade\r\nUpgrade: wabe-stream\r\n", body, err);
	if (r == 0)
		r = connection_read_headers(&conn, err);
	if (r == 0 && conn.status >= 300)
		r = read_error(&conn, false, err);
	else if (r == 0 && conn.status != 101)
		r = error_set(err, ERROR_CORRUPT, "the daemon did not open a stream (status %d)", conn.status);
	if (r == 0) {
		*sock = TAKE_FD(conn.fd);
		buf_add(early, buf_str(&conn.in), conn.in.len);
		free(c->conn.headers);
		c->conn.headers = TAKE_PTR(conn.headers);
	}
	connection_free(&conn);
	return r;
}

static void add_encoded(struct buf *b, const char *s) {
	for (; *s; s++) {
		if (isalnum((unsigned char)*s) || strchr("-._~", *s))
			buf_addc(b, *s);
		else
			buf_addf(b, "%%%02X", (unsigned char)*s);
	}
}

char *client_vpath(const char *fmt, va_list ap) {
	struct buf b = BUF_INIT;
	for (; *fmt; fmt++) {
		if (fmt[0] == '%' && fmt[1] == 's') {
			add_encoded(&b, va_arg(ap, const char *));
			fmt++;
		} else {
			buf_addc(&b, *fmt);
		}
	}
	return buf_steal(&b);
}

char *client_path(const char *fmt, ...) {
	va_list ap;
	va_start(ap, fmt);
	char *path = client_vpath(fmt, ap);
	va_end(ap);
	return path;
}
