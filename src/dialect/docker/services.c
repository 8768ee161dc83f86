/* Services: workloads under Docker's name. */
#include "dialect/docker/tasks.h"

/* ---- one service ---- */

static bool find(struct http_request *req, struct noun **out) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(noun_unref_ptr) struct noun *cluster = NULL;
	const char *name = http_param(req, "id");
	if (!swarm_active(req, &cluster))
		return false;
	if (workload_get(core_of(req), DOCKER_PROJECT, name, out, &err) == 0)
		return true;
	swarm_fail(req, "service", name, &err);
	return false;
}

void service_inspect(struct http_request *req) {
	_cleanup_(noun_unref_ptr) struct noun *o = NULL;
	bool defaults;
	if (docker_query_flag(req, "insertDefaults", &defaults) && find(req, &o))
		docker_reply(req, 200, service_show(core_of(req), o->of, defaults));
}

/* ---- list ---- */

static bool is_mode(const char *value, const void *arg) {
	const char *mode = arg;
	return str_same(value, str_same(mode, "job") ? "replicated-job" : mode);
}

static bool is_container(const char *value, const void *arg) {
	return str_same(value, arg);
}

static bool fits(const json_t *filters, const struct workload *w) {
	_cleanup_(free_ptr) char *id = str_copyn(w->id, SWARM_ID_LEN);
	return swarm_fits(filters, id, w->spec.name, &w->spec.labels) && docker_filter_any(filters, "mode", is_mode, w->spec.mode) &&
	       docker_filter_any(filters, "runtime", is_container, "container");
}

void services_list(struct http_request *req) {
	static const char *const known[] = {"id", "label", "mode", "name", "runtime", NULL};
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(noun_unref_ptr) struct noun *cluster = NULL;
	_cleanup_(nouns_unref_ptr) struct noun **all = NULL;
	if (!swarm_active(req, &cluster))
		return;
	_cleanup_(json_free_ptr) json_t *filters = docker_filters(req, known);
	if (!filters)
		return;
	bool status = docker_api(req) >= 41 && docker_query_bool(req, "status");
	if (workload_all(core_of(req), DOCKER_PROJECT, &all, &err) < 0)
		return fail(req, &err);
	json_t *list = json_array();
	for (struct noun **n = all; *n; n++) {
		if (!fits(filters, (*n)->of))
			continue;
		json_t *one = service_show(core_of(req), (*n)->of, false);
		if (status)
			json_object_set_new(one, "ServiceStatus", tasks_status(core_of(req), (*n)->of));
		json_array_append_new(list, one);
	}
	docker_reply(req, 200, list);
}

/* ---- create, update, remove ---- */

/* Credentials are the daemon's to use when a task needs the image. */
static int take_auth(struct http_request *req, struct workload_spec *spec, struct error *err) {
	const char *header = http_header(req, "X-Registry-Auth");
	struct docker_auth auth = {0};
	if (!header || !*header || docker_auth_parse(header, &auth, err) < 0 || !auth.username || !*auth.username) {
		docker_auth_free(&auth);
		return err->kind ? -(int)err->kind : 0;
	}
	spec->pull_user = str_copy(auth.username);
	spec->pull_password = auth.password ? str_copy(auth.password) : NULL;
	docker_auth_free(&auth);
	return 0;
}

static void failed(struct http_request *req, const char *name, struct error *err) {
	if (err->kind == ERROR_EXISTS)
		return docker_fail(req, 409, "rpc error: code = AlreadyExists desc = name conflicts with an existing object: service %s already "
				   "exists", name);
	if (err->kind == ERROR_UNSUPPORTED || (err->kind == ERROR_NOT_FOUND && str_starts(error_text(err), "network ")))
		return fail(req, err);
	if (str_starts(error_text(err), "rpc error:") || str_starts(error_text(err), "invalid "))
		return docker_fail(req, 400, "%s", error_text(err));
	if (err->kind == ERROR_CONFLICT && str_same(err->field, "ports"))
		return docker_fail(req, 400, "rpc error: code = InvalidArgument desc = %s", error_text(err));
	swarm_fail(req, "service", name, err);
}

