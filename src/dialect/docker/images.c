/* Images. */
#include "dialect/docker/docker-priv.h"

const struct docker_route docker_image_routes[] = {
	{0},
};
