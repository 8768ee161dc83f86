/* The console carries what the container's first process reads and writes, byte by byte. Two processes copy, so that an output
 * that the host does not take keeps nobody else waiting. */
#include "guest/guest-priv.h"

#include "base/fs.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <termios.h>
#include <unistd.h>

#define CONSOLE 1 /* /dev/console, as the kernel has opened it */

/* As the host has it: nothing is changed on the way. */
static void make_raw(void) {
	struct termios t;
	if (tcgetattr(CONSOLE, &t) < 0)
		return;
	cfmakeraw(&t);
	t.c_cflag |= CLOCAL | CREAD;
	tcsetattr(CONSOLE, TCSANOW, &t);
}

void console_drain(void) {
	tcdrain(CONSOLE);
}

/* Until the end of `from`: of a terminal that nobody has open any more it is an error. */
__attribute__((noreturn)) static void copy(int from, int to) {
	static char chunk[32768];
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (ssize_t n; (n = RETRY_EINTR(read(from, chunk, sizeof chunk))) > 0;)
		if (fs_write_all(to, chunk, (size_t)n) < 0)
			break;
	_exit(0);
}

static int start(int from, int to, int other, pid_t *pid, struct error *err) {
	*pid = fork();
	if (*pid < 0)
		return error_errno(err, errno, "cannot start a process");
	if (*pid == 0) {
		close_fd(&other);
		copy(from, to);
	}
	return 0;
}

/* Pipes, but where a terminal is made along with the process. */
int console_open(struct guest *g, struct container_stdio *io, struct error *err) {
	int in[2] = {-1, -1}, out[2] = {-1, -1};
	make_raw();
	*io = (struct container_stdio){.in = -1, .out = -1, .err = -1, .terminal_master = -1};
	if (g->config.tty)
		return 0;
	if (pipe2(out, O_CLOEXEC) < 0 || (g->config.stdin_open && pipe2(in, O_CLOEXEC) < 0))
		return error_errno(err, errno, "cannot make a pipe");
	io->out = io->err = out[1];
	io->in = in[0];
	int r = start(out[0], CONSOLE, out[1], &g->output, err);
	if (r == 0 && g->config.stdin_open)
		r = start(CONSOLE, in[1], in[0], &g->input, err);
	close_fd(&out[0]);
	close_fd(&in[1]);
	return r;
}

int console_relay(struct guest *g, struct container_stdio *io, struct error *err) {
	int r = 0;
	if (g->config.tty) {
		r = start(io->terminal_master, CONSOLE, -1, &g->output, err);
		if (r == 0)
			r = start(CONSOLE, io->terminal_master, -1, &g->input, err);
		close_fd(&io->terminal_master);
		return r;
	}
	close_fd(&io->out);
	close_fd(&io->in);
	io->err = -1;
	return 0;
}
