/* Execs: created, started with the client's connection as their streams, resized, inspected. */
#include "core/execs.h"
#include "dialect/docker/inside.h"

#include <stdio.h>
#include <unistd.h>

struct exec_config {
	char *user, *workdir, *keys;
	bool tty, in, out, errors, detach, privileged;
	char **env, **command;
	json_t *size;
};

static int check_size(const void *object, struct error *err) {
	const json_t *size = ((const struct exec_config *)object)->size;
	return size && !docker_is_size(size) ? error_field(err, "ConsoleSize", "must be [rows, columns]") : 0;
}

static const struct field exec_fields[] = {
	FIELD_AS("User", struct exec_config, user, FIELD_STRING, .doc = "user[:group]"),
	FIELD_AS("Privileged", struct exec_config, privileged, FIELD_BOOL, .doc = "With all capabilities"),
	FIELD_AS("Tty", struct exec_config, tty, FIELD_BOOL, .doc = "On a terminal"),
	FIELD_AS("ConsoleSize", struct exec_config, size, FIELD_JSON, .doc = "[rows, columns] of it"),
	FIELD_AS("AttachStdin", struct exec_config, in, FIELD_BOOL, .doc = "Gives input"),
	FIELD_AS("AttachStdout", struct exec_config, out, FIELD_BOOL, .doc = "Wants output"),
	FIELD_AS("AttachStderr", struct exec_config, errors, FIELD_BOOL, .doc = "Wants errors"),
	FIELD_AS("Detach", struct exec_config, detach, FIELD_BOOL, .doc = "Wants nothing of it"),
	FIELD_AS("DetachKeys", struct exec_config, keys, FIELD_STRING, .doc = "That end the attachment"),
	FIELD_AS("Env", struct exec_config, env, FIELD_STRINGS, .max = 4096, .check = env_check, .doc = "Beside the container's"),
	FIELD_AS("WorkingDir", struct exec_config, workdir, FIELD_STRING, .doc = "Where it runs"),
	FIELD_AS("Cmd", struct exec_config, command, FIELD_STRINGS, .max = 8192, .doc = "Program and arguments"),
};
static const struct field_table exec_table = {"docker_exec", "Body of exec's creation", sizeof(struct exec_config), exec_fields,
					      ARRAY_SIZE(exec_fields), check_size};

static const struct field start_fields[] = {
	FIELD_AS("Detach", struct exec_config, detach, FIELD_BOOL, .doc = "Nobody is attached"),
	FIELD_AS("Tty", struct exec_config, tty, FIELD_BOOL, .doc = "Output comes without frames"),
	FIELD_AS("ConsoleSize", struct exec_config, size, FIELD_JSON, .doc = "[rows, columns] of the terminal"),
};
static const struct field_table start_table = {"docker_exec_start", "Body of exec's start", sizeof(struct exec_config), start_fields,
					       ARRAY_SIZE(start_fields), check_size};

/* [rows, columns]; 0 where it is not given. */
static void size_parse(const json_t *size, int64_t *rows, int64_t *columns) {
	*rows = json_integer_value(json_array_get(size, 0));
	*columns = json_integer_value(json_array_get(size, 1));
}

/* ---- create ---- */

/* Why no command can be executed in it, in Docker's words; NULL: it can. */
static char *refusal(const struct instance *i) {
	if (str_same(i->status.state, "running"))
		return NULL;
	if (str_same(i->status.state, "paused"))
		return str_format("Container %s is paused, unpause the container before exec", i->spec.name);
	if (str_same(i->status.state, "restarting"))
		return str_format("Container %s is restarting, wait until the container is running", i->id);
	return str_format("Container %s is not running", i->id);
}

/* What an exec remembers for its start and for who asks. */
static char *note_of(const struct exec_config *config) {
	_cleanup_(json_free_ptr) json_t *note = json_object();
	json_set_str(note, "keys", config->keys ? config->keys : "");
	json_set_bool(note, "out", config->out);
	json_set_bool(note, "errors", config->errors);
	return json_print(note);
}

