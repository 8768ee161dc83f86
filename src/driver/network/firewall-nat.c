/* Translation of addresses: the tables ip and ip6, which have the same text but for the family. Maps say where a port
 * of the host leads; who may use them at once is decided here:
 *
 *   from the host itself                          the chain output
 *   from an instance, or out of the detour        `near`
 *   from outside, the port's policy is open       not in `host`
 *   from outside, the port's policy is host       not at all: the packet goes to the host's own input rules, and what
 *                                                 they let through is sent into the detour by the last chain of all */
#include "driver/network/firewall-priv.h"

#include "driver/network/network.h"

#include <stdio.h>

static void add_publishing(struct script *c, const struct family *f) {
	static const char text[] =
		"	chain prerouting {\n"
		"		type nat hook prerouting priority dstnat; policy accept;\n"
		"		iifname @near goto publish\n"
		"		%s daddr . meta l4proto . th dport @host accept\n"
		"		meta l4proto . th dport @host_any fib daddr type local accept\n"
		"		goto publish\n"
		"	}\n"
		"	chain output {\n"
		"		type nat hook output priority -100; policy accept;\n"
		"%s"
		"		goto publish\n"
		"	}\n"
		"	chain publish {\n"
		"		meta l4proto != { tcp, udp, sctp } accept\n"
		"		%s daddr vmap @inside\n"
		"		%s daddr . meta l4proto . th dport vmap @balance\n"
		"		dnat to %s daddr . meta l4proto . th dport map @publish\n"
		"		fib daddr type != local accept\n"
		"		meta l4proto . th dport vmap @balance_any\n"
		"		dnat to meta l4proto . th dport map @publish_any\n"
		"	}\n";
	buf_addf(c->out, text, f->name, f->own_loopback, f->name, f->name, f->name);
}

/* What was translated and goes back to where it came from would be answered directly, past the host: so the host is
 * its source. So is what the host sends from its loopback address. Where the bridge calls these rules itself, packets have no iifname, and
 * answers are seen; but none that is for its own sender. */
static void add_postrouting(struct script *c, const struct family *f) {
	static const char text[] =
		"	chain postrouting {\n"
		"		type nat hook postrouting priority srcnat; policy accept;\n"
		"		iifname . oifname @within ct status dnat masquerade\n"
		"		%s saddr . %s daddr @self ct status dnat masquerade\n"
		"%s"
		"		iifname @nat oifname != @bridges masquerade\n"
		"	}\n";
	buf_addf(c->out, text, f->name, f->name, f->from_loopback);
}

/* Behind every other chain of input, and before connections are confirmed (INT_MAX): what is dropped here is none. */
static void add_detour(struct script *c, const struct family *f) {
	static const char text[] =
		"	chain detour {\n"
		"		type filter hook input priority 2147483646; policy accept;\n"
		"		iifname @near accept\n"
		"		iifname \"lo\" accept\n"
		"		%s daddr . meta l4proto . th dport @host goto send\n"
		"		meta l4proto . th dport @host_any fib daddr type local goto send\n"
		"	}\n"
		"	chain send {\n"
		"		dup to %s device \"%s\"\n"
		"		drop\n"
		"	}\n";
	char in[DETOUR_NAME_MAX];
	detour_in_name(c->s->tag, in);
	buf_addf(c->out, text, f->name, f->detour, in);
}

void nat_tables(struct script *c, const struct family *f, bool detour) {
	buf_addf(c->out, "table %s wabe_%s {\n", f->name, c->s->tag);
	script_sets(c, f->name);
	add_publishing(c, f);
	add_postrouting(c, f);
	if (detour)
		add_detour(c, f);
	buf_adds(c->out, "}\n");
	if (detour) {
		char out[DETOUR_NAME_MAX];
		detour_out_name(c->s->tag, out);
		script_element(c, f->name, "near", "\"%s\"", out);
	}
}

void nat_network(struct script *c, const struct network *n) {
	char bridge[16];
	network_bridge_name(c->s->tag, n, bridge);
	for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
		const struct family *f = &families[i];
		script_element(c, f->name, "near", "\"%s\"", bridge);
		script_element(c, f->name, "bridges", "\"%s\"", bridge);
		script_element(c, f->name, "within", "\"%s\" . \"%s\"", bridge, bridge);
		if (n->spec.nat)
			script_element(c, f->name, "nat", "\"%s\"", bridge);
	}
}

void nat_nic(struct script *c, const struct nic *nic) {
	char address[46];
	for (size_t i = 0; script_network(c->s, nic->network_id) && i < ARRAY_SIZE(families); i++) {
		const struct family *f = &families[i];
		if (ip_of(f->af == AF_INET ? nic->ipv4 : nic->ipv6, f->af, address))
			script_element(c, f->name, "self", "%s . %s", address, address);
	}
}
