/* A QEMU that a guest has taken over: what it says is heard by an event loop, and by one that has sent a command. */
#include "base/time.h"
#include "driver/qemu/qmp.h"

#include <sys/socket.h>
#include <unistd.h>

#define INPUT_MAX 65536 /* as much as a socket takes at once */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* A client to whom it has said all that. */
static struct qmp *client(const uint8_t *data, size_t n) {
	int ends[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0 || write(ends[1], data, n) != (ssize_t)n)
		abort();
	shutdown(ends[1], SHUT_WR);
	struct qmp *q = qmp_adopt(ends[0]);
	recv(ends[1], (char[1]){0}, 1, MSG_DONTWAIT);
	close(ends[1]);
	return q;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
	if (n == 0 || n > INPUT_MAX)
		return 0;
	struct qmp *q = client(data, n);
	char *event;
	json_t *body;
	for (int rounds = 0, r = 0; r >= 0; rounds++) {
		r = qmp_poll(q, &event, &body, NULL);
		if (rounds > INPUT_MAX)
			abort(); /* the end has been there since the beginning */
		if (r != 1)
			continue;
		free(event);
		json_decref(body);
	}
	qmp_free(q);
	q = client(data, n);
	if (qmp_event(q, NULL, time_mono_ns() + NS_PER_SEC, &event, &body, NULL) == 0) {
		free(event);
		json_decref(body);
	}
	qmp_call(q, "query-status", NULL, -1, time_mono_ns() + NS_PER_SEC, &body, NULL);
	json_decref(body);
	qmp_free(q);
	return 0;
}
