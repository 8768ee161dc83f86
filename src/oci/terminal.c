/* Terminals of containers: handed to whoever asked for them by --console-socket, or joined with our own. */
#include "base/fs.h"
#include "oci/oci-priv.h"

#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

int console_send(const char *socket, int master, struct error *err) {
	_cleanup_(close_fd) int sock = sock_connect_unix(socket);
	if (sock < 0)
		return error_errno(err, sock, "cannot connect to the console socket %s", socket);
	static const char name[] = "/dev/ptmx";
	int r = sock_send_fds(sock, name, sizeof name - 1, &master, 1);
	return r < 0 ? error_errno(err, r, "cannot send the terminal to %s", socket) : 0;
}

static void copy_size(int master) {
	struct winsize size;
	if (ioctl(STDIN_FILENO, TIOCGWINSZ, &size) == 0)
		ioctl(master, TIOCSWINSZ, &size);
}

static bool move_some(int from, int to) {
	char chunk[16384];
	ssize_t n = RETRY_EINTR(read(from, chunk, sizeof chunk));
	return n > 0 && fs_write_all(to, chunk, (size_t)n) == 0;
}

/* Until the process behind pidfd has ended and its output is out. */
static void relay(int master, int pidfd, int winch) {
	struct pollfd fds[] = {{STDIN_FILENO, POLLIN, 0}, {master, POLLIN, 0}, {pidfd, POLLIN, 0}, {winch, POLLIN, 0}};
	for (bool ended = false;;) {
		int n = poll(fds, ARRAY_SIZE(fds), ended ? 0 : -1);
		if (n < 0 && errno == EINTR)
			continue;
		if (fds[1].revents && !move_some(master, STDOUT_FILENO))
			fds[1].fd = -1;
		if (fds[0].revents && !move_some(STDIN_FILENO, master))
			fds[0].fd = -1;
		if (fds[3].revents) {
			struct signalfd_siginfo info;
			if (read(winch, &info, sizeof info) > 0)
				copy_size(master);
		}
		if (ended && (n <= 0 || fds[1].fd < 0))
			return;
		if (fds[2].revents) {
			ended = true;
			fds[2].fd = -1;
			fds[0].fd = -1;
		}
	}
}

int terminal_relay(int master, int pidfd) {
	struct termios old;
	bool ours = tcgetattr(STDIN_FILENO, &old) == 0;
	if (ours) {
		struct termios raw = old;
		cfmakeraw(&raw);
		tcsetattr(STDIN_FILENO, TCSANOW, &raw);
		copy_size(master);
	}
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGWINCH);
	sigprocmask(SIG_BLOCK, &set, NULL);
	_cleanup_(close_fd) int winch = signalfd(-1, &set, SFD_CLOEXEC);
	relay(master, pidfd, winch);
	if (ours)
		tcsetattr(STDIN_FILENO, TCSANOW, &old);
	return 0;
}
