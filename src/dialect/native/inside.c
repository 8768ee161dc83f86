/* Routes that reach into an instance: attach, exec, logs, statistics, files. */
#include "core/logs.h"
#include "dialect/native/instances.h"

#include <arpa/inet.h>
#include <unistd.h>

#define STREAM_PROTOCOL "wabe-stream"

void native_attach(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	int fd;
	bool in = query_bool(req, "stdin", false), out = query_bool(req, "stdout", true), errors = query_bool(req, "stderr", true);
	if (instance_attach(core_of(req), project_of(req), name_of(req), in, out, errors, &fd, &err) < 0)
		return fail(req, &err);
	http_upgrade_relay(req, STREAM_PROTOCOL, fd);
}

/* ---- exec ---- */

static void exec_answer(struct http_request *req, const char *id, int fd) {
	if (fd >= 0) {
		http_reply_header(req, "Wabe-Exec", id);
		return http_upgrade_relay(req, STREAM_PROTOCOL, fd);
	}
	_cleanup_(json_free_ptr) json_t *answer = json_object();
	json_set_str(answer, "id", id);
	http_reply_json(req, 201, answer);
}

void native_exec(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct exec_request dto;
	int fd;
	if (!dto_parse(req, &exec_request_table, &dto, NULL))
		return;
	struct msg_exec_start spec = {
		.command = dto.command,
		.env = dto.env,
		.user = dto.user,
		.workdir = dto.workdir,
		.tty = dto.tty,
		.stdin_open = dto.stdin_open,
		.privileged = dto.privileged,
		.detach = dto.detach,
		.rows = dto.rows,
		.columns = dto.columns,
	};
	if (instance_exec(core_of(req), project_of(req), name_of(req), &spec, &fd, &err) < 0)
		fail(req, &err);
	else
		exec_answer(req, spec.exec_id, fd);
	free(spec.id);
	free(spec.exec_id);
	fields_free(&exec_request_table, &dto);
}

void native_exec_state(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct msg_exec_state state;
	if (instance_exec_state(core_of(req), project_of(req), name_of(req), http_param(req, "exec"), &state, &err) < 0)
		return fail(req, &err);
	reply_table(req, 200, &msg_exec_state_table, &state);
	fields_free(&msg_exec_state_table, &state);
}

void native_exec_attach(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	int fd;
	if (instance_exec_attach(core_of(req), project_of(req), name_of(req), http_param(req, "exec"), &fd, &err) < 0)
		return fail(req, &err);
	http_upgrade_relay(req, STREAM_PROTOCOL, fd);
}

/* ---- logs ---- */

struct log_stream {
	struct line_stream *lines;
	bool timestamps;
};

static void log_begin(void *arg) {
	line_stream_begin(((struct log_stream *)arg)->lines);
}

static void log_entry(void *arg, const struct log_entry *e) {
	struct log_stream *s = arg;
	struct buf *b = &s->lines->pending;
	size_t stamp = s->timestamps ? e->time_len + 1 : 0;
	uint32_t length = htonl((uint32_t)(stamp + e->len + !e->partial));
	char header[8] = {(char)e->stream};
	memcpy(header + 4, &length, sizeof length);
	buf_add(b, header, sizeof header);
	if (stamp) {
		buf_add(b, e->time_text, e->time_len);
		buf_addc(b, ' ');
	}
	buf_add(b, e->text, e->len);
	if (!e->partial)
		buf_addc(b, '\n');
}

static int log_flush(void *arg, bool block) {
	struct line_stream *s = ((struct log_stream *)arg)->lines;
	if (!s->stream)
		return -EPIPE;
	if (s->pending.len == 0)
		return 0;
	int r = block ? http_stream_write(s->stream, s->pending.data, s->pending.len)
		      : http_stream_push(s->stream, s->pending.data, s->pending.len);
	if (r == 0)
		buf_truncate(&s->pending, 0);
	return r;
}

static bool log_gone(void *arg) {
	return line_stream_gone(((struct log_stream *)arg)->lines);
}

static void log_end(void *arg, bool complete) {
	struct log_stream *s = arg;
	line_stream_end(s->lines, complete);
	free(s);
}

static bool log_filter(struct http_request *req, struct log_filter *f) {
	const char *tail = http_query(req, "tail");
	*f = (struct log_filter){
		.want_stdout = query_bool(req, "stdout", true),
		.want_stderr = query_bool(req, "stderr", true),
		.follow = query_bool(req, "follow", false),
		.tail = -1,
	};
	if (!query_time(req, "since", &f->since) || !query_time(req, "until", &f->until))
		return false;
	return !tail || str_same(tail, "all") || query_int(req, "tail", -1, &f->tail);
}

void native_logs(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct log_filter filter;
	if (!log_filter(req, &filter))
		return;
	struct log_stream *s = NEW(struct log_stream);
	s->lines = line_stream_new(req, "application/vnd.wabe.stream");
	s->timestamps = query_bool(req, "timestamps", false);
	struct log_sink sink = {
		.begin = log_begin, .entry = log_entry, .flush = log_flush, .gone = log_gone, .end = log_end, .arg = s};
	if (instance_logs(core_of(req), project_of(req), name_of(req), &filter, &sink, &err) < 0) {
		line_stream_free(s->lines);
		free(s);
		fail(req, &err);
	}
}

/* ---- statistics ---- */

