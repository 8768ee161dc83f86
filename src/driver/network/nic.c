/* What an instance sees: an interface in its own name space, and loopback there. */
#include "driver/network/network-priv.h"

#include "base/fs.h"

#include <stdio.h>

int mac_bytes(const char *text, uint8_t out[6]) {
	unsigned v[6];
	if (!text || sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x", &v[0], &v[1], &v[2], &v[3], &v[4], &v[5]) != 6)
		return -EINVAL;
	for (int i = 0; i < 6; i++)
		out[i] = (uint8_t)v[i];
	return 0;
}

struct opening {
	bool quiet;
	struct netlink *nl;
};

static int open_quiet(void *arg, struct error *err) {
	struct opening *o = arg;
	if (o->quiet) /* a kernel without IPv6 has no such file, and no advertisements */
		fs_write_value("/proc/sys/net/ipv6/conf/default/accept_ra", "0");
	return netlink_open(-1, o->nl, err);
}

int nic_open(int netns, bool quiet, struct netlink *nl, struct error *err) {
	struct opening o = {quiet, nl};
	*nl = NETLINK_INIT;
	return netns_call(netns, open_quiet, &o, err);
}

int nic_find(struct netlink *inside, const struct nic *nic, int other, struct link *out, struct error *err) {
	int r = link_get(inside, nic->interface, out, err);
	if (r > 0 && out->other != other)
		return error_set(err, ERROR_CONFLICT, "the instance has another interface %s already", nic->interface);
	return r;
}

/* The subnet that an address of a nic is in. */
static const struct subnet *subnet_of(const struct network *n, const struct ip *ip, struct cidr *cidr) {
	for (size_t i = 0; i < n->spec.subnets.n; i++)
		if (cidr_parse(n->spec.subnets.items[i].cidr, cidr) == 0 && cidr_contains(cidr, ip))
			return &n->spec.subnets.items[i];
	return NULL;
}

static int add_address(struct batch *b, const struct network *n, const char *address, int index, bool gateway,
		       struct error *err) {
	struct ip ip, router;
	struct cidr cidr;
	if (!address)
		return 0;
	if (ip_parse(address, &ip) < 0)
		return error_set(err, ERROR_INVALID, "\"%s\" is not an IP address", address);
	const struct subnet *s = subnet_of(n, &ip, &cidr);
	if (!s)
		return error_set(err, ERROR_INVALID, "%s is in no subnet of network %s", address, n->spec.name);
	address_add(b, index, &ip, cidr.prefix);
	if (gateway && s->gateway && ip_parse(s->gateway, &router) == 0)
		default_route_add(b, index, &router);
	return 0;
}

int nic_configure(struct netlink *inside, const struct network *n, const struct nic *nic, const char *alias, bool gateway,
		  struct error *err) {
	struct link l;
	BATCH(b);
	int r = link_get(inside, nic->interface, &l, err);
	if (r <= 0)
		return r < 0 ? r : error_set(err, ERROR_NOT_FOUND, "the instance's interface %s is gone", nic->interface);
	link_up(&b, l.index);
	if (alias)
		link_alias(&b, nic->interface, alias);
	r = add_address(&b, n, nic->ipv4, l.index, gateway, err);
	if (r == 0)
		r = add_address(&b, n, nic->ipv6, l.index, gateway, err);
	return r < 0 ? r : batch_send(inside, &b, err);
}

int network_loopback_up(int netns, struct error *err) {
	_cleanup_(netlink_close) struct netlink nl = NETLINK_INIT;
	BATCH(b);
	int r = netlink_open(netns, &nl, err);
	if (r < 0)
		return r;
	link_up(&b, 1); /* it is the first of each name space */
	return batch_send(&nl, &b, err);
}
