/* What differs field by field, for docs/docker.md. A field that is not listed works as Docker documents it. */
#include "dialect/docker/docker-priv.h"

const struct docker_field_note docker_field_notes[] = {
	{"Plugin.*", DOCKER_MISSING, "no managed plugins"},
	{NULL},
};
