/* The agent's cache of instances: what workers report, what the end of a shim means, when a restart policy
 * starts one again, which uid ranges are taken. All of it can be built again from disk. */
#include "agent/machine-priv.h"
#include "agent/network-priv.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "base/time.h"

#include <stdio.h>
#include <unistd.h>

#define BACKOFF_FIRST (100 * NS_PER_MS)
#define BACKOFF_MAX (60 * NS_PER_SEC)
#define RECOVER_AGAIN (5 * NS_PER_SEC)
#define RAN_WELL (10 * NS_PER_SEC) /* after so long a run the back-off starts anew */

struct inst *inst_get(const struct agent *a, const char *id) {
	return *id ? map_get(a->insts, id) : NULL;
}

void inst_free(void *value) {
	struct inst *i = value;
	inst_cancel_restart(i);
	loop_remove(i->recover_timer);
	inst_drop_early(i);
	health_stop(i);
	machine_watch_stop(i);
	fields_free(&instance_status_table, &i->status);
	inst_set_nics(i, &(nics){0});
	inst_set_ports(i, &(ports){0});
	free(i);
}

void inst_set_nics(struct inst *i, const nics *list) {
	nics copy = {.items = list->n ? alloc_array(list->n, sizeof *copy.items) : NULL};
	for (; copy.n < list->n; copy.n++)
		fields_copy(&nic_table, &list->items[copy.n], &copy.items[copy.n]);
	for (size_t k = 0; k < i->nics.n; k++)
		fields_free(&nic_table, &i->nics.items[k]);
	free(i->nics.items);
	i->nics = copy;
}

void inst_set_ports(struct inst *i, const ports *list) {
	ports copy = {.items = list->n ? alloc_array(list->n, sizeof *copy.items) : NULL};
	for (; copy.n < list->n; copy.n++)
		fields_copy(&port_table, &list->items[copy.n], &copy.items[copy.n]);
	for (size_t k = 0; k < i->ports.n; k++)
		fields_free(&port_table, &i->ports.items[k]);
	free(i->ports.items);
	i->ports = copy;
}

struct inst *inst_add(struct agent *a, const char *id, uint32_t uid_base) {
	struct inst *i = NEW(struct inst);
	i->agent = a;
	snprintf(i->id, sizeof i->id, "%s", id);
	i->uid_base = uid_base;
	i->early_fd = -1;
	i->backoff = BACKOFF_FIRST;
	fields_init(&instance_status_table, &i->status);
	status_set_state(&i->status, "created");
	map_set(a->insts, id, i);
	return i;
}

void inst_remove(struct inst *i) {
	map_remove(i->agent->insts, i->id);
}

void inst_drop_early(struct inst *i) {
	close_fd(&i->early_fd);
	i->early_clients = false;
}

/* --- restarts --- */

void inst_cancel_restart(struct inst *i) {
	loop_remove(i->restart_timer);
	i->restart_timer = NULL;
}

static struct job job_for(struct inst *i, const struct handler *h) {
	struct job j = {.agent = i->agent, .handler = h, .sock = -1, .listen_fd = -1};
	memcpy(j.id, i->id, sizeof j.id);
	return j;
}

static void run_job(struct inst *i, struct job *j) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	if (worker_start(i->agent, j, &err) < 0)
		log_error("%s of %.12s: %s", j->handler->name, i->id, error_text(&err));
}

static void on_restart(void *arg) {
	struct inst *i = arg;
	i->restart_timer = NULL;
	struct job j = job_for(i, &job_start);
	j.listen_fd = i->early_fd;
	j.early_clients = i->early_clients;
	run_job(i, &j);
}

void inst_restart_later(struct inst *i, int64_t delay) {
	inst_cancel_restart(i);
	if (!i->agent->stopping)
		i->restart_timer = loop_add_timer(i->agent->loop, time_mono_ns() + delay, on_restart, i);
}

static void restart_by_policy(struct inst *i, bool at_once) {
	int64_t ran = i->status.finished_at - i->status.started_at;
	if (ran >= RAN_WELL)
		i->backoff = BACKOFF_FIRST;
	inst_restart_later(i, at_once ? 0 : i->backoff);
	i->backoff = MIN(i->backoff * 2, BACKOFF_MAX);
}

void inst_check_restart(struct inst *i) {
	if (str_same(i->status.state, "restarting") && !i->restart_timer)
		inst_restart_later(i, i->backoff);
}

void inst_recover(struct agent *a, const char *id) {
	struct inst *i = inst_get(a, id);
	if (!i)
		return;
	struct job j = job_for(i, &job_recover);
	run_job(i, &j);
}

void inst_recover_all(struct agent *a) {
	void *value;
	for (size_t at = 0; map_next(a->insts, &at, NULL, &value);) {
		struct inst *i = value;
		if (i->shim)
			inst_recover(a, i->id);
	}
}

