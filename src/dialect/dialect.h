/* What all dialects need of a request: the core behind it, the plain error, and answers and bodies that are streams. */
#pragma once

#include "base/buf.h"
#include "core/core.h"
#include "http/http.h"

#define JSON_TYPE "application/json"
#define TAR_TYPE "application/x-tar"

/* The server's context is the core, in every dialect. */
static inline struct core *core_of(struct http_request *req) {
	return http_context(req);
}

/* In the dialect's own shape and with its own status (http_config). */
static inline void fail(struct http_request *req, const struct error *e) {
	http_fail(req, e);
}

/* ---- streams (stream.c) ---- */
/* A stream that lives as long as what is followed: sinks take it as their arg. */
struct line_stream {
	struct http_request *req; /* until begin */
	struct http_stream *stream;
	const char *type;
	struct buf pending;
};
struct line_stream *line_stream_new(struct http_request *req, const char *content_type);
void line_stream_free(struct line_stream *s);
void line_stream_begin(void *arg);
int line_stream_push(struct line_stream *s, const char *line, size_t len); /* adds the newline */
bool line_stream_gone(void *arg);
void line_stream_end(void *arg, bool complete); /* frees it */

/* Sends what is read from fd (taken) to its end; a broken end cuts the answer. */
void reply_stream_fd(struct http_request *req, const char *content_type, int fd);
/* Runs fn, which writes to fd, and sends what it writes; its error is the answer while nothing was sent. */
void reply_written(struct http_request *req, const char *content_type,
		   int (*fn)(int fd, void *arg, struct error *err), void *arg);
/* Runs fn, which reads the request's body from fd. A body that breaks off gives fn a read error. */
int with_body(struct http_request *req, int (*fn)(int fd, void *arg, struct error *err), void *arg, struct error *err);
