/* Containers: their routes, and the verbs of their life. */
#include "dialect/docker/containers.h"


#define NS_PER_S INT64_C(1000000000)
#define TIMEOUT_MAX INT64_C(8640000) /* s; Docker's "without end" */

/* ---- one container ---- */

bool docker_name_ok(const char *name) {
	size_t n = strlen(name);
	return n >= 2 && n <= 128 && instance_name_check(name, NULL) == 0;
}

/* Docker takes any beginning of an id, wabe longer ones alone. */
static int find_short(struct core *c, const char *name, struct instance_snap **out, struct error *err) {
	const struct instance_filter all = {.all = true};
	struct instance_snap **snaps, *found = NULL;
	size_t n = 0;
	int r = instance_snaps(c, DOCKER_PROJECT, &all, &snaps, err);
	if (r < 0)
		return r;
	for (size_t k = 0; snaps[k]; k++) {
		if (str_starts(snaps[k]->instance.id, name) && ++n == 1)
			found = instance_snap_ref(snaps[k]);
		instance_snap_unref(snaps[k]);
	}
	free(snaps);
	if (n == 1) {
		*out = found;
		return 0;
	}
	instance_snap_unref(found);
	return n ? error_set(err, ERROR_INVALID, "multiple IDs found with provided prefix: %s", name)
		 : error_set(err, ERROR_NOT_FOUND, "No such container: %s", name);
}

bool docker_container(struct http_request *req, const char *name, struct instance_snap **out) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	size_t n = strlen(name);
	name += *name == '/';
	int r = instance_get(core_of(req), DOCKER_PROJECT, name, out, &err);
	if (r == -ERROR_NOT_FOUND && n < 4 && strspn(name, "0123456789abcdef") == n)
		r = find_short(core_of(req), name, out, &err);
	if (r < 0)
		docker_container_fail(req, name, &err);
	return r == 0;
}

void docker_container_fail(struct http_request *req, const char *name, const struct error *e) {
	_cleanup_(free_ptr) char *shown = text_shown(name);
	if (e->kind == ERROR_NOT_FOUND && !e->field)
		return docker_fail(req, 404, "No such container: %s", shown);
	fail(req, e);
}

void docker_name_taken(struct http_request *req, const char *before, const char *name) {
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *other = NULL;
	instance_get(core_of(req), DOCKER_PROJECT, name, &other, NULL);
	docker_fail(req, 409, "%sConflict. The container name \"/%s\" is already in use by container \"%s\". You have to remove "
		    "(or rename) that container to be able to reuse that name.", before, name,
		    other ? other->instance.id : "");
}

static bool named(struct http_request *req, struct instance_snap **out) {
	return docker_container(req, http_param(req, "id"), out);
}

/* ---- start ---- */

/* What clients tell the exit status from: "executable file not found", "no such file or directory", "permission denied",
 * as Go writes them. */
static void start_failed(struct http_request *req, const struct instance *i, const struct error *e) {
	if (e->kind == ERROR_NO_COMMAND || e->kind == ERROR_NO_EXEC) {
		const char *own = error_text(e), *directory = strstr(own, "\": Is a directory");
		_cleanup_(free_ptr) char *text = directory ? str_format("%.*s\": permission denied", (int)(directory - own), own)
							   : str_copy(own); /* what the kernel says of one */
		docker_lower_reason(text);
		return docker_fail(req, 400, "failed to create task for container: failed to create shim task: OCI runtime "
				   "create failed: unable to start container process: %s: unknown", text);
	}
	if (e->field && str_starts(e->field, "ports"))
		return docker_fail(req, 500, "driver failed programming external connectivity on endpoint %s (%s): %s%s",
				   i->spec.name, i->id, error_text(e),
				   e->kind == ERROR_CONFLICT ? ": port is already allocated" : "");
	docker_container_fail(req, i->spec.name, e);
}

static void start(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL, *now = NULL;
	if (http_body(req).len > 7)
		return docker_fail(req, 400, "starting container with non-empty request body was deprecated since API v1.22 and "
				   "removed in v1.24");
	if (!named(req, &snap))
		return;
	const struct instance *i = &snap->instance;
	const char *checkpoint = http_query(req, "checkpoint");
	if (checkpoint && *checkpoint)
		return docker_fail(req, 404, "checkpoint %s does not exist for container %s", checkpoint, i->spec.name);
	if (str_same(i->status.state, "paused"))
		return docker_fail(req, 409, "cannot start a paused container, try unpause instead");
	if (str_same(i->status.state, "running"))
		return http_reply_empty(req, 304);
	if (instance_start(core_of(req), DOCKER_PROJECT, i->id, &now, &err) < 0)
		return start_failed(req, i, &err);
	http_reply_empty(req, 204);
}

