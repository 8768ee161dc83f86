/* wabe's own first process of a container (config.init): after all set-up it forks; the child goes on to exec
 * the command, and it itself stays as PID 1, which passes signals on and reaps. No file is needed inside. */
#include "driver/container/container-priv.h"

#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* The status of the command, once it has ended; -1 before. */
static int reap(pid_t command) {
	int status, result = -1;
	pid_t pid;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		if (pid == command)
			result = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	return result;
}

static void stay(pid_t command, const sigset_t *all) {
	/* the terminal and the pipes are the command's: its last writer must be able to close them */
	syscall(SYS_close_range, 0, ~0U, 0);
	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); /* in a shared pid namespace */
	for (;;) {
		siginfo_t info;
		int signo = sigwaitinfo(all, &info);
		if (signo == SIGCHLD) {
			int status = reap(command);
			if (status >= 0)
				_exit(status);
		} else if (signo > 0 && info.si_code != SI_KERNEL) {
			kill(command, signo);
		}
	}
}

int init_fork(struct error *err) {
	sigset_t all, none;
	sigfillset(&all);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &all, NULL);
	pid_t command = fork();
	if (command < 0)
		return error_errno(err, errno, "cannot fork");
	if (command > 0)
		stay(command, &all);
	sigprocmask(SIG_SETMASK, &none, NULL);
	return 0;
}
