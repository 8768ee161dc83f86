/* Bridges of the host, and the driver of networks that consist of one. */
#include "driver/network/network-priv.h"

#include "base/fs.h"

#include <stdio.h>

#define MTU 1500

/* Who listens to which group is worth knowing where IPv6 has many of them, or another bridge asks. Without, ports come and go
 * in a time that depends less on how many there are. */
static bool wants_snooping(const struct network *n) {
	bool v6 = false;
	for (size_t i = 0; i < n->spec.subnets.n; i++)
		v6 |= strchr(n->spec.subnets.items[i].cidr, ':') != NULL;
	return v6 || n->spec.parent || n->spec.vni;
}

static int bridge_make(struct netlink *nl, const struct network *n, const char *name, const uint8_t mac[6],
		       const char *alias, struct error *err) {
	BATCH(b);
	struct nlmsghdr *m = link_new(&b, "make a bridge", name, NULL);
	mnl_attr_put(m, IFLA_ADDRESS, 6, mac); /* its own, or it would be that of some port, and change */
	struct nlattr *info = mnl_attr_nest_start(m, IFLA_LINKINFO);
	mnl_attr_put_strz(m, IFLA_INFO_KIND, "bridge");
	struct nlattr *data = mnl_attr_nest_start(m, IFLA_INFO_DATA);
	mnl_attr_put_u32(m, IFLA_BR_FORWARD_DELAY, 0);
	mnl_attr_put_u32(m, IFLA_BR_STP_STATE, 0);
	mnl_attr_put_u8(m, IFLA_BR_MCAST_SNOOPING, wants_snooping(n));
	mnl_attr_nest_end(m, data);
	mnl_attr_nest_end(m, info);
	link_alias(&b, name, alias);
	return batch_send(nl, &b, err);
}

/* The bridge, made if need be. */
static int bridge_get(struct netlink *nl, const char *tag, const struct network *n, const uint8_t mac[6],
		      struct link *out, struct error *err) {
	char name[16], alias[ALIAS_MAX];
	network_bridge_name(tag, n, name);
	alias_make(tag, n->id, NULL, alias);
	int r = link_get(nl, name, out, err);
	if (r > 0)
		return link_is_ours(out, tag, n->id, NULL, err);
	if (r == 0)
		r = bridge_make(nl, n, name, mac, alias, err);
	if (r == 0)
		r = link_get(nl, name, out, err);
	return r == 0 ? error_set(err, ERROR_CONFLICT, "the bridge %s was removed just now", name) : MIN(r, 0);
}

/* No router on the bridge tells the host where to send its traffic. */
static void refuse_advertisements(const char *name) {
	char path[80];
	snprintf(path, sizeof path, "/proc/sys/net/ipv6/conf/%s/accept_ra", name);
	fs_write_value(path, "0"); /* without IPv6 there is no such file */
}

static int bridge_configure(struct netlink *nl, const struct network *n, const struct link *bridge, int mtu,
			    struct error *err) {
	BATCH(b);
	refuse_advertisements(bridge->name);
	if ((unsigned)mtu != bridge->mtu || !(bridge->flags & IFF_UP)) /* or it would follow that of its ports */
		mnl_attr_put_u32(link_change(&b, "set the MTU of a bridge", bridge->name), IFLA_MTU, (uint32_t)mtu);
	for (size_t i = 0; i < n->spec.subnets.n; i++) {
		const struct subnet *s = &n->spec.subnets.items[i];
		struct cidr cidr;
		struct ip ip;
		if (!s->gateway || cidr_parse(s->cidr, &cidr) < 0 || ip_parse(s->gateway, &ip) < 0)
			return error_set(err, ERROR_INVALID, "subnet %s of network %s has no gateway", s->cidr, n->spec.name);
		address_add(&b, bridge->index, &ip, cidr.prefix);
	}
	link_up(&b, bridge->index);
	return batch_send(nl, &b, err);
}

/* Ports that are there already follow a change of `isolated`. */
static int bridge_ports_set(struct netlink *nl, const char *tag, const struct network *n, const struct link *bridge,
			    struct error *err) {
	_cleanup_(buf_free) struct buf dump = BUF_INIT;
	struct ifinfomsg all = {0};
	BATCH(b);
	int r = netlink_dump(nl, RTM_GETLINK, &all, sizeof all, &dump, err);
	const struct nlmsghdr *m;
	for (size_t at = 0; r == 0 && (m = dump_next(&dump, &at));) {
		struct tagged_link ids;
		struct link l;
		char its_tag[9];
		if (!link_parse(m, &l) || l.master != bridge->index || !alias_parse(l.alias, its_tag, &ids, NULL) ||
		    strcmp(its_tag, tag) != 0 || !ids.instance[0])
			continue;
		port_flags(&b, l.name, n->spec.isolated);
		if (batch_full(&b))
			r = batch_send(nl, &b, err);
	}
	return r < 0 ? r : batch_send(nl, &b, err);
}

