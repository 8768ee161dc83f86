/* Frames of a websocket, as a client sends them: whole, and byte by byte, which must come to the same. */
#include "http/websocket.h"

#include "base/buf.h"

struct outcome {
	struct buf payload, reply;
	int result;
};

static struct outcome read_in_pieces(const char *data, size_t size, size_t piece) {
	struct websocket *w = websocket_new();
	struct outcome o = {BUF_INIT, BUF_INIT, 0};
	for (size_t at = 0; at < size && o.result == 0; at += piece)
		o.result = websocket_read(w, data + at, MIN(piece, size - at), &o.payload, &o.reply);
	if (o.result == 0 && o.payload.len > size)
		abort(); /* more than came in */
	websocket_free(w);
	return o;
}

static void outcome_free(struct outcome *o) {
	buf_free(&o->payload);
	buf_free(&o->reply);
}

static bool same(const struct buf *a, const struct buf *b) {
	return a->len == b->len && memcmp(buf_str(a), buf_str(b), a->len) == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	_cleanup_(outcome_free) struct outcome whole = read_in_pieces((const char *)data, size, size ? size : 1),
					      bytes = read_in_pieces((const char *)data, size, 1);
	if (whole.result != bytes.result || !same(&whole.payload, &bytes.payload) || !same(&whole.reply, &bytes.reply))
		abort();
	return 0;
}
