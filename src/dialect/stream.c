/* Answers and bodies that are streams: lines that come as things happen, archives in both directions. */
#include "dialect/dialect.h"

#include "base/fs.h"

#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- lines ---- */

struct line_stream *line_stream_new(struct http_request *req, const char *content_type) {
	struct line_stream *s = NEW(struct line_stream);
	*s = (struct line_stream){.req = req, .type = content_type};
	return s;
}

void line_stream_free(struct line_stream *s) {
	buf_free(&s->pending);
	free(s);
}

void line_stream_begin(void *arg) {
	struct line_stream *s = arg;
	s->stream = http_stream_begin(s->req, 200, s->type);
	s->req = NULL;
}

int line_stream_push(struct line_stream *s, const char *line, size_t len) {
	buf_truncate(&s->pending, 0);
	buf_add(&s->pending, line, len);
	buf_addc(&s->pending, '\n');
	return s->stream ? http_stream_push(s->stream, s->pending.data, s->pending.len) : -EPIPE;
}

bool line_stream_gone(void *arg) {
	struct line_stream *s = arg;
	return !s->stream || http_stream_gone(s->stream);
}

void line_stream_end(void *arg, bool complete) {
	struct line_stream *s = arg;
	if (s->stream)
		http_stream_end(s->stream, complete);
	line_stream_free(s);
}

/* ---- pipes whose broken end cannot be taken for the end ----
 *
 * A pair of sockets. The writer has a byte that it never asked for waiting: closed with that unread, the
 * kernel gives the reader ECONNRESET; guard_finish takes the byte first and so makes a good end. */

static int guard_open(int *reader, int *writer, struct error *err) {
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return error_errno(err, errno, "making a pair of sockets");
	*reader = pair[0];
	*writer = pair[1];
	if (send(*reader, "", 1, MSG_NOSIGNAL) == 1)
		return 0;
	int r = error_errno(err, errno, "writing to a pair of sockets");
	close_fd(reader);
	close_fd(writer);
	return r;
}

static void guard_finish(int writer) {
	char byte;
	if (recv(writer, &byte, 1, MSG_DONTWAIT) == 1)
		shutdown(writer, SHUT_WR);
}

static int send_all(int fd, const char *data, size_t n) {
	while (n) {
		ssize_t sent = RETRY_EINTR(send(fd, data, n, MSG_NOSIGNAL));
		if (sent < 0)
			return -errno;
		data += sent;
		n -= (size_t)sent;
	}
	return 0;
}

struct side {
	int fd;
	int (*fn)(int fd, void *arg, struct error *err);
	void *arg;
	struct error err;
	int result;
	bool writes;
};

static void *side_thread(void *p) {
	struct side *s = p;
	s->result = s->fn(s->fd, s->arg, &s->err);
	if (s->writes && s->result == 0)
		guard_finish(s->fd);
	close_fd(&s->fd);
	return NULL;
}

static int side_start(struct side *s, pthread_t *thread, struct error *err) {
	pthread_attr_t attr;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 512 << 10);
	int r = pthread_create(thread, &attr, side_thread, s);
	pthread_attr_destroy(&attr);
	return r ? error_errno(err, r, "starting a thread") : 0;
}

#define PIECE 65536

/* Gives 0 at the good end of fd. *stream is begun with the first piece. */
static int copy_out(struct http_request *req, const char *type, int fd, struct http_stream **stream) {
	_cleanup_(free_ptr) char *piece = alloc_zero(PIECE);
	for (;;) {
		ssize_t n = RETRY_EINTR(read(fd, piece, PIECE));
		if (n <= 0)
			return n < 0 ? -errno : 0;
		if (!*stream)
			*stream = http_stream_begin(req, 200, type);
		if (!*stream || http_stream_write(*stream, piece, (size_t)n) < 0)
			return -EPIPE;
	}
}

void reply_stream_fd(struct http_request *req, const char *content_type, int fd) {
	struct http_stream *stream = http_stream_begin(req, 200, content_type);
	int r = stream ? copy_out(req, content_type, fd, &stream) : 0;
	close(fd);
	if (stream)
		http_stream_end(stream, r == 0);
}

void reply_written(struct http_request *req, const char *content_type,
		   int (*fn)(int fd, void *arg, struct error *err), void *arg) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(close_fd) int reader = -1;
	struct side side = {.fd = -1, .fn = fn, .arg = arg, .writes = true};
	pthread_t thread;
	struct http_stream *stream = NULL;
	if (guard_open(&reader, &side.fd, &err) < 0 || side_start(&side, &thread, &err) < 0) {
		close_fd(&side.fd);
		return fail(req, &err);
	}
	int r = copy_out(req, content_type, reader, &stream);
	close_fd(&reader);
	pthread_join(thread, NULL);
	if (stream)
		http_stream_end(stream, r == 0 && side.result == 0);
	else if (side.result < 0)
		fail(req, &side.err);
	else
		http_reply(req, 200, content_type, "", 0);
	error_free(&side.err);
}

static int copy_in(struct http_request *req, int fd) {
	_cleanup_(free_ptr) char *piece = alloc_zero(PIECE);
	for (;;) {
		ssize_t n = http_body_read(req, piece, PIECE);
		if (n <= 0)
			return (int)n;
		int r = send_all(fd, piece, (size_t)n);
		if (r < 0)
			return r;
	}
}

int with_body(struct http_request *req, int (*fn)(int fd, void *arg, struct error *err), void *arg, struct error *err) {
	_cleanup_(close_fd) int writer = -1;
	struct side side = {.fd = -1, .fn = fn, .arg = arg};
	pthread_t thread;
	int r = guard_open(&side.fd, &writer, err);
	if (r == 0)
		r = side_start(&side, &thread, err);
	if (r < 0) {
		close_fd(&side.fd);
		return r;
	}
	if (copy_in(req, writer) == 0)
		guard_finish(writer);
	close_fd(&writer);
	pthread_join(thread, NULL);
	return side.result < 0 ? error_move(err, &side.err) : 0;
}
