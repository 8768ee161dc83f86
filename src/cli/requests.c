/* Requests as the commands make them. */
#include "cli/cli.h"

#include "base/fs.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

char *api_path(const struct invocation *in, const char *fmt, ...) {
	va_list ap;
	va_start(ap, fmt);
	_cleanup_(free_ptr) char *rest = client_vpath(fmt, ap), *head = client_path("/v1/projects/%s", in->project);
	va_end(ap);
	return str_format("%s%s", head, rest);
}

int api_call(const struct invocation *in, const char *method, char *path, const json_t *body, json_t **reply,
	     struct error *err) {
	int r = client_call(in->client, method, path, body, reply, err);
	free(path);
	return r;
}

int api_make(const struct invocation *in, char *path, const json_t *body, struct error *err) {
	_cleanup_(json_free_ptr) json_t *made = NULL;
	int r = api_call(in, "POST", path, body, &made, err);
	if (r == 0 && json_get_str(made, "id"))
		puts(json_get_str(made, "id"));
	return r;
}

void path_query(char **path, const char *key, const char *value) {
	if (!value)
		return;
	_cleanup_(free_ptr) char *encoded = client_path("%s=%s", key, value);
	char *joined = str_format("%s%c%s", *path, strchr(*path, '?') ? '&' : '?', encoded);
	free(*path);
	*path = joined;
}

struct lines {
	struct buf rest;
	int (*fn)(const json_t *line, void *arg);
	void *arg;
	struct error err;
};

static int take_line(struct lines *l, const char *text, size_t n) {
	if (!n)
		return 0;
	_cleanup_(json_free_ptr) json_t *line = json_parse(text, n, &l->err);
	return line ? l->fn(line, l->arg) : -1;
}

static int take_lines(const char *data, size_t n, void *arg) {
	struct lines *l = arg;
	buf_add(&l->rest, data, n);
	char *end;
	while (l->rest.len && (end = memchr(l->rest.data, '\n', l->rest.len))) {
		size_t len = (size_t)(end - l->rest.data);
		if (take_line(l, l->rest.data, len) < 0)
			return -1;
		buf_consume(&l->rest, len + 1);
	}
	return buf_overflowed(&l->rest) ? -1 : 0;
}

int api_lines(const struct invocation *in, const char *method, char *path, const json_t *body,
	      int (*fn)(const json_t *line, void *arg), void *arg, struct error *err) {
	struct lines l = {.rest = BUF_INIT_MAX((size_t)4 << 20), .fn = fn, .arg = arg};
	int r = client_stream(in->client, method, path, body, take_lines, &l, err);
	if (r == 0 && take_line(&l, buf_str(&l.rest), l.rest.len) < 0)
		r = error_set(err, ERROR_CANCELLED, "stopped");
	if (l.err.kind)
		r = error_move(err, &l.err);
	buf_free(&l.rest);
	free(path);
	return r;
}

int api_each(const struct invocation *in, const char *method, const char *fmt, const json_t *body, bool quiet) {
	int status = 0;
	for (char **name = in->args; name && *name; name++) {
		_cleanup_(error_free) struct error err = ERROR_INIT;
		if (api_call(in, method, api_path(in, fmt, *name), body, NULL, &err) < 0) {
			print_error(&err);
			status = EXIT_WABE;
		} else if (!quiet) {
			puts(*name);
		}
	}
	return status;
}

int show_each(const struct invocation *in, const char *fmt,
	      void (*more)(const struct invocation *in, const char *name, json_t *object)) {
	int status = 0;
	for (char **name = in->args; *name; name++) {
		_cleanup_(error_free) struct error err = ERROR_INIT;
		_cleanup_(json_free_ptr) json_t *object = NULL;
		if (api_call(in, "GET", api_path(in, fmt, *name), NULL, &object, &err) < 0) {
			print_error(&err);
			status = EXIT_WABE;
		} else {
			if (more)
				more(in, *name, object);
			print_json(object);
		}
	}
	return status;
}

char *snapshot_path(const struct invocation *in, bool volume, const char *rest) {
	_cleanup_(free_ptr) char *head = api_path(in, volume ? "/volumes/%s/snapshots" : "/instances/%s/snapshots", in->args[0]);
	return str_format("%s%s", head, rest);
}

