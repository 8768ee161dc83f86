/* Networks. */
#include "dialect/docker/docker-priv.h"

const struct docker_route docker_network_routes[] = {
	{0},
};