static void create(struct http_request *req, const struct exec_config *config) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL;
	_cleanup_(free_ptr) char *id = NULL, *note = note_of(config);
	struct detach_keys keys;
	const char *name = http_param(req, "id");
	if (detach_keys_parse(config->keys, &keys, &err) < 0)
		return fail(req, &err);
	if (!strv_len(config->command))
		return docker_fail(req, 400, "No exec command specified");
	if (!docker_container(req, name, &snap))
		return;
	_cleanup_(free_ptr) char *why_not = refusal(&snap->instance);
	if (why_not)
		return docker_fail(req, 409, "%s", why_not);
	struct msg_exec_start spec = {
		.command = config->command,
		.env = config->env,
		.user = config->user && *config->user ? config->user : NULL,
		.workdir = config->workdir && *config->workdir ? config->workdir : NULL,
		.tty = config->tty,
		.stdin_open = config->in,
		.privileged = config->privileged,
	};
	size_parse(config->size, &spec.rows, &spec.columns);
	if (exec_create(core_of(req), DOCKER_PROJECT, snap->instance.id, &spec, note, &id, &err) < 0)
		return docker_container_fail(req, name, &err);
	_cleanup_(json_free_ptr) json_t *answer = json_object();
	json_set_str(answer, "Id", id);
	http_reply_json(req, 201, answer);
}

void docker_exec_create(struct http_request *req) {
	struct exec_config config;
	if (!docker_parse(req, &exec_table, &config))
		return;
	create(req, &config);
	fields_free(&exec_table, &config);
}

/* ---- start ---- */

static bool exec_known(struct http_request *req, struct exec_info *info) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	if (exec_get(core_of(req), DOCKER_PROJECT, http_param(req, "id"), info, &err) == 0)
		return true;
	if (err.kind != ERROR_NOT_FOUND)
		fail(req, &err);
	else
		docker_fail(req, 404, "No such exec instance: %s", http_param(req, "id"));
	return false;
}

/* What runc says behind dockerd, by which clients tell 126 and 127. */
static char *start_failure(const struct error *err) {
	if (err->kind != ERROR_NO_COMMAND && err->kind != ERROR_NO_EXEC)
		return str_copy(error_text(err));
	char *text = str_format("OCI runtime exec failed: exec failed: unable to start container process: %s: unknown",
				error_text(err));
	docker_lower_reason(text);
	return text;
}

static void start_detached(struct http_request *req, const struct exec_info *info, const struct exec_start *how) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	int fd;
	if (exec_start(core_of(req), DOCKER_PROJECT, info->id, how, &fd, &err) == 0)
		return http_reply_empty(req, 200);
	_cleanup_(free_ptr) char *text = start_failure(&err);
	if (err.kind == ERROR_CONFLICT)
		docker_fail(req, 409, "Error: Exec command %s has already run", info->id);
	else
		docker_fail(req, docker_statuses[err.kind], "%s", text);
}

/* The connection is the client's stream before the start is tried: why that failed is told there. */
static void start_attached(struct http_request *req, const struct exec_info *info, const struct exec_start *how, bool tty) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(json_free_ptr) json_t *note = json_parse(info->note, strlen(info->note), NULL);
	_cleanup_(buf_free) struct buf early = BUF_INIT;
	_cleanup_(close_fd) int fd = -1, client = -1;
	struct stream_want want = {
		.core = core_of(req),
		.tty = tty,
		.in = info->spec.stdin_open,
		.out = json_get_bool(note, "out"),
		.errors = json_get_bool(note, "errors"),
	};
	snprintf(want.id, sizeof want.id, "%s", info->instance_id);
	snprintf(want.exec_id, sizeof want.exec_id, "%s", info->id);
	detach_keys_parse(json_get_str(note, "keys"), &want.keys, NULL);
	int r = exec_start(core_of(req), DOCKER_PROJECT, info->id, how, &fd, &err);
	client = stream_hijack(req, tty, &early);
	if (client >= 0 && r == 0)
		return stream_relay(req, TAKE_FD(client), &early, TAKE_FD(fd), &want);
	if (client < 0 || r == 0)
		return;
	_cleanup_(free_ptr) char *text = start_failure(&err), *line = str_format("%s\r\n", text);
	stream_say(client, tty, 1, line, strlen(line));
}

