/* Attaching: the client's connection becomes a raw stream, which the server's relay joins with the one that the agent
 * hands out. That one speaks shim/protocol.h, whose frames of output are those of Docker; a filter takes away the others
 * (and, of a terminal, all frames), puts the client's bytes into frames, and looks for the keys that detach. */
#include "dialect/docker/inside.h"

#include "http/websocket.h"
#include "shim/protocol.h"

#include <stdio.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- detach keys ---- */

static int key_parse(struct str key, char *out) {
	static const char ctrl[] = "ctrl-";
	size_t n = sizeof ctrl - 1;
	if (str_is(key, "DEL"))
		*out = 127;
	else if (key.len == 1)
		*out = key.p[0];
	else if (key.len == n + 1 && memcmp(key.p, ctrl, n) == 0 && strchr("@abcdefghijklmnopqrstuvwxyz[\\]^_", key.p[n]))
		*out = (char)(key.p[n] & 0x1f);
	else
		return -EINVAL;
	return 0;
}

int detach_keys_parse(const char *text, struct detach_keys *out, struct error *err) {
	struct str rest = str_view(text && *text ? text : "ctrl-p,ctrl-q");
	*out = (struct detach_keys){0};
	for (bool more = true; more;) {
		more = memchr(rest.p, ',', rest.len) != NULL;
		if (out->n == sizeof out->bytes || key_parse(str_cut(&rest, ','), &out->bytes[out->n++]) < 0) {
			_cleanup_(free_ptr) char *shown = text_shown(text);
			return error_set(err, ERROR_INVALID, "Invalid detach keys (%s) provided", shown);
		}
	}
	return 0;
}

/* ---- frames ---- */

static void frame_add(struct buf *b, int type, const char *data, size_t n) {
	char header[SHIM_HEADER];
	shim_header(header, type, n);
	buf_add(b, header, sizeof header);
	buf_add(b, data, n);
}

struct relay {
	struct stream_want want;
	struct websocket *ws;       /* NULL: the client's bytes are as they are */
	size_t matched;             /* of the detach keys */
	char header[SHIM_HEADER];   /* of the frame that comes from the shim */
	size_t got, left;           /* bytes of it that are there; of its payload that are to come */
};

static void relay_drop(void *arg) {
	struct relay *r = arg;
	websocket_free(r->ws);
	free(r);
}

static void give_input(struct buf *to_fd, const char *data, size_t n) {
	for (size_t piece; n; data += piece, n -= piece) {
		piece = MIN(n, (size_t)SHIM_FRAME_MAX);
		frame_add(to_fd, SHIM_STDIN, data, piece);
	}
}

/* What was typed, without the keys; true once they were. A key that breaks the sequence may begin it anew. */
static bool look_for_keys(struct relay *r, const char *data, size_t n, struct buf *typed) {
	const struct detach_keys *keys = &r->want.keys;
	for (size_t i = 0; i < n; i++) {
		if (r->matched && data[i] != keys->bytes[r->matched]) {
			buf_add(typed, keys->bytes, r->matched);
			r->matched = 0;
		}
		if (data[i] != keys->bytes[r->matched])
			buf_addc(typed, data[i]);
		else if (++r->matched == keys->n)
			return true;
	}
	return false;
}

/* Input for the process; -1: it is to be left alone. */
static int input(struct relay *r, const char *data, size_t n, struct buf *to_fd) {
	if (!r->want.in)
		return 0;
	if (!r->want.tty) {
		give_input(to_fd, data, n);
		return 0;
	}
	_cleanup_(buf_free) struct buf typed = BUF_INIT;
	bool detach = look_for_keys(r, data, n, &typed);
	give_input(to_fd, typed.data, typed.len);
	if (detach)
		instance_detached(r->want.core, DOCKER_PROJECT, r->want.id, *r->want.exec_id ? r->want.exec_id : NULL);
	return detach ? -1 : 0;
}

static int from_client(void *arg, const char *data, size_t n, struct buf *to_fd, struct buf *to_client) {
	struct relay *r = arg;
	_cleanup_(buf_free) struct buf payload = BUF_INIT;
	int result = 0;
	if (r->ws) {
		result = n ? websocket_read(r->ws, data, n, &payload, to_client) : -1;
		data = buf_str(&payload);
		n = payload.len;
	} else if (n == 0 && r->want.in) {
		frame_add(to_fd, SHIM_STDIN, NULL, 0);
	}
	int taken = n ? input(r, data, n, to_fd) : 0;
	if (r->ws && result < 0 && r->want.in)
		frame_add(to_fd, SHIM_STDIN, NULL, 0);
	return result < 0 ? result : taken;
}

static bool is_wanted(const struct relay *r) {
	return (r->header[0] == SHIM_STDOUT && r->want.out) || (r->header[0] == SHIM_STDERR && r->want.errors);
}

static void output(struct relay *r, const char *data, size_t n, struct buf *to_client) {
	if (r->ws)
		websocket_write(WEBSOCKET_BINARY, data, n, to_client);
	else
		buf_add(to_client, data, n);
}

