/* Statistics in the shape that Docker has from control groups of version 1. */
#include "dialect/docker/inside.h"

#include "base/time.h"

#include <poll.h>

static json_t *cpu_stats(const struct msg_stats *s) {
	json_t *usage = json_object(), *throttling = json_object(), *cpu = json_object();
	json_set_int(usage, "total_usage", s->cpu_ns);
	json_set_int(usage, "usage_in_kernelmode", s->cpu_system_ns);
	json_set_int(usage, "usage_in_usermode", s->cpu_user_ns);
	json_set_int(throttling, "periods", s->periods);
	json_set_int(throttling, "throttled_periods", s->throttled_periods);
	json_set_int(throttling, "throttled_time", s->throttled_ns);
	json_object_set_new(cpu, "cpu_usage", usage);
	if (s->system_cpu_ns) {
		json_set_int(cpu, "system_cpu_usage", s->system_cpu_ns);
		json_set_int(cpu, "online_cpus", s->online_cpus);
	}
	json_object_set_new(cpu, "throttling_data", throttling);
	return cpu;
}

/* inactive_file is what clients take from the usage; the other name is that of groups of version 1. */
static json_t *memory_stats(const struct msg_stats *s) {
	json_t *stats = json_object(), *memory = json_object();
	json_set_int(stats, "inactive_file", s->memory_cache);
	json_set_int(stats, "total_inactive_file", s->memory_cache);
	json_set_int(stats, "swap", s->swap);
	json_set_int(memory, "usage", s->memory);
	json_set_int(memory, "max_usage", s->memory_max);
	json_object_set_new(memory, "stats", stats);
	json_set_int(memory, "failcnt", s->memory_failures);
	json_set_int(memory, "limit", s->memory_limit);
	return memory;
}

/* Sums over all devices, whose numbers the agent does not tell. */
static json_t *blkio_list(int64_t read, int64_t write) {
	return json_pack("[{s:i, s:i, s:s, s:I}, {s:i, s:i, s:s, s:I}]", "major", 0, "minor", 0, "op", "read", "value",
			 (json_int_t)read, "major", 0, "minor", 0, "op", "write", "value", (json_int_t)write);
}

static json_t *blkio_stats(const struct msg_stats *s) {
	static const char *const without[] = {"io_queue_recursive", "io_service_time_recursive", "io_wait_time_recursive",
					      "io_merged_recursive", "io_time_recursive", "sectors_recursive", NULL};
	json_t *o = json_object();
	json_object_set_new(o, "io_service_bytes_recursive", s ? blkio_list(s->read_bytes, s->write_bytes) : json_null());
	json_object_set_new(o, "io_serviced_recursive", s ? blkio_list(s->read_ops, s->write_ops) : json_null());
	for (size_t i = 0; without[i]; i++)
		json_object_set_new(o, without[i], json_null());
	return o;
}

static json_t *networks(const struct msg_stats *s) {
	json_t *o = json_object();
	for (size_t i = 0; i < s->interfaces.n; i++) {
		const struct nic_counters *n = &s->interfaces.items[i];
		json_object_set_new(o, n->name,
				    json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "rx_bytes", (json_int_t)n->rx_bytes,
					      "rx_packets", (json_int_t)n->rx_packets, "rx_errors", (json_int_t)n->rx_errors,
					      "rx_dropped", (json_int_t)n->rx_dropped, "tx_bytes", (json_int_t)n->tx_bytes,
					      "tx_packets", (json_int_t)n->tx_packets, "tx_errors", (json_int_t)n->tx_errors,
					      "tx_dropped", (json_int_t)n->tx_dropped));
	}
	return o;
}