static void start(struct http_request *req, const struct exec_info *info, const struct exec_config *config) {
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL;
	if (instance_get(core_of(req), DOCKER_PROJECT, info->instance_id, &snap, NULL) < 0)
		return docker_fail(req, 404, "No such exec instance: %s", info->id);
	_cleanup_(free_ptr) char *why_not = refusal(&snap->instance);
	if (why_not)
		return docker_fail(req, 409, "%s", why_not);
	if (info->started)
		return docker_fail(req, 409, info->running ? "Error: Exec command %s is already running"
							   : "Error: Exec command %s has already run", info->id);
	struct exec_start how = {.detach = config->detach};
	size_parse(config->size, &how.rows, &how.columns);
	if (config->detach)
		start_detached(req, info, &how);
	else
		start_attached(req, info, &how, config->tty);
}

void docker_exec_start(struct http_request *req) {
	struct exec_config config;
	struct exec_info info;
	if (!exec_known(req, &info))
		return;
	if (docker_parse(req, &start_table, &config)) {
		start(req, &info, &config);
		fields_free(&start_table, &config);
	}
	exec_info_free(&info);
}

/* ---- resize and inspect ---- */

static bool size_of_query(struct http_request *req, int64_t *rows, int64_t *columns) {
	const char *h = http_query(req, "h"), *w = http_query(req, "w");
	if (!h || !*h || !w || !*w) {
		docker_fail(req, 400, "strconv.Atoi: parsing \"\": invalid syntax");
		return false;
	}
	return docker_query_int(req, "h", 0, rows) && docker_query_int(req, "w", 0, columns);
}

void docker_exec_resize(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct exec_info info;
	int64_t rows, columns;
	if (!size_of_query(req, &rows, &columns) || !exec_known(req, &info))
		return;
	if (info.exit_code >= 0)
		docker_fail(req, 409, "cannot resize a stopped exec: %s", info.id);
	else if (exec_resize(core_of(req), DOCKER_PROJECT, info.id, rows, columns, &err) < 0)
		fail(req, &err);
	else
		http_reply_empty(req, 200);
	exec_info_free(&info);
}

void docker_resize(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL;
	const char *name = http_param(req, "id");
	int64_t rows, columns;
	if (!size_of_query(req, &rows, &columns) || !docker_container(req, name, &snap))
		return;
	if (instance_resize(core_of(req), DOCKER_PROJECT, snap->instance.id, rows, columns, &err) == 0)
		return http_reply_empty(req, 200);
	if (err.kind == ERROR_CONFLICT)
		docker_fail(req, 409, "Container %s is not running", snap->instance.id);
	else
		docker_container_fail(req, name, &err);
}

static json_t *process_config(const struct msg_exec_start *spec) {
	json_t *p = json_object();
	json_set_bool(p, "tty", spec->tty);
	json_set_str(p, "entrypoint", spec->command[0]);
	json_object_set_new(p, "arguments", json_from_strv(spec->command + 1));
	json_set_bool(p, "privileged", spec->privileged);
	json_set_str(p, "user", spec->user);
	return p;
}

void docker_exec_inspect(struct http_request *req) {
	struct exec_info info;
	if (!exec_known(req, &info))
		return;
	_cleanup_(json_free_ptr) json_t *answer = json_object(),
				 *note = json_parse(info.note ? info.note : "{}", info.note ? strlen(info.note) : 2, NULL);
	const char *keys = json_get_str(note, "keys");
	json_set_str(answer, "ID", info.id);
	json_set_bool(answer, "Running", info.running);
	json_object_set_new(answer, "ExitCode", info.exit_code >= 0 ? json_integer(info.exit_code) : json_null());
	json_object_set_new(answer, "ProcessConfig", process_config(&info.spec));
	json_set_bool(answer, "OpenStdin", info.spec.stdin_open);
	json_set_bool(answer, "OpenStderr", json_get_bool(note, "errors"));
	json_set_bool(answer, "OpenStdout", json_get_bool(note, "out"));
	json_set_bool(answer, "CanRemove", false);
	json_set_str(answer, "ContainerID", info.instance_id);
	json_set_str(answer, "DetachKeys", keys ? keys : "");
	json_set_int(answer, "Pid", info.pid);
	http_reply_json(req, 200, answer);
	exec_info_free(&info);
}
