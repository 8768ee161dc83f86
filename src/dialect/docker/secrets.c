/* Secrets and configs. */
#include "base/base64.h"
#include "dialect/docker/swarm-priv.h"

struct kept_request {
	char *name, *data;
	struct pairs labels;
	json_t *driver, *templating;
};
static const struct field kept_fields[] = {
	FIELD_AS("Name", struct kept_request, name, FIELD_STRING, .doc = "Name"),
	FIELD_AS("Labels", struct kept_request, labels, FIELD_PAIRS, .doc = "Labels"),
	FIELD_AS("Data", struct kept_request, data, FIELD_STRING, .max = 4 << 20, .doc = "Base64, also the alphabet for URLs"),
	FIELD_AS("Driver", struct kept_request, driver, FIELD_JSON, .doc = "Driver"),
	FIELD_AS("Templating", struct kept_request, templating, FIELD_JSON, .doc = "Templating"),
};
static const struct field_table kept_request_table = {"kept_request", "", sizeof(struct kept_request), kept_fields,
						      ARRAY_SIZE(kept_fields)};

static const char *word(enum kept_kind kind) {
	return kind == KEPT_SECRET ? "secret" : "config";
}

/* ---- how it looks ---- */

static json_t *kept_json(const struct kept *k, enum kept_kind kind) {
	json_t *o = swarm_object(k->id, k->version, k->created_at, k->updated_at), *spec = json_object();
	json_set_str(spec, "Name", k->spec.name);
	json_object_set_new(spec, "Labels", pairs_print(&k->spec.labels));
	if (kind == KEPT_CONFIG)
		json_set_str(spec, "Data", k->spec.data);
	json_object_set_new(o, "Spec", spec);
	return o;
}

static bool is_name(const char *value, const void *arg) {
	return str_same(value, arg);
}

static void list(struct http_request *req, enum kept_kind kind) {
	static const char *const of_secrets[] = {"names", "name", "id", "label", NULL}, *const of_configs[] = {"name", "id", "label", NULL};
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(noun_unref_ptr) struct noun *cluster = NULL;
	_cleanup_(nouns_unref_ptr) struct noun **all = NULL;
	if (!swarm_active(req, &cluster))
		return;
	_cleanup_(json_free_ptr) json_t *filters = docker_filters(req, kind == KEPT_SECRET ? of_secrets : of_configs);
	if (!filters)
		return;
	if (kept_all(core_of(req), kind, DOCKER_PROJECT, &all, &err) < 0)
		return fail(req, &err);
	json_t *answer = json_array();
	for (struct noun **n = all; *n; n++) {
		const struct kept *k = (*n)->of;
		_cleanup_(free_ptr) char *id = str_copyn(k->id, SWARM_ID_LEN);
		if (swarm_fits(filters, id, k->spec.name, &k->spec.labels) && docker_filter_any(filters, "names", is_name, k->spec.name))
			json_array_append_new(answer, kept_json(k, kind));
	}
	docker_reply(req, 200, answer);
}

static bool find(struct http_request *req, enum kept_kind kind, struct noun **out) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	const char *name = http_param(req, "id");
	_cleanup_(noun_unref_ptr) struct noun *cluster = NULL;
	if (!swarm_active(req, &cluster))
		return false;
	if (kept_get(core_of(req), kind, DOCKER_PROJECT, name, out, &err) == 0)
		return true;
	swarm_fail(req, word(kind), name, &err);
	return false;
}

static void inspect(struct http_request *req, enum kept_kind kind) {
	_cleanup_(noun_unref_ptr) struct noun *o = NULL;
	if (find(req, kind, &o))
		docker_reply(req, 200, kept_json(o->of, kind));
}

/* ---- changes ---- */

/* Go takes both alphabets, as the API says "URL-safe". */
static void plain_alphabet(char *data) {
	for (; data && *data; data++)
		*data = *data == '-' ? '+' : *data == '_' ? '/' : *data;
}

static bool check(struct http_request *req, enum kept_kind kind, const struct kept_request *r) {
	ssize_t n = r->data ? base64_size(r->data) : 0;
	size_t max = kind == KEPT_SECRET ? 500 << 10 : 1000 << 10;
	if (json_is_object(r->driver) || json_is_object(r->templating)) {
		docker_fail(req, 501, "%s: drivers and templates of secrets and configs are not there", json_is_object(r->driver) ? "Driver" : "Templating");
		return false;
	}
	if (n < 0) {
		docker_fail(req, 400, "Data: illegal base64 data");
		return false;
	}
	if (!r->name || !*r->name || strlen(r->name) > 64 || instance_name_check(r->name, NULL) < 0) {
		docker_fail(req, 400, "rpc error: code = InvalidArgument desc = invalid name, only 64 [a-zA-Z0-9-_.] characters allowed, and the start "
			    "and end character must be [a-zA-Z0-9]");
		return false;
	}
	if ((kind == KEPT_SECRET && n == 0) || (size_t)n >= max) {
		docker_fail(req, 400, "rpc error: code = InvalidArgument desc = %s data must be larger than 0 and less than %zu bytes", word(kind), max);
		return false;
	}
	return true;
}

