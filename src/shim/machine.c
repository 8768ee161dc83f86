/* wabe-machine: the first process of a machine's container where QEMU has companions, each of which serves it on a socket.
 *
 *   wabe-machine [= FILE] [< SOCKET] {+|++} SOCKET PROGRAM ARG … {+|++} SOCKET PROGRAM ARG … -- QEMU ARG …
 *
 * It makes the sockets itself and gives each to its companion, listening, as descriptor 3: so nobody waits for anybody. After
 * "++" a companion keeps the container's capabilities; all others have none, QEMU neither. Descriptors from 3 on and the
 * terminal are QEMU's. Ends with QEMU's status (128 + signal), or where that is 0 with the one that the guest has written to FILE; with SOCKET what comes on standard input is not QEMU's, but goes to QEMU there as frames (relay.c), with the terminal's changes of size;
 * a companion that ends while QEMU goes on ends the machine:
 * it would stand still else. What companions say is kept (64 KiB), and told only when something has gone wrong: each of them
 * complains of QEMU's end. Like wabe-shim it uses neither stdio nor the base room. "wabe-machine exec" is relay.c's. */
#include "shim/shim-priv.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define GRACE_SECONDS 10 /* for QEMU to end after a companion that QEMU has let go */
#define FAILED 125
#define COMPANIONS_MAX 16

int capset(void *header, const void *data); /* of the C library, which declares it nowhere */

static const int passed_on[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};
static char **environment;
static const char *status_path; /* FILE */
static sigset_t watched;
static pid_t companions[COMPANIONS_MAX];
static size_t n_companions;
static int complaints[2] = {-1, -1}; /* a pipe that never blocks */

static void say(const char *what, const char *about) {
	static const char *const frame[] = {"wabe-machine: ", ": ", "\n"};
	const char *parts[] = {frame[0], what, about ? frame[1] : "", about ? about : "", frame[2]};
	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
		if (write(2, parts[i], strlen(parts[i])) < 0)
			return;
}

static void tell_complaints(void) {
	char some[4096];
	ssize_t n;
	while (complaints[0] >= 0 && (n = read(complaints[0], some, sizeof some)) > 0)
		if (write(2, some, (size_t)n) < 0)
			return;
}

/* As the first process of its name space it takes all others with it. */
__attribute__((noreturn)) static void fail(const char *what, const char *about) {
	tell_complaints();
	say(what, about);
	_exit(FAILED);
}

static int listen_on(const char *path) {
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	size_t n = strlen(path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (n >= sizeof address.sun_path)
		fail("the path of a socket is too long", path);
	memcpy(address.sun_path, path, n);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 1) < 0)
		fail("cannot make the socket", path);
	return fd;
}

/* No capability, and none to be had again: no_new_privileges is set. */
static void drop_powers(void) {
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	const struct __user_cap_data_struct none[2] = {{0}};
	for (unsigned long c = 0; prctl(PR_CAPBSET_DROP, c) == 0; c++)
		;
	if (capset(&header, none) < 0)
		fail("cannot drop the capabilities", NULL);
}

__attribute__((noreturn)) static void run(char **argv) {
	sigprocmask(SIG_UNBLOCK, &watched, NULL);
	execve(argv[0], argv, environment);
	fail("cannot execute", argv[0]);
}

/* It has a session of its own: what is typed on the terminal is not for it. */
static void start_companion(const char *path, char **argv, bool powers) {
	int sock = listen_on(path);
	pid_t pid = n_companions < COMPANIONS_MAX ? fork() : -1;
	if (pid < 0)
		fail("cannot start", argv[0]);
	if (pid == 0) {
		int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
		setsid();
		if (null < 0 || dup2(null, 0) < 0 || dup2(complaints[1], 1) < 0 || dup2(complaints[1], 2) < 0)
			_exit(FAILED);
		complaints[0] = -1; /* what fails from here on is told there */
		if (sock != 3)
			dup2(sock, 3);
		else
			fcntl(3, F_SETFD, 0);
		close_range(4, ~0U, 0);
		if (!powers)
			drop_powers();
		run(argv);
	}
	close(sock);
	companions[n_companions++] = pid;
}

static bool is_word(const char *arg, const char *word) {
	return arg && strcmp(arg, word) == 0;
}

static bool is_mark(const char *arg) {
	return is_word(arg, "+") || is_word(arg, "++");
}

