/* Containers, their life and their lists. */
#include "dialect/docker/docker-priv.h"

const struct docker_route docker_container_routes[] = {
	{0},
};
