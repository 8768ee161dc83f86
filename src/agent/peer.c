/* Connections to the agent's socket: who may speak, one frame read with bounds and a deadline, answers that
 * wait for a slow reader without holding anybody up, and those who listen to events. */
#include "agent/agent-priv.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "base/time.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PEERS_MAX 1024
#define REQUEST_TIMEOUT (10 * NS_PER_SEC)
#define ACCEPT_PAUSE (100 * NS_PER_MS)
#define ANSWER_TIMEOUT (30 * NS_PER_SEC)
/* What may wait for a reader: an answer of any size, but of events no more than this. */
#define EVENTS_MAX ((size_t)1 << 20)

struct peer {
	struct agent *agent;
	struct peer *next;
	int fd;
	struct loop_source *source, *timer;
	struct buf in, out;
	int fds[WIRE_FDS_MAX]; /* that came, then those that go out with the first byte of out */
	size_t nfds;
	bool closing;    /* once out is empty */
	bool subscribed;
	struct child *child; /* its worker, cancelled when the peer goes away */
};

int peer_fd(const struct peer *p) {
	return p->fd;
}

void peer_close(struct peer *p) {
	struct agent *a = p->agent;
	for (struct peer **at = &a->peers; *at; at = &(*at)->next)
		if (*at == p) {
			*at = p->next;
			break;
		}
	a->n_peers--;
	if (a->stopping_for == p)
		a->stopping_for = NULL;
	loop_remove(p->source);
	loop_remove(p->timer);
	for (size_t i = 0; i < p->nfds; i++)
		close_fd(&p->fds[i]);
	buf_free(&p->in);
	buf_free(&p->out);
	close_fd(&p->fd);
	free(p);
}

static void on_timeout(void *arg) {
	struct peer *p = arg;
	p->timer = NULL;
	log_debug("a connection is closed: no whole request, or no reader, in time");
	peer_close(p);
}

/* Sends what waits. False when the peer is gone (and freed). */
static bool flush(struct peer *p) {
	while (p->out.len) {
		union {
			struct cmsghdr align;
			char bytes[CMSG_SPACE(WIRE_FDS_MAX * sizeof(int))];
		} control = {0};
		struct iovec iov = {p->out.data, p->out.len};
		struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
		if (p->nfds) {
			msg.msg_control = control.bytes;
			msg.msg_controllen = CMSG_SPACE(p->nfds * sizeof(int));
			struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
			c->cmsg_level = SOL_SOCKET;
			c->cmsg_type = SCM_RIGHTS;
			c->cmsg_len = CMSG_LEN(p->nfds * sizeof(int));
			memcpy(CMSG_DATA(c), p->fds, p->nfds * sizeof(int));
		}
		ssize_t n = RETRY_EINTR(sendmsg(p->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT));
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) {
			peer_close(p);
			return false;
		}
		for (size_t i = 0; i < p->nfds; i++)
			close_fd(&p->fds[i]);
		p->nfds = 0;
		buf_consume(&p->out, (size_t)n);
	}
	if (p->out.len == 0 && p->closing) {
		peer_close(p);
		return false;
	}
	loop_set_events(p->source, (p->closing ? 0 : EPOLLIN | EPOLLRDHUP) | (p->out.len ? EPOLLOUT : 0));
	return true;
}

static void add_frame(struct peer *p, const char *type, const json_t *body) {
	_cleanup_(json_free_ptr) json_t *frame = json_object();
	json_set_str(frame, "type", type);
	json_object_set(frame, "body", (json_t *)body);
	_cleanup_(free_ptr) char *text = json_print(frame);
	size_t n = strlen(text);
	uint8_t header[4] = {(uint8_t)n, (uint8_t)(n >> 8), (uint8_t)(n >> 16), (uint8_t)(n >> 24)};
	buf_add(&p->out, header, sizeof header);
	buf_add(&p->out, text, n);
}

static void finish(struct peer *p) {
	p->closing = true;
	loop_remove(p->timer);
	p->timer = loop_add_timer(p->agent->loop, time_mono_ns() + ANSWER_TIMEOUT, on_timeout, p);
	flush(p);
}

