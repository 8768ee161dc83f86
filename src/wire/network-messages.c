/* Tables of the messages about networks, rules and balancers. */
#include "wire/network-messages.h"

#include "model/instance.h"
#include "model/network.h"

#define TABLE(var_, name_, struct_, fields_, doc_) \
	const struct field_table var_ = {name_, doc_, sizeof(struct_), fields_, ARRAY_SIZE(fields_)}
#define ID_FIELD(struct_, member_, doc_) \
	FIELD(struct_, member_, FIELD_STRING, .flags = FIELD_REQUIRED, .check = instance_id_check, .doc = doc_)

static const struct field object_fields[] = {ID_FIELD(struct msg_object, id, "Of the object")};
TABLE(msg_object_table, "msg_object", struct msg_object, object_fields, "An object");

static const struct field state_fields[] = {
	ID_FIELD(struct msg_network_state, id, "Of the network"),
	FIELD(struct msg_network_state, subnets, FIELD_LIST, .max = 2, .sub = &subnet_table, .doc = "Its subnets"),
	FIELD(struct msg_network_state, status, FIELD_OBJECT, .sub = &network_status_table, .doc = "What it is"),
};
TABLE(msg_network_state_table, "msg_network_state", struct msg_network_state, state_fields, "State of a network");

static const struct field states_fields[] = {
	FIELD(struct msg_network_states, networks, FIELD_LIST, .max = 4096, .sub = &msg_network_state_table,
	      .doc = "All of the agent's"),
};
TABLE(msg_network_states_table, "msg_network_states", struct msg_network_states, states_fields, "All networks");

static const struct field nic_set_fields[] = {
	ID_FIELD(struct msg_nic_set, id, "Of the instance"),
	FIELD(struct msg_nic_set, nic, FIELD_OBJECT, .sub = &nic_table, .doc = "Its interface"),
};
TABLE(msg_nic_set_table, "msg_nic_set", struct msg_nic_set, nic_set_fields, "A network for an instance");

static const struct field nic_remove_fields[] = {
	ID_FIELD(struct msg_nic_remove, id, "Of the instance"),
	ID_FIELD(struct msg_nic_remove, network_id, "Of the network"),
};
TABLE(msg_nic_remove_table, "msg_nic_remove", struct msg_nic_remove, nic_remove_fields, "A network to leave");

static const struct field members_fields[] = {
	FIELD(struct msg_members, peer, FIELD_STRING, .flags = FIELD_REQUIRED, .max = 512, .check = peer_check,
	      .doc = "label:KEY=VALUE or group:ID"),
	FIELD(struct msg_members, addresses, FIELD_STRINGS, .max = 16384, .check = ip_check, .doc = "All of them"),
};
TABLE(msg_members_table, "msg_members", struct msg_members, members_fields, "Whom a peer of rules means");

static const struct field firewall_fields[] = {
	FIELD(struct msg_firewall, groups, FIELD_STRINGS, .max = 16384, .doc = "Ids of rule groups"),
	FIELD(struct msg_firewall, members, FIELD_STRINGS, .max = 16384, .doc = "Peers whose members are known"),
	FIELD(struct msg_firewall, balancers, FIELD_STRINGS, .max = 16384, .doc = "Ids of balancers"),
};
TABLE(msg_firewall_table, "msg_firewall", struct msg_firewall, firewall_fields, "What the agent has of rules");
