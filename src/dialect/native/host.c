/* Routes of the daemon itself, of tasks and of events. */
#include "core/events.h"
#include "core/tasks.h"
#include "dialect/native/native-priv.h"

static void version(struct http_request *req) {
	_cleanup_(json_free_ptr) json_t *answer = json_object();
	json_set_str(answer, "version", WABE_VERSION);
	json_t *revisions = json_array();
	json_array_append_new(revisions, json_string("v1"));
	json_object_set_new(answer, "api", revisions);
	http_reply_json(req, 200, answer);
}

static void openapi(struct http_request *req) {
	_cleanup_(json_free_ptr) json_t *document = openapi_document();
	http_reply_json(req, 200, document);
}

static void info(struct http_request *req) {
	_cleanup_(json_free_ptr) json_t *answer = core_info(core_of(req));
	http_reply_json(req, 200, answer);
}

static void shutdown_daemon(struct http_request *req) {
	struct shutdown_request dto;
	if (!dto_parse(req, &shutdown_request_table, &dto, NULL))
		return;
	_cleanup_(error_free) struct error err = ERROR_INIT;
	if (core_shutdown(core_of(req), dto.timeout, &err) < 0)
		return fail(req, &err);
	http_reply_json(req, 200, json_null());
}

/* ---- tasks ---- */

static void tasks(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	if (core_project_check(core_of(req), project_of(req), &err) < 0)
		return fail(req, &err);
	_cleanup_(free_ptr) char *text = task_list(core_of(req), project_of(req));
	reply_text(req, 200, text, strlen(text));
}

static void task_by(struct http_request *req,
		    int (*verb)(struct core *c, const char *project, const char *id, char **json, struct error *err)) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(free_ptr) char *text = NULL;
	if (verb(core_of(req), project_of(req), http_param(req, "id"), &text, &err) < 0)
		return fail(req, &err);
	reply_text(req, 200, text, strlen(text));
}

static void task(struct http_request *req) {
	task_by(req, task_get);
}

static void cancel(struct http_request *req) {
	task_by(req, task_cancel);
}

static int push_task(void *arg, const char *json, size_t len) {
	return line_stream_push(arg, json, len);
}

static void task_wait(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct line_stream *s = line_stream_new(req, "application/jsonl");
	struct task_sink sink = {
		.begin = line_stream_begin, .task = push_task, .gone = line_stream_gone, .end = line_stream_end, .arg = s};
	if (task_follow(core_of(req), project_of(req), http_param(req, "id"), &sink, &err) < 0) {
		line_stream_free(s);
		fail(req, &err);
	}
}

/* ---- events ---- */

static int push_event(void *arg, const struct event *e UNUSED, const char *json, size_t len) {
	return line_stream_push(arg, json, len);
}

static void events(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct event_filter f = {
		.project = project_of(req), .type = http_query(req, "type"), .instance = http_query(req, "instance")};
	if (!query_int(req, "from", 0, &f.from) || !query_time(req, "since", &f.since) || !query_time(req, "until", &f.until))
		return;
	struct line_stream *s = line_stream_new(req, "application/jsonl");
	struct event_sink sink = {
		.begin = line_stream_begin, .event = push_event, .gone = line_stream_gone, .end = line_stream_end, .arg = s};
	if (events_follow(core_of(req), &f, query_bool(req, "follow", false), &sink, &err) < 0) {
		line_stream_free(s);
		fail(req, &err);
	}
}

#define P "/v1/projects/{project}"
const struct native_route host_routes[] = {
	{"GET", "/v1", version, .summary = "Version of the program and revisions of the API", .what = "{\"version\":…,\"api\":[\"v1\"]}", .status = 200},
	{"GET", "/v1/openapi.json", openapi, .summary = "This description", .what = "an OpenAPI 3.1 document", .status = 200},
	{"GET", "/v1/info", info, .summary = "The host, its abilities, and how much there is", .what = "an object", .status = 200},
	{"POST", "/v1/shutdown", shutdown_daemon, .summary = "Stops all instances, answers, and ends the daemon",
	 .request = &shutdown_request_table, .what = "null", .status = 200},
	{"GET", P "/tasks", tasks, .summary = "Running tasks, and those that ended lately", .what = "{\"tasks\":[task…]}", .status = 200},
	{"GET", P "/tasks/{id}", task, .summary = "One task", .reply = &task_table, .status = 200},
	{"GET", P "/tasks/{id}/wait", task_wait, .summary = "The task at each change, a JSON line each; the last one is final",
	 .what = "JSON lines: task", .status = 200},
	{"POST", P "/tasks/{id}/cancel", cancel, .summary = "Asks a task to stop", .reply = &task_table, .status = 200},
	{"GET", P "/events", events, .summary = "What happens, a JSON line each; goes on from a revision",
	 .query = "from follow since until type instance", .what = "JSON lines: event", .status = 200},
	{0},
};
