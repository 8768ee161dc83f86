/* One health check, in a worker: an exec that is waited for and judged by its exit status. The last results are kept
 * beside the run (RUN/shim/<id>/health.json) for whoever asks. */
#include "agent/machine-priv.h"

#include "base/fs.h"
#include "base/proc.h"
#include "base/str.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <unistd.h>

#define DEFAULT_TIMEOUT (30 * NS_PER_SEC)

/* --- what is kept --- */

static void log_load(const struct agent *a, const char *id, struct msg_health *log) {
	_cleanup_(free_ptr) char *path = run_path(a, id, HEALTH_FILE);
	if (object_load(&msg_health_table, path, log, NULL) < 0)
		*log = (struct msg_health){0};
}

/* Takes r. It is for looking at: where it cannot be written, the check counts all the same. */
static void log_add(const struct job *j, struct health_result *r, bool counts) {
	struct msg_health log;
	log_load(j->agent, j->id, &log);
	log.results.items = alloc_resize(log.results.items, log.results.n + 1, sizeof *log.results.items);
	log.results.items[log.results.n++] = *r;
	struct msg_health kept = {.failures = r->exit_code == 0 ? 0 : log.failures + counts};
	size_t first = log.results.n - MIN(log.results.n, (size_t)HEALTH_RESULTS);
	kept.results.items = log.results.items + first;
	kept.results.n = log.results.n - first;
	_cleanup_(json_free_ptr) json_t *json = fields_print(&msg_health_table, &kept);
	_cleanup_(free_ptr) char *text = json_print(json), *path = run_path(j->agent, j->id, HEALTH_FILE);
	file_replace(path, text, strlen(text), 0600);
	fields_free(&msg_health_table, &log);
}

int work_health_log(struct job *j, struct error *err) {
	struct msg_health log;
	log_load(j->agent, j->id, &log);
	int r = job_answer(j, &log, NULL, 0, err);
	fields_free(&msg_health_table, &log);
	return r;
}

/* --- the check --- */

/* What is there to read now; NULs, which a text cannot hold, are left out. */
static void take_output(int fd, struct buf *out) {
	char piece[4096];
	ssize_t n;
	while ((n = read(fd, piece, sizeof piece)) > 0)
		for (ssize_t k = 0; k < n && out->len < HEALTH_OUTPUT; k++)
			if (piece[k])
				buf_addc(out, piece[k]);
}

/* Waits for the end of the child. Its exit status, -1 past the timeout. */
static int64_t judge(pid_t pid, int fd, int64_t timeout, struct buf *out) {
	_cleanup_(close_fd) int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	int64_t until = time_mono_ns() + timeout;
	for (bool open = true;;) {
		struct pollfd p[2] = {{pidfd, POLLIN, 0}, {open ? fd : -1, POLLIN, 0}};
		int64_t left = (until - time_mono_ns()) / NS_PER_MS + 1;
		int n = left > 0 ? RETRY_EINTR(poll(p, 2, (int)MIN(left, 3600000))) : 0;
		take_output(fd, out);
		open &= !(p[1].revents & POLLHUP);
		if (n != 0 && p[0].revents)
			return proc_wait(pid);
		if (left > 0)
			continue;
		kill(pid, SIGKILL);
		proc_wait(pid);
		buf_truncate(out, 0);
		_cleanup_(free_ptr) char *text = duration_to_str(timeout);
		buf_addf(out, "Health check exceeded timeout (%s)", text);
		return -1;
	}
}

static char **check_command(const struct health_check *h) {
	char **command = NULL;
	if (strcmp(h->command[0], "CMD-SHELL") == 0) {
		strv_add(&command, "/bin/sh");
		strv_add(&command, "-c");
	}
	for (size_t i = 1; h->command[i]; i++)
		strv_add(&command, h->command[i]);
	return command;
}

static int start_check(const struct job *j, const struct msg_instance_create *record, const struct run_state *run, int *lock,
		       int output, pid_t *pid, struct error *err) {
	_cleanup_(strv_free_ptr) char **command = check_command(health_effective(record));
	_cleanup_(free_ptr) char *exec_id = random_hex(32);
	struct container_stdio io = {-1, output, output, 0, -1};
	struct container_config c;
	if (instance_is_machine(&record->instance.spec)) {
		const struct msg_exec_start m = {.id = (char *)j->id, .exec_id = exec_id, .command = command};
		return machine_exec(j, record, run, &m, lock, &io, pid, err);
	}
	int r = config_exec(record, command, NULL, NULL, NULL, &c, err);
	if (r == 0)
		r = container_exec(&run->container, &c.process, false, &io, pid, err);
	container_config_free(&c);
	return r;
}

/* r tells how it went in any case; an error is one of wabe's own. */
static int run_check(const struct job *j, const struct msg_instance_create *record, const struct run_state *run, int *lock,
		     struct health_result *r, struct error *err) {
	_cleanup_(buf_free) struct buf out = BUF_INIT;
	_cleanup_(close_fd) int reader = -1;
	int pair[2];
	pid_t pid;
	if (pipe2(pair, O_CLOEXEC) < 0)
		return error_errno(err, errno, "cannot make a pipe");
	reader = pair[0];
	fd_set_nonblock(reader, true);
	int result = start_check(j, record, run, lock, pair[1], &pid, err);
	close(pair[1]);
	instance_unlock(lock);
	if (result == 0) {
		int64_t timeout = health_effective(record)->timeout;
		r->exit_code = judge(pid, reader, timeout ? timeout : DEFAULT_TIMEOUT, &out);
	} else {
		buf_adds(&out, error_text(err));
	}
	r->output = str_copy(buf_str(&out));
	return result;
}

static int check(struct job *j, bool *ok, struct error *err) {
	_cleanup_(record_free) struct msg_instance_create record = {0};
	_cleanup_(run_free) struct run_state run = {0};
	_cleanup_(instance_unlock) int lock = -1;
	int r = instance_lock(j->agent, j->id, LOCK_SH, LOCK_WAIT, &lock, err);
	if (r == 0)
		r = record_load(j->agent, j->id, &record, err);
	if (r == 0)
		r = run_load(j->agent, j->id, &run, err);
	if (r < 0)
		return r;
	struct health_result result = {.started_at = time_now_ns(), .exit_code = -1};
	r = run_check(j, &record, &run, &lock, &result, err);
	result.finished_at = time_now_ns();
	*ok = result.exit_code == 0;
	log_add(j, &result, result.started_at >= run.started_at + health_effective(&record)->start_period);
	return r;
}

int health_work(struct job *j, struct error *err) {
	bool ok = false;
	int r = check(j, &ok, err);
	json_t *extra = json_object();
	json_set_bool(extra, "healthy", ok);
	job_report(j, NULL, NULL, extra);
	/* a bad check is no bad agent */
	return r == -ERROR_NOT_FOUND || r == -ERROR_NO_COMMAND || r == -ERROR_NO_EXEC ? 0 : r;
}
