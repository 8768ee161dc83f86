/* Bytes of a stranger on a connection of gRPC, whose server we are, then whose client: the connection goes on or ends, its calls with
 * it. */
#include "base/fs.h"
#include "grpc/grpc.h"

#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int echo(struct grpc_call *call, void *context, struct error *err) {
	_cleanup_(buf_free) struct buf m = BUF_INIT;
	int r;
	(void)context;
	while ((r = grpc_receive(call, &m, err)) > 0 && (r = grpc_send(call, buf_str(&m), m.len, err)) == 0)
		;
	return r;
}

static const struct grpc_method methods[] = {{"/t.T/Echo", echo}, {NULL, NULL}};

static void *ask(void *arg) {
	_cleanup_(buf_free) struct buf m = BUF_INIT;
	grpc_ask(arg, "/t.T/Echo", &m, &m, NULL);
	return NULL;
}

static void run_one(const uint8_t *data, size_t size, bool server) {
	int fds[2];
	pthread_t asker;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		abort();
	fs_write_all(fds[0], data, MIN(size, (size_t)65536));
	shutdown(fds[0], SHUT_WR);
	struct grpc_connection *c = grpc_open(fds[1], NULL, server ? methods : NULL, NULL, NULL);
	bool asks = !server && pthread_create(&asker, NULL, ask, c) == 0;
	grpc_run(c, -1);
	if (asks)
		pthread_join(asker, NULL);
	grpc_unref(c);
	close(fds[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	run_one(data, size, true);
	run_one(data, size, false);
	return 0;
}
