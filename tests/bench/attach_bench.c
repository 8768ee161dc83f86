/* Attaching an instance to a bridge network and detaching it, against the least that the kernel can be asked for: one message that
 * makes the same pair of interfaces, one end of it a port of the bridge or not, and one that removes it. And whether it
 * takes longer when many are there: the 1,000th attach against the 10th, for us and for the bare port. In a network name space of
 * its own. Usage: attach_bench [INSTANCES] */
#include "driver/network/netlink-priv.h"
#include "driver/network/network.h"

#include "base/str.h"
#include "base/time.h"

#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <unistd.h>

#define TAG "00be9c00"
#define ID "e555555555555555555555555555555555555555555555555555555555555555"
#define ROUNDS 200

static void check(int r, struct error *err) {
	if (r >= 0)
		return;
	fprintf(stderr, "attach_bench: %s\n", error_text(err));
	exit(1);
}

static int by_value(const void *a, const void *b) {
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
	return (x > y) - (x < y);
}

static double median_us(int64_t *v, size_t n) {
	qsort(v, n, sizeof *v, by_value);
	return (double)v[n / 2] / 1000;
}

static int new_netns(void) {
	int own = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	if (unshare(CLONE_NEWNET) < 0)
		return -1;
	int fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	setns(own, CLONE_NEWNET);
	close(own);
	return fd;
}

/* What `ip link add bare0 type veth peer name eth0 netns N` and `ip link del bare0` ask for, without the program. */
static int64_t bare(struct netlink *nl, int netns, int master, bool add) {
	struct error err = ERROR_INIT;
	struct ifinfomsg i = {0};
	BATCH(b);
	struct nlmsghdr *m = batch_add(&b, "bare", 0, add ? RTM_NEWLINK : RTM_DELLINK, add ? NLM_F_CREATE | NLM_F_EXCL : 0, &i, sizeof i);
	mnl_attr_put_strz(m, IFLA_IFNAME, "bare0");
	if (add && master)
		mnl_attr_put_u32(m, IFLA_MASTER, (uint32_t)master);
	if (add) {
		struct nlattr *info = mnl_attr_nest_start(m, IFLA_LINKINFO);
		mnl_attr_put_strz(m, IFLA_INFO_KIND, "veth");
		struct nlattr *data = mnl_attr_nest_start(m, IFLA_INFO_DATA), *peer = mnl_attr_nest_start(m, 1);
		mnl_nlmsg_put_extra_header(m, sizeof i);
		mnl_attr_put_strz(m, IFLA_IFNAME, "eth0");
		mnl_attr_put_u32(m, IFLA_NET_NS_FD, (uint32_t)netns);
		mnl_attr_nest_end(m, peer);
		mnl_attr_nest_end(m, data);
		mnl_attr_nest_end(m, info);
	}
	int64_t start = time_mono_ns();
	check(batch_send(nl, &b, &err), &err);
	return time_mono_ns() - start;
}

enum { ATTACH, DETACH, PORT, PORT_REMOVED, PAIR, PAIR_REMOVED, KINDS };
struct sample {
	int64_t took[KINDS][ROUNDS];
};

static void instance_name(size_t n, char id[65], char ip[20], char mac[20]) {
	snprintf(id, 65, "%064zx", n + 1);
	snprintf(ip, 20, "10.99.%zu.%zu", (n + 2) / 256, (n + 2) % 256);
	snprintf(mac, 20, "02:00:0a:63:%02zx:%02zx", (n + 2) / 256, (n + 2) % 256);
}

static int64_t attach(const struct network *n, size_t number, int netns, bool detach) {
	struct error err = ERROR_INIT;
	char id[65], ip[20], mac[20];
	instance_name(number, id, ip, mac);
	struct nic nic = {.interface = "eth0", .mac = mac, .ipv4 = ip};
	const struct network_driver *d = network_driver_find("bridge");
	int64_t start = time_mono_ns();
	check(detach ? d->detach(TAG, n, id, &nic, netns, &err) : d->attach(TAG, n, id, &nic, true, netns, &err), &err);
	return time_mono_ns() - start;
}

/* All in turn, so that they see the same machine. */
static void measure(const struct network *n, size_t number, struct netlink *nl, struct sample *s) {
	char bridge[16];
	network_bridge_name(TAG, n, bridge);
	int master = (int)if_nametoindex(bridge);
	/* the same in each round: a name space that ends keeps the kernel busy */
	_cleanup_(close_fd) int a = new_netns(), b = new_netns(), c = new_netns();
	for (int i = 0; i < ROUNDS; i++) {
		s->took[ATTACH][i] = attach(n, number, a, false);
		s->took[DETACH][i] = attach(n, number, a, true);
		s->took[PORT][i] = bare(nl, b, master, true);
		s->took[PORT_REMOVED][i] = bare(nl, b, master, false);
		s->took[PAIR][i] = bare(nl, c, 0, true);
		s->took[PAIR_REMOVED][i] = bare(nl, c, 0, false);
	}
}

static void report(const char *what, struct sample *s, double median[KINDS]) {
	for (int k = 0; k < KINDS; k++)
		median[k] = median_us(s->took[k], ROUNDS);
	printf("%s: attach %.0f us, bare port %.0f us, bare pair %.0f us, ratios %.2f and %.2f\n", what, median[ATTACH],
	       median[PORT], median[PAIR], median[ATTACH] / median[PORT], median[ATTACH] / median[PAIR]);
	printf("%s: detach %.0f us, bare port %.0f us, bare pair %.0f us, ratios %.2f and %.2f\n", what, median[DETACH],
	       median[PORT_REMOVED], median[PAIR_REMOVED], median[DETACH] / median[PORT_REMOVED],
	       median[DETACH] / median[PAIR_REMOVED]);
}

int main(int argc, char **argv) {
	struct error err = ERROR_INIT;
	size_t many = argc > 1 ? strtoul(argv[1], NULL, 10) : 1000;
	struct subnet subnet = {.cidr = "10.99.0.0/16"};
	struct network n = {.id = ID, .spec = {.name = "bench", .driver = "bridge", .domain = "bench.wabe"}};
	struct netlink nl = NETLINK_INIT;
	struct sample *s = NEW(struct sample);
	n.spec.subnets.items = &subnet;
	n.spec.subnets.n = 1;
	if (many < 11 || many > 60000 || unshare(CLONE_NEWNET) < 0) {
		fprintf(stderr, "attach_bench: needs root, and 11 to 60000 instances\n");
		return 1;
	}
	check(network_complete(&n, NULL, 0, &err), &err);
	check(network_driver_find("bridge")->up(TAG, &n, &err), &err);
	check(netlink_open(-1, &nl, &err), &err);
	int *netns = alloc_array(many, sizeof *netns);
	size_t at = 0;
	for (; at < 9; at++)
		attach(&n, at, netns[at] = new_netns(), false);
	measure(&n, at, &nl, s);
	double few[KINDS], all[KINDS];
	report("the 10th", s, few);
	for (; at < many - 1; at++)
		attach(&n, at, netns[at] = new_netns(), false);
	measure(&n, at, &nl, s);
	char what[32];
	snprintf(what, sizeof what, "the %zuth", many);
	report(what, s, all);
	printf("attach of the %zuth against the 10th: ratio %.2f (bare port: %.2f); target: under 2000 us\n", many,
	       all[ATTACH] / few[ATTACH], all[PORT] / few[PORT]);
	return 0;
}