void native_top(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct msg_processes top;
	if (instance_top(core_of(req), project_of(req), name_of(req), &top, &err) < 0)
		return fail(req, &err);
	reply_table(req, 200, &msg_processes_table, &top);
	fields_free(&msg_processes_table, &top);
}

static int stats_line(struct http_request *req, struct http_stream *s, const char *project, const char *name) {
	struct msg_stats stats;
	if (instance_stats(core_of(req), project, name, &stats, NULL) < 0)
		return -EPIPE;
	_cleanup_(json_free_ptr) json_t *json = fields_print(&msg_stats_table, &stats);
	_cleanup_(free_ptr) char *text = json_print(json);
	_cleanup_(free_ptr) char *line = str_format("%s\n", text);
	fields_free(&msg_stats_table, &stats);
	return http_stream_write(s, line, strlen(line));
}

static void stats_stream(struct http_request *req) {
	struct http_stream *s = http_stream_begin(req, 200, "application/jsonl");
	if (!s)
		return;
	while (stats_line(req, s, project_of(req), name_of(req)) == 0 && !http_stream_gone(s))
		sleep(1);
	http_stream_end(s, true);
}

void native_stats(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct msg_stats stats;
	if (instance_stats(core_of(req), project_of(req), name_of(req), &stats, &err) < 0)
		return fail(req, &err);
	if (query_bool(req, "stream", false))
		stats_stream(req);
	else
		reply_table(req, 200, &msg_stats_table, &stats);
	fields_free(&msg_stats_table, &stats);
}

static void add_change(char kind, const char *path, void *arg) {
	struct buf *text = arg;
	_cleanup_(json_free_ptr) json_t *change = json_object();
	json_set_str(change, "kind", kind == 'A' ? "added" : kind == 'D' ? "deleted" : "changed");
	json_set_str(change, "path", path);
	_cleanup_(free_ptr) char *one = json_print(change);
	buf_adds(text, text->len ? "," : "{\"changes\":[");
	buf_adds(text, one);
}

void native_changes(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	if (instance_diff(core_of(req), project_of(req), name_of(req), add_change, &text, &err) < 0)
		return fail(req, &err);
	buf_adds(&text, text.len ? "]}" : "{\"changes\":[]}");
	reply_text(req, 200, text.data, text.len);
}

/* ---- files ---- */

static void file_header(struct http_request *req, struct msg_file *file) {
	_cleanup_(json_free_ptr) json_t *json = fields_print(&msg_file_table, file);
	_cleanup_(free_ptr) char *text = json_dumps(json, JSON_COMPACT | JSON_ENSURE_ASCII);
	http_reply_header(req, "Wabe-File", text);
	fields_free(&msg_file_table, file);
}

void native_archive_get(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct msg_file file;
	int fd;
	const char *path = http_query(req, "path");
	if (str_same(http_method(req), "HEAD")) {
		if (instance_archive_stat(core_of(req), project_of(req), name_of(req), path, &file, &err) < 0)
			return fail(req, &err);
		file_header(req, &file);
		return http_reply(req, 200, TAR_TYPE, "", 0);
	}
	if (instance_archive_get(core_of(req), project_of(req), name_of(req), path, &file, &fd, &err) < 0)
		return fail(req, &err);
	file_header(req, &file);
	reply_stream_fd(req, TAR_TYPE, fd);
}

static int put_body(int fd, void *arg, struct error *err) {
	struct http_request *req = arg;
	return instance_archive_put(core_of(req), project_of(req), name_of(req), http_query(req, "path"),
				    query_bool(req, "keep_owner", false), query_bool(req, "no_overwrite_dir", false), fd, err);
}

void native_archive_put(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	if (with_body(req, put_body, req, &err) < 0)
		return fail(req, &err);
	http_reply_empty(req, 204);
}

static int export_ova_to(int fd, void *arg, struct error *err) {
	struct http_request *req = arg;
	return instance_export_ova(core_of(req), project_of(req), name_of(req), fd, err);
}

void native_export(struct http_request *req) {
	const char *format = http_query(req, "format");
	if (str_same(format, "ova"))
		return reply_written(req, TAR_TYPE, export_ova_to, req);
	_cleanup_(error_free) struct error err = ERROR_INIT;
	int fd;
	if (instance_export(core_of(req), project_of(req), name_of(req), &fd, &err) < 0)
		return fail(req, &err);
	reply_stream_fd(req, TAR_TYPE, fd);
}

void native_convert(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct convert_request dto;
	struct image_snap *snap;
	if (!dto_parse(req, &convert_request_table, &dto, NULL))
		return;
	int r = instance_convert(core_of(req), project_of(req), name_of(req), dto.name, dto.comment, &snap, &err);
	fields_free(&convert_request_table, &dto);
	if (r < 0)
		return fail(req, &err);
	reply_image(req, 200, snap);
}

void native_commit(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct commit_request dto;
	struct image_snap *snap;
	if (!dto_parse(req, &commit_request_table, &dto, NULL))
		return;
	struct commit_options o = {dto.name, dto.comment, dto.author, dto.pause, dto.config};
	int r = instance_commit(core_of(req), project_of(req), name_of(req), &o, &snap, &err);
	fields_free(&commit_request_table, &dto);
	if (r < 0)
		return fail(req, &err);
	reply_image(req, 200, snap);
}
