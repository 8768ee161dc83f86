/* What an instance sees: an interface in its own name space, and loopback there. */
#include "driver/network/network-priv.h"

#include "base/fs.h"
#include "base/str.h"

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
	const struct nic *nic;
	bool refuse_routers;
	struct netlink *nl;
};

static int open_fit(void *arg, struct error *err) {
	struct opening *o = arg;
	if (o->refuse_routers) { /* a kernel without IPv6 has no such file */
		_cleanup_(free_ptr) char *path = str_format("/proc/sys/net/ipv6/conf/%s/accept_ra", o->nic->interface);
		fs_write_value(path, "0");
	}
	return netlink_open(-1, o->nl, err);
}

int nic_open(int netns, const struct network *n, const struct nic *nic, struct netlink *nl, struct error *err) {
	/* the resolver is the one router that there may be, where it serves IPv6 */
	struct opening o = {nic, nic->ipv6 && n->spec.dhcp, nl};
	*nl = NETLINK_INIT;
	return netns_call(netns, open_fit, &o, err);
}

int nic_taken(const struct nic *nic, struct error *err) {
	return error_set(err, ERROR_CONFLICT, "the instance has another interface %s already", nic->interface);
}

int nic_find(struct netlink *inside, const struct nic *nic, int other, struct link *out, struct error *err) {
	int r = link_get(inside, nic->interface, out, err);
	if (r > 0 && out->other != other)
		return nic_taken(nic, err);
	return r;
}

static int add_address(struct batch *b, const struct network *n, const char *address, int index, bool gateway,
		       struct error *err) {
	struct ip ip, router;
	struct cidr cidr;
	if (!address)
		return 0;
	if (ip_parse(address, &ip) < 0)
		return error_set(err, ERROR_INVALID, "\"%s\" is not an IP address", address);
	const struct subnet *s = subnet_with(&n->spec.subnets, &ip, &cidr);
	if (!s)
		return error_set(err, ERROR_INVALID, "%s is in no subnet of network %s", address, n->spec.name);
	address_add(b, index, &ip, cidr.prefix);
	if (gateway && s->gateway && ip_parse(s->gateway, &router) == 0)
		default_route_add(b, index, &router);
	return 0;
}

/* fe80 and the MAC, as RFC 4291 has it. */
static void add_link_local(struct batch *b, const struct link *l) {
	struct ip ip = {.family = AF_INET6, .bytes = {0xfe, 0x80}};
	memcpy(ip.bytes + 8, l->mac, 3);
	ip.bytes[8] ^= 2;
	ip.bytes[11] = 0xff;
	ip.bytes[12] = 0xfe;
	memcpy(ip.bytes + 13, l->mac + 3, 3);
	address_add(b, l->index, &ip, 64);
}

int nic_configure(struct netlink *inside, const struct network *n, const struct nic *nic, const char *alias, bool gateway,
		  struct error *err) {
	struct link l;
	BATCH(b);
	const struct network_driver *d = network_driver_find(n->spec.driver);
	bool ours = d && d->names; /* the host is on it, too */
	int r = link_get(inside, nic->interface, &l, err);
	if (r <= 0)
		return r < 0 ? r : error_set(err, ERROR_NOT_FOUND, "the instance's interface %s is gone", nic->interface);
	if (ours)
		link_no_addresses(link_change(&b, "set up an instance's interface", nic->interface));
	link_up(&b, l.index);
	if (ours && nic->ipv6)
		add_link_local(&b, &l);
	if (alias)
		link_alias(&b, nic->interface, alias);
	r = add_address(&b, n, nic->ipv4, l.index, gateway, err);
	if (r == 0)
		r = add_address(&b, n, nic->ipv6, l.index, gateway, err);
	return r < 0 ? r : batch_send(inside, &b, err);
}

static int set_sysctls(void *arg, struct error *err) {
	const struct nic *nic = arg;
	for (size_t i = 0; i < nic->sysctls.n; i++) {
		const struct pair *p = &nic->sysctls.items[i];
		_cleanup_(strv_free_ptr) char **all = strv_split(p->key, '.'); /* net ipv4 conf IFNAME log_martians */
		if (strv_len(all) != 5)
			return error_set(err, ERROR_INVALID, "%s is no parameter of an interface", p->key);
		_cleanup_(free_ptr) char *path =
			str_format("/proc/sys/%s/%s/%s/%s/%s", all[0], all[1], all[2], nic->interface, all[4]);
		int r = fs_write_value(path, p->value);
		if (r < 0)
			return error_errno(err, r, "cannot set the sysctl %s of %s to \"%s\"", p->key, nic->interface, p->value);
	}
	return 0;
}

int network_nic_sysctls(int netns, const struct nic *nic, struct error *err) {
	return nic->sysctls.n ? netns_call(netns, set_sysctls, (void *)nic, err) : 0;
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
