/* Routes of instances: what they are, starting and stopping, waiting. */
#include "dialect/native/instances.h"

static void drop_text(void *arg) {
	list_text_unref(arg);
}

static void list(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(strv_free_ptr) char **labels = http_query_all(req, "label");
	struct list_text *text;
	struct instance_filter f = {
		.all = query_bool(req, "all", false),
		.labels = labels,
		.state = http_query(req, "state"),
		.name = http_query(req, "name"),
	};
	if (!query_int(req, "limit", 0, &f.limit))
		return;
	_cleanup_(free_ptr) char *joined = strv_join(labels, "\n");
	_cleanup_(free_ptr) char *key = str_format("%s\n%d\n%s\n%s\n%lld\n%s", project_of(req), f.all, f.state ? f.state : "",
						   f.name ? f.name : "", (long long)f.limit, joined);
	if (instance_list(core_of(req), project_of(req), &f, key, &text, &err) < 0)
		return fail(req, &err);
	http_reply_shared(req, 200, JSON_TYPE, text->data, text->len, drop_text, text);
}

static void create(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct instance_snap *snap;
	struct instance_spec spec;
	if (!dto_parse(req, &instance_spec_table, &spec, NULL))
		return;
	if (instance_create(core_of(req), project_of(req), &spec, &snap, &err) < 0)
		return fail(req, &err);
	reply_instance(req, 201, snap);
}

static void get(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct instance_snap *snap;
	if (instance_get(core_of(req), project_of(req), name_of(req), &snap, &err) < 0)
		return fail(req, &err);
	reply_instance(req, 200, snap);
}

static void patch(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(json_free_ptr) json_t *body = http_body_json(req, &err);
	struct instance_snap *snap;
	if (!body || instance_update(core_of(req), project_of(req), name_of(req), body, &snap, &err) < 0)
		return fail(req, &err);
	reply_instance(req, 200, snap);
}

static void remove_instance(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	if (instance_delete(core_of(req), project_of(req), name_of(req), query_bool(req, "force", false), &err) < 0)
		return fail(req, &err);
	http_reply_empty(req, 204);
}

static void start(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct instance_snap *snap;
	if (instance_start(core_of(req), project_of(req), name_of(req), &snap, &err) < 0)
		return fail(req, &err);
	reply_instance(req, 200, snap);
}

typedef int (*stop_verb)(struct core *c, const char *project, const char *name, const char *signal, int64_t timeout,
			 struct instance_snap **out, struct error *err);

static void stop_by(struct http_request *req, stop_verb verb) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(json_free_ptr) json_t *body = NULL;
	struct stop_request dto;
	struct instance_snap *snap;
	if (!dto_parse(req, &stop_request_table, &dto, &body))
		return;
	int64_t timeout = json_object_get(body, "timeout") ? dto.timeout : -1;
	int r = verb(core_of(req), project_of(req), name_of(req), dto.signal, timeout, &snap, &err);
	fields_free(&stop_request_table, &dto);
	if (r < 0)
		return fail(req, &err);
	reply_instance(req, 200, snap);
}

static void stop(struct http_request *req) {
	stop_by(req, instance_stop);
}

static void restart(struct http_request *req) {
	stop_by(req, instance_restart);
}

static void kill_instance(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct kill_request dto;
	if (!dto_parse(req, &kill_request_table, &dto, NULL))
		return;
	int r = instance_kill(core_of(req), project_of(req), name_of(req), dto.signal, &err);
	fields_free(&kill_request_table, &dto);
	if (r < 0)
		return fail(req, &err);
	http_reply_empty(req, 204);
}

static void pause_by(struct http_request *req, bool on) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct instance_snap *snap;
	if (instance_pause(core_of(req), project_of(req), name_of(req), on, &snap, &err) < 0)
		return fail(req, &err);
	reply_instance(req, 200, snap);
}

static void pause_instance(struct http_request *req) {
	pause_by(req, true);
}

static void suspend(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct instance_snap *snap = NULL;
	if (instance_suspend(core_of(req), project_of(req), name_of(req), &snap, &err) < 0)
		return fail(req, &err);
	reply_instance(req, 200, snap);
}

static void unpause(struct http_request *req) {
	pause_by(req, false);
}

/* ---- wait ---- */

static bool wait_condition(struct http_request *req, enum wait_condition *out) {
	static const char *const names[] = {
		[WAIT_NOT_RUNNING] = "not-running", [WAIT_NEXT_EXIT] = "next-exit", [WAIT_REMOVED] = "removed"};
	const char *wanted = http_query(req, "condition");
	*out = WAIT_NOT_RUNNING;
	if (!wanted)
		return true;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (str_same(wanted, names[i])) {
			*out = (enum wait_condition)i;
			return true;
		}
	_cleanup_(error_free) struct error err = ERROR_INIT;
	error_field(&err, "condition", "%.64s is none of not-running, next-exit, removed", wanted);
	fail(req, &err);
	return false;
}

static void wait_done(void *arg, const struct instance_status *status, const struct error *error) {
	_cleanup_(json_free_ptr) json_t *answer = json_object();
	json_set_int(answer, "exit_code", status->exit_code);
	json_set_bool(answer, "oom_killed", status->oom_killed);
	const char *why = error ? error_text(error) : status->error;
	json_object_set_new(answer, "error", why ? json_string(why) : json_null());
	_cleanup_(free_ptr) char *text = json_print(answer);
	line_stream_push(arg, text, strlen(text));
	line_stream_end(arg, true);
}

