/* What the files of the firewall share: how commands for nft are written, and how they and their kin reach the kernel. Not for
 * other rooms.
 *
 * Four tables, all named wabe_<tag>: `bridge` against spoofing (firewall-spoof.c), `inet` for filtering
 * (firewall-filter.c, firewall-rules.c), `ip` and `ip6` with one text for both (firewall-nat.c, firewall-publish.c,
 * firewall-balancer.c). What belongs to an instance are elements of sets and maps alone, written by the same function for
 * a whole table and for one change. */
#pragma once

#include "base/buf.h"
#include "base/map.h"
#include "driver/network/firewall.h"

#include <sys/socket.h>

/* Commands for nft that are being written. */
struct script {
	const struct firewall_state *s;
	struct buf *out;
	bool removing;     /* elements are taken out … */
	bool present;      /* … all of which are there */
	struct map *seen;  /* chains that are written already; NULL: of one change */
};

/* What differs between the tables ip and ip6. */
struct family {
	const char *name; /* of nft's */
	int af;
	const char *type; /* of an address in a set */
	const char *own_loopback;  /* the host calls its own loopback address */
	const char *from_loopback; /* … and goes to an instance */
	const char *detour; /* an address that nobody has, see firewall-detour.c */
};
extern const struct family families[2];

/* One line: "add VERB …", with the table's name behind `family`: script_line(c, "add chain", "inet", "input"). */
void script_line(struct script *c, const char *what, const char *family, const char *fmt, ...) PRINTF(4, 5);
/* Puts an element into a set or map, or takes it out, whether or not it is there. */
void script_element(struct script *c, const char *family, const char *set, const char *fmt, ...) PRINTF(4, 5);
/* A chain that has just the rules that follow. False: the script has it already. */
bool script_chain(struct script *c, const char *family, const char *chain);

/* The network of this id if packets of it pass the host's tables (its driver has rules), or NULL. */
const struct network *script_network(const struct firewall_state *s, const char *id);
bool network_filters(const struct network *n);
/* An address in its one form when it is of this family, or NULL. */
const char *ip_of(const char *text, int af, char out[46]);
/* The link-local address that belongs to a MAC, or NULL. */
const char *ip_link_local(const char *mac, char out[46]);
/* "prefix" and 32 hexadecimal digits of a hash of what is given. */
#define HASHED_NAME_MAX 64
void hashed_name(const char *prefix, const char *text, char out[HASHED_NAME_MAX]);

/* firewall-elements.c */
void script_sets(struct script *c, const char *family); /* all sets and maps of a table */
/* Runs a script that has nothing but elements of those; false: it has something else. */
bool nft_run_elements(const struct buf *script, int *result, struct error *err);

/* firewall-spoof.c */
void spoof_tables(struct script *c);
void spoof_nic(struct script *c, const char *instance, const struct nic *nic);

/* firewall-filter.c */
void filter_tables(struct script *c);
void filter_network(struct script *c, const struct network *n);

/* firewall-rules.c */
void rules_peer(struct script *c, const struct firewall_members *m);
void rules_group_peers(struct script *c, const struct rule_group *g); /* the sets that its rules use */
void rules_group_chains(struct script *c, const struct rule_group *g);
void rules_group(struct script *c, const struct rule_group *g);
void rules_network(struct script *c, const struct network *n);
void rules_nic(struct script *c, const struct nic *nic);
/* After the last of a policy's instances went its chains go. */
void rules_drop_policy(struct script *c, const struct nic *nic);
bool rules_on_nic(const struct firewall_state *s, const struct nic *nic);
bool rules_on_network(const struct firewall_state *s, const struct network *n);
const struct rule_group *rules_find(const struct firewall_state *s, const char *id);
/* Sets in the kernel that no rule and no member of the state needs: away with them. m: one more member. */
int rules_drop_peers(struct script *c, const struct firewall_members *m, struct error *err);

/* firewall-nat.c; detour: packets for ports with policy host can be sent round */
void nat_tables(struct script *c, const struct family *f, bool detour);
void nat_network(struct script *c, const struct network *n);
void nat_nic(struct script *c, const struct nic *nic);

/* firewall-publish.c */
void publish_instance(struct script *c, const struct firewall_instance *i);
/* The nic that an instance's ports lead to, or NULL. */
const struct nic *publish_nic(const struct firewall_state *s, const struct firewall_instance *i);
bool publish_needs_detour(const struct firewall_state *s, const struct firewall_instance *i);
bool network_publishes_open(const struct network *n);
/* One port of the host in the set of those with policy host, or out of it. address NULL: all. */
void publish_policy(struct script *c, const struct family *f, const char *address, const char *protocol, int64_t port,
		    bool open);

/* firewall-balancer.c */
void balancer_script(struct script *c, const struct balancer *b);
bool balancer_needs_detour(const struct firewall_state *s, const struct balancer *b);
int64_t balancer_port(const struct balancer *b); /* of the host */

/* firewall-nft.c: one transaction. The message has nft's own words. */
int nft_run(const struct buf *script, struct error *err);

/* firewall-kernel.c: what libnftables would read far too much for */
/* How many rules a chain has, and elements and rules lead to it, together; -1: there is none. */
int64_t nft_chain_use(const char *family, const char *table, const char *chain);
bool nft_table_exists(const char *family, const char *table);
/* Names of the sets of the table inet wabe_<tag>. */
int nft_set_names(const char *tag, char ***names, struct error *err);

/* firewall-detour.c: the pair of veth */
#define DETOUR_NAME_MAX 16
void detour_in_name(const char *tag, char out[DETOUR_NAME_MAX]);  /* packets are sent into this one */
void detour_out_name(const char *tag, char out[DETOUR_NAME_MAX]); /* … and come back out of this one */
int detour_up(const char *tag, struct error *err);
int detour_down(const char *tag, struct error *err);
bool detour_exists(const char *tag);

/* firewall-host.c: switches of the kernel */
int host_prepare(const struct firewall_state *s, struct error *err); /* forwarding */
int host_network(const struct firewall_state *s, const struct network *n, bool filtered, struct error *err);

/* firewall-conntrack.c: forgets flows of UDP to `count` ports of the host that lead anywhere but to one of the addresses
 * `keep` (NULL: to any). address NULL: of all its addresses. */
int conntrack_forget(const char *address, int64_t port, int64_t count, char *const *keep, struct error *err);
