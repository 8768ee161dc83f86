/* Ending an instance, freezing and changing it, and bringing in order what has ended: the reaper, which the
 * end of a shim, a stop, a removal and recovery after a crash share. */
#include "agent/machine-priv.h"
#include "agent/network-priv.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "base/time.h"

#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define KILL_WAIT (20 * NS_PER_SEC) /* for what was killed to be gone */
#define QUIT_WAIT (5 * NS_PER_SEC)  /* for QEMU to write back what it has, whose guest did not power down */

/* True once the process behind pidfd has ended. */
static bool wait_end(int pidfd, int64_t ns) {
	int64_t until = time_mono_ns() + ns;
	for (;;) {
		struct pollfd p = {pidfd, POLLIN, 0};
		int64_t left = MAX(until - time_mono_ns(), 0);
		int n = poll(&p, 1, (int)MIN((left + NS_PER_MS - 1) / NS_PER_MS, 3600000));
		if (n > 0 || pidfd < 0)
			return true;
		if (left == 0)
			return false;
	}
}

static struct cgroup_state cgroup_of(const struct agent *a, const char *id, char **path) {
	*path = str_format("%s/%s", a->cgroup, id);
	return (struct cgroup_state){.path = *path, .version = cgroup_version()};
}

int cgroup_sweep(const struct agent *a, const char *id, struct error *err) {
	_cleanup_(free_ptr) char *path = NULL;
	struct cgroup_state cgroup = cgroup_of(a, id, &path);
	cgroup_kill(&cgroup, SIGKILL, NULL); /* there may be none */
	return cgroup_remove(&cgroup, err);
}

static uint64_t oom_kills(const struct agent *a, const char *id) {
	_cleanup_(free_ptr) char *path = NULL;
	struct cgroup_state cgroup = cgroup_of(a, id, &path);
	return cgroup_oom_kills(&cgroup);
}

bool restart_wanted(const struct msg_instance_create *r) {
	const struct restart_policy *p = &r->instance.spec.restart;
	const struct instance_status *st = &r->instance.status;
	if (st->stopped_by_user || st->moves_to || st->moved || !p->policy)
		return false;
	if (strcmp(p->policy, "always") == 0 || strcmp(p->policy, "unless-stopped") == 0)
		return true;
	return strcmp(p->policy, "on-failure") == 0 && st->exit_code != 0 &&
	       (p->max_retries == 0 || st->restart_count < p->max_retries);
}

/* What says that there is a run, then how it ended. The socket stays: clients of the next start may wait at it
 * already. So does what execs have left. */
static void remove_run(const struct agent *a, const char *id) {
	static const char *const names[] = {"state.json", "exit"};
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		_cleanup_(free_ptr) char *path = run_path(a, id, names[i]);
		unlink(path);
	}
}

/* The record of a run that went its whole way, when its shim (or the host) has ended. */
static void record_end(const struct job *j, struct msg_instance_create *r, bool oom) {
	struct instance_status *st = &r->instance.status;
	_cleanup_(free_ptr) char *file = run_path(j->agent, j->id, "exit");
	status_set_error(st, NULL);
	if (!exit_file_read(file, &st->exit_code, &st->finished_at)) {
		st->exit_code = 137;
		st->finished_at = time_now_ns();
		status_set_error(st, "its shim was lost");
	}
	if (st->arriving)
		status_set_error(st, "it ended before the rest of its memory had come from the daemon that had it");
	st->arriving = false;
	st->oom_killed = oom;
	st->pid = 0;
	st->vsock_cid = 0;
	free(st->health);
	st->health = NULL;
	bool suspended = instance_is_machine(&r->instance.spec) && memory_is_of(j->agent, j->id, st->started_at);
	status_set_state(st, suspended ? "suspended" : restart_wanted(r) ? "restarting" : "exited");
}

/* Has an earlier try to put the run away, which could not save it, told its end? */
static bool end_is_told(const struct job *j, const struct instance_status *st) {
	const struct inst *known = inst_get(j->agent, j->id);
	return known && !(state_bit(known->status.state) & S_UP) && known->status.finished_at == st->finished_at;
}

