/* Both roles of the daemon for a single host, under one small parent that starts again what dies. */
#pragma once

#include "base/error.h"

struct daemon_options {
	const char *state, *run;
	uid_t uid; /* of the user wabe */
	gid_t gid;
	char **mirrors; /* registry mirrors for docker.io; NULL: none */
};

/* Holds STATE/ROLE.lock and RUN/ROLE.lock for the life of the process: EXISTS when another daemon does. */
int daemon_lock(const struct daemon_options *o, const char *role, struct error *err);
/* RUN/agent.sock, for uid alone. */
int agent_listen(const struct daemon_options *o, struct error *err);
/* Runs agent and control until SIGTERM, SIGINT or a shutdown by a client. Writes "ready" to standard output
 * once both serve. */
int supervise(const struct daemon_options *o, struct error *err);
/* What the process of control or agent exits with after a shutdown by a client. */
#define EXIT_SHUTDOWN 10
