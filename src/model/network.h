/* Networks and what hangs on them: addresses of instances, published ports, rules, balancers. Specs are what is
 * wanted; control resolves them (ids, addresses, MACs, ports) before the agent sees them. */
#pragma once

#include "model/field.h"

struct subnet {
	char *cidr;    /* "10.84.0.0/20", "fd00:1:2::/64"; host bits are zero */
	char *gateway; /* the host's address in it; NULL: the first */
	char *range;   /* part of it from which dynamic addresses come, as CIDR; NULL: all of it */
	struct pairs aside; /* addresses that no instance gets, by what has them */
};
typedef FIELD_LIST_OF(struct subnet) subnets;

struct network_spec {
	char *name;        /* as an instance's */
	char *driver;      /* bridge | macvlan | ipvlan | physical | vxlan */
	char *description;
	struct pairs labels;
	subnets subnets;   /* at most one of each family; empty: an IPv4 one that overlaps no route of the host */
	bool ipv6;         /* picks an IPv6 subnet (unique local, RFC 4193) where none is given */
	bool nat;          /* traffic to the outside is masqueraded; else routed as it is. Default true */
	bool internal;     /* no traffic to or from outside the network */
	bool isolated;     /* instances do not reach each other over it */
	char *interface;   /* bridge, vxlan: name of its bridge on the host; NULL: made of the id */
	char *interface_prefix; /* instances have PREFIX0, PREFIX1 … on it, where they ask for no other name; NULL: eth */
	char *parent;      /* macvlan, ipvlan, physical: the interface of the host; bridge, vxlan: one that becomes a port, or NULL */
	char *mode;        /* macvlan: bridge | vepa | private | passthru; ipvlan: l2 | l3; NULL: the first */
	int64_t vlan;      /* 1…4094: tagged on the parent; 0: none */
	int64_t vni;       /* vxlan: 1…16777215 */
	int64_t vxlan_port;/* vxlan: UDP; default 4789 */
	char *local;       /* vxlan: the host's own address of the tunnel; NULL: by route */
	char **peers;      /* vxlan: addresses of the other hosts */
	int64_t mtu;       /* 0: the driver's own */
	bool dns;          /* names are resolved: a resolver answers at the gateway. Default true */
	bool dhcp;         /* for machines. Default true */
	char *boot_file;   /* what DHCP tells machines that boot from the network: a file below boot_dir, or a URL for iPXE; NULL */
	char *boot_file_uefi; /* the same for those with UEFI; NULL: boot_file */
	char *boot_dir;    /* of the host, absolute: what in it everybody may read is served by TFTP; NULL: nothing */
	char *domain;      /* default "<name>.wabe", with hyphens for what a DNS label cannot have */
	char *publish_address; /* of the host, of ports that name none; NULL: all */
	char *publish;     /* host: published ports pass the host's own input rules (default); open: they do not */
	char *ingress, *egress; /* what no rule decides, for each instance: allow (default) | deny */
	char **rules;      /* names of rule groups for every instance on it; resolved to ids */
	struct pairs annotations; /* what dialects keep with it; nobody else looks at it */
};

struct network_status {
	char *state;     /* up | down | failed */
	char *interface; /* the bridge, or NULL */
	char *error;
};

struct network {
	char *id; /* 64 hexadecimal digits */
	char *project;
	int64_t created_at;
	struct network_spec spec;
	struct network_status status;
};

/* One wish of an instance's spec: to be on a network. */
struct attachment {
	char *network;      /* name or id */
	char *ipv4, *ipv6;  /* static addresses; NULL: control picks them */
	char *mac;          /* NULL: made of the addresses, stable */
	char **aliases;     /* further names on this network */
	char *interface;    /* inside; NULL: eth0, eth1 … */
	char **rules;       /* names of rule groups; resolved to ids in a nic */
	int64_t ingress_rate, egress_rate; /* bits a second as the instance sees it; 0: unlimited */
	bool allow_spoofing; /* any MAC and address may be a source */
	bool share;          /* addresses and MAC may be wanted by others that say so, too: who runs has them */
	int64_t gateway_priority; /* the default route goes over the highest; the first of several */
	struct pairs sysctls; /* net.ipv4.conf.IFNAME.log_martians and the like, of the interface inside; containers */
};
typedef FIELD_LIST_OF(struct attachment) attachments;

/* An attachment as control has resolved it: part of the instance. */
struct nic {
	char *network_id, *network; /* id, name */
	char *interface, *mac;
	char *ipv4, *ipv6;          /* without prefix; NULL: none */
	char **aliases, **rules;    /* rules: ids */
	int64_t ingress_rate, egress_rate;
	bool allow_spoofing, share;
	int64_t gateway_priority;
	struct pairs sysctls;
};
typedef FIELD_LIST_OF(struct nic) nics;

