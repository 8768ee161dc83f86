/* The command lines of wabe-agent and wabe-control, which only wabed writes: descriptors and directories as it has made
 * and checked them. */
#pragma once

#include "daemon/supervise.h"

struct role_options {
	const char *state, *run;
	uid_t uid;
	gid_t gid;      /* control's alone, as mirrors and certs are */
	char **mirrors, **certs;
	int listen_fds[CONTROL_SOCKETS]; /* of the agent: one */
	size_t listening;
	int ready_fd; /* -1 */
};

/* INVALID also where something is missing: these programs are not started by hand. Free o->mirrors and o->certs. */
int role_parse(int argc, char **argv, struct role_options *o, struct error *err);
