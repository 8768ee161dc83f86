/* wabe logs */
#include "cli/cli.h"

#include "shim/protocol.h"

#include <inttypes.h>
#include <unistd.h>

struct options {
	bool follow, timestamps;
	char *tail, *since, *until;
};

static const struct option_row options[] = {
	OPTION(struct options, follow, BOOL, "follow,f", .doc = "Goes on as output comes"),
	OPTION(struct options, tail, STRING, "tail,n", .placeholder = "N", .def = "all", .doc = "Only the last lines"),
	OPTION(struct options, since, STRING, "since", .placeholder = "TIME",
	       .doc = "From then on: a time, or 10m ago"),
	OPTION(struct options, until, STRING, "until", .placeholder = "TIME", .doc = "Up to then"),
	OPTION(struct options, timestamps, BOOL, "timestamps,t", .doc = "A time before each line"),
	{0},
};

struct reader {
	struct buf rest;
	struct error err;
};

static int write_frame(int type, const char *data, size_t n, struct error *err) {
	if (type != SHIM_STDOUT && type != SHIM_STDERR)
		return 0;
	FILE *to = type == SHIM_STDOUT ? stdout : stderr;
	if (fwrite(data, 1, n, to) != n || fflush(to) != 0)
		return error_errno(err, errno, "cannot write the output");
	return 0;
}

static int take_frames(const char *data, size_t n, void *arg) {
	struct reader *reader = arg;
	buf_add(&reader->rest, data, n);
	size_t at = 0;
	int r = 0;
	while (r == 0 && reader->rest.len - at >= SHIM_HEADER) {
		const uint8_t *h = (const uint8_t *)reader->rest.data + at;
		size_t len = shim_length(h);
		if (len > SHIM_FRAME_MAX)
			return error_set(&reader->err, ERROR_CORRUPT, "the log has a frame of %zu bytes", len);
		if (reader->rest.len - at < SHIM_HEADER + len)
			break;
		r = write_frame(h[0], (const char *)h + SHIM_HEADER, len, &reader->err);
		at += SHIM_HEADER + len;
	}
	buf_consume(&reader->rest, at);
	return r;
}

static int make_path(const struct invocation *in, char **path, struct error *err) {
	const struct options *o = in->options;
	_cleanup_(free_ptr) char *since = NULL, *until = NULL;
	int r = o->since ? parse_when(o->since, &since, err) : 0;
	if (r == 0 && o->until)
		r = parse_when(o->until, &until, err);
	*path = api_path(in, "/instances/%s/logs?stdout=true&stderr=true", in->args[0]);
	path_query(path, "follow", o->follow ? "true" : NULL);
	path_query(path, "timestamps", o->timestamps ? "true" : NULL);
	path_query(path, "tail", o->tail);
	path_query(path, "since", since);
	path_query(path, "until", until);
	return r;
}

static int show(const struct invocation *in, const char *path, struct error *err) {
	struct reader reader = {0};
	int r = client_stream(in->client, "GET", path, NULL, take_frames, &reader, err);
	buf_free(&reader.rest);
	return reader.err.kind ? error_move(err, &reader.err) : r;
}

int logs_show_last(const struct invocation *in, const char *name, int64_t lines, struct error *err) {
	_cleanup_(free_ptr) char *tail = str_format("%" PRId64, lines);
	_cleanup_(free_ptr) char *path = api_path(in, "/instances/%s/logs?stdout=true&stderr=true", name);
	path_query(&path, "tail", tail);
	return show(in, path, err);
}

static int run(struct invocation *in, struct error *err) {
	_cleanup_(free_ptr) char *path = NULL;
	int r = make_path(in, &path, err);
	return r < 0 ? r : show(in, path, err);
}

const struct command command_logs = {
	.name = "logs",
	.group = "Instances",
	.usage = "[OPTION…] INSTANCE",
	.doc = "Show an instance's output",
	.examples = "wabe logs -f --tail 20 web\nwabe logs -t --since 10m web",
	.options = options,
	.options_size = sizeof(struct options),
	.min_args = 1,
	.complete = "instance",
	.run = run,
};
