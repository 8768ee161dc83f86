/* Messages of BuildKit's protocol to bytes, and away; and connections that are carried by them. */
#include "dialect/docker/buildkit-priv.h"
#include "dialect/buildkit.pb-c.h"

#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>

void bk_pack(const ProtobufCMessage *m, struct buf *out) {
	char *room = buf_room(out, protobuf_c_message_get_packed_size(m));
	if (room)
		buf_grown(out, protobuf_c_message_pack(m, (uint8_t *)room));
}

int bk_send(struct grpc_call *call, const ProtobufCMessage *m, struct error *err) {
	_cleanup_(buf_free) struct buf out = BUF_INIT;
	bk_pack(m, &out);
	return grpc_send(call, buf_str(&out), out.len, err);
}

/* ---- a connection within a call ---- */

struct relay {
	struct grpc_call *call;
	int fd;
};

static void *relay_out(void *arg) {
	struct relay *t = arg;
	uint8_t piece[32 << 10];
	ssize_t n;
	while ((n = RETRY_EINTR(recv(t->fd, piece, sizeof piece, 0))) > 0) {
		Bk__Bytes m = BK__BYTES__INIT;
		m.data = (ProtobufCBinaryData){(size_t)n, piece};
		if (bk_send(t->call, &m.base, NULL) < 0)
			break;
	}
	/* who has said all may wait for an answer still; who is gone, or was shut down here, does not */
	struct pollfd gone = {t->fd, 0, 0};
	grpc_send_end(t->call);
	RETRY_EINTR(poll(&gone, 1, -1));
	grpc_call_give_up(t->call);
	return NULL;
}

static bool write_all(int fd, const ProtobufCBinaryData *data) {
	for (size_t at = 0; at < data->len;) {
		ssize_t n = RETRY_EINTR(send(fd, data->data + at, data->len - at, MSG_NOSIGNAL));
		if (n < 0)
			return false;
		at += (size_t)n;
	}
	return true;
}

static void relay_in(struct relay *t) {
	_cleanup_(buf_free) struct buf message = BUF_INIT;
	bool well = true;
	while (well && grpc_receive(t->call, &message, NULL) > 0) {
		Bk__Bytes *m = bk__bytes__unpack(NULL, message.len, (const uint8_t *)buf_str(&message));
		well = m && write_all(t->fd, &m->data);
		if (m)
			bk__bytes__free_unpacked(m, NULL);
	}
}

int bk_relay(struct grpc_call *call, int fd, struct error *err) {
	struct relay t = {call, fd};
	pthread_t out;
	int failed = pthread_create(&out, NULL, relay_out, &t);
	if (!failed)
		relay_in(&t);
	shutdown(fd, SHUT_RDWR);
	if (!failed)
		pthread_join(out, NULL);
	return failed ? error_errno(err, failed, "starting a thread") : 0;
}
