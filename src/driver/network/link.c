/* Links: finding them, whose they are, and the requests about them that all drivers need. */
#include "driver/network/network-priv.h"

#include "base/str.h"
#include "base/time.h"

#include <linux/if_bridge.h>
#include <linux/if.h>
#include <stdio.h>
#include <sys/socket.h>

#define RUNNING_WAIT NS_PER_SEC

/* ---- names ---- */

/* FNV-1a, with a finish that spreads the last bytes over all bits. */
static uint64_t hash_add(uint64_t h, const char *text) {
	for (const char *p = text ? text : ""; *p; p++)
		h = (h ^ (uint8_t)*p) * UINT64_C(0x100000001b3);
	return (h ^ 0xff) * UINT64_C(0x100000001b3);
}

void link_name(const char *kind, int digits, const char *tag, const char *a, const char *b, char out[16]) {
	uint64_t h = hash_add(hash_add(hash_add(UINT64_C(0xcbf29ce484222325), tag), a), b);
	h ^= h >> 33;
	h *= UINT64_C(0xff51afd7ed558ccd);
	h ^= h >> 33;
	snprintf(out, 16, "%.2s%0*llx", kind, digits, (unsigned long long)(h >> (64 - 4 * digits)));
}

void link_mac(const char *a, const char *b, uint8_t out[6]) {
	char digits[16];
	unsigned v[5];
	link_name("", 10, "mac", a, b, digits);
	sscanf(digits, "%2x%2x%2x%2x%2x", &v[0], &v[1], &v[2], &v[3], &v[4]);
	out[0] = 0x02;
	for (int i = 0; i < 5; i++)
		out[i + 1] = (uint8_t)v[i];
}

void network_bridge_name(const char *tag, const struct network *n, char out[16]) {
	if (n->spec.interface)
		snprintf(out, 16, "%s", n->spec.interface);
	else
		link_name("wb", 8, tag, n->id, NULL, out);
}

void network_veth_name(const char *tag, const char *instance, const char *network_id, char out[16]) {
	link_name("wv", 10, tag, instance, network_id, out);
}

void alias_make(const char *tag, const char *network, const char *instance, char out[ALIAS_MAX]) {
	snprintf(out, ALIAS_MAX, "wabe %.*s %.64s%s%.64s", NETWORK_TAG_LEN, tag, network, instance ? " " : "",
		 instance ? instance : "");
}

static bool take_id(struct str *rest, char *out, size_t max) {
	struct str word = str_cut(rest, ' ');
	if (!word.len || word.len > max)
		return false;
	memcpy(out, word.p, word.len);
	out[word.len] = 0;
	return true;
}

bool alias_parse(const char *alias, char tag[9], struct tagged_link *out, const char **rest) {
	struct str s = str_view(alias);
	out->instance[0] = 0;
	if (!str_is(str_cut(&s, ' '), "wabe") || !take_id(&s, tag, NETWORK_TAG_LEN) || !take_id(&s, out->network, 64))
		return false;
	if (s.len && !take_id(&s, out->instance, 64))
		return false;
	if (rest)
		*rest = s.len ? s.p : "";
	return true;
}

bool alias_is(const char *alias, const char *tag, const char *network, const char *instance) {
	char its_tag[9];
	struct tagged_link l;
	return alias_parse(alias, its_tag, &l, NULL) && (!tag || strcmp(its_tag, tag) == 0) &&
	       (!network || (strcmp(l.network, network) == 0 && strcmp(l.instance, instance ? instance : "") == 0));
}

int link_is_ours(const struct link *l, const char *tag, const char *network, const char *instance, struct error *err) {
	if (alias_is(l->alias, tag, network, instance))
		return 0;
	return error_set(err, ERROR_CONFLICT, "the host has an interface %s that is not this network's: remove it or give it "
			 "another name", l->name);
}

/* ---- reading ---- */

