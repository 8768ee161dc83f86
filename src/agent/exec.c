/* Further processes in a running instance. Each has a shim of its own, and a directory RUN/shim/<id>/exec/<exec
 * id> that outlives it, for those who ask how it ended, until it is deleted or the instance is. */
#include "agent/machine-priv.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "base/time.h"
#include "shim/protocol.h"

#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define END_WAIT_MS 10000

struct exec {
	struct job *job;
	struct msg_instance_create record;
	struct run_state run;
	struct container_config config;
	struct container_stdio io;
	struct stdio_pipes pipes;
	int lock, listen_fd, stream;
	char *dir;
	pid_t pid;
};

static void exec_free(struct exec *x) {
	instance_unlock(&x->lock);
	record_free(&x->record);
	run_free(&x->run);
	container_config_free(&x->config);
	close_fd(&x->stream);
	free(x->dir);
}

static int save_state(const struct exec *x, struct error *err) {
	_cleanup_(free_ptr) char *path = str_format("%s/state.json", x->dir);
	_cleanup_(json_free_ptr) json_t *json = json_object();
	json_set_int(json, "shim", getpid());
	json_set_int(json, "shim_start", (int64_t)pid_start_time(getpid()));
	json_set_int(json, "pid", x->pid);
	json_set_int(json, "pid_start", x->pid ? (int64_t)pid_start_time(x->pid) : 0);
	_cleanup_(free_ptr) char *text = json_print(json);
	int r = file_replace(path, text, strlen(text), 0600);
	return r < 0 ? error_errno(err, r, "cannot write %s", path) : 0;
}

static int load_instance(struct exec *x, struct error *err) {
	const struct agent *a = x->job->agent;
	const char *id = x->job->id;
	int r = instance_lock(a, id, LOCK_SH, LOCK_WAIT, &x->lock, err);
	if (r == 0)
		r = record_load(a, id, &x->record, err);
	if (r == 0 && (run_load(a, id, &x->run, NULL) < 0 || !x->run.created ||
		       !container_state_alive(&x->run.container)))
		r = error_set(err, ERROR_CONFLICT, "instance %.12s does not run", id);
	return r;
}

/* Directory, socket and, unless detached, the connection that the caller gets. */
static int open_dir(struct exec *x, const struct msg_exec_start *m, struct error *err) {
	_cleanup_(free_ptr) char *base = run_path(x->job->agent, m->id, "exec");
	int r = fs_mkdir_p(base, 0700);
	if (r < 0)
		return error_errno(err, r, "cannot make %s", base);
	if (mkdir(x->dir, 0700) < 0)
		return errno == EEXIST ? error_set(err, ERROR_EXISTS, "instance %.12s has an exec %s already", m->id,
						   m->exec_id)
				       : error_errno(err, errno, "cannot make %s", x->dir);
	r = save_state(x, err);
	x->listen_fd = r == 0 ? shim_listen(x->dir, err) : -1;
	if (x->listen_fd < 0)
		return r < 0 ? r : -(int)(err ? err->kind : ERROR_INTERNAL);
	if (m->detach)
		return 0;
	unsigned want = SHIM_WANT_STDOUT | SHIM_WANT_STDERR | (m->stdin_open ? SHIM_WANT_STDIN : 0);
	x->stream = shim_attach(x->dir, want, err);
	return x->stream < 0 ? x->stream : 0;
}

static int start_in_container(struct exec *x, const struct msg_exec_start *m, struct error *err) {
	int r = config_exec(&x->record, m->command, m->env, m->user, m->workdir, &x->config, err);
	if (r < 0)
		return r;
	x->config.process.terminal = m->tty;
	x->config.process.rows = (uint16_t)m->rows;
	x->config.process.columns = (uint16_t)m->columns;
	if (m->tty && !strv_env_get(x->config.process.env, "TERM"))
		strv_add(&x->config.process.env, "TERM=xterm");
	return container_exec(&x->run.container, &x->config.process, m->privileged, &x->io, &x->pid, err);
}

static int start_process(struct exec *x, const struct msg_exec_start *m, struct error *err) {
	int r = stdio_pipes_open(&x->pipes, m->tty, m->stdin_open, (uid_t)x->record.instance.uid_base, &x->io, err);
	if (r == 0 && instance_is_machine(&x->record.instance.spec))
		r = machine_exec(x->job, &x->record, &x->run, m, &x->lock, &x->io, &x->pid, err);
	else if (r == 0)
		r = start_in_container(x, m, err);
	fault_point("exec.started");
	return r == 0 ? save_state(x, err) : r;
}

int work_exec_start(struct job *j, struct error *err) {
	const struct msg_exec_start *m = j->body;
	_cleanup_(exec_free) struct exec x = {.job = j, .pipes = STDIO_PIPES_INIT, .lock = -1, .listen_fd = -1,
					      .stream = -1};
	container_config_init(&x.config);
	int r = load_instance(&x, err);
	if (r < 0)
		return r;
	x.dir = exec_path(j->agent, m->id, m->exec_id, NULL);
	r = open_dir(&x, m, err);
	if (r == -ERROR_EXISTS)
		return r;
	if (r == 0)
		r = start_process(&x, m, err);
	if (r < 0) {
		fs_remove_tree(x.dir);
		return r;
	}
	json_t *extra = json_object();
	json_set_bool(extra, "exec", true);
	job_report(j, "exec_start", NULL, extra);
	struct msg_exec_started reply = {.pid = x.pid};
	job_answer(j, &reply, &x.stream, x.stream >= 0 ? 1 : 0, NULL);
	close_fd(&j->sock);
	close_fd(&x.stream);
	instance_unlock(&x.lock);
	struct shim_start shim = {.id = m->exec_id, .dir = x.dir, .pid = x.pid, .listen_fd = x.listen_fd,
				  .in = x.pipes.in[1], .out = x.pipes.out[0],
				  .err_ = x.pipes.err[0], .terminal = x.io.terminal_master, .exec = true,
				  .stdin_once = true, .wait_attach = !m->detach};
	shim_exec(j->agent, &shim, err);
	log_error("exec %.12s: %s", m->exec_id, error_text(err));
	kill(x.pid, SIGKILL);
	_exit(1);
}

int work_exec_delete(struct job *j, struct error *err) {
	const struct msg_exec *m = j->body;
	_cleanup_(free_ptr) char *dir = exec_path(j->agent, m->id, m->exec_id, NULL);
	_cleanup_(free_ptr) char *path = str_format("%s/state.json", dir);
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	if (fs_read(path, 65536, &text) == 0) {
		_cleanup_(json_free_ptr) json_t *state = json_parse(buf_str(&text), text.len, NULL);
		_cleanup_(close_fd) int process = pid_open((pid_t)json_get_int(state, "pid"),
							   (uint64_t)json_get_int(state, "pid_start"));
		_cleanup_(close_fd) int shim = pid_open((pid_t)json_get_int(state, "shim"),
							(uint64_t)json_get_int(state, "shim_start"));
		if (process >= 0)
			syscall(SYS_pidfd_send_signal, process, SIGKILL, NULL, 0);
		struct pollfd p = {shim, POLLIN, 0};
		if (shim >= 0 && RETRY_EINTR(poll(&p, 1, END_WAIT_MS)) == 0)
			return error_set(err, ERROR_TIMEOUT, "exec %.12s was killed but does not end", m->exec_id);
	}
	int r = fs_remove_tree(dir);
	if (r < 0)
		return error_errno(err, r, "cannot remove %s", dir);
	return job_answer(j, NULL, NULL, 0, err);
}
