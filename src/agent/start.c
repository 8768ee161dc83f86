/* Starting an instance: the worker makes the container, writes down each step before it takes it, answers,
 * and becomes the shim. Whatever step a crash falls on, RUN/shim/<id>/state.json says that there is a run to
 * put away. */
#include "agent/machine-priv.h"
#include "agent/network-priv.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "base/time.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <unistd.h>

#define LAST_WORDS_MS 200

struct start {
	struct job *job;
	struct msg_instance_create record;
	struct run_state run;
	struct container_config config;
	struct container_stdio io;
	struct stdio_pipes pipes;
	int listen_fd;
	struct network_start network;
	char *dir; /* RUN/shim/<id> */
	char *root; /* where its volume is open */
	struct volume_mounts volumes;
	struct machine_start machine;
};

static void start_free(struct start *s) {
	record_free(&s->record);
	container_config_free(&s->config);
	machine_start_free(&s->machine);
	run_free(&s->run);
	volumes_free(&s->volumes);
	free(s->root);
	network_start_free(&s->network);
	free(s->dir);
}

/* The run directory, the mark that a run begins, the socket. */
static int begin_run(struct start *s, struct error *err) {
	const struct agent *a = s->job->agent;
	const char *id = s->job->id;
	_cleanup_(free_ptr) char *ended = str_format("%s/exit", s->dir);
	int r = fs_mkdir_p(s->dir, 0700);
	if (r < 0)
		return error_errno(err, r, "cannot make %s", s->dir);
	_cleanup_(free_ptr) char *health = run_path(a, id, HEALTH_FILE);
	unlink(ended);
	unlink(health);
	machine_forget_run(a, id);
	s->run.shim = getpid();
	s->run.shim_start = pid_start_time(getpid());
	s->run.started_at = time_now_ns();
	r = volumes_plan(s->job->agent, &s->record, &s->run, err);
	if (r == 0)
		r = run_save(a, id, &s->run, err);
	fault_point("start.marked");
	if (r < 0)
		return r;
	s->listen_fd = s->job->listen_fd;
	if (s->listen_fd < 0)
		s->listen_fd = shim_listen(s->dir, err);
	return s->listen_fd < 0 ? -(int)(err ? err->kind : ERROR_INTERNAL) : 0;
}

/* The image may not hold the working directory: it is made, by the container's root, at the first start. */
static int make_workdir(struct start *s, const struct container_config *c, struct error *err) {
	const char *cwd = c->process.cwd;
	if (str_same(cwd, "/") || s->record.instance.status.started_at)
		return 0;
	_cleanup_(close_fd) int root = container_root_mount(c, err);
	if (root < 0)
		return root;
	_cleanup_(close_fd) int there = fs_open_in_root(root, cwd, O_PATH, 0);
	if (there != -ENOENT)
		return 0; /* a wrong one is the start's to tell */
	uid_t owner = (uid_t)s->record.instance.uid_base;
	setfsgid(owner);
	setfsuid(owner);
	_cleanup_(close_fd) int made = fs_mkdir_in_root(root, cwd, 0755);
	setfsuid(0);
	setfsgid(0);
	return made < 0 ? error_errno(err, made, "cannot make the working directory %s", cwd) : 0;
}

static int open_storage(struct start *s, struct error *err) {
	int r = root_open(s->job, &s->record, &s->root, err);
	if (r == 0)
		r = volumes_open(s->job, &s->record, &s->run, &s->volumes, err);
	s->machine.takes_checkpoints = r == 0 && !s->machine.receiver && checkpoints_kept(s->job->agent, &s->record, &s->run);
	s->machine.config.held = s->machine.takes_checkpoints;
	return r;
}

static int configure(struct start *s, struct error *err) {
	const struct agent *a = s->job->agent;
	bool machine = instance_is_machine(&s->record.instance.spec);
	int r = machine ? machine_build(s->job, &s->record, s->root, &s->volumes, &s->machine, &s->config, err)
			: config_build(a, &s->record, s->root, &s->volumes, &s->config, err);
	if (r == 0)
		r = files_lend(s->job, machine ? &s->machine.inner : &s->config, err);
	if (machine && !guest_is(&s->record))
		return r;
	if (r == 0)
		r = make_workdir(s, machine ? &s->machine.inner : &s->config, err);
	return r < 0 ? r : config_files_write(a, &s->record, err);
}

static int connect_networks(struct start *s, struct error *err) {
	int r = network_attach(s->job, &s->record, &s->run.container, &s->network, err);
	return r == 0 && instance_is_machine(&s->record.instance.spec) ? machine_link(&s->record, &s->run.container, err) : r;
}

