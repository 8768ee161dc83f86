/* Whatever it is that answers in the daemon's place: the headers and bodies of two answers on one connection. */
#include "client/http.h"

#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define INPUT_MAX 65536 /* as much as a socket takes at once */

static int count(UNUSED const char *data, size_t n, void *arg) {
	size_t *total = arg;
	*total += n;
	return 0;
}

static int one_answer(struct connection *c, bool head, size_t *total) {
	if (connection_read_headers(c, NULL) < 0)
		return -1;
	if (c->status < 100 || c->status > 999)
		abort();
	header_find(c->headers, "X-Header-That-Is-Not-There");
	return connection_read_body(c, head, count, total, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
	int pair[2];
	size_t total = 0;
	if (n > INPUT_MAX || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return 0;
	if (send(pair[1], data, n, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && n)
		abort();
	close(pair[1]);
	struct connection c = {.fd = pair[0], .cancel_fd = -1, .in = BUF_INIT};
	if (one_answer(&c, false, &total) == 0 && c.fd >= 0)
		one_answer(&c, true, &total);
	if (total > n)
		abort();
	connection_close(&c);
	free(c.headers);
	return 0;
}
