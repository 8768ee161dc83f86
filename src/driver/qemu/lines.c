#include "driver/qemu/lines.h"

#include "base/fs.h"
#include "base/str.h"
#include "base/time.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define CHUNK ((size_t)65536)
#define WORDS_MAX ((size_t)400)

void lines_init(struct lines *l, int fd, size_t max) {
	*l = (struct lines){.fd = fd, .max = max};
	l->in.max = SIZE_MAX >> 1; /* lines_next sees to it */
}

void lines_free(struct lines *l) {
	close_fd(&l->fd);
	buf_free(&l->in);
}

static int timed_out(struct error *err) {
	return error_set(err, ERROR_TIMEOUT, "no answer in time");
}

/* By way of the directory's descriptor: a socket's path has a limit. */
int lines_connect(const char *dir, const char *name, int64_t deadline, struct error *err) {
	_cleanup_(close_fd) int at = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	_cleanup_(close_fd) int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int64_t left = deadline - time_mono_ns();
	struct timeval limit = {.tv_sec = (time_t)(left / NS_PER_SEC), .tv_usec = (suseconds_t)(left % NS_PER_SEC / 1000)};
	if (left < 1000)
		return timed_out(err);
	snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/%s", at, name);
	if (sock < 0 || setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) < 0)
		return error_errno(err, errno, "cannot make a socket");
	int r = at < 0 ? -ENOENT : RETRY_EINTR(connect(sock, (struct sockaddr *)&address, sizeof address)) < 0 ? -errno : 0;
	if (r == -EAGAIN)
		return timed_out(err);
	if (r == -ENOENT || r == -ECONNREFUSED)
		return error_set(err, ERROR_NOT_FOUND, "nobody listens on %s", name);
	return r < 0 ? error_errno(err, r, "cannot connect to %s", name) : TAKE_FD(sock);
}

/* Until it can be read or written. */
static int await_fd(int fd, short events, int64_t deadline, struct error *err) {
	for (;;) {
		int64_t left = deadline - time_mono_ns();
		struct pollfd p = {fd, events, 0};
		if (left <= 0)
			return timed_out(err);
		int n = poll(&p, 1, (int)MIN((left + NS_PER_MS - 1) / NS_PER_MS, 60000));
		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return error_errno(err, errno, "cannot wait");
	}
}

static ssize_t send_some(int fd, const char *text, size_t n, int pass) {
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct iovec iov = {(void *)text, n};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	if (pass >= 0) {
		msg.msg_control = control.bytes;
		msg.msg_controllen = sizeof control.bytes;
		struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof pass);
		memcpy(CMSG_DATA(c), &pass, sizeof pass);
	}
	return RETRY_EINTR(sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT));
}

static int has_ended(struct error *err) {
	return error_set(err, ERROR_UNAVAILABLE, "the other side has closed the connection");
}

int lines_send(struct lines *l, const char *text, size_t n, int pass, int64_t deadline, struct error *err) {
	while (n) {
		ssize_t sent = send_some(l->fd, text, n, pass);
		if (sent < 0 && (errno == EPIPE || errno == ECONNRESET))
			return has_ended(err);
		if (sent < 0 && errno != EAGAIN)
			return error_errno(err, errno, "cannot send");
		if (sent < 0) {
			int r = await_fd(l->fd, POLLOUT, deadline, err);
			if (r < 0)
				return r;
			continue;
		}
		pass = -1;
		text += sent;
		n -= (size_t)sent;
	}
	return 0;
}

int lines_fill(struct lines *l, struct error *err) {
	ssize_t n = RETRY_EINTR(recv(l->fd, buf_room(&l->in, CHUNK), CHUNK, MSG_DONTWAIT));
	if (n < 0 && errno == EAGAIN)
		return 0;
	if (n == 0 || (n < 0 && errno == ECONNRESET))
		return has_ended(err);
	if (n < 0)
		return error_errno(err, errno, "cannot receive");
	buf_grown(&l->in, (size_t)n);
	return 1;
}

static int parse_line(const char *line, size_t n, json_t **message, struct error *err) {
	const char *mark = memrchr(line, 0xff, n);
	if (mark) {
		n -= (size_t)(mark + 1 - line);
		line = mark + 1;
	}
	while (n && (line[n - 1] == '\r' || line[n - 1] == ' '))
		n--;
	if (n == 0)
		return 0;
	_cleanup_(error_free) struct error why = ERROR_INIT;
	_cleanup_(json_free_ptr) json_t *parsed = json_parse(line, n, &why);
	if (!json_is_object(parsed))
		return error_set(err, ERROR_CORRUPT, "what came is no message: %s", why.message ? why.message : "it is no object");
	*message = TAKE_PTR(parsed);
	return 1;
}

int lines_next(struct lines *l, json_t **message, struct error *err) {
	int r = 0;
	while (r == 0) {
		const char *text = buf_str(&l->in), *end = memchr(text + l->seen, '\n', l->in.len - l->seen);
		l->seen = end ? 0 : l->in.len;
		size_t n = end ? (size_t)(end - text) : l->in.len;
		if (n > l->max)
			return error_set(err, ERROR_TOO_LARGE, "a message is longer than %zu bytes", l->max);
		if (!end)
			return 0;
		r = parse_line(text, n, message, err);
		buf_consume(&l->in, n + 1);
	}
	return r;
}

int lines_await(struct lines *l, int64_t deadline, json_t **message, struct error *err) {
	for (;;) {
		int r = lines_next(l, message, err);
		if (r != 0)
			return r < 0 ? r : 0;
		r = lines_fill(l, err);
		if (r == 0)
			r = await_fd(l->fd, POLLIN, deadline, err);
		else if (time_mono_ns() > deadline) /* whoever never ends is late too */
			r = r < 0 ? r : timed_out(err);
		if (r < 0)
			return r;
	}
}

char *lines_words(const char *text) {
	char *shown = text ? str_copyn(text, strnlen(text, WORDS_MAX)) : str_copy("it gives no reason");
	size_t n = strlen(shown);
	for (char *p = shown; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = ' ';
	if (n < WORDS_MAX)
		return shown;
	while (n && ((unsigned char)shown[n - 1] & 0xc0) == 0x80) /* no half of a character */
		n--;
	shown[n && (unsigned char)shown[n - 1] >= 0xc0 ? n - 1 : n] = '\0';
	return shown;
}