/* ---- stop, restart, kill ---- */

/* ?t=SECONDS, -1: without end; absent: *out is -1, the container's own. */
static bool read_timeout(struct http_request *req, int64_t *out) {
	int64_t seconds;
	const char *given = http_query(req, "t");
	if (!docker_query_int(req, "t", -1, &seconds))
		return false;
	*out = !given || !*given ? -1 : (seconds < 0 ? TIMEOUT_MAX : MIN(seconds, TIMEOUT_MAX)) * NS_PER_S;
	return true;
}

/* NULL: not given; false: an error has been answered. */
static bool read_signal(struct http_request *req, const char **out) {
	const char *given = http_query(req, "signal");
	*out = given && *given ? given : NULL;
	if (!*out || signal_from_name(*out) > 0)
		return true;
	_cleanup_(free_ptr) char *shown = text_shown(given);
	docker_fail(req, 400, "Invalid signal: %s", shown);
	return false;
}

static void stop(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL, *now = NULL;
	int64_t timeout;
	const char *signal;
	if (!read_timeout(req, &timeout) || !read_signal(req, &signal) || !named(req, &snap))
		return;
	if (!docker_runs(&snap->instance))
		return http_reply_empty(req, 304);
	if (instance_stop(core_of(req), DOCKER_PROJECT, snap->instance.id, signal, timeout, &now, &err) < 0)
		return docker_container_fail(req, snap->instance.spec.name, &err);
	http_reply_empty(req, 204);
}

static void restart(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL, *now = NULL;
	int64_t timeout;
	const char *signal;
	if (!read_timeout(req, &timeout) || !read_signal(req, &signal) || !named(req, &snap))
		return;
	if (instance_restart(core_of(req), DOCKER_PROJECT, snap->instance.id, signal, timeout, &now, &err) == 0)
		return http_reply_empty(req, 204);
	error_wrap(&err, "Cannot restart container %s", http_param(req, "id"));
	start_failed(req, &snap->instance, &err);
}

static void kill_container(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL;
	const char *signal;
	if (!read_signal(req, &signal) || !named(req, &snap))
		return;
	const char *id = snap->instance.id, *name = http_param(req, "id");
	if (!docker_runs(&snap->instance))
		return docker_fail(req, 409, "Cannot kill container: %s: Container %s is not running", name, id);
	if (instance_kill(core_of(req), DOCKER_PROJECT, id, signal, &err) == 0)
		return http_reply_empty(req, 204);
	if (err.kind == ERROR_CONFLICT) /* it has ended just now */
		return docker_fail(req, 409, "Cannot kill container: %s: Container %s is not running", name, id);
	docker_container_fail(req, name, &err);
}

/* ---- pause ---- */

static void pause_by(struct http_request *req, bool on) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL, *now = NULL;
	if (!named(req, &snap))
		return;
	const struct instance *i = &snap->instance;
	bool paused = str_same(i->status.state, "paused");
	if (on && !docker_runs(i))
		return docker_fail(req, 409, "Container %s is not running", i->id);
	if (on && paused)
		return docker_fail(req, 409, "Container %s is already paused", i->id);
	if (on && str_same(i->status.state, "restarting"))
		return docker_fail(req, 409, "Container %s is restarting, wait until the container is running", i->id);
	if (!on && !paused)
		return docker_fail(req, 500, "Container %s is not paused", i->id);
	if (instance_pause(core_of(req), DOCKER_PROJECT, i->id, on, &now, &err) < 0)
		return docker_container_fail(req, i->spec.name, &err);
	http_reply_empty(req, 204);
}

static void pause_container(struct http_request *req) {
	pause_by(req, true);
}

static void unpause(struct http_request *req) {
	pause_by(req, false);
}

/* ---- rename ---- */

