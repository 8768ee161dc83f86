/* What the files about networks share. Not for other rooms. */
#pragma once

#include "core/networks.h"
#include "core/objects-priv.h"

#define DEFAULT_NETWORK "default"

/* ---- addresses.c: what is taken on one network, in memory. All need the lock. ---- */

/* Of one address. It stays while anything holds it. */
struct address_claim {
	char *instance;    /* id; NULL: none has it */
	bool share;        /* that one shares it */
	bool several;      /* others have it, too */
	char *mac;         /* of its interface; NULL */
	bool gateway;      /* the host has it */
	bool aside;        /* the network's spec keeps it from instances */
	bool reserved;     /* is in the store */
	bool balancer;     /* one has it */
	char *description; /* of the reservation; NULL */
};
/* Where dynamic addresses come from: each next one behind the last, so that one just freed rests for a while. */
struct address_space {
	struct cidr subnet, range;
	uint64_t next; /* in range */
};
struct network_use {
	struct address_space spaces[2];
	size_t n_spaces;
	struct map *addresses; /* address as ip_format has it → address_claim */
	struct map *macs;      /* in lower case → "": with the instance's id */
	struct map *instances; /* ids of those that are on it */
	char **group_ids;      /* of spec.rules */
};
struct network_use *network_use_new(void);
void network_use_free(void *use);
/* Takes over the subnets of the spec once they are known. */
void network_use_subnets(struct network_use *u, const struct network_spec *s);

static inline struct network *network_of(const struct object *o) {
	return o->snap->noun;
}
static inline struct network_use *use_of(const struct object *o) {
	return o->more;
}

/* The subnet of a family; NULL. */
const struct address_space *address_space_of(const struct network_use *u, int family);
/* Why an instance may not have the address (already as ip_format has it), naming who has it; self may hold it. share: as in
 * struct attachment. */
int address_usable(struct core *c, const struct object *network, const char *address, const char *self, bool share,
		  struct error *err);
/* Chooses, where its spec says none, or checks the address of a balancer inside a network. Holds it, and gives it back. */
int balancer_address(struct core *c, const char *project, struct balancer_spec *s, struct error *err);
void balancer_claim(struct core *c, const struct balancer *b, bool held);
/* Does an instance run, so that what it shares is its alone? */
bool instance_is_up(struct core *c, const char *id);
/* A free one of that family; CONFLICT when there is none. */
int address_pick(const struct object *network, int family, char out[46], struct error *err);
/* Holds what the nic has for the instance, and gives it back. Also of networks that are gone: nothing then. */
void nic_claim(struct core *c, const struct nic *nic, const char *instance);
void nic_unclaim(struct core *c, const struct nic *nic, const char *instance);
int addresses_load(struct core *c, struct error *err);
/* Keys of the store of all that is reserved on a network; free it. */
char **address_reservations(const struct object *network);

/* ---- nics.c ---- */
/* Makes i->nics of i->spec.networks: names become ids, addresses, MACs and interfaces are picked. Those that i->nics has
 * already stay the same where the spec leaves it open. What is new is claimed; on an error i->nics and the
 * claims are as before. Needs the lock. */
int nics_resolve(struct core *c, struct instance *i, struct error *err);
/* That, and ports_resolve, each where it is asked for. On an error the claims are those of old (NULL: none). */
int instance_resolve(struct core *c, struct instance *i, const struct instance *old, bool nics, bool ports,
		     struct error *err);
/* Frees i->nics and i->ports. */
void instance_resolved_free(struct instance *i);
/* All claims of an instance, addresses and ports: claiming again what it has changes nothing. After a change the old ones are
 * given up first, then the new ones held. Need the lock. */
void instance_claim(struct core *c, const struct instance *i);
void instance_unclaim(struct core *c, const struct instance *i);
/* Has the network "default" made if the spec asks for it and it is not there. Takes the lock and c->net_write. */
int default_network_ensure(struct core *c, const char *project, const struct instance_spec *s, struct error *err);