static void on_recover(void *arg) {
	struct inst *i = arg;
	i->recover_timer = NULL;
	inst_recover(i->agent, i->id);
}

void inst_recover_later(struct inst *i) {
	if (!i->recover_timer)
		i->recover_timer = loop_add_timer(i->agent->loop, time_mono_ns() + RECOVER_AGAIN, on_recover, i);
}

/* --- shutdown --- */

int shutdown_one(struct inst *i, int64_t timeout) {
	struct job j = job_for(i, &job_stop);
	struct msg_instance_stop body = {.id = i->id, .timeout = timeout};
	j.body = &body;
	return worker_start(i->agent, &j, NULL);
}

void shutdown_finish(struct agent *a) {
	if (a->stopping_for)
		peer_ok(a->stopping_for);
	a->end = AGENT_SHUTDOWN;
	loop_stop(a->loop);
}

void shutdown_done(struct agent *a) {
	if (!a->networks_down) {
		a->networks_down = true;
		if (networks_shut_down(a))
			return; /* whose end comes back here */
	}
	log_info("all instances are stopped: the agent ends");
	struct job j = {.agent = a, .handler = &job_pools_down, .sock = -1, .listen_fd = -1};
	if (worker_start(a, &j, NULL) < 0)
		shutdown_finish(a);
}

/* --- what workers report --- */

static void watch_found_shim(struct inst *i, const json_t *report) {
	pid_t pid = (pid_t)json_get_int(report, "shim_pid");
	if (i->shim || !pid)
		return;
	int fd = pid_open(pid, (uint64_t)json_get_int(report, "shim_start"));
	if (fd < 0)
		inst_recover(i->agent, i->id); /* it ended just now */
	else
		i->shim = child_watch(i->agent, CHILD_SHIM, pid, fd, i->id, "");
}

static void watch_found_execs(struct inst *i, const json_t *execs) {
	size_t at;
	json_t *one;
	json_array_foreach((json_t *)execs, at, one) {
		pid_t pid = (pid_t)json_get_int(one, "shim");
		int fd = pid_open(pid, (uint64_t)json_get_int(one, "shim_start"));
		if (fd >= 0)
			child_watch(i->agent, CHILD_EXEC, pid, fd, i->id, json_get_str(one, "id"));
	}
}

static void take_status(struct inst *i, const json_t *report) {
	const json_t *json = json_object_get(report, "status");
	struct instance_status status;
	if (!json || fields_parse(&instance_status_table, json, FIELDS_TRUSTED, &status, NULL) < 0)
		return;
	/* what the health check has found out is known here alone */
	if (i->health && state_bit(status.state) & S_UP && !json_get_bool(report, "shim")) {
		free(status.health);
		status.health = i->status.health ? str_copy(i->status.health) : NULL;
	}
	fields_free(&instance_status_table, &i->status);
	i->status = status;
	if (state_bit(status.state) & S_UP)
		return;
	health_stop(i);
	machine_watch_stop(i);
	if (i->shim)
		i->shim->reaped = true;
	i->shim = NULL;
}

/* They are in the record, which is changed before it is told. */
static void take_nics(struct inst *i) {
	_cleanup_(record_free) struct msg_instance_create r = {0};
	if (record_load(i->agent, i->id, &r, NULL) < 0)
		return;
	inst_set_nics(i, &r.instance.nics);
	inst_set_ports(i, &r.instance.ports);
}

/* The worker of a start goes on as the instance's shim. */
static void becomes_shim(struct inst *i, struct child *c) {
	c->kind = CHILD_SHIM;
	i->agent->n_children--;
	i->shim = c;
	inst_drop_early(i);
}

void report_handle(struct child *c, const json_t *report) {
	struct agent *a = c->agent;
	struct inst *i = inst_get(a, c->id);
	const char *action = json_get_str(report, "action");
	int64_t exit_code = json_get_int(report, "exit_code");
	if (json_get_bool(report, "answered") && c->peer)
		peer_close(TAKE_PTR(c->peer));
	network_report(a, report);
	if (json_object_get(report, "pool"))
		pool_reported(a, json_object_get(report, "pool"));
	if (!i)
		return;
	if (json_get_bool(report, "nics"))
		take_nics(i);
	if (json_object_get(report, "healthy"))
		health_result(i, json_get_bool(report, "healthy"));
	i->creating = false;
	take_status(i, report);
	if (json_get_bool(report, "exec")) {
		c->kind = CHILD_EXEC;
		a->n_children--;
	}
	if (json_get_bool(report, "shim"))
		becomes_shim(i, c);
	watch_found_shim(i, report);
	watch_found_execs(i, json_object_get(report, "execs"));
	if (json_get_bool(report, "not_started"))
		inst_drop_early(i);
	const json_t *health = json_object_get(report, "health");
	if (health)
		health_start(i, health);
	if (json_get_bool(report, "machine"))
		machine_watch_start(i);
	if (json_get_bool(report, "other")) {
		struct job j = job_for(i, &job_machine_identity);
		run_job(i, &j);
	}
	if (json_get_bool(report, "oom"))
		event_emit(a, "oom", i->id, NULL, exit_code, &i->status);
	if (action)
		event_emit(a, action, i->id, c->exec_id, exit_code, &i->status);
	if (json_get_bool(report, "restart"))
		restart_by_policy(i, json_get_bool(report, "at_once"));
	if (json_get_bool(report, "unsaved"))
		inst_recover_later(i);
	if (json_get_bool(report, "gone"))
		inst_remove(i);
}

