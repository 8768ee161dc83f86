/* Routes of workloads, secrets and configs. */
#include "base/base64.h"
#include "core/workloads.h"
#include "dialect/native/native-priv.h"

/* Answers with the object, or with the error. */
static void finish(struct http_request *req, int r, int status, struct noun *const *o, const struct error *err) {
	if (r < 0)
		return fail(req, err);
	reply_text(req, status, (*o)->json, (*o)->json_len);
	noun_unref(*o);
}

static void list_with(struct http_request *req,
		      int (*list)(struct core *c, const char *project, char *const *labels, char **json, size_t *len,
				  struct error *err)) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(strv_free_ptr) char **labels = http_query_all(req, "label");
	_cleanup_(free_ptr) char *text = NULL;
	size_t len;
	if (list(core_of(req), project_of(req), labels, &text, &len, &err) < 0)
		return fail(req, &err);
	reply_text(req, 200, text, len);
}

/* ---- workloads ---- */

static void workloads_list(struct http_request *req) {
	list_with(req, workload_list);
}

static void workload_post(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct workload_spec spec;
	struct noun *o = NULL;
	if (dto_parse(req, &workload_spec_table, &spec, NULL))
		finish(req, workload_create(core_of(req), project_of(req), &spec, &o, &err), 201, &o, &err);
}

static void workload_show(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct noun *o = NULL;
	finish(req, workload_get(core_of(req), project_of(req), name_of(req), &o, &err), 200, &o, &err);
}

static void workload_patch(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(json_free_ptr) json_t *body = http_body_json(req, &err);
	struct noun *o = NULL;
	int64_t version;
	if (!query_int(req, "version", ANY_VERSION, &version))
		return;
	finish(req, body ? workload_update(core_of(req), project_of(req), name_of(req), version, body, &o, &err) : -1, 200, &o, &err);
}

static void workload_back(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct noun *o = NULL;
	int64_t version;
	if (!query_int(req, "version", ANY_VERSION, &version))
		return;
	finish(req, workload_rollback(core_of(req), project_of(req), name_of(req), version, &o, &err), 200, &o, &err);
}

static void workload_remove(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	if (workload_delete(core_of(req), project_of(req), name_of(req), &err) < 0)
		return fail(req, &err);
	http_reply_empty(req, 204);
}

static void workload_instances(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(noun_unref_ptr) struct noun *o = NULL;
	_cleanup_(list_text_unref_ptr) struct list_text *text = NULL;
	if (workload_get(core_of(req), project_of(req), name_of(req), &o, &err) < 0)
		return fail(req, &err);
	const struct instance_filter f = {.all = true, .workload = ((const struct workload *)o->of)->id};
	if (instance_list(core_of(req), project_of(req), &f, NULL, &text, &err) < 0)
		return fail(req, &err);
	reply_text(req, 200, text->data, text->len);
}

/* ---- secrets and configs ---- */

static int secret_list(struct core *c, const char *project, char *const *labels, char **json, size_t *len, struct error *err) {
	return kept_list(c, KEPT_SECRET, project, labels, json, len, err);
}

static int config_list(struct core *c, const char *project, char *const *labels, char **json, size_t *len, struct error *err) {
	return kept_list(c, KEPT_CONFIG, project, labels, json, len, err);
}

static void kept_post(struct http_request *req, enum kept_kind kind, const struct field_table *t) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct kept_spec spec;
	struct noun *o = NULL;
	if (dto_parse(req, t, &spec, NULL))
		finish(req, kept_create(core_of(req), kind, project_of(req), &spec, &o, &err), 201, &o, &err);
}

static void kept_show(struct http_request *req, enum kept_kind kind) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct noun *o = NULL;
	finish(req, kept_get(core_of(req), kind, project_of(req), name_of(req), &o, &err), 200, &o, &err);
}

static void kept_patch(struct http_request *req, enum kept_kind kind) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(json_free_ptr) json_t *body = http_body_json(req, &err);
	struct noun *o = NULL;
	int64_t version;
	if (!query_int(req, "version", ANY_VERSION, &version))
		return;
	finish(req, body ? kept_update(core_of(req), kind, project_of(req), name_of(req), version, body, &o, &err) : -1, 200, &o,
	       &err);
}

