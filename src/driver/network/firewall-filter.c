/* Filtering, in the inet family: which networks packets may go between, and the way through the rules. Every packet to or from a
 * bridge of ours is seen by one hook (forward, input, output) and then by `egress` and `ingress`, which look up who has
 * rules (firewall-rules.c) and end in a verdict: accept ends the way through this table alone, others' tables still decide. */
#include "driver/network/firewall-priv.h"

#include "driver/network/network.h"

static const char chains[] =
	"	chain refuse {\n"
	"		meta l4proto tcp reject with tcp reset\n"
	"		reject with icmpx admin-prohibited\n"
	"	}\n"
	"	chain known {\n"
	"		ct state established,related accept\n"
	"		icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit } accept\n"
	"	}\n"
	"	chain egress {\n"
	"		iifname . ip saddr vmap @egress4\n"
	"		iifname . ip6 saddr vmap @egress6\n"
	"		iifname vmap @egress\n"
	"		goto ingress\n"
	"	}\n"
	"	chain ingress {\n"
	"		oifname . ip daddr vmap @ingress4\n"
	"		oifname . ip6 daddr vmap @ingress6\n"
	"		oifname vmap @ingress\n"
	"		accept\n"
	"	}\n";

/* Bridges take packets to 127.0.0.1 since answers to the host's own loopback address come that way; nobody may begin with one. */
static const char hooks[] =
	"	chain prerouting {\n"
	"		type filter hook prerouting priority raw; policy accept;\n"
	"		iifname @bridges ip daddr 127.0.0.0/8 drop\n"
	"		iifname @bridges ip saddr 127.0.0.0/8 drop\n"
	"	}\n"
	"	chain forward {\n"
	"		type filter hook forward priority filter; policy accept;\n"
	"		iifname != @bridges oifname != @bridges accept\n"
	"		iifname @internal iifname . oifname != @within drop\n"
	"		oifname @internal iifname . oifname != @within drop\n"
	"		iifname . oifname @isolated ct status ! dnat drop\n"
	"		jump known\n"
	"		goto egress\n"
	"	}\n"
	"	chain input {\n"
	"		type filter hook input priority filter; policy accept;\n"
	"		iifname != @bridges accept\n"
	"		udp dport { 67, 547 } accept\n"
	"		meta l4proto { tcp, udp } th dport 53 iifname . ip daddr @gateways4 accept\n"
	"		meta l4proto { tcp, udp } th dport 53 iifname . ip6 daddr @gateways6 accept\n"
	"		jump known\n"
	"		goto egress\n"
	"	}\n"
	"	chain output {\n"
	"		type filter hook output priority filter; policy accept;\n"
	"		oifname != @bridges accept\n"
	"		udp sport { 67, 547 } udp dport { 68, 546 } accept\n"
	"		icmpv6 type nd-router-advert accept\n"
	"		jump known\n"
	"		goto ingress\n"
	"	}\n";

void filter_tables(struct script *c) {
	buf_addf(c->out, "table inet wabe_%s {\n", c->s->tag);
	script_sets(c, "inet");
	buf_addf(c->out, "%s%s}\n", chains, hooks);
}

void filter_network(struct script *c, const struct network *n) {
	char bridge[16], address[46];
	network_bridge_name(c->s->tag, n, bridge);
	script_element(c, "inet", "bridges", "\"%s\"", bridge);
	script_element(c, "inet", "within", "\"%s\" . \"%s\"", bridge, bridge);
	if (n->spec.internal)
		script_element(c, "inet", "internal", "\"%s\"", bridge);
	if (n->spec.isolated)
		script_element(c, "inet", "isolated", "\"%s\" . \"%s\"", bridge, bridge);
	for (size_t i = 0; i < n->spec.subnets.n; i++) {
		const char *gateway = n->spec.subnets.items[i].gateway;
		if (ip_of(gateway, AF_INET, address))
			script_element(c, "inet", "gateways4", "\"%s\" . %s", bridge, address);
		if (ip_of(gateway, AF_INET6, address))
			script_element(c, "inet", "gateways6", "\"%s\" . %s", bridge, address);
	}
}
