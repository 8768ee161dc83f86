/* Plugins. There are none and none can be installed: what reads finds nothing, what would install says why not. */
#include "dialect/docker/docker-priv.h"

#define NONE_MANAGED "wabe has no managed plugins; its drivers for volumes and networks are built in"
#define PLUGIN       "/plugins/{name...}"

static void not_found(struct http_request *req) {
	docker_fail(req, 404, "plugin \"%s\" not found", http_param(req, "name"));
}

static void list(struct http_request *req) {
	static const char *const known[] = {"enabled", "capability", NULL};
	_cleanup_(json_free_ptr) json_t *filters = docker_filters(req, known);
	if (filters && docker_filter_bool(req, filters, "enabled", false) >= 0)
		docker_reply(req, 200, json_array());
}

static void unsupported(struct http_request *req) {
	docker_fail(req, 501, "plugin: " NONE_MANAGED);
}

/* What would be fetched: ?remote=. */
static void fetch(struct http_request *req) {
	struct image_ref ref = {0};
	const char *remote = http_query(req, "remote");
	if (!remote || image_ref_parse(remote, &ref, NULL) < 0)
		docker_fail(req, 400, "invalid reference format");
	else
		docker_fail(req, 501, "plugin %s: " NONE_MANAGED, remote);
	image_ref_free(&ref);
}

static void enable(struct http_request *req) {
	int64_t timeout;
	if (docker_query_int(req, "timeout", 0, &timeout))
		not_found(req);
}

static void set(struct http_request *req) {
	_cleanup_(json_free_ptr) json_t *args = docker_body(req);
	if (args)
		not_found(req);
}

const struct docker_route docker_plugin_routes[] = {
	{"GET", "/plugins", list, 0, DOCKER_DIFFERS, "the list is empty: " NONE_MANAGED},
	{"GET", "/plugins/privileges", fetch, 0, DOCKER_MISSING, NONE_MANAGED},
	{"POST", "/plugins/pull", fetch, 0, DOCKER_MISSING, NONE_MANAGED},
	{"POST", "/plugins/create", unsupported, HTTP_STREAM_BODY, DOCKER_MISSING, NONE_MANAGED},
	{"GET", PLUGIN "/json", not_found, 0, DOCKER_DIFFERS, "no plugin is ever found"},
	{"DELETE", PLUGIN, not_found, 0, DOCKER_DIFFERS, "no plugin is ever found"},
	{"POST", PLUGIN "/enable", enable, 0, DOCKER_DIFFERS, "no plugin is ever found"},
	{"POST", PLUGIN "/disable", not_found, 0, DOCKER_DIFFERS, "no plugin is ever found"},
	{"POST", PLUGIN "/upgrade", not_found, 0, DOCKER_DIFFERS, "no plugin is ever found"},
	{"POST", PLUGIN "/push", not_found, 0, DOCKER_DIFFERS, "no plugin is ever found"},
	{"POST", PLUGIN "/set", set, 0, DOCKER_DIFFERS, "no plugin is ever found"},
	{0},
};
