/* The connection to the agent: requests, and the thread that keeps the statuses true from the stream of its
 * events and puts both sides in order whenever it has reached the agent anew. */
#include "core/core-priv.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "base/time.h"

#include <sys/socket.h>
#include <unistd.h>

static int call(struct core *c, const char *request, const void *body, const int *fds, size_t nfds, void *reply, int *recv_fd,
		void (*progress)(const json_t *body, void *arg), void *arg, struct error *err) {
	const struct wire_request *row = wire_request_find(request);
	if (!row)
		return error_set(err, ERROR_UNSUPPORTED, "this build has no request %s", request);
	_cleanup_(free_ptr) void *dropped = reply ? NULL : alloc_zero(row->reply->size);
	struct wire_call call = {
		.socket_path = c->agent_socket,
		.request = row,
		.body = body,
		.fds = fds,
		.nfds = nfds,
		.reply = reply ? reply : dropped,
		.reply_fds = recv_fd,
		.reply_fds_max = recv_fd ? 1 : 0,
		.on_progress = progress,
		.arg = arg,
	};
	int r = wire_call(&call, err);
	if (r < 0)
		return r;
	if (dropped)
		fields_free(row->reply, dropped);
	if (recv_fd && call.reply_nfds == 0)
		*recv_fd = -1;
	return 0;
}

int agent_call_fd(struct core *c, const char *request, const void *body, int send_fd, void *reply, int *recv_fd,
		  struct error *err) {
	return call(c, request, body, &send_fd, send_fd >= 0, reply, recv_fd, NULL, NULL, err);
}

int agent_call_fds(struct core *c, const char *request, const void *body, const int *fds, size_t nfds, void *reply, struct error *err) {
	return call(c, request, body, fds, nfds, reply, NULL, NULL, NULL, err);
}

int agent_call_watched(struct core *c, const char *request, const void *body, int send_fd, void *reply,
		       void (*progress)(const json_t *body, void *arg), void *arg, struct error *err) {
	return call(c, request, body, &send_fd, send_fd >= 0, reply, NULL, progress, arg, err);
}

int agent_call(struct core *c, const char *request, const void *body, void *reply, struct error *err) {
	return agent_call_fd(c, request, body, -1, reply, NULL, err);
}

int agent_call_as(struct core *c, const char *request, struct wire_call *call, struct error *err) {
	call->socket_path = c->agent_socket;
	call->request = wire_request_find(request);
	int r = wire_call(call, err);
	if (r < 0 || call->reply_nfds == call->reply_fds_max)
		return r;
	for (size_t i = 0; i < call->reply_nfds; i++)
		close(call->reply_fds[i]);
	return error_set(err, ERROR_INTERNAL, "the agent has sent no stream");
}

struct watched {
	struct core *core;
	struct task_run *task;
};

static void on_progress(const json_t *body, void *arg) {
	struct watched *w = arg;
	task_progress(w->core, w->task, json_get_str(body, "message"), json_get_int(body, "done"),
		      json_get_int(body, "total"));
	if (json_get_bool(body, "final"))
		task_final(w->core, w->task);
}

int agent_task_fds(struct core *c, struct task_run *t, const char *request, const void *body, int *fds, size_t n, struct error *err) {
	struct watched w = {c, t};
	struct wire_call call = {
		.socket_path = c->agent_socket,
		.request = wire_request_find(request),
		.body = body,
		.reply_fds = fds,
		.reply_fds_max = n,
		.on_progress = on_progress,
		.arg = &w,
		.cancel_fd = task_cancel_fd(t),
	};
	int r = wire_call(&call, err);
	if (r < 0 || call.reply_nfds == n)
		return r;
	for (size_t i = 0; i < call.reply_nfds; i++)
		close(fds[i]);
	return error_set(err, ERROR_INTERNAL, "the agent has sent no stream");
}

int agent_task_give(struct core *c, struct task_run *t, const char *request, const void *body, const int *fds, size_t n, void *reply,
		    struct error *err) {
	struct watched w = {c, t};
	struct wire_call call = {
		.socket_path = c->agent_socket,
		.request = wire_request_find(request),
		.body = body,
		.fds = fds,
		.nfds = n,
		.reply = reply,
		.on_progress = on_progress,
		.arg = &w,
		.cancel_fd = task_cancel_fd(t),
	};
	return wire_call(&call, err);
}

