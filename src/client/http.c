/* HTTP/1.1 answers (RFC 9112): headers, bodies by length, in chunks, or up to the end. */
#include "client/http.h"

#include "base/str.h"

#include <poll.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#define HEADERS_MAX ((size_t)64 << 10)
#define LINE_MAX_LEN 4096
#define PIECE ((size_t)64 << 10)

void connection_close(struct connection *c) {
	close_fd(&c->fd);
	buf_free(&c->in);
}

int connection_send(struct connection *c, const char *data, size_t n, struct error *err) {
	while (n) {
		ssize_t sent = RETRY_EINTR(send(c->fd, data, n, MSG_NOSIGNAL));
		if (sent < 0)
			return error_errno(err, errno, "cannot send to the daemon");
		data += sent;
		n -= (size_t)sent;
	}
	return 0;
}

static int await(struct connection *c, struct error *err) {
	struct pollfd p[] = {{c->fd, POLLIN, 0}, {c->cancel_fd, POLLIN, 0}};
	if (c->cancel_fd < 0)
		return 0;
	if (RETRY_EINTR(poll(p, 2, -1)) < 0)
		return error_errno(err, errno, "cannot wait for the daemon");
	return p[1].revents ? error_set(err, ERROR_CANCELLED, "interrupted") : 0;
}

/* Reads what comes: 1 for bytes, 0 at the end. */
static int read_more(struct connection *c, struct error *err) {
	int r = await(c, err);
	if (r < 0)
		return r;
	char *room = buf_room(&c->in, PIECE);
	if (!room)
		return error_set(err, ERROR_TOO_LARGE, "the daemon's answer is too large");
	ssize_t n = RETRY_EINTR(recv(c->fd, room, PIECE, 0));
	if (n < 0)
		return error_errno(err, errno, "cannot read the daemon's answer");
	buf_grown(&c->in, (size_t)n);
	return n > 0;
}

/* read_more where the end is an error. */
static int need_more(struct connection *c, struct error *err) {
	int r = read_more(c, err);
	if (r == 0)
		return error_set(err, ERROR_UNAVAILABLE, "the daemon closed the connection");
	return r < 0 ? r : 0;
}

/* Takes one line off the input, without its end. */
static int read_line(struct connection *c, size_t max, char **line, struct error *err) {
	for (;;) {
		char *end = c->in.len ? memchr(c->in.data, '\n', c->in.len) : NULL;
		if (end) {
			size_t n = (size_t)(end - c->in.data);
			*line = str_copyn(c->in.data, n && end[-1] == '\r' ? n - 1 : n);
			buf_consume(&c->in, n + 1);
			return 0;
		}
		if (c->in.len > max)
			return error_set(err, ERROR_CORRUPT, "the daemon's answer has a line without end");
		int r = need_more(c, err);
		if (r < 0)
			return r;
	}
}

const char *header_find(const char *headers, const char *name) {
	size_t n = strlen(name);
	for (const char *line = headers; line && *line; line = strchr(line, '\0') + 1)
		if (strncasecmp(line, name, n) == 0 && line[n] == ':')
			return line + n + 1 + strspn(line + n + 1, " \t");
	return NULL;
}

static int parse_status(const char *line, int *status) {
	uint64_t v;
	_cleanup_(free_ptr) char *digits = strlen(line) >= 12 ? str_copyn(line + 9, 3) : NULL;
	if (!digits || !str_starts(line, "HTTP/1.1 ") || str_to_u64(digits, 10, &v) < 0 || v < 100)
		return -EBADMSG;
	*status = (int)v;
	return 0;
}

/* All header lines, as strings one behind the other with an empty one last. */
static int read_header_lines(struct connection *c, struct error *err) {
	_cleanup_(buf_free) struct buf lines = BUF_INIT_MAX(HEADERS_MAX);
	for (;;) {
		_cleanup_(free_ptr) char *line = NULL;
		int r = read_line(c, HEADERS_MAX, &line, err);
		if (r < 0)
			return r;
		if (!*line)
			break;
		buf_add(&lines, line, strlen(line) + 1);
		if (buf_overflowed(&lines))
			return error_set(err, ERROR_CORRUPT, "the headers of the daemon's answer are too large");
	}
	free(c->headers);
	c->headers = buf_steal(&lines);
	return 0;
}