/* Header bytes, then the payload in the pieces that it comes in. */
static int from_fd(void *arg, const char *data, size_t n, UNUSED struct buf *to_fd, struct buf *to_client) {
	struct relay *r = arg;
	if (n == 0 && r->ws)
		websocket_write(WEBSOCKET_CLOSE, "\x03\xe8", 2, to_client);
	while (n) {
		size_t piece = r->got < SHIM_HEADER ? MIN(n, SHIM_HEADER - r->got) : MIN(n, r->left);
		if (r->got < SHIM_HEADER) {
			memcpy(r->header + r->got, data, piece);
			r->got += piece;
			const unsigned char *h = (const unsigned char *)r->header;
			r->left = shim_length(h);
			if (r->got == SHIM_HEADER && is_wanted(r) && !r->want.tty)
				output(r, r->header, SHIM_HEADER, to_client);
		} else {
			if (is_wanted(r))
				output(r, data, piece, to_client);
			r->left -= piece;
		}
		if (r->got == SHIM_HEADER && !r->left)
			r->got = 0;
		data += piece;
		n -= piece;
	}
	return 0;
}

/* ---- the client's connection ---- */

void stream_type(struct http_request *req, bool tty) {
	http_reply_header(req, "Content-Type", !tty && docker_api(req) >= 42 ? "application/vnd.docker.multiplexed-stream"
									      : "application/vnd.docker.raw-stream");
}

int stream_hijack(struct http_request *req, bool tty, struct buf *early) {
	const char *protocol = http_header(req, "Upgrade");
	bool upgrade = protocol && strcasecmp(protocol, "tcp") == 0;
	stream_type(req, tty || !upgrade);
	return http_upgrade(req, upgrade ? "tcp" : NULL, early);
}

static void relay_start(struct http_request *req, int client, struct buf *early, int fd, const struct stream_want *want,
			struct websocket *ws) {
	struct relay *r = NEW(struct relay);
	*r = (struct relay){.want = *want, .ws = ws};
	const struct http_filter filter = {from_client, from_fd, relay_drop, r};
	http_relay(req, client, early, fd, &filter);
}

void stream_relay(struct http_request *req, int client, struct buf *early, int fd, const struct stream_want *want) {
	relay_start(req, client, early, fd, want, NULL);
}

static int send_all(int fd, const char *data, size_t n) {
	while (n) {
		ssize_t sent = RETRY_EINTR(send(fd, data, n, MSG_NOSIGNAL));
		if (sent < 0)
			return -EPIPE;
		data += sent;
		n -= (size_t)sent;
	}
	return 0;
}

int stream_say(int client, bool tty, int stream, const char *text, size_t n) {
	char header[SHIM_HEADER];
	shim_header(header, stream, n);
	int r = tty ? 0 : send_all(client, header, sizeof header);
	return r < 0 ? r : send_all(client, text, n);
}

/* ---- attach ---- */

static bool want_parse(struct http_request *req, struct stream_want *want) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	*want = (struct stream_want){
		.in = docker_query_bool(req, "stdin"),
		.out = docker_query_bool(req, "stdout"),
		.errors = docker_query_bool(req, "stderr"),
	};
	if (detach_keys_parse(http_query(req, "detachKeys"), &want->keys, &err) == 0)
		return true;
	fail(req, &err);
	return false;
}

static bool can_attach(struct http_request *req, const struct instance *i) {
	if (str_same(i->status.state, "paused"))
		docker_fail(req, 409, "container %s is paused, unpause the container before attach", i->id);
	else if (str_same(i->status.state, "restarting"))
		docker_fail(req, 409, "container %s is restarting, wait until the container is running", i->id);
	else
		return true;
	return false;
}

/* *fd: the agent's stream, in effect if the container runs; -1 where none is wanted. */
static bool attach_open(struct http_request *req, const char *name, struct stream_want *want, int *fd) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL;
	*fd = -1;
	if (!want_parse(req, want) || !docker_container(req, name, &snap) || !can_attach(req, &snap->instance))
		return false;
	want->core = core_of(req);
	snprintf(want->id, sizeof want->id, "%s", snap->instance.id);
	want->tty = snap->instance.spec.tty;
	want->in = want->in && snap->instance.spec.stdin_open;
	if (!docker_query_bool(req, "stream") ||
	    instance_attach(core_of(req), DOCKER_PROJECT, name, want->in, want->out, want->errors, fd, &err) == 0)
		return true;
	docker_container_fail(req, name, &err);
	return false;
}

void docker_attach(struct http_request *req) {
	_cleanup_(buf_free) struct buf early = BUF_INIT;
	_cleanup_(close_fd) int fd = -1, client = -1;
	struct stream_want want;
	const char *name = http_param(req, "id");
	if (!attach_open(req, name, &want, &fd))
		return;
	client = stream_hijack(req, want.tty, &early);
	if (client < 0 || (docker_query_bool(req, "logs") && logs_send(req, name, &want, client) < 0))
		return;
	if (fd >= 0)
		stream_relay(req, TAKE_FD(client), &early, TAKE_FD(fd), &want);
}

void docker_attach_websocket(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(buf_free) struct buf early = BUF_INIT;
	_cleanup_(close_fd) int fd = -1, client = -1;
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL;
	struct stream_want want;
	const char *name = http_param(req, "id");
	if (!docker_container(req, name, &snap))
		return;
	if (websocket_check(req, &err) < 0)
		return fail(req, &err);
	if (!attach_open(req, name, &want, &fd))
		return;
	want.tty = true; /* messages are not framed once more */
	client = websocket_accept(req, &early);
	if (client >= 0 && fd >= 0)
		relay_start(req, TAKE_FD(client), &early, TAKE_FD(fd), &want, websocket_new());
}
