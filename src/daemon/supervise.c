/* The parent of agent and control. It owns the listening sockets, so that whoever connects while a role is
 * started again waits instead of being refused. The agent is a plain fork; control is started anew from the
 * executable, so that its memory has an address layout of its own. */
#include "daemon/supervise.h"

#include "agent/agent.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "base/time.h"
#include "control/control.h"

#include <fcntl.h>
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

int agent_listen(const struct daemon_options *o, struct error *err) {
	_cleanup_(free_ptr) char *path = str_format("%s/agent.sock", o->run);
	_cleanup_(close_fd) int fd = sock_listen_unix(path, 0600);
	if (fd < 0)
		return error_errno(err, fd, "listening on %s", path);
	if (chown(path, o->uid, o->gid) < 0)
		return error_errno(err, errno, "giving %s to the user wabe", path);
	return TAKE_FD(fd);
}

struct supervisor;

struct role {
	const char *name;
	void (*run)(const struct supervisor *s); /* in the child; does not return */
	pid_t pid;         /* 0: does not run */
	int64_t began, again, delay; /* mono ns */
};

struct supervisor {
	const struct daemon_options *options;
	sigset_t signals; /* as they were */
	int signal_fd, agent_fd, control_fds[CONTROL_SOCKETS];
	int ready_fd; /* where control says so */
	int self;     /* our executable */
	struct role roles[2];
	bool said_ready;
};

static void run_agent(const struct supervisor *s) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct agent_options o = {
		.state = s->options->state,
		.run = s->options->run,
		.uid = s->options->uid,
		.listen_fd = s->agent_fd,
	};
	for (size_t i = 0; i < CONTROL_SOCKETS; i++)
		close(s->control_fds[i]);
	close(s->ready_fd);
	close(s->self);
	prctl(PR_SET_NAME, "wabe-agent");
	log_open("agent", LOG_INFO);
	int r = agent_main(&o, &err);
	if (r < 0)
		log_error("%s", error_text(&err));
	_exit(r < 0 ? EXIT_FAILURE : r == AGENT_SHUTDOWN ? EXIT_SHUTDOWN : EXIT_SUCCESS);
}

static void run_control(const struct supervisor *s) {
	char ready_fd[16];
	snprintf(ready_fd, sizeof ready_fd, "%d", s->ready_fd);
	const char *const own[] = {"wabed", "--role", "control", "--state", s->options->state, "--run", s->options->run,
				   "--ready-fd", ready_fd};
	char **argv = NULL;
	for (size_t i = 0; i < ARRAY_SIZE(own); i++)
		strv_add(&argv, own[i]);
	for (size_t i = 0; i < CONTROL_SOCKETS; i++) {
		strv_add(&argv, "--listen-fd");
		strv_take(&argv, str_format("%d", s->control_fds[i]));
		fd_set_cloexec(s->control_fds[i], false);
	}
	for (char **m = s->options->mirrors; m && *m; m++) {
		strv_add(&argv, "--mirror");
		strv_add(&argv, *m);
	}
	fd_set_cloexec(s->ready_fd, false);
	fexecve(s->self, argv, environ);
	log_error("starting control: %s", strerror(errno));
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
	r->run(s);
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
	for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;)
		for (size_t i = 0; i < ARRAY_SIZE(s->roles); i++)
			if (s->roles[i].pid == pid)
				end |= role_ended(&s->roles[i], status);
	return end;
}

/* Starts what is due; gives how long to wait for the next, in ms. */
static int start_due(struct supervisor *s) {
	int64_t now = time_mono_ns(), wait = -1;
	for (size_t i = 0; i < ARRAY_SIZE(s->roles); i++) {
		struct role *r = &s->roles[i];
		if (!r->pid && r->again <= now)
			role_start(s, r);
		if (!r->pid)
			wait = wait < 0 ? r->again - now : MIN(wait, r->again - now);
	}
	return wait < 0 ? -1 : (int)(wait / NS_PER_MS) + 1;
}

static void take_ready(struct supervisor *s, int fd) {
	char text[64];
	if (read(fd, text, sizeof text) <= 0 || s->said_ready)
		return;
	s->said_ready = true;
	if (fs_write_all(STDOUT_FILENO, "ready\n", 6) < 0)
		log_debug("nobody reads that the daemon is ready");
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
		struct pollfd fds[2] = {{s->signal_fd, POLLIN, 0}, {ready, POLLIN, 0}};
		if (poll(fds, 2, timeout) <= 0)
			continue;
		if (fds[1].revents)
			take_ready(s, ready);
		if (fds[0].revents)
			end = take_signal(s);
	}
	/* an agent that has died is not started again: who waits for its answer must hear so */
	close_fd(&s->agent_fd);
	role_stop(&s->roles[1]);
	role_stop(&s->roles[0]);
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

int supervise(const struct daemon_options *o, struct error *err) {
	struct supervisor s = {
		.options = o,
		.control_fds = {-1, -1},
		.roles = {{.name = "the agent", .run = run_agent}, {.name = "control", .run = run_control}},
	};
	int ready[2];
	s.agent_fd = agent_listen(o, err);
	if (s.agent_fd < 0)
		return s.agent_fd;
	int r = control_listen(o->run, o->gid, s.control_fds, err);
	if (r < 0)
		return r;
	s.self = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	if (s.self < 0 || pipe2(ready, O_CLOEXEC) < 0)
		return error_errno(err, errno, "preparing to start agent and control");
	s.ready_fd = ready[1];
	block_signals(&s);
	watch(&s, ready[0]);
	return 0;
}
