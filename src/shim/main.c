/* wabe-shim: see shim/shim.h. One thread, one epoll loop. */
#include "shim/shim-priv.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define STDIN_SIZE 65536
#define READ_SIZE 32768
#define HOLD_MS 10000
#define QUIET_MS 100
#define DRAIN_MS 2000
#define PATIENCE_MS 30000
#define LAST_PATIENCE_MS 5000
#define LAST_MS 30000

static struct {
	const char *id, *dir;
	pid_t pid;
	bool stdin_once, tty, wait_attach, exec;
	int64_t held;
	struct log_options log;
} options = {.log = {.max_files = 5}};

/* What the loop watches; clients are known by their own addresses. */
struct source {
	int fd; /* -1: closed */
	uint32_t registered;
	int owed; /* bytes that lay in it when the process ended, not yet read: they are the process's own */
};
static struct source listener = {.fd = -1}, children = {.fd = -1};
static struct source input = {.fd = -1};               /* a pipe; on a terminal the same as output */
static struct source output = {.fd = -1}, errors = {.fd = -1};
static int poller = -1, ready = -1, slave = -1;

static char *stdin_queue; /* mapped while input waits */
static size_t stdin_start, stdin_used;
static bool stdin_ending;

static bool ended;
static int status, signal_number;
static struct timespec ended_at;
static bool exit_written;
static int64_t started_at, last_output, drain_since;

