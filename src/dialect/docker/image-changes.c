/* The "changes" of import: instructions of a Dockerfile that touch the configuration alone. */
#include "dialect/docker/images-priv.h"

int docker_config_changes(UNUSED struct image_config *config, char *const *changes, struct error *err) {
	if (!changes || !*changes)
		return 0;
	return error_set(err, ERROR_UNSUPPORTED, "changes: instructions are not applied by an import yet");
}