void peer_answer(struct peer *p, const struct handler *h, const void *reply, const int *fds, size_t nfds) {
	_cleanup_(json_free_ptr) json_t *body = reply ? fields_print(h->request->reply, reply) : json_object();
	add_frame(p, "ok", body);
	p->nfds = 0; /* those of the request were taken */
	for (size_t i = 0; i < nfds; i++) {
		int copy = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);
		if (copy >= 0)
			p->fds[p->nfds++] = copy;
	}
	finish(p);
}

void peer_ok(struct peer *p) {
	_cleanup_(json_free_ptr) json_t *empty = json_object();
	add_frame(p, "ok", empty);
	finish(p);
}

void peer_error(struct peer *p, const struct error *err) {
	_cleanup_(json_free_ptr) json_t *body = json_object();
	json_set_str(body, "kind", error_kind_name(err->kind));
	json_set_str(body, "message", error_text(err));
	json_set_str(body, "field", err->field);
	while (p->nfds) /* of a request that never became whole: they are no part of the answer */
		close_fd(&p->fds[--p->nfds]);
	add_frame(p, "error", body);
	finish(p);
}

void peer_hand_over(struct peer *p, struct child *c, bool watch) {
	if (!watch) {
		peer_close(p);
		return;
	}
	p->child = c;
	c->peer = p;
}

/* --- events --- */

void peer_subscribe(struct peer *p) {
	_cleanup_(json_free_ptr) json_t *empty = json_object();
	p->subscribed = true;
	loop_remove(p->timer);
	p->timer = NULL;
	add_frame(p, "ok", empty);
	flush(p);
}

void event_emit(struct agent *a, const char *action, const char *id, const char *exec_id, int64_t exit_code,
		const struct instance_status *status) {
	struct msg_event e = {
		.time = time_now_ns(),
		.action = (char *)action,
		.id = (char *)id,
		.exec_id = exec_id && *exec_id ? (char *)exec_id : NULL,
		.exit_code = exit_code,
	};
	if (status)
		e.status = *status;
	_cleanup_(json_free_ptr) json_t *body = NULL;
	for (struct peer *p = a->peers, *next; p; p = next) {
		next = p->next;
		if (!p->subscribed)
			continue;
		if (p->out.len > EVENTS_MAX) {
			log_warn("a listener to events does not read and is dropped");
			peer_close(p);
			continue;
		}
		if (!body)
			body = fields_print(&msg_event_table, &e);
		add_frame(p, "ok", body);
		flush(p);
	}
}

/* --- reading --- */

/* A whole frame in p->in becomes *f. 0: more has to come; 1: there it is; negative: malformed. */
static int take_frame(struct peer *p, struct wire_frame *f, struct error *err) {
	if (p->in.len < 4)
		return 0;
	const uint8_t *h = (const uint8_t *)p->in.data;
	size_t n = h[0] | (size_t)h[1] << 8 | (size_t)h[2] << 16 | (size_t)h[3] << 24;
	if (n > WIRE_FRAME_MAX)
		return error_set(err, ERROR_TOO_LARGE, "a request of %zu bytes is over the limit of %zu", n,
				 WIRE_FRAME_MAX);
	if (p->in.len < n + 4)
		return 0;
	if (p->in.len > n + 4)
		return error_set(err, ERROR_INVALID, "one connection carries one request, but more bytes follow it");
	_cleanup_(json_free_ptr) json_t *json = json_parse(p->in.data + 4, n, err);
	if (!json)
		return -ERROR_INVALID;
	const char *type = json_get_str(json, "type");
	json_t *body = json_object_get(json, "body");
	if (!type || json_object_size(json) != 2 || !json_is_object(body))
		return error_set(err, ERROR_INVALID, "a request is {\"type\": TEXT, \"body\": OBJECT}");
	*f = (struct wire_frame){.type = str_copy(type), .body = json_incref(body), .nfds = p->nfds};
	memcpy(f->fds, p->fds, sizeof p->fds);
	p->nfds = 0;
	return 1;
}

/* Reads what is there: 1 something came, 0 nothing is there now, -1 the end. */
static int read_some(struct peer *p) {
	char chunk[16384];
	int fds[WIRE_FDS_MAX];
	size_t nfds;
	ssize_t n = sock_recv_fds(p->fd, chunk, sizeof chunk, fds, WIRE_FDS_MAX, &nfds);
	for (size_t i = 0; i < nfds; i++)
		if (p->nfds < WIRE_FDS_MAX)
			p->fds[p->nfds++] = fds[i];
		else
			close(fds[i]);
	if (n == -EAGAIN)
		return 0;
	if (n <= 0)
		return -1;
	buf_add(&p->in, chunk, (size_t)n);
	return 1;
}

