/* Search, what a registry has under a name, and whether it takes credentials. */
#include "dialect/docker/images-priv.h"

#define SEARCH_DEFAULT 25
#define SEARCH_MAX 100

/* ---- search ---- */

/* The lowest number of stars; false: an error has been answered. */
static bool stars_of(struct http_request *req, const json_t *filters, int64_t *least) {
	const json_t *values = json_object_get(filters, "stars"), *value;
	size_t i;
	*least = 0;
	json_array_foreach(values, i, value) {
		int64_t n;
		if (str_to_i64(json_string_value(value), &n) < 0) {
			_cleanup_(free_ptr) char *shown = text_shown(json_string_value(value));
			docker_fail(req, 400, "invalid filter 'stars=%s'", shown);
			return false;
		}
		*least = MAX(*least, n);
	}
	return true;
}

static json_t *result_row(const json_t *found) {
	const char *text = json_get_str(found, "description");
	json_t *o = json_object();
	json_set_int(o, "star_count", json_get_int(found, "star_count"));
	json_set_bool(o, "is_official", json_get_bool(found, "is_official"));
	json_object_set_new(o, "name", json_from_str(json_get_str(found, "name")));
	json_set_bool(o, "is_automated", false);
	json_object_set_new(o, "description", json_from_str(text ? text : ""));
	return o;
}

/* "registry/term" or "term" */
static char *split_term(const char *term, const char **rest) {
	const char *slash = strchr(term, '/');
	_cleanup_(free_ptr) char *first = slash ? str_copyn(term, (size_t)(slash - term)) : NULL;
	*rest = term;
	if (!first || (!strpbrk(first, ".:") && !str_same(first, "localhost")))
		return str_copy("docker.io");
	*rest = slash + 1;
	return str_same(first, "index.docker.io") ? str_copy("docker.io") : TAKE_PTR(first);
}

static bool is_local(const char *registry) {
	return str_starts(registry, "127.") || str_starts(registry, "localhost") || str_starts(registry, "[::1]");
}

void docker_images_search(struct http_request *req) {
	static const char *const known[] = {"is-automated", "is-official", "stars", NULL};
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(docker_auth_free) struct docker_auth auth = {0};
	_cleanup_(json_free_ptr) json_t *filters = docker_filters(req, known), *found = NULL;
	const char *term = http_query(req, "term"), *rest;
	int64_t limit, stars;
	if (!filters || !docker_query_int(req, "limit", SEARCH_DEFAULT, &limit) || !stars_of(req, filters, &stars))
		return;
	int automated = docker_filter_bool(req, filters, "is-automated", false);
	int official = automated < 0 ? -1 : docker_filter_bool(req, filters, "is-official", false);
	if (official < 0)
		return;
	if (limit < 1 || limit > SEARCH_MAX)
		return docker_fail(req, 400, "limit %lld is outside the range of [1, %d]", (long long)limit, SEARCH_MAX);
	if (!term || !*term)
		return docker_fail(req, 400, "term: what shall be searched for?");
	if (str_starts(term, "http://") || str_starts(term, "https://"))
		return docker_fail(req, 400, "invalid repository name: repository name (%.200s) should not have a scheme", term);
	_cleanup_(free_ptr) char *registry = split_term(term, &rest);
	docker_auth_parse(http_header(req, "X-Registry-Auth"), &auth, NULL);
	const struct image_pull_options o = {.username = auth.username, .password = auth.password, .insecure_tls = is_local(registry)};
	if (!automated && image_registry_search(core_of(req), registry, rest, (int)limit, &o, &found, &err) < 0)
		return docker_fail(req, 500, "%s", error_text(&err));
	json_t *rows = json_array();
	const json_t *one;
	size_t i;
	json_array_foreach(found, i, one)
		if (json_get_str(one, "name") && json_get_int(one, "star_count") >= stars &&
		    (!json_object_get(filters, "is-official") || json_get_bool(one, "is_official") == official))
			json_array_append_new(rows, result_row(one));
	docker_reply(req, 200, rows);
}

/* ---- distribution ---- */

static int status_of(const struct error *err) {
	switch (err->kind) {
	case ERROR_NOT_FOUND:
		return 404;
	case ERROR_UNAUTHORIZED:
		return 401;
	case ERROR_DENIED:
		return 403;
	default:
		return 500;
	}
}

void docker_distribution(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(docker_auth_free) struct docker_auth auth = {0};
	_cleanup_(json_free_ptr) json_t *found = NULL;
	_cleanup_(free_ptr) char *full = docker_reference(req, http_param(req, "name"), NULL);
	if (!full)
		return;
	docker_auth_parse(http_header(req, "X-Registry-Auth"), &auth, NULL);
	const struct image_pull_options o = {
		.name = full, .username = auth.username, .password = auth.password, .insecure_tls = is_local(full)};
	if (image_registry_describe(core_of(req), &o, &found, &err) < 0) {
		_cleanup_(free_ptr) char *words = docker_registry_words(&err, error_text(&err));
		return docker_fail(req, status_of(&err), "%s", words);
	}
	json_t *answer = json_object(), *descriptor = json_object();
	json_set_str(descriptor, "mediaType", json_get_str(found, "media_type"));
	json_set_str(descriptor, "digest", json_get_str(found, "digest"));
	json_set_int(descriptor, "size", json_get_int(found, "size"));
	json_object_set_new(answer, "Descriptor", descriptor);
	json_object_set(answer, "Platforms", json_object_get(found, "platforms"));
	docker_reply(req, 200, answer);
}

/* ---- login ---- */

/* "https://index.docker.io/v1/", "host:5000": the registry's name. */
static char *registry_of(const char *server) {
	const char *scheme = server ? strstr(server, "://") : NULL, *host = scheme ? scheme + 3 : server;
	size_t n = host ? strcspn(host, "/") : 0;
	_cleanup_(free_ptr) char *name = host ? str_copyn(host, n) : NULL;
	if (!name || !*name || str_same(name, "index.docker.io") || str_same(name, "registry-1.docker.io"))
		return str_copy("docker.io");
	return TAKE_PTR(name);
}

void docker_login(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(docker_auth_free) struct docker_auth auth = {0};
	_cleanup_(json_free_ptr) json_t *body = docker_body(req);
	if (!body)
		return;
	if (docker_auth_parse_json(body, &auth, &err) < 0)
		return fail(req, &err);
	_cleanup_(free_ptr) char *registry = registry_of(auth.server);
	const struct image_pull_options o = {.username = auth.username, .password = auth.password, .insecure_tls = is_local(registry)};
	if (image_registry_login(core_of(req), registry, &o, &err) < 0)
		return docker_fail(req, err.kind == ERROR_UNAUTHORIZED ? 401 : 500, "%s", error_text(&err));
	json_t *answer = json_object();
	json_set_str(answer, "IdentityToken", "");
	json_set_str(answer, "Status", "Login Succeeded");
	docker_reply(req, 200, answer);
}
