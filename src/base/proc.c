/* Running another program. */
#include "base/proc.h"

#include "base/fs.h"
#include "base/str.h"
#include "base/time.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATH_VALUE "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

static const char *const default_env[] = {"PATH=" PATH_VALUE, "HOME=/", "LANG=C.UTF-8", NULL};

int proc_wait(pid_t pid) {
	int status;
	if (RETRY_EINTR(waitpid(pid, &status, 0)) < 0)
		return -errno;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static char *title_room;
static size_t title_size;

void proc_title_room(char *const *argv) {
	title_room = argv[0];
	for (char *end = title_room; *argv && *argv == end; argv++) { /* they follow each other without a gap */
		end += strlen(*argv) + 1;
		title_size = (size_t)(end - title_room);
	}
}

/* The kernel takes arguments whose last byte is not NUL for a title, and shows them up to their first NUL. */
void proc_set_title(const char *title) {
	prctl(PR_SET_NAME, title, 0, 0, 0);
	if (title_size < 2)
		return;
	memset(title_room, 0, title_size);
	memcpy(title_room, title, MIN(strlen(title), title_size - 2));
	title_room[title_size - 1] = '.';
}

struct pipes {
	int in[2], out[2], err[2];
};

static void close_pair(int p[2]) {
	close_fd(&p[0]);
	close_fd(&p[1]);
}

static void pipes_close(struct pipes *p) {
	close_pair(p->in);
	close_pair(p->out);
	close_pair(p->err);
}

/* In the child: never returns. */
static void run_child(const struct proc *p, const struct pipes *pipes) {
	static const char failed[] = "cannot execute\n";
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int in = p->stdin_fd ? p->stdin_fd : pipes->in[0] >= 0 ? pipes->in[0] : null;
	int out = p->stdout_fd ? p->stdout_fd : pipes->out[1] >= 0 ? pipes->out[1] : null;
	int err = pipes->err[1] >= 0 ? pipes->err[1] : STDERR_FILENO;
	/* above the standard ones first, so that no dup2 overwrites the next one's source */
	in = fcntl(in, F_DUPFD_CLOEXEC, 3);
	out = fcntl(out, F_DUPFD_CLOEXEC, 3);
	err = fcntl(err, F_DUPFD_CLOEXEC, 3);
	if (dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0)
		_exit(127);
	syscall(SYS_close_range, 3, ~0U, 1U << 2 /* CLOSE_RANGE_CLOEXEC */);
	char *const *env = p->env ? p->env : (char *const *)default_env;
	struct rlimit memory = {p->memory_max, p->memory_max};
	if (setenv("PATH", PATH_VALUE, 1) == 0 && (!p->memory_max || setrlimit(RLIMIT_AS, &memory) == 0))
		execvpe(p->argv[0], p->argv, env);
	(void)!write(2, failed, sizeof failed - 1);
	_exit(127);
}

/* Moves data between us and the child until it has closed its outputs, or the deadline passes. */
static int pump(const struct proc *p, struct pipes *pipes, int pidfd, int64_t deadline) {
	size_t sent = 0;
	bool ended = false;
	while (!ended || pipes->out[0] >= 0 || pipes->err[0] >= 0) {
		struct pollfd fds[] = {
			{pipes->in[1], POLLOUT, 0},
			{pipes->out[0], POLLIN, 0},
			{pipes->err[0], POLLIN, 0},
			{ended ? -1 : pidfd, POLLIN, 0},
		};
		int64_t left = deadline ? deadline - time_mono_ns() : 0;
		if (deadline && left <= 0)
			return -ETIMEDOUT;
		/* once the child has ended, what is buffered is read, but a grandchild is not waited for */
		int wait = ended ? 0 : deadline ? (int)MIN(left / NS_PER_MS + 1, 3600000) : -1;
		int n = poll(fds, ARRAY_SIZE(fds), wait);
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0 && ended)
			return 0;
		if (n <= 0)
			continue;
		if (fds[0].revents) {
			ssize_t w = sent < p->input_len ? write(pipes->in[1], p->input + sent, p->input_len - sent) : -1;
			if (w > 0)
				sent += (size_t)w;
			if (sent == p->input_len || (w < 0 && errno != EAGAIN && errno != EINTR))
				close_fd(&pipes->in[1]);
		}
		for (int i = 1; i <= 2; i++) {
			int *fd = i == 1 ? &pipes->out[0] : &pipes->err[0];
			struct buf *to = i == 1 ? p->output : p->errors;
			if (!fds[i].revents)
				continue;
			char chunk[16384];
			ssize_t r = RETRY_EINTR(read(*fd, chunk, sizeof chunk));
			if (r > 0)
				buf_add(to, chunk, (size_t)r);
			else
				close_fd(fd);
		}
		if (fds[3].revents)
			ended = true;
	}
	return 0;
}

int proc_run(struct proc *p, struct error *err) {
	_cleanup_(pipes_close) struct pipes pipes = {{-1, -1}, {-1, -1}, {-1, -1}};
	if ((p->input && pipe2(pipes.in, O_CLOEXEC) < 0) || (p->output && pipe2(pipes.out, O_CLOEXEC) < 0) ||
	    (p->errors && pipe2(pipes.err, O_CLOEXEC) < 0))
		return error_errno(err, errno, "cannot make a pipe for %s", p->argv[0]);
	pid_t pid = fork();
	if (pid < 0)
		return error_errno(err, errno, "cannot start %s", p->argv[0]);
	if (pid == 0)
		run_child(p, &pipes);
	_cleanup_(close_fd) int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	close_fd(&pipes.in[0]);
	close_fd(&pipes.out[1]);
	close_fd(&pipes.err[1]);
	if (pipes.in[1] >= 0)
		fd_set_nonblock(pipes.in[1], true);
	int r = pump(p, &pipes, pidfd, p->deadline_ns ? time_mono_ns() + p->deadline_ns : 0);
	if (r < 0)
		kill(pid, SIGKILL);
	p->status = proc_wait(pid);
	if (r == -ETIMEDOUT)
		return error_set(err, ERROR_TIMEOUT, "%s did not end in time and was killed", p->argv[0]);
	if (r < 0)
		return error_errno(err, r, "cannot talk to %s", p->argv[0]);
	return p->status < 0 ? error_errno(err, p->status, "cannot wait for %s", p->argv[0]) : 0;
}

/* The last line of text that is not empty. */
static struct str last_line(const struct buf *text) {
	struct str rest = {buf_str(text), text->len}, last = {"", 0};
	while (rest.len) {
		struct str line = str_cut(&rest, '\n');
		if (line.len)
			last = line;
	}
	return last;
}

int proc_run_ok(struct proc *p, struct error *err) {
	_cleanup_(buf_free) struct buf own = BUF_INIT_MAX(65536);
	if (!p->errors)
		p->errors = &own;
	int r = proc_run(p, err);
	if (r == 0 && p->status != 0) {
		struct str why = last_line(p->errors);
		r = error_set(err, ERROR_INTERNAL, "%s failed with status %d: %.*s", p->argv[0], p->status,
			      (int)why.len, why.p);
	}
	if (p->errors == &own)
		p->errors = NULL;
	return r;
}