int64_t now_ms(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

char *put_number(char *p, int64_t v) {
	char digits[20];
	size_t n = 0;
	do
		digits[n++] = (char)('0' + v % 10);
	while (v /= 10);
	while (n)
		*p++ = digits[--n];
	return p;
}

char *put_text(char *p, const char *s) {
	size_t n = strlen(s);
	memcpy(p, s, n);
	return p + n;
}

static void fail(const char *what) {
	char text[PATH_MAX + 256];
	char *p = put_text(text, "wabe-shim: ");
	p = put_text(p, what);
	*p++ = '\n';
	(void)!write(STDERR_FILENO, text, (size_t)(p - text));
	_exit(1);
}

void poll_set(int fd, uint32_t events, void *source, uint32_t *registered) {
	if (events == *registered)
		return;
	struct epoll_event e = {.events = events, .data.ptr = source};
	epoll_ctl(poller, !events ? EPOLL_CTL_DEL : *registered ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &e);
	*registered = events;
}

static void source_set(struct source *s, uint32_t events) {
	if (s->fd >= 0)
		poll_set(s->fd, events, s, &s->registered);
}

static void source_close(struct source *s) {
	if (s->fd < 0)
		return;
	source_set(s, 0);
	close(s->fd);
	s->fd = -1;
}

/* --- the process's input --- */

static struct source *input_source(void) {
	return options.tty ? &output : &input;
}

static void stdin_forget(void) {
	if (stdin_queue)
		munmap(stdin_queue, STDIN_SIZE);
	stdin_queue = NULL;
	stdin_start = stdin_used = 0;
}

size_t stdin_room(void) {
	return STDIN_SIZE - stdin_used;
}

static void stdin_close(void) {
	stdin_forget();
	if (!options.tty)
		source_close(&input);
}

/* What the process does not take now waits; what it will never take is forgotten. */
static void stdin_drain(void) {
	struct source *s = input_source();
	while (stdin_used) {
		size_t first = STDIN_SIZE - stdin_start;
		ssize_t n = write(s->fd, stdin_queue + stdin_start, stdin_used < first ? stdin_used : first);
		if (n < 0 && errno == EINTR)
			continue;
		if (n == 0 || (n < 0 && errno == EAGAIN))
			return;
		if (n < 0) {
			stdin_close();
			return;
		}
		stdin_start = (stdin_start + (size_t)n) % STDIN_SIZE;
		stdin_used -= (size_t)n;
	}
	stdin_forget();
	if (stdin_ending)
		stdin_close();
}

void stdin_add(const char *data, size_t n) {
	if (input_source()->fd < 0 || stdin_ending)
		return;
	if (!stdin_queue) {
		void *queue = mmap(NULL, STDIN_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (queue == MAP_FAILED)
			return;
		stdin_queue = queue;
	}
	for (size_t i = 0; i < n; i++)
		stdin_queue[(stdin_start + stdin_used + i) % STDIN_SIZE] = data[i];
	stdin_used += n;
	stdin_drain();
}

void stdin_end(void) {
	if (!options.stdin_once || options.tty)
		return;
	stdin_ending = true;
	stdin_drain();
}

void terminal_resize(unsigned rows, unsigned columns) {
	struct winsize size = {.ws_row = (unsigned short)rows, .ws_col = (unsigned short)columns};
	if (options.tty && output.fd >= 0)
		ioctl(output.fd, TIOCSWINSZ, &size);
}

/* --- the process's output --- */

static void read_output(struct source *s) {
	static char chunk[READ_SIZE];
	ssize_t n = read(s->fd, chunk, sizeof chunk);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) { /* a terminal that nobody has open any more says EIO */
		source_close(s);
		if (options.tty)
			stdin_forget();
		return;
	}
	bool is_error = s == &errors;
	last_output = now_ms();
	s->owed -= s->owed < n ? s->owed : (int)n;
	log_add(is_error ? "stderr" : "stdout", chunk, (size_t)n);
	client_output(is_error ? SHIM_STDERR : SHIM_STDOUT, chunk, (size_t)n);
}

/* Whether output has to wait: for the first client, or for one that has too much to take. */
static bool output_waits(int64_t now) {
	if (options.wait_attach && (client_attached() || now - started_at >= HOLD_MS))
		options.wait_attach = false;
	return options.wait_attach || client_full();
}

static void watch_streams(bool waits) {
	uint32_t in = waits ? 0 : EPOLLIN;
	if (options.tty) {
		source_set(&output, in | (stdin_used ? EPOLLOUT : 0));
		return;
	}
	source_set(&output, in);
	source_set(&errors, in);
	source_set(&input, stdin_used ? EPOLLOUT : 0);
}

/* --- the end --- */

bool exit_status(int *out) {
	*out = status;
	return ended;
}

size_t state_text(char *out) {
	char *p = put_text(out, ended ? "exited " : "running ");
	return (size_t)(put_number(p, ended ? status : options.pid) - out);
}

static void write_exit(void) {
	char path[PATH_MAX], temporary[PATH_MAX], text[80];
	char *p = put_number(text, status);
	*p++ = ' ';
	p = put_number(p, signal_number);
	*p++ = ' ';
	p = put_number(p, (int64_t)ended_at.tv_sec * 1000000000 + ended_at.tv_nsec);
	*p++ = '\n';
	*put_text(put_text(path, options.dir), "/exit") = '\0';
	*put_text(put_text(temporary, path), ".tmp") = '\0';
	int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return;
	if (write(fd, text, (size_t)(p - text)) == p - text)
		exit_written = rename(temporary, path) == 0;
	close(fd);
}

static void source_count(struct source *s) {
	if (s->fd < 0 || ioctl(s->fd, FIONREAD, &s->owed) < 0)
		s->owed = 0;
}

/* Takes all children that have ended: the process itself, and those that it left behind. */
static void reap(void) {
	int how;
	for (pid_t pid; (pid = waitpid(-1, &how, WNOHANG)) > 0;) {
		if (pid != options.pid || ended)
			continue;
		ended = true;
		signal_number = WIFSIGNALED(how) ? WTERMSIG(how) : 0;
		status = signal_number ? 128 + signal_number : WEXITSTATUS(how);
		last_output = drain_since = now_ms();
		source_count(&output);
		source_count(&errors);
		clock_gettime(CLOCK_REALTIME, &ended_at);
		write_exit();
		if (slave >= 0)
			close(slave); /* the terminal's output may end now */
		slave = -1;
	}
}

static void children_changed(void) {
	struct signalfd_siginfo info;
	(void)!read(children.fd, &info, sizeof info);
	reap();
}

/* After the process: whether all output is there that will be. What the process left is read however long that
 * takes; what others write that still hold the pipes, for a while. While output waits for a client, no time
 * passes. */
static bool is_drained(int64_t now, bool waits) {
	if (waits)
		last_output = drain_since = now;
	if (output.fd < 0 && errors.fd < 0)
		return true;
	if ((output.fd >= 0 && output.owed) || (errors.fd >= 0 && errors.owed))
		return false;
	return now - last_output >= QUIET_MS || now - drain_since >= DRAIN_MS;
}

static int64_t sooner(int64_t a, int64_t b) {
	return a < 0 ? b : b < 0 || a < b ? a : b;
}

static int64_t next_time(int64_t now, bool waits) {
	int64_t next = client_expire(now, PATIENCE_MS);
	if (options.wait_attach)
		next = sooner(next, started_at + HOLD_MS - now);
	if (ended && !waits)
		next = sooner(next, last_output + QUIET_MS - now);
	return next;
}

static void dispatch(const struct epoll_event *e) {
	void *source = e->data.ptr;
	if (source == &listener) {
		client_accept(listener.fd);
	} else if (source == &children) {
		children_changed();
	} else if (source == &input) {
		stdin_drain();
	} else if (source == &output || source == &errors) {
		struct source *s = source;
		if (options.tty && (e->events & EPOLLOUT))
			stdin_drain();
		if (s->fd >= 0 && (e->events & ~(uint32_t)EPOLLOUT))
			read_output(s);
	} else {
		client_events(source, e->events);
	}
}

/* One event at a time: what it does may close the source of another. */
static bool step(int64_t timeout) {
	struct epoll_event e;
	bool some = epoll_wait(poller, &e, 1, (int)timeout) == 1;
	if (some)
		dispatch(&e);
	if (stdin_room())
		client_resume();
	return some;
}

static void run(void) {
	for (;;) {
		int64_t now = now_ms();
		bool waits = output_waits(now);
		if (ended && is_drained(now, waits))
			return;
		watch_streams(waits);
		step(next_time(now, waits));
	}
}

/* Everyone gets what waits and the exit status, also those who are just connecting; who takes nothing for
 * five seconds does not. */
static void finish(void) {
	int64_t deadline = now_ms() + LAST_MS;
	source_close(&output);
	source_close(&errors);
	stdin_close();
	if (!exit_written)
		write_exit(); /* perhaps there is space now */
	client_send_exit();
	for (int64_t now; (now = now_ms()) < deadline;) {
		int64_t next = client_expire(now, LAST_PATIENCE_MS);
		if (!step(next < 0 ? 0 : next) && next < 0)
			return;
	}
}

/* --- the start --- */

static int64_t number_of(const char *s) {
	int64_t v = 0;
	if (!s || !*s || strlen(s) > 18)
		fail("a number is expected");
	for (; *s; s++) {
		if (*s < '0' || *s > '9')
			fail("a number is expected");
		v = 10 * v + (*s - '0');
	}
	return v;
}

static const struct {
	const char *name;
	bool *flag;
	const char **text;
	int64_t *number;
} known[] = {
	{"--id", NULL, &options.id, NULL},
	{"--dir", NULL, &options.dir, NULL},
	{"--log", NULL, &options.log.path, NULL},
	{"--log-max-size", NULL, NULL, &options.log.max_size},
	{"--log-max-files", NULL, NULL, &options.log.max_files},
	{"--stdin-once", &options.stdin_once, NULL, NULL},
	{"--tty", &options.tty, NULL, NULL},
	{"--wait-attach", &options.wait_attach, NULL, NULL},
	{"--exec", &options.exec, NULL, NULL},
	{"--held", NULL, NULL, &options.held},
};

static char **parse_one(char **argv) {
	if (strcmp(*argv, "--pid") == 0) {
		options.pid = (pid_t)number_of(*++argv);
		return argv;
	}
	for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
		if (strcmp(known[i].name, *argv) != 0)
			continue;
		if (known[i].flag)
			*known[i].flag = true;
		else if (!argv[1])
			fail("an option lacks its value");
		else if (known[i].text)
			*known[i].text = *++argv;
		else
			*known[i].number = number_of(*++argv);
		return argv;
	}
	fail("unknown option; see shim/shim.h");
	return argv;
}

