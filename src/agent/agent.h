/* The privileged half of wabe: takes typed requests from control over one local socket, checks each again
 * for itself, and does the work in forked workers. Listens to no network and knows no HTTP. */
#pragma once

#include "base/error.h"

struct agent_options {
	const char *state; /* STATE: the agent's own part is STATE/agent */
	const char *run;   /* RUN: the socket RUN/agent.sock, and RUN/shim */
	uid_t uid;         /* of control: nobody else's requests are read */
	int listen_fd;     /* a listening socket that the caller has made (taken over); -1: RUN/agent.sock is made */
	const char *shim;  /* the program wabe-shim; NULL: WABE_SHIM, then beside this executable, then libexec */
	uint32_t uid_pool; /* the first host id for instances' ranges; 0: WABE_UID_POOL, then 524288 */
};

enum agent_end {
	AGENT_SIGNAL,   /* it was told to by SIGTERM or SIGINT */
	AGENT_SHUTDOWN, /* control asked it to stop all instances and end */
};
/* Runs until its end, which is given; or negative. Call it in a process with a single thread, as root. */
int agent_main(const struct agent_options *o, struct error *err);
