/* Who has a port of the host, for words to a person. */
#pragma once

#include "base/util.h"

/* "nginx (pid 12)", "the instance ID", or NULL when nobody is found. protocol: tcp, udp. */
char *port_owner(const char *protocol, uint16_t port);
/* Whether connections of TCP that have ended keep the port for a minute. */
bool port_lingers(uint16_t port);