int agent_task(struct core *c, struct task_run *t, const char *request, const void *body, int *recv_fd,
	       struct error *err) {
	return agent_task_fds(c, t, request, body, recv_fd, recv_fd ? 1 : 0, err);
}

/* ---- putting both sides in order ---- */

struct instance_job {
	struct core *core;
	struct entry *entry;
};

static void job_free(struct instance_job *j) {
	entry_unref(j->core, j->entry);
	free(j);
}

/* Needs the lock. */
static void start_job(struct core *c, struct entry *e, void (*fn)(void *)) {
	struct instance_job *j = NEW(struct instance_job);
	*j = (struct instance_job){c, e};
	e->refs++;
	crew_run(c->jobs, fn, j);
}

static void auto_remove(void *arg) {
	struct instance_job *j = arg;
	_cleanup_(error_free) struct error err = ERROR_INIT;
	core_lock(j->core);
	bool dead = str_same(j->entry->snap->instance.status.state, "dead"); /* also: a power cut has damaged its record */
	core_unlock(j->core);
	if (instance_remove_entry(j->core, j->entry, dead, &err) < 0)
		log_warn("removing %.12s, which was to go when it ends: %s", j->entry->snap->instance.id, error_text(&err));
	job_free(j);
}

/* The agent has lost it, or never came to make it. */
static void make_again(void *arg) {
	struct instance_job *j = arg;
	struct core *c = j->core;
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct msg_instance_state state = {0};
	core_lock(c);
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = instance_snap_ref(j->entry->snap);
	core_unlock(c);
	if (instance_make(c, &snap->instance, NULL, &state, &err) < 0) {
		log_warn("making instance %.12s again: %s", snap->instance.id, error_text(&err));
	} else {
		WITH_LOCK(c);
		struct instance changed = j->entry->snap->instance;
		changed.status = state.status;
		changed.uid_base = state.uid_base;
		j->entry->loaded = false;
		entry_set(c, j->entry, instance_snap_new(&changed));
		fields_free(&msg_instance_state_table, &state);
	}
	job_free(j);
}

static void settle(void *arg) {
	struct instance_job *j = arg;
	if (entry_acquire(j->core, j->entry, NULL) == 0) {
		change_settle(j->core, j->entry);
		entry_release(j->core, j->entry);
	}
	job_free(j);
}

/* A migration from here has been cut off. */
static void settle_migration(void *arg) {
	struct instance_job *j = arg;
	migration_settle(j->core, j->entry);
	job_free(j);
}

/* One to here: such instances are machines, whereas those of builds are containers. */
static void end_arrival(struct instance_job *j) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	if (instance_arrival_end(j->core, j->entry, &err) < 0)
		log_warn("machine %.12s, which came from another daemon: %s", j->entry->snap->instance.id, error_text(&err));
	job_free(j);
}

static void remove_orphan(void *arg) {
	struct instance_job *j = arg;
	_cleanup_(error_free) struct error err = ERROR_INIT;
	if (instance_is_machine(&j->entry->snap->instance.spec))
		return end_arrival(j);
	log_info("removing instance %.12s of an operation that was cut off", j->entry->snap->instance.id);
	if (instance_remove_entry(j->core, j->entry, true, &err) < 0)
		log_warn("removing instance %.12s: %s", j->entry->snap->instance.id, error_text(&err));
	volumes_drop_left(j->core); /* which it may have used */
	job_free(j);
}

static bool ended_for_good(const struct instance *i) {
	bool moved = i->status.moved && !i->status.moves_keep;
	return (i->spec.auto_remove || moved) && !state_is_up(i->status.state) && !str_same(i->status.state, "created") &&
	       !str_same(i->status.state, "suspended");
}

void entry_check_end(struct core *c, struct entry *e) {
	if (!e->removed && !e->creating && !e->restarts && ended_for_good(&e->snap->instance))
		start_job(c, e, auto_remove);
}

static void delete_unknown(struct core *c, const char *id) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct msg_instance_delete body = {.id = (char *)id, .force = true};
	log_info("removing instance %.12s, which the store does not know", id);
	if (agent_call(c, "instance-delete", &body, NULL, &err) < 0)
		log_warn("removing instance %.12s: %s", id, error_text(&err));
}

