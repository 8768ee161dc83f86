/* Frames between control and agent: sending, receiving, and control's side of a request. Trusts nothing that it
 * reads. */
#include "wire/wire.h"

#include "base/fs.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#define TYPE_MAX 64
#define LENGTH_SIZE 4

void wire_frame_free(struct wire_frame *f) {
	for (size_t i = 0; i < f->nfds; i++)
		close_fd(&f->fds[i]);
	f->nfds = 0;
	free(f->type);
	f->type = NULL;
	json_decref(f->body);
	f->body = NULL;
}

/* The frame's bytes, or NULL past the maximum. */
static char *frame_text(const char *type, const json_t *body, size_t *n) {
	_cleanup_(json_free_ptr) json_t *frame = json_pack("{s:s,s:O}", "type", type, "body", body);
	_cleanup_(free_ptr) char *text = json_print(frame);
	size_t len = strlen(text);
	if (len > WIRE_FRAME_MAX)
		return NULL;
	char *out = alloc_zero(LENGTH_SIZE + len);
	for (size_t i = 0; i < LENGTH_SIZE; i++)
		out[i] = (char)(len >> (8 * i) & 0xff);
	memcpy(out + LENGTH_SIZE, text, len);
	*n = LENGTH_SIZE + len;
	return out;
}

int wire_send(int sock, const char *type, const json_t *body, const int *fds, size_t nfds, struct error *err) {
	if (nfds > WIRE_FDS_MAX)
		return error_set(err, ERROR_INTERNAL, "message %s has too many descriptors", type);
	size_t n = 0;
	_cleanup_(free_ptr) char *text = frame_text(type, body, &n);
	if (!text)
		return error_set(err, ERROR_TOO_LARGE, "message %s is over the limit of %zu bytes", type,
				 WIRE_FRAME_MAX);
	int r = sock_send_fds(sock, text, n, fds, nfds);
	return r < 0 ? error_errno(err, r, "cannot send message %s", type) : 0;
}

int wire_send_error(int sock, const struct error *e) {
	_cleanup_(json_free_ptr) json_t *body = json_object();
	json_set_str(body, "kind", error_kind_name(e->kind));
	json_set_str(body, "message", error_text(e));
	json_set_str(body, "field", e->field);
	json_set_int(body, "errnum", e->errnum);
	return wire_send(sock, "error", body, NULL, 0, NULL);
}

static int read_error(ssize_t n, struct error *err) {
	if (n == 0)
		return error_set(err, ERROR_UNAVAILABLE, "the connection was closed");
	if (n == -EAGAIN)
		return error_set(err, ERROR_TIMEOUT, "the rest of the message did not come in time");
	return error_errno(err, (int)n, "cannot read a message");
}

/* Descriptors may come with the first byte of a frame only: recv drops all others. */
static int recv_all(int sock, char *to, size_t n, struct error *err) {
	while (n) {
		ssize_t got = RETRY_EINTR(recv(sock, to, n, 0));
		if (got <= 0)
			return read_error(got < 0 ? -errno : 0, err);
		to += got;
		n -= (size_t)got;
	}
	return 0;
}

static int recv_length(int sock, size_t max, struct wire_frame *f, size_t *length, struct error *err) {
	uint8_t bytes[LENGTH_SIZE];
	ssize_t n = sock_recv_fds(sock, bytes, sizeof bytes, f->fds, WIRE_FDS_MAX, &f->nfds);
	if (n <= 0)
		return read_error(n, err);
	int r = recv_all(sock, (char *)bytes + n, sizeof bytes - (size_t)n, err);
	if (r < 0)
		return r;
	*length = 0;
	for (size_t i = 0; i < LENGTH_SIZE; i++)
		*length |= (size_t)bytes[i] << (8 * i);
	if (!*length || *length > max)
		return error_set(err, ERROR_INVALID, "malformed message: its length is %zu", *length);
	return 0;
}

static int parse_frame(const char *text, size_t n, struct wire_frame *f, struct error *err) {
	_cleanup_(json_free_ptr) json_t *json = json_parse(text, n, err);
	if (!json)
		return error_wrap(err, "malformed message");
	const char *type = json_get_str(json, "type");
	json_t *body = json_object_get(json, "body");
	if (!type || strlen(type) > TYPE_MAX || !json_is_object(body) || json_object_size(json) != 2)
		return error_set(err, ERROR_INVALID, "malformed message: it is not a type and a body");
	f->type = str_copy(type);
	f->body = json_incref(body);
	return 0;
}

