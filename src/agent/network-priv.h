/* Networks in the agent. As with instances there are two sorts of code:
 *
 *   in the agent itself: a cache of networks (network-cache.c), which also says which addresses are taken and
 *   answers network-list; the watch over resolvers and over nftables (network-watch.c).
 *
 *   in workers: networks are made and taken away (network-up.c), instances put on them (network-run.c) and moved
 *   between them (nic.c), rules changed (rules.c). A worker may look into the cache as it was when it was forked.
 *
 * On disk:
 *   STATE/agent/networks/<id>/network.json    the network as control has sent it, with its subnets
 *   STATE/agent/networks/<id>/leases          its resolver's
 *   STATE/agent/firewall/{groups,members,balancers}/
 *   RUN/networks/<id>/                        its resolver
 *   RUN/shim/<id>/network.json                what a run of an instance has, or may have, on the host (its wiring): there
 *                                             before the first of it is made, and until the last of it is gone
 *
 * Locks: a worker that puts an instance on a network or takes it off holds the lock of the networks shared, one
 * that makes or changes a network exclusive. The lock of the firewall is held for one change of the table, or of what
 * the table is made of, alone. Order: instance, networks, firewall. */
#pragma once

#include "agent/agent-priv.h"
#include "driver/network/firewall.h"
#include "driver/network/network.h"
#include "driver/network/resolver.h"

/* --- the cache (network-cache.c) --- */

struct net {
	struct agent *agent;
	struct network network; /* of a damaged one: the id alone */
	bool creating; /* its first worker has not finished */
	bool deleting, damaged;
	int resolver;  /* pidfd, -1: it has none, or it is down */
	int64_t resolver_since, backoff;
	struct loop_source *on_resolver, *timer; /* timer: it is brought up again */
};

struct net *net_get(const struct agent *a, const char *id); /* NULL: there is none */
/* Sets up the cache from disk; then a worker brings all up, after whose end instances are recovered. */
int networks_begin(struct agent *a, struct error *err);
void networks_end(struct agent *a); /* frees it */
/* A worker takes all of this daemon's networks off the host for a shutdown. False: there is nothing to take. */
bool networks_shut_down(struct agent *a);
/* What a worker's report says of networks: network (an id: its record has changed) with state and error, network_gone
 * (an id), resolver (an id) with pid and start. */
void network_report(struct agent *a, const json_t *report);
void network_worker_ended(struct child *c, bool failed, bool crashed);
int do_network_create(struct job *j, struct error *err);
int do_network_delete(struct job *j, struct error *err);
int do_network_list(struct job *j, struct error *err);
int do_nic_set(struct job *j, struct error *err);
int do_update(struct job *j, struct error *err);

/* --- watching (network-watch.c), in the agent --- */

void resolver_watch(struct net *n, pid_t pid, uint64_t start);
void resolver_unwatch(struct net *n);
void network_again(struct net *n); /* a worker brings it and its resolver up, after a while, longer each time */
int firewall_watch_begin(struct agent *a, struct error *err);
void firewall_watch_end(struct agent *a);
/* A worker brings all networks in line: at the start, and when one has left something half-done. */
void networks_repair(struct agent *a);
void networks_repair_later(struct agent *a);
void firewall_again(struct agent *a);
void firewall_settled(struct agent *a);

/* --- checks (nic-check.c) --- */

/* The nics that an instance is to have: networks, addresses, names of interfaces; CONFLICT naming the instance that
 * has the address already. Addresses are brought into their one form. */
int nics_check(const struct agent *a, const char *id, const nics *list, struct error *err);
/* For a start: CONFLICT naming the instance that runs and has one of the addresses. */
int nics_check_others(const struct agent *a, const char *id, const nics *list, struct error *err);
/* Can these ports be published by an instance with these nics? With none at all they wait for one. */
int ports_check(const struct agent *a, const nics *list, const ports *wanted, struct error *err);
/* CONFLICT naming the instance that runs and has one of them. What is not wabe's is found by ports_reserve. */
int ports_check_others(const struct agent *a, const char *id, const ports *wanted, struct error *err);

/* --- on disk (network-record.c) --- */

typedef FIELD_LIST_OF(struct network) network_list;
struct wiring {
	char *id, *name; /* of the instance */
	nics nics;
	ports ports;
};
typedef FIELD_LIST_OF(struct wiring) wiring_list;
extern const struct field_table wiring_table;

char *network_path(const struct agent *a, const char *id, const char *name);
char *firewall_path(const struct agent *a, const char *kind, const char *id); /* id NULL: the directory */
int network_load(const struct agent *a, const char *id, struct network *out, struct error *err);
int network_save(const struct agent *a, const struct network *n, struct error *err);
void network_free(struct network *n);
/* All that can be read; what cannot is logged. */
void networks_load(const struct agent *a, network_list *out);
void networks_free(network_list *l);
/* NOT_FOUND: nothing of it is on the host. */
int wiring_load(const struct agent *a, const char *id, struct wiring *out, struct error *err);
int wiring_save(const struct agent *a, const struct wiring *w, struct error *err);
void wiring_remove(const struct agent *a, const char *id);
void wiring_free(struct wiring *w);
/* Those of all instances that there are. */
void wirings_load(const struct agent *a, wiring_list *out);
void wirings_free(wiring_list *l);
/* Calls fn for each id in a directory of objects (<id> or <id>.json). */
void for_each_id(const char *dir, void (*fn)(const struct agent *a, const char *id, void *arg), const struct agent *a,
		 void *arg);
