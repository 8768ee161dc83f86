/* Volumes. */
#include "dialect/docker/docker-priv.h"

const struct docker_route docker_volume_routes[] = {
	{0},
};
