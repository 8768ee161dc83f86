/* The unprivileged half of wabe: everything that listens or parses what strangers send. Starts as root, opens
 * what only root may, and gives everything up before the first byte from outside is read. */
#pragma once

#include "base/error.h"
#include "control/sockets.h"

struct control_options {
	const char *state;  /* STATE: control's own part is STATE/control */
	const char *run;    /* RUN: the sockets RUN/wabe.sock, RUN/docker.sock; the agent's is RUN/agent.sock */
	uid_t uid;          /* whom to become */
	gid_t gid;
	int listen_fds[CONTROL_SOCKETS]; /* listening sockets that the caller has made (taken over) */
	char *const *mirrors; /* registry mirrors for docker.io, as in core_config; NULL: none */
	char *const *certs;   /* directories as Docker's certs.d; those that are not there are left out; NULL: none */
	int ready_fd;       /* gets "ready\n" once requests are served, and is closed; -1: none */
};

/* Makes STATE/control and gives it to uid. */
int control_directories(const struct control_options *o, struct error *err);

enum control_end {
	CONTROL_SIGNAL,   /* it was told to by SIGTERM or SIGINT */
	CONTROL_SHUTDOWN, /* a client asked to shut wabe down; the agent has ended already */
};
/* Runs until its end, which is given; or negative. Call it with a single thread. The process is confined for
 * good afterwards: do nothing but exit. */
int control_main(const struct control_options *o, struct error *err);
