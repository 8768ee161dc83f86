/* The agent's side of wabe-shim: its socket, its clients, and how a worker turns into it. */
#include "agent/agent-priv.h"

#include "base/fs.h"
#include "base/str.h"
#include "shim/protocol.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

/* The socket by way of its directory's descriptor: the length of a socket's path is limited, ours is not. */
static char *socket_by_fd(int dir) {
	return str_format("/proc/self/fd/%d/socket", dir);
}

static int open_dir(const char *dir, struct error *err) {
	int fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? error_errno(err, errno, "cannot open %s", dir) : fd;
}

int shim_listen(const char *dir, struct error *err) {
	int r = fs_mkdir_p(dir, 0700);
	if (r < 0)
		return error_errno(err, r, "cannot make %s", dir);
	_cleanup_(close_fd) int fd = open_dir(dir, err);
	if (fd < 0)
		return fd;
	_cleanup_(free_ptr) char *path = socket_by_fd(fd);
	int sock = sock_listen_unix(path, 0600);
	return sock < 0 ? error_errno(err, sock, "cannot listen in %s", dir) : sock;
}

int shim_attach(const char *dir, unsigned want, struct error *err) {
	_cleanup_(close_fd) int fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return error_errno(err, errno, "there is nothing to attach to");
	_cleanup_(free_ptr) char *path = socket_by_fd(fd);
	_cleanup_(close_fd) int sock = sock_connect_now(path); /* a shim that takes no more clients is an error */
	if (sock == -ECONNREFUSED || sock == -ENOENT)
		return error_set(err, ERROR_CONFLICT, "it has ended: there is nothing to attach to");
	if (sock < 0)
		return error_errno(err, sock, "cannot attach");
	const uint8_t frame[SHIM_HEADER + 1] = {[0] = SHIM_ATTACH, [7] = 1, [8] = (uint8_t)want};
	if (send(sock, frame, sizeof frame, MSG_NOSIGNAL) != (ssize_t)sizeof frame)
		return error_errno(err, errno, "cannot attach");
	fd_set_nonblock(sock, false);
	return TAKE_FD(sock);
}

static int open_pipe(int p[2], int end, uid_t owner, struct error *err) {
	if (pipe2(p, O_CLOEXEC) < 0)
		return error_errno(err, errno, "cannot make a pipe");
	return fchown(p[end], owner, owner) < 0 ? error_errno(err, errno, "cannot give a pipe to user %u", owner) : 0;
}

int stdio_pipes_open(struct stdio_pipes *p, bool tty, bool input, uid_t owner, struct container_stdio *io,
		     struct error *err) {
	*io = (struct container_stdio){-1, -1, -1, 0, -1};
	if (tty)
		return 0;
	int r = input ? open_pipe(p->in, 0, owner, err) : 0;
	if (r == 0)
		r = open_pipe(p->out, 1, owner, err);
	if (r == 0)
		r = open_pipe(p->err, 1, owner, err);
	*io = (struct container_stdio){p->in[0], p->out[1], p->err[1], 0, -1};
	return r;
}

/* The places that shim/shim.h names; held sockets come after them. */
enum { PLACE_LISTEN = 3, PLACE_IN, PLACE_OUT, PLACE_ERR, PLACE_READY };

/* Moves the descriptors to their places; one that is -1 leaves its place closed. */
static int place(const struct shim_start *s, struct error *err) {
	bool tty = s->terminal >= 0;
	_cleanup_(close_fd) int null = open("/dev/null", O_WRONLY | O_CLOEXEC); /* nobody waits for its readiness */
	const int fixed[] = {s->listen_fd, tty ? s->terminal : s->in, tty ? -1 : s->out, tty ? -1 : s->err_, null};
	size_t n = ARRAY_SIZE(fixed) + s->n_held;
	_cleanup_(free_ptr) int *above = alloc_array(n, sizeof *above);
	for (size_t i = 0; i < n; i++) {
		int from = i < ARRAY_SIZE(fixed) ? fixed[i] : s->held[i - ARRAY_SIZE(fixed)];
		above[i] = from < 0 ? -1 : fcntl(from, F_DUPFD_CLOEXEC, PLACE_LISTEN + (int)n);
		if (from >= 0 && above[i] < 0)
			return error_errno(err, errno, "cannot copy a descriptor");
	}
	close_fd(&null); /* now, as its number may be one of the places */
	for (size_t i = 0; i < n; i++) {
		close(PLACE_LISTEN + (int)i);
		if (above[i] >= 0 && dup2(above[i], PLACE_LISTEN + (int)i) < 0)
			return error_errno(err, errno, "cannot copy a descriptor");
	}
	syscall(SYS_close_range, PLACE_LISTEN + (unsigned)n, ~0U, 0);
	return 0;
}

int shim_exec(const struct agent *a, const struct shim_start *s, struct error *err) {
	_cleanup_(strv_free_ptr) char **argv = NULL;
	_cleanup_(free_ptr) char *log = s->log ? str_format("%s/log", s->log) : NULL;
	strv_add(&argv, a->shim);
	strv_add(&argv, "--id");
	strv_add(&argv, s->id);
	strv_add(&argv, "--pid");
	strv_take(&argv, str_format("%d", s->pid));
	strv_add(&argv, "--dir");
	strv_add(&argv, s->dir);
	if (log) {
		strv_add(&argv, "--log");
		strv_add(&argv, log);
		strv_add(&argv, "--log-max-size");
		strv_take(&argv, str_format("%lld", (long long)s->log_max_size));
		strv_add(&argv, "--log-max-files");
		strv_take(&argv, str_format("%lld", (long long)s->log_max_files));
	}
	if (s->stdin_once)
		strv_add(&argv, "--stdin-once");
	if (s->terminal >= 0)
		strv_add(&argv, "--tty");
	if (s->wait_attach)
		strv_add(&argv, "--wait-attach");
	if (s->exec)
		strv_add(&argv, "--exec");
	if (s->n_held) {
		strv_add(&argv, "--held");
		strv_take(&argv, str_format("%zu", s->n_held));
	}
	int r = place(s, err);
	if (r < 0)
		return r;
	static char *const env[] = {NULL};
	execve(a->shim, argv, env);
	return error_errno(err, errno, "cannot execute %s", a->shim);
}

char *program_beside(const struct agent *a, const char *name) {
	const char *slash = strrchr(a->shim, '/');
	return str_format("%.*s%s", slash ? (int)(slash + 1 - a->shim) : 0, a->shim, name);
}