static void rename_container(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL, *now = NULL;
	const char *name = http_query(req, "name");
	if (!name || !*name)
		return docker_fail(req, 400, "Neither old nor new names may be empty");
	if (!named(req, &snap))
		return;
	name += *name == '/';
	if (!docker_name_ok(name)) {
		_cleanup_(free_ptr) char *shown = text_shown(name);
		return docker_fail(req, 400, "Error when allocating new name: Invalid container name (%s), only "
				   "[a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", shown);
	}
	if (str_same(name, snap->instance.spec.name))
		return docker_fail(req, 400, "Renaming a container with the same name as its current name");
	_cleanup_(json_free_ptr) json_t *patch = json_pack("{ss}", "name", name);
	if (instance_update(core_of(req), DOCKER_PROJECT, snap->instance.id, patch, &now, &err) == 0)
		return http_reply_empty(req, 204);
	if (err.kind == ERROR_EXISTS)
		return docker_name_taken(req, "Error when allocating new name: ", name);
	docker_container_fail(req, http_param(req, "id"), &err);
}

/* ---- wait ---- */

static void wait_done(void *arg, const struct instance_status *status, const struct error *error) {
	const char *why = error ? error_text(error) : status->error;
	_cleanup_(json_free_ptr) json_t *answer = json_pack("{sI}", "StatusCode", (json_int_t)status->exit_code);
	if (why)
		json_object_set_new(answer, "Error", json_pack("{so}", "Message", json_from_str(why)));
	_cleanup_(free_ptr) char *text = json_print(answer);
	line_stream_push(arg, text, strlen(text));
	line_stream_end(arg, true);
}

static bool read_condition(struct http_request *req, enum wait_condition *out) {
	static const char *const names[] = {
		[WAIT_NOT_RUNNING] = "not-running", [WAIT_NEXT_EXIT] = "next-exit", [WAIT_REMOVED] = "removed"};
	const char *given = docker_api(req) >= 30 ? http_query(req, "condition") : NULL;
	*out = WAIT_NOT_RUNNING;
	if (!given || !*given)
		return true;
	for (size_t k = 0; k < ARRAY_SIZE(names); k++)
		if (str_same(given, names[k])) {
			*out = (enum wait_condition)k;
			return true;
		}
	_cleanup_(free_ptr) char *shown = text_shown(given);
	docker_fail(req, 400, "invalid condition: \"%s\"", shown);
	return false;
}

static void wait_container(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL;
	enum wait_condition condition;
	if (!read_condition(req, &condition) || !named(req, &snap))
		return;
	struct line_stream *s = line_stream_new(req, JSON_TYPE);
	const struct wait_sink sink = {.begin = line_stream_begin, .done = wait_done, .gone = line_stream_gone, .arg = s};
	if (instance_wait(core_of(req), DOCKER_PROJECT, snap->instance.id, condition, &sink, &err) == 0)
		return;
	line_stream_free(s);
	docker_container_fail(req, http_param(req, "id"), &err);
}

/* ---- remove ---- */

static void refuse_running(struct http_request *req, const struct instance *i) {
	bool paused = str_same(i->status.state, "paused");
	docker_fail(req, 409, "You cannot remove a %s container %s. %s before attempting removal or force remove", docker_state(i),
		    i->id, paused ? "Unpause and then stop the container" : "Stop the container");
}

static void remove_container(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL;
	bool force = docker_query_bool(req, "force"), volumes = docker_query_bool(req, "v");
	if (!named(req, &snap))
		return;
	const struct instance *i = &snap->instance;
	if (docker_query_bool(req, "link"))
		return docker_fail(req, 409, "Conflict, cannot remove the default link name of the container");
	if (docker_runs(i) && !force)
		return refuse_running(req, i);
	int r = instance_delete(core_of(req), DOCKER_PROJECT, i->id, force, &err);
	if (r == -ERROR_CONFLICT && !force)
		return refuse_running(req, i);
	if (r == 0 && volumes)
		r = docker_remove_anonymous(core_of(req), i, &err);
	if (r < 0)
		return docker_container_fail(req, http_param(req, "id"), &err);
	http_reply_empty(req, 204);
}

/* "DELETE /containers/NAME/ALIAS?link=1": NAME knows what it calls ALIAS no more; both containers stay. */
static void remove_link(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL, *now = NULL;
	_cleanup_(json_free_ptr) json_t *left = json_array(), *patch = json_object();
	const char *alias = http_param(req, "alias");
	if (!named(req, &snap))
		return;
	char *const *links = snap->instance.spec.links;
	for (char *const *l = links; l && *l; l++)
		if (!str_same(strchrnul(*l, ':') + 1, alias))
			json_array_append_new(left, json_from_str(*l));
	if (!docker_query_bool(req, "link") || json_array_size(left) == strv_len(links)) {
		_cleanup_(free_ptr) char *shown = text_shown(alias);
		return docker_fail(req, 404, "No such container: %s/%s", http_param(req, "id"), shown);
	}
	json_object_set(patch, "links", left);
	if (instance_update(core_of(req), DOCKER_PROJECT, snap->instance.id, patch, &now, &err) == 0)
		return http_reply_empty(req, 204);
	if (err.field)
		error_wrap(&err, "Container %s: %s", snap->instance.id, err.field);
	docker_container_fail(req, http_param(req, "id"), &err);
}