static int create_container(struct start *s, struct error *err) {
	const struct agent *a = s->job->agent;
	const struct instance *i = &s->record.instance;
	int r = network_prepare(a, &s->record, &s->network, err);
	if (r == 0)
		r = open_storage(s, err);
	if (r == 0)
		r = configure(s, err);
	if (r == 0)
		r = stdio_pipes_open(&s->pipes, i->spec.tty, i->spec.stdin_open, (uid_t)i->uid_base, &s->io, err);
	s->io.pass = s->machine.pass;
	s->io.preserve_fds = (int)s->machine.n_pass;
	fault_point("start.configured");
	if (r == 0)
		r = container_create(&s->config, &s->io, &s->run.container, err);
	if (r < 0)
		return r;
	s->run.created = true;
	fault_point("start.created");
	volumes_filled(&s->volumes);
	r = run_save(a, s->job->id, &s->run, err);
	return r < 0 ? r : connect_networks(s, err);
}

static int record_running(struct start *s, struct error *err) {
	struct instance_status *st = &s->record.instance.status;
	int64_t restarts = s->job->handler == &job_start ? st->restart_count + 1 : 0;
	bool healthy = health_wanted(&s->record);
	fields_free(&instance_status_table, st);
	fields_init(&instance_status_table, st);
	status_set_state(st, "running");
	st->pid = s->run.container.pid;
	st->started_at = s->run.started_at;
	st->restart_count = restarts;
	st->vsock_cid = s->machine.config.vsock_cid;
	st->health = healthy ? str_copy("starting") : NULL;
	st->arriving = s->machine.receiver && receive_rest(s->machine.receiver);
	return record_save(s->job->agent, &s->record, err);
}

/* What QEMU says when it does not take a state, it says before it ends. */
static int load_memory(struct start *s, struct error *err) {
	char text[4096];
	struct receiver *receiver = s->machine.receiver;
	int r = receiver ? receive_load(s->job->agent, s->job->id, receiver, &s->record, &s->run, err)
			 : memory_load(s->job->agent, s->job->id, &s->machine, err);
	int from = s->io.terminal_master >= 0 ? s->io.terminal_master : s->pipes.err[0];
	struct pollfd p = {from, POLLIN, 0};
	ssize_t n = r < 0 && poll(&p, 1, LAST_WORDS_MS) > 0 ? read(from, text, sizeof text - 1) : 0;
	if (n <= 0)
		return r;
	text[n] = '\0';
	_cleanup_(free_ptr) char *words = text_shown(text);
	return error_wrap(err, "QEMU says \"%.400s\"", words);
}

/* All that was begun is undone; what is left of a process is killed. */
static void undo(struct start *s) {
	_cleanup_(free_ptr) char *state = str_format("%s/state.json", s->dir);
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(close_fd) int netns = network_netns(s->job->agent, s->job->id, &s->run);
	network_start_wait(&s->network);
	if ((s->run.created && container_destroy(&s->run.container, &err) < 0) ||
	    network_release(s->job->agent, &s->record, netns, &err) < 0) {
		log_error("instance %.12s: %s", s->job->id, error_text(&err));
		return; /* the mark stays: recovery tries again */
	}
	volumes_release(s->job, &s->run);
	root_close(s->job, &s->record);
	machine_pci_give_back(s->job->agent, s->job->id);
	unlink(state);
}

/* Writes down why it could not start; a restart policy tries again. */
static void record_failure(struct start *s, const struct error *why) {
	struct instance_status *st = &s->record.instance.status;
	bool again = false;
	status_set_error(st, error_text(why));
	st->exit_code = start_failure_code(why->kind);
	st->pid = 0;
	if (s->job->handler == &job_start) {
		st->restart_count++;
		st->finished_at = time_now_ns();
		again = restart_wanted(&s->record);
		status_set_state(st, again ? "restarting" : "exited");
	}
	record_save(s->job->agent, &s->record, NULL);
	json_t *extra = json_object();
	json_set_bool(extra, "not_started", true);
	json_set_bool(extra, "restart", again);
	job_report(s->job, "start_failed", st, extra);
}