static void report_end(const struct job *j, const struct msg_instance_create *r, bool at_once) {
	const struct instance_status *st = &r->instance.status;
	if (end_is_told(j, st))
		return;
	json_t *extra = json_object();
	json_set_int(extra, "exit_code", st->exit_code);
	json_set_bool(extra, "oom", st->oom_killed);
	json_set_bool(extra, "restart", str_same(st->state, "restarting"));
	json_set_bool(extra, "at_once", at_once);
	job_report(j, "die", st, extra);
}

/* A start that a crash has cut off. */
static void record_cut_start(const struct job *j, struct msg_instance_create *r) {
	struct instance_status *st = &r->instance.status;
	status_set_error(st, "the start was interrupted");
	st->pid = 0;
	record_save(j->agent, r, NULL);
	json_t *extra = json_object();
	json_set_bool(extra, "not_started", true);
	json_set_bool(extra, "restart", str_same(st->state, "restarting"));
	job_report(j, NULL, st, extra);
}

static int end_processes(const struct job *j, struct run_state *run, struct error *err) {
	_cleanup_(close_fd) int shim = run_pidfd(run);
	if (shim >= 0 && run->created)
		container_kill(&run->container, SIGKILL, true, NULL);
	if (shim >= 0 && !wait_end(shim, KILL_WAIT)) { /* it should have seen the end of its child */
		syscall(SYS_pidfd_send_signal, shim, SIGKILL, NULL, 0);
		wait_end(shim, KILL_WAIT);
	}
	fault_point("reap.killed");
	if (run->created)
		return container_destroy(&run->container, err);
	return cgroup_sweep(j->agent, j->id, err);
}

int instance_reap(const struct job *j, struct msg_instance_create *r, bool kill, struct error *err) {
	_cleanup_(run_free) struct run_state run = {0};
	struct instance_status *st = &r->instance.status;
	_cleanup_(error_free) struct error none = ERROR_INIT;
	if (run_load(j->agent, j->id, &run, &none) < 0) {
		if (none.kind == ERROR_NOT_FOUND)
			return 0;
		run_free(&run);
		log_warn("instance %.12s: %s", j->id, error_text(&none));
	}
	_cleanup_(close_fd) int shim = run_pidfd(&run);
	if (shim >= 0 && !kill)
		return 0;
	fault_point("reap.begin");
	bool oom = oom_kills(j->agent, j->id) > 0;
	_cleanup_(close_fd) int netns = network_netns(j->agent, j->id, &run);
	int result = end_processes(j, &run, err);
	if (result == 0)
		result = network_release(j->agent, r, netns, err);
	if (result < 0) {
		status_set_state(st, "dead");
		status_set_error(st, err ? error_text(err) : "its remains cannot be removed");
		record_save(j->agent, r, NULL);
		job_report(j, NULL, st, NULL);
		return error_wrap(err, "instance %.12s cannot be put away", j->id);
	}
	fault_point("reap.destroyed");
	bool whole = run.started_at == st->started_at; /* else the start did not get as far as its record */
	bool known = whole && !(state_bit(st->state) & S_UP);
	const struct inst *told = inst_get(j->agent, j->id); /* knows what could not be saved */
	if (told && told->status.started_at == st->started_at)
		st->stopped_by_user |= told->status.stopped_by_user;
	if (whole && !known) {
		record_end(j, r, oom);
		result = record_save_end(j->agent, r, err);
		if (result < 0) {
			report_end(j, r, false);
			job_report(j, NULL, NULL, json_pack("{sb}", "unsaved", 1));
			return result;
		}
	}
	fault_point("reap.recorded");
	machine_move_recover(j, r, &run, false);
	volumes_release(j, &run);
	root_close(j, r);
	machine_pci_give_back(j->agent, j->id);
	fault_point("reap.closed");
	remove_run(j->agent, j->id);
	fault_point("reap.removed");
	if (!whole)
		record_cut_start(j, r);
	else if (!known)
		report_end(j, r, false);
	return 0;
}

/* --- recovery --- */

static json_t *running_execs(const struct agent *a, const char *id) {
	json_t *all = json_array();
	_cleanup_(free_ptr) char *base = run_path(a, id, "exec");
	DIR *d = opendir(base);
	for (struct dirent *e; d && (e = readdir(d));) {
		_cleanup_(free_ptr) char *path = exec_path(a, id, e->d_name, "state.json");
		_cleanup_(buf_free) struct buf text = BUF_INIT;
		if (e->d_name[0] == '.' || fs_read(path, 65536, &text) < 0)
			continue;
		_cleanup_(json_free_ptr) json_t *state = json_parse(buf_str(&text), text.len, NULL);
		_cleanup_(close_fd) int fd = pid_open((pid_t)json_get_int(state, "shim"),
						      (uint64_t)json_get_int(state, "shim_start"));
		if (fd < 0)
			continue;
		json_set_str(state, "id", e->d_name);
		json_array_append(all, state);
	}
	if (d)
		closedir(d);
	return all;
}

