/* What every handler of the Docker dialect needs: versions, booleans, filters, bodies, answers, and the one table from
 * kinds of errors to Docker's statuses. */
#include "dialect/docker/docker-priv.h"

#include "base/time.h"

#include <ctype.h>
#include <stdarg.h>
#include <strings.h>

const int docker_statuses[ERROR_KINDS] = {
	[ERROR_NONE] = 500,
	[ERROR_INVALID] = 400,
	[ERROR_NOT_FOUND] = 404,
	[ERROR_EXISTS] = 409,
	[ERROR_CONFLICT] = 409,
	[ERROR_BUSY] = 409,
	[ERROR_DENIED] = 403,
	[ERROR_QUOTA] = 500,
	[ERROR_NO_SPACE] = 500,
	[ERROR_TOO_LARGE] = 413,
	[ERROR_UNSUPPORTED] = 501,
	[ERROR_UNAVAILABLE] = 503,
	[ERROR_TIMEOUT] = 500,
	[ERROR_CANCELLED] = 500,
	[ERROR_CORRUPT] = 500,
	[ERROR_UNAUTHORIZED] = 401,
	[ERROR_NO_COMMAND] = 400,
	[ERROR_NO_EXEC] = 400,
	[ERROR_INTERNAL] = 500,
};

const char *const docker_headers[][2] = {
	{"Api-Version", DOCKER_API},
	{"Docker-Experimental", "true"}, /* else the client offers no --squash */
	{"Ostype", "linux"},
	{"Server", "Docker/" WABE_VERSION " (linux)"}, /* older clients take the system from this form */
	{NULL, NULL},
};

/* ---- versions ---- */

/* "/v1.44/…": gives where the rest begins, and the version; 0 where there is none. */
static size_t version_parse(const char *path, struct str *version) {
	size_t n = str_starts(path, "/v") ? strspn(path + 2, "0123456789.") : 0;
	*version = (struct str){path + 2, n};
	return n && path[2 + n] == '/' ? 2 + n : 0;
}

size_t docker_prefix(const char *path) {
	struct str version;
	return version_parse(path, &version);
}

/* Number by number, as far as both have one; a missing one is 0. */
static int version_compare(struct str a, struct str b) {
	while (a.len || b.len) {
		struct str x = str_cut(&a, '.'), y = str_cut(&b, '.');
		_cleanup_(free_ptr) char *left = str_copyn(x.p ? x.p : "", MIN(x.len, (size_t)9));
		_cleanup_(free_ptr) char *right = str_copyn(y.p ? y.p : "", MIN(y.len, (size_t)9));
		int difference = atoi(left) - atoi(right);
		if (difference)
			return difference;
	}
	return 0;
}

int docker_check(const char *path, struct error *err) {
	struct str version;
	if (!version_parse(path, &version))
		return 0;
	if (version_compare(version, str_view(DOCKER_API)) > 0)
		return error_set(err, ERROR_INVALID,
				 "client version %.*s is too new. Maximum supported API version is " DOCKER_API,
				 (int)MIN(version.len, (size_t)32), version.p);
	if (version_compare(version, str_view(DOCKER_API_MIN)) < 0)
		return error_set(err, ERROR_INVALID,
				 "client version %.*s is too old. Minimum supported API version is " DOCKER_API_MIN
				 ", please upgrade your client to a newer version", (int)MIN(version.len, (size_t)32), version.p);
	return 0;
}

int docker_api(struct http_request *req) {
	struct str version;
	if (!version_parse(http_path(req), &version))
		version = str_view(DOCKER_API);
	str_cut(&version, '.');
	_cleanup_(free_ptr) char *minor = str_copyn(version.p, MIN(version.len, (size_t)9));
	return atoi(minor);
}

/* ---- requests ---- */

static bool is_false(const char *value) {
	static const char *const falses[] = {"", "0", "no", "false", "none"};
	for (size_t i = 0; i < ARRAY_SIZE(falses); i++)
		if (strcasecmp(value, falses[i]) == 0)
			return true;
	return false;
}

bool docker_query_bool_or(struct http_request *req, const char *name, bool otherwise) {
	const char *value = http_query(req, name);
	return value ? !is_false(value) : otherwise;
}

bool docker_query_bool(struct http_request *req, const char *name) {
	return docker_query_bool_or(req, name, false);
}

bool docker_query_flag(struct http_request *req, const char *name, bool *out) {
	const char *text = http_query(req, name);
	*out = text && (str_same(text, "1") || strcasecmp(text, "true") == 0 || strcasecmp(text, "t") == 0);
	if (!text || !*text || *out || str_same(text, "0") || strcasecmp(text, "false") == 0 || strcasecmp(text, "f") == 0)
		return true;
	_cleanup_(free_ptr) char *shown = text_shown(text);
	docker_fail(req, 400, "invalid value for %s: %s", name, shown);
	return false;
}

