/* Execs: further processes with streams of their own, each on a port that the host has plugged in for it (model/guest.h). Two
 * processes of ours serve one, so that input and output do not keep each other waiting. */
#include "guest/guest-priv.h"

#include "base/fs.h"
#include "base/proc.h"
#include "base/time.h"
#include "shim/protocol.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CHUNK 32768
#define QUIET_MS 100               /* after the process's end others may go on to write for so long, */
#define DRAIN_NS (2 * NS_PER_SEC)  /* and no longer */

struct stream {
	int fd; /* -1: closed */
	int owed; /* bytes that lay in it when the process ended */
};

struct session {
	int port;
	pid_t pid;
	int pidfd;
	int in, terminal; /* ours; -1: none */
	struct stream out, err;
};

/* --- frames --- */

static bool send_frame(int port, int type, const void *data, size_t n) {
	uint8_t header[SHIM_HEADER];
	shim_header(header, type, n);
	return fs_write_all(port, header, sizeof header) == 0 && (!n || fs_write_all(port, data, n) == 0);
}

/* False: the host has gone. */
static bool read_frame(int port, size_t max, int *type, struct buf *body) {
	uint8_t header[SHIM_HEADER];
	buf_truncate(body, 0);
	if (fs_read_full(port, header, sizeof header) != (ssize_t)sizeof header)
		return false;
	size_t size = shim_length(header);
	*type = header[0];
	if (size > max || fs_read_full(port, buf_room(body, size), size) != (ssize_t)size)
		return false;
	buf_grown(body, size);
	return true;
}

static void send_failure(int port, const struct error *err) {
	_cleanup_(json_free_ptr) json_t *o = json_pack("{s:s}", "kind", error_kind_name(err->kind));
	_cleanup_(free_ptr) char *words = str_copyn(error_text(err), strnlen(error_text(err), 4096));
	json_object_set_new(o, "message", json_from_str(words));
	_cleanup_(free_ptr) char *text = json_print(o);
	send_frame(port, GUEST_FAILED, text, strlen(text));
}

/* --- start --- */

/* By default as the container's own user, where it works. */
static void describe(const struct guest_config *g, const struct guest_run *q, struct container_process *p) {
	p->args = strv_copy(q->command);
	p->env = strv_copy(g->env);
	for (char **e = q->env; e && *e; e++)
		strv_env_set(&p->env, *e);
	if (q->tty && !strv_env_get(p->env, "TERM"))
		strv_add(&p->env, "TERM=xterm");
	p->user = str_copy(q->user ? q->user : g->user ? g->user : "0");
	p->groups = q->user ? NULL : strv_copy(g->groups);
	p->cwd = str_copy(q->workdir ? q->workdir : g->workdir ? g->workdir : "/");
	p->terminal = q->tty;
	p->rows = (uint16_t)q->rows;
	p->columns = (uint16_t)q->columns;
}

static int open_pipes(const struct guest_run *q, struct container_stdio *io, struct session *s, struct error *err) {
	int in[2] = {-1, -1}, out[2] = {-1, -1}, errors[2] = {-1, -1};
	*io = (struct container_stdio){.in = -1, .out = -1, .err = -1, .terminal_master = -1};
	if (q->tty)
		return 0;
	if ((q->stdin_open && pipe2(in, O_CLOEXEC) < 0) || pipe2(out, O_CLOEXEC) < 0 || pipe2(errors, O_CLOEXEC) < 0)
		return error_errno(err, errno, "cannot make a pipe");
	io->in = in[0];
	io->out = out[1];
	io->err = errors[1];
	s->in = in[1];
	s->out.fd = out[0];
	s->err.fd = errors[0];
	return 0;
}

static int start(const struct guest *g, const struct guest_run *q, struct session *s, struct error *err) {
	_cleanup_(container_process_free) struct container_process p = {0};
	struct container_stdio io;
	describe(&g->config, q, &p);
	int r = open_pipes(q, &io, s, err);
	if (r == 0)
		r = container_exec(&g->state, &p, true, &io, &s->pid, err);
	close_fd(&io.in);
	close_fd(&io.out);
	close_fd(&io.err);
	if (r < 0)
		return r;
	if (q->tty)
		s->in = s->terminal = s->out.fd = io.terminal_master;
	s->pidfd = (int)syscall(SYS_pidfd_open, s->pid, 0);
	return s->pidfd < 0 ? error_errno(err, errno, "cannot watch the process") : 0;
}

/* --- input --- */

static void resize(const struct session *s, const struct buf *body) {
	const uint8_t *v = (const uint8_t *)body->data;
	if (body->len != 4 || s->terminal < 0)
		return;
	struct winsize size = {.ws_row = (unsigned short)(v[0] << 8 | v[1]), .ws_col = (unsigned short)(v[2] << 8 | v[3])};
	ioctl(s->terminal, TIOCSWINSZ, &size);
}

static void take_input(struct session *s, const struct buf *body) {
	if (s->in < 0)
		return;
	bool end = !body->len && s->terminal < 0;
	if (end || (body->len && fs_write_all(s->in, body->data, body->len) < 0))
		close_fd(&s->in);
}