static void report_running(const struct job *j, struct msg_instance_create *r, struct run_state *run) {
	/* frozen for a commit, or for a pause that did not get as far as the record */
	bool running = str_same(r->instance.status.state, "running");
	if (running && cgroup_is_frozen(&run->container.cgroup))
		cgroup_freeze(&run->container.cgroup, false, NULL);
	machine_move_recover(j, r, run, true); /* before it goes on */
	if (instance_is_machine(&r->instance.spec))
		machine_recover(j->agent, r, run);
	volumes_recover(j, run);
	json_t *extra = json_object();
	json_set_int(extra, "shim_pid", run->shim);
	json_set_int(extra, "shim_start", (int64_t)run->shim_start);
	json_object_set_new(extra, "execs", running_execs(j->agent, j->id));
	json_set_bool(extra, "nics", true);
	json_set_bool(extra, "machine", instance_is_machine(&r->instance.spec));
	json_set_bool(extra, "other", identity_is_wanted(j->agent, j->id));
	json_t *health = health_print(r);
	if (health)
		json_object_set_new(extra, "health", health);
	job_report(j, NULL, &r->instance.status, extra);
}

/* A change of its networks may have been cut off. */
static void recover_running(const struct job *j, struct msg_instance_create *r, struct run_state *run) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	if (network_sync(j, r, run, &err) < 0)
		log_error("instance %.12s: %s", j->id, error_text(&err));
	report_running(j, r, run);
}

/* Nothing runs. The host may have gone down under it, or the agent while a restart was due. */
static int recover_down(struct job *j, struct msg_instance_create *r, struct error *err) {
	struct instance_status *st = &r->instance.status;
	unsigned state = state_bit(st->state);
	int result = cgroup_sweep(j->agent, j->id, err);
	if (result < 0)
		return result;
	memory_tidy(j->agent, j->id);
	if (state & S_UP) {
		record_end(j, r, false);
		status_set_error(st, "the host went down while it ran");
		result = record_save(j->agent, r, err);
		report_end(j, r, true);
		return result;
	}
	bool again = state == S_RESTARTING; /* also when a shutdown of the agent had stopped it */
	if (state == S_DEAD || again) {
		status_set_state(st, again ? "restarting" : "exited");
		result = record_save(j->agent, r, err);
		json_t *extra = json_object();
		json_set_bool(extra, "restart", again);
		json_set_bool(extra, "at_once", !j->agent->serving);
		job_report(j, NULL, st, extra);
	} else { /* a worker of an earlier agent may have put it away after this one had read its record */
		job_report(j, NULL, st, NULL);
	}
	return result;
}

int work_recover(struct job *j, struct error *err) {
	_cleanup_(instance_unlock) int lock = -1;
	_cleanup_(record_free) struct msg_instance_create r = {0};
	_cleanup_(run_free) struct run_state run = {0};
	int result = instance_lock(j->agent, j->id, LOCK_EX, 2 * LOCK_WAIT, &lock, err);
	if (result == -ERROR_NOT_FOUND)
		return 0;
	if (result == 0)
		result = record_load(j->agent, j->id, &r, err);
	bool ran = result == 0 && run_load(j->agent, j->id, &run, NULL) == 0;
	if (result == 0)
		result = instance_reap(j, &r, false, err);
	if (result < 0)
		return result;
	_cleanup_(close_fd) int shim = ran ? run_pidfd(&run) : -1;
	if (shim >= 0)
		recover_running(j, &r, &run);
	else if (!ran)
		return recover_down(j, &r, err);
	return 0;
}

/* --- stop, kill --- */

struct stop {
	struct job *job;
	struct msg_instance_create record;
	struct run_state run;
	int lock, shim;
};

static void stop_free(struct stop *s) {
	instance_unlock(&s->lock);
	record_free(&s->record);
	run_free(&s->run);
	close_fd(&s->shim);
}