static void wait_instance(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	enum wait_condition condition;
	if (!wait_condition(req, &condition))
		return;
	struct line_stream *s = line_stream_new(req, JSON_TYPE);
	struct wait_sink sink = {.begin = line_stream_begin, .done = wait_done, .gone = line_stream_gone, .arg = s};
	if (instance_wait(core_of(req), project_of(req), name_of(req), condition, &sink, &err) < 0) {
		line_stream_free(s);
		fail(req, &err);
	}
}

#define P "/v1/projects/{project}/instances"
#define ONE P "/{name}"
const struct native_route instance_routes[] = {
	{"GET", P, list, .summary = "Lists instances: running ones, or all", .query = "all label state name limit",
	 .what = "{\"revision\":N,\"instances\":[instance…]}", .status = 200},
	{"POST", P, create, .summary = "Makes an instance", .request = &instance_spec_table, .reply = &instance_table, .status = 201},
	{"GET", ONE, get, .summary = "One instance", .reply = &instance_table, .status = 200},
	{"PATCH", ONE, patch, .summary = "Changes the spec by a JSON merge patch; a new name renames",
	 .request = &instance_spec_table, .reply = &instance_table, .status = 200},
	{"DELETE", ONE, remove_instance, .summary = "Removes an instance; by force also a running one", .query = "force", .status = 204},
	{"POST", ONE "/start", start, .summary = "Starts it", .reply = &instance_table, .status = 200},
	{"POST", ONE "/stop", stop, .summary = "Stops it: its signal, and SIGKILL after the timeout",
	 .request = &stop_request_table, .reply = &instance_table, .status = 200},
	{"POST", ONE "/restart", restart, .summary = "Stops and starts it", .request = &stop_request_table,
	 .reply = &instance_table, .status = 200},
	{"POST", ONE "/kill", kill_instance, .summary = "Sends a signal to its first process", .request = &kill_request_table, .status = 204},
	{"POST", ONE "/pause", pause_instance, .summary = "Freezes all its processes", .reply = &instance_table, .status = 200},
	{"POST", ONE "/suspend", suspend, .summary = "Saves a machine's memory and ends it; a start goes on from there",
	 .reply = &instance_table, .status = 200},
	{"POST", ONE "/unpause", unpause, .summary = "Lets them go on", .reply = &instance_table, .status = 200},
	{"POST", ONE "/wait", wait_instance, .summary = "Waits for its end; headers come at once", .query = "condition",
	 .what = "{\"exit_code\":N,\"oom_killed\":false,\"error\":null}", .status = 200},
	{"POST", ONE "/attach", native_attach, .summary = "Its standard streams", .query = "stdin stdout stderr",
	 .what = "upgrade to wabe-stream, see src/shim/protocol.h", .status = 101},
	{"GET", ONE "/logs", native_logs, .summary = "What it has written", .query = "follow tail since until timestamps stdout stderr",
	 .what = "application/vnd.wabe.stream: frames of types 1 and 2 of src/shim/protocol.h", .status = 200},
	{"GET", ONE "/top", native_top, .summary = "Its processes", .reply = &msg_processes_table, .status = 200},
	{"GET", ONE "/stats", native_stats, .summary = "What it uses; as a stream one line a second", .query = "stream",
	 .reply = &msg_stats_table, .status = 200},
	{"GET", ONE "/changes", native_changes, .summary = "How its files differ from its image's", .what = "{\"changes\":[{\"kind\":\"added|changed|deleted\",\"path\":…}…]}", .status = 200},
	{"GET", ONE "/archive", native_archive_get, .summary = "A tar of a path inside; header Wabe-File tells what it is",
	 .query = "path", .what = "tar", .status = 200},
	{"PUT", ONE "/archive", native_archive_put, HTTP_STREAM_BODY, .summary = "Unpacks a tar into a directory inside",
	 .query = "path keep_owner no_overwrite_dir", .status = 204},
	{"GET", ONE "/export", native_export, .summary = "A tar of its whole root; format ova: of a machine that does not run, its hardware and disks",
	 .query = "format", .what = "tar", .status = 200},
	{"POST", ONE "/convert", native_convert, .summary = "Makes a container's image of the Linux system on the disk of a machine that does not run",
	 .request = &convert_request_table, .reply = &image_table, .status = 200},
	{"POST", ONE "/commit", native_commit, .summary = "Makes an image of its image and its changes",
	 .request = &commit_request_table, .reply = &image_table, .status = 200},
	{"POST", ONE "/exec", native_exec, .summary = "Runs a further process in it", .request = &exec_request_table,
	 .what = "upgrade to wabe-stream with header Wabe-Exec, or with detach 201 and {\"id\":…}", .status = 101},
	{"GET", ONE "/exec/{exec}", native_exec_state, .summary = "Whether such a process runs, or how it ended",
	 .reply = &msg_exec_state_table, .status = 200},
	{"POST", ONE "/exec/{exec}/attach", native_exec_attach, .summary = "Its standard streams",
	 .what = "upgrade to wabe-stream", .status = 101},
	{0},
};
