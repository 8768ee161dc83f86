/* The detour: a pair of veth, one end of which (in) a packet is sent into that the host's own input rules have let
 * through, so that it comes to prerouting once more, from the other end (out), where it may be translated.
 *
 * nft's dup looks up the way to an address that nobody has, behind the first end; a packet keeps its own destination, whatever that is, so
 * the end asks nobody for hardware addresses (NOARP): it sends to its own, which the other end has too. */
#include "driver/network/firewall-priv.h"

#include "base/fs.h"
#include "base/str.h"
#include "driver/network/netlink-priv.h"

#include <arpa/inet.h>
#include <linux/veth.h>
#include <net/if.h>
#include <stdio.h>

#define ALIAS "wabe-detour"

void detour_in_name(const char *tag, char out[DETOUR_NAME_MAX]) {
	snprintf(out, DETOUR_NAME_MAX, "wi%.8s", tag);
}

void detour_out_name(const char *tag, char out[DETOUR_NAME_MAX]) {
	snprintf(out, DETOUR_NAME_MAX, "wo%.8s", tag);
}

bool detour_exists(const char *tag) {
	char in[DETOUR_NAME_MAX];
	detour_in_name(tag, in);
	return if_nametoindex(in) != 0;
}

static void put_link(struct nlmsghdr *m, const char *name, const uint8_t mac[6]) {
	mnl_attr_put_strz(m, IFLA_IFNAME, name);
	mnl_attr_put(m, IFLA_ADDRESS, 6, mac);
}

/* Both ends, with the same MAC. */
static int make_pair(struct netlink *nl, const char *tag, struct error *err) {
	char in[DETOUR_NAME_MAX], out[DETOUR_NAME_MAX];
	static const uint8_t mac[6] = {0x02, 'w', 'a', 'b', 'e', 0};
	struct ifinfomsg link = {0}, peer = {0};
	BATCH(b);
	detour_in_name(tag, in);
	detour_out_name(tag, out);
	struct nlmsghdr *m = batch_add(&b, "make the detour's pair of veth", 0, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &link, sizeof link);
	put_link(m, in, mac);
	struct nlattr *info = mnl_attr_nest_start(m, IFLA_LINKINFO);
	mnl_attr_put_strz(m, IFLA_INFO_KIND, "veth");
	struct nlattr *data = mnl_attr_nest_start(m, IFLA_INFO_DATA), *nest = mnl_attr_nest_start(m, VETH_INFO_PEER);
	memcpy(mnl_nlmsg_put_extra_header(m, sizeof peer), &peer, sizeof peer);
	put_link(m, out, mac);
	mnl_attr_nest_end(m, nest);
	mnl_attr_nest_end(m, data);
	mnl_attr_nest_end(m, info);
	return batch_send(nl, &b, err);
}

/* Up, without an address of its own. */
static int set_up(struct netlink *nl, const char *name, uint32_t flags, struct error *err) {
	int index = (int)if_nametoindex(name);
	struct ifinfomsg link = {.ifi_index = index};
	struct ifinfomsg up = {.ifi_index = index, .ifi_flags = IFF_UP | flags, .ifi_change = IFF_UP | IFF_NOARP};
	BATCH(b);
	struct nlmsghdr *m = batch_add(&b, "configure the detour", EAFNOSUPPORT, RTM_NEWLINK, 0, &link, sizeof link);
	struct nlattr *spec = mnl_attr_nest_start(m, IFLA_AF_SPEC), *inet6 = mnl_attr_nest_start(m, AF_INET6);
	mnl_attr_put_u8(m, IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
	mnl_attr_nest_end(m, inet6);
	mnl_attr_nest_end(m, spec);
	m = batch_add(&b, "set the detour up", 0, RTM_NEWLINK, 0, &up, sizeof up);
	mnl_attr_put_strz(m, IFLA_IFALIAS, ALIAS);
	return batch_send(nl, &b, err);
}

/* The way to the address that nobody has. */
static int add_route(struct netlink *nl, const char *in, const struct family *f, struct error *err) {
	uint8_t address[16];
	bool v4 = f->af == AF_INET;
	struct rtmsg route = {.rtm_family = (uint8_t)f->af, .rtm_dst_len = v4 ? 32 : 128, .rtm_table = RT_TABLE_MAIN,
			      .rtm_protocol = RTPROT_STATIC, .rtm_scope = v4 ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE,
			      .rtm_type = RTN_UNICAST};
	BATCH(b);
	inet_pton(f->af, f->detour, address);
	struct nlmsghdr *m = batch_add(&b, "add the detour's route", EEXIST, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_APPEND, &route, sizeof route);
	mnl_attr_put(m, RTA_DST, v4 ? 4 : 16, address);
	mnl_attr_put_u32(m, RTA_OIF, if_nametoindex(in));
	return batch_send(nl, &b, err);
}

/* Packets that come out have senders who live behind other interfaces. The kernel's loose check is for that, but fails where
 * the interface has no address at all: so it gets one that no packet will ever have (of RFC 7335, not seen outside). */
static int add_address(struct netlink *nl, const char *out, struct error *err) {
	static const uint8_t address[4] = {192, 0, 0, 7};
	struct ifaddrmsg a = {.ifa_family = AF_INET, .ifa_prefixlen = 32, .ifa_scope = RT_SCOPE_HOST, .ifa_index = if_nametoindex(out)};
	BATCH(b);
	struct nlmsghdr *m = batch_add(&b, "add the detour's address", EEXIST, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &a, sizeof a);
	mnl_attr_put(m, IFA_LOCAL, sizeof address, address);
	mnl_attr_put(m, IFA_ADDRESS, sizeof address, address);
	return batch_send(nl, &b, err);
}

static int set_switches(const char *out, struct error *err) {
	_cleanup_(free_ptr) char *filter = str_format("/proc/sys/net/ipv4/conf/%s/rp_filter", out);
	int r = fs_write_value(filter, "2");
	return r < 0 ? error_errno(err, r, "cannot set %s", filter) : 0;
}

int detour_up(const char *tag, struct error *err) {
	char in[DETOUR_NAME_MAX], out[DETOUR_NAME_MAX];
	_cleanup_(netlink_close) struct netlink nl = NETLINK_INIT;
	detour_in_name(tag, in);
	detour_out_name(tag, out);
	int r = netlink_open(-1, &nl, err);
	if (r == 0 && !(if_nametoindex(in) && if_nametoindex(out)))
		r = make_pair(&nl, tag, err);
	if (r == 0)
		r = set_up(&nl, in, IFF_NOARP, err);
	if (r == 0)
		r = set_up(&nl, out, 0, err);
	if (r == 0)
		r = add_address(&nl, out, err);
	if (r == 0)
		r = set_switches(out, err);
	if (r == 0)
		r = add_route(&nl, in, &families[0], err);
	if (r == 0 && fs_exists("/proc/sys/net/ipv6"))
		r = add_route(&nl, in, &families[1], err);
	return r;
}

int detour_down(const char *tag, struct error *err) {
	char in[DETOUR_NAME_MAX];
	struct ifinfomsg link = {0};
	_cleanup_(netlink_close) struct netlink nl = NETLINK_INIT;
	BATCH(b);
	detour_in_name(tag, in);
	if (!if_nametoindex(in))
		return 0;
	int r = netlink_open(-1, &nl, err);
	if (r < 0)
		return r;
	struct nlmsghdr *m = batch_add(&b, "remove the detour", ENODEV, RTM_DELLINK, 0, &link, sizeof link);
	mnl_attr_put_strz(m, IFLA_IFNAME, in);
	return batch_send(&nl, &b, err);
}