static int interpret_headers(struct connection *c, struct error *err) {
	const char *coding = header_find(c->headers, "Transfer-Encoding"),
		   *length = header_find(c->headers, "Content-Length"),
		   *connection = header_find(c->headers, "Connection");
	c->chunked = coding && strcasecmp(coding, "chunked") == 0;
	c->has_length = !c->chunked && length;
	c->close_after = connection && strcasecmp(connection, "close") == 0;
	if ((coding && !c->chunked) || (c->has_length && str_to_u64(length, 10, &c->length) < 0))
		return error_set(err, ERROR_CORRUPT, "the daemon's answer has headers that make no sense");
	return 0;
}

int connection_read_headers(struct connection *c, struct error *err) {
	c->status = 0;
	do {
		_cleanup_(free_ptr) char *line = NULL;
		int r = read_line(c, LINE_MAX_LEN, &line, err);
		if (r < 0)
			return r;
		if (parse_status(line, &c->status) < 0)
			return error_set(err, ERROR_CORRUPT, "what answers is not a wabe daemon");
		r = read_header_lines(c, err);
		if (r < 0)
			return r;
	} while (c->status < 200 && c->status != 101);
	return interpret_headers(c, err);
}

/* n bytes of the body, in pieces as they come. */
static int read_exactly(struct connection *c, uint64_t n, body_sink sink, void *arg, struct error *err) {
	while (n) {
		int r = c->in.len ? 0 : need_more(c, err);
		if (r < 0)
			return r;
		size_t piece = (size_t)MIN(n, (uint64_t)c->in.len);
		if (sink && sink(c->in.data, piece, arg) < 0)
			return error_set(err, ERROR_CANCELLED, "stopped");
		buf_consume(&c->in, piece);
		n -= piece;
	}
	return 0;
}

/* 1 for a chunk, 0 for the last one. */
static int read_chunk(struct connection *c, body_sink sink, void *arg, struct error *err) {
	_cleanup_(free_ptr) char *line = NULL, *behind = NULL;
	uint64_t n;
	int r = read_line(c, LINE_MAX_LEN, &line, err);
	if (r < 0)
		return r;
	line[strcspn(line, "; \t")] = '\0';
	if (str_to_u64(line, 16, &n) < 0)
		return error_set(err, ERROR_CORRUPT, "the daemon's answer has a malformed chunk");
	if (n == 0)
		return 0;
	r = read_exactly(c, n, sink, arg, err);
	if (r == 0)
		r = read_line(c, LINE_MAX_LEN, &behind, err);
	if (r == 0 && *behind)
		r = error_set(err, ERROR_CORRUPT, "the daemon's answer has a malformed chunk");
	return r < 0 ? r : 1;
}

static int read_trailers(struct connection *c, struct error *err) {
	for (;;) {
		_cleanup_(free_ptr) char *line = NULL;
		int r = read_line(c, LINE_MAX_LEN, &line, err);
		if (r < 0 || !*line)
			return r;
	}
}

static int read_chunks(struct connection *c, body_sink sink, void *arg, struct error *err) {
	int r;
	do
		r = read_chunk(c, sink, arg, err);
	while (r > 0);
	return r < 0 ? r : read_trailers(c, err);
}

static int read_to_end(struct connection *c, body_sink sink, void *arg, struct error *err) {
	int r;
	c->close_after = true;
	do {
		r = read_exactly(c, c->in.len, sink, arg, err);
		if (r == 0)
			r = read_more(c, err);
	} while (r > 0);
	return r;
}

static int read_body(struct connection *c, bool head, body_sink sink, void *arg, struct error *err) {
	if (head || c->status == 204 || c->status == 304)
		return 0;
	if (c->chunked)
		return read_chunks(c, sink, arg, err);
	return c->has_length ? read_exactly(c, c->length, sink, arg, err) : read_to_end(c, sink, arg, err);
}

int connection_read_body(struct connection *c, bool head, body_sink sink, void *arg, struct error *err) {
	int r = read_body(c, head, sink, arg, err);
	if (r < 0 || c->close_after)
		connection_close(c);
	return r;
}
