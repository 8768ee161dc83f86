/* Against spoofing, in the bridge family: what comes out of an instance's port must have the instance's MAC and addresses
 * as source, in the frame, in ARP and in neighbour discovery. Before everything else that looks at bridged frames
 * (br_netfilter too). A port with allow_spoofing is not in `guarded`.
 *
 * And: ports send back what came out of them where it was translated, but nobody shall hear his own
 * broadcasts, or find that his address is taken already. */
#include "driver/network/firewall-priv.h"

#include "driver/network/network.h"

#include <stdio.h>

/* `targets` are the addresses of `ipv6` once more, as a packet has them. */
static const char chains[] =
	"	chain prerouting {\n"
	"		type filter hook prerouting priority -310; policy accept;\n"
	"		iifname @guarded goto guard\n"
	"	}\n"
	"	chain forward {\n"
	"		type filter hook forward priority -310; policy accept;\n"
	"		meta pkttype { broadcast, multicast } iifname . oifname @hairpins drop\n"
	"	}\n"
	"	chain guard {\n"
	"		iifname . ether saddr != @macs drop\n"
	"		ether type 0x8035 @nh,48,16 3 accept\n" /* RARP's request, by which QEMU says where a machine is after a move */
	"		meta protocol vmap { ip : goto guard_ip, ip6 : goto guard_ip6, arp : goto guard_arp }\n"
	"		drop\n" /* further tags of VLANs, and what else could carry an address unseen */
	"	}\n"
	"	chain guard_arp {\n"
	"		iifname . arp saddr ether != @macs drop\n"
	"		arp operation request arp saddr ip 0.0.0.0 accept\n" /* is an address in use? */
	"		iifname . arp saddr ip != @ipv4 drop\n"
	"	}\n"
	"	chain guard_ip {\n"
	"		ip saddr 0.0.0.0 udp sport 68 udp dport 67 accept\n" /* DHCP, before it has an address */
	"		iifname . ip saddr != @ipv4 drop\n"
	"	}\n"
	"	chain guard_ip6 {\n"
	"		icmpv6 type nd-neighbor-advert iifname . @th,64,128 != @targets drop\n"
	"		ip6 saddr :: icmpv6 type nd-neighbor-solicit iifname . @th,64,128 @targets accept\n"
	"		ip6 saddr :: icmpv6 type { mld-listener-report, mld2-listener-report, nd-router-solicit } accept\n"
	"		iifname . ip6 saddr != @ipv6 drop\n"
	"	}\n";

void spoof_tables(struct script *c) {
	buf_addf(c->out, "table bridge wabe_%s {\n", c->s->tag);
	script_sets(c, "bridge");
	buf_addf(c->out, "%s}\n", chains);
}

static void add_ipv6(struct script *c, const char *link, const char *address) {
	char number[33];
	struct ip ip;
	if (ip_parse(address, &ip) < 0)
		return;
	for (size_t i = 0; i < 16; i++)
		snprintf(number + 2 * i, 3, "%02x", ip.bytes[i]);
	script_element(c, "bridge", "ipv6", "\"%s\" . %s", link, address);
	script_element(c, "bridge", "targets", "\"%s\" . 0x%s", link, number);
}

void spoof_nic(struct script *c, const char *instance, const struct nic *nic) {
	char link[16], local[46], address[46];
	if (!script_network(c->s, nic->network_id))
		return;
	network_veth_name(c->s->tag, instance, nic->network_id, link);
	script_element(c, "bridge", "hairpins", "\"%s\" . \"%s\"", link, link);
	if (nic->allow_spoofing || !nic->mac)
		return;
	script_element(c, "bridge", "guarded", "\"%s\"", link);
	script_element(c, "bridge", "macs", "\"%s\" . %s", link, nic->mac);
	if (ip_of(nic->ipv4, AF_INET, address))
		script_element(c, "bridge", "ipv4", "\"%s\" . %s", link, address);
	if (ip_of(nic->ipv6, AF_INET6, address))
		add_ipv6(c, link, address);
	if (ip_link_local(nic->mac, local))
		add_ipv6(c, link, local);
}
