/* The listening sockets of the roles, made as root before a role gives that up. */
#pragma once

#include "daemon/supervise.h"

/* RUN/agent.sock, for the user wabe alone; a descriptor or a negative number. */
int agent_listen(const struct daemon_options *o, struct error *err);
/* RUN/wabe.sock and RUN/docker.sock, links to sockets in STATE, root:GROUP 0660. The groups are wabe and wabe-docker; a host
 * without the latter gives the Docker socket to root alone. Fills fds, or leaves it as it was. */
int control_listen(const struct daemon_options *o, int fds[CONTROL_SOCKETS], struct error *err);