static int resync_layers(struct core *c, struct error *err) {
	struct msg_empty empty = {0};
	struct msg_layers list = {0};
	int r = agent_call(c, "layer-list", &empty, &list, err);
	if (r < 0)
		return r;
	core_lock(c);
	layers_set(c, list.diff_ids);
	core_unlock(c);
	fields_free(&msg_layers_table, &list);
	return 0;
}

static int resync_instances(struct core *c, struct error *err) {
	struct msg_empty empty = {0};
	struct msg_instance_states list = {0};
	_cleanup_(strv_free_ptr) char **unknown = NULL;
	/* What exists before the list is asked for and is not on it has to be made again; what comes into being
	 * meanwhile need not be on it. */
	core_lock(c);
	struct map *missing = map_new(NULL);
	const char *id;
	void *value;
	for (size_t i = 0; map_next(c->by_id, &i, &id, &value);)
		if (!((struct entry *)value)->creating)
			map_set(missing, id, c);
	core_unlock(c);
	int r = agent_call(c, "instance-list", &empty, &list, err);
	if (r < 0) {
		map_free(missing);
		return r;
	}
	core_lock(c);
	for (size_t i = 0; i < list.instances.n; i++) {
		struct msg_instance_state *s = &list.instances.items[i];
		struct entry *e = map_get(c->by_id, s->id);
		map_remove(missing, s->id);
		if (!e) {
			strv_add(&unknown, s->id);
			continue;
		}
		if (e->creating)
			continue;
		entry_apply(c, e, &s->status, s->uid_base);
		if (e->orphan) {
			start_job(c, e, remove_orphan);
			continue;
		}
		if (e->unsure)
			start_job(c, e, settle);
		if (e->snap->instance.status.moves_to)
			start_job(c, e, settle_migration);
		entry_check_end(c, e);
	}
	for (size_t i = 0; map_next(missing, &i, &id, NULL);) {
		struct entry *e = map_get(c->by_id, id);
		if (!e || e->busy)
			continue;
		e->loaded = true; /* made again, it has not run */
		start_job(c, e, e->orphan ? remove_orphan : make_again);
	}
	core_unlock(c);
	map_free(missing);
	fields_free(&msg_instance_states_table, &list);
	for (char **u = unknown; u && *u; u++)
		delete_unknown(c, *u);
	return 0;
}

static int resync(struct core *c, struct error *err) {
	struct msg_empty empty = {0};
	struct msg_hello host = {0};
	int r = agent_call(c, "hello", &empty, &host, err);
	if (r < 0)
		return r;
	core_lock(c);
	fields_free(&msg_hello_table, &c->host);
	c->host = host;
	core_unlock(c);
	r = resync_layers(c, err);
	if (r == 0)
		r = networks_resync(c, err);
	if (r == 0)
		r = pools_resync(c, err);
	if (r == 0)
		r = resync_instances(c, err);
	if (r == 0)
		r = volumes_resync(c, err);
	return r < 0 ? r : networks_collect(c, err);
}

/* ---- the stream of events ---- */

/* Those that no verb of the core's publishes itself. */
static bool is_agents_own(const char *action) {
	static const char *const own[] = {"start", "restart", "die", "oom", "health", "overdue", "pause", "unpause", "exec_die"};
	for (size_t i = 0; i < ARRAY_SIZE(own); i++)
		if (str_same(action, own[i]))
			return true;
	return false;
}

static const struct mount *mount_of(const struct instance *i, const char *volume) {
	for (size_t k = 0; k < i->spec.mounts.n; k++)
		if (str_same(i->spec.mounts.items[k].type, "volume") && str_same(i->spec.mounts.items[k].source, volume))
			return &i->spec.mounts.items[k];
	return NULL;
}

/* Of networks and volumes: an instance that starts takes them up, and lays them down when it has ended. */
static void publish_uses(struct core *c, const struct instance *i, bool up) {
	for (size_t k = 0; k < i->nics.n; k++)
		event_add(c, "network", up ? "connect" : "disconnect", i->project, i->nics.items[k].network_id,
			  i->nics.items[k].network, "instance", i->id, "name", i->spec.name, NULL);
	for (size_t k = 0; k < i->volumes.n; k++) {
		const struct volume_use *v = &i->volumes.items[k];
		const struct mount *m = mount_of(i, v->name);
		event_add(c, "volume", up ? "mount" : "unmount", i->project, v->volume_id, v->name, "instance", i->id, "target",
			  m ? m->target : "", "read_only", m && m->read_only ? "true" : "false", NULL);
	}
}