bool docker_query_int(struct http_request *req, const char *name, int64_t otherwise, int64_t *out) {
	const char *value = http_query(req, name);
	*out = otherwise;
	if (!value || !*value || str_to_i64(value, out) == 0)
		return true;
	_cleanup_(free_ptr) char *shown = text_shown(value);
	docker_fail(req, 400, "strconv.Atoi: parsing \"%s\": invalid syntax (%s)", shown, name);
	return false;
}

/* Nothing else is taken for JSON: a form, which any page in a browser may send, least of all. */
static bool is_json(const char *type) {
	size_t n = type ? strcspn(type, "; \t") : 0;
	return n == strlen(JSON_TYPE) && strncasecmp(type, JSON_TYPE, n) == 0;
}

/* What the parser says, in the words that clients look for. */
static void bad_json(struct http_request *req, const struct error *e) {
	static const char own[] = "not valid JSON ";
	const char *text = error_text(e);
	if (strstr(text, "end of file expected"))
		docker_fail(req, 400, "unexpected content after JSON");
	else if (str_starts(text, own))
		docker_fail(req, 400, "invalid JSON: %s", text + strlen(own));
	else
		fail(req, e);
}

json_t *docker_body(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	const char *type = http_header(req, "Content-Type");
	if (http_body(req).len && !is_json(type)) {
		_cleanup_(free_ptr) char *shown = text_shown(type ? type : "");
		docker_fail(req, 400, "unsupported Content-Type header (%s): must be '" JSON_TYPE "'", shown);
		return NULL;
	}
	json_t *json = http_body_json(req, &err);
	if (!json)
		bad_json(req, &err);
	return json;
}

bool docker_parse_json(struct http_request *req, const struct field_table *t, const json_t *json, void *dto) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	if (fields_parse(t, json, FIELDS_FOREIGN, dto, &err) == 0)
		return true;
	if (err.field)
		error_wrap(&err, "%s", err.field);
	fail(req, &err);
	return false;
}

bool docker_parse(struct http_request *req, const struct field_table *t, void *dto) {
	_cleanup_(json_free_ptr) json_t *json = docker_body(req);
	return json && docker_parse_json(req, t, json, dto);
}

bool docker_is_size(const json_t *json) {
	int64_t rows = json_integer_value(json_array_get(json, 0)), columns = json_integer_value(json_array_get(json, 1));
	return json_array_size(json) == 2 && json_is_integer(json_array_get(json, 0)) && json_is_integer(json_array_get(json, 1)) &&
	       rows >= 0 && rows <= UINT16_MAX && columns >= 0 && columns <= UINT16_MAX;
}

bool docker_query_time(struct http_request *req, const char *name, int64_t *out) {
	const char *text = http_query(req, name);
	*out = 0;
	if (!text || !*text || str_same(text, "0") || time_parse(text, out) == 0)
		return true;
	_cleanup_(free_ptr) char *shown = text_shown(text);
	docker_fail(req, 400, "invalid value for \"%s\": failed to parse value as time or duration: \"%s\"", name, shown);
	return false;
}

int docker_parse_part(const struct field_table *t, const json_t *json, void *dto, struct error *err) {
	if (!json) {
		fields_init(t, dto);
		return 0;
	}
	int r = fields_parse(t, json, FIELDS_FOREIGN, dto, err);
	if (r < 0 && err && err->field)
		error_wrap(err, "%s.%s", t->name, err->field);
	return r;
}

/* ---- filters ---- */

/* One filter's values, in either of the two shapes that clients send, as an array of strings. NULL: neither. */
static json_t *filter_values(const json_t *given) {
	json_t *values = json_array(), *item;
	const char *key;
	size_t i;
	if (json_is_array(given))
		json_array_foreach(given, i, item) {
			if (!json_is_string(item))
				goto bad;
			json_array_append(values, item);
		}
	else if (json_is_object(given))
		json_object_foreach((json_t *)given, key, item) {
			if (!json_is_boolean(item))
				goto bad;
			if (json_is_true(item))
				json_array_append_new(values, json_from_str(key));
		}
	else
		goto bad;
	return values;
bad:
	json_decref(values);
	return NULL;
}

static bool is_known(const char *name, const char *const *known) {
	for (; *known; known++)
		if (str_same(name, *known))
			return true;
	return false;
}

