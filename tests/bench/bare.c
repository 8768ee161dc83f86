/* The floor that a container runtime is measured against: clone in new namespaces, pivot_root, exec, wait, and
 * nothing else. bare ROOT COMMAND [ARG]… */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <linux/sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int inside(char **argv) {
	if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0 || mount(argv[1], argv[1], NULL, MS_BIND | MS_REC, NULL) < 0 ||
	    chdir(argv[1]) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0) {
		perror("bare: cannot change the root");
		return 125;
	}
	execv(argv[2], argv + 2);
	perror(argv[2]);
	return 127;
}

int main(int argc, char **argv) {
	if (argc < 3) {
		fprintf(stderr, "usage: bare ROOT COMMAND [ARG]...\n");
		return 125;
	}
	struct clone_args a = {
		.flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP,
		.exit_signal = SIGCHLD,
	};
	long pid = syscall(SYS_clone3, &a, sizeof a);
	if (pid == 0)
		_exit(inside(argv));
	int status;
	if (pid < 0 || waitpid((pid_t)pid, &status, 0) < 0) {
		perror("bare");
		return 125;
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
