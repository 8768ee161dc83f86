/* Workers: forking one, listening to what it reports, seeing its end. Also the watch over shims, which were
 * workers once. Nothing here knows what the work is. */
#include "agent/network-priv.h"
#include "agent/storage-priv.h"

#include "base/fs.h"
#include "base/log.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <linux/capability.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORKERS_MAX 256
#define REPORT_MAX ((size_t)65536)

static const char *work_name(const struct child *c) {
	return c->handler ? c->handler->name : c->kind == CHILD_SHIM ? "shim" : "exec";
}

/* --- in the worker --- */

static int compare_ints(const void *a, const void *b) {
	return *(const int *)a - *(const int *)b;
}

/* Closes everything but the standard descriptors and those of the job. */
static void close_others(const struct job *j) {
	int keep[WIRE_FDS_MAX + 4];
	size_t n = 0;
	keep[n++] = STDERR_FILENO;
	for (size_t i = 0; i < j->nfds; i++)
		keep[n++] = j->fds[i];
	if (j->sock >= 0)
		keep[n++] = j->sock;
	if (j->listen_fd >= 0)
		keep[n++] = j->listen_fd;
	keep[n++] = j->report;
	qsort(keep, n, sizeof keep[0], compare_ints);
	for (size_t i = 0; i < n; i++) {
		unsigned from = (unsigned)keep[i] + 1, to = i + 1 < n ? (unsigned)keep[i + 1] - 1 : ~0U;
		if (from <= to)
			syscall(SYS_close_range, from, to, 0);
	}
}

