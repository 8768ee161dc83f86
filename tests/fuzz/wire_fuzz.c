/* What the agent reads: frames, then the body of each request that is known. */
#include "wire/wire.h"

#include <sys/socket.h>
#include <unistd.h>

static void check_body(const struct wire_request *r, const json_t *body) {
	_cleanup_(free_ptr) void *a = alloc_zero(r->request->size), *b = alloc_zero(r->request->size);
	if (fields_parse(r->request, body, FIELDS_TRUSTED, a, NULL) < 0)
		return;
	_cleanup_(json_free_ptr) json_t *printed = fields_print(r->request, a);
	if (fields_parse(r->request, printed, FIELDS_TRUSTED, b, NULL) < 0 || !fields_equal(r->request, a, b))
		abort();
	fields_free(r->request, a);
	fields_free(r->request, b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		abort();
	ssize_t n = send(pair[0], data, size, MSG_DONTWAIT);
	(void)n; /* what does not fit is a truncated stream */
	close(pair[0]);
	for (int r = 0; r == 0;) {
		_cleanup_(wire_frame_free) struct wire_frame f = {0};
		r = wire_recv(pair[1], &f, NULL);
		const struct wire_request *request = r == 0 ? wire_request_find(f.type) : NULL;
		if (request)
			check_body(request, f.body);
	}
	close(pair[1]);
	return 0;
}