static int parent_add(struct netlink *nl, const char *tag, const struct network *n, const struct link *bridge,
		      struct error *err) {
	struct link uplink;
	BATCH(b);
	int r = uplink_get(nl, tag, n, &uplink, err);
	if (r < 0 || (uplink.master == bridge->index && uplink.flags & IFF_UP))
		return r;
	if (uplink.master && uplink.master != bridge->index)
		return error_set(err, ERROR_CONFLICT, "%s is a port of another bridge; take it out there, or use another parent",
				 uplink.name);
	r = link_unaddressed(nl, &uplink, err);
	if (r < 0)
		return r;
	link_master(&b, uplink.index, bridge->index);
	link_up(&b, uplink.index);
	return batch_send(nl, &b, err);
}

/* Once more when its addresses are there: another daemon may have taken the same subnet meanwhile. Then both see it, and who sees
 * it gives way. */
static int bridge_begin(struct netlink *nl, const struct network *n, const struct link *bridge, int mtu, struct error *err) {
	BATCH(b);
	int r = subnets_free(n, err);
	if (r == 0)
		r = bridge_configure(nl, n, bridge, mtu, err);
	if (r == 0)
		r = subnets_free(n, err);
	if (r < 0) {
		link_remove(&b, bridge->name);
		batch_send(nl, &b, NULL);
	}
	return r;
}

int bridge_up(const char *tag, const struct network *n, int mtu, const uint8_t mac[6], struct error *err) {
	_cleanup_(netlink_close) struct netlink nl = NETLINK_INIT;
	struct link bridge;
	int r = netlink_open(-1, &nl, err);
	if (r == 0)
		r = bridge_get(&nl, tag, n, mac, &bridge, err);
	if (r < 0)
		return r;
	bool begun = bridge.flags & IFF_UP;
	r = begun ? bridge_configure(&nl, n, &bridge, mtu, err) : bridge_begin(&nl, n, &bridge, mtu, err);
	if (r == 0 && begun)
		r = bridge_ports_set(&nl, tag, n, &bridge, err);
	if (r == 0 && n->spec.parent)
		r = parent_add(&nl, tag, n, &bridge, err);
	return r;
}

int bridge_down(const char *tag, const struct network *n, struct error *err) {
	_cleanup_(netlink_close) struct netlink nl = NETLINK_INIT;
	struct link bridge;
	char name[16];
	BATCH(b);
	network_bridge_name(tag, n, name);
	int r = netlink_open(-1, &nl, err);
	if (r == 0)
		r = link_get(&nl, name, &bridge, err);
	if (r > 0 && n->spec.interface && !alias_is(bridge.alias, tag, n->id, NULL)) {
		r = 0; /* its name was another's before: there is nothing of ours */
	} else if (r > 0) {
		r = link_is_ours(&bridge, tag, n->id, NULL, err);
		link_remove(&b, name); /* ports fall off */
	}
	if (r < 0)
		return r;
	uplink_remove(&b, tag, n);
	return batch_send(&nl, &b, err);
}

static int further_address(const char *tag, const struct network *n, const char *address, bool there, struct error *err) {
	_cleanup_(netlink_close) struct netlink nl = NETLINK_INIT;
	struct link bridge;
	struct ip ip;
	char name[16];
	BATCH(b);
	network_bridge_name(tag, n, name);
	int r = ip_parse(address, &ip) < 0 ? error_set(err, ERROR_INVALID, "%s is not an IP address", address) : netlink_open(-1, &nl, err);
	if (r == 0)
		r = link_get(&nl, name, &bridge, err);
	if (r <= 0 || !alias_is(bridge.alias, tag, n->id, NULL))
		return MIN(r, 0);
	(there ? address_add : address_remove)(&b, bridge.index, &ip, ip.family == AF_INET ? 32 : 128);
	return batch_send(&nl, &b, err);
}

int network_address_add(const char *tag, const struct network *n, const char *address, struct error *err) {
	return further_address(tag, n, address, true, err);
}

int network_address_remove(const char *tag, const struct network *n, const char *address, struct error *err) {
	return further_address(tag, n, address, false, err);
}

