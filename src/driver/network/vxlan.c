/* The driver of networks that several hosts share: a bridge on each, joined by a VXLAN tunnel to fixed peers. Who has the same
 * gateway as another host has the same MAC there too, so that instances find their own host under it; hosts that
 * shall reach each other's instances are given gateways of their own. */
#include "driver/network/network-priv.h"

#include <arpa/inet.h>
#include <linux/neighbour.h>

#define OVERHEAD 50 /* IPv4; IPv6 has 20 more */
#define MTU 1500

static void tunnel_name(const char *tag, const struct network *n, char out[16]) {
	link_name("wx", 8, tag, n->id, NULL, out);
}

static int probe(struct error *err) {
	int r = bridge_probe(err);
	return r < 0 ? r : link_probe("vxlan", "vxlan", err);
}

/* The family of the tunnel: that of all its addresses. */
static int tunnel_family(const struct network *n, int *family, struct error *err) {
	struct ip ip;
	*family = 0;
	if (n->spec.local && ip_parse(n->spec.local, &ip) == 0)
		*family = ip.family;
	for (char **p = n->spec.peers; p && *p; p++) {
		if (ip_parse(*p, &ip) < 0)
			return error_field(err, "peers", "\"%s\" is not an IP address", *p);
		if (*family && ip.family != *family)
			return error_field(err, "peers", "%s is of another family than the tunnel's other addresses", *p);
		*family = ip.family;
	}
	if (!*family)
		*family = AF_INET;
	return 0;
}

/* What a packet to a peer may measure, by the route there. */
static unsigned path_mtu(struct netlink *nl, const struct ip *peer) {
	char bytes[MNL_SOCKET_BUFFER_SIZE] __attribute__((aligned(8)));
	struct nlmsghdr *m = mnl_nlmsg_put_header(bytes);
	m->nlmsg_type = RTM_GETROUTE;
	struct rtmsg *r = mnl_nlmsg_put_extra_header(m, sizeof *r);
	r->rtm_family = (uint8_t)peer->family;
	r->rtm_dst_len = peer->family == AF_INET ? 32 : 128;
	mnl_attr_put(m, RTA_DST, peer->family == AF_INET ? 4 : 16, peer->bytes);
	const struct nlattr *a[RTA_METRICS + 1], *metrics[RTAX_MTU + 1];
	struct link l;
	if (netlink_ask(nl, m) < 0)
		return MTU;
	attrs_parse(m, sizeof *r, a, RTA_METRICS);
	attrs_parse_nested(a[RTA_METRICS], metrics, RTAX_MTU);
	if (metrics[RTAX_MTU])
		return mnl_attr_get_u32(metrics[RTAX_MTU]);
	bool found = a[RTA_OIF] && link_get_index(nl, (int)mnl_attr_get_u32(a[RTA_OIF]), &l, NULL) > 0;
	return found && l.mtu >= 576 + OVERHEAD + 20 && !(l.flags & IFF_LOOPBACK) ? l.mtu : MTU;
}

static int network_mtu(struct netlink *nl, const struct network *n, int family) {
	struct ip peer;
	if (n->spec.mtu)
		return (int)n->spec.mtu;
	bool known = n->spec.peers && n->spec.peers[0] && ip_parse(n->spec.peers[0], &peer) == 0;
	return (int)(known ? path_mtu(nl, &peer) : MTU) - OVERHEAD - (family == AF_INET6 ? 20 : 0);
}