void service_create(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(noun_unref_ptr) struct noun *cluster = NULL, *made = NULL;
	struct workload_spec spec;
	if (!swarm_active(req, &cluster))
		return;
	_cleanup_(json_free_ptr) json_t *body = swarm_body(req, swarm_service_shape);
	if (!body)
		return;
	_cleanup_(free_ptr) char *name = str_copy(json_get_str(body, "Name") ? json_get_str(body, "Name") : "");
	if (service_spec_parse(core_of(req), body, ((const struct cluster *)cluster->of)->spec.history, &spec, &err) < 0)
		return failed(req, name, &err);
	int r = take_auth(req, &spec, &err);
	if (r == 0)
		r = workload_create(core_of(req), DOCKER_PROJECT, &spec, &made, &err);
	else
		fields_free(&workload_spec_table, &spec);
	if (r < 0)
		return failed(req, name, &err);
	json_t *answer = json_object();
	swarm_set_id(answer, "ID", ((const struct workload *)made->of)->id);
	docker_reply(req, 201, answer);
}

static void update_done(struct http_request *req) {
	docker_reply(req, 200, json_pack("{sn}", "Warnings"));
}

static void roll_back(struct http_request *req, const struct workload *w, int64_t version) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(noun_unref_ptr) struct noun *changed = NULL;
	if (workload_rollback(core_of(req), DOCKER_PROJECT, w->id, version, &changed, &err) == 0)
		return update_done(req);
	if (err.kind == ERROR_CONFLICT && !w->previous)
		return docker_fail(req, 400, "rpc error: code = FailedPrecondition desc = service %s does not have a previous spec", w->spec.name);
	failed(req, w->spec.name, &err);
}

static bool stays(struct http_request *req, const struct workload *w, const struct workload_spec *spec) {
	if (!str_same(w->spec.name, spec->name))
		docker_fail(req, 501, "rpc error: code = Unimplemented desc = renaming services is not supported");
	else if (!str_same(w->spec.mode, spec->mode))
		docker_fail(req, 501, "rpc error: code = Unimplemented desc = service mode change is not allowed");
	else
		return true;
	return false;
}

/* Without credentials those stay that were given before. */
static void keep_auth(const struct workload *w, struct workload_spec *spec) {
	if (spec->pull_user || !w->spec.pull_user)
		return;
	spec->pull_user = str_copy(w->spec.pull_user);
	spec->pull_password = w->spec.pull_password ? str_copy(w->spec.pull_password) : NULL;
}

void service_update(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(noun_unref_ptr) struct noun *o = NULL, *changed = NULL;
	const char *rollback = http_query(req, "rollback");
	int64_t version;
	struct workload_spec spec;
	if (!swarm_version(req, "service", &version) || !find(req, &o))
		return;
	const struct workload *w = o->of;
	if (rollback && *rollback && !str_same(rollback, "previous"))
		return docker_fail(req, 400, "unrecognized rollback option %s", rollback);
	if (rollback && *rollback)
		return roll_back(req, w, version);
	_cleanup_(json_free_ptr) json_t *body = swarm_body(req, swarm_service_shape);
	if (!body)
		return;
	if (service_spec_parse(core_of(req), body, w->spec.history, &spec, &err) < 0)
		return failed(req, w->spec.name, &err);
	int r = take_auth(req, &spec, &err);
	if (r < 0 || !stays(req, w, &spec)) {
		fields_free(&workload_spec_table, &spec);
		return r < 0 ? fail(req, &err) : (void)0;
	}
	keep_auth(w, &spec);
	if (workload_replace(core_of(req), DOCKER_PROJECT, w->id, version, &spec, &changed, &err) < 0)
		return failed(req, w->spec.name, &err);
	update_done(req);
}

void service_remove(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(noun_unref_ptr) struct noun *o = NULL;
	if (!find(req, &o))
		return;
	if (workload_delete(core_of(req), DOCKER_PROJECT, ((const struct workload *)o->of)->id, &err) < 0)
		return swarm_fail(req, "service", http_param(req, "id"), &err);
	http_reply_empty(req, 200);
}