/* Until the host hangs up, which is the process's end. */
__attribute__((noreturn)) static void serve_input(struct session *s) {
	_cleanup_(buf_free) struct buf body = BUF_INIT;
	int type;
	while (read_frame(s->port, SHIM_FRAME_MAX, &type, &body)) {
		if (type == SHIM_STDIN)
			take_input(s, &body);
		else if (type == SHIM_RESIZE)
			resize(s, &body);
	}
	syscall(SYS_pidfd_send_signal, s->pidfd, SIGKILL, NULL, 0);
	_exit(0);
}

/* --- output --- */

static void stream_count(struct stream *s) {
	if (s->fd < 0 || ioctl(s->fd, FIONREAD, &s->owed) < 0)
		s->owed = 0;
}

/* False: nobody takes it any more. */
static bool forward(struct session *s, struct stream *from, int type) {
	static char chunk[CHUNK];
	ssize_t n = RETRY_EINTR(read(from->fd, chunk, sizeof chunk));
	if (n <= 0) { /* of a terminal that nobody has open any more it is an error */
		from->owed = 0;
		if (from->fd != s->terminal)
			close_fd(&from->fd);
		from->fd = -1;
		return true;
	}
	from->owed -= MIN(from->owed, (int)n);
	return send_frame(s->port, type, chunk, (size_t)n);
}

/* All that the process has written, and what others still write into its streams, for a while. Gives its status. */
static int serve_output(struct session *s) {
	int status = -1;
	int64_t until = 0;
	while (status < 0 || s->out.fd >= 0 || s->err.fd >= 0) {
		struct pollfd p[] = {{status < 0 ? s->pidfd : -1, POLLIN, 0}, {s->out.fd, POLLIN, 0}, {s->err.fd, POLLIN, 0}};
		int n = RETRY_EINTR(poll(p, ARRAY_SIZE(p), status < 0 ? -1 : QUIET_MS));
		bool late = n == 0 || time_mono_ns() > until;
		if (status >= 0 && !s->out.owed && !s->err.owed && late)
			break;
		if ((p[1].revents && !forward(s, &s->out, SHIM_STDOUT)) || (p[2].revents && !forward(s, &s->err, SHIM_STDERR)))
			syscall(SYS_pidfd_send_signal, s->pidfd, SIGKILL, NULL, 0);
		if (!p[0].revents)
			continue;
		status = proc_wait(s->pid);
		stream_count(&s->out);
		stream_count(&s->err);
		until = time_mono_ns() + DRAIN_NS;
	}
	return status;
}

/* --- the whole of an exec --- */

static int read_request(int port, struct guest_run *q, struct error *err) {
	_cleanup_(buf_free) struct buf body = BUF_INIT;
	int type;
	if (!read_frame(port, GUEST_RUN_MAX, &type, &body) || type != GUEST_RUN)
		return error_set(err, ERROR_CORRUPT, "what comes first is no request");
	_cleanup_(json_free_ptr) json_t *o = json_parse(buf_str(&body), body.len, err);
	return o ? fields_parse(&guest_run_table, o, 0, q, err) : -ERROR_INVALID;
}

static pid_t start_input(struct session *s) {
	pid_t pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		serve_input(s);
	}
	return pid;
}

__attribute__((noreturn)) static void session_run(struct guest *g, int port) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct session s = {.port = port, .in = -1, .terminal = -1, .out = {-1, 0}, .err = {-1, 0}};
	struct guest_run q = {0};
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_IGN);
	close_fd(&g->input);
	if (!send_frame(port, GUEST_HELLO, NULL, 0)) /* which waits for the host to be there */
		_exit(0);
	if (read_request(port, &q, &err) < 0 || start(g, &q, &s, &err) < 0) {
		send_failure(port, &err);
		_exit(0);
	}
	pid_t input = send_frame(port, SHIM_READY, NULL, 0) ? start_input(&s) : -1;
	if (input < 0)
		syscall(SYS_pidfd_send_signal, s.pidfd, SIGKILL, NULL, 0);
	if (s.in != s.terminal)
		close_fd(&s.in);
	int status = serve_output(&s);
	const uint8_t end[4] = {0, 0, 0, (uint8_t)status};
	send_frame(port, SHIM_EXIT, end, sizeof end);
	_exit(0);
}

/* --- the first process's input --- */

static void look_for_input(struct guest *g) {
	_cleanup_(strv_free_ptr) char **paths = g->input < 0 ? NULL : ports_find(GUEST_INPUT, NULL);
	_cleanup_(close_fd) int port = paths ? open(paths[0], O_RDWR | O_CLOEXEC) : -1;
	struct session s = {.port = port, .pidfd = -1, .in = g->input, .terminal = g->config.tty ? g->input : -1};
	pid_t pid = port < 0 ? -1 : fork();
	if (pid == 0) {
		signal(SIGPIPE, SIG_IGN);
		send_frame(port, GUEST_HELLO, NULL, 0); /* which waits for the host to be there */
		serve_input(&s);
	}
	if (pid > 0)
		close_fd(&g->input);
}

/* A port is there until the host takes it away, and has one exec. */
void sessions_look(struct guest *g) {
	static char **served;
	look_for_input(g);
	char **names = NULL;
	_cleanup_(strv_free_ptr) char **paths = ports_find(GUEST_PORT, &names);
	for (size_t i = 0; paths && paths[i]; i++) {
		int port = strv_has(served, names[i]) ? -1 : open(paths[i], O_RDWR | O_CLOEXEC);
		pid_t pid = port < 0 ? -1 : fork();
		if (pid == 0)
			session_run(g, port);
		close_fd(&port);
	}
	strv_free(served);
	served = names;
}
