/* create, start, run. */
#include "base/fs.h"
#include "base/proc.h"
#include "base/str.h"
#include "base/time.h"
#include "oci/oci-priv.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/pidfd.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

struct create_options {
	const char *id, *bundle, *pid_file, *console_socket;
	int preserve_fds;
	bool no_pivot, detach, keep;
};

enum { OPT_PID_FILE = 256, OPT_CONSOLE, OPT_PRESERVE, OPT_NO_PIVOT, OPT_NO_KEYRING, OPT_KEEP, OPT_NO_SUBREAPER };

static int parse(struct oci *o, const char *command, int argc, char **argv, struct create_options *out, struct error *err) {
	static const struct option options[] = {
		{"bundle", required_argument, NULL, 'b'},         {"pid-file", required_argument, NULL, OPT_PID_FILE},
		{"console-socket", required_argument, NULL, OPT_CONSOLE},
		{"preserve-fds", required_argument, NULL, OPT_PRESERVE},
		{"no-pivot", no_argument, NULL, OPT_NO_PIVOT},    {"no-new-keyring", no_argument, NULL, OPT_NO_KEYRING},
		{"detach", no_argument, NULL, 'd'},               {"keep", no_argument, NULL, OPT_KEEP},
		{"no-subreaper", no_argument, NULL, OPT_NO_SUBREAPER}, {0},
	};
	*out = (struct create_options){.bundle = "."};
	uint64_t n;
	for (int c; (c = getopt_long(argc, argv, "b:d", options, NULL)) != -1;) {
		switch (c) {
		case 'b':
			out->bundle = optarg;
			break;
		case 'd':
			out->detach = true;
			break;
		case OPT_PID_FILE:
			out->pid_file = optarg;
			break;
		case OPT_CONSOLE:
			out->console_socket = optarg;
			break;
		case OPT_PRESERVE:
			if (str_to_u64(optarg, 10, &n) < 0 || n > 1024)
				return error_field(err, "preserve-fds", "is a number up to 1024");
			out->preserve_fds = (int)n;
			break;
		case OPT_NO_PIVOT:
			out->no_pivot = true;
			break;
		case OPT_KEEP:
			out->keep = true;
			break;
		case OPT_NO_KEYRING:
		case OPT_NO_SUBREAPER:
			break;
		default:
			return oci_usage(o, command, err);
		}
	}
	if (optind != argc - 1)
		return oci_usage(o, command, err);
	out->id = argv[optind];
	return 0;
}

int oci_write_pid(const char *path, pid_t pid, struct error *err) {
	if (!path)
		return 0;
	/* whoever waits for the file must not read half of it */
	_cleanup_(free_ptr) char *temporary = str_format("%s.%d", path, getpid());
	_cleanup_(close_fd) int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	char text[16];
	int n = snprintf(text, sizeof text, "%d", pid);
	if (fd < 0 || write(fd, text, (size_t)n) != n || rename(temporary, path) < 0)
		return error_errno(err, errno, "cannot write the pid file %s", path);
	return 0;
}

/* The preserved descriptors stop being close-on-exec for the child only when it executes, so that nothing
 * is to be done here but to see that they are open. */
int oci_check_preserved(int n, struct error *err) {
	if (n > 0)
		container_close_self();
	for (int fd = 3; fd < 3 + n; fd++)
		if (fcntl(fd, F_GETFD) < 0)
			return error_set(err, ERROR_INVALID, "--preserve-fds %d: descriptor %d is not open", n, fd);
	return 0;
}

static int check_terminal(const struct create_options *q, bool terminal, bool leaves, struct error *err) {
	if (terminal && leaves && !q->console_socket)
		return error_set(err, ERROR_INVALID, "a terminal of a container that runs in the background needs --console-socket");
	if (!terminal && q->console_socket)
		return error_set(err, ERROR_INVALID, "--console-socket is given, but config.json asks for no terminal");
	return 0;
}

/* The state of one that starts at once is written while the first process works; another is not to be seen, and
 * started, before it has been made. */
static int make(struct oci *o, const struct container_config *c, struct container_stdio *io, bool starts, struct record *r,
		struct error *err) {
	int e = container_begin(c, io, &r->state, err);
	if (e < 0)
		return e;
	r->bundle = str_copy(c->bundle);
	r->created = time_now_ns();
	if (starts && (e = record_save(o, r, err)) < 0) {
		container_destroy(&r->state, NULL);
		return e;
	}
	return container_await(c, io, &r->state, err);
}

/* A container at its gate, with its state on disk; *master is the terminal that stays with us, or -1. status:
 * "started" where the start follows at once, and the container dies with us until then. */