static void event_publish(struct core *c, const struct msg_event *m, struct entry *e) {
	const struct instance *i = &e->snap->instance;
	char code[24];
	snprintf(code, sizeof code, "%lld", (long long)m->exit_code);
	bool die = str_same(m->action, "die"), again = str_same(m->action, "restart");
	if (again || str_same(m->action, "start"))
		publish_uses(c, i, true);
	if (m->exec_id && str_same(m->action, "exec_die"))
		event_add(c, "instance", m->action, i->project, i->id, i->spec.name, "image", i->spec.image, "exec_id",
			  m->exec_id, "exit_code", code, NULL);
	else if (die)
		event_add(c, "instance", m->action, i->project, i->id, i->spec.name, "image", i->spec.image, "exit_code",
			  code, NULL);
	else if (str_same(m->action, "health"))
		event_add(c, "instance", m->action, i->project, i->id, i->spec.name, "image", i->spec.image, "health",
			  m->status.health ? m->status.health : "none", NULL);
	else if (str_same(m->action, "overdue")) /* it did not stop in time, and is killed */
		event_add(c, "instance", "kill", i->project, i->id, i->spec.name, "image", i->spec.image, "signal", "KILL", NULL);
	else if (again)
		event_add(c, "instance", m->action, i->project, i->id, i->spec.name, "image", i->spec.image, "cause", "policy",
			  NULL);
	else
		event_add(c, "instance", m->action, i->project, i->id, i->spec.name, "image", i->spec.image, NULL);
	if (die)
		publish_uses(c, i, false);
	e->starts += str_same(m->action, "start");
	e->ends += die;
	pthread_cond_broadcast(&c->changed);
}

#define EVENT_WAIT_NS (2 * NS_PER_SEC)

void event_await(struct core *c, const unsigned *told, unsigned before) {
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += EVENT_WAIT_NS / NS_PER_SEC;
	WITH_LOCK(c);
	while (*told == before && c->synced && !c->closing && pthread_cond_timedwait(&c->changed, &c->lock, &until) == 0)
		;
}

static void event_handle(struct core *c, const struct msg_event *m) {
	WITH_LOCK(c);
	struct entry *e = m->id ? map_get(c->by_id, m->id) : NULL;
	if (!e || e->creating)
		return;
	if (is_agents_own(m->action))
		event_publish(c, m, e);
	if (!m->exec_id)
		entry_apply(c, e, &m->status, -1);
	else if (str_same(m->action, "exec_die"))
		execs_note_end(c, m->exec_id, m->exit_code);
	entry_check_end(c, e);
}

static int events_ask(int fd, struct error *err) {
	struct msg_empty empty = {0};
	_cleanup_(json_free_ptr) json_t *body = fields_print(&msg_empty_table, &empty);
	int r = wire_send(fd, "events", body, NULL, 0, err);
	if (r < 0)
		return r;
	struct wire_frame frame = {0};
	r = wire_recv(fd, &frame, err);
	if (r < 0)
		return r;
	bool ok = str_same(frame.type, "ok");
	wire_frame_free(&frame);
	return ok ? 0 : error_set(err, ERROR_UNAVAILABLE, "the agent refuses its events");
}

/* An event that comes in while both sides are put in order waits in the socket. */
static int events_read(struct core *c, int fd, struct error *err) {
	for (;;) {
		struct wire_frame frame = {0};
		struct msg_event m;
		int r = wire_recv(fd, &frame, err);
		if (r < 0)
			return r;
		r = fields_parse(&msg_event_table, frame.body, FIELDS_TRUSTED, &m, err);
		wire_frame_free(&frame);
		if (r < 0)
			return r;
		event_handle(c, &m);
		fields_free(&msg_event_table, &m);
	}
}

static void set_agent_fd(struct core *c, int fd, bool synced) {
	WITH_LOCK(c);
	c->agent_fd = fd;
	c->synced = synced;
	if (c->closing && fd >= 0)
		shutdown(fd, SHUT_RDWR);
	pthread_cond_broadcast(&c->sync_changed);
}