int bridge_probe(struct error *err) {
	int r = link_probe("bridge", "bridge", err);
	return r < 0 ? r : link_probe("veth", "veth", err);
}

/* ---- instances ---- */

/* One end on the bridge, the other in the instance, both under their names at once. */
static void veth_make(struct batch *b, const struct nic *nic, const char *name, const struct link *bridge, int netns,
		      const uint8_t mac[6]) {
	struct nlmsghdr *m = link_new(b, "make an instance's interface", name, NULL);
	mnl_attr_put_u32(m, IFLA_MASTER, (uint32_t)bridge->index);
	mnl_attr_put_u32(m, IFLA_MTU, bridge->mtu);
	struct nlattr *info = mnl_attr_nest_start(m, IFLA_LINKINFO);
	mnl_attr_put_strz(m, IFLA_INFO_KIND, "veth");
	struct nlattr *data = mnl_attr_nest_start(m, IFLA_INFO_DATA);
	struct nlattr *peer = mnl_attr_nest_start(m, 1 /* VETH_INFO_PEER */);
	mnl_nlmsg_put_extra_header(m, sizeof(struct ifinfomsg));
	mnl_attr_put_strz(m, IFLA_IFNAME, nic->interface);
	mnl_attr_put(m, IFLA_ADDRESS, 6, mac);
	mnl_attr_put_u32(m, IFLA_MTU, bridge->mtu);
	mnl_attr_put_u32(m, IFLA_NET_NS_FD, (uint32_t)netns);
	mnl_attr_nest_end(m, peer);
	mnl_attr_nest_end(m, data);
	mnl_attr_nest_end(m, info);
}

/* The host's end: ours, without addresses, isolated before it is up. Few messages: each tells all listeners of the whole link. */
static void veth_host_end(struct batch *b, const char *name, const char *alias, bool isolated) {
	struct nlmsghdr *m = port_flags(b, name, isolated);
	mnl_attr_put_str(m, IFLA_IFALIAS, alias);
	link_no_addresses(m);
	struct ifinfomsg *i = mnl_nlmsg_get_payload(link_change(b, "set an interface up", name));
	i->ifi_flags = i->ifi_change = IFF_UP;
}

static void veth_remove(struct netlink *nl, const char *name) {
	char rates[16];
	BATCH(b);
	rates_link_name(name, rates);
	link_remove(&b, name);
	link_remove(&b, rates);
	batch_send(nl, &b, NULL);
}

struct attaching {
	const char *tag;
	const struct network *network;
	const char *instance;
	const struct nic *nic;
	int netns;
	struct netlink host, inside;
	struct link bridge;
	char name[16], alias[ALIAS_MAX];
};

static void attaching_end(struct attaching *a) {
	netlink_close(&a->host);
	netlink_close(&a->inside);
}

/* A bridge that was made again has lost its ports. */
static int veth_mend(struct attaching *a, const struct link *host, struct error *err) {
	BATCH(b);
	if (host->master == a->bridge.index && host->flags & IFF_UP)
		return 0;
	link_master(&b, host->index, a->bridge.index);
	port_flags(&b, a->name, a->network->spec.isolated);
	link_up(&b, host->index);
	return batch_send(&a->host, &b, err);
}

/* What an earlier call left: 1 when it is this very interface, 0 when there is none (any more). */
static int veth_keep(struct attaching *a, struct error *err) {
	struct link host, inside;
	int r = link_get(&a->host, a->name, &host, err);
	if (r == 0) /* then the name was taken inside */
		return nic_taken(a->nic, err);
	if (r > 0)
		r = link_is_ours(&host, a->tag, a->network->id, a->instance, err);
	if (r < 0)
		return r;
	r = netlink_open(a->netns, &a->inside, err);
	if (r == 0)
		r = link_get(&a->inside, a->nic->interface, &inside, err);
	netlink_close(&a->inside);
	if (r < 0)
		return r;
	if (r > 0 && inside.other == host.index && host.other == inside.index) {
		r = veth_mend(a, &host, err);
		return r < 0 ? r : 1;
	}
	veth_remove(&a->host, a->name);
	return 0;
}