static void reset_signals(void) {
	sigset_t none;
	sigemptyset(&none);
	for (int signo = 1; signo < NSIG; signo++)
		signal(signo, SIG_DFL);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* From here on the peer may go without ending the worker. */
static void report_answered(const struct job *j) {
	if (j->handler->cancel)
		job_report(j, NULL, NULL, json_pack("{sb}", "answered", 1));
}

__attribute__((noreturn)) static void worker_run(struct job *j) {
	struct error err = ERROR_INIT;
	reset_signals();
	setrlimit(RLIMIT_NOFILE, &j->agent->nofile);
	setsid(); /* a signal to the daemon's process group is not for shims */
	close_others(j);
	if (j->sock >= 0)
		fd_set_nonblock(j->sock, false);
	prctl(PR_SET_NAME, "wabe-worker");
	int r = j->handler->work(j, &err);
	if (r < 0 && j->sock >= 0) {
		report_answered(j);
		wire_send_error(j->sock, &err);
	}
	if (r < 0 && j->sock < 0)
		log_warn("%s of %.12s failed: %s", j->handler->name, j->id, error_text(&err));
	_exit(r < 0 ? 1 : 0);
}

void job_report(const struct job *j, const char *action, const struct instance_status *status, json_t *extra) {
	_cleanup_(json_free_ptr) json_t *report = extra ? extra : json_object();
	json_set_str(report, "action", action);
	if (status)
		json_object_set_new(report, "status", fields_print(&instance_status_table, status));
	_cleanup_(free_ptr) char *text = json_print(report);
	char ack;
	/* The agent may be gone: its successor reads the disk. */
	if (RETRY_EINTR(send(j->report, text, strlen(text), MSG_NOSIGNAL)) > 0)
		(void)!RETRY_EINTR(recv(j->report, &ack, 1, 0));
}

int job_answer(const struct job *j, const void *reply, const int *fds, size_t nfds, struct error *err) {
	if (j->sock < 0)
		return 0;
	report_answered(j);
	const struct field_table *t = j->handler->request->reply;
	_cleanup_(json_free_ptr) json_t *body = reply ? fields_print(t, reply) : json_object();
	return wire_send(j->sock, "ok", body, fds, nfds, err);
}

void job_progress(const struct job *j, const char *message, int64_t done, int64_t total) {
	struct msg_progress p = {.message = (char *)message, .done = done, .total = total};
	_cleanup_(json_free_ptr) json_t *body = fields_print(&msg_progress_table, &p);
	wire_send(j->sock, "progress", body, NULL, 0, NULL);
}

void job_final(const struct job *j, const char *message) {
	struct msg_progress p = {.message = (char *)message, .final = true};
	_cleanup_(json_free_ptr) json_t *body = fields_print(&msg_progress_table, &p);
	job_report(j, NULL, NULL, json_pack("{s:b}", "answered", 1));
	wire_send(j->sock, "progress", body, NULL, 0, NULL);
}

int job_answer_state(const struct job *j, const struct instance *i, struct error *err) {
	struct msg_instance_state reply = {.id = i->id, .uid_base = i->uid_base, .status = i->status};
	return job_answer(j, &reply, NULL, 0, err);
}

/* --- in the agent --- */

static void child_free(struct child *c) {
	struct agent *a = c->agent;
	for (struct child **at = &a->children; *at; at = &(*at)->next)
		if (*at == c) {
			*at = c->next;
			break;
		}
	if (c->kind == CHILD_WORKER)
		a->n_children--;
	loop_remove(c->on_end);
	loop_remove(c->on_report);
	close_fd(&c->pidfd);
	close_fd(&c->report);
	free(c);
}

void children_free(struct agent *a) {
	while (a->children)
		child_free(a->children);
}

void child_cancel(struct child *c) {
	c->peer = NULL;
	kill(-c->pid, SIGKILL); /* the worker leads a session: what it runs goes with it */
	kill(c->pid, SIGKILL);
}

/* Takes all reports that are there. */
static void read_reports(struct child *c) {
	for (;;) {
		_cleanup_(free_ptr) char *text = alloc_zero(REPORT_MAX);
		ssize_t n = RETRY_EINTR(recv(c->report, text, REPORT_MAX, MSG_DONTWAIT));
		if (n <= 0) {
			if (n == 0) {
				loop_remove(c->on_report);
				c->on_report = NULL;
			}
			return;
		}
		_cleanup_(json_free_ptr) json_t *report = json_parse(text, (size_t)n, NULL);
		if (report)
			report_handle(c, report);
		send(c->report, "", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
	}
}

static void on_report(UNUSED struct loop_source *s, UNUSED uint32_t events, void *arg) {
	read_reports(arg);
}

static void worker_ended(struct child *c, bool crashed, int code) {
	struct agent *a = c->agent;
	if (c->peer)
		peer_close(c->peer);
	c->peer = NULL;
	if (crashed)
		log_warn("%s of %.12s was ended by signal %d", work_name(c), c->id, code);
	struct inst *i = inst_get(a, c->id);
	bool creating = i && i->creating;
	if (creating)
		inst_remove(i); /* it did not report success */
	else if (i && (crashed || code > 1) && !c->recovering)
		inst_recover(a, c->id);
	if (i && !creating && c->handler == &job_health)
		health_ended(i);
	if (i && !creating)
		inst_check_restart(i);
	if (*c->pool_id)
		pool_worker_ended(c);
	if (crashed && c->handler->freezes)
		inst_recover_all(a);
	if (crashed && (creating || !*c->id) && c->handler != &job_cleanup)
		cleanup_start(a);
	network_worker_ended(c, crashed || code != 0, crashed);
	if (c->recovering && --a->n_recovering == 0)
		peers_serve(a);
	if (c->stopping && --a->n_stopping == 0)
		shutdown_done(a);
	if (c->handler == &job_pools_down)
		shutdown_finish(a);
}

static void on_end(UNUSED struct loop_source *s, UNUSED uint32_t events, void *arg) {
	struct child *c = arg;
	siginfo_t info = {0};
	bool ours = RETRY_EINTR(waitid(P_PIDFD, (id_t)c->pidfd, &info, WEXITED | WNOHANG)) == 0;
	if (ours && info.si_pid == 0)
		return;
	if (c->report >= 0)
		read_reports(c);
	if (c->kind == CHILD_WORKER)
		worker_ended(c, ours && info.si_code != CLD_EXITED, info.si_status);
	else
		shim_ended(c);
	child_free(c);
}

struct child *child_watch(struct agent *a, enum child_kind kind, pid_t pid, int pidfd, const char *id,
			  const char *exec_id) {
	struct child *c = NEW(struct child);
	*c = (struct child){.agent = a, .kind = kind, .pid = pid, .pidfd = pidfd, .report = -1};
	snprintf(c->id, sizeof c->id, "%s", id);
	snprintf(c->exec_id, sizeof c->exec_id, "%s", exec_id);
	c->next = a->children;
	a->children = c;
	c->on_end = loop_add_fd(a->loop, pidfd, EPOLLIN, on_end, c);
	return c;
}

int worker_start(struct agent *a, const struct job *job, struct error *err) {
	struct job j = *job;
	int pair[2];
	if (j.sock >= 0 && a->n_children >= WORKERS_MAX)
		return error_set(err, ERROR_BUSY, "%d operations go on; try again when some are done", WORKERS_MAX);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return error_errno(err, errno, "cannot make a socket for %s", j.handler->name);
	_cleanup_(close_fd) int mine = pair[0];
	_cleanup_(close_fd) int its = pair[1];
	pid_t pid = fork();
	if (pid < 0)
		return error_errno(err, errno, "cannot start a worker for %s", j.handler->name);
	if (pid == 0) {
		j.report = its;
		worker_run(&j);
	}
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (pidfd < 0) {
		int r = error_errno(err, errno, "cannot watch the worker of %s", j.handler->name);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		return r;
	}
	struct child *c = child_watch(a, CHILD_WORKER, pid, pidfd, j.id, j.exec_id);
	a->n_children++;
	c->handler = j.handler;
	memcpy(c->pool_id, j.pool_id, sizeof c->pool_id);
	c->recovering = (j.handler == &job_recover || j.handler == &job_networks || pool_is_awaited(a, &j)) && !a->serving;
	a->n_recovering += c->recovering;
	c->stopping = j.handler == &job_stop || j.handler == &job_networks_down;
	a->n_stopping += c->stopping;
	c->report = TAKE_FD(mine);
	c->on_report = loop_add_fd(a->loop, c->report, EPOLLIN, on_report, c);
	if (j.peer)
		peer_hand_over(j.peer, c, j.handler->cancel);
	return 0;
}

int worker_drop_bounds(void) {
	int has;
	for (unsigned c = 0; (has = prctl(PR_CAPBSET_READ, c, 0, 0, 0)) >= 0; c++)
		if (has && prctl(PR_CAPBSET_DROP, c, 0, 0, 0) < 0)
			return -1;
	return 0;
}

int worker_drop_powers(void) {
	if (worker_drop_bounds() < 0)
		return -1;
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {0};
	return syscall(SYS_capset, &header, data) < 0 ? -1 : prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}