static void parse(char **argv) {
	while (*++argv)
		argv = parse_one(argv);
	if (!options.id || options.pid <= 0 || !options.dir)
		fail("--id, --pid and --dir are needed");
	if (options.log.path && strcmp(options.log.path, "none") == 0)
		options.log.path = NULL;
	if (strlen(options.dir) + 16 > PATH_MAX || (options.log.path && strlen(options.log.path) >= PATH_MAX))
		fail("a path is too long");
}

static int inherited(int fd) {
	int flags = fcntl(fd, F_GETFL);
	if (flags < 0)
		return -1;
	fcntl(fd, F_SETFL, flags | O_NONBLOCK);
	return fd;
}

static void take_descriptors(void) {
	close_range(SHIM_FD_READY + 1 + (unsigned)options.held, ~0U, 0);
	ready = fcntl(SHIM_FD_READY, F_GETFD) < 0 ? -1 : SHIM_FD_READY;
	listener.fd = inherited(SHIM_FD_LISTEN);
	if (listener.fd < 0)
		fail("descriptor 3 is not the listening socket");
	int in = inherited(SHIM_FD_STDIN);
	if (options.tty) {
		output.fd = in;
		/* held, or the master would end each time that nobody in the container has the terminal open */
		slave = ioctl(in, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
		return;
	}
	input.fd = in;
	output.fd = inherited(SHIM_FD_STDOUT);
	errors.fd = inherited(SHIM_FD_STDERR);
}

static void settle(void) {
	static const int ignored[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE, SIGTSTP, SIGTTIN, SIGTTOU};
	sigset_t child;
	for (size_t i = 0; i < sizeof ignored / sizeof ignored[0]; i++)
		signal(ignored[i], SIG_IGN);
	signal(SIGCHLD, SIG_DFL);
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_SETMASK, &child, NULL);
	prctl(PR_SET_NAME, options.exec ? "wabe-exec" : "wabe-shim");
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	setsid();
	umask(077);
	int score = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	if (score >= 0) {
		(void)!write(score, "-999", 4); /* denied without CAP_SYS_RESOURCE */
		close(score);
	}
	prctl(PR_SET_DUMPABLE, 0);
	(void)!chdir("/");
	children.fd = signalfd(-1, &child, SFD_NONBLOCK | SFD_CLOEXEC);
	poller = epoll_create1(EPOLL_CLOEXEC);
	if (children.fd < 0 || poller < 0)
		fail("out of descriptors");
}

static void detach_standard(void) {
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (int fd = 0; fd <= 2; fd++)
		dup2(null, fd);
	if (null > 2)
		close(null);
}

#ifdef __SANITIZE_ADDRESS__
/* The leak checker wants to trace the process, which is not dumpable; there is no heap here. */
int __lsan_is_turned_off(void);
__attribute__((visibility("default"))) int __lsan_is_turned_off(void) {
	return 1;
}
#endif

int main(int argc, char **argv) {
	(void)argc;
	parse(argv);
	take_descriptors();
	settle();
	siginfo_t child = {0};
	if (waitid(P_PID, (id_t)options.pid, &child, WEXITED | WNOHANG | WNOWAIT) < 0)
		fail("the process is not a child of this one");
	log_start(&options.log);
	detach_standard();
	started_at = now_ms();
	source_set(&listener, EPOLLIN);
	source_set(&children, EPOLLIN);
	if (ready >= 0) {
		(void)!write(ready, "", 1);
		close(ready);
	}
	reap(); /* one that ended before the signals were watched */
	run();
	finish();
	return 0;
}