/* Lock, record, run; a run that has ended is put away. shim is -1 when it does not run. */
static int open_instance(struct stop *s, struct error *err) {
	const struct agent *a = s->job->agent;
	int r = instance_lock(a, s->job->id, LOCK_EX, LOCK_WAIT, &s->lock, err);
	if (r == 0)
		r = record_load(a, s->job->id, &s->record, err);
	if (r == 0)
		r = instance_reap(s->job, &s->record, false, err);
	if (r == 0 && run_load(a, s->job->id, &s->run, NULL) == 0)
		s->shim = run_pidfd(&s->run);
	return r;
}

static int stop_signal(const struct stop *s, const char *wanted, struct error *err) {
	const char *names[] = {wanted, s->record.instance.spec.stop_signal, s->record.config.stop_signal,
			       runs_system(&s->record) ? "SIGRTMIN+3" : "SIGTERM"};
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (!names[i] || !*names[i])
			continue;
		int signo = signal_from_name(names[i]);
		return signo ? signo : error_field(err, "signal", "there is no signal \"%s\"", names[i]);
	}
	return SIGTERM;
}

static int hold(struct stop *s, bool on, struct error *err) {
	if (instance_is_machine(&s->record.instance.spec))
		return machine_pause(s->job->agent, s->job->id, on, err);
	return cgroup_freeze(&s->run.container.cgroup, on, err);
}

static int thaw(struct stop *s, struct error *err) {
	if (!str_same(s->record.instance.status.state, "paused"))
		return 0;
	status_set_state(&s->record.instance.status, "running");
	return hold(s, false, err);
}

/* Its memory is given up, before anything can say that it is still of use. */
static int give_up_memory(struct stop *s, struct error *err) {
	_cleanup_(free_ptr) char *dir = memory_path(s->job->agent, s->job->id, NULL);
	status_set_state(&s->record.instance.status, "exited");
	int r = record_save(s->job->agent, &s->record, err);
	return r < 0 ? r : memory_drop(s->job->agent, s->job->id, dir, err);
}

/* It does not run: nothing to stop but a restart that is due, or memory that waits. */
static int stop_idle(struct stop *s, bool user, struct error *err) {
	struct instance_status *st = &s->record.instance.status;
	bool was_due = str_same(st->state, "restarting"), suspended = str_same(st->state, "suspended");
	if (was_due)
		status_set_state(st, "exited");
	st->stopped_by_user |= user;
	/* a shutdown of the host leaves a machine suspended */
	int r = suspended && user ? give_up_memory(s, err) : record_save(s->job->agent, &s->record, err);
	if (r == 0)
		job_report(s->job, was_due || suspended ? "stop" : NULL, st, NULL);
	return r;
}

/* What makes room on a full disk must not need any. */
static void record_try_save(const struct stop *s) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	if (record_save(s->job->agent, &s->record, &err) < 0)
		log_warn("instance %.12s: %s", s->job->id, error_text(&err));
}

/* signo 0: its guest is asked to power down. It may have ended just now. */
static void ask_to_end(struct stop *s, int signo) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	if (signo)
		container_kill(&s->run.container, signo, false, NULL);
	else if (machine_power_down(s->job->agent, s->job->id, &err) < 0)
		log_warn("machine %.12s: %s", s->job->id, error_text(&err));
}

/* Of one whose guest does not power down. */
static void save_checkpoints(const struct stop *s) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	int r = checkpoints_wait(s->job->agent, s->job->id) ? checkpoints_end(s->job->agent, s->job->id, true, &err) : 0;
	if (r < 0 && r != -ERROR_NOT_FOUND)
		log_warn("machine %.12s: %s", s->job->id, error_text(&err));
}

static int signal_and_wait(struct stop *s, int signo, int64_t timeout, struct error *err) {
	job_report(s->job, NULL, &s->record.instance.status, NULL); /* that it is the user's wish, before it ends */
	int r = signo ? 0 : thaw(s, err);
	ask_to_end(s, signo);
	if (r == 0)
		r = thaw(s, err);
	record_try_save(s);
	fault_point("stop.signalled");
	instance_unlock(&s->lock);
	if (r < 0 || wait_end(s->shim, timeout))
		return r;
	if (!signo) {
		save_checkpoints(s);
		container_kill(&s->run.container, SIGTERM, false, NULL);
		if (wait_end(s->shim, QUIT_WAIT))
			return 0;
	}
	job_report(s->job, "overdue", &s->record.instance.status, NULL);
	container_kill(&s->run.container, SIGKILL, true, NULL);
	fault_point("stop.killed");
	if (!wait_end(s->shim, KILL_WAIT))
		return error_set(err, ERROR_TIMEOUT, "instance %.12s was killed but does not end", s->job->id);
	return 0;
}

