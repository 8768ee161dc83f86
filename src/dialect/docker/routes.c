/* The one list of Docker's routes, for the server and for docs/docker.md. */
#include "dialect/docker/docker-priv.h"

static const struct docker_route *const tables[] = {
	docker_system_routes, docker_container_routes, docker_inside_routes, docker_image_routes, docker_build_routes,
	docker_network_routes, docker_volume_routes, docker_swarm_routes, docker_plugin_routes, NULL};

const struct http_route *docker_routes(void) {
	static struct http_route routes[192];
	size_t n = 0;
	for (size_t t = 0; tables[t]; t++)
		for (const struct docker_route *r = tables[t]; r->method && n + 1 < ARRAY_SIZE(routes); r++)
			routes[n++] = (struct http_route){r->method, r->path, r->handler, r->flags, r};
	return routes;
}
