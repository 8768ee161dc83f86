/* Inside containers: attach, exec, logs, files, statistics, waiting. */
#include "dialect/docker/docker-priv.h"

const struct docker_route docker_inside_routes[] = {
	{0},
};
