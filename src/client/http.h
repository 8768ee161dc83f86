/* One HTTP/1.1 connection from the client's side. Not for other rooms. */
#pragma once

#include "base/buf.h"
#include "base/error.h"

struct connection {
	int fd;         /* -1: not connected */
	int cancel_fd;  /* readable: give up; -1: none */
	struct buf in;  /* read, not yet used */
	char *headers;  /* of the last answer: lines, each ended by "\n" */
	int status;
	bool chunked, has_length, close_after;
	uint64_t length;
};

typedef int (*body_sink)(const char *data, size_t n, void *arg);

void connection_close(struct connection *c);
int connection_send(struct connection *c, const char *data, size_t n, struct error *err);
/* Reads status line and headers; 1xx answers other than 101 are skipped. */
int connection_read_headers(struct connection *c, struct error *err);
/* Reads the body to its end; the connection stays open if it can. sink may be NULL. */
int connection_read_body(struct connection *c, bool head, body_sink sink, void *arg, struct error *err);
const char *header_find(const char *headers, const char *name);
