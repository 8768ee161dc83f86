/* Rules. Each group has two chains, each network with groups or a policy of its own two, and so has each *policy*: one set of
 * groups on one network, which all nics that have just those share, so that another such nic is an element of two maps
 * and no chain. Order: the nic's groups, the network's, the network's default.
 *
 * A rule for egress that allows goes on to `ingress`, where the receiver's rules are looked at. */
#include "driver/network/firewall-priv.h"

#include "base/str.h"
#include "driver/network/network.h"

#include <stdio.h>

const struct rule_group *rules_find(const struct firewall_state *s, const char *id) {
	for (size_t i = 0; i < s->n_groups; i++)
		if (str_same(s->groups[i]->id, id))
			return s->groups[i];
	return NULL;
}

static bool is_egress(const struct rule *r) {
	return str_same(r->direction, "egress");
}

static const char *peer_of(const struct rule *r) {
	return is_egress(r) ? r->destination : r->source;
}

/* ---- peers: sets of addresses ---- */

static bool is_peer_set(const char *peer) {
	return peer && (str_starts(peer, "label:") || str_starts(peer, "group:"));
}

static void peer_set_name(const char *peer, int af, char out[HASHED_NAME_MAX]) {
	hashed_name(af == AF_INET ? "peer4_" : "peer6_", peer, out);
}

static void add_peer_sets(struct script *c, const char *peer) {
	char name[HASHED_NAME_MAX];
	for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
		peer_set_name(peer, families[i].af, name);
		script_line(c, "add set", "inet", "%s { type %s; }", name, families[i].type);
	}
}

void rules_peer(struct script *c, const struct firewall_members *m) {
	char name[HASHED_NAME_MAX], address[46];
	add_peer_sets(c, m->peer);
	for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
		size_t n = 0;
		peer_set_name(m->peer, families[i].af, name);
		script_line(c, "flush set", "inet", "%s", name);
		for (char *const *p = m->addresses; p && *p; p++)
			if (ip_of(*p, families[i].af, address)) {
				if (n++ == 0)
					buf_addf(c->out, "add element inet wabe_%s %s { %s", c->s->tag, name, address);
				else
					buf_addf(c->out, ", %s", address);
			}
		if (n)
			buf_adds(c->out, " }\n");
	}
}

void rules_group_peers(struct script *c, const struct rule_group *g) {
	for (size_t i = 0; i < g->spec.rules.n; i++)
		if (is_peer_set(peer_of(&g->spec.rules.items[i])))
			add_peer_sets(c, peer_of(&g->spec.rules.items[i]));
}

static void need_sets(struct map *needed, const char *peer) {
	char name[HASHED_NAME_MAX];
	for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
		peer_set_name(peer, families[i].af, name);
		map_set(needed, name, needed);
	}
}

int rules_drop_peers(struct script *c, const struct firewall_members *m, struct error *err) {
	_cleanup_(map_free_ptr) struct map *needed = map_new(NULL);
	_cleanup_(strv_free_ptr) char **names = NULL;
	int r = nft_set_names(c->s->tag, &names, err);
	if (m && m->addresses && m->addresses[0])
		need_sets(needed, m->peer);
	for (size_t i = 0; i < c->s->n_members; i++)
		if (c->s->members[i].addresses && c->s->members[i].addresses[0] && !(m && str_same(m->peer, c->s->members[i].peer)))
			need_sets(needed, c->s->members[i].peer);
	for (size_t i = 0; i < c->s->n_groups; i++)
		for (size_t k = 0; k < c->s->groups[i]->spec.rules.n; k++)
			if (is_peer_set(peer_of(&c->s->groups[i]->spec.rules.items[k])))
				need_sets(needed, peer_of(&c->s->groups[i]->spec.rules.items[k]));
	for (char **p = names; p && *p; p++)
		if (str_starts(*p, "peer") && !map_get(needed, *p))
			script_line(c, "delete set", "inet", "%s", *p);
	return r;
}

/* ---- rules ---- */

/* "tcp dport { 80, 90-99 } " or what else the protocol says. */
static char *protocol_match(const struct rule *r) {
	if (!r->protocol || strcmp(r->protocol, "any") == 0)
		return str_copy("");
	if (strcmp(r->protocol, "icmp") == 0)
		return str_copy("meta l4proto { icmp, ipv6-icmp } ");
	if (!r->ports)
		return str_format("meta l4proto %s ", r->protocol);
	return str_format("%s dport { %s } ", r->protocol, r->ports);
}