/* ---- files ---- */

static void export_container(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL;
	int fd;
	if (!named(req, &snap))
		return;
	if (instance_export(core_of(req), DOCKER_PROJECT, snap->instance.id, &fd, &err) < 0)
		return docker_container_fail(req, http_param(req, "id"), &err);
	reply_stream_fd(req, "application/octet-stream", fd);
}

static void add_change(char kind, const char *path, void *arg) {
	const int number = kind == 'A' ? 1 : kind == 'D' ? 2 : 0;
	json_t *change = json_object();
	json_object_set_new(change, "Path", json_from_str(path));
	json_set_int(change, "Kind", number);
	json_array_append_new(arg, change);
}

static void changes(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL;
	if (!named(req, &snap))
		return;
	_cleanup_(json_free_ptr) json_t *list = json_array();
	if (instance_diff(core_of(req), DOCKER_PROJECT, snap->instance.id, add_change, list, &err) < 0)
		return docker_container_fail(req, http_param(req, "id"), &err);
	http_reply_json(req, 200, json_array_size(list) ? list : json_null());
}

/* ---- checkpoints ---- */

#define NO_CRIU "it takes CRIU, which Debian 12 has not"

static void checkpoints(struct http_request *req) {
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL;
	if (!named(req, &snap))
		return;
	if (str_same(http_method(req), "GET"))
		docker_reply(req, 200, json_array());
	else if (str_same(http_method(req), "DELETE"))
		docker_fail(req, 404, "checkpoint %s does not exist for container %s", http_param(req, "checkpointId"), snap->instance.spec.name);
	else
		docker_fail(req, 501, "Cannot checkpoint container %s: " NO_CRIU, snap->instance.spec.name);
}

#define ONE "/containers/{id}"
const struct docker_route docker_container_routes[] = {
	{"GET", "/containers/json", docker_list, 0, DOCKER_WORKS, NULL},
	{"POST", "/containers/create", docker_create, 0, DOCKER_WORKS, NULL},
	{"POST", "/containers/prune", docker_prune, 0, DOCKER_WORKS, NULL},
	{"GET", ONE "/json", docker_inspect, 0, DOCKER_WORKS, NULL},
	{"POST", ONE "/start", start, 0, DOCKER_WORKS, NULL},
	{"POST", ONE "/stop", stop, 0, DOCKER_WORKS, NULL},
	{"POST", ONE "/restart", restart, 0, DOCKER_WORKS, NULL},
	{"POST", ONE "/kill", kill_container, 0, DOCKER_WORKS, NULL},
	{"POST", ONE "/pause", pause_container, 0, DOCKER_WORKS, NULL},
	{"POST", ONE "/unpause", unpause, 0, DOCKER_WORKS, NULL},
	{"POST", ONE "/rename", rename_container, 0, DOCKER_WORKS, NULL},
	{"POST", ONE "/wait", wait_container, 0, DOCKER_WORKS, NULL},
	{"DELETE", ONE, remove_container, 0, DOCKER_WORKS, NULL},
	{"DELETE", ONE "/{alias}", remove_link, 0, DOCKER_DIFFERS, "a link (with link=1) of a container that does not run"},
	{"GET", ONE "/export", export_container, 0, DOCKER_WORKS, NULL},
	{"GET", ONE "/changes", changes, 0, DOCKER_WORKS, NULL},
	{"GET", ONE "/top", docker_top, 0, DOCKER_DIFFERS, "ps_args: -ef, aux, and -o with most columns of ps"},
	{"POST", ONE "/update", docker_update, 0, DOCKER_WORKS, NULL},
	{"POST", "/commit", docker_commit, 0, DOCKER_WORKS, NULL},
	{"GET", ONE "/checkpoints", checkpoints, 0, DOCKER_DIFFERS, "the list is empty: " NO_CRIU},
	{"POST", ONE "/checkpoints", checkpoints, 0, DOCKER_MISSING, NO_CRIU},
	{"DELETE", ONE "/checkpoints/{checkpointId}", checkpoints, 0, DOCKER_MISSING, NO_CRIU},
	{0},
};
