/* Names and DHCP on a network: one dnsmasq for each, at the network's gateway addresses alone. Its files lie in a
 * directory RUN/networks/<id>/, which the user that it becomes must reach: configuration, pid, servers, hosts/<instance id>,
 * dhcp/<instance id>; leases lie in the state directory and outlive it. It runs as its own unprivileged user (dnsmasq,
 * or nobody), and outlives the agent, which finds it again: by its number, and the command line that names this configuration.
 *
 * Names: an instance's name and aliases, alone and under the network's domain, with its addresses and the reverse.
 * An instance on several networks resolves the names of each: it has the domains of all as search list and the gateway
 * of the first as server, which forwards the other domains to their own resolvers. What is not ours goes to the host's servers, but
 * from an internal network nowhere. */
#pragma once

#include "base/error.h"
#include "model/network.h"

struct resolver {
	const char *run;    /* RUN/networks/<id> */
	const char *leases; /* file */
	const struct network *network;
	const char *interface; /* its bridge */
	/* other networks that share an instance with this one: "domain gateway" each, NULL-terminated */
	char *const *neighbours;
};

/* Starts it if it does not run or runs with another configuration; other neighbours need no new start. The bridge is up with its
 * addresses. It keeps the files of hosts that are there. *pidfd (NULL: not wanted) is the caller's; its
 * end means that it has to be started again. UNSUPPORTED when dnsmasq is not installed, DENIED when its user
 * cannot reach r->run. */
int resolver_start(const struct resolver *r, int *pidfd, struct error *err);
/* Ends it and removes r->run, not the leases. */
int resolver_stop(const struct resolver *r, struct error *err);
/* What machines are to boot from is there for its user: NOT_FOUND, DENIED, with the field. */
int resolver_boot_check(const struct network_spec *s, struct error *err);
int resolver_find(const struct resolver *r); /* pidfd, or -1 when it does not run */
/* An instance's names (NAME and aliases, alone and with the domain; the reverse is NAME.DOMAIN) and addresses, and its lease where the
 * network has DHCP. In effect within 100 ms when they return. Also while it does not run. */
int resolver_host_set(const struct resolver *r, const char *instance, const char *name, const struct nic *nic,
		      struct error *err);
/* Names alone, of an address that no instance has: `owner` is whose they are. */
int resolver_names_set(const struct resolver *r, const char *owner, const char *address, char *const *names, struct error *err);
int resolver_host_remove(const struct resolver *r, const char *instance, struct error *err);