/* ---- ports.c: ports of the host that instances and balancers have. All need the lock. ---- */
struct port_claims;
struct port_claims *port_claims_new(void);
void port_claims_free(struct port_claims *p);
/* Makes i->exposed, and i->ports of i->spec.ports (and, with publish_all, of what is exposed): 0 becomes a free port, or the one
 * that i->ports has for it. Several instances may want the same port: the one that starts first has it. Claims them; CONFLICT
 * naming a balancer that has one, the claims are as before then. */
int ports_resolve(struct core *c, struct instance *i, char *const *image_exposes, struct error *err);
/* Whether the k-th of its ports was picked, not asked for. */
bool port_is_picked(const struct instance *i, size_t k);
/* owner: an instance's or balancer's id. check: CONFLICT when another has one of them; instances: those count, too. */
int port_check(struct core *c, const struct port *p, const char *owner, bool instances, struct error *err);
void port_claim(struct core *c, const struct port *p, const char *owner);
void port_unclaim(struct core *c, const struct port *p, const char *owner);

/* ---- selections.c: whom labels, groups and balancers mean, kept up to date instance by instance ---- */
struct selections;
struct selections *selections_new(void);
void selections_free(struct selections *s);
/* These need the lock. After a change of one instance (i NULL: it is gone); after a change of rule groups, balancers or a
 * network's rules: what is asked for, and of whom. */
void selections_instance(struct core *c, const char *id, const struct instance *i);
void selections_rebuild(struct core *c);
/* Is the peer "label:…", "group:ID" asked for, the balancer known? For taking away what is not. */
bool selections_has(struct core *c, const char *peer);
/* Sends what has changed, or (once both sides are in order) all of it; what fails is sent with the next change or when the
 * agent is back. Take the lock. */
void selections_send(struct core *c);
void selections_resend(struct core *c);
/* One balancer with its backends, at once; and its removal, when o->removing keeps others from sending it. Take the lock. */
int selections_send_balancer(struct core *c, const char *id, struct error *err);
int selections_drop_balancer(struct core *c, const char *id, struct error *err);

/* ---- rules.c ---- */
extern const struct object_kind network_kind, rules_kind, balancer_kind;
/* Names of groups → ids; *ids is a vector to be freed. Needs the lock. field: of the list, for errors. */
int group_ids(struct core *c, const char *project, char *const *names, const char *field, char ***ids,
	      struct error *err);
/* The group as the agent gets it: peers by id; free by rule_group_table. Needs the lock. */
void group_for_agent(struct core *c, const struct rule_group *g, struct rule_group *out);
int rules_send(struct core *c, const struct rule_group *g, struct error *err);
/* The rules of a group that name a peer, for a refusal: the group's name, or NULL. Needs the lock. */
const char *rules_naming(struct core *c, const char *peer);

/* The port of the host that a balancer has; its strings are the spec's. */
struct port balancer_host_port(const struct balancer_spec *s);
/* Claims its port, or its address inside a network, or gives it up. Needs the lock. */
void balancer_hold(struct core *c, const struct balancer *b, bool held);

/* ---- networks.c ---- */
/* The network as the agent gets it; free by network_table. Needs the lock. */
void network_for_agent(const struct object *o, struct network *out);
/* Has the agent make `wanted`, or bring it in line: n's subnets and status become what it says. Without the lock. */
int network_send(struct core *c, const struct network *wanted, struct network *n, struct error *err);

/* ---- network-sync.c: from the store, and after the agent is reached anew ---- */
/* Networks, groups, balancers and reserved addresses: before the instances. */
int networks_restore(struct core *c, struct error *err);
/* Networks and rule groups; and, when instances are in order (whose state says who is a balancer's backend), members and
 * balancers are to follow, and what the store does not have is taken away. */
int networks_resync(struct core *c, struct error *err);
int networks_collect(struct core *c, struct error *err);