static void copy_text(const struct nlattr *a, char *out, size_t size) {
	if (a)
		snprintf(out, size, "%.*s", (int)mnl_attr_get_payload_len(a), (const char *)mnl_attr_get_payload(a));
}

bool link_parse(const struct nlmsghdr *m, struct link *out) {
	const struct nlattr *a[IFLA_LINKINFO + 1], *info[IFLA_INFO_KIND + 1], *alias[IFLA_IFALIAS + 1];
	*out = (struct link){0};
	if (m->nlmsg_type != RTM_NEWLINK)
		return false;
	const struct ifinfomsg *i = mnl_nlmsg_get_payload(m);
	attrs_parse(m, sizeof *i, a, IFLA_LINKINFO);
	attrs_parse(m, sizeof *i, alias, IFLA_IFALIAS);
	attrs_parse_nested(a[IFLA_LINKINFO], info, IFLA_INFO_KIND);
	out->index = i->ifi_index;
	out->flags = i->ifi_flags;
	out->mtu = a[IFLA_MTU] ? mnl_attr_get_u32(a[IFLA_MTU]) : 0;
	out->master = a[IFLA_MASTER] ? (int)mnl_attr_get_u32(a[IFLA_MASTER]) : 0;
	out->other = a[IFLA_LINK] ? (int)mnl_attr_get_u32(a[IFLA_LINK]) : 0;
	out->running = a[IFLA_OPERSTATE] && mnl_attr_get_u8(a[IFLA_OPERSTATE]) == IF_OPER_UP;
	copy_text(a[IFLA_IFNAME], out->name, sizeof out->name);
	copy_text(info[IFLA_INFO_KIND], out->kind, sizeof out->kind);
	copy_text(alias[IFLA_IFALIAS], out->alias, sizeof out->alias);
	if (a[IFLA_ADDRESS] && mnl_attr_get_payload_len(a[IFLA_ADDRESS]) == sizeof out->mac)
		memcpy(out->mac, mnl_attr_get_payload(a[IFLA_ADDRESS]), sizeof out->mac);
	return true;
}

