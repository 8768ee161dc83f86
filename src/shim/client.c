/* Those who are attached: each has a socket, a bounded buffer of what it has not taken yet, and the state of
 * the frame that it is sending. What one does wrong ends that one alone. */
#include "shim/shim-priv.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define CLIENTS_MAX 64
#define BUFFER_SIZE ((size_t)1 << 20)

struct client {
	int fd; /* 0: a free place */
	uint32_t registered;
	uint8_t wants; /* enum shim_attach */
	bool attached, paused, ended; /* paused: no room for its input; ended: it sends no more */
	/* the frame that comes in */
	uint8_t header[SHIM_HEADER], body[4];
	size_t got;    /* bytes of header, then of the whole frame */
	size_t length; /* of the payload */
	/* a ring of what goes out, mapped while it is needed */
	char *ring;
	size_t start, used;
	int64_t progress; /* when it last took something, ms */
};

static struct client clients[CLIENTS_MAX];
static bool anyone_attached, exit_sent;

static void free_ring(struct client *c) {
	if (c->ring)
		munmap(c->ring, BUFFER_SIZE);
	c->ring = NULL;
	c->start = c->used = 0;
}

static void drop(struct client *c) {
	poll_set(c->fd, 0, c, &c->registered);
	close(c->fd);
	free_ring(c);
	*c = (struct client){0};
}

static void watch(struct client *c) {
	uint32_t events = (c->used ? EPOLLOUT : 0) | (c->paused || c->ended ? 0 : EPOLLIN);
	/* while input has to wait, a hang-up has to wait too; else it is told with whatever is asked for */
	poll_set(c->fd, events || c->paused ? events : EPOLLERR, c, &c->registered);
}

void client_accept(int listener) {
	int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0)
		return;
	for (size_t i = 0; i < CLIENTS_MAX; i++) {
		if (clients[i].fd)
			continue;
		clients[i] = (struct client){.fd = fd, .progress = now_ms()};
		watch(&clients[i]);
		return;
	}
	close(fd);
}

/* Two pieces of the ring, from its start or of what is free. */
static int pieces(const struct client *c, size_t from, size_t n, struct iovec out[2]) {
	size_t at = (c->start + from) % BUFFER_SIZE, first = n < BUFFER_SIZE - at ? n : BUFFER_SIZE - at;
	out[0] = (struct iovec){c->ring + at, first};
	out[1] = (struct iovec){c->ring, n - first};
	return n > first ? 2 : 1;
}

