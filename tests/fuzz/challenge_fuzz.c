/* WWW-Authenticate headers. */
#include "image/challenge.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	char *text = str_copyn((const char *)data, size);
	struct challenge c;
	challenge_parse(text, &c);
	if (!c.bearer && (c.realm || c.service || c.scope))
		abort(); /* parameters without their scheme */
	challenge_free(&c);
	free(text);
	return 0;
}