/* "-p 127.0.0.1:8080-8090:80-90/tcp" */
struct port {
	char *address;      /* of the host; NULL: all, IPv4 and IPv6 */
	int64_t host_port;  /* the first; 0: control picks one, in 32768…60999 */
	int64_t host_last;  /* control picks one of host_port…host_last; 0: host_port itself */
	int64_t port;       /* the first inside */
	int64_t count;      /* so many in a row; default 1 */
	char *protocol;     /* tcp (default) | udp | sctp */
};
typedef FIELD_LIST_OF(struct port) ports;

/* One rule of a group. Rules are looked at in order; the first that fits decides. What belongs to a connection
 * that was let through is let through. */
struct rule {
	char *direction;  /* ingress | egress */
	char *action;     /* allow | deny (silently) | reject (with an answer) */
	char *protocol;   /* any (default) | tcp | udp | sctp | icmp (both families) | a number */
	char *ports;      /* of the destination: "80", "8000-8010", "80,443"; NULL: all. tcp, udp, sctp only */
	char *source;     /* ingress: who: CIDR, address, "label:KEY=VALUE", "group:NAME", "network:NAME"; NULL: anybody */
	char *destination;/* egress: likewise */
	char *description;
};

struct rule_group_spec {
	char *name; /* as an instance's */
	char *description;
	struct pairs labels;
	FIELD_LIST_OF(struct rule) rules;
};
struct rule_group {
	char *id; /* 64 hexadecimal digits */
	char *project;
	int64_t created_at;
	struct rule_group_spec spec;
};

/* Spreads connections to one port of the host, or of an address, over instances. One that is `inside` has an address of its
 * network's instead, which instances there reach by its names: all ports of it are those of a target. */
struct balancer_spec {
	char *name;
	char *description;
	struct pairs labels;
	char *target;      /* "label:KEY=VALUE" | "instance:NAME" */
	bool inside;
	char **names;      /* inside: what its address is known by on the network */
	char *network;     /* of the targets' addresses; NULL: the first of each */
	char *address;     /* of the host; NULL: all. inside: of the network; NULL: control picks one */
	int64_t host_port; /* 0: the same as port */
	int64_t port;      /* of the targets */
	char *protocol;    /* tcp | udp | sctp */
	char *affinity;    /* none (default) | source: one client address always meets the same target while it lives */
};
struct balancer {
	char *id;
	char *project;
	int64_t created_at;
	char *network_id;  /* inside: of its network */
	struct balancer_spec spec;
	char **backends; /* addresses of targets that run and are not unhealthy; kept by control */
};

/* An address that is taken: by an instance, or reserved for later use. */
struct address {
	char *network;     /* name */
	char *address;
	char *mac;         /* NULL: of a reservation */
	char *instance;    /* name; NULL: reserved */
	char *description; /* of a reservation */
};

extern const struct field_table network_table, network_spec_table, network_status_table, attachment_table, nic_table,
	subnet_table, port_table, rule_table, rule_group_table, rule_group_spec_table, balancer_table, balancer_spec_table, address_table;

/* A DNS label: [a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?, any case. */
int dns_label_check(const char *name, struct error *err);
/* What may follow a rule's source or destination. */
int peer_check(const char *peer, struct error *err);
int ip_check(const char *text, struct error *err);
int mac_check(const char *mac, struct error *err); /* "02:…", unicast */
int nic_sysctl_check(const char *key, struct error *err); /* "net.ipv4.conf.IFNAME.log_martians" */
/* Texts of flags, into members that are empty or hold defaults: "web,ip=10.0.0.5,alias=db,rules=strict", "8080:80/udp",
 * "100mbit" (bits a second; k, m, g are powers of 1000). Values are checked by the tables. */
int attachment_parse(const char *text, struct attachment *a, struct error *err);
int port_parse(const char *text, struct port *p, struct error *err);
int rate_parse(const char *text, int64_t *bits, struct error *err);
/* "label=app=web", as people write it, becomes "label:app=web": free it. */
char *peer_text(const char *text);

/* Addresses as numbers. */
struct ip {
	int family;       /* AF_INET, AF_INET6 */
	uint8_t bytes[16]; /* network order; the first 4 of IPv4 */
};
struct cidr {
	struct ip ip;     /* host bits are zero after cidr_parse */
	unsigned prefix;
};
int ip_parse(const char *text, struct ip *out);      /* -EINVAL */
int cidr_parse(const char *text, struct cidr *out);  /* -EINVAL, also when host bits are set */
void ip_format(const struct ip *ip, char out[46]);
void cidr_format(const struct cidr *c, char out[50]);
bool cidr_contains(const struct cidr *c, const struct ip *ip);
bool cidr_overlap(const struct cidr *a, const struct cidr *b);
/* The n-th address of it (0: the network itself); false past its end. */
bool cidr_nth(const struct cidr *c, uint64_t n, struct ip *out);
/* The subnet that holds the address, with its cidr; NULL. */
const struct subnet *subnet_with(const subnets *list, const struct ip *ip, struct cidr *cidr);
/* How many addresses, at most UINT64_MAX. */
uint64_t cidr_size(const struct cidr *c);
