/* WebSockets, RFC 6455. Frames are taken as they come, in any pieces; the payload of data frames is passed on at once, so
 * that a frame of any length costs no memory. Messages are of no interest: their fragments are one stream of bytes. */
#include "http/websocket.h"

#include "base/base64.h"

#include <openssl/evp.h>
#include <strings.h>

#define KEY_GUID "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
#define HEAD_MAX 14      /* two bytes, up to eight of length, four of mask */
#define CONTROL_MAX 125  /* bytes in a control frame */

enum { STATUS_NORMAL = 1000, STATUS_PROTOCOL = 1002 };

/* ---- the handshake ---- */

/* Is the token in the header's list? */
static bool header_has(struct http_request *req, const char *name, const char *token) {
	struct str rest = str_view(http_header(req, name));
	while (rest.len) {
		struct str one = str_cut(&rest, ',');
		while (one.len && (*one.p == ' ' || *one.p == '\t'))
			one.p++, one.len--;
		while (one.len && (one.p[one.len - 1] == ' ' || one.p[one.len - 1] == '\t'))
			one.len--;
		if (one.len == strlen(token) && strncasecmp(one.p, token, one.len) == 0)
			return true;
	}
	return false;
}

int websocket_check(struct http_request *req, struct error *err) {
	const char *key = http_header(req, "Sec-WebSocket-Key"), *version = http_header(req, "Sec-WebSocket-Version");

	if (!header_has(req, "Connection", "Upgrade") || !header_has(req, "Upgrade", "websocket"))
		return error_set(err, ERROR_INVALID, "this is a websocket: the request must ask for an upgrade to it");
	if (!version || strcmp(version, "13"))
		return error_set(err, ERROR_INVALID, "Sec-WebSocket-Version must be 13");
	if (!key || strlen(key) != 24)
		return error_set(err, ERROR_INVALID, "Sec-WebSocket-Key must be 16 bytes in base64");
	return 0;
}

int websocket_accept(struct http_request *req, struct buf *early) {
	_cleanup_(free_ptr) char *text = str_format("%s" KEY_GUID, http_header(req, "Sec-WebSocket-Key"));
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned n = 0;

	if (!EVP_Digest(text, strlen(text), digest, &n, EVP_sha1(), NULL))
		return -1;
	_cleanup_(free_ptr) char *accept = base64_encode(digest, n);
	http_reply_header(req, "Sec-WebSocket-Accept", accept);
	return http_upgrade(req, "websocket", early);
}

/* ---- frames ---- */

struct websocket {
	unsigned char head[HEAD_MAX];
	size_t got;             /* bytes of the head */
	uint64_t left, at;      /* of the payload: to come, seen */
	char control[CONTROL_MAX];
	bool fragmented;        /* a message goes on */
	bool over;
};

struct websocket *websocket_new(void) {
	return NEW(struct websocket);
}

void websocket_free(struct websocket *w) {
	free(w);
}

void websocket_write(enum websocket_opcode opcode, const char *data, size_t n, struct buf *out) {
	buf_addc(out, (char)(0x80 | opcode));
	if (n < 126) {
		buf_addc(out, (char)n);
	} else if (n <= UINT16_MAX) {
		const char length[3] = {126, (char)(n >> 8), (char)n};
		buf_add(out, length, sizeof length);
	} else {
		buf_addc(out, 127);
		for (int shift = 56; shift >= 0; shift -= 8)
			buf_addc(out, (char)((uint64_t)n >> shift));
	}
	buf_add(out, data, n);
}

static int close_with(struct websocket *w, unsigned status, struct buf *reply) {
	const char code[2] = {(char)(status >> 8), (char)status};

	websocket_write(WEBSOCKET_CLOSE, code, sizeof code, reply);
	w->over = true;
	return -1;
}

static bool is_control(const struct websocket *w) {
	return w->head[0] & 0x08;
}

/* How long the head is, as far as its second byte says. */
static size_t head_length(const struct websocket *w) {
	unsigned length = w->head[1] & 0x7f;

	if (w->got < 2)
		return 2;
	return 2 + (length == 126 ? 2u : length == 127 ? 8u : 0u) + 4;
}

