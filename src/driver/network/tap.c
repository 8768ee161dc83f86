/* The way of a machine's packets: an interface that a network's driver has made, and a tap device that QEMU opens, in one name
 * space, joined by redirections at their entrances. No bridge is between them, so the guest has the interface's place on the
 * network, MAC and all. Checksums that a sender has left to the card stay so on the way (vnet_hdr). */
#include "driver/network/network-priv.h"

#include "base/fs.h"
#include "base/str.h"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <stdio.h>
#include <sys/ioctl.h>

#define DEVICE "/dev/net/tun"

struct tap {
	const char *nic, *name;
	uint32_t owner;
	struct netlink nl;
};

/* No address by itself, and those that there are go. A kernel without IPv6 has no such file. */
static void disable_ipv6(const char *link) {
	_cleanup_(free_ptr) char *path = str_format("/proc/sys/net/ipv6/conf/%s/disable_ipv6", link);
	fs_write_value(path, "1");
}

/* Persistent last: one that is there for good has its owner. */
static int make_device(const struct tap *t, struct error *err) {
	struct ifreq r = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
	_cleanup_(close_fd) int tun = open(DEVICE, O_RDWR | O_CLOEXEC);
	if (tun < 0)
		return error_set(err, ERROR_UNSUPPORTED, "this host has no " DEVICE ": %s", strerror(errno));
	snprintf(r.ifr_name, sizeof r.ifr_name, "%s", t->name);
	if (ioctl(tun, TUNSETIFF, &r) < 0)
		return errno == EBUSY ? 0 : error_errno(err, errno, "cannot make the tap device %s", t->name); /* busy: QEMU has it */
	if (ioctl(tun, TUNSETOWNER, (unsigned long)t->owner) < 0 || ioctl(tun, TUNSETPERSIST, 1UL) < 0)
		return error_errno(err, errno, "cannot give the tap device %s to user %u", t->name, t->owner);
	return 0;
}

static int open_inside(void *arg, struct error *err) {
	struct tap *t = arg;
	int r = make_device(t, err);
	if (r < 0)
		return r;
	disable_ipv6(t->nic);
	disable_ipv6(t->name);
	return netlink_open(-1, &t->nl, err);
}

static int find(struct netlink *nl, const char *name, struct link *out, struct error *err) {
	int r = link_get(nl, name, out, err);
	return r == 0 ? error_set(err, ERROR_NOT_FOUND, "the machine's interface %s is gone", name) : MIN(r, 0);
}

static int remove_addresses(struct netlink *nl, const struct link *l, struct error *err) {
	_cleanup_(buf_free) struct buf dump = BUF_INIT;
	struct ifaddrmsg all = {.ifa_family = AF_INET};
	BATCH(b);
	int r = netlink_dump(nl, RTM_GETADDR, &all, sizeof all, &dump, err);
	const struct nlmsghdr *m;
	for (size_t at = 0; r == 0 && (m = dump_next(&dump, &at));) {
		const struct ifaddrmsg *a = mnl_nlmsg_get_payload(m);
		const struct nlattr *attrs[IFA_LOCAL + 1];
		attrs_parse(m, sizeof *a, attrs, IFA_LOCAL);
		if (a->ifa_index != (uint32_t)l->index || !attrs[IFA_LOCAL])
			continue;
		struct nlmsghdr *gone = batch_add(&b, "remove an address", EADDRNOTAVAIL, RTM_DELADDR, 0, a, sizeof *a);
		mnl_attr_put(gone, IFA_LOCAL, mnl_attr_get_payload_len(attrs[IFA_LOCAL]), mnl_attr_get_payload(attrs[IFA_LOCAL]));
		if (batch_full(&b))
			r = batch_send(nl, &b, err);
	}
	return r == 0 && b.n ? batch_send(nl, &b, err) : r;
}

/* It hears what the guest may have asked to hear: macvlan goes by what its own host has. */
static void all_multicast(struct batch *b, int index) {
	struct ifinfomsg i = {.ifi_index = index, .ifi_flags = IFF_UP | IFF_ALLMULTI, .ifi_change = IFF_UP | IFF_ALLMULTI};
	batch_add(b, "set an interface up", 0, RTM_NEWLINK, 0, &i, sizeof i);
}

static int join(struct tap *t, struct error *err) {
	struct link nic, tap;
	BATCH(b);
	int r = find(&t->nl, t->nic, &nic, err);
	if (r == 0)
		r = find(&t->nl, t->name, &tap, err);
	if (r == 0)
		r = remove_addresses(&t->nl, &nic, err);
	if (r < 0)
		return r;
	mnl_attr_put_u32(link_change(&b, "set the largest packet of a tap device", t->name), IFLA_MTU, nic.mtu);
	link_up(&b, tap.index);
	all_multicast(&b, nic.index);
	link_redirect(&b, "join a machine's interfaces", nic.index, tap.index);
	link_redirect(&b, "join a machine's interfaces", tap.index, nic.index);
	return batch_send(&t->nl, &b, err);
}

int network_tap(int netns, const char *nic, const char *tap, uint32_t owner, struct error *err) {
	struct tap t = {.nic = nic, .name = tap, .owner = owner, .nl = NETLINK_INIT};
	int r = netns_call(netns, open_inside, &t, err);
	if (r == 0)
		r = join(&t, err);
	netlink_close(&t.nl);
	return r;
}
