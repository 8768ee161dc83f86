/* Credentials as Docker's clients send them in a header. */
#include "dialect/docker/docker-priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(free_ptr) char *header = str_copyn((const char *)data, size);
	struct docker_auth auth;
	if (docker_auth_parse(header, &auth, &err) < 0 && !err.kind)
		abort();
	if (auth.password && !auth.username)
		abort();
	docker_auth_free(&auth);
	return 0;
}