void shim_ended(struct child *c) {
	struct agent *a = c->agent;
	struct inst *i = inst_get(a, c->id);
	if (c->kind == CHILD_EXEC) {
		_cleanup_(free_ptr) char *file = exec_path(a, c->id, c->exec_id, "exit");
		int64_t code = 137, when;
		exit_file_read(file, &code, &when);
		if (i)
			event_emit(a, "exec_die", c->id, c->exec_id, code, &i->status);
		return;
	}
	if (!i || c->reaped)
		return;
	if (i->shim == c)
		i->shim = NULL;
	inst_recover(a, c->id);
}

/* --- uid ranges --- */

static bool range_taken(const struct agent *a, uint32_t base) {
	void *value;
	for (size_t at = 0; map_next(a->insts, &at, NULL, &value);) {
		const struct inst *i = value;
		if (i->uid_base && base < i->uid_base + UID_RANGE && i->uid_base < base + UID_RANGE)
			return true;
	}
	return false;
}

/* Does a line "user:first:count" of /etc/subuid or /etc/subgid overlap? */
static bool range_foreign(const struct buf *text, uint32_t base) {
	struct str rest = {buf_str(text), text->len};
	while (rest.len) {
		struct str line = str_cut(&rest, '\n');
		str_cut(&line, ':');
		_cleanup_(free_ptr) char *first = NULL, *count = NULL;
		struct str field = str_cut(&line, ':');
		first = str_copyn(field.p, field.len);
		count = str_copyn(line.p, line.len);
		uint64_t from, n;
		if (str_to_u64(first, 10, &from) == 0 && str_to_u64(count, 10, &n) == 0 &&
		    from < (uint64_t)base + UID_RANGE &&
		    base < from + n)
			return true;
	}
	return false;
}

static int find_range(const struct agent *a, uint32_t *base, struct error *err) {
	_cleanup_(buf_free) struct buf uids = BUF_INIT_MAX(1 << 20), gids = BUF_INIT_MAX(1 << 20);
	fs_read("/etc/subuid", 1 << 20, &uids); /* absent: nobody else has ranges */
	fs_read("/etc/subgid", 1 << 20, &gids);
	for (uint64_t at = a->uid_pool; at + UID_RANGE <= UINT32_MAX; at += UID_RANGE)
		if (!range_taken(a, (uint32_t)at) && !range_foreign(&uids, (uint32_t)at) &&
		    !range_foreign(&gids, (uint32_t)at)) {
			*base = (uint32_t)at;
			return 0;
		}
	return error_set(err, ERROR_QUOTA, "all ranges of user ids from %u on are taken", a->uid_pool);
}

const char *join_target(const char *mode) {
	return mode && str_starts(mode, "instance:") ? mode + strlen("instance:") : NULL;
}

int uid_base_for(const struct agent *a, const struct instance_spec *spec, uint32_t *base, struct error *err) {
	const struct {
		const char *field, *mode;
	} joins[] = {
		{"pid_mode", spec->pid_mode}, {"ipc_mode", spec->ipc_mode}, {"uts_mode", spec->uts_mode},
		{"cgroup_mode", spec->cgroup_mode}, {"network", spec->network},
	};
	const struct inst *shared = NULL;
	for (size_t n = 0; n < ARRAY_SIZE(joins); n++) {
		const char *id = join_target(joins[n].mode);
		const struct inst *i = id ? inst_get(a, id) : NULL;
		if (id && (!i || i->creating))
			return error_field(err, joins[n].field, "the agent has no instance %s to share with", id);
		if (!i || !i->uid_base)
			continue;
		if (shared && i->uid_base != shared->uid_base)
			return error_field(err, joins[n].field,
				"instances %.12s and %.12s have different user ids: both cannot be shared with",
					   i->id, shared->id);
		shared = i;
	}
	if (!shared)
		return find_range(a, base, err);
	*base = shared->uid_base;
	return 0;
}