static int tunnel_make(struct netlink *nl, const char *tag, const struct network *n, const char *name, int family,
		       int master, int mtu, struct error *err) {
	char alias[ALIAS_MAX];
	struct ip local = {.family = family};
	BATCH(b);
	if (n->spec.local)
		ip_parse(n->spec.local, &local);
	alias_make(tag, n->id, NULL, alias);
	struct nlmsghdr *m = link_new(&b, "make a VXLAN tunnel", name, NULL);
	mnl_attr_put_u32(m, IFLA_MTU, (uint32_t)mtu);
	mnl_attr_put_u32(m, IFLA_MASTER, (uint32_t)master);
	struct nlattr *info = mnl_attr_nest_start(m, IFLA_LINKINFO);
	mnl_attr_put_strz(m, IFLA_INFO_KIND, "vxlan");
	struct nlattr *data = mnl_attr_nest_start(m, IFLA_INFO_DATA);
	mnl_attr_put_u32(m, IFLA_VXLAN_ID, (uint32_t)n->spec.vni);
	mnl_attr_put_u16(m, IFLA_VXLAN_PORT, htons((uint16_t)(n->spec.vxlan_port ? n->spec.vxlan_port : 4789)));
	mnl_attr_put_u8(m, IFLA_VXLAN_LEARNING, 1);
	if (family == AF_INET6)
		mnl_attr_put(m, IFLA_VXLAN_LOCAL6, 16, local.bytes);
	else if (n->spec.local)
		mnl_attr_put(m, IFLA_VXLAN_LOCAL, 4, local.bytes);
	mnl_attr_nest_end(m, data);
	mnl_attr_nest_end(m, info);
	link_alias(&b, name, alias);
	int r = batch_send(nl, &b, err);
	if (r < 0 && nl->errnum == EEXIST)
		return error_field(err, "vni", "%lld is used on port %lld by another network of this host", (long long)n->spec.vni,
				   (long long)n->spec.vxlan_port);
	return r;
}

static int tunnel_get(struct netlink *nl, const char *tag, const struct network *n, int family, int mtu, struct link *out,
		      struct error *err) {
	struct link bridge;
	char name[16], bridge_name[16];
	network_bridge_name(tag, n, bridge_name);
	tunnel_name(tag, n, name);
	int r = link_get(nl, bridge_name, &bridge, err);
	if (r > 0)
		r = link_get(nl, name, out, err);
	else
		return r < 0 ? r : error_set(err, ERROR_CONFLICT, "the bridge %s was removed just now", bridge_name);
	if (r == 0) {
		r = tunnel_make(nl, tag, n, name, family, bridge.index, mtu, err);
		if (r == 0)
			r = link_get(nl, name, out, err);
	} else if (r > 0) {
		r = link_is_ours(out, tag, n->id, NULL, err);
		r = r < 0 ? r : 1;
	}
	return r == 0 ? error_set(err, ERROR_CONFLICT, "the tunnel %s was removed just now", name) : MIN(r, 0);
}

/* ---- peers: where frames go whose MAC is not known yet ---- */

static void peer_request(struct batch *b, bool add, int index, const struct ip *peer) {
	static const uint8_t any[6];
	struct ndmsg nd = {.ndm_family = AF_BRIDGE, .ndm_ifindex = index, .ndm_state = NUD_PERMANENT | NUD_NOARP, .ndm_flags = NTF_SELF};
	struct nlmsghdr *m = batch_add(b, add ? "add a peer of the tunnel" : "remove a peer of the tunnel", add ? EEXIST : ENOENT,
				       add ? RTM_NEWNEIGH : RTM_DELNEIGH, add ? NLM_F_CREATE | NLM_F_APPEND : 0, &nd, sizeof nd);
	mnl_attr_put(m, NDA_LLADDR, sizeof any, any);
	mnl_attr_put(m, NDA_DST, peer->family == AF_INET ? 4 : 16, peer->bytes);
}

static bool is_peer(const struct network *n, const struct ip *ip) {
	struct ip peer;
	for (char **p = n->spec.peers; p && *p; p++)
		if (ip_parse(*p, &peer) == 0 && peer.family == ip->family &&
		    memcmp(peer.bytes, ip->bytes, ip->family == AF_INET ? 4 : 16) == 0)
			return true;
	return false;
}