static void create(struct http_request *req, enum kept_kind kind) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(noun_unref_ptr) struct noun *cluster = NULL, *made = NULL;
	struct kept_request r;
	if (!swarm_active(req, &cluster))
		return;
	_cleanup_(json_free_ptr) json_t *body = swarm_body(req, swarm_kept_shape);
	if (!body || !docker_parse_json(req, &kept_request_table, body, &r))
		return;
	plain_alphabet(r.data);
	if (!check(req, kind, &r)) {
		fields_free(&kept_request_table, &r);
		return;
	}
	struct kept_spec spec = {.name = str_copy(r.name), .labels = r.labels, .data = r.data ? r.data : str_copy(""),
				 .origin = swarm_keep_origin(json_true())};
	r.labels = (struct pairs){0};
	r.data = NULL;
	int result = kept_create(core_of(req), kind, DOCKER_PROJECT, &spec, &made, &err);
	if (result < 0 && err.kind == ERROR_EXISTS)
		docker_fail(req, 409, "rpc error: code = AlreadyExists desc = %s %s already exists", word(kind), r.name);
	else if (result < 0)
		swarm_fail(req, word(kind), r.name, &err);
	fields_free(&kept_request_table, &r);
	if (result < 0)
		return;
	json_t *answer = json_object();
	swarm_set_id(answer, "ID", ((const struct kept *)made->of)->id);
	docker_reply(req, 201, answer);
}

/* Labels alone may change. */
static json_t *patch_of(const struct pairs *labels, const struct kept *old) {
	json_t *all = pairs_print(labels);
	for (size_t i = 0; i < old->spec.labels.n; i++)
		if (!pairs_get(labels, old->spec.labels.items[i].key))
			json_object_set_new(all, old->spec.labels.items[i].key, json_null());
	return json_pack("{so}", "labels", all);
}

static void update(struct http_request *req, enum kept_kind kind) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(noun_unref_ptr) struct noun *o = NULL, *changed = NULL;
	int64_t version;
	struct kept_request r;
	if (!swarm_version(req, word(kind), &version) || !find(req, kind, &o) || !docker_parse(req, &kept_request_table, &r))
		return;
	const struct kept *old = o->of;
	plain_alphabet(r.data);
	bool same = (!r.name || str_same(r.name, old->spec.name)) && (!r.data || !*r.data || str_same(r.data, old->spec.data));
	_cleanup_(json_free_ptr) json_t *patch = patch_of(&r.labels, old);
	fields_free(&kept_request_table, &r);
	if (!same)
		return docker_fail(req, 400, "rpc error: code = InvalidArgument desc = only updates to Labels are allowed");
	if (kept_update(core_of(req), kind, DOCKER_PROJECT, old->id, version, patch, &changed, &err) < 0)
		return swarm_fail(req, word(kind), old->spec.name, &err);
	http_reply_empty(req, 200);
}

static void delete(struct http_request *req, enum kept_kind kind) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(noun_unref_ptr) struct noun *o = NULL;
	if (!find(req, kind, &o))
		return;
	const struct kept *k = o->of;
	_cleanup_(strv_free_ptr) char **users = kept_users(core_of(req), kind, DOCKER_PROJECT, k->id);
	_cleanup_(free_ptr) char *names = strv_join(users, ", ");
	if (users)
		return docker_fail(req, 400, "rpc error: code = InvalidArgument desc = %s '%s' is in use by the following service%s: %s",
				   word(kind), k->spec.name, users[1] ? "s" : "", names);
	if (kept_delete(core_of(req), kind, DOCKER_PROJECT, k->id, &err) < 0)
		return swarm_fail(req, word(kind), k->spec.name, &err);
	http_reply_empty(req, 204);
}

#define HANDLERS(noun_, kind_)                                 \
	void noun_##s_list(struct http_request *req) {         \
		list(req, kind_);                              \
	}                                                      \
	void noun_##_create(struct http_request *req) {        \
		create(req, kind_);                            \
	}                                                      \
	void noun_##_inspect(struct http_request *req) {       \
		inspect(req, kind_);                           \
	}                                                      \
	void noun_##_update(struct http_request *req) {        \
		update(req, kind_);                            \
	}                                                      \
	void noun_##_remove(struct http_request *req) {        \
		delete(req, kind_);                            \
	}
HANDLERS(secret, KEPT_SECRET)
HANDLERS(config, KEPT_CONFIG)
