/* Logs: lines of the log files, each in a frame, or raw for a container with a terminal. */
#include "core/logs.h"
#include "base/time.h"
#include "dialect/docker/inside.h"

#include <arpa/inet.h>
#include <limits.h>

struct log_stream {
	struct line_stream *lines; /* NULL: to the socket below */
	int socket;
	struct buf pending;        /* what goes there */
	bool raw, timestamps;
	char *details;             /* attributes at the beginning of each line; NULL: none are wanted */
	bool inside[3];            /* by stream: the last entry was the beginning of a line */
};

static void log_begin(void *arg) {
	struct log_stream *s = arg;
	if (s->lines)
		line_stream_begin(s->lines);
}

/* A line that comes in several entries has its time once, as one that dockerd has put together. */
static void log_entry(void *arg, const struct log_entry *e) {
	struct log_stream *s = arg;
	struct buf *b = s->lines ? &s->lines->pending : &s->pending;
	bool start = !s->inside[e->stream];
	size_t stamp = start && s->timestamps ? e->time_len + 1 : 0, details = start && s->details ? strlen(s->details) + 1 : 0;
	uint32_t length = htonl((uint32_t)(stamp + details + e->len + !e->partial));
	char header[8] = {(char)e->stream};
	s->inside[e->stream] = e->partial;
	memcpy(header + 4, &length, sizeof length);
	if (!s->raw)
		buf_add(b, header, sizeof header);
	if (stamp) {
		buf_add(b, e->time_text, e->time_len);
		buf_addc(b, ' ');
	}
	if (details)
		buf_addf(b, "%s ", s->details);
	buf_add(b, e->text, e->len);
	if (!e->partial)
		buf_addc(b, '\n');
}

static int log_flush(void *arg, bool block) {
	struct log_stream *s = arg;
	struct buf *b = s->lines ? &s->lines->pending : &s->pending;
	int r = 0;
	if (s->lines && !s->lines->stream)
		return -EPIPE;
	if (!b->len)
		return 0;
	if (!s->lines)
		r = stream_say(s->socket, true, 0, b->data, b->len);
	else
		r = block ? http_stream_write(s->lines->stream, b->data, b->len)
			  : http_stream_push(s->lines->stream, b->data, b->len);
	if (r == 0)
		buf_truncate(b, 0);
	return r;
}

static bool log_gone(void *arg) {
	struct log_stream *s = arg;
	return s->lines && line_stream_gone(s->lines);
}

static void log_end(void *arg, bool complete) {
	struct log_stream *s = arg;
	if (s->lines)
		line_stream_end(s->lines, complete);
	buf_free(&s->pending);
	free(s->details);
	free(s);
}

static struct log_sink sink_of(struct log_stream *s) {
	return (struct log_sink){
		.begin = log_begin, .entry = log_entry, .flush = log_flush, .gone = log_gone, .end = log_end, .arg = s};
}

int logs_send(struct http_request *req, const char *name, const struct stream_want *want, int client) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	const struct log_filter filter = {.want_stdout = want->out, .want_stderr = want->errors, .tail = -1};
	struct log_stream *s = NEW(struct log_stream);
	*s = (struct log_stream){.socket = client, .raw = want->tty};
	const struct log_sink sink = sink_of(s);
	if (instance_logs(core_of(req), DOCKER_PROJECT, name, &filter, &sink, &err) == 0)
		return 0;
	free(s);
	_cleanup_(free_ptr) char *text = str_format("Error attaching: %s\n", error_text(&err));
	return stream_say(client, want->tty, 1, text, strlen(text));
}

/* ---- the request ---- */

static bool filter_parse(struct http_request *req, struct log_filter *f) {
	const char *tail = http_query(req, "tail");
	*f = (struct log_filter){
		.want_stdout = docker_query_bool(req, "stdout"),
		.want_stderr = docker_query_bool(req, "stderr"),
		.follow = docker_query_bool(req, "follow"),
		.tail = -1,
	};
	if (!f->want_stdout && !f->want_stderr) {
		docker_fail(req, 400, "Bad parameters: you must choose at least one stream");
		return false;
	}
	if (tail && str_to_i64(tail, &f->tail) < 0)
		f->tail = -1; /* "all", and what dockerd takes for it */
	return docker_query_time(req, "since", &f->since) && docker_query_time(req, "until", &f->until);
}

void docker_logs(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL;
	const char *name = http_param(req, "id");
	struct log_filter filter;
	if (!filter_parse(req, &filter) || !docker_container(req, name, &snap))
		return;
	const struct instance_spec *spec = &snap->instance.spec;
	if (str_same(spec->log.driver, "none"))
		return docker_fail(req, 501, "configured logging driver does not support reading");
	bool multiplexed = !spec->tty && docker_api(req) >= 42;
	struct log_stream *s = NEW(struct log_stream);
	*s = (struct log_stream){
		.lines = line_stream_new(req, multiplexed ? "application/vnd.docker.multiplexed-stream"
							  : "application/vnd.docker.raw-stream"),
		.raw = spec->tty,
		.timestamps = docker_query_bool(req, "timestamps"),
		.details = docker_query_bool(req, "details") ? docker_log_details(core_of(req), &snap->instance) : NULL,
	};
	const struct log_sink sink = sink_of(s);
	if (instance_logs(core_of(req), DOCKER_PROJECT, snap->instance.id, &filter, &sink, &err) < 0) {
		line_stream_free(s->lines);
		free(s->details);
		free(s);
		docker_container_fail(req, name, &err);
	}
}
