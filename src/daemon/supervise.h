/* The roles of the daemon, under one small parent that starts again what dies. */
#pragma once

#include "base/error.h"
#include "control/sockets.h"

struct daemon_options {
	const char *state, *run;
	uid_t uid; /* of the user wabe */
	gid_t gid;
	char **mirrors; /* registry mirrors for docker.io; NULL: none */
	char **certs;   /* directories of registries' certificates */
};

/* Holds STATE/ROLE.lock and RUN/ROLE.lock for the life of the process: EXISTS when another daemon does. */
int daemon_lock(const struct daemon_options *o, const char *role, struct error *err);
enum daemon_roles { ROLE_AGENT = 1, ROLE_CONTROL = 2 };
/* Runs agent and control (or one alone) until SIGTERM, SIGINT or a shutdown by a client. Writes "ready" to standard
 * output once they serve. */
int supervise(const struct daemon_options *o, unsigned roles, struct error *err);
/* What a role's process exits with after a shutdown by a client. */
#define EXIT_SHUTDOWN 10
