/* The host as Docker's clients see it. */
#include "dialect/docker/docker-priv.h"

#include <sys/utsname.h>

static void ping(struct http_request *req) {
	http_reply_header(req, "Api-Version", DOCKER_API);
	http_reply_header(req, "Ostype", "linux");
	http_reply_header(req, "Docker-Experimental", "false");
	http_reply_header(req, "Builder-Version", "1");
	http_reply_header(req, "Swarm", "inactive");
	http_reply_header(req, "Cache-Control", "no-cache, no-store, must-revalidate");
	http_reply_header(req, "Pragma", "no-cache");
	http_reply(req, 200, "text/plain; charset=utf-8", "OK", 2);
}

const struct docker_route docker_system_routes[] = {
	{"GET", "/_ping", ping, 0, DOCKER_WORKS, NULL},
	{0},
};