static uint64_t payload_length(const struct websocket *w) {
	size_t n = head_length(w) - 6;
	uint64_t length = 0;

	if (n == 0)
		return w->head[1] & 0x7f;
	for (size_t i = 0; i < n; i++)
		length = length << 8 | w->head[2 + i];
	return length;
}

/* The first two bytes: no extension bits, a known opcode in its place, masked. */
static bool head_is_good(const struct websocket *w) {
	unsigned opcode = w->head[0] & 0x0f, length = w->head[1] & 0x7f;
	bool fin = w->head[0] & 0x80;

	if ((w->head[0] & 0x70) || !(w->head[1] & 0x80))
		return false;
	if (is_control(w))
		return fin && length <= CONTROL_MAX && opcode <= WEBSOCKET_PONG;
	return w->fragmented ? opcode == WEBSOCKET_CONTINUATION : opcode == WEBSOCKET_TEXT || opcode == WEBSOCKET_BINARY;
}

/* A whole frame is there. */
static int frame_end(struct websocket *w, struct buf *reply) {
	size_t n = (size_t)w->at;

	switch (w->head[0] & 0x0f) {
	case WEBSOCKET_CLOSE:
		if (n == 1)
			return close_with(w, STATUS_PROTOCOL, reply);
		if (n == 0)
			return close_with(w, STATUS_NORMAL, reply);
		websocket_write(WEBSOCKET_CLOSE, w->control, 2, reply); /* its own code comes back */
		w->over = true;
		return -1;
	case WEBSOCKET_PING:
		websocket_write(WEBSOCKET_PONG, w->control, n, reply);
		break;
	case WEBSOCKET_PONG:
		break;
	default:
		w->fragmented = !(w->head[0] & 0x80);
	}
	w->got = 0;
	return 0;
}

/* Takes n bytes of the payload, at most what is left of it. */
static void take_payload(struct websocket *w, const char *data, size_t n, struct buf *payload) {
	const unsigned char *mask = w->head + head_length(w) - 4;
	char *to = is_control(w) ? w->control + w->at : buf_room(payload, n);

	for (size_t i = 0; to && i < n; i++)
		to[i] = (char)(data[i] ^ mask[(w->at + i) % 4]);
	if (to && !is_control(w))
		buf_grown(payload, n);
	w->at += n;
	w->left -= n;
}

/* One byte of the head; false: it must not be. */
static bool take_head(struct websocket *w, char byte) {
	w->head[w->got++] = (unsigned char)byte;
	if (w->got == 2 && !head_is_good(w))
		return false;
	if (w->got < head_length(w))
		return true;
	w->left = payload_length(w);
	w->at = 0;
	return !(w->left >> 63);
}

int websocket_read(struct websocket *w, const char *data, size_t n, struct buf *payload, struct buf *reply) {
	while (n && !w->over) {
		size_t piece = 1;

		if (w->got < head_length(w)) {
			if (!take_head(w, *data))
				return close_with(w, STATUS_PROTOCOL, reply);
		} else {
			piece = (size_t)MIN((uint64_t)n, w->left);
			take_payload(w, data, piece, payload);
		}
		data += piece;
		n -= piece;
		if (w->got == head_length(w) && !w->left && frame_end(w, reply) < 0)
			return -1;
	}
	return w->over ? -1 : 0;
}

/* ---- a stream of bytes behind it ---- */

static int relay_from_client(void *arg, const char *data, size_t n, struct buf *to_fd, struct buf *to_client) {
	return n ? websocket_read(arg, data, n, to_fd, to_client) : -1;
}

static int relay_from_fd(UNUSED void *arg, const char *data, size_t n, UNUSED struct buf *to_fd, struct buf *to_client) {
	if (n)
		websocket_write(WEBSOCKET_BINARY, data, n, to_client);
	else
		websocket_write(WEBSOCKET_CLOSE, "\x03\xe8", 2, to_client);
	return 0;
}

static void relay_drop(void *arg) {
	websocket_free(arg);
}

void websocket_relay(struct http_request *req, int client, struct buf *early, int fd) {
	const struct http_filter filter = {relay_from_client, relay_from_fd, relay_drop, websocket_new()};
	http_relay(req, client, early, fd, &filter);
}
