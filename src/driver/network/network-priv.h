/* What the drivers of networks share: links by name, whose they are, and requests about them. */
#pragma once

#include "driver/network/netlink-priv.h"
#include "driver/network/network.h"

#include <net/if.h>

struct link {
	int index, master;
	int other;        /* IFLA_LINK: the peer, or what it is made on; 0: none */
	unsigned flags, mtu;
	bool running;     /* up, with a carrier that the kernel has noted: it passes packets (IFF_RUNNING says so before it has looked) */
	char name[IFNAMSIZ], kind[16], alias[256];
	uint8_t mac[6];
};
/* 1; 0 when there is none; an error. */
int link_get(struct netlink *nl, const char *name, struct link *out, struct error *err);
int link_get_index(struct netlink *nl, int index, struct link *out, struct error *err);
/* Waits, a second at most, until a link of the host passes packets. */
int link_wait_running(struct netlink *nl, const char *name, struct error *err);
bool link_parse(const struct nlmsghdr *m, struct link *out);

/* "wabe <tag> <network> [<instance>]", out of 256 bytes. instance may be NULL. */
#define ALIAS_MAX 256
void alias_make(const char *tag, const char *network, const char *instance, char out[ALIAS_MAX]);
/* Whether it begins so: with these very ids, or (network NULL) with this tag (NULL: anybody's). */
bool alias_is(const char *alias, const char *tag, const char *network, const char *instance);
/* The ids behind any tag; false when it is not one of ours. */
bool alias_parse(const char *alias, char tag[9], struct tagged_link *out, const char **rest);

/* kind: two letters as in network.h. digits: 8 or 10, of a and b (which may be NULL) hashed together. */
void link_name(const char *kind, int digits, const char *tag, const char *a, const char *b, char out[16]);

/* A MAC that follows from two texts. */
void link_mac(const char *a, const char *b, uint8_t out[6]);

/* Requests. Those that give a message leave it open for attributes of the caller's own. */
struct nlmsghdr *link_new(struct batch *b, const char *what, const char *name, const char *kind);
struct nlmsghdr *link_change(struct batch *b, const char *what, const char *name); /* what is there, by name */
void link_remove(struct batch *b, const char *name); /* gone: fine */
void link_up(struct batch *b, int index);
void link_master(struct batch *b, int index, int master); /* 0: none */
void link_alias(struct batch *b, const char *name, const char *alias);
/* Puts on a message: no IPv6 address is made by itself. */
void link_no_addresses(struct nlmsghdr *m);
/* Addresses do not wait for the detection of duplicates. */
void address_add(struct batch *b, int index, const struct ip *ip, unsigned prefix);
void address_remove(struct batch *b, int index, const struct ip *ip, unsigned prefix); /* gone: fine */
void default_route_add(struct batch *b, int index, const struct ip *gateway); /* NULL: on the link; then of `family` */
/* Flags of a port of a bridge. */
struct nlmsghdr *port_flags(struct batch *b, const char *name, bool isolated);

/* UNSUPPORTED unless the kernel has links of this kind; its module is loaded by asking. */
int link_probe(const char *kind, const char *shown, struct error *err);
/* The interface of the host that a network is made on. */
int parent_get(struct netlink *nl, const struct network *n, struct link *out, struct error *err);
/* CONFLICT when it has addresses of its own. */
int link_unaddressed(struct netlink *nl, const struct link *l, struct error *err);
/* With a VLAN: our own link "wl…" on the parent, made if need be; else the parent itself. */
int uplink_get(struct netlink *nl, const char *tag, const struct network *n, struct link *out, struct error *err);
void uplink_remove(struct batch *b, const char *tag, const struct network *n);
int uplink_down(const char *tag, const struct network *n, struct error *err); /* of networks that have nothing else */
/* Whether what is there under a name of ours is ours: CONFLICT if not. */
int link_is_ours(const struct link *l, const char *tag, const char *network, const char *instance, struct error *err);

/* Addresses, routes and rates of a nic, up, in its name space (`inside`). */
int nic_configure(struct netlink *inside, const struct network *n, const struct nic *nic, const char *alias, bool gateway,
		  struct error *err);
int nic_taken(const struct nic *nic, struct error *err); /* the error: its interface's name is another's */
/* An interface of a nic that its name space may have: 1, 0, CONFLICT when the name is another's. `other`: what it is made
 * on or linked with. */
int nic_find(struct netlink *inside, const struct nic *nic, int other, struct link *out, struct error *err);
/* A socket in an instance's name space. On a network of ours, where we tell its routes, no router does. */
int nic_open(int netns, const struct network *n, const struct nic *nic, struct netlink *nl, struct error *err);
/* On a network of ours an instance has no IPv6 address but those we give it: others would be told to all its neighbours at each
 * start. With an address, it has the link-local one that the kernel would have made, at once. */
int mac_bytes(const char *text, uint8_t out[6]);

/* CONFLICT when a subnet overlaps a route or an address of the host that is not this network's own. */
int subnets_free(const struct network *n, struct error *err);

/* Limits on a link that `nl` sees. */
int rates_set(struct netlink *nl, const struct link *l, int64_t to_instance, int64_t from_instance, struct error *err);
/* Everything that comes from the link goes out of the interface `to`, instead of what was arranged before. */
void link_redirect(struct batch *b, const char *what, int index, int to);
/* The interface beside a host's end that limits what comes from the instance. */
void rates_link_name(const char *link, char out[16]);

/* Bridges, also with a tunnel: shared by the drivers bridge and vxlan. */
int bridge_up(const char *tag, const struct network *n, int mtu, const uint8_t mac[6], struct error *err);
int bridge_down(const char *tag, const struct network *n, struct error *err);
int bridge_attach(const char *tag, const struct network *n, const char *instance, const struct nic *nic, bool gateway,
		  int netns, struct error *err);
int bridge_detach(const char *tag, const struct network *n, const char *instance, const struct nic *nic, int netns,
		  struct error *err);
int bridge_probe(struct error *err);

/* Whether a link was lent to an instance by the driver physical; what it was before, again, once it is on the host, and its name
 * (NULL: by its alias). */
bool physical_is(const struct link *l);
int physical_restore(struct netlink *nl, const struct link *l, const char *name, struct error *err);

extern const struct network_driver network_bridge, network_macvlan, network_ipvlan, network_physical, network_vxlan;