int networks_lock(const struct agent *a, int how, int *lock, struct error *err);
int firewall_lock(const struct agent *a, int *lock, struct error *err);

/* --- networks on the host (network-up.c), in workers --- */

const struct network_driver *network_driver_of(const struct network *n, struct error *err);
/* Interfaces of a network as its spec wants them, and those of running instances that it has lost. With the networks' lock held exclusively. */
int network_bring_up(const struct agent *a, const struct network *n, struct error *err);
/* Its resolver, with the neighbours that instances on it have; reports it to the agent. Likewise. */
int network_name(const struct job *j, const struct network *n, struct error *err);
bool network_has_resolver(const struct network *n);
/* What the resolver functions take; strings stay the caller's until resolver_args_free. */
struct resolver_args {
	struct resolver resolver;
	char *run, *leases, **neighbours;
	char interface[16];
};
void resolver_args(const struct agent *a, const struct network *n, struct resolver_args *out);
void resolver_args_free(struct resolver_args *r);
int work_network_create(struct job *j, struct error *err);
int work_network_delete(struct job *j, struct error *err);
int work_networks(struct job *j, struct error *err);
int work_networks_down(struct job *j, struct error *err);
int work_network(struct job *j, struct error *err);

/* --- instances on networks (network-run.c), in workers with the instance's lock held --- */

/* Of these the one whose network the default route goes over; NULL. */
const struct nic *gateway_nic(const struct agent *a, const nics *list);

struct network_start {
	int *held;    /* sockets on published ports, for the shim */
	size_t n_held;
	pid_t rules;  /* who adds the rules while the container is made; 0: nobody */
};
/* Before the container is made: writes down what it is to have, reserves its ports. */
int network_prepare(const struct agent *a, const struct msg_instance_create *r, struct network_start *s, struct error *err);
/* Interfaces, rules and names for a container whose first process, which waits for its start, is given. */
int network_attach(const struct job *j, const struct msg_instance_create *r, const struct container_state *c,
		   struct network_start *s, struct error *err);
bool network_start_wait(struct network_start *s); /* false: the rules are not there */
void network_start_free(struct network_start *s);
/* Takes all of it away, whether or not it was complete; with container NULL (or ended) from the host's side alone. */
int network_release(const struct agent *a, const struct msg_instance_create *r, int netns, struct error *err);
/* The network name space of a container that runs and has a wiring, or -1. */
int network_netns(const struct agent *a, const char *id, const struct run_state *run);
/* Brings a running instance in line with its record: what has come is added, what is gone removed. Does nothing when
 * it is in line, or does not run. */
int network_sync(const struct job *j, const struct msg_instance_create *r, const struct run_state *run, struct error *err);
/* Interfaces of running instances on a network are made anew where they are gone, and set as its spec wants. */
void network_rewire(const struct agent *a, const struct network *n, bool all);
int work_nic_set(struct job *j, struct error *err);
int work_nic_remove(struct job *j, struct error *err);

/* --- rules (rules.c), in workers --- */

/* What a firewall_state points to. */
struct rules {
	network_list networks;
	wiring_list wirings;
	FIELD_LIST_OF(struct rule_group) groups;
	FIELD_LIST_OF(struct msg_members) members;
	FIELD_LIST_OF(struct balancer) balancers;
	const struct network **network_refs;
	const struct rule_group **group_refs;
	const struct balancer **balancer_refs;
	struct firewall_instance *instances;
	struct firewall_members *member_refs;
	struct firewall_state state;
};
void rules_free(struct rules *r);
/* Everything, from disk; instances take time that grows with their number. without: an id of a network that is about
 * to go, or NULL. */
void rules_load(const struct agent *a, const char *without, bool instances, struct rules *out);
/* The table as the disk wants it; none where there is no network. With the firewall's lock held. */
int rules_apply(const struct agent *a, const char *without, struct error *err);
/* One instance comes or goes, in time that does not grow with their number. Likewise. */
int rules_add_instance(const struct agent *a, const struct wiring *w, struct error *err);
int rules_remove_instance(const struct agent *a, const struct wiring *w, struct error *err);
bool group_exists(const struct agent *a, const char *id);
int do_rules_delete(struct job *j, struct error *err);
int work_rules_set(struct job *j, struct error *err);
int work_rules_delete(struct job *j, struct error *err);
int work_members_set(struct job *j, struct error *err);
/* Addresses and names of the balancers that are inside a network, on its bridge and in its resolver (where that has been started). */
void balancers_place(const struct agent *a, const struct network *n);
int work_balancer_set(struct job *j, struct error *err);
int work_balancer_delete(struct job *j, struct error *err);
int work_firewall_list(struct job *j, struct error *err);
int work_firewall(struct job *j, struct error *err);
