/* Rules of packets, in one nftables table of wabe's own for each daemon: named "wabe_<tag>", in the families that it
 * takes (inet for NAT, filtering, publishing; bridge for anti-spoofing; ip and ip6 where an expression exists there alone). Nobody else's
 * table is ever touched, nothing is flushed but our own chains. libnftables, one atomic transaction for each call.
 *
 * firewall_render is a pure function of a state: the whole table as text, which firewall_load puts in place of what is
 * there (also nothing) in one transaction. The others change the live table by what one verb needs, in time that
 * does not grow with the number of instances; after them the table is what firewall_render would give.
 *
 * What is in it:
 *   - masquerading for bridge networks with nat; forwarding for all but internal ones; between networks: as routed, but
 *     never into an internal one
 *   - isolated networks: no traffic between ports (the bridge port flag does it; the table for what is routed)
 *   - anti-spoofing: a frame from an instance's port has its MAC and addresses as source (ARP and ND too), unless allowed
 *   - rule groups on instances and networks, stateful, with default policies; they also decide about traffic within one
 *     bridge: per bridge netfilter is called (br_netfilter; nf_call_iptables of that bridge only) while a network has rules
 *   - published ports: DNAT by maps from everywhere, also 127.0.0.1 (not ::1: Linux cannot) and from the instance itself (hairpin). With policy
 *     `host` the first packet of a connection from outside passes the host's own input rules first: it is not
 *     translated in prerouting; after all other input chains (priority INT_MAX - 1) it is sent (dup) through a pair of veth of our
 *     own back to prerouting, where it is translated. What the host's rules drop never gets there. With `open` it is translated at once.
 *   - balancers inside a network: an address of it that is the bridge's, all ports of which lead to several targets
 *   - balancers: the same with several targets: numgen random, or jhash of the source for affinity (of 1,024 shares, each of which
 *     belongs to one target by the greatest hash: a target that goes or comes moves its own shares alone)
 *
 * What follows from it: an accept of ours never overrides a drop of others. A host that forwards nothing by default (ufw) has to
 * let wabe's bridges pass; strict filtering of reverse paths of IPv6 by nft (firewalld's IPv6_rpfilter) has to spare the detour's
 * interface "wo<tag>". On a bridge whose network has rules, others' rules see its traffic too, as on any host where
 * bridge-nf-call-iptables is on. Broadcasts and multicasts within a network are for the network's own groups and policies
 * alone, not for those of an instance. */
#pragma once

#include "base/buf.h"
#include "base/error.h"
#include "model/network.h"

/* An instance that runs, as far as packets are concerned. Its interfaces are there before it is loaded or added. */
struct firewall_instance {
	const char *id;
	const struct nic *nics;
	size_t n_nics;
	const struct port *ports; /* to the first nic whose network's driver has ports */
	size_t n_ports;
};
struct firewall_members {
	char *peer;       /* "label:KEY=VALUE", "group:ID" */
	char **addresses;
};
struct firewall_state {
	const char *tag;
	const struct network *const *networks;
	size_t n_networks;
	const struct firewall_instance *instances;
	size_t n_instances;
	const struct rule_group *const *groups;
	size_t n_groups;
	const struct firewall_members *members;
	size_t n_members;
	const struct balancer *const *balancers;
	size_t n_balancers;
};

/* The whole table as input for nft. */
void firewall_render(const struct firewall_state *s, struct buf *out);
/* Makes the kernel have just that: tables of ours are replaced, the veth pair for policy host and sysctls (forwarding, route_localnet on our
 * bridges) are as needed. UNSUPPORTED when all is there but what the kernel cannot do: ports with policy host without
 * nft's dup (that is said only when there are such), rules within a bridge without br_netfilter. */
int firewall_load(const struct firewall_state *s, struct error *err);
/* Takes all of it away. */
int firewall_unload(const char *tag, struct error *err);
/* Whether the table is there, whole: false after a firewall's reload with "flush ruleset". */
bool firewall_present(const char *tag);

/* Changes by one verb. `s` is the state after it (instances may be left out of it but for those concerned; `i` is given whether
 * or not it is in it). Each may be done again. One that meets what is not as it should be fails and changes nothing: then a
 * load helps. Networks change by a load.
 *
 * Groups come before who has them (NOT_FOUND else, and a load leaves them out); one that is not in `s` any more is removed,
 * which the kernel refuses while somebody has it. Members: none and in no rule: forgotten. Flows of UDP that led elsewhere before are
 * forgotten with each change of a port; connections of TCP stay with their target while it is there. */
int firewall_instance_add(const struct firewall_state *s, const struct firewall_instance *i, struct error *err);
int firewall_instance_remove(const struct firewall_state *s, const struct firewall_instance *i, struct error *err);
int firewall_group_set(const struct firewall_state *s, const struct rule_group *g, struct error *err);
int firewall_members_set(const struct firewall_state *s, const struct firewall_members *m, struct error *err);
int firewall_balancer_set(const struct firewall_state *s, const struct balancer *b, struct error *err);
int firewall_balancer_remove(const struct firewall_state *s, const struct balancer *b, struct error *err);

/* A netlink socket that becomes readable when somebody changes nftables; firewall_watch_read says whether one of our tables
 * was removed by another process (1), or not (0), having read what was there. */
int firewall_watch_open(struct error *err);
int firewall_watch_read(int fd, const char *tag);

/* Reserves the host's ports: a bound socket for each (TCP: not listening), which keeps others from taking them and
 * is inherited by the shim. CONFLICT naming the port and who has it (program and pid, or the instance of which daemon) when one is taken; the
 * error's field is ports[INDEX]. *fds is malloc'd, close-on-exec off is the caller's matter. */
int ports_reserve(const struct port *ports, size_t n, int **fds, size_t *n_fds, struct error *err);
