/* Bodies of the messages about networks, rules and balancers. */
#pragma once

#include "model/network.h"

struct msg_object {
	char *id; /* 64 hexadecimal digits */
};

/* Reply of "network-create", which takes a struct network: makes it, or brings what is there in line with the spec (same
 * id). Where the spec has no subnet and its driver wants one, the agent picks those that overlap no route of the host. */
struct msg_network_state {
	char *id;
	subnets subnets; /* complete: with gateways */
	struct network_status status;
};
struct msg_network_states { /* reply of "network-list" */
	FIELD_LIST_OF(struct msg_network_state) networks;
};

/* "nic-set": puts an instance on a network at once if it runs, and in any case from its next start on; a nic on a
 * network that it is on already is replaced (addresses, MAC and interface must be the same then). */
struct msg_nic_set {
	char *id; /* of the instance */
	struct nic nic;
};
struct msg_nic_remove {
	char *id, *network_id;
};

/* "members-set": whose addresses "label:KEY=VALUE" or "group:ID" in rules stand for, all of them, replacing what was
 * known; none: forgets it. "rules-set" and "rules-delete" take a struct rule_group and a msg_object: sources and
 * destinations name groups and networks by id, "group:ID", "network:ID". "balancer-set" takes a struct balancer. */
struct msg_members {
	char *peer;
	char **addresses;
};

/* "firewall-list": what the agent has, so that control can take away what is no more. */
struct msg_firewall {
	char **groups, **members, **balancers; /* ids; peers; ids */
};

extern const struct field_table msg_object_table, msg_network_state_table, msg_network_states_table, msg_nic_set_table,
	msg_nic_remove_table, msg_members_table, msg_firewall_table;
