/* The console carries what the container's first process writes, byte by byte. A process copies, so that an output that the host
 * does not take keeps nobody else waiting. */
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

/* other: an end that the copying process must not keep open. */
static int start_copying(int from, int other, struct guest *g, struct error *err) {
	g->output = fork();
	if (g->output < 0)
		return error_errno(err, errno, "cannot start a process");
	if (g->output == 0) {
		close_fd(&other);
		copy(from, CONSOLE);
	}
	return 0;
}

/* Pipes, but where a terminal is made along with the process. That of the input comes last: nobody else keeps its end open. */
int console_open(struct guest *g, struct container_stdio *io, struct error *err) {
	int in[2] = {-1, -1}, out[2];
	make_raw();
	*io = (struct container_stdio){.in = -1, .out = -1, .err = -1, .terminal_master = -1};
	if (g->config.tty)
		return 0;
	if (pipe2(out, O_CLOEXEC) < 0)
		return error_errno(err, errno, "cannot make a pipe");
	_cleanup_(close_fd) int end = out[0];
	io->out = io->err = out[1];
	int r = start_copying(end, out[1], g, err);
	if (r == 0 && g->config.stdin_open && pipe2(in, O_CLOEXEC) < 0)
		r = error_errno(err, errno, "cannot make a pipe");
	io->in = in[0];
	g->input = in[1];
	return r;
}

int console_relay(struct guest *g, struct container_stdio *io, struct error *err) {
	if (g->config.tty) {
		g->input = TAKE_FD(io->terminal_master);
		return start_copying(g->input, -1, g, err);
	}
	close_fd(&io->out);
	close_fd(&io->in);
	io->err = -1;
	return 0;
}
