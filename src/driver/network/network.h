/* How a network lives on a host: its interfaces (each kind a driver), and what connects an instance to it. Netlink through
 * libmnl; rules are in firewall.h, names in resolver.h. Blocking, for a single-threaded caller (a worker of the agent).
 *
 * Everything made here carries the daemon's tag (8 hexadecimal digits, of its state directory) in its name or alias, so that
 * several daemons share a host, and what a crash left can be found: bridge "wb" + 8 digits of tag and network id hashed together (or as its spec
 * has it),
 * host end of an instance's interface "wv" + 10 digits of tag, instance and network, beside it "wi" + the same digits where what comes
 * from the instance is limited; a network's VLAN on its parent "wl", its tunnel "wx"; ifalias "wabe <tag> <network id> [<instance id>]".
 * All functions are idempotent: what is as it should be stays untouched, what is half-made is completed. Nothing
 * without the tag in its alias is ever changed or removed (a parent only gains or loses the port that the spec names, and is
 * set up; driver physical lends the parent, with a note in its alias of what it was). */
#pragma once

#include "base/error.h"
#include "model/network.h"

#define NETWORK_TAG_LEN 8

struct network_driver {
	const char *name;
	bool needs_subnet;   /* one is picked where the spec has none */
	bool rules, ports, names; /* rule groups, published ports, a resolver work on it */
	/* UNSUPPORTED with the reason when this kernel cannot do it. */
	int (*probe)(struct error *err);
	/* The network's own interfaces, with addresses and settings of its spec. CONFLICT, and nothing made, when a subnet overlaps
	 * one that the host has by now; also when the parent has addresses, or is a port elsewhere. */
	int (*up)(const char *tag, const struct network *n, struct error *err);
	/* Removes them; what is gone is fine. */
	int (*down)(const char *tag, const struct network *n, struct error *err);
	/* An interface in the name space netns (a descriptor), complete: name, MAC, addresses, default route
	 * when `gateway`, up, rates; packets pass when it returns. Made in its name space at once, under its final name, in as
	 * few messages as can be. On what an earlier call left, addresses and rates are set again. When it fails, nothing is left. */
	int (*attach)(const char *tag, const struct network *n, const char *instance, const struct nic *nic, bool gateway,
		      int netns, struct error *err);
	/* Removes it, whether or not the name space still exists (netns -1). physical: gives the interface back under its
	 * old name; hardware also after the end of the name space (it is waited for, 2 s at most), what is made by software
	 * ends with it. */
	int (*detach)(const char *tag, const struct network *n, const char *instance, const struct nic *nic, int netns,
		      struct error *err);
};
/* NULL-terminated; network_driver_find gives NULL for an unknown name. */
extern const struct network_driver *const network_drivers[];
const struct network_driver *network_driver_find(const char *name);

/* Names of interfaces on the host. */
void network_bridge_name(const char *tag, const struct network *n, char out[16]); /* or what its spec says */
void network_veth_name(const char *tag, const char *instance, const char *network_id, char out[16]);

/* A further address of the network's that the host answers for, on its bridge; nothing where there is no bridge. */
int network_address_add(const char *tag, const struct network *n, const char *address, struct error *err);
int network_address_remove(const char *tag, const struct network *n, const char *address, struct error *err);

/* Fills in what the spec leaves open: subnets (from the pools 10.64.0.0/10 in /20s, then 172.16.0.0/12 and 192.168.0.0/16 in /24s, beginning
 * at a place that follows from the network's id; fdXX… /64 made of the id) that overlap no route and no address of the
 * host and none of `taken`; gateways; domain. Routes shorter than /8 lead to the outside, and count for nothing.
 * CONFLICT naming the route when a given subnet overlaps one (not when driver is macvlan, ipvlan or physical, where that is normal). */
int network_complete(struct network *n, const struct cidr *taken, size_t n_taken, struct error *err);

/* What a nic says of kernel parameters of its interface, which is there, in its name space. */
int network_nic_sysctls(int netns, const struct nic *nic, struct error *err);

/* The loopback interface of a name space up, as any of its own needs. */
int network_loopback_up(int netns, struct error *err);

/* For a guest whose cards are QEMU's: a persistent tap device `tap` beside `nic` in the name space netns, that the user `owner` (an id of
 * the host's) may open, up; what comes to one leaves by the other. The nic's addresses are removed: they are the guest's. Idempotent. */
int network_tap(int netns, const char *nic, const char *tap, uint32_t owner, struct error *err);

/* All interfaces on the host with this tag, as pairs of name and alias. For finding what a crash left. */
struct tagged_link {
	char name[16];
	char network[65], instance[65]; /* ids; instance empty: the network's own */
};
int network_tagged(const char *tag, struct tagged_link **out, size_t *n, struct error *err); /* free(*out) */
/* gone: fine; CONFLICT when wabe did not make it. What was lent is not removed, but what it was before. */
int network_link_remove(const char *name, struct error *err);

/* Bandwidth of an instance's interface, its host's end: a token bucket (tbf) for each direction. Where there is no such end (macvlan,
 * ipvlan, physical) attach sets the nic's rates inside, and sets them again when it is called again. Rates in bits a second, 0
 * removes the limit. UNSUPPORTED when the kernel has no ifb, for what comes from the instance. */
int network_rates(const char *link, int64_t to_instance, int64_t from_instance, struct error *err);

/* For a machine: a tap device `tap` beside the interface nic of the name space netns, for the user `owner` of the host, and
 * whatever comes in on either goes out on the other; the name space itself has nothing of it any more, no address either: they
 * are the guest's. With vnet_hdr, one queue; persistent, so that it ends with the name space. It can be called again while the
 * device is open. A limit that attach has set inside on what goes to the instance (macvlan, ipvlan, physical) does not hold. */
int network_tap(int netns, const char *nic, const char *tap, uint32_t owner, struct error *err);
