/* Building images. */
#include "dialect/docker/docker-priv.h"

const struct docker_route docker_build_routes[] = {
	{0},
};