static int veth_get(struct attaching *a, const uint8_t mac[6], bool *made, struct error *err) {
	_cleanup_(error_free) struct error why = ERROR_INIT;
	int r = 0;
	*made = false;
	for (int i = 0; i < 2 && r == 0 && !*made; i++) {
		BATCH(b);
		veth_make(&b, a->nic, a->name, &a->bridge, a->netns, mac);
		veth_host_end(&b, a->name, a->alias, a->network->spec.isolated);
		r = batch_send(&a->host, &b, &why);
		*made = r == 0;
		if (r < 0)
			r = a->host.errnum == EEXIST ? veth_keep(a, err) : error_move(err, &why);
	}
	if (r == 0 && !*made)
		return nic_taken(a->nic, err);
	return MIN(r, 0);
}

static int attach_begin(struct attaching *a, struct error *err) {
	char bridge[16];
	network_bridge_name(a->tag, a->network, bridge);
	network_veth_name(a->tag, a->instance, a->network->id, a->name);
	alias_make(a->tag, a->network->id, a->instance, a->alias);
	int r = netlink_open(-1, &a->host, err);
	if (r < 0)
		return r;
	r = link_get(&a->host, bridge, &a->bridge, err);
	return r == 0 ? error_set(err, ERROR_UNAVAILABLE, "network %s is down: it has no bridge %s", a->network->spec.name, bridge)
		      : MIN(r, 0);
}

static int attach_rates(struct attaching *a, bool made, struct error *err) {
	struct link host;
	if (made && !a->nic->ingress_rate && !a->nic->egress_rate)
		return 0;
	int r = link_get(&a->host, a->name, &host, err);
	return r <= 0 ? r : rates_set(&a->host, &host, a->nic->ingress_rate, a->nic->egress_rate, err);
}

int bridge_attach(const char *tag, const struct network *n, const char *instance, const struct nic *nic, bool gateway,
		  int netns, struct error *err) {
	_cleanup_(attaching_end) struct attaching a = {tag, n, instance, nic, netns, NETLINK_INIT, NETLINK_INIT};
	uint8_t mac[6];
	bool made = false;
	if (mac_bytes(nic->mac, mac) < 0)
		return error_set(err, ERROR_INVALID, "the instance's interface on network %s has no MAC address", n->spec.name);
	int r = attach_begin(&a, err);
	if (r == 0)
		r = veth_get(&a, mac, &made, err);
	if (r == 0)
		r = nic_open(netns, n, nic, &a.inside, err);
	if (r == 0)
		r = nic_configure(&a.inside, n, nic, NULL, gateway, err);
	if (r == 0)
		r = attach_rates(&a, made, err);
	if (r == 0)
		r = link_wait_running(&a.host, a.name, err);
	if (r == 0 && !a.bridge.running) /* it is the first */
		r = link_wait_running(&a.host, a.bridge.name, err);
	if (r < 0 && made)
		veth_remove(&a.host, a.name);
	return r;
}

int bridge_detach(const char *tag, const struct network *n, const char *instance, UNUSED const struct nic *nic,
		  UNUSED int netns, struct error *err) {
	_cleanup_(netlink_close) struct netlink nl = NETLINK_INIT;
	char names[2][16];
	BATCH(b);
	network_veth_name(tag, instance, n->id, names[0]);
	rates_link_name(names[0], names[1]);
	int r = netlink_open(-1, &nl, err);
	for (int i = 0; i < 2 && r >= 0; i++) {
		struct link l = {0};
		r = link_get(&nl, names[i], &l, err);
		if (r > 0)
			r = link_is_ours(&l, tag, n->id, instance, err);
		if (r == 0 && l.index)
			link_remove(&b, names[i]);
	}
	return r < 0 ? r : batch_send(&nl, &b, err);
}

/* ---- the driver ---- */

static int parent_mtu(const struct network *n, struct error *err) {
	_cleanup_(netlink_close) struct netlink nl = NETLINK_INIT;
	struct link parent;
	int r = netlink_open(-1, &nl, err);
	if (r == 0)
		r = parent_get(&nl, n, &parent, err);
	return r < 0 ? r : (int)parent.mtu;
}

static int up(const char *tag, const struct network *n, struct error *err) {
	uint8_t mac[6];
	int mtu = n->spec.mtu ? (int)n->spec.mtu : n->spec.parent ? parent_mtu(n, err) : MTU;
	if (mtu < 0)
		return mtu;
	link_mac(tag, n->id, mac); /* stable over restarts, and different for each network */
	return bridge_up(tag, n, mtu, mac, err);
}

const struct network_driver network_bridge = {
	.name = "bridge",
	.needs_subnet = true,
	.rules = true,
	.ports = true,
	.names = true,
	.probe = bridge_probe,
	.up = up,
	.down = bridge_down,
	.attach = bridge_attach,
	.detach = bridge_detach,
};