static const char *verdict_of(const struct rule *r) {
	if (str_same(r->action, "deny"))
		return "drop";
	if (str_same(r->action, "reject"))
		return "goto refuse";
	return is_egress(r) ? "goto ingress" : "accept";
}

static void add_rule(struct script *c, const char *group, const struct rule *r, const char *address_match) {
	_cleanup_(free_ptr) char *protocol = protocol_match(r);
	script_line(c, "add rule", "inet", "group_%s_%s %s%s%s", group, is_egress(r) ? "out" : "in", address_match, protocol,
		    verdict_of(r));
}

static void add_rule_for(struct script *c, const char *group, const struct rule *r, int af, const char *peer) {
	_cleanup_(free_ptr) char *match =
		str_format("%s %s %s ", af == AF_INET ? "ip" : "ip6", is_egress(r) ? "daddr" : "saddr", peer);
	add_rule(c, group, r, match);
}

static void add_rule_for_sets(struct script *c, const char *group, const struct rule *r) {
	char name[HASHED_NAME_MAX + 1];
	for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
		name[0] = '@';
		peer_set_name(peer_of(r), families[i].af, name + 1);
		add_rule_for(c, group, r, families[i].af, name);
	}
}

static void add_rule_for_network(struct script *c, const char *group, const struct rule *r, const char *id) {
	for (size_t i = 0; i < c->s->n_networks; i++) {
		const struct network *n = c->s->networks[i];
		struct cidr cidr;
		for (size_t k = 0; str_same(n->id, id) && k < n->spec.subnets.n; k++)
			if (cidr_parse(n->spec.subnets.items[k].cidr, &cidr) == 0)
				add_rule_for(c, group, r, cidr.ip.family, n->spec.subnets.items[k].cidr);
	}
}

/* A peer that nobody knows fits nothing: no rule. */
static void add_rules_of(struct script *c, const char *group, const struct rule *r) {
	const char *peer = peer_of(r);
	struct ip ip;
	struct cidr cidr;
	if (!peer)
		add_rule(c, group, r, "");
	else if (is_peer_set(peer))
		add_rule_for_sets(c, group, r);
	else if (str_starts(peer, "network:"))
		add_rule_for_network(c, group, r, peer + strlen("network:"));
	else if (ip_parse(peer, &ip) == 0)
		add_rule_for(c, group, r, ip.family, peer);
	else if (cidr_parse(peer, &cidr) == 0)
		add_rule_for(c, group, r, cidr.ip.family, peer);
}

void rules_group_chains(struct script *c, const struct rule_group *g) {
	_cleanup_(free_ptr) char *in = str_format("group_%s_in", g->id), *out = str_format("group_%s_out", g->id);
	script_chain(c, "inet", in);
	script_chain(c, "inet", out);
}

void rules_group(struct script *c, const struct rule_group *g) {
	for (size_t i = 0; i < g->spec.rules.n; i++)
		add_rules_of(c, g->id, &g->spec.rules.items[i]);
}

/* ---- who has them ---- */

static bool denies(const char *policy) {
	return str_same(policy, "deny");
}

static bool has_groups(const struct firewall_state *s, char *const *ids) {
	for (; ids && *ids; ids++)
		if (rules_find(s, *ids))
			return true;
	return false;
}

bool rules_on_network(const struct firewall_state *s, const struct network *n) {
	return has_groups(s, n->spec.rules) || denies(n->spec.ingress) || denies(n->spec.egress);
}

bool rules_on_nic(const struct firewall_state *s, const struct nic *nic) {
	return script_network(s, nic->network_id) && has_groups(s, nic->rules);
}

static void jump_to_groups(struct script *c, const char *chain, char *const *ids, const char *way) {
	for (; ids && *ids; ids++)
		if (rules_find(c->s, *ids))
			script_line(c, "add rule", "inet", "%s jump group_%s_%s", chain, *ids, way);
}