static int ask_link(struct netlink *nl, const char *name, int index, struct link *out, struct error *err) {
	char bytes[MNL_SOCKET_BUFFER_SIZE] __attribute__((aligned(8)));
	struct nlmsghdr *m = mnl_nlmsg_put_header(bytes);
	m->nlmsg_type = RTM_GETLINK;
	struct ifinfomsg *i = mnl_nlmsg_put_extra_header(m, sizeof *i);
	i->ifi_index = index;
	if (name)
		mnl_attr_put_strz(m, IFLA_IFNAME, name);
	mnl_attr_put_u32(m, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
	int r = netlink_ask(nl, m);
	if (r == -ENODEV)
		return 0;
	if (r == 0 && !link_parse(m, out))
		r = -EPROTO;
	return r < 0 ? error_errno(err, r, "cannot look up the interface %s", name ? name : "by its number") : 1;
}

int link_get(struct netlink *nl, const char *name, struct link *out, struct error *err) {
	return ask_link(nl, name, 0, out, err);
}

int link_get_index(struct netlink *nl, int index, struct link *out, struct error *err) {
	return ask_link(nl, NULL, index, out, err);
}

/* A link that has just got its carrier passes nothing before the kernel has noted it, a moment later: asking hurries it (since Linux
 * 6.8), or an event tells. */
int link_wait_running(struct netlink *nl, const char *name, struct error *err) {
	_cleanup_(netlink_close) struct netlink events = NETLINK_INIT;
	int64_t until = time_mono_ns() + RUNNING_WAIT;
	for (;;) {
		struct link l;
		int r = link_get(nl, name, &l, err);
		if (r <= 0 || l.running)
			return MIN(r, 0);
		if (events.fd < 0)
			r = events_open(&events, err);
		else if (!events_wait(&events, until))
			return 0; /* something else keeps it down */
		if (r < 0)
			return r;
	}
}

/* ---- requests ---- */

struct nlmsghdr *link_change(struct batch *b, const char *what, const char *name) {
	struct ifinfomsg i = {0};
	struct nlmsghdr *m = batch_add(b, what, 0, RTM_NEWLINK, 0, &i, sizeof i);
	mnl_attr_put_strz(m, IFLA_IFNAME, name);
	return m;
}

/* The caller may go on inside of IFLA_LINKINFO by nesting it again: the kernel takes the last; so kind and data are put by who
 * has data, and this is for kinds without. */
struct nlmsghdr *link_new(struct batch *b, const char *what, const char *name, const char *kind) {
	struct nlmsghdr *m = link_change(b, what, name);
	m->nlmsg_flags |= NLM_F_CREATE | NLM_F_EXCL;
	if (kind) {
		struct nlattr *info = mnl_attr_nest_start(m, IFLA_LINKINFO);
		mnl_attr_put_strz(m, IFLA_INFO_KIND, kind);
		mnl_attr_nest_end(m, info);
	}
	return m;
}

void link_remove(struct batch *b, const char *name) {
	struct ifinfomsg i = {0};
	struct nlmsghdr *m = batch_add(b, "remove an interface", ENODEV, RTM_DELLINK, 0, &i, sizeof i);
	mnl_attr_put_strz(m, IFLA_IFNAME, name);
}

void link_up(struct batch *b, int index) {
	struct ifinfomsg i = {.ifi_index = index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
	batch_add(b, "set an interface up", 0, RTM_NEWLINK, 0, &i, sizeof i);
}

void link_master(struct batch *b, int index, int master) {
	struct ifinfomsg i = {.ifi_index = index};
	struct nlmsghdr *m = batch_add(b, master ? "make an interface a port of a bridge" : "take an interface out of a bridge", 0,
				       RTM_NEWLINK, 0, &i, sizeof i);
	mnl_attr_put_u32(m, IFLA_MASTER, (uint32_t)master);
}

void link_alias(struct batch *b, const char *name, const char *alias) {
	mnl_attr_put_str(link_change(b, "mark an interface", name), IFLA_IFALIAS, alias);
}

/* Asked of the system calls: looking up anything in /proc/sys/net takes the longer the more name spaces there are. */
static bool has_ipv6(void) {
	_cleanup_(close_fd) int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	return fd >= 0;
}

void link_no_addresses(struct nlmsghdr *m) {
	if (!has_ipv6())
		return;
	struct nlattr *families = mnl_attr_nest_start(m, IFLA_AF_SPEC), *v6 = mnl_attr_nest_start(m, AF_INET6);
	mnl_attr_put_u8(m, IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
	mnl_attr_nest_end(m, v6);
	mnl_attr_nest_end(m, families);
}

void address_add(struct batch *b, int index, const struct ip *ip, unsigned prefix) {
	bool v4 = ip->family == AF_INET;
	struct ifaddrmsg a = {.ifa_family = (uint8_t)ip->family, .ifa_prefixlen = (uint8_t)prefix, .ifa_index = (uint32_t)index};
	struct nlmsghdr *m = batch_add(b, v4 ? "add an address" : "add an IPv6 address", 0, RTM_NEWADDR,
				       NLM_F_CREATE | NLM_F_REPLACE, &a, sizeof a);
	mnl_attr_put(m, IFA_LOCAL, v4 ? 4 : 16, ip->bytes);
	mnl_attr_put(m, IFA_ADDRESS, v4 ? 4 : 16, ip->bytes);
	mnl_attr_put_u32(m, IFA_FLAGS, v4 ? 0 : IFA_F_NODAD);
	if (v4 && prefix < 31) {
		struct ip all = *ip;
		for (unsigned bit = prefix; bit < 32; bit++)
			all.bytes[bit / 8] |= (uint8_t)(0x80 >> bit % 8);
		mnl_attr_put(m, IFA_BROADCAST, 4, all.bytes);
	}
}

void address_remove(struct batch *b, int index, const struct ip *ip, unsigned prefix) {
	struct ifaddrmsg a = {.ifa_family = (uint8_t)ip->family, .ifa_prefixlen = (uint8_t)prefix, .ifa_index = (uint32_t)index};
	struct nlmsghdr *m = batch_add(b, "remove an address", EADDRNOTAVAIL, RTM_DELADDR, 0, &a, sizeof a);
	mnl_attr_put(m, IFA_LOCAL, ip->family == AF_INET ? 4 : 16, ip->bytes);
}

void default_route_add(struct batch *b, int index, const struct ip *gateway) {
	struct rtmsg r = {.rtm_family = (uint8_t)gateway->family, .rtm_table = RT_TABLE_MAIN, .rtm_protocol = RTPROT_STATIC,
			  .rtm_scope = RT_SCOPE_UNIVERSE, .rtm_type = RTN_UNICAST};
	struct nlmsghdr *m = batch_add(b, "add the default route", 0, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &r, sizeof r);
	mnl_attr_put(m, RTA_GATEWAY, gateway->family == AF_INET ? 4 : 16, gateway->bytes);
	mnl_attr_put_u32(m, RTA_OIF, (uint32_t)index);
}

struct nlmsghdr *port_flags(struct batch *b, const char *name, bool isolated) {
	struct nlmsghdr *m = link_change(b, "make an interface a port of ours", name);
	struct nlattr *info = mnl_attr_nest_start(m, IFLA_LINKINFO);
	mnl_attr_put_strz(m, IFLA_INFO_SLAVE_KIND, "bridge");
	struct nlattr *data = mnl_attr_nest_start(m, IFLA_INFO_SLAVE_DATA);
	mnl_attr_put_u8(m, IFLA_BRPORT_ISOLATED, isolated);
	mnl_attr_put_u8(m, IFLA_BRPORT_MODE, 1); /* an instance reaches its own published ports, see firewall-spoof.c */
	mnl_attr_nest_end(m, data);
	mnl_attr_nest_end(m, info);
	return m;
}

/* ---- asking the kernel ---- */

/* A kind that the kernel knows refuses an address of one byte and a missing parent; one that it does not know is refused for that. */
int link_probe(const char *kind, const char *shown, struct error *err) {
	_cleanup_(netlink_close) struct netlink nl = NETLINK_INIT;
	_cleanup_(error_free) struct error why = ERROR_INIT;
	BATCH(b);
	int r = netlink_open(-1, &nl, err);
	if (r < 0)
		return r;
	mnl_attr_put_u8(link_new(&b, "probe", "wprobe", kind), IFLA_ADDRESS, 0);
	r = batch_send(&nl, &b, &why);
	if (nl.errnum == EOPNOTSUPP)
		return error_set(err, ERROR_UNSUPPORTED, "this kernel has no %s interfaces (module %s)", shown, kind);
	return r < 0 && nl.errnum == EPERM ? error_move(err, &why) : 0;
}

int parent_get(struct netlink *nl, const struct network *n, struct link *out, struct error *err) {
	int r = link_get(nl, n->spec.parent, out, err);
	if (r == 0)
		return error_set(err, ERROR_NOT_FOUND, "the host has no interface %s, the parent of network %s", n->spec.parent,
				 n->spec.name);
	if (r > 0 && out->flags & IFF_LOOPBACK)
		return error_field(err, "parent", "%s is the loopback interface", n->spec.parent);
	return r < 0 ? r : 0;
}

int link_unaddressed(struct netlink *nl, const struct link *l, struct error *err) {
	_cleanup_(buf_free) struct buf dump = BUF_INIT;
	struct ifaddrmsg all = {.ifa_family = AF_UNSPEC};
	int r = netlink_dump(nl, RTM_GETADDR, &all, sizeof all, &dump, err);
	const struct nlmsghdr *m;
	for (size_t at = 0; r == 0 && (m = dump_next(&dump, &at));) {
		const struct ifaddrmsg *a = mnl_nlmsg_get_payload(m);
		const struct nlattr *attrs[IFA_ADDRESS + 1];
		attrs_parse(m, sizeof *a, attrs, IFA_ADDRESS);
		if (a->ifa_index != (uint32_t)l->index || a->ifa_scope >= RT_SCOPE_LINK || !attrs[IFA_ADDRESS])
			continue;
		struct cidr c = {.ip.family = a->ifa_family, .prefix = a->ifa_prefixlen};
		memcpy(c.ip.bytes, mnl_attr_get_payload(attrs[IFA_ADDRESS]), a->ifa_family == AF_INET ? 4 : 16);
		char text[50];
		cidr_format(&c, text);
		return error_set(err, ERROR_CONFLICT, "%s has the address %s of the host, which would lose it; take the address "
				 "away first, or use another interface", l->name, text);
	}
	return r;
}

/* ---- VLANs ---- */

static void uplink_name(const char *tag, const struct network *n, char out[16]) {
	link_name("wl", 8, tag, n->id, NULL, out);
}

static int vlan_make(struct netlink *nl, const char *tag, const struct network *n, const char *name,
		     const struct link *parent, struct error *err) {
	char alias[ALIAS_MAX];
	BATCH(b);
	int r = link_probe("vlan", "802.1q", err);
	if (r < 0)
		return r;
	alias_make(tag, n->id, NULL, alias);
	struct nlmsghdr *m = link_new(&b, "make a VLAN's interface", name, NULL);
	mnl_attr_put_u32(m, IFLA_LINK, (uint32_t)parent->index);
	struct nlattr *info = mnl_attr_nest_start(m, IFLA_LINKINFO);
	mnl_attr_put_strz(m, IFLA_INFO_KIND, "vlan");
	struct nlattr *data = mnl_attr_nest_start(m, IFLA_INFO_DATA);
	mnl_attr_put_u16(m, IFLA_VLAN_ID, (uint16_t)n->spec.vlan);
	mnl_attr_nest_end(m, data);
	mnl_attr_nest_end(m, info);
	link_alias(&b, name, alias);
	link_up(&b, parent->index);
	r = batch_send(nl, &b, err);
	return nl->errnum == EEXIST ? error_set(err, ERROR_CONFLICT, "VLAN %lld of %s is used by another interface of the host",
					(long long)n->spec.vlan, parent->name)
			    : r;
}

int uplink_get(struct netlink *nl, const char *tag, const struct network *n, struct link *out, struct error *err) {
	struct link parent;
	char name[16];
	int r = parent_get(nl, n, &parent, err);
	if (r < 0 || !n->spec.vlan) {
		*out = parent;
		return r;
	}
	uplink_name(tag, n, name);
	r = link_get(nl, name, out, err);
	if (r > 0)
		return link_is_ours(out, tag, n->id, NULL, err);
	if (r == 0)
		r = vlan_make(nl, tag, n, name, &parent, err);
	if (r == 0)
		r = link_get(nl, name, out, err);
	return r == 0 ? error_set(err, ERROR_CONFLICT, "%s was removed just now", name) : MIN(r, 0);
}

int uplink_down(const char *tag, const struct network *n, struct error *err) {
	_cleanup_(netlink_close) struct netlink nl = NETLINK_INIT;
	BATCH(b);
	int r = netlink_open(-1, &nl, err);
	if (r < 0)
		return r;
	uplink_remove(&b, tag, n);
	return batch_send(&nl, &b, err);
}

void uplink_remove(struct batch *b, const char *tag, const struct network *n) {
	char name[16];
	uplink_name(tag, n, name);
	if (n->spec.vlan)
		link_remove(b, name);
}
