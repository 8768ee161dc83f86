/* Swarm: services, tasks, nodes, secrets, configs. */
#include "dialect/docker/docker-priv.h"

const struct docker_route docker_swarm_routes[] = {
	{0},
};