static int create(struct oci *o, const struct create_options *q, bool leaves, const char *status, struct record *r, int *master,
		  struct error *err) {
	_cleanup_(container_config_free) struct container_config c;
	container_config_init(&c);
	int e = id_check(q->id, err);
	if (e == 0)
		e = spec_load(o, q->bundle, q->id, &c, err);
	if (e == 0)
		e = oci_check_preserved(q->preserve_fds, err);
	if (e == 0)
		e = check_terminal(q, c.process.terminal, leaves, err);
	if (e == 0)
		e = record_make(o, q->id, r, err);
	if (e < 0)
		return e;
	c.no_pivot = q->no_pivot;
	struct container_stdio io = {.in = 0, .out = 1, .err = 2, .preserve_fds = q->preserve_fds, .terminal_master = -1};
	bool starts = str_same(status, "started");
	r->status = str_copy(status);
	e = make(o, &c, &io, starts, r, err);
	if (e < 0) {
		record_remove(o, q->id, NULL);
		return e;
	}
	*master = io.terminal_master;
	if (q->console_socket && *master >= 0) {
		e = console_send(q->console_socket, *master, err);
		close_fd(master);
	}
	if (e == 0 && !starts)
		e = record_save(o, r, err);
	if (e == 0)
		e = oci_write_pid(q->pid_file, r->state.pid, err);
	if (e < 0)
		oci_delete_record(o, r, NULL);
	return e;
}

int oci_create(struct oci *o, int argc, char **argv, struct error *err) {
	struct create_options q;
	_cleanup_(record_free) struct record r = {.lock = -1};
	_cleanup_(close_fd) int master = -1;
	int e = parse(o, "create", argc, argv, &q, err);
	if (e == 0)
		e = create(o, &q, true, "created", &r, &master, err);
	if (e < 0)
		return e;
	container_hand_over(&r.state);
	return 0;
}

static int start(struct oci *o, struct record *r, struct error *err) {
	int e = container_start(&r->state, err);
	if (e < 0)
		return e;
	if (!str_same(r->status, "started")) {
		free(r->status);
		r->status = str_copy("started");
		e = record_save(o, r, err);
	}
	struct error hook = ERROR_INIT;
	if (container_run_hooks(&r->state, HOOK_POSTSTART, "running", &hook) < 0)
		oci_log(o, "warning", "%s", error_text(&hook)); /* the specification: go on */
	error_free(&hook);
	return e;
}

int oci_start(struct oci *o, int argc, char **argv, struct error *err) {
	if (argc != 2)
		return oci_usage(o, "start", err);
	_cleanup_(record_free) struct record r = {.lock = -1};
	int e = record_load(o, argv[1], &r, err);
	if (e < 0)
		return e;
	const char *status = record_status(&r);
	if (!str_same(status, "created"))
		return error_set(err, ERROR_CONFLICT, "cannot start the container %s: it is %s", argv[1], status);
	return start(o, &r, err);
}

/* Signals for us are signals for the process; SIGCHLD says that it has ended. */
static void forward_signals(int pidfd) {
	sigset_t set;
	sigfillset(&set);
	sigdelset(&set, SIGTTIN);
	sigdelset(&set, SIGTTOU);
	sigdelset(&set, SIGTSTP);
	for (;;) {
		struct pollfd fd = {pidfd, POLLIN, 0};
		if (poll(&fd, 1, 0) > 0)
			return;
		siginfo_t info;
		int signo = sigwaitinfo(&set, &info);
		if (signo > 0 && signo != SIGCHLD && signo != SIGPIPE && signo != SIGWINCH)
			pidfd_send_signal(pidfd, signo, NULL, 0);
	}
}

int oci_wait(pid_t pid, int pidfd, int master) {
	if (master >= 0) {
		terminal_relay(master, pidfd);
		return proc_wait(pid);
	}
	forward_signals(pidfd);
	return proc_wait(pid);
}

void oci_block_signals(void) {
	sigset_t set;
	sigfillset(&set);
	sigdelset(&set, SIGTTIN);
	sigdelset(&set, SIGTTOU);
	sigdelset(&set, SIGTSTP);
	sigprocmask(SIG_BLOCK, &set, NULL);
}

int oci_run(struct oci *o, int argc, char **argv, struct error *err) {
	struct create_options q;
	_cleanup_(record_free) struct record r = {.lock = -1};
	_cleanup_(close_fd) int master = -1;
	int e = parse(o, "run", argc, argv, &q, err);
	if (e == 0)
		e = create(o, &q, q.detach, "started", &r, &master, err);
	if (e < 0)
		return e;
	if (!q.detach && master < 0)
		oci_block_signals();
	e = start(o, &r, err);
	if (e < 0) {
		oci_delete_record(o, &r, NULL);
		return e;
	}
	if (q.detach)
		return 0;
	int status = oci_wait(r.state.pid, r.state.pidfd, master);
	e = q.keep ? 0 : oci_delete_record(o, &r, err);
	return e < 0 ? e : status;
}