static void gone(struct peer *p) {
	struct child *c = p->child;
	if (c) {
		log_debug("the peer of %s is gone: it is cancelled", c->handler->name);
		child_cancel(c);
	}
	peer_close(p);
}

static void on_peer(UNUSED struct loop_source *s, uint32_t events, void *arg) {
	struct peer *p = arg;
	_cleanup_(error_free) struct error err = ERROR_INIT;
	if (p->child || p->subscribed || p->closing) { /* the request has been read: nothing more may come */
		if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR) && !p->closing)
			gone(p);
		else if (events & (EPOLLHUP | EPOLLERR))
			peer_close(p);
		else
			flush(p);
		return;
	}
	int r = read_some(p);
	if (r < 0) {
		peer_close(p);
		return;
	}
	_cleanup_(wire_frame_free) struct wire_frame f = {0};
	r = r > 0 ? take_frame(p, &f, &err) : 0;
	if (r > 0) {
		loop_remove(p->timer);
		p->timer = NULL;
		r = request_dispatch(p->agent, p, &f, &err);
	}
	if (r < 0) {
		log_info("request refused: %s", error_text(&err));
		peer_error(p, &err);
	}
}

static void accept_again(void *arg) {
	struct agent *a = arg;
	loop_set_events(a->on_listen, EPOLLIN);
}

static void on_accept(UNUSED struct loop_source *s, UNUSED uint32_t events, void *arg) {
	struct agent *a = arg;
	_cleanup_(close_fd) int fd = accept4(a->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0 && (errno == EMFILE || errno == ENFILE)) {
		log_warn("no descriptor is left for one more connection");
		loop_set_events(a->on_listen, 0);
		loop_add_timer(a->loop, time_mono_ns() + ACCEPT_PAUSE, accept_again, a);
	}
	if (fd < 0)
		return;
	struct ucred who;
	socklen_t len = sizeof who;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) < 0 || who.uid != a->options.uid) {
		log_warn("a connection of user %u (process %d) is refused: only user %u may ask", who.uid, who.pid,
			 a->options.uid);
		return;
	}
	if (a->n_peers >= PEERS_MAX) {
		log_warn("over %d connections: one more is refused", PEERS_MAX);
		return;
	}
	struct peer *p = NEW(struct peer);
	*p = (struct peer){.agent = a, .fd = TAKE_FD(fd), .next = a->peers, .in = BUF_INIT_MAX(WIRE_FRAME_MAX + 32768)};
	a->peers = p;
	a->n_peers++;
	p->source = loop_add_fd(a->loop, p->fd, EPOLLIN | EPOLLRDHUP, on_peer, p);
	p->timer = loop_add_timer(a->loop, time_mono_ns() + REQUEST_TIMEOUT, on_timeout, p);
}

int peers_listen(struct agent *a, struct error *err) {
	a->listen_fd = a->options.listen_fd;
	if (a->listen_fd < 0) {
		_cleanup_(free_ptr) char *path = str_format("%s/agent.sock", a->options.run);
		/* a worker of an agent that was killed just now may hold the socket for a moment */
		for (int tries = 0; tries < 20 && (a->listen_fd = sock_listen_unix(path, 0600)) == -EADDRINUSE; tries++)
			nanosleep(&(struct timespec){.tv_nsec = 50 * NS_PER_MS}, NULL);
		if (a->listen_fd == -EADDRINUSE)
			return error_set(err, ERROR_EXISTS, "an agent runs already on %s", path);
		if (a->listen_fd < 0)
			return error_errno(err, a->listen_fd, "cannot listen on %s", path);
		if (chown(path, a->options.uid, 0) < 0)
			return error_errno(err, errno, "cannot give %s to user %u", path, a->options.uid);
	}
	fd_set_nonblock(a->listen_fd, true);
	fd_set_cloexec(a->listen_fd, true);
	return 0;
}

void peers_serve(struct agent *a) {
	if (a->serving)
		return;
	a->serving = true;
	a->on_listen = loop_add_fd(a->loop, a->listen_fd, EPOLLIN, on_accept, a);
}

void peers_free(struct agent *a) {
	loop_remove(a->on_listen);
	while (a->peers)
		peer_close(a->peers);
}
