/* One container, until containers.c brings it. */
#include "dialect/docker/inside.h"

void docker_container_fail(struct http_request *req, const char *name, const struct error *e) {
	if (e->kind == ERROR_NOT_FOUND)
		docker_fail(req, 404, "No such container: %s", name);
	else
		fail(req, e);
}

bool docker_container(struct http_request *req, const char *name, struct instance_snap **out) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	if (instance_get(core_of(req), DOCKER_PROJECT, name, out, &err) == 0)
		return true;
	docker_container_fail(req, name, &err);
	return false;
}

void docker_inspect_standin(struct http_request *req) {
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL;
	if (!docker_container(req, http_param(req, "id"), &snap))
		return;
	json_t *answer = json_object(), *state = json_object(), *config = json_object();
	json_set_str(answer, "Id", snap->instance.id);
	json_set_bool(state, "Running", str_same(snap->instance.status.state, "running"));
	json_set_bool(config, "Tty", snap->instance.spec.tty);
	json_set_bool(config, "OpenStdin", snap->instance.spec.stdin_open);
	json_object_set_new(answer, "State", state);
	json_object_set_new(answer, "Config", config);
	docker_reply(req, 200, answer);
}