void rules_network(struct script *c, const struct network *n) {
	_cleanup_(free_ptr) char *in = str_format("net_%s_in", n->id), *out = str_format("net_%s_out", n->id);
	char bridge[16];
	if (!rules_on_network(c->s, n))
		return;
	network_bridge_name(c->s->tag, n, bridge);
	script_chain(c, "inet", in);
	script_chain(c, "inet", out);
	jump_to_groups(c, in, n->spec.rules, "in");
	jump_to_groups(c, out, n->spec.rules, "out");
	script_line(c, "add rule", "inet", "%s %s", in, denies(n->spec.ingress) ? "drop" : "accept");
	script_line(c, "add rule", "inet", "%s %s", out, denies(n->spec.egress) ? "drop" : "goto ingress");
	script_element(c, "inet", "ingress", "\"%s\" : goto %s", bridge, in);
	script_element(c, "inet", "egress", "\"%s\" : goto %s", bridge, out);
}

/* The names of a policy's chains. */
static void policy_names(const struct nic *nic, char in[HASHED_NAME_MAX], char out[HASHED_NAME_MAX]) {
	_cleanup_(free_ptr) char *groups = strv_join(nic->rules, " ");
	_cleanup_(free_ptr) char *text = str_format("%s %s", nic->network_id, groups);
	hashed_name("policy_in_", text, in);
	hashed_name("policy_out_", text, out);
}

static void add_policy(struct script *c, const struct network *n, const struct nic *nic, const char *in, const char *out) {
	bool more = rules_on_network(c->s, n);
	_cleanup_(free_ptr) char *then_in = more ? str_format("goto net_%s_in", n->id) : str_copy("accept");
	_cleanup_(free_ptr) char *then_out = more ? str_format("goto net_%s_out", n->id) : str_copy("goto ingress");
	if (script_chain(c, "inet", in)) {
		jump_to_groups(c, in, nic->rules, "in");
		script_line(c, "add rule", "inet", "%s %s", in, then_in);
	}
	if (script_chain(c, "inet", out)) {
		jump_to_groups(c, out, nic->rules, "out");
		script_line(c, "add rule", "inet", "%s %s", out, then_out);
	}
}

static void add_nic_address(struct script *c, const char *bridge, const char *address, int af, const char *in, const char *out) {
	script_element(c, "inet", af == AF_INET ? "ingress4" : "ingress6", "\"%s\" . %s : goto %s", bridge, address, in);
	script_element(c, "inet", af == AF_INET ? "egress4" : "egress6", "\"%s\" . %s : goto %s", bridge, address, out);
}

void rules_nic(struct script *c, const struct nic *nic) {
	char in[HASHED_NAME_MAX], out[HASHED_NAME_MAX], bridge[16], address[46];
	if (!rules_on_nic(c->s, nic))
		return;
	policy_names(nic, in, out);
	network_bridge_name(c->s->tag, script_network(c->s, nic->network_id), bridge);
	_cleanup_(free_ptr) char *table = str_format("wabe_%s", c->s->tag);
	bool there = !c->seen && nft_chain_use("inet", table, in) >= 0; /* with its rules, which only a load changes */
	if (c->removing && !there)
		return;
	if (!there)
		add_policy(c, script_network(c->s, nic->network_id), nic, in, out);
	if (ip_of(nic->ipv4, AF_INET, address))
		add_nic_address(c, bridge, address, AF_INET, in, out);
	if (ip_of(nic->ipv6, AF_INET6, address))
		add_nic_address(c, bridge, address, AF_INET6, in, out);
	if (nic->mac && ip_link_local(nic->mac, address))
		add_nic_address(c, bridge, address, AF_INET6, in, out);
}

void rules_drop_policy(struct script *c, const struct nic *nic) {
	char in[HASHED_NAME_MAX], out[HASHED_NAME_MAX];
	_cleanup_(free_ptr) char *table = str_format("wabe_%s", c->s->tag);
	if (!rules_on_nic(c->s, nic))
		return;
	policy_names(nic, in, out);
	int64_t rules = 1; /* as many as add_policy makes; more use is by elements */
	for (char *const *id = nic->rules; *id; id++)
		rules += rules_find(c->s, *id) != NULL;
	int64_t use = nft_chain_use("inet", table, in);
	if (use < 0 || use > rules)
		return;
	script_line(c, "delete chain", "inet", "%s", in);
	script_line(c, "delete chain", "inet", "%s", out);
}