/* One record. before: the one of a moment ago, or all 0. */
static json_t *record(const struct instance *i, const struct msg_stats *s, const struct msg_stats *before) {
	static const struct msg_stats nothing;
	bool up = docker_runs(i);
	json_t *o = json_object(), *pids = json_object();
	_cleanup_(free_ptr) char *name = str_format("/%s", i->spec.name);
	if (up) {
		json_set_int(pids, "current", s->pids);
		if (s->pids_limit > 0)
			json_set_int(pids, "limit", s->pids_limit);
	}
	json_object_set_new(o, "read", docker_time(up ? s->time : 0));
	json_object_set_new(o, "preread", docker_time(up ? before->time : 0));
	json_object_set_new(o, "pids_stats", pids);
	json_object_set_new(o, "blkio_stats", blkio_stats(up ? s : NULL));
	json_set_int(o, "num_procs", 0);
	json_object_set_new(o, "storage_stats", json_object());
	json_object_set_new(o, "cpu_stats", cpu_stats(up ? s : &nothing));
	json_object_set_new(o, "precpu_stats", cpu_stats(up ? before : &nothing));
	json_object_set_new(o, "memory_stats", up ? memory_stats(s) : json_object());
	json_set_str(o, "name", name);
	json_set_str(o, "id", i->id);
	if (up && s->interfaces.n)
		json_object_set_new(o, "networks", networks(s));
	return o;
}

/* ---- going on ---- */

struct stats_stream {
	struct line_stream *lines;
	struct msg_stats before; /* its numbers alone */
};

static void numbers_of(const struct msg_stats *s, struct msg_stats *out) {
	*out = *s;
	out->interfaces.items = NULL;
	out->interfaces.n = 0;
}

static void stream_begin(void *arg) {
	line_stream_begin(((struct stats_stream *)arg)->lines);
}

static int stream_stats(void *arg, const struct instance *i, const struct msg_stats *stats) {
	struct stats_stream *s = arg;
	_cleanup_(json_free_ptr) json_t *one = record(i, stats, &s->before);
	_cleanup_(free_ptr) char *text = json_print(one);
	numbers_of(stats, &s->before);
	int r = line_stream_push(s->lines, text, strlen(text));
	return r == -EAGAIN ? 0 : r; /* who reads slowly misses some */
}

static bool stream_gone(void *arg) {
	return line_stream_gone(((struct stats_stream *)arg)->lines);
}

static void stream_end(void *arg, bool complete) {
	struct stats_stream *s = arg;
	line_stream_end(s->lines, complete);
	free(s);
}

static void follow(struct http_request *req, const struct instance *i) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct stats_stream *s = NEW(struct stats_stream);
	s->lines = line_stream_new(req, "application/json");
	const struct stats_sink sink = {
		.begin = stream_begin, .stats = stream_stats, .gone = stream_gone, .end = stream_end, .arg = s};
	if (instance_stats_follow(core_of(req), DOCKER_PROJECT, i->id, &sink, &err) == 0)
		return;
	line_stream_free(s->lines);
	free(s);
	docker_container_fail(req, i->spec.name, &err);
}

/* ---- once ---- */

/* A second, unless the client goes. */
static void wait_second(struct http_request *req) {
	struct pollfd p = {http_client_fd(req), POLLIN, 0};
	poll(&p, 1, 1000);
}

static void once(struct http_request *req, const struct instance *i, bool compare) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct msg_stats before = {0}, now = {0};
	int r = 0;
	if (compare) {
		r = instance_stats(core_of(req), DOCKER_PROJECT, i->id, &now, &err);
		numbers_of(&now, &before);
		fields_free(&msg_stats_table, &now);
		wait_second(req);
	}
	if (r == 0)
		r = instance_stats(core_of(req), DOCKER_PROJECT, i->id, &now, &err);
	if (r < 0)
		return docker_container_fail(req, i->spec.name, &err);
	docker_reply(req, 200, record(i, &now, &before));
	fields_free(&msg_stats_table, &now);
}

void docker_stats(struct http_request *req) {
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL;
	bool stream = docker_query_bool_or(req, "stream", true), one_shot = docker_query_bool(req, "one-shot");
	if (stream && one_shot)
		return docker_fail(req, 400, "cannot have stream=true and one-shot=true");
	if (!docker_container(req, http_param(req, "id"), &snap))
		return;
	if (stream)
		follow(req, &snap->instance);
	else
		once(req, &snap->instance, !one_shot && docker_runs(&snap->instance));
}
