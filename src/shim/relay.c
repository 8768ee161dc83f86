/* wabe-machine exec: stands in a machine's container for a process inside the machine (model/guest.h). Descriptor 3 is the process's
 * port, on which that runs already. What comes on standard input goes there, what the process writes comes out here; a terminal
 * is made raw, and its changes of size are told. It ends with the process's status, or with 137 when the machine has gone
 * or started anew. Killed, it closes the port, which ends the process. Two processes, so that neither direction waits for the other. */
#include "shim/protocol.h"
#include "shim/shim-priv.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

#define PORT 3 /* of wabe-machine exec */
#define LOST 137

static int port = PORT;
static char body[SHIM_HEADER + SHIM_FRAME_MAX];

static bool write_all(int fd, const char *data, size_t n) {
	while (n) {
		ssize_t written = write(fd, data, n);
		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
			return false;
		data += written;
		n -= (size_t)written;
	}
	return true;
}

static bool read_all(int fd, char *to, size_t n) {
	while (n) {
		ssize_t got = read(fd, to, n);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return false;
		to += got;
		n -= (size_t)got;
	}
	return true;
}

/* Of what stands in body behind the header. */
static bool send_frame(enum shim_frame type, size_t n) {
	shim_header(body, type, n);
	return write_all(port, body, SHIM_HEADER + n);
}

/* --- to the process --- */

static bool tell_size(void) {
	struct winsize size;
	if (ioctl(0, TIOCGWINSZ, &size) < 0)
		return true;
	const char text[4] = {(char)(size.ws_row >> 8), (char)size.ws_row, (char)(size.ws_col >> 8), (char)size.ws_col};
	memcpy(body + SHIM_HEADER, text, sizeof text);
	return send_frame(SHIM_RESIZE, sizeof text);
}

/* False at the end of input. */
static bool pass_input(void) {
	ssize_t n = read(0, body + SHIM_HEADER, SHIM_FRAME_MAX);
	if (n < 0 && errno == EINTR)
		return true;
	return send_frame(SHIM_STDIN, n > 0 ? (size_t)n : 0) && n > 0;
}

void relay_send_input(int to) {
	sigset_t window;
	port = to;
	sigemptyset(&window);
	sigaddset(&window, SIGWINCH);
	sigprocmask(SIG_BLOCK, &window, NULL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	int changes = signalfd(-1, &window, SFD_CLOEXEC), poller = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event input = {.events = EPOLLIN, .data.fd = 0}, change = {.events = EPOLLIN, .data.fd = changes}, e;
	bool always = epoll_ctl(poller, EPOLL_CTL_ADD, 0, &input) < 0; /* as /dev/null is */
	epoll_ctl(poller, EPOLL_CTL_ADD, changes, &change);
	bool going = tell_size(); /* it may have changed before we could see it */
	while (always && going && pass_input())
		;
	while (going) {
		struct signalfd_siginfo info;
		if (epoll_wait(poller, &e, 1, -1) < 0)
			continue;
		if (e.data.fd == changes)
			going = read(changes, &info, sizeof info) > 0 && tell_size();
		else if (!pass_input())
			epoll_ctl(poller, EPOLL_CTL_DEL, 0, &input);
	}
	_exit(0);
}

/* --- from the process --- */

static int receive(void) {
	for (;;) {
		uint8_t h[SHIM_HEADER];
		if (!read_all(PORT, (char *)h, sizeof h))
			return LOST;
		size_t n = shim_length(h);
		if (n > SHIM_FRAME_MAX || !read_all(PORT, body, n))
			return LOST;
		if (h[0] == SHIM_EXIT && n == 4)
			return (uint8_t)body[3];
		if ((h[0] != SHIM_STDOUT && h[0] != SHIM_STDERR) || !write_all(h[0] == SHIM_STDOUT ? 1 : 2, body, n))
			return LOST;
	}
}

void relay_make_raw(void) {
	struct termios t;
	if (ioctl(0, TCGETS, &t) < 0)
		return;
	t.c_iflag &= ~(unsigned)(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
	t.c_oflag &= ~(unsigned)OPOST;
	t.c_lflag &= ~(unsigned)(ECHO | ECHONL | ICANON | ISIG | IEXTEN);
	t.c_cflag = (t.c_cflag & ~(unsigned)(CSIZE | PARENB)) | CS8;
	ioctl(0, TCSETS, &t);
}

void relay_run(void) {
	relay_make_raw();
	pid_t pid = fork();
	if (pid == 0)
		relay_send_input(PORT);
	int status = pid < 0 ? LOST : receive();
	if (pid > 0)
		kill(pid, SIGKILL);
	_exit(status);
}
