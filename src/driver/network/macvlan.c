/* The drivers macvlan and ipvlan: instances share an interface of the host, each with a link of its own on it that lies in the
 * instance's name space alone; nothing of it is on the host but a VLAN's interface where the network has one. */
#include "driver/network/network-priv.h"

#include "base/str.h"

static int probe_macvlan(struct error *err) {
	return link_probe("macvlan", "macvlan", err);
}

static int probe_ipvlan(struct error *err) {
	return link_probe("ipvlan", "ipvlan", err);
}

static int up(const char *tag, const struct network *n, struct error *err) {
	_cleanup_(netlink_close) struct netlink nl = NETLINK_INIT;
	struct link uplink;
	BATCH(b);
	int r = netlink_open(-1, &nl, err);
	if (r == 0)
		r = uplink_get(&nl, tag, n, &uplink, err);
	if (r < 0 || !n->spec.vlan || uplink.flags & IFF_UP)
		return r;
	link_up(&b, uplink.index);
	return batch_send(&nl, &b, err);
}

static uint32_t macvlan_mode(const char *mode) {
	return str_same(mode, "vepa")       ? MACVLAN_MODE_VEPA
	       : str_same(mode, "private")  ? MACVLAN_MODE_PRIVATE
	       : str_same(mode, "passthru") ? MACVLAN_MODE_PASSTHRU
					    : MACVLAN_MODE_BRIDGE;
}

static int link_make(struct netlink *host, const struct network *n, const struct nic *nic, const struct link *uplink,
		     int netns, struct error *err) {
	bool macvlan = strcmp(n->spec.driver, "macvlan") == 0;
	uint8_t mac[6];
	BATCH(b);
	struct nlmsghdr *m = link_new(&b, "make an instance's interface", nic->interface, NULL);
	mnl_attr_put_u32(m, IFLA_LINK, (uint32_t)uplink->index);
	mnl_attr_put_u32(m, IFLA_NET_NS_FD, (uint32_t)netns);
	mnl_attr_put_u32(m, IFLA_MTU, n->spec.mtu ? (uint32_t)n->spec.mtu : uplink->mtu);
	if (macvlan && mac_bytes(nic->mac, mac) == 0)
		mnl_attr_put(m, IFLA_ADDRESS, 6, mac);
	struct nlattr *info = mnl_attr_nest_start(m, IFLA_LINKINFO);
	mnl_attr_put_strz(m, IFLA_INFO_KIND, n->spec.driver);
	struct nlattr *data = mnl_attr_nest_start(m, IFLA_INFO_DATA);
	if (macvlan)
		mnl_attr_put_u32(m, IFLA_MACVLAN_MODE, macvlan_mode(n->spec.mode));
	else
		mnl_attr_put_u16(m, IFLA_IPVLAN_MODE, str_same(n->spec.mode, "l3") ? IPVLAN_MODE_L3 : IPVLAN_MODE_L2);
	mnl_attr_nest_end(m, data);
	mnl_attr_nest_end(m, info);
	int r = batch_send(host, &b, err);
	if (r < 0 && host->errnum == EEXIST)
		return nic_taken(nic, err);
	return r < 0 ? error_wrap(err, "on %s", uplink->name) : 0;
}

static void link_unmake(struct netlink *inside, const struct nic *nic) {
	BATCH(b);
	link_remove(&b, nic->interface);
	batch_send(inside, &b, NULL);
}

static int set_rates(struct netlink *inside, const struct nic *nic, bool made, struct error *err) {
	struct link l;
	if (made && !nic->ingress_rate && !nic->egress_rate)
		return 0;
	int r = link_get(inside, nic->interface, &l, err);
	/* seen from inside it is the other way round */
	return r <= 0 ? r : rates_set(inside, &l, nic->egress_rate, nic->ingress_rate, err);
}

static int attach(const char *tag, const struct network *n, const char *instance, const struct nic *nic, bool gateway,
		  int netns, struct error *err) {
	_cleanup_(netlink_close) struct netlink host = NETLINK_INIT, inside = NETLINK_INIT;
	struct link uplink, own;
	char alias[ALIAS_MAX];
	alias_make(tag, n->id, instance, alias);
	int r = netlink_open(-1, &host, err);
	if (r == 0)
		r = netlink_open(netns, &inside, err);
	if (r == 0)
		r = uplink_get(&host, tag, n, &uplink, err);
	if (r == 0)
		r = nic_find(&inside, nic, uplink.index, &own, err);
	bool made = r == 0;
	if (made)
		r = link_make(&host, n, nic, &uplink, netns, err);
	if (r < 0)
		return r;
	r = nic_configure(&inside, n, nic, alias, gateway, err);
	if (r == 0)
		r = set_rates(&inside, nic, made, err);
	if (r < 0 && made)
		link_unmake(&inside, nic);
	return r;
}

static int detach(const char *tag, const struct network *n, const char *instance, const struct nic *nic, int netns,
		  struct error *err) {
	_cleanup_(netlink_close) struct netlink inside = NETLINK_INIT;
	struct link own;
	char rates[16];
	BATCH(b);
	if (netns < 0)
		return 0; /* it ended with its name space */
	int r = netlink_open(netns, &inside, err);
	if (r == 0)
		r = link_get(&inside, nic->interface, &own, err);
	if (r <= 0 || !alias_is(own.alias, tag, n->id, instance))
		return r;
	rates_link_name(nic->interface, rates);
	link_remove(&b, nic->interface);
	link_remove(&b, rates);
	return batch_send(&inside, &b, err);
}

const struct network_driver network_macvlan = {
	.name = "macvlan",
	.probe = probe_macvlan,
	.up = up,
	.down = uplink_down,
	.attach = attach,
	.detach = detach,
};

const struct network_driver network_ipvlan = {
	.name = "ipvlan",
	.probe = probe_ipvlan,
	.up = up,
	.down = uplink_down,
	.attach = attach,
	.detach = detach,
};
