/* WebSockets (RFC 6455), the server's side: the handshake, and frames as bytes in and out. */
#pragma once

#include "http/http.h"

/* INVALID when the request is no handshake of version 13. */
int websocket_check(struct http_request *req, struct error *err);
/* Answers it with 101; as http_upgrade. */
int websocket_accept(struct http_request *req, struct buf *early);

enum websocket_opcode {
	WEBSOCKET_CONTINUATION = 0,
	WEBSOCKET_TEXT = 1,
	WEBSOCKET_BINARY = 2,
	WEBSOCKET_CLOSE = 8,
	WEBSOCKET_PING = 9,
	WEBSOCKET_PONG = 10,
};

/* One connection's incoming side. */
struct websocket;
struct websocket *websocket_new(void);
void websocket_free(struct websocket *w); /* NULL is fine */
/* n bytes from the client: what is in data frames is added to payload, what they ask to be answered to reply. -1: the
 * connection is over (the client has closed it, or sent what must not be); reply has the last frame then. */
int websocket_read(struct websocket *w, const char *data, size_t n, struct buf *payload, struct buf *reply);
/* As http_relay, between a client that websocket_accept gave and fd: what comes from fd is sent as binary messages. */
void websocket_relay(struct http_request *req, int client, struct buf *early, int fd);
/* Adds a whole frame. */
void websocket_write(enum websocket_opcode opcode, const char *data, size_t n, struct buf *out);