/* A peer in the kernel's table: an entry of this tunnel for the address of zeroes. */
static bool entry_parse(const struct nlmsghdr *m, int index, struct ip *out) {
	static const uint8_t any[6];
	const struct ndmsg *nd = mnl_nlmsg_get_payload(m);
	const struct nlattr *a[NDA_LLADDR + 1];
	attrs_parse(m, sizeof *nd, a, NDA_LLADDR);
	if (nd->ndm_ifindex != index || !a[NDA_DST] || !a[NDA_LLADDR] || mnl_attr_get_payload_len(a[NDA_LLADDR]) != sizeof any ||
	    memcmp(mnl_attr_get_payload(a[NDA_LLADDR]), any, sizeof any) != 0)
		return false;
	size_t n = mnl_attr_get_payload_len(a[NDA_DST]);
	*out = (struct ip){.family = n == 4 ? AF_INET : AF_INET6};
	memcpy(out->bytes, mnl_attr_get_payload(a[NDA_DST]), MIN(n, sizeof out->bytes));
	return true;
}

static int peers_remove_others(struct netlink *nl, const struct network *n, int index, struct error *err) {
	_cleanup_(buf_free) struct buf dump = BUF_INIT;
	struct ndmsg all = {.ndm_family = AF_BRIDGE};
	BATCH(b);
	int r = netlink_dump(nl, RTM_GETNEIGH, &all, sizeof all, &dump, err);
	const struct nlmsghdr *m;
	for (size_t at = 0; r == 0 && (m = dump_next(&dump, &at));) {
		struct ip ip;
		if (!entry_parse(m, index, &ip) || is_peer(n, &ip))
			continue;
		peer_request(&b, false, index, &ip);
		if (batch_full(&b))
			r = batch_send(nl, &b, err);
	}
	return r < 0 ? r : batch_send(nl, &b, err);
}

static int peers_set(struct netlink *nl, const struct network *n, int index, struct error *err) {
	int r = peers_remove_others(nl, n, index, err);
	BATCH(b);
	for (char **p = n->spec.peers; r == 0 && p && *p; p++) {
		struct ip ip;
		if (ip_parse(*p, &ip) == 0)
			peer_request(&b, true, index, &ip);
		if (batch_full(&b))
			r = batch_send(nl, &b, err);
	}
	return r < 0 ? r : batch_send(nl, &b, err);
}

/* ---- the driver ---- */

/* The same on all hosts that have the same gateway. */
static void make_mac(const struct network *n, uint8_t out[6]) {
	_cleanup_(free_ptr) char *vni = str_format("%lld", (long long)n->spec.vni);
	link_mac(vni, n->spec.subnets.n ? n->spec.subnets.items[0].gateway : NULL, out);
}

static int up(const char *tag, const struct network *n, struct error *err) {
	_cleanup_(netlink_close) struct netlink nl = NETLINK_INIT;
	struct link tunnel;
	uint8_t mac[6];
	int family = 0;
	BATCH(b);
	int r = tunnel_family(n, &family, err);
	if (r == 0)
		r = netlink_open(-1, &nl, err);
	if (r < 0)
		return r;
	int mtu = network_mtu(&nl, n, family);
	make_mac(n, mac);
	r = bridge_up(tag, n, mtu, mac, err);
	if (r == 0)
		r = tunnel_get(&nl, tag, n, family, mtu, &tunnel, err);
	if (r == 0)
		r = peers_set(&nl, n, tunnel.index, err);
	if (r < 0)
		return r;
	if (tunnel.mtu != (unsigned)mtu)
		mnl_attr_put_u32(link_change(&b, "set the MTU of a tunnel", tunnel.name), IFLA_MTU, (uint32_t)mtu);
	link_up(&b, tunnel.index);
	return batch_send(&nl, &b, err);
}

static int down(const char *tag, const struct network *n, struct error *err) {
	char name[16];
	tunnel_name(tag, n, name);
	int r = network_link_remove(name, err);
	return r < 0 ? r : bridge_down(tag, n, err);
}

const struct network_driver network_vxlan = {
	.name = "vxlan",
	.needs_subnet = true,
	.rules = true,
	.ports = true,
	.names = true,
	.probe = probe,
	.up = up,
	.down = down,
	.attach = bridge_attach,
	.detach = bridge_detach,
};