static int start_steps(struct start *s, struct error *err) {
	int r = begin_run(s, err);
	if (r == 0)
		r = create_container(s, err);
	fault_point("start.written");
	if (r == 0)
		r = container_start(&s->run.container, err);
	fault_point("start.started");
	if (r == 0 && s->record.instance.spec.machine.pin)
		r = machine_pin(s->job->agent, &s->record, &s->run, err);
	bool goes_on = s->machine.config.incoming, takes = s->machine.takes_checkpoints;
	if (r == 0 && goes_on)
		r = load_memory(s, err);
	if (r == 0 && takes)
		r = checkpoints_load(s->job->agent, &s->record, &s->run, err);
	if (r == 0 && s->machine.receiver) /* it is for nobody to call off any more */
		job_report(s->job, NULL, NULL, json_pack("{s:b}", "answered", 1));
	if (r == 0)
		r = record_running(s, err);
	fault_point("start.recorded");
	if (r == 0 && goes_on)
		r = memory_go(s->job->agent, s->job->id, err);
	else if (r == 0 && takes)
		r = machine_pause(s->job->agent, s->job->id, false, err);
	if (r == 0 && s->machine.receiver)
		receive_gone(s->job->agent, s->job->id, s->machine.receiver, &s->run);
	if (r < 0 && goes_on) { /* it has not run */
		status_set_state(&s->record.instance.status, s->machine.receiver ? "created" : "suspended");
		if (s->machine.receiver)
			s->record.instance.status.started_at = 0;
	}
	if (r < 0)
		undo(s);
	return r;
}

static int become_shim(struct start *s, struct error *err) {
	const struct log_config *log = &s->record.instance.spec.log;
	_cleanup_(free_ptr) char *log_dir = instance_path(s->job->agent, s->job->id, "log");
	struct shim_start shim = {
		.id = s->job->id,
		.dir = s->dir,
		.log = str_same(log->driver, "none") ? NULL : log_dir,
		.log_max_size = log->max_size,
		.log_max_files = log->max_files,
		.pid = s->run.container.pid,
		.listen_fd = s->listen_fd,
		.in = s->pipes.in[1],
		.out = s->pipes.out[0],
		.err_ = s->pipes.err[0],
		.terminal = s->io.terminal_master,
		.wait_attach = s->job->early_clients,
		.stdin_once = s->record.instance.spec.stdin_once,
		.held = s->network.held,
		.n_held = s->network.n_held,
	};
	fault_point("start.exec");
	return shim_exec(s->job->agent, &shim, err);
}

/* May it start now? A start by policy gives way to what has happened meanwhile (*skip). */
static int check(struct start *s, bool *skip, struct error *err) {
	const struct instance_status *st = &s->record.instance.status;
	bool restarting = str_same(st->state, "restarting");
	*skip = s->job->handler == &job_start && !restarting;
	if (!*skip && state_bit(st->state) & S_UP)
		return error_set(err, ERROR_CONFLICT, "instance %.12s runs already", s->job->id);
	return 0;
}

int work_start(struct job *j, struct error *err) {
	return start_instance(j, NULL, err);
}

int start_instance(struct job *j, struct receiver *receiver, struct error *err) {
	_cleanup_(start_free) struct start s = {.job = j, .pipes = STDIO_PIPES_INIT, .listen_fd = -1};
	_cleanup_(instance_unlock) int lock = -1;
	container_config_init(&s.config);
	machine_start_init(&s.machine);
	s.machine.receiver = receiver;
	int r = instance_lock(j->agent, j->id, LOCK_EX, LOCK_WAIT, &lock, err);
	if (r == 0)
		r = record_load(j->agent, j->id, &s.record, err);
	if (r == 0)
		r = instance_reap(j, &s.record, false, err);
	bool skip = false;
	if (r == 0)
		r = check(&s, &skip, err);
	if (r < 0 || skip)
		return r;
	s.dir = run_path(j->agent, j->id, NULL);
	fault_point("start.locked");
	r = start_steps(&s, err);
	if (r < 0) {
		record_failure(&s, err);
		return r;
	}
	json_t *extra = json_object();
	json_set_bool(extra, "shim", true);
	json_set_bool(extra, "machine", instance_is_machine(&s.record.instance.spec));
	json_set_bool(extra, "other", s.machine.other);
	json_t *health = health_print(&s.record);
	if (health)
		json_object_set_new(extra, "health", health);
	job_report(j, j->handler == &job_start ? "restart" : "start", &s.record.instance.status, extra);
	fault_point("start.reported");
	r = job_answer_state(j, &s.record.instance, NULL); /* nobody may be there any more: it runs all the same */
	close_fd(&j->sock);
	instance_unlock(&lock);
	r = become_shim(&s, err);
	log_error("instance %.12s: %s", j->id, error_text(err));
	_exit(2); /* its end brings recovery, which kills what is left */
}