int work_stop(struct job *j, struct error *err) {
	const struct msg_instance_stop *m = j->body;
	bool user = j->handler != &job_stop;
	_cleanup_(stop_free) struct stop s = {.job = j, .lock = -1, .shim = -1};
	int r = open_instance(&s, err);
	bool asks = r == 0 && !m->signal && instance_is_machine(&s.record.instance.spec);
	int signo = r == 0 && !asks ? stop_signal(&s, m->signal, err) : 0;
	if (r < 0 || signo < 0)
		return r < 0 ? r : signo;
	fault_point("stop.locked");
	if (s.shim < 0) {
		r = stop_idle(&s, user, err);
		return r < 0 ? r : job_answer_state(j, &s.record.instance, err);
	}
	const struct instance_spec *spec = &s.record.instance.spec;
	s.record.instance.status.stopped_by_user |= user;
	r = signal_and_wait(&s, signo, m->timeout >= 0 ? m->timeout : spec->stop_timeout, err);
	if (r < 0)
		return r;
	int64_t run = s.record.instance.status.started_at;
	record_free(&s.record);
	r = instance_lock(j->agent, j->id, LOCK_EX, LOCK_WAIT, &s.lock, err);
	if (r == 0)
		r = record_load(j->agent, j->id, &s.record, err);
	if (r < 0)
		return r;
	if (s.record.instance.status.started_at == run) /* it may not have been saved */
		s.record.instance.status.stopped_by_user |= user;
	r = instance_reap(j, &s.record, false, err);
	if (r == -ERROR_NO_SPACE)
		error_free(err);
	else if (r < 0)
		return r;
	fault_point("stop.reaped");
	job_report(j, "stop", &s.record.instance.status, NULL);
	return job_answer_state(j, &s.record.instance, err);
}

int work_kill(struct job *j, struct error *err) {
	const struct msg_instance_kill *m = j->body;
	_cleanup_(stop_free) struct stop s = {.job = j, .lock = -1, .shim = -1};
	int r = open_instance(&s, err);
	int signo = r == 0 ? stop_signal(&s, m->signal ? m->signal : "SIGKILL", err) : 0;
	if (r < 0 || signo < 0)
		return r < 0 ? r : signo;
	if (s.shim < 0)
		return error_set(err, ERROR_CONFLICT, "instance %.12s does not run", j->id);
	if (signo == SIGKILL || signo == stop_signal(&s, NULL, NULL))
		s.record.instance.status.stopped_by_user = true;
	record_try_save(&s);
	if (r == 0)
		r = container_kill(&s.run.container, signo, signo == SIGKILL, err);
	if (r == 0 && signo == SIGKILL)
		r = thaw(&s, err);
	if (r < 0)
		return r;
	job_report(j, "kill", &s.record.instance.status, NULL);
	return job_answer(j, NULL, NULL, 0, err);
}

/* --- freeze, change --- */

static int freeze(struct job *j, bool on, struct error *err) {
	_cleanup_(stop_free) struct stop s = {.job = j, .lock = -1, .shim = -1};
	struct instance_status *st = &s.record.instance.status;
	int r = open_instance(&s, err);
	if (r < 0)
		return r;
	if (s.shim < 0 || !str_same(st->state, on ? "running" : "paused"))
		return error_set(err, ERROR_CONFLICT, "instance %.12s is %s", j->id, st->state);
	r = hold(&s, on, err);
	if (r < 0)
		return r;
	fault_point("pause.frozen");
	status_set_state(st, on ? "paused" : "running");
	r = record_save(j->agent, &s.record, err);
	if (r < 0) {
		hold(&s, !on, NULL);
		return r;
	}
	job_report(j, on ? "pause" : "unpause", st, NULL);
	return job_answer_state(j, &s.record.instance, err);
}

int work_pause(struct job *j, struct error *err) {
	return freeze(j, true, err);
}

