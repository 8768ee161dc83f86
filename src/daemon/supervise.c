/* The parent of agent and control. It owns the listening sockets, so that whoever connects while a role is
 * started again waits instead of being refused. The roles' programs are opened once: an upgrade of the files does not
 * mix versions. */
#include "daemon/supervise.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "base/time.h"
#include "daemon/sockets.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define DELAY_MIN (20 * NS_PER_MS)
#define DELAY_MAX NS_PER_SEC
#define LONG_LIFE (10 * NS_PER_SEC)
#define END_WAIT_MS 20000 /* for a role to end when told to; being killed harms none */
#define LOCK_TRIES 40 /* of 50 ms: a daemon that was killed takes its roles along in a moment */

static int lock_file(const char *dir, const char *role, struct error *err) {
	_cleanup_(free_ptr) char *path = str_format("%s/%s.lock", dir, role);
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return error_errno(err, errno, "opening %s", path);
	for (int i = 0; i < LOCK_TRIES; i++) {
		if (flock(fd, LOCK_EX | LOCK_NB) == 0)
			return 0; /* held until the process ends */
		if (errno != EWOULDBLOCK && errno != EINTR)
			break;
		poll(NULL, 0, 50);
	}
	int r = error_set(err, ERROR_EXISTS, "another wabe daemon works in %s: stop it, or choose other directories with --state and --run", dir);
	close(fd);
	return r;
}

int daemon_lock(const struct daemon_options *o, const char *role, struct error *err) {
	int r = fs_mkdir_p(o->state, 0755);
	if (r == 0)
		r = fs_mkdir_p(o->run, 0755);
	if (r < 0)
		return error_errno(err, r, "making %s and %s", o->state, o->run);
	r = lock_file(o->state, role, err);
	return r < 0 ? r : lock_file(o->run, role, err);
}

struct supervisor;

struct role {
	const char *name, *program;
	int exe;           /* the opened program; -1: this role is not ours */
	int fds[CONTROL_SOCKETS + 1]; /* what it gets, listening sockets first; n_fds */
	size_t n_fds;
	pid_t pid;         /* 0: does not run */
	int64_t began, again, delay; /* mono ns */
};

struct supervisor {
	const struct daemon_options *options;
	sigset_t signals; /* as they were */
	int signal_fd;
	struct role agent, control;
	bool said_ready;
};

/* In the child. */
static void role_exec(const struct supervisor *s, const struct role *r) {
	const struct daemon_options *o = s->options;
	char **argv = NULL;
	strv_add(&argv, r->program);
	strv_take(&argv, str_format("--state=%s", o->state));
	strv_take(&argv, str_format("--run=%s", o->run));
	strv_take(&argv, str_format("--uid=%u", o->uid));
	if (r == &s->control)
		strv_take(&argv, str_format("--gid=%u", o->gid));
	for (char **m = r == &s->control ? o->mirrors : NULL; m && *m; m++)
		strv_take(&argv, str_format("--mirror=%s", *m));
	for (char **d = r == &s->control ? o->certs : NULL; d && *d; d++)
		strv_take(&argv, str_format("--certs=%s", *d));
	for (size_t i = 0; i < r->n_fds; i++) {
		strv_take(&argv, str_format("--%s-fd=%d", i < CONTROL_SOCKETS ? "listen" : "ready", r->fds[i]));
		fd_set_cloexec(r->fds[i], false);
	}
	fexecve(r->exe, argv, environ);
	log_error("starting %s: %s", r->name, strerror(errno));
	_exit(EXIT_FAILURE);
}

static void role_start(struct supervisor *s, struct role *r) {
	pid_t parent = getpid();
	r->began = time_mono_ns();
	r->pid = fork();
	if (r->pid > 0)
		return;
	if (r->pid < 0) {
		log_error("starting %s: %s", r->name, strerror(errno));
		r->pid = 0;
		r->again = r->began + DELAY_MAX;
		return;
	}
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		_exit(EXIT_FAILURE);
	close(s->signal_fd);
	sigprocmask(SIG_SETMASK, &s->signals, NULL);
	role_exec(s, r);
}

/* Says whether the daemon shall end. */
static bool role_ended(struct role *r, int status) {
	int64_t now = time_mono_ns();
	bool quick = now - r->began < LONG_LIFE;
	r->pid = 0;
	if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SHUTDOWN)
		return true;
	if (WIFSIGNALED(status))
		log_warn("%s was killed by signal %d, starting it again", r->name, WTERMSIG(status));
	else
		log_warn("%s has ended with status %d, starting it again", r->name, WEXITSTATUS(status));
	r->delay = quick ? MIN(MAX(r->delay * 2, DELAY_MIN), DELAY_MAX) : DELAY_MIN;
	r->again = now + r->delay;
	return false;
}

