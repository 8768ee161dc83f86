/* Signals by name and number. */
#include "model/instance.h"

#include "base/str.h"

#include <signal.h>
#include <strings.h>

static const char *const names[] = {
	[SIGHUP] = "SIGHUP",       [SIGINT] = "SIGINT",     [SIGQUIT] = "SIGQUIT", [SIGILL] = "SIGILL",
	[SIGTRAP] = "SIGTRAP",     [SIGABRT] = "SIGABRT",   [SIGBUS] = "SIGBUS",   [SIGFPE] = "SIGFPE",
	[SIGKILL] = "SIGKILL",     [SIGUSR1] = "SIGUSR1",   [SIGSEGV] = "SIGSEGV", [SIGUSR2] = "SIGUSR2",
	[SIGPIPE] = "SIGPIPE",     [SIGALRM] = "SIGALRM",   [SIGTERM] = "SIGTERM", [SIGSTKFLT] = "SIGSTKFLT",
	[SIGCHLD] = "SIGCHLD",     [SIGCONT] = "SIGCONT",   [SIGSTOP] = "SIGSTOP", [SIGTSTP] = "SIGTSTP",
	[SIGTTIN] = "SIGTTIN",     [SIGTTOU] = "SIGTTOU",   [SIGURG] = "SIGURG",   [SIGXCPU] = "SIGXCPU",
	[SIGXFSZ] = "SIGXFSZ",     [SIGVTALRM] = "SIGVTALRM", [SIGPROF] = "SIGPROF", [SIGWINCH] = "SIGWINCH",
	[SIGIO] = "SIGIO",         [SIGPWR] = "SIGPWR",     [SIGSYS] = "SIGSYS",
};

static const struct {
	const char *name;
	int signo;
} aliases[] = {{"IOT", SIGABRT}, {"CLD", SIGCHLD}, {"POLL", SIGIO}};

/* Of glibc; the kernel's first two belong to its threads. */
#define RTMIN 34
#define RTMAX 64

/* "RTMIN", "RTMIN+3", "RTMAX-1" */
static int realtime_from_name(const char *name) {
	bool min = strncasecmp(name, "RTMIN", 5) == 0;
	if (!min && strncasecmp(name, "RTMAX", 5) != 0)
		return 0;
	const char *rest = name + 5;
	uint64_t n = 0;
	if (*rest && (*rest != (min ? '+' : '-') || str_to_u64(rest + 1, 10, &n) < 0 || n > RTMAX - RTMIN))
		return 0;
	return min ? RTMIN + (int)n : RTMAX - (int)n;
}

int signal_from_name(const char *name) {
	uint64_t number;
	if (str_to_u64(name, 10, &number) == 0)
		return number <= RTMAX ? (int)number : 0;
	if (strncasecmp(name, "SIG", 3) == 0)
		name += 3;
	for (size_t i = 1; i < ARRAY_SIZE(names); i++)
		if (strcasecmp(names[i] + 3, name) == 0)
			return (int)i;
	for (size_t i = 0; i < ARRAY_SIZE(aliases); i++)
		if (strcasecmp(aliases[i].name, name) == 0)
			return aliases[i].signo;
	return realtime_from_name(name);
}

const char *signal_name(int signo) {
	return signo > 0 && (size_t)signo < ARRAY_SIZE(names) ? names[signo] : NULL;
}
