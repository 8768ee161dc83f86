/* Logs of services and tasks: those of their instances in one stream, each line with what it comes from as its attributes. Who
 * follows a service gets those of tasks that come later as well, until the service or the client goes. */
#include "dialect/docker/tasks.h"

#include "base/map.h"
#include "base/time.h"
#include "core/events.h"
#include "core/logs.h"

#include <arpa/inet.h>
#include <pthread.h>

/* The stream that all readers write to; the last one to go ends it. */
struct shared {
	int refs;
	pthread_mutex_t lock;
	struct http_stream *stream;
	bool timestamps, details, raw, incomplete;
};

struct reader {
	struct shared *to;
	char *details;
	bool patient; /* it waits for the client where it is told to; else what cannot be sent yet is kept */
	struct buf pending;
	bool inside[3];
};

static void shared_unref(struct shared *s) {
	if (__atomic_sub_fetch(&s->refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	if (s->stream)
		http_stream_end(s->stream, !s->incomplete);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

static void on_begin(UNUSED void *arg) {
}

static void on_entry(void *arg, const struct log_entry *e) {
	struct reader *r = arg;
	bool start = !r->inside[e->stream];
	_cleanup_(buf_free) struct buf line = BUF_INIT;
	if (start && r->to->timestamps) {
		buf_add(&line, e->time_text, e->time_len);
		buf_addc(&line, ' ');
	}
	if (start && r->to->details)
		buf_addf(&line, "%s ", r->details);
	buf_add(&line, e->text, e->len);
	if (!e->partial)
		buf_addc(&line, '\n');
	r->inside[e->stream] = e->partial;
	uint32_t length = htonl((uint32_t)line.len);
	char header[8] = {(char)e->stream};
	memcpy(header + 4, &length, sizeof length);
	if (!r->to->raw)
		buf_add(&r->pending, header, sizeof header);
	buf_add(&r->pending, buf_str(&line), line.len);
}

static int on_flush(void *arg, bool block) {
	struct reader *r = arg;
	struct shared *s = r->to;
	if (!r->pending.len)
		return 0;
	if (!s->stream)
		return -EPIPE;
	bool wait = block && r->patient;
	if (wait)
		pthread_mutex_lock(&s->lock);
	else if (pthread_mutex_trylock(&s->lock) != 0)
		return block ? 0 : -EAGAIN;
	int result = wait ? http_stream_write(s->stream, r->pending.data, r->pending.len)
			  : http_stream_push(s->stream, r->pending.data, r->pending.len);
	pthread_mutex_unlock(&s->lock);
	if (result == 0)
		buf_truncate(&r->pending, 0);
	return result == -EAGAIN && block ? 0 : result;
}

static bool on_gone(void *arg) {
	struct shared *s = ((struct reader *)arg)->to;
	return !s->stream || http_stream_gone(s->stream);
}

static void reader_free(struct reader *r) {
	shared_unref(r->to);
	buf_free(&r->pending);
	free(r->details);
	free(r);
}

static void on_end(void *arg, bool complete) {
	struct reader *r = arg;
	r->to->incomplete |= !complete;
	reader_free(r);
}

static struct shared *shared_ref(struct shared *s) {
	__atomic_add_fetch(&s->refs, 1, __ATOMIC_RELAXED);
	return s;
}

static void read_one(struct core *c, const struct instance *i, const char *node, const struct log_filter *f, struct shared *to,
		     bool patient) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct reader *r = NEW(struct reader);
	*r = (struct reader){.to = shared_ref(to), .patient = patient};
	r->details = str_format("com.docker.swarm.node.id=%.25s,com.docker.swarm.service.id=%.25s,com.docker.swarm.task.id=%.*s", node,
				i->spec.owner.workload, SWARM_ID_LEN, i->spec.owner.run);
	const struct log_sink sink = {on_begin, on_entry, on_flush, on_gone, on_end, r};
	if (instance_logs(c, DOCKER_PROJECT, i->id, f, &sink, &err) < 0)
		reader_free(r); /* it has gone meanwhile */
}

/* ---- tasks that come later ---- */

/* Steps on the core's thread for all who wait, so that its readers never wait for the client. */
struct later {
	struct shared *to;
	struct core *core;
	char *workload, *node;
	struct map *seen; /* by id of the instance */
	struct log_filter filter;
};

static int later_event(void *arg, const struct event *e, UNUSED const char *json, UNUSED size_t len) {
	struct later *l = arg;
	struct instance_snap *snap = NULL;
	if (str_same(e->type, "workload") && str_same(e->action, "delete") && str_same(e->id, l->workload))
		return -EPIPE;
	if (!str_same(e->type, "instance") || !str_same(e->action, "start") || map_get(l->seen, e->id) ||
	    instance_get(l->core, DOCKER_PROJECT, e->id, &snap, NULL) < 0)
		return 0;
	if (!str_same(snap->instance.spec.owner.workload, l->workload)) {
		instance_snap_unref(snap);
		return 0;
	}
	map_set(l->seen, e->id, l);
	read_one(l->core, &snap->instance, l->node, &l->filter, l->to, false);
	instance_snap_unref(snap);
	return 0;
}

static bool later_gone(void *arg) {
	struct shared *s = ((struct later *)arg)->to;
	return !s->stream || http_stream_gone(s->stream);
}

static void later_end(void *arg, UNUSED bool complete) {
	struct later *l = arg;
	shared_unref(l->to);
	map_free(l->seen);
	free(l->workload);
	free(l->node);
	free(l);
}

/* From the revision on that was there before the tasks were read. */
static void follow_later(struct core *c, const char *workload, const char *node, const struct tasks *all, int64_t from,
			 const struct log_filter *f, struct shared *to) {
	struct later *l = NEW(struct later);
	*l = (struct later){shared_ref(to), c, str_copy(workload), str_copy(node), map_new(NULL), *f};
	l->filter.tail = -1;
	for (size_t i = 0; i < all->n; i++)
		if (all->items[i].instance)
			map_set(l->seen, all->items[i].instance->instance.id, l);
	const struct event_filter events = {.from = from, .project = DOCKER_PROJECT};
	const struct event_sink sink = {on_begin, later_event, later_gone, later_end, l};
	_cleanup_(error_free) struct error err = ERROR_INIT;
	if (events_follow(c, &events, true, &sink, &err) < 0)
		later_end(l, false);
}

static bool filter_parse(struct http_request *req, struct log_filter *f) {
	const char *tail = http_query(req, "tail");
	*f = (struct log_filter){.want_stdout = docker_query_bool(req, "stdout"), .want_stderr = docker_query_bool(req, "stderr"),
				 .follow = docker_query_bool(req, "follow"), .tail = -1};
	if (tail && str_to_i64(tail, &f->tail) < 0)
		f->tail = -1;
	if (f->want_stdout || f->want_stderr)
		return docker_query_time(req, "since", &f->since);
	docker_fail(req, 400, "Bad parameters: you must choose at least one stream");
	return false;
}

/* The oldest first, as they were made. service: later ones are followed as well, from that revision on; NULL. */
static void send_all(struct http_request *req, const struct tasks *all, const char *task, const struct cluster *k,
		     const struct log_filter *f, bool tty, const char *service, int64_t revision) {
	struct core *c = core_of(req);
	struct shared *s = NEW(struct shared);
	bool multiplexed = docker_api(req) >= 42 && !tty;
	*s = (struct shared){.refs = 1, .timestamps = docker_query_bool(req, "timestamps"), .details = docker_query_bool(req, "details"),
			     .raw = tty};
	pthread_mutex_init(&s->lock, NULL);
	s->stream = http_stream_begin(req, 200, multiplexed ? "application/vnd.docker.multiplexed-stream" : "application/vnd.docker.raw-stream");
	for (size_t i = all->n; i > 0; i--)
		if (all->items[i - 1].instance && (!task || str_starts(all->items[i - 1].id, task)))
			read_one(c, &all->items[i - 1].instance->instance, k->node.id, f, s, true);
	if (service && f->follow)
		follow_later(c, service, k->node.id, all, revision, f, s);
	shared_unref(s);
}

void service_logs(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(noun_unref_ptr) struct noun *cluster = NULL, *o = NULL;
	_cleanup_(tasks_free) struct tasks all = {0};
	const char *name = http_param(req, "id");
	struct log_filter f;
	if (!filter_parse(req, &f) || !swarm_active(req, &cluster))
		return;
	if (workload_get(core_of(req), DOCKER_PROJECT, name, &o, &err) < 0)
		return swarm_fail(req, "service", name, &err);
	const struct workload *w = o->of;
	int64_t revision = events_revision(core_of(req)) + 1;
	if (tasks_read(core_of(req), w->id, &all, &err) < 0)
		return fail(req, &err);
	send_all(req, &all, NULL, cluster->of, &f, w->spec.template.tty, w->id, revision);
}

void task_logs(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(noun_unref_ptr) struct noun *cluster = NULL;
	_cleanup_(tasks_free) struct tasks all = {0};
	const char *name = http_param(req, "id");
	struct log_filter f;
	if (!filter_parse(req, &f) || !swarm_active(req, &cluster))
		return;
	if (tasks_read(core_of(req), NULL, &all, &err) < 0)
		return fail(req, &err);
	for (size_t i = 0; *name && i < all.n; i++)
		if (str_starts(all.items[i].id, name))
			return send_all(req, &all, name, cluster->of, &f, all.items[i].workload->spec.template.tty, NULL, 0);
	_cleanup_(free_ptr) char *shown = text_shown(name);
	docker_fail(req, 404, "task %s not found", shown);
}