/* Gives what comes after the last companion. */
static char **start_companions(char **arg) {
	while (is_mark(arg[0]) && arg[1] && arg[2]) {
		bool powers = is_word(arg[0], "++");
		char **argv = arg + 2, **end = argv, *next;
		while (*end && !is_mark(*end) && !is_word(*end, "--"))
			end++;
		next = *end;
		*end = NULL;
		start_companion(arg[1], argv, powers);
		*end = next;
		arg = end;
	}
	if (!is_word(arg[0], "--") || !arg[1])
		fail("usage: wabe-machine [= FILE] [< SOCKET] {+|++} SOCKET PROGRAM ARG ... -- QEMU ARG ...", NULL);
	return arg + 1;
}

/* Standard input belongs to the guest's first process: QEMU connects for it. */
static void start_input(int listener) {
	pid_t pid = fork();
	if (pid < 0)
		fail("cannot start", "what passes on the input");
	if (pid > 0)
		return;
	int sock = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (sock < 0)
		_exit(FAILED);
	relay_send_input(sock);
}

static pid_t start_qemu(char **argv, bool without_input) {
	pid_t pid = fork();
	if (pid < 0)
		fail("cannot start", argv[0]);
	if (pid == 0) {
		int null = without_input ? open("/dev/null", O_RDONLY | O_CLOEXEC) : -1;
		if (without_input && dup2(null, 0) < 0)
			_exit(FAILED);
		drop_powers();
		run(argv);
	}
	return pid;
}

/* A guest writes what it likes: anything but a number of three digits is none. */
static int guest_status(void) {
	char text[8];
	int fd = status_path ? open(status_path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK) : -1;
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof text);
	int status = 0;
	for (ssize_t i = 0; i < n && text[i] != '\n'; i++) {
		if (i == 3 || text[i] < '0' || text[i] > '9')
			return 0;
		status = 10 * status + (text[i] - '0');
	}
	return status & 0xff;
}

static int status_of(int status) {
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* One that ends by itself may have been let go by QEMU, which is to follow. */
static void companion_ended(int status) {
	const struct itimerval grace = {.it_value.tv_sec = GRACE_SECONDS};
	if (!WIFEXITED(status))
		fail("what QEMU needs was killed: so is the machine", NULL);
	setitimer(ITIMER_REAL, &grace, NULL);
}

static bool is_companion(pid_t pid) {
	for (size_t i = 0; i < n_companions; i++)
		if (companions[i] == pid)
			return true;
	return false;
}

/* QEMU first, if both have ended. Others are orphans of those who stood for processes inside (relay.c). */
static void reap(pid_t qemu) {
	int status, how = 0;
	bool some = false;
	pid_t pid = waitpid(qemu, &status, WNOHANG);
	if (pid == qemu && status != 0)
		tell_complaints();
	if (pid == qemu)
		_exit(status == 0 ? guest_status() : status_of(status));
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		if (is_companion(pid)) {
			some = true;
			how = WIFEXITED(status) ? how : status;
		}
	if (some)
		companion_ended(how);
}

__attribute__((noreturn)) static void watch(int signals, pid_t qemu) {
	struct signalfd_siginfo info;
	while (read(signals, &info, sizeof info) == (ssize_t)sizeof info || errno == EINTR) {
		if (info.ssi_signo == SIGCHLD)
			reap(qemu);
		else if (info.ssi_signo == SIGALRM)
			fail("what QEMU needs has ended, but QEMU has not", NULL);
		else
			kill(qemu, (int)info.ssi_signo);
	}
	fail("cannot wait", NULL);
}

int main(int argc, char **argv) {
	if (argc == 2 && is_word(argv[1], "exec"))
		relay_run();
	environment = argv + argc + 1;
	sigemptyset(&watched);
	sigaddset(&watched, SIGCHLD);
	sigaddset(&watched, SIGALRM);
	for (size_t i = 0; i < sizeof passed_on / sizeof *passed_on; i++)
		sigaddset(&watched, passed_on[i]);
	sigprocmask(SIG_BLOCK, &watched, NULL);
	int signals = signalfd(-1, &watched, SFD_CLOEXEC);
	if (signals < 0 || argc < 1 || pipe2(complaints, O_CLOEXEC | O_NONBLOCK) < 0)
		fail("cannot begin", NULL);
	char **arg = argv + 1;
	if (is_word(arg[0], "=") && arg[1]) {
		status_path = arg[1];
		arg += 2;
	}
	int input = -1;
	if (is_word(arg[0], "<") && arg[1]) {
		input = listen_on(arg[1]);
		arg += 2;
		relay_make_raw();
	}
	pid_t qemu = start_qemu(start_companions(arg), input >= 0);
	drop_powers();
	close(complaints[1]);
	close_range(3, (unsigned)signals - 1, 0); /* what is QEMU's */
	if (input >= 0)
		start_input(input);
	close(input);
	watch(signals, qemu);
}