static bool reap(struct supervisor *s) {
	int status;
	bool end = false;
	for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
		if (s->agent.pid == pid)
			end |= role_ended(&s->agent, status);
		else if (s->control.pid == pid)
			end |= role_ended(&s->control, status);
	}
	return end;
}

/* Starts what is due; gives how long to wait for the next, in ms. */
static int start_due(struct supervisor *s) {
	int64_t now = time_mono_ns(), wait = -1;
	struct role *const roles[] = {&s->agent, &s->control};
	for (size_t i = 0; i < ARRAY_SIZE(roles); i++) {
		struct role *r = roles[i];
		if (r->exe >= 0 && !r->pid && r->again <= now)
			role_start(s, r);
		if (r->exe >= 0 && !r->pid)
			wait = wait < 0 ? r->again - now : MIN(wait, r->again - now);
	}
	return wait < 0 ? -1 : (int)(wait / NS_PER_MS) + 1;
}

static void say_ready(struct supervisor *s) {
	if (s->said_ready)
		return;
	s->said_ready = true;
	if (fs_write_all(STDOUT_FILENO, "ready\n", 6) < 0)
		log_debug("nobody reads that the daemon is ready");
}

static void take_ready(struct supervisor *s, int fd) {
	char text[64];
	if (read(fd, text, sizeof text) > 0)
		say_ready(s);
}

static bool take_signal(struct supervisor *s) {
	struct signalfd_siginfo info;
	if (read(s->signal_fd, &info, sizeof info) != sizeof info)
		return false;
	return info.ssi_signo == SIGCHLD ? reap(s) : true;
}

static void role_stop(struct role *r) {
	int status;
	if (!r->pid)
		return;
	_cleanup_(close_fd) int ended = (int)syscall(SYS_pidfd_open, r->pid, 0);
	struct pollfd p = {ended, POLLIN, 0};
	kill(r->pid, SIGTERM);
	if (poll(&p, 1, END_WAIT_MS) == 0) {
		log_warn("%s does not end, killing it", r->name);
		kill(r->pid, SIGKILL);
	}
	RETRY_EINTR(waitpid(r->pid, &status, 0));
	r->pid = 0;
}

static void watch(struct supervisor *s, int ready) {
	bool end = false;
	while (!end) {
		int timeout = start_due(s);
		if (s->control.exe < 0)
			say_ready(s); /* the agent's socket is there: connections wait at worst */
		struct pollfd fds[2] = {{s->signal_fd, POLLIN, 0}, {ready, POLLIN, 0}};
		if (poll(fds, 2, timeout) <= 0)
			continue;
		if (fds[1].revents)
			take_ready(s, ready);
		if (fds[0].revents)
			end = take_signal(s);
	}
	/* an agent that has died is not started again: who waits for its answer must hear so */
	close_fd(&s->agent.fds[0]);
	role_stop(&s->control);
	role_stop(&s->agent);
}

static void block_signals(struct supervisor *s) {
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, &s->signals);
	s->signal_fd = signalfd(-1, &set, SFD_CLOEXEC);
}

/* The programs lie beside this one. */
static int role_open(struct role *r, struct error *err) {
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
	if (n < 0)
		return error_errno(err, errno, "finding this executable");
	self[n] = 0;
	*strrchr(self, '/') = 0;
	_cleanup_(free_ptr) char *path = str_format("%s/%s", self, r->program);
	r->exe = open(path, O_RDONLY | O_CLOEXEC);
	return r->exe < 0 ? error_errno(err, errno, "opening %s", path) : 0;
}

static int agent_prepare(struct supervisor *s, struct error *err) {
	int r = s->agent.fds[0] = agent_listen(s->options, err);
	s->agent.n_fds = 1;
	return r < 0 ? r : role_open(&s->agent, err);
}

static int control_prepare(struct supervisor *s, int *ready, struct error *err) {
	int fds[2];
	int r = control_listen(s->options, s->control.fds, err);
	if (r < 0)
		return r;
	if (pipe2(fds, O_CLOEXEC) < 0)
		return error_errno(err, errno, "making a pipe");
	*ready = fds[0];
	s->control.fds[CONTROL_SOCKETS] = fds[1];
	s->control.n_fds = CONTROL_SOCKETS + 1;
	return role_open(&s->control, err);
}

int supervise(const struct daemon_options *o, unsigned roles, struct error *err) {
	struct supervisor s = {
		.options = o,
		.agent = {.name = "the agent", .program = "wabe-agent", .exe = -1, .fds = {-1}},
		.control = {.name = "control", .program = "wabe-control", .exe = -1},
	};
	int ready = -1;
	int r = roles & ROLE_AGENT ? agent_prepare(&s, err) : 0;
	if (r == 0 && roles & ROLE_CONTROL)
		r = control_prepare(&s, &ready, err);
	if (r < 0)
		return r;
	block_signals(&s);
	watch(&s, ready);
	return 0;
}
