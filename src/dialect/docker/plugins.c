/* Plugins. */
#include "dialect/docker/docker-priv.h"

const struct docker_route docker_plugin_routes[] = {
	{0},
};
