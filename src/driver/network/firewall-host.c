/* Switches of the host's kernel that the rules need. Each is only written where it is not as it should be. */
#include "driver/network/firewall-priv.h"

#include "base/fs.h"
#include "base/proc.h"
#include "base/str.h"
#include "driver/network/netlink-priv.h"
#include "driver/network/network-priv.h"

#include <dirent.h>
#include <stdio.h>

#define CONF4 "/proc/sys/net/ipv4/conf"
#define CONF6 "/proc/sys/net/ipv6/conf"

/* False: there is no such switch. */
static bool value_is(const char *path, const char *value) {
	_cleanup_(buf_free) struct buf b = BUF_INIT;
	if (fs_read(path, 64, &b) < 0)
		return false;
	b.data[strcspn(buf_str(&b), "\n")] = 0;
	return strcmp(b.data, value) == 0;
}

static int switch_set(const char *path, const char *value) {
	return value_is(path, value) ? 0 : fs_write_value(path, value);
}

/* A host that forwards takes no router advertisements unless it is told to: interfaces that took them go on. */
static void keep_router_advertisements(void) {
	DIR *d = opendir(CONF6);
	for (struct dirent *e; d && (e = readdir(d));) {
		_cleanup_(free_ptr) char *forwarding = str_format(CONF6 "/%s/forwarding", e->d_name);
		_cleanup_(free_ptr) char *accept = str_format(CONF6 "/%s/accept_ra", e->d_name);
		if (strcmp(e->d_name, "all") != 0 && value_is(forwarding, "0") && value_is(accept, "1"))
			fs_write_value(accept, "2");
	}
	if (d)
		closedir(d);
}

static bool wants_forwarding(const struct firewall_state *s, int af) {
	struct cidr subnet;
	for (size_t i = 0; i < s->n_networks; i++)
		for (size_t k = 0; k < s->networks[i]->spec.subnets.n; k++)
			if (network_filters(s->networks[i]) && cidr_parse(s->networks[i]->spec.subnets.items[k].cidr, &subnet) == 0 &&
			    subnet.ip.family == af)
				return true;
	return false;
}

int host_prepare(const struct firewall_state *s, struct error *err) {
	int r = wants_forwarding(s, AF_INET) ? switch_set("/proc/sys/net/ipv4/ip_forward", "1") : 0;
	if (r < 0)
		return error_errno(err, r, "cannot set net.ipv4.ip_forward");
	if (!wants_forwarding(s, AF_INET6) || value_is(CONF6 "/all/forwarding", "1"))
		return 0;
	keep_router_advertisements();
	r = fs_write_value(CONF6 "/all/forwarding", "1");
	return r < 0 ? error_errno(err, r, "cannot set net.ipv6.conf.all.forwarding") : 0;
}

/* Loading br_netfilter makes all bridges call the rules for packets of IP: those that are not ours stay as they were. */
static int bridge_filter_load(struct error *err) {
	static const char *const off[] = {"iptables", "ip6tables", "arptables"};
	struct proc p = {.argv = (char *[]){"modprobe", "br_netfilter", NULL}, .deadline_ns = INT64_C(20000000000)};
	if (fs_exists("/proc/sys/net/bridge"))
		return 0;
	_cleanup_(error_free) struct error why = ERROR_INIT;
	if (proc_run_ok(&p, &why) < 0 || !fs_exists("/proc/sys/net/bridge"))
		return error_set(err, ERROR_UNSUPPORTED,
				 "rules need the kernel's br_netfilter for traffic within a bridge, and it cannot be loaded: %s",
				 error_text(&why));
	for (size_t i = 0; i < ARRAY_SIZE(off); i++) {
		_cleanup_(free_ptr) char *path = str_format("/proc/sys/net/bridge/bridge-nf-call-%s", off[i]);
		fs_write_value(path, "0");
	}
	return 0;
}

/* By netlink, since /sys shows the interfaces of whoever mounted it. */
static int bridge_filter(const char *bridge, bool on, struct error *err) {
	_cleanup_(netlink_close) struct netlink nl = NETLINK_INIT;
	BATCH(b);
	if (!on && !fs_exists("/proc/sys/net/bridge"))
		return 0;
	int r = on ? bridge_filter_load(err) : 0;
	if (r == 0)
		r = netlink_open(-1, &nl, err);
	if (r < 0)
		return r;
	struct nlmsghdr *m = link_change(&b, "have rules decide about traffic within a bridge", bridge);
	b.ignored[b.n - 1] = ENODEV; /* it has gone */
	struct nlattr *info = mnl_attr_nest_start(m, IFLA_LINKINFO);
	mnl_attr_put_strz(m, IFLA_INFO_KIND, "bridge");
	struct nlattr *data = mnl_attr_nest_start(m, IFLA_INFO_DATA);
	mnl_attr_put_u8(m, IFLA_BR_NF_CALL_IPTABLES, on);
	mnl_attr_put_u8(m, IFLA_BR_NF_CALL_IP6TABLES, on);
	mnl_attr_nest_end(m, data);
	mnl_attr_nest_end(m, info);
	return batch_send(&nl, &b, err);
}

int host_network(const struct firewall_state *s, const struct network *n, bool filtered, struct error *err) {
	char bridge[16];
	network_bridge_name(s->tag, n, bridge);
	_cleanup_(free_ptr) char *conf = str_format(CONF4 "/%s", bridge), *path = str_format("%s/route_localnet", conf);
	if (!fs_exists(conf))
		return 0; /* the bridge is not up */
	int r = switch_set(path, "1");
	return r < 0 ? error_errno(err, r, "cannot set %s", path) : bridge_filter(bridge, filtered, err);
}