static json_t *filters_parse(const char *text, const char *const *known, struct error *err) {
	_cleanup_(json_free_ptr) json_t *given = json_parse(text, strlen(text), err);
	_cleanup_(json_free_ptr) json_t *filters = json_object();
	const char *name;
	json_t *item;
	if (!given || !json_is_object(given)) {
		error_set(err, ERROR_INVALID, "invalid filters: an object of lists is wanted");
		return NULL;
	}
	json_object_foreach(given, name, item) {
		json_t *values = filter_values(item);
		_cleanup_(free_ptr) char *shown = text_shown(name);
		if (!values || !is_known(name, known)) {
			json_decref(values);
			error_set(err, ERROR_INVALID, "invalid filter '%s'", shown);
			return NULL;
		}
		json_object_set_new(filters, name, values);
	}
	return TAKE_PTR(filters);
}

json_t *docker_filters(struct http_request *req, const char *const *known) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	const char *text = http_query(req, "filters");
	if (!text || !*text)
		return json_object();
	json_t *filters = filters_parse(text, known, &err);
	if (!filters)
		fail(req, &err);
	return filters;
}

bool docker_filter_any(const json_t *filters, const char *name, bool (*fits)(const char *value, const void *arg),
		       const void *arg) {
	const json_t *values = json_object_get(filters, name), *value;
	size_t i;
	json_array_foreach(values, i, value)
		if (fits(json_string_value(value), arg))
			return true;
	return json_array_size(values) == 0;
}

static bool label_fits(const char *wanted, const struct pairs *labels) {
	const char *equals = strchrnul(wanted, '=');
	_cleanup_(free_ptr) char *key = str_copyn(wanted, (size_t)(equals - wanted));
	const char *value = pairs_get(labels, key);
	return value && (!*equals || str_same(value, equals + 1));
}

bool docker_filter_labels(const json_t *filters, const struct pairs *labels) {
	const json_t *wanted = json_object_get(filters, "label"), *unwanted = json_object_get(filters, "label!"), *value;
	size_t i;
	json_array_foreach(wanted, i, value)
		if (!label_fits(json_string_value(value), labels))
			return false;
	json_array_foreach(unwanted, i, value)
		if (label_fits(json_string_value(value), labels))
			return false;
	return true;
}

int docker_filter_bool(struct http_request *req, const json_t *filters, const char *name, bool otherwise) {
	const json_t *values = json_object_get(filters, name);
	const char *value = json_string_value(json_array_get(values, 0));
	if (!value)
		return otherwise;
	if (json_array_size(values) == 1 && (str_same(value, "1") || strcasecmp(value, "true") == 0))
		return true;
	if (json_array_size(values) == 1 && (str_same(value, "0") || strcasecmp(value, "false") == 0))
		return false;
	_cleanup_(free_ptr) char *shown = text_shown(value);
	docker_fail(req, 400, "invalid filter '%s=[%s]'", name, shown);
	return -1;
}

bool docker_same_text(const char *wanted, const void *text) {
	return str_same(wanted, text);
}

/* ---- answers ---- */

/* A route that is not there (404), and one that is there with other methods (405), are the same to dockerd. */
void docker_render_error(struct http_request *req, int status, const struct error *e) {
	_cleanup_(json_free_ptr) json_t *answer = json_object();
	bool no_route = !http_route_data(req) && (status == 404 || status == 405);
	json_object_set_new(answer, "message", json_from_str(no_route ? "page not found" : error_text(e)));
	http_reply_json(req, no_route ? 404 : status, answer);
}

void docker_fail(struct http_request *req, int status, const char *fmt, ...) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	va_list ap;
	va_start(ap, fmt);
	_cleanup_(free_ptr) char *text = str_vformat(fmt, ap);
	va_end(ap);
	error_set(&err, ERROR_INTERNAL, "%s", text);
	docker_render_error(req, status, &err);
}

void docker_reply(struct http_request *req, int status, json_t *value) {
	http_reply_json(req, status, value);
	json_decref(value);
}

void docker_reply_lines(struct http_request *req, const char *lines, size_t n) {
	struct http_stream *s = http_stream_begin(req, 200, JSON_TYPE);
	if (s)
		http_stream_end(s, http_stream_write(s, lines, n) == 0);
}

void docker_lower_reason(char *text) {
	char *reason = strstr(text, "\": ");
	if (reason)
		reason[3] = (char)tolower((unsigned char)reason[3]);
}

json_t *docker_time(int64_t ns) {
	char text[TIME_TEXT_MAX];
	if (!ns)
		return json_string("0001-01-01T00:00:00Z");
	time_format(ns, text);
	return json_string(text);
}

json_t *docker_strings_or_null(char *const *v) {
	return v ? json_from_strv(v) : json_null();
}