static int session_begin(struct core *c, int fd, struct error *err) {
	int r = events_ask(fd, err);
	return r < 0 ? r : resync(c, err);
}

/* One connection, to its end. It is known from its beginning on, for while the agent is started again it is accepted by
 * nobody, and would keep the core from closing. */
static void agent_session(struct core *c, struct error *err) {
	_cleanup_(close_fd) int fd = sock_connect_unix(c->agent_socket);
	if (fd < 0) {
		error_errno(err, fd, "connecting to the agent at %s", c->agent_socket);
		return;
	}
	set_agent_fd(c, fd, false);
	if (session_begin(c, fd, err) == 0) {
		set_agent_fd(c, fd, true);
		log_info("the agent is there");
		selections_resend(c);
		selections_send(c);
		events_read(c, fd, err);
	}
	set_agent_fd(c, -1, false);
}

/* Waits ms, less when the core closes; false then. */
static bool pause_ms(struct core *c, int ms) {
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	int64_t ns = until.tv_nsec + ms * NS_PER_MS;
	until.tv_sec += ns / NS_PER_SEC;
	until.tv_nsec = ns % NS_PER_SEC;
	WITH_LOCK(c);
	while (!c->closing && pthread_cond_timedwait(&c->sync_changed, &c->lock, &until) == 0)
		;
	return !c->closing;
}

static void *agent_thread(void *arg) {
	struct core *c = arg;
	int delay = 10;
	do {
		_cleanup_(error_free) struct error err = ERROR_INIT;
		int64_t began = time_mono_ns();
		agent_session(c, &err);
		delay = time_mono_ns() - began > 2 * NS_PER_SEC ? 10 : MIN(delay * 2, 1000);
		if (!c->closing)
			log_debug("the agent is away: %s", error_text(&err));
	} while (pause_ms(c, delay));
	return NULL;
}

static int64_t events_waiting(struct core *c) {
	return c->events.revision - c->events.saved;
}

/* Writes events about a second after they came, or at once when there are many. */
static void *flush_thread(void *arg) {
	struct core *c = arg;
	core_lock(c);
	while (!c->closing) {
		while (!c->closing && events_waiting(c) == 0)
			pthread_cond_wait(&c->flush_wanted, &c->lock);
		struct timespec until;
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_sec++;
		while (!c->closing && events_waiting(c) < EVENTS_IN_MEMORY / 4 &&
		       pthread_cond_timedwait(&c->flush_wanted, &c->lock, &until) == 0)
			;
		core_unlock(c);
		_cleanup_(error_free) struct error err = ERROR_INIT;
		int r = events_flush(c, &err);
		if (r < 0) {
			log_error("events cannot be written: %s", error_text(&err));
			pause_ms(c, 5000);
		}
		core_lock(c);
	}
	core_unlock(c);
	return NULL;
}

static int start_thread(pthread_t *thread, void *(*fn)(void *), void *arg) {
	pthread_attr_t attr;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 512 << 10);
	int r = pthread_create(thread, &attr, fn, arg);
	pthread_attr_destroy(&attr);
	return -r;
}

int agent_start(struct core *c, struct error *err) {
	int r = start_thread(&c->agent_thread, agent_thread, c);
	if (r < 0)
		return error_errno(err, r, "starting a thread");
	r = start_thread(&c->flush_thread, flush_thread, c);
	if (r < 0)
		return error_errno(err, r, "starting a thread"); /* the daemon ends */
	r = start_thread(&c->clock_thread, snapshots_clock, c);
	if (r < 0)
		return error_errno(err, r, "starting a thread");
	c->threads = true;
	return 0;
}

void agent_stop(struct core *c) {
	core_lock(c);
	c->closing = true;
	if (c->agent_fd >= 0)
		shutdown(c->agent_fd, SHUT_RDWR);
	pthread_cond_broadcast(&c->sync_changed);
	pthread_cond_broadcast(&c->flush_wanted);
	pthread_cond_broadcast(&c->clock_wanted);
	pthread_cond_broadcast(&c->changed);
	core_unlock(c);
	if (!c->threads)
		return;
	pthread_join(c->clock_thread, NULL);
	pthread_join(c->agent_thread, NULL);
	pthread_join(c->flush_thread, NULL);
	c->threads = false;
}