int task_result(const struct invocation *in, char *path, const json_t *body, bool quiet, char **result,
		struct error *err) {
	_cleanup_(json_free_ptr) json_t *task = NULL, *final = NULL;
	int r = api_call(in, "POST", path, body, &task, err);
	if (r == 0)
		r = json_get_str(task, "id") ? task_wait(in, json_get_str(task, "id"), quiet, &final, err)
					     : error_set(err, ERROR_CORRUPT, "the daemon's answer has no task");
	if (r == 0 && result)
		*result = str_copy(json_get_str(final, "result") ? json_get_str(final, "result") : "");
	return r;
}

int run_task(const struct invocation *in, char *path, const json_t *body, const char *name, struct error *err) {
	_cleanup_(free_ptr) char *result = NULL;
	int r = task_result(in, path, body, false, &result, err);
	if (r == 0)
		puts(name ? name : result);
	return r;
}

void print_error(const struct error *err) {
	fflush(stdout);
	_cleanup_(free_ptr) char *field = err->field ? str_format("%s: ", err->field) : str_copy("");
	_cleanup_(buf_free) struct buf b = BUF_INIT;
	for (const char *s = error_text(err); *s; s++) /* what others wrote must not steer the terminal */
		buf_addc(&b, ((unsigned char)*s < ' ' && *s != '\n') || *s == 0x7f ? '?' : *s);
	fprintf(stderr, "wabe: %s%s\n", field, buf_str(&b));
}

void print_json(const json_t *value) {
	_cleanup_(free_ptr) char *text = json_dumps(value, JSON_INDENT(2) | JSON_ENCODE_ANY);
	if (text)
		puts(text);
}

static int to_buf(const char *data, size_t n, void *arg) {
	buf_add(arg, data, n);
	return buf_overflowed(arg) ? -1 : 0;
}

int print_member(const struct invocation *in, char *path, const char *key, struct error *err) {
	_cleanup_(free_ptr) char *owned = path;
	_cleanup_(buf_free) struct buf reply = BUF_INIT, text = BUF_INIT;
	int r = client_stream(in->client, "GET", path, NULL, to_buf, &reply, err);
	if (r < 0)
		return r;
	struct str value;
	if (!json_text_member((struct str){buf_str(&reply), reply.len}, key, &value))
		return error_set(err, ERROR_CORRUPT, "the daemon's answer has no %s", key);
	json_text_indent(value, &text);
	buf_addc(&text, '\n');
	r = fwrite(text.data, text.len, 1, stdout) == 1 ? 0 : -errno;
	return r < 0 ? error_errno(err, r, "cannot write") : 0;
}

static int to_fd(const char *data, size_t n, void *arg) {
	return fs_write_all(*(int *)arg, data, n);
}

int download(const struct invocation *in, char *path, const char *file, struct error *err) {
	return download_by(in, "GET", path, file, err);
}

int download_by(const struct invocation *in, const char *method, char *path, const char *file, struct error *err) {
	_cleanup_(free_ptr) char *owned = path;
	int out = file ? open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)
		       : fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
	if (out < 0)
		return error_errno(err, errno, "cannot write %s", file ? file : "to standard output");
	_cleanup_(close_fd) int fd = out;
	if (!file && isatty(fd))
		return error_set(err, ERROR_INVALID, "an archive is not for a terminal: use -o FILE");
	int r = client_stream(in->client, method, path, NULL, to_fd, &fd, err);
	if (r < 0 && file)
		unlink(file);
	return r;
}

int open_input(const char *file, struct error *err) {
	int fd = strcmp(file, "-") == 0 ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3) : open(file, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return error_errno(err, errno, "cannot read %s", file);
	struct stat st;
	if (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode)) {
		close(fd);
		return error_set(err, ERROR_INVALID, "%s is a directory: pack it first, as with tar -C %s -cf FILE .", file, file);
	}
	if (isatty(fd)) {
		close(fd);
		return error_set(err, ERROR_INVALID, "give a file: an archive is not typed in");
	}
	return fd;
}
