/* --squash. */
#include "build/build-priv.h"

int squash(UNUSED struct stage *s, UNUSED char **id, struct error *err) {
	return error_set(err, ERROR_UNSUPPORTED, "squash is not supported by this builder");
}
