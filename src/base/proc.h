/* Running another program: argv only, never a shell; nothing inherited but what is named here. */
#pragma once

#include "base/buf.h"
#include "base/error.h"

struct proc {
	char *const *argv;       /* argv[0] is looked up in PATH of wabe's own, fixed one if it has no slash */
	char *const *env;        /* NULL: PATH, HOME=/, LANG=C.UTF-8 */
	const char *input;       /* standard input; NULL: /dev/null */
	size_t input_len;
	int stdin_fd, stdout_fd; /* descriptors to use instead (0: none); they stay the caller's */
	struct buf *output;      /* standard output, up to its max; NULL: /dev/null */
	struct buf *errors;      /* standard error; NULL: the caller's own */
	uint64_t memory_max;     /* of its address space, bytes; 0: as ours */
	int64_t deadline_ns;     /* from now; 0: none. Past it the program is killed */
	int status;              /* out: exit status, or 128 + signal */
};

/* Runs it and waits. 0 when it could be run, whatever its status; the error otherwise (also timeout). */
int proc_run(struct proc *p, struct error *err);
/* The same, and a status other than 0 is an error with the last line of its standard error. */
int proc_run_ok(struct proc *p, struct error *err);

/* What ps shows of this process from now on, its name and its command line; comes after proc_title_room, which main calls with
 * what it was given: the title takes the place of the arguments, and ends where they did. Without it, the name alone. */
void proc_title_room(char *const *argv);
void proc_set_title(const char *title);

/* Waits for one child. Its status: exit code, or 128 + signal; -errno. */
int proc_wait(pid_t pid);