static bool keep(struct client *c, const char *data, size_t n) {
	if (!c->ring) {
		void *ring = mmap(NULL, BUFFER_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (ring == MAP_FAILED)
			return false;
		c->ring = ring;
		c->progress = now_ms();
	}
	if (n > BUFFER_SIZE - c->used)
		return false;
	struct iovec v[2];
	int count = pieces(c, c->used, n, v);
	memcpy(v[0].iov_base, data, v[0].iov_len);
	if (count == 2)
		memcpy(v[1].iov_base, data + v[0].iov_len, v[1].iov_len);
	c->used += n;
	return true;
}

/* Gives what waits to the socket. False: the client is gone. */
static bool drain(struct client *c) {
	while (c->used) {
		struct iovec v[2];
		struct msghdr m = {.msg_iov = v, .msg_iovlen = (size_t)pieces(c, 0, c->used, v)};
		ssize_t n = sendmsg(c->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN;
		c->start = (c->start + (size_t)n) % BUFFER_SIZE;
		c->used -= (size_t)n;
		c->progress = now_ms();
	}
	free_ring(c);
	return true;
}

static bool send_frame(struct client *c, enum shim_frame type, const char *data, size_t n) {
	char header[SHIM_HEADER];
	ssize_t sent = 0;
	shim_header(header, type, n);
	if (!c->used) {
		struct iovec v[2] = {{header, sizeof header}, {(char *)data, n}};
		struct msghdr m = {.msg_iov = v, .msg_iovlen = 2};
		do
			sent = sendmsg(c->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
		while (sent < 0 && errno == EINTR);
		if (sent < 0 && errno != EAGAIN)
			return false;
		sent = sent < 0 ? 0 : sent;
	}
	size_t done = (size_t)sent, of_header = done < sizeof header ? done : sizeof header;
	bool good = of_header == sizeof header || keep(c, header + of_header, sizeof header - of_header);
	size_t of_data = done - of_header;
	return good && (of_data == n || keep(c, data + of_data, n - of_data));
}

static void send_or_drop(struct client *c, enum shim_frame type, const char *data, size_t n) {
	if (send_frame(c, type, data, n))
		watch(c);
	else
		drop(c);
}

static void send_exit(struct client *c) {
	int status;
	if (!exit_status(&status))
		return;
	char text[4] = {(char)(status >> 24), (char)(status >> 16), (char)(status >> 8), (char)status};
	send_or_drop(c, SHIM_EXIT, text, sizeof text);
}

void client_send_exit(void) {
	exit_sent = true;
	for (size_t i = 0; i < CLIENTS_MAX; i++)
		if (clients[i].fd)
			send_exit(&clients[i]);
}

/* How long the payload of a control frame must be; -1 for what is none. */
static ssize_t body_length(uint8_t type) {
	switch (type) {
	case SHIM_RESIZE:
		return 4;
	case SHIM_ATTACH:
		return 1;
	case SHIM_STATUS:
	case SHIM_ROTATE:
		return 0;
	default:
		return -1;
	}
}

static bool header_is_good(const struct client *c) {
	const uint8_t *h = c->header;
	if (h[1] || h[2] || h[3] || c->length > SHIM_FRAME_MAX)
		return false;
	if (h[0] == SHIM_STDIN)
		return c->wants & SHIM_WANT_STDIN;
	return body_length(h[0]) == (ssize_t)c->length;
}

static void act(struct client *c) {
	char text[64];
	switch (c->header[0]) {
	case SHIM_STDIN:
		if (!c->length)
			stdin_end();
		break;
	case SHIM_RESIZE:
		terminal_resize((unsigned)c->body[0] << 8 | c->body[1], (unsigned)c->body[2] << 8 | c->body[3]);
		break;
	case SHIM_ATTACH:
		c->wants = c->body[0];
		c->attached = true;
		anyone_attached = anyone_attached || (c->wants & (SHIM_WANT_STDOUT | SHIM_WANT_STDERR));
		send_or_drop(c, SHIM_READY, NULL, 0);
		if (c->fd && exit_sent)
			send_exit(c);
		break;
	case SHIM_STATUS:
		send_or_drop(c, SHIM_STATE, text, state_text(text));
		break;
	case SHIM_ROTATE:
		log_reopen();
		break;
	}
}

/* Bytes that the frame needs next, all at once at most. */
static size_t wanted(const struct client *c) {
	return c->got < SHIM_HEADER ? SHIM_HEADER - c->got : SHIM_HEADER + c->length - c->got;
}

/* Takes n bytes, at most what is wanted; false: the client sent nonsense. */
static bool take(struct client *c, const char *data, size_t n) {
	if (c->got < SHIM_HEADER) {
		memcpy(c->header + c->got, data, n);
		c->got += n;
		if (c->got < SHIM_HEADER)
			return true;
		const uint8_t *h = c->header;
		c->length = shim_length(h);
		if (!header_is_good(c))
			return false;
	} else {
		if (c->header[0] == SHIM_STDIN)
			stdin_add(data, n);
		else
			memcpy(c->body + (c->got - SHIM_HEADER), data, n);
		c->got += n;
	}
	if (c->got < SHIM_HEADER + c->length)
		return true;
	c->got = 0;
	act(c);
	return true;
}

/* Reads until nothing is there. False: the client has gone or has to. */
static bool read_frames(struct client *c) {
	char chunk[4096];
	while (c->fd && !c->ended) {
		size_t n = wanted(c);
		bool input = c->got >= SHIM_HEADER && c->header[0] == SHIM_STDIN;
		size_t room = input ? stdin_room() : sizeof chunk;
		c->paused = room == 0;
		if (c->paused)
			return true;
		n = n < room ? n : room;
		ssize_t r = read(c->fd, chunk, n < sizeof chunk ? n : sizeof chunk);
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return errno == EAGAIN;
		c->ended = r == 0;
		if (!c->ended && !take(c, chunk, (size_t)r))
			return false;
	}
	return true;
}

void client_events(struct client *c, uint32_t events) {
	bool good = true;
	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		good = read_frames(c);
	if (!c->fd)
		return;
	bool gone = events & (EPOLLHUP | EPOLLERR);
	if (good && !gone && (events & EPOLLOUT))
		good = drain(c);
	if (good && gone && c->paused) { /* what it has sent is still to be taken */
		c->wants &= SHIM_WANT_STDIN;
		free_ring(c);
	} else if (gone) {
		good = false;
	}
	if (good)
		watch(c);
	else
		drop(c);
}

void client_resume(void) {
	for (size_t i = 0; i < CLIENTS_MAX; i++)
		if (clients[i].fd && clients[i].paused)
			client_events(&clients[i], EPOLLIN);
}

void client_output(enum shim_frame type, const char *data, size_t n) {
	uint8_t want = type == SHIM_STDOUT ? SHIM_WANT_STDOUT : SHIM_WANT_STDERR;
	for (size_t i = 0; i < CLIENTS_MAX; i++)
		if (clients[i].fd && (clients[i].wants & want))
			send_or_drop(&clients[i], type, data, n);
}

bool client_full(void) {
	for (size_t i = 0; i < CLIENTS_MAX; i++)
		if (clients[i].fd && clients[i].attached && BUFFER_SIZE - clients[i].used < (size_t)2 * (SHIM_FRAME_MAX + SHIM_HEADER))
			return true;
	return false;
}

bool client_attached(void) {
	return anyone_attached;
}

int64_t client_expire(int64_t now, int64_t patience_ms) {
	int64_t next = -1;
	for (size_t i = 0; i < CLIENTS_MAX; i++) {
		struct client *c = &clients[i];
		if (!c->fd || !c->used)
			continue;
		int64_t left = c->progress + patience_ms - now;
		if (left <= 0)
			drop(c);
		else if (next < 0 || left < next)
			next = left;
	}
	return next;
}
