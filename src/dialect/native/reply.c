/* What every handler needs: its context, parameters, and answers. The one table from error kinds to
 * statuses is here. */
#include "dialect/native/native-priv.h"

#include "base/time.h"

const int native_statuses[ERROR_KINDS] = {
	[ERROR_NONE] = 500,
	[ERROR_INVALID] = 400,
	[ERROR_NOT_FOUND] = 404,
	[ERROR_EXISTS] = 409,
	[ERROR_CONFLICT] = 409,
	[ERROR_BUSY] = 409,
	[ERROR_DENIED] = 403,
	[ERROR_QUOTA] = 507,
	[ERROR_NO_SPACE] = 507,
	[ERROR_TOO_LARGE] = 413,
	[ERROR_UNSUPPORTED] = 501,
	[ERROR_UNAVAILABLE] = 503,
	[ERROR_TIMEOUT] = 408,
	[ERROR_CANCELLED] = 499,
	[ERROR_CORRUPT] = 500,
	[ERROR_UNAUTHORIZED] = 401,
	[ERROR_NO_COMMAND] = 422,
	[ERROR_NO_EXEC] = 422,
	[ERROR_INTERNAL] = 500,
};

void native_render_error(struct http_request *req, int status, const struct error *e) {
	json_t *error = json_object();
	json_set_str(error, "kind", error_kind_name(e->kind));
	json_set_str(error, "message", error_text(e));
	if (e->field)
		json_set_str(error, "field", e->field);
	_cleanup_(json_free_ptr) json_t *answer = json_object();
	json_object_set_new(answer, "error", error);
	if (str_same(http_method(req), "HEAD")) { /* whose body nobody gets */
		_cleanup_(free_ptr) char *text = json_dumps(answer, JSON_COMPACT | JSON_ENSURE_ASCII);
		http_reply_header(req, "Wabe-Error", text);
	}
	http_reply_json(req, status, answer);
}

const char *project_of(struct http_request *req) {
	return http_param(req, "project");
}

const char *name_of(struct http_request *req) {
	return http_param(req, "name");
}

bool query_bool(struct http_request *req, const char *name, bool otherwise) {
	const char *value = http_query(req, name);
	if (!value)
		return otherwise;
	return !str_same(value, "false") && !str_same(value, "0");
}

bool query_time(struct http_request *req, const char *name, int64_t *ns) {
	const char *value = http_query(req, name);
	*ns = 0;
	if (!value || !*value || time_parse(value, ns) == 0)
		return true;
	_cleanup_(error_free) struct error err = ERROR_INIT;
	error_field(&err, name, "%.64s is not a time: write 2026-11-22T23:09:46Z or seconds since 1970", value);
	fail(req, &err);
	return false;
}

bool query_int(struct http_request *req, const char *name, int64_t otherwise, int64_t *out) {
	const char *value = http_query(req, name);
	*out = otherwise;
	if (!value || (str_to_i64(value, out) == 0 && *out >= 0))
		return true;
	_cleanup_(error_free) struct error err = ERROR_INIT;
	error_field(&err, name, "%.64s is not a number from 0 up", value);
	fail(req, &err);
	return false;
}

void reply_text(struct http_request *req, int status, const char *json, size_t len) {
	http_reply(req, status, JSON_TYPE, json, len);
}

void reply_table(struct http_request *req, int status, const struct field_table *t, const void *object) {
	_cleanup_(json_free_ptr) json_t *json = fields_print(t, object);
	http_reply_json(req, status, json);
}

void reply_instance(struct http_request *req, int status, struct instance_snap *snap) {
	reply_text(req, status, snap->json, snap->json_len);
	instance_snap_unref(snap);
}

void reply_image(struct http_request *req, int status, struct image_snap *snap) {
	reply_text(req, status, snap->json, snap->json_len);
	image_snap_unref(snap);
}

void reply_json(struct http_request *req, int r, int status, char *const *json, const struct error *err) {
	if (r < 0)
		return fail(req, err);
	reply_text(req, status, *json, strlen(*json));
	free(*json);
}