static int recv_frame(int sock, size_t max, struct wire_frame *f, struct error *err) {
	size_t length = 0;
	int r = recv_length(sock, max, f, &length, err);
	if (r < 0)
		return r;
	_cleanup_(free_ptr) char *text = alloc_zero(length + 1);
	r = recv_all(sock, text, length, err);
	return r < 0 ? r : parse_frame(text, length, f, err);
}

static int recv_at_most(int sock, size_t max, struct wire_frame *out, struct error *err) {
	*out = (struct wire_frame){0};
	int r = recv_frame(sock, max, out, err);
	if (r < 0)
		wire_frame_free(out);
	return r;
}

int wire_recv(int sock, struct wire_frame *out, struct error *err) {
	return recv_at_most(sock, WIRE_FRAME_MAX, out, err);
}

static int connect_agent(const char *path, struct error *err) {
	int sock = sock_connect_unix(path);
	if (sock >= 0)
		return sock;
	return error_set(err, ERROR_UNAVAILABLE, "the agent cannot be reached at %s: %s", path, strerror(-sock));
}

/* Waits for the next frame or the cancel descriptor. */
static int await_frame(int sock, int cancel_fd, struct error *err) {
	struct pollfd p[] = {{sock, POLLIN, 0}, {cancel_fd, POLLIN, 0}};
	if (!cancel_fd)
		return 0;
	if (RETRY_EINTR(poll(p, 2, -1)) < 0)
		return error_errno(err, errno, "cannot wait for the agent");
	return p[1].revents ? error_set(err, ERROR_CANCELLED, "cancelled") : 0;
}

/* The error that the other side sent. */
static int take_error(const json_t *body, struct error *err) {
	const char *kind = json_get_str(body, "kind"), *message = json_get_str(body, "message");
	struct error e = {
		.kind = kind ? error_kind_from_name(kind) : ERROR_INTERNAL,
		.errnum = (int)json_get_int(body, "errnum"),
		.message = str_copy(message ? message : "the agent failed without a message"),
		.field = json_get_str(body, "field") ? str_copy(json_get_str(body, "field")) : NULL,
	};
	if (e.kind == ERROR_NONE)
		e.kind = ERROR_INTERNAL;
	return error_move(err, &e);
}

static int take_reply(struct wire_call *c, struct wire_frame *f, struct error *err) {
	if (c->reply && c->request->reply) {
		int r = fields_parse(c->request->reply, f->body, FIELDS_TRUSTED, c->reply, err);
		if (r < 0)
			return error_wrap(err, "the agent's answer to %s", c->request->name);
	}
	while (c->reply_nfds < MIN(f->nfds, c->reply_fds_max)) {
		c->reply_fds[c->reply_nfds] = TAKE_FD(f->fds[c->reply_nfds]);
		c->reply_nfds++;
	}
	return 0;
}

/* 1: a final answer; 0: progress. */
static int handle_frame(struct wire_call *c, struct wire_frame *f, struct error *err) {
	if (strcmp(f->type, "progress") == 0) {
		if (c->on_progress)
			c->on_progress(f->body, c->arg);
		return 0;
	}
	if (strcmp(f->type, "error") == 0)
		return take_error(f->body, err);
	if (strcmp(f->type, "ok") != 0)
		return error_set(err, ERROR_CORRUPT, "the agent's answer to %s is neither ok nor an error",
				 c->request->name);
	int r = take_reply(c, f, err);
	return r < 0 ? r : 1;
}

int wire_call(struct wire_call *c, struct error *err) {
	c->reply_nfds = 0;
	_cleanup_(close_fd) int sock = connect_agent(c->socket_path, err);
	if (sock < 0)
		return sock;
	_cleanup_(json_free_ptr) json_t *body = c->body ? fields_print_secrets(c->request->request, c->body) : json_object();
	int r = wire_send(sock, c->request->name, body, c->fds, c->nfds, err);
	while (r == 0) {
		_cleanup_(wire_frame_free) struct wire_frame f = {0};
		r = await_frame(sock, c->cancel_fd, err);
		if (r == 0)
			r = recv_at_most(sock, WIRE_ANSWER_MAX, &f, err);
		if (r < 0)
			return error_wrap(err, "%s", c->request->name);
		r = handle_frame(c, &f, err);
	}
	return r > 0 ? 0 : r;
}