int work_unpause(struct job *j, struct error *err) {
	return freeze(j, false, err);
}

static void take_volumes(struct instance *i, const struct msg_instance_update *m) {
	for (size_t n = 0; n < i->volumes.n; n++)
		fields_free(&volume_use_table, &i->volumes.items[n]);
	i->volumes.items = alloc_resize(i->volumes.items, m->volumes.n + 1, sizeof *i->volumes.items);
	i->volumes.n = m->volumes.n;
	for (size_t n = 0; n < m->volumes.n; n++)
		fields_copy(&volume_use_table, &m->volumes.items[n], &i->volumes.items[n]);
}

/* Whether the spec can be taken over as it is, and the limits that it sets. */
static int check_update(const struct stop *s, const struct msg_instance_update *m, struct cgroup_config *limits,
			struct error *err) {
	bool mapped = !str_same(m->spec.userns, "host") && !m->spec.privileged;
	if (mapped != (s->record.instance.uid_base != 0))
		return error_field(err, "spec.userns", "the user ids of an instance are settled when it is made");
	int r = ports_check(s->job->agent, &s->record.instance.nics, &m->ports, err);
	return r < 0 ? r : limits_to_cgroup(&m->spec.limits, &limits->limits, err);
}

static void take_update(struct instance *i, const struct msg_instance_update *m) {
	fields_free(&instance_spec_table, &i->spec);
	fields_copy(&instance_spec_table, &m->spec, &i->spec);
	for (size_t k = 0; k < i->ports.n; k++)
		fields_free(&port_table, &i->ports.items[k]);
	free(i->ports.items);
	i->ports = (ports){.items = alloc_array(m->ports.n + 1, sizeof *i->ports.items)};
	for (; i->ports.n < m->ports.n; i->ports.n++)
		fields_copy(&port_table, &m->ports.items[i->ports.n], &i->ports.items[i->ports.n]);
	take_volumes(i, m);
}

/* At once, where it runs. */
static int apply_limits(const struct stop *s, const struct msg_instance_update *m, const struct cgroup_config *limits, struct error *err) {
	const struct cgroup_state *group = &s->run.container.cgroup;
	if (s->shim < 0)
		return 0;
	return instance_is_machine(&m->spec) ? machine_update(s->job->agent, &s->record, &m->spec, m->back, &s->run, err)
					     : cgroup_update(group, &limits->limits, err);
}

static int resize_root(const struct stop *s, int64_t size, struct error *err) {
	const struct msg_instance_create *r = &s->record;
	if (size == r->instance.spec.root_size)
		return 0;
	int result = machine_move_check(&s->run, s->job->id, err);
	if (result == 0)
		result = root_resize(s->job, r, size, err);
	bool told = s->shim >= 0 && instance_is_machine(&r->instance.spec) && !guest_is(r);
	return result == 0 && told ? machine_disk_resized(s->job->agent, s->job->id, NULL, size, err) : result;
}

int work_update(struct job *j, struct error *err) {
	const struct msg_instance_update *m = j->body;
	_cleanup_(stop_free) struct stop s = {.job = j, .lock = -1, .shim = -1};
	_cleanup_(record_free) struct msg_instance_create before = {0};
	struct cgroup_config limits = {0};
	int r = open_instance(&s, err);
	if (r < 0)
		return r;
	r = check_update(&s, m, &limits, err);
	if (r == 0)
		r = apply_limits(&s, m, &limits, err);
	cgroup_config_free(&limits);
	if (r < 0)
		return r;
	r = resize_root(&s, m->spec.root_size, err);
	if (r < 0)
		return r;
	fields_copy(&msg_instance_create_table, &s.record, &before);
	take_update(&s.record.instance, m);
	r = record_save(j->agent, &s.record, err);
	fault_point("update.saved");
	if (r == 0 && s.shim >= 0)
		r = network_sync(j, &s.record, &s.run, err);
	if (r < 0) {
		_cleanup_(error_free) struct error again = ERROR_INIT;
		if (record_save(j->agent, &before, &again) == 0 && s.shim >= 0)
			network_sync(j, &before, &s.run, &again);
		job_report(j, NULL, NULL, json_pack("{sb}", "nics", 1));
		return r;
	}
	job_report(j, "update", &s.record.instance.status, json_pack("{sb}", "nics", 1));
	return job_answer_state(j, &s.record.instance, err);
}
