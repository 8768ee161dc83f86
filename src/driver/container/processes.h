/* What /proc tells of a process. */
#pragma once

#include "base/util.h"

struct process_info {
	int64_t parent;
	uint32_t uid;
	char state;         /* R, S, D, Z … */
	char *command;      /* its arguments, printable; a kernel's thread: its name in brackets. Free it */
	int64_t memory;     /* bytes that are resident */
	int64_t cpu_ns;
	int64_t started_at; /* ns since the epoch */
};
/* -ESRCH: it has ended. */
int process_look(pid_t pid, struct process_info *out);