static void kept_remove(struct http_request *req, enum kept_kind kind) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	if (kept_delete(core_of(req), kind, project_of(req), name_of(req), &err) < 0)
		return fail(req, &err);
	http_reply_empty(req, 204);
}

#define KEPT_HANDLERS(noun_, kind_)                           \
	static void noun_##s_list(struct http_request *req) { \
		list_with(req, noun_##_list);                 \
	}                                                     \
	static void noun_##_post(struct http_request *req) {  \
		kept_post(req, kind_, &noun_##_spec_table);   \
	}                                                     \
	static void noun_##_show(struct http_request *req) {  \
		kept_show(req, kind_);                        \
	}                                                     \
	static void noun_##_patch(struct http_request *req) { \
		kept_patch(req, kind_);                       \
	}                                                     \
	static void noun_##_remove(struct http_request *req) { \
		kept_remove(req, kind_);                      \
	}
KEPT_HANDLERS(secret, KEPT_SECRET)
KEPT_HANDLERS(config, KEPT_CONFIG)

static void config_data(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(noun_unref_ptr) struct noun *o = NULL;
	_cleanup_(buf_free) struct buf data = BUF_INIT;
	if (kept_get(core_of(req), KEPT_CONFIG, project_of(req), name_of(req), &o, &err) < 0)
		return fail(req, &err);
	base64_decode(((const struct kept *)o->of)->spec.data, &data);
	http_reply(req, 200, "application/octet-stream", buf_str(&data), data.len);
}

#define P "/v1/projects/{project}"
#define WORKLOAD P "/workloads/{name}"
#define KEPT_ROUTES(noun_)                                                                                                  \
	{"GET", P "/" #noun_ "s", noun_##s_list, .summary = "Lists " #noun_ "s, without their data", .query = "label",      \
	 .what = "{\"revision\":N,\"" #noun_ "s\":[" #noun_ "…]}", .status = 200},                                          \
	{"POST", P "/" #noun_ "s", noun_##_post, .summary = "Keeps a " #noun_, .request = &noun_##_spec_table,              \
	 .reply = &noun_##_table, .status = 201},                                                                           \
	{"GET", P "/" #noun_ "s/{name}", noun_##_show, .summary = "One " #noun_ ", without its data",                       \
	 .reply = &noun_##_table, .status = 200},                                                                           \
	{"PATCH", P "/" #noun_ "s/{name}", noun_##_patch, .summary = "Changes its labels by a JSON merge patch",            \
	 .query = "version", .request = &noun_##_spec_table, .reply = &noun_##_table, .status = 200},                       \
	{"DELETE", P "/" #noun_ "s/{name}", noun_##_remove, .summary = "Removes a " #noun_ " that nobody gets", .status = 204}

const struct native_route workload_routes[] = {
	{"GET", P "/workloads", workloads_list, .summary = "Lists workloads", .query = "label",
	 .what = "{\"revision\":N,\"workloads\":[workload…]}", .status = 200},
	{"POST", P "/workloads", workload_post, .summary = "Declares a workload: its instances follow",
	 .request = &workload_spec_table, .reply = &workload_table, .status = 201},
	{"GET", WORKLOAD, workload_show, .summary = "One workload", .reply = &workload_table, .status = 200},
	{"PATCH", WORKLOAD, workload_patch, .summary = "Changes a workload by a JSON merge patch: its instances follow",
	 .query = "version", .request = &workload_spec_table, .reply = &workload_table, .status = 200},
	{"POST", WORKLOAD "/rollback", workload_back, .summary = "Goes back to the spec before the last change", .query = "version",
	 .reply = &workload_table, .status = 200},
	{"GET", WORKLOAD "/instances", workload_instances, .summary = "Its instances, also those that have ended",
	 .what = "{\"revision\":N,\"instances\":[instance…]}", .status = 200},
	{"DELETE", WORKLOAD, workload_remove, .summary = "Removes a workload: its instances follow", .status = 204},
	KEPT_ROUTES(secret),
	KEPT_ROUTES(config),
	{"GET", P "/configs/{name}/data", config_data, .summary = "What is in a config", .what = "its bytes", .status = 200},
	{0},
};
