/* The request target: decoding, segments, query, routes. First line the method, the rest the target. */
#include "http/http-priv.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct http_route routes[] = {
	{"GET", "/", NULL},
	{"GET", "/v1/projects/{project}/instances/{name}", NULL},
	{"POST", "/v1/projects/{project}/instances/{name}/start", NULL},
	{"GET", "/v1/images/{name...}/json", NULL},
	{"GET", "/v1/images/{a...}/x/{b...}/y", NULL},
	{"DELETE", "/v1/images/{name...}", NULL},
	{0},
};

static void route(char *const *segments, const char *method) {
	struct http_pairs params = {0};
	char *allow;
	const struct http_route *r = http_route_find(routes, method, segments, &params, &allow);

	assert(!r || !allow);
	for (size_t i = 0; i < params.n; i++)
		assert(params.items[i].value);
	http_pairs_free(&params);
	free(allow);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	_cleanup_(free_ptr) char *text = str_copyn((const char *)data, MIN(size, (size_t)8192));
	char *uri = strchr(text, '\n');
	struct http_target t;

	if (uri)
		*uri++ = 0;
	if (uri && !http_target_parse(uri, NULL, &t))
		route(t.segments, text);
	if (uri)
		http_target_free(&t);
	return 0;
}
