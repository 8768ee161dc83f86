/* Networks on real interfaces, in network name spaces of our own: drivers, what is left after each step, frames that go
 * where they should and nowhere else, rates, subnets that are picked and refused. */
#include "driver/network/network.h"

#include "base/fs.h"
#include "base/proc.h"
#include "base/str.h"
#include "base/time.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define TAG "0123abcd"
#define ID_A "a111111111111111111111111111111111111111111111111111111111111111"
#define ID_B "b222222222222222222222222222222222222222222222222222222222222222"
#define ONE "1000000000000000000000000000000000000000000000000000000000000001"
#define TWO "2000000000000000000000000000000000000000000000000000000000000002"

static void expect_at(int line, int r, struct error *err) {
	if (r < 0)
		fail_msg("line %d: %s", line, error_text(err));
}
#define OK(call)                                                   \
	do {                                                       \
		_cleanup_(error_free) struct error err = ERROR_INIT; \
		expect_at(__LINE__, call, &err);                   \
	} while (0)
/* It fails with this kind, and says this. */
#define REFUSED(call, kind_, words)                                  \
	do {                                                         \
		_cleanup_(error_free) struct error err = ERROR_INIT; \
		assert_true((call) < 0);                             \
		if (err.kind != (kind_) || !strstr(error_text(&err), words)) \
			fail_msg("line %d: %s: %s", __LINE__, error_kind_name(err.kind), error_text(&err)); \
	} while (0)

/* ---- name spaces ---- */

static int open_netns(void) {
	int fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static void enter(int netns) {
	assert_int_equal(setns(netns, CLONE_NEWNET), 0);
}

/* Each test has a host of its own; outside it, nothing is touched. */
static int setup(void **state) {
	(void)state;
	return unshare(CLONE_NEWNET) == 0 && network_loopback_up(-1, NULL) == 0 ? 0 : -1;
}

static int new_netns(void) {
	_cleanup_(close_fd) int own = open_netns();
	assert_int_equal(unshare(CLONE_NEWNET), 0);
	int fd = open_netns();
	enter(own);
	OK(network_loopback_up(fd, &err));
	return fd;
}

static void run(const char *line) {
	_cleanup_(strv_free_ptr) char **argv = strv_split(line, ' ');
	struct proc p = {.argv = argv};
	OK(proc_run_ok(&p, &err));
}

static char *output(const char *line) {
	_cleanup_(strv_free_ptr) char **argv = strv_split(line, ' ');
	_cleanup_(buf_free) struct buf out = BUF_INIT;
	struct proc p = {.argv = argv, .output = &out};
	OK(proc_run_ok(&p, &err));
	return buf_steal(&out);
}

static void says(const char *line, const char *words) {
	_cleanup_(free_ptr) char *text = output(line);
	if (!strstr(text, words))
		fail_msg("%s: no \"%s\" in:\n%s", line, words, text);
}

/* Numbers, names and aliases of all interfaces. What else is shown of them changes with time. */
static char *links(void) {
	_cleanup_(free_ptr) char *all = output("ip -o link");
	_cleanup_(buf_free) struct buf out = BUF_INIT;
	struct str rest = str_view(all);
	while (rest.len) {
		struct str line = str_cut(&rest, '\n'), name = str_cut(&line, '<');
		buf_add(&out, name.p, name.len);
		const char *alias = memmem(line.p, line.len, "alias", 5);
		buf_add(&out, alias ? alias : "", alias ? line.len - (size_t)(alias - line.p) : 0);
		buf_addc(&out, '\n');
	}
	return buf_steal(&out);
}

/* ---- nouns ---- */

static struct network *network(const char *id, const char *name, const char *driver) {
	struct network *n = NEW(struct network);
	n->id = str_copy(id);
	n->spec.name = str_copy(name);
	n->spec.driver = str_copy(driver);
	n->spec.vxlan_port = 4789;
	return n;
}

static void subnet(struct network *n, const char *cidr) {
	n->spec.subnets.items = alloc_resize(n->spec.subnets.items, n->spec.subnets.n + 1, sizeof(struct subnet));
	n->spec.subnets.items[n->spec.subnets.n++] = (struct subnet){.cidr = str_copy(cidr)};
}

static void network_free(struct network *n) {
	fields_free(&network_table, n);
	free(n);
}
DEFINE_CLEANUP(network_free_ptr, struct network *, network_free);

static struct network *bridge(void) {
	struct network *n = network(ID_A, "web", "bridge");
	subnet(n, "10.99.0.0/24");
	subnet(n, "fd00:99::/64");
	OK(network_complete(n, NULL, 0, &err));
	OK(network_driver_find("bridge")->up(TAG, n, &err));
	return n;
}

static struct nic nic_of(const char *ipv4, const char *ipv6, const char *mac) {
	return (struct nic){.network_id = ID_A, .network = "web", .interface = "eth0", .mac = (char *)mac,
			    .ipv4 = (char *)ipv4, .ipv6 = (char *)ipv6};
}

static const struct network_driver *driver(const struct network *n) {
	return network_driver_find(n->spec.driver);
}

/* A kernel without some kind of link says so; the test is left out then, unless it must not be. */
static bool lacks(const struct error *err, const char *kind) {
	const char *must = getenv("WABE_MUST_HAVE");
	if (err->kind != ERROR_UNSUPPORTED || !strstr(error_text(err), kind) || (must && strstr(must, kind)))
		fail_msg("%s", error_text(err));
	print_message("# skip: %s\n", error_text(err));
	return true;
}

static bool has(const char *kind) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	return network_driver_find(kind)->probe(&err) == 0 || !lacks(&err, kind);
}

/* ---- packets ---- */

static int udp(int netns, const char *address, uint16_t port) {
	_cleanup_(close_fd) int own = open_netns();
	struct sockaddr_storage at = {0};
	struct ip ip;
	static const int on = 1;
	assert_int_equal(ip_parse(address, &ip), 0);
	if (netns >= 0)
		enter(netns);
	int fd = socket(ip.family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	at.ss_family = (sa_family_t)ip.family;
	if (ip.family == AF_INET) {
		memcpy(&((struct sockaddr_in *)&at)->sin_addr, ip.bytes, 4);
		((struct sockaddr_in *)&at)->sin_port = htons(port);
	} else {
		memcpy(&((struct sockaddr_in6 *)&at)->sin6_addr, ip.bytes, 16);
		((struct sockaddr_in6 *)&at)->sin6_port = htons(port);
	}
	setsockopt(fd, SOL_SOCKET, SO_BROADCAST, &on, sizeof on);
	if (bind(fd, (struct sockaddr *)&at, sizeof at) < 0)
		fail_msg("bind %s: %s", address, strerror(errno));
	enter(own);
	return fd;
}

static int udp_send(int from, const char *address, uint16_t port, const char *text) {
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
	struct sockaddr_in6 to6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	bool v6 = inet_pton(AF_INET6, address, &to6.sin6_addr) == 1;
	inet_pton(AF_INET, address, &to.sin_addr);
	ssize_t n = sendto(from, text, strlen(text), 0, v6 ? (struct sockaddr *)&to6 : (struct sockaddr *)&to,
			   v6 ? sizeof to6 : sizeof to);
	return n < 0 ? -errno : 0;
}

static bool udp_got(int fd, const char *text, int wait_ms) {
	char got[64] = "";
	struct pollfd p = {fd, POLLIN, 0};
	if (poll(&p, 1, wait_ms) != 1 || recv(fd, got, sizeof got - 1, 0) < 0)
		return false;
	return strcmp(got, text) == 0;
}

/* From one to the other, in this very moment: nothing has to settle first. */
static void reaches(int from_netns, const char *from, int to_netns, const char *to) {
	_cleanup_(close_fd) int a = udp(from_netns, from, 7001), b = udp(to_netns, to, 7002);
	int r = udp_send(a, to, 7002, "hello");
	if (r < 0 || !udp_got(b, "hello", 5000))
		fail_msg("nothing came from %s to %s: %s", from, to, strerror(-r));
}

/* ---- tests ---- */

static void test_names(UNUSED void **state) {
	char a[16], b[16], c[16];
	network_bridge_name(TAG, &(struct network){.id = (char *)ID_A}, a);
	network_bridge_name("0123abce", &(struct network){.id = (char *)ID_A}, b);
	network_veth_name(TAG, ONE, ID_A, c);
	assert_int_equal(strlen(a), 10);
	assert_int_equal(strlen(c), 12);
	assert_memory_equal(a, "wb", 2);
	assert_memory_equal(c, "wv", 2);
	assert_string_not_equal(a, b);
	network_veth_name(TAG, TWO, ID_A, b);
	assert_string_not_equal(b, c);
	assert_null(network_driver_find("none"));
	for (size_t i = 0; network_drivers[i]; i++)
		assert_ptr_equal(network_driver_find(network_drivers[i]->name), network_drivers[i]);
}

static void test_bridge(UNUSED void **state) {
	_cleanup_(free_ptr) char *before = links();
	_cleanup_(network_free_ptr) struct network *n = bridge();
	char name[16];
	network_bridge_name(TAG, n, name);
	_cleanup_(free_ptr) char *show = str_format("ip -d addr show %s", name), *ra = str_format("/proc/sys/net/ipv6/conf/%s/accept_ra", name);
	says(show, "alias wabe " TAG " " ID_A);
	says(show, "inet 10.99.0.1/24 brd 10.99.0.255");
	says(show, "inet6 fd00:99::1/64");
	says(show, "mtu 1500");
	says(show, "forward_delay 0");
	_cleanup_(buf_free) struct buf value = BUF_INIT;
	assert_int_equal(fs_read(ra, 16, &value), 0);
	assert_string_equal(buf_str(&value), "0\n");
	_cleanup_(free_ptr) char *first = links();
	OK(driver(n)->up(TAG, n, &err));
	_cleanup_(free_ptr) char *again = links();
	assert_string_equal(first, again);
	OK(driver(n)->down(TAG, n, &err));
	OK(driver(n)->down(TAG, n, &err));
	_cleanup_(free_ptr) char *after = links();
	assert_string_equal(before, after);
}

/* An interface that somebody else made under our name stays as it is. */
static void test_foreign(UNUSED void **state) {
	_cleanup_(network_free_ptr) struct network *n = network(ID_A, "web", "bridge");
	OK(network_complete(n, NULL, 0, &err));
	char name[16];
	network_bridge_name(TAG, n, name);
	_cleanup_(free_ptr) char *add = str_format("ip link add %s type bridge", name);
	run(add);
	_cleanup_(free_ptr) char *before = links();
	REFUSED(driver(n)->up(TAG, n, &err), ERROR_CONFLICT, name);
	REFUSED(driver(n)->down(TAG, n, &err), ERROR_CONFLICT, name);
	REFUSED(network_link_remove(name, &err), ERROR_CONFLICT, name);
	n->spec.interface = str_copy("chosen0");
	run("ip link add chosen0 type bridge");
	REFUSED(driver(n)->up(TAG, n, &err), ERROR_CONFLICT, "chosen0");
	OK(driver(n)->down(TAG, n, &err)); /* nothing of ours has that name */
	run("ip link del chosen0");
	OK(driver(n)->up(TAG, n, &err));
	says("ip -d link show chosen0", "alias wabe " TAG " " ID_A);
	OK(driver(n)->down(TAG, n, &err));
	_cleanup_(free_ptr) char *after = links();
	assert_string_equal(before, after);
}

static void test_attach(UNUSED void **state) {
	_cleanup_(network_free_ptr) struct network *n = bridge();
	_cleanup_(free_ptr) char *before = links();
	_cleanup_(close_fd) int a = new_netns(), b = new_netns();
	struct nic one = nic_of("10.99.0.5", "fd00:99::5", "02:00:0a:63:00:05"), two = nic_of("10.99.0.6", "fd00:99::6", "02:00:0a:63:00:06");
	n->spec.dhcp = true;
	OK(driver(n)->attach(TAG, n, ONE, &one, true, a, &err));
	OK(driver(n)->attach(TAG, n, TWO, &two, true, b, &err));
	reaches(a, "10.99.0.5", b, "10.99.0.6");
	reaches(b, "fd00:99::6", a, "fd00:99::5");
	reaches(a, "10.99.0.5", -1, "10.99.0.1");
	reaches(-1, "fd00:99::1", b, "fd00:99::6");
	_cleanup_(close_fd) int own = open_netns();
	enter(a);
	says("ip addr show eth0", "link/ether 02:00:0a:63:00:05");
	says("ip route", "default via 10.99.0.1 dev eth0");
	says("ip -6 route", "default via fd00:99::1 dev eth0");
	says("cat /proc/sys/net/ipv6/conf/eth0/accept_ra", "0");
	says("ip addr show eth0", "inet6 fe80::aff:fe63:5/64 scope link nodad");
	enter(own);
	_cleanup_(free_ptr) char *first = links();
	OK(driver(n)->attach(TAG, n, ONE, &one, true, a, &err));
	_cleanup_(free_ptr) char *again = links();
	assert_string_equal(first, again);
	OK(driver(n)->detach(TAG, n, ONE, &one, a, &err));
	OK(driver(n)->detach(TAG, n, ONE, &one, -1, &err));
	OK(driver(n)->detach(TAG, n, TWO, &two, -1, &err));
	_cleanup_(free_ptr) char *after = links();
	assert_string_equal(before, after);
}

static void test_attach_refused(UNUSED void **state) {
	_cleanup_(network_free_ptr) struct network *n = bridge();
	_cleanup_(close_fd) int a = new_netns(), own = open_netns();
	enter(a);
	run("ip link add eth0 type veth peer name eth9");
	enter(own);
	_cleanup_(free_ptr) char *before = links();
	struct nic taken = nic_of("10.99.0.5", NULL, "02:00:0a:63:00:05"), outside = nic_of("10.98.0.5", NULL, "02:00:0a:63:00:05");
	REFUSED(driver(n)->attach(TAG, n, ONE, &taken, true, a, &err), ERROR_CONFLICT, "eth0");
	outside.interface = "eth1";
	REFUSED(driver(n)->attach(TAG, n, ONE, &outside, true, a, &err), ERROR_INVALID, "10.98.0.5");
	outside.mac = NULL;
	REFUSED(driver(n)->attach(TAG, n, ONE, &outside, true, a, &err), ERROR_INVALID, "MAC");
	_cleanup_(free_ptr) char *after = links();
	assert_string_equal(before, after);
	OK(driver(n)->down(TAG, n, &err));
	outside = nic_of("10.99.0.5", NULL, "02:00:0a:63:00:05");
	outside.interface = "eth1";
	REFUSED(driver(n)->attach(TAG, n, ONE, &outside, true, a, &err), ERROR_UNAVAILABLE, "web");
}

/* The instance was started again before its old name space was gone: the interface is made anew in the new one. */
static void test_attach_elsewhere(UNUSED void **state) {
	_cleanup_(network_free_ptr) struct network *n = bridge();
	_cleanup_(close_fd) int old = new_netns(), new = new_netns();
	struct nic one = nic_of("10.99.0.5", NULL, "02:00:0a:63:00:05");
	OK(driver(n)->attach(TAG, n, ONE, &one, true, old, &err));
	OK(driver(n)->attach(TAG, n, ONE, &one, true, new, &err));
	reaches(new, "10.99.0.5", -1, "10.99.0.1");
	_cleanup_(close_fd) int own = open_netns();
	enter(new);
	_cleanup_(free_ptr) char *addresses = output("ip -6 addr show eth0");
	enter(own);
	assert_string_equal(addresses, ""); /* it has no IPv6, and tells nobody */
}

/* A broadcast reaches the host in any case; whether also the other instance. What the host sends it then comes behind it, on one
 * CPU at least: a broadcast that should come is waited for. */
static void broadcast(int from, int to, bool reaches_it) {
	_cleanup_(close_fd) int a = udp(from, "10.99.0.5", 7001), b = udp(to, "0.0.0.0", 7002), host = udp(-1, "0.0.0.0", 7002);
	assert_int_equal(udp_send(a, "10.99.0.255", 7002, "all"), 0);
	assert_true(udp_got(host, "all", 5000));
	assert_int_equal(udp_send(host, "10.99.0.6", 7002, "end"), 0);
	bool first = udp_got(b, "all", 5000);
	assert_int_equal(first || udp_got(b, "all", reaches_it ? 5000 : 0), reaches_it);
}

static void test_isolated(UNUSED void **state) {
	_cleanup_(network_free_ptr) struct network *n = bridge();
	_cleanup_(close_fd) int a = new_netns(), b = new_netns();
	struct nic one = nic_of("10.99.0.5", NULL, "02:00:0a:63:00:05"), two = nic_of("10.99.0.6", NULL, "02:00:0a:63:00:06");
	OK(driver(n)->attach(TAG, n, ONE, &one, true, a, &err));
	OK(driver(n)->attach(TAG, n, TWO, &two, true, b, &err));
	broadcast(a, b, true);
	n->spec.isolated = true;
	OK(driver(n)->up(TAG, n, &err));
	broadcast(a, b, false);
	reaches(a, "10.99.0.5", -1, "10.99.0.1");
	OK(driver(n)->detach(TAG, n, TWO, &two, b, &err));
	OK(driver(n)->attach(TAG, n, TWO, &two, true, b, &err));
	broadcast(a, b, false);
	n->spec.isolated = false;
	OK(driver(n)->up(TAG, n, &err));
	broadcast(a, b, true);
}

static void test_rates(UNUSED void **state) {
	_cleanup_(network_free_ptr) struct network *n = bridge();
	_cleanup_(free_ptr) char *before = links();
	_cleanup_(close_fd) int a = new_netns();
	struct nic one = nic_of("10.99.0.5", NULL, "02:00:0a:63:00:05");
	char name[16];
	one.ingress_rate = 50000000;
	one.egress_rate = 40000000000;
	network_veth_name(TAG, ONE, ID_A, name);
	OK(driver(n)->attach(TAG, n, ONE, &one, true, a, &err));
	says("tc qdisc show", "rate 50Mbit");
	says("tc qdisc show", "rate 40Gbit");
	reaches(a, "10.99.0.5", -1, "10.99.0.1");
	reaches(-1, "10.99.0.1", a, "10.99.0.5");
	says("tc -s qdisc show", "qdisc tbf 1: dev wi");
	OK(network_rates(name, 0, 20000000, &err));
	says("tc qdisc show", "rate 20Mbit");
	reaches(a, "10.99.0.5", -1, "10.99.0.1");
	OK(network_rates(name, 0, 0, &err));
	_cleanup_(free_ptr) char *queues = output("tc qdisc show");
	assert_null(strstr(queues, "tbf"));
	OK(driver(n)->attach(TAG, n, ONE, &one, true, a, &err)); /* again, with limits */
	says("tc qdisc show", "rate 50Mbit");
	OK(driver(n)->detach(TAG, n, ONE, &one, a, &err));
	_cleanup_(free_ptr) char *after = links();
	assert_string_equal(before, after);
	REFUSED(network_rates(name, 1, 1, &err), ERROR_NOT_FOUND, name);
}

static void test_tagged(UNUSED void **state) {
	_cleanup_(network_free_ptr) struct network *n = bridge();
	_cleanup_(close_fd) int a = new_netns();
	_cleanup_(free_ptr) struct tagged_link *found = NULL;
	size_t count;
	struct nic one = nic_of("10.99.0.5", NULL, "02:00:0a:63:00:05");
	one.egress_rate = 1000000;
	OK(driver(n)->attach(TAG, n, ONE, &one, true, a, &err));
	run("ip link add foreign type bridge");
	run("ip link set foreign alias wabe");
	OK(network_tagged(TAG, &found, &count, &err));
	assert_int_equal(count, 3);
	for (size_t i = 0; i < count; i++) {
		assert_string_equal(found[i].network, ID_A);
		assert_string_equal(found[i].instance, found[i].name[1] == 'b' ? "" : ONE);
		OK(network_link_remove(found[i].name, &err));
		OK(network_link_remove(found[i].name, &err));
	}
	free_ptr(&found);
	OK(network_tagged(TAG, &found, &count, &err));
	assert_int_equal(count, 0);
	REFUSED(network_link_remove("foreign", &err), ERROR_CONFLICT, "foreign");
}

/* ---- subnets ---- */

/* After that command, a subnet is picked from the pool, and clear of what is given. */
static void picked(const char *command, const char *pool, const char *clear_of) {
	for (char digit = '0'; digit <= '9'; digit++) {
		_cleanup_(network_free_ptr) struct network *n = network(ID_B, "other", "bridge");
		struct cidr all, taken, c;
		n->id[0] = digit;
		if (command && digit == '0')
			run(command);
		OK(network_complete(n, NULL, 0, &err));
		assert_int_equal(n->spec.subnets.n, 1);
		assert_string_equal(n->spec.domain, "other.wabe");
		assert_int_equal(cidr_parse(n->spec.subnets.items[0].cidr, &c), 0);
		assert_int_equal(cidr_parse(pool, &all), 0);
		assert_true(cidr_contains(&all, &c.ip));
		assert_int_equal(c.prefix, all.prefix == 10 ? 20 : 24);
		if (clear_of && cidr_parse(clear_of, &taken) == 0)
			assert_false(cidr_overlap(&taken, &c));
	}
}

static void test_pick(UNUSED void **state) {
	struct cidr taken;
	picked(NULL, "10.64.0.0/10", NULL);
	picked("ip route add 0.0.0.0/1 dev lo", "10.64.0.0/10", NULL);
	picked("ip route add unreachable 10.64.0.0/11 table 77", "10.64.0.0/10", "10.64.0.0/11");
	picked("ip route add 10.96.0.0/12 dev lo", "10.64.0.0/10", "10.96.0.0/12");
	picked("ip route add 10.0.0.0/8 dev lo", "172.16.0.0/12", NULL);
	picked("ip addr add 172.16.0.9/13 dev lo", "172.16.0.0/12", "172.16.0.0/13");
	picked("ip route add 172.16.0.0/12 dev lo", "192.168.0.0/16", NULL);
	_cleanup_(network_free_ptr) struct network *n = network(ID_A, "web", "bridge");
	n->spec.ipv6 = true;
	cidr_parse("192.168.0.0/16", &taken);
	REFUSED(network_complete(n, &taken, 1, &err), ERROR_CONFLICT, "--subnet");
	cidr_parse("192.168.0.0/17", &taken);
	n->id[6] = n->id[7] = 'f'; /* the last: the search goes on in front */
	run("ip route add 192.168.129.0/24 dev lo");
	run("ip route add 192.168.255.0/24 dev lo");
	OK(network_complete(n, &taken, 1, &err));
	assert_string_equal(n->spec.subnets.items[0].cidr, "192.168.128.0/24");
	assert_string_equal(n->spec.subnets.items[0].gateway, "192.168.128.1");
	assert_string_equal(n->spec.subnets.items[1].cidr, "fda1:1111:ff11:1111::/64");
	assert_string_equal(n->spec.subnets.items[1].gateway, "fda1:1111:ff11:1111::1");
}

/* Two daemons completed the same subnet before either made it. */
static void test_raced(UNUSED void **state) {
	_cleanup_(network_free_ptr) struct network *n = network(ID_A, "web", "bridge"), *m = network(ID_B, "web", "bridge");
	subnet(n, "10.99.0.0/24");
	subnet(m, "10.99.0.0/25");
	OK(network_complete(n, NULL, 0, &err));
	OK(network_complete(m, NULL, 0, &err));
	OK(driver(n)->up(TAG, n, &err));
	_cleanup_(free_ptr) char *before = links();
	REFUSED(driver(m)->up("89abcdef", m, &err), ERROR_CONFLICT, "10.99.0.0/24 on wb");
	_cleanup_(free_ptr) char *after = links();
	assert_string_equal(before, after);
	OK(driver(n)->up(TAG, n, &err));
}

static void test_overlap(UNUSED void **state) {
	_cleanup_(network_free_ptr) struct network *n = bridge(), *other = network(ID_B, "other", "bridge"),
					   *lan = network(ID_B, "lan", "macvlan");
	OK(network_complete(n, NULL, 0, &err)); /* its own bridge is no conflict */
	subnet(other, "10.99.0.128/25");
	REFUSED(network_complete(other, NULL, 0, &err), ERROR_CONFLICT, "10.99.0.0/24 on wb");
	run("ip -6 route add fd00:77::/48 dev lo");
	free(other->spec.subnets.items[0].cidr);
	other->spec.subnets.items[0].cidr = str_copy("fd00:77:0:1::/64");
	REFUSED(network_complete(other, NULL, 0, &err), ERROR_CONFLICT, "fd00:77::/48");
	subnet(lan, "10.99.0.0/24");
	OK(network_complete(lan, NULL, 0, &err));
	assert_string_equal(lan->spec.subnets.items[0].gateway, "10.99.0.1");
}

/* ---- on interfaces of the host ---- */

/* A cable: h0 is the host's interface, what is plugged in at the other end lies in a name space of its own. */
static int cable(void) {
	int outside = new_netns();
	_cleanup_(close_fd) int own = open_netns();
	run("ip link add h0 type veth peer name h1");
	_cleanup_(free_ptr) char *move = str_format("ip link set h1 netns /proc/%d/fd/%d", getpid(), outside);
	run(move);
	enter(outside);
	run("ip addr add 10.99.0.200/24 dev h1");
	run("ip link set h1 up");
	enter(own);
	return outside;
}

static void test_parent(UNUSED void **state) {
	_cleanup_(close_fd) int outside = cable(), a = new_netns();
	_cleanup_(network_free_ptr) struct network *n = network(ID_A, "web", "bridge");
	_cleanup_(free_ptr) char *before = links();
	struct nic one = nic_of("10.99.0.5", NULL, "02:00:0a:63:00:05");
	subnet(n, "10.99.0.0/24");
	n->spec.parent = str_copy("h7");
	OK(network_complete(n, NULL, 0, &err));
	REFUSED(driver(n)->up(TAG, n, &err), ERROR_NOT_FOUND, "h7");
	n->spec.parent[1] = '0';
	run("ip addr add 10.50.0.1/24 dev h0");
	REFUSED(driver(n)->up(TAG, n, &err), ERROR_CONFLICT, "10.50.0.1/24");
	OK(driver(n)->down(TAG, n, &err));
	run("ip addr del 10.50.0.1/24 dev h0");
	_cleanup_(free_ptr) char *after = links();
	assert_string_equal(before, after);
	run("ip link add other type bridge");
	run("ip link set h0 master other");
	REFUSED(driver(n)->up(TAG, n, &err), ERROR_CONFLICT, "port of another bridge");
	run("ip link set h0 nomaster");
	OK(driver(n)->up(TAG, n, &err));
	OK(driver(n)->up(TAG, n, &err));
	OK(driver(n)->attach(TAG, n, ONE, &one, true, a, &err));
	reaches(a, "10.99.0.5", outside, "10.99.0.200");
	OK(driver(n)->down(TAG, n, &err));
	says("ip link show h0", "h0");
}

static void test_vlan(UNUSED void **state) {
	_cleanup_(close_fd) int outside = cable(), a = new_netns(), own = open_netns();
	_cleanup_(network_free_ptr) struct network *n = network(ID_A, "web", "bridge");
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct nic one = nic_of("10.99.7.5", NULL, "02:00:0a:63:00:05");
	subnet(n, "10.99.7.0/24");
	n->spec.parent = str_copy("h0");
	n->spec.vlan = 7;
	OK(network_complete(n, NULL, 0, &err));
	if (driver(n)->up(TAG, n, &err) < 0)
		return (void)lacks(&err, "802.1q");
	enter(outside);
	run("ip link add h1.7 link h1 type vlan id 7");
	run("ip addr add 10.99.7.200/24 dev h1.7");
	run("ip link set h1.7 up");
	enter(own);
	OK(driver(n)->attach(TAG, n, ONE, &one, true, a, &err));
	reaches(a, "10.99.7.5", outside, "10.99.7.200");
	OK(driver(n)->detach(TAG, n, ONE, &one, a, &err));
	OK(driver(n)->down(TAG, n, &err));
	_cleanup_(free_ptr) char *text = links();
	assert_null(strstr(text, "@h0"));
}

static void try_on_parent(const char *kind, const char *mode) {
	_cleanup_(close_fd) int outside = cable(), a = new_netns(), b = new_netns();
	_cleanup_(network_free_ptr) struct network *n = network(ID_A, "lan", kind);
	struct nic one = nic_of("10.99.0.5", NULL, "02:00:0a:63:00:05"), two = nic_of("10.99.0.6", NULL, "02:00:0a:63:00:06");
	subnet(n, "10.99.0.0/24");
	n->spec.parent = str_copy("h0");
	n->spec.mode = mode ? str_copy(mode) : NULL;
	run("ip link set h0 up");
	OK(network_complete(n, NULL, 0, &err));
	_cleanup_(free_ptr) char *before = links();
	OK(driver(n)->up(TAG, n, &err));
	OK(driver(n)->attach(TAG, n, ONE, &one, true, a, &err));
	OK(driver(n)->attach(TAG, n, ONE, &one, true, a, &err));
	OK(driver(n)->attach(TAG, n, TWO, &two, true, b, &err));
	reaches(a, "10.99.0.5", outside, "10.99.0.200");
	reaches(a, "10.99.0.5", b, "10.99.0.6");
	one.ingress_rate = one.egress_rate = 10000000;
	OK(driver(n)->attach(TAG, n, ONE, &one, true, a, &err));
	reaches(a, "10.99.0.5", b, "10.99.0.6");
	OK(driver(n)->detach(TAG, n, ONE, &one, a, &err));
	OK(driver(n)->detach(TAG, n, TWO, &two, b, &err));
	OK(driver(n)->detach(TAG, n, TWO, &two, -1, &err));
	OK(driver(n)->down(TAG, n, &err));
	_cleanup_(free_ptr) char *after = links();
	assert_string_equal(before, after);
}

static void test_macvlan(UNUSED void **state) {
	if (!has("macvlan"))
		return;
	try_on_parent("macvlan", NULL);
}

static void test_ipvlan(UNUSED void **state) {
	if (!has("ipvlan"))
		return;
	try_on_parent("ipvlan", "l2");
}

static void test_physical(UNUSED void **state) {
	_cleanup_(close_fd) int outside = cable(), a = new_netns(), b = new_netns();
	_cleanup_(network_free_ptr) struct network *n = network(ID_A, "lan", "physical");
	struct nic one = nic_of("10.99.0.5", NULL, "02:00:0a:63:00:05");
	subnet(n, "10.99.0.0/24");
	n->spec.parent = str_copy("h0");
	run("ip link set h0 alias the_cable_to_the_cellar");
	run("ip link set h0 up");
	OK(network_complete(n, NULL, 0, &err));
	_cleanup_(free_ptr) char *before = output("ip -d -o addr show h0");
	OK(driver(n)->up(TAG, n, &err));
	OK(driver(n)->attach(TAG, n, ONE, &one, true, a, &err));
	OK(driver(n)->attach(TAG, n, ONE, &one, true, a, &err));
	reaches(a, "10.99.0.5", outside, "10.99.0.200");
	REFUSED(driver(n)->attach(TAG, n, TWO, &one, true, b, &err), ERROR_CONFLICT, "h0");
	OK(driver(n)->up(TAG, n, &err));
	OK(driver(n)->detach(TAG, n, ONE, &one, a, &err));
	OK(driver(n)->detach(TAG, n, ONE, &one, a, &err));
	says("ip -d link show h0", "alias the_cable_to_the_cellar");
	says("ip -d link show h0", "UP");
	run("ip addr add 10.50.0.1/24 dev h0");
	REFUSED(driver(n)->attach(TAG, n, ONE, &one, true, a, &err), ERROR_CONFLICT, "10.50.0.1/24");
}

/* As after the end of a name space: it is on the host, under the name that it had inside. */
static void test_physical_returned(UNUSED void **state) {
	_cleanup_(close_fd) int outside = cable(), a = new_netns(), own = open_netns();
	_cleanup_(network_free_ptr) struct network *n = network(ID_A, "lan", "physical");
	_cleanup_(free_ptr) struct tagged_link *found = NULL;
	struct nic one = nic_of("10.99.0.5", NULL, NULL);
	size_t count;
	(void)outside;
	subnet(n, "10.99.0.0/24");
	n->spec.parent = str_copy("h0");
	_cleanup_(free_ptr) char *move = str_format("ip link set eth0 netns /proc/%d/fd/%d", getpid(), own);
	for (int i = 0; i < 2; i++) {
		OK(driver(n)->attach(TAG, n, ONE, &one, true, a, &err));
		enter(a);
		run(move);
		enter(own);
		OK(network_tagged(TAG, &found, &count, &err));
		assert_int_equal(count, 1);
		assert_string_equal(found[0].instance, ONE);
		if (i == 0)
			OK(driver(n)->detach(TAG, n, ONE, &one, -1, &err));
		else
			OK(network_link_remove(found[0].name, &err));
		free_ptr(&found);
		found = NULL;
		says("ip -d link show h0", "h0");
		OK(network_tagged(TAG, &found, &count, &err));
		assert_int_equal(count, 0);
	}
}

/* ---- killed at each step ---- */

/* Runs fn in a child that is killed when it enters or leaves its n-th system call; false when it got through before. */
static bool killed_at(int n, void (*fn)(void *arg), void *arg) {
	pid_t child = fork();
	int status;
	assert_true(child >= 0);
	if (child == 0) {
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		fn(arg);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	for (int i = 0; i < n && WIFSTOPPED(status); i++) {
		ptrace(PTRACE_SYSCALL, child, NULL, NULL);
		assert_int_equal(waitpid(child, &status, 0), child);
	}
	if (!WIFSTOPPED(status))
		return false;
	kill(child, SIGKILL);
	waitpid(child, &status, 0);
	return true;
}

/* Every system call in a long run; else some of them. */
static int stride(void) {
	const char *all = getenv("WABE_TEST_LONG");
	return all && *all ? 1 : 7;
}

struct step {
	struct network *network;
	struct nic *nic;
	int netns;
};

static void do_up(void *arg) {
	struct step *s = arg;
	driver(s->network)->up(TAG, s->network, NULL);
}

static void do_attach(void *arg) {
	struct step *s = arg;
	driver(s->network)->attach(TAG, s->network, ONE, s->nic, true, s->netns, NULL);
}

static void do_detach(void *arg) {
	struct step *s = arg;
	driver(s->network)->detach(TAG, s->network, ONE, s->nic, s->netns, NULL);
}

static void test_up_killed(UNUSED void **state) {
	_cleanup_(network_free_ptr) struct network *n = network(ID_A, "web", "bridge");
	_cleanup_(free_ptr) char *before = links();
	struct step s = {n, NULL, -1};
	n->spec.ipv6 = true;
	OK(network_complete(n, NULL, 0, &err));
	bool killed = true;
	for (int i = 0; killed; i += stride()) {
		assert_true(i < 1000);
		killed = killed_at(i, do_up, &s);
		OK(driver(n)->up(TAG, n, &err));
		says("ip addr", n->spec.subnets.items[1].gateway);
		OK(driver(n)->down(TAG, n, &err));
		_cleanup_(free_ptr) char *after = links();
		assert_string_equal(before, after);
	}
}

static void test_attach_killed(UNUSED void **state) {
	_cleanup_(network_free_ptr) struct network *n = bridge();
	_cleanup_(close_fd) int a = new_netns();
	_cleanup_(free_ptr) char *before = links();
	struct nic one = nic_of("10.99.0.5", "fd00:99::5", "02:00:0a:63:00:05");
	struct step s = {n, &one, a};
	one.egress_rate = 100000000;
	bool killed = true;
	for (int i = 0; killed; i += stride()) {
		assert_true(i < 1000);
		killed = killed_at(i, do_attach, &s);
		if (i % 2) { /* finished, or undone */
			OK(driver(n)->attach(TAG, n, ONE, &one, true, a, &err));
			reaches(a, "10.99.0.5", -1, "10.99.0.1");
		}
		OK(driver(n)->detach(TAG, n, ONE, &one, a, &err));
		_cleanup_(free_ptr) char *after = links();
		assert_string_equal(before, after);
	}
}

static void test_physical_killed(UNUSED void **state) {
	_cleanup_(close_fd) int outside = cable(), a = new_netns();
	_cleanup_(network_free_ptr) struct network *n = network(ID_A, "lan", "physical");
	struct nic one = nic_of("10.99.0.5", NULL, NULL);
	struct step s = {n, &one, a};
	(void)outside;
	subnet(n, "10.99.0.0/24");
	n->spec.parent = str_copy("h0");
	run("ip link set h0 alias cellar");
	_cleanup_(free_ptr) char *before = links();
	for (int pass = 0; pass < 2; pass++) {
		bool killed = true;
		for (int i = 0; killed; i += stride()) {
			assert_true(i < 1000);
			if (pass == 1)
				OK(driver(n)->attach(TAG, n, ONE, &one, true, a, &err));
			killed = killed_at(i, pass == 0 ? do_attach : do_detach, &s);
			OK(driver(n)->detach(TAG, n, ONE, &one, a, &err));
			_cleanup_(free_ptr) char *after = links();
			assert_string_equal(before, after);
		}
	}
}

/* ---- several hosts ---- */

static void test_vxlan(UNUSED void **state) {
	if (!has("vxlan"))
		return;
	_cleanup_(close_fd) int here = open_netns(), there = new_netns(), a = new_netns(), b = new_netns();
	_cleanup_(network_free_ptr) struct network *n = network(ID_A, "wide", "vxlan"), *m = network(ID_B, "wide", "vxlan");
	struct nic one = nic_of("10.99.0.5", "fd00:99::5", "02:00:0a:63:00:05"), two = nic_of("10.99.0.6", "fd00:99::6", "02:00:0a:63:00:06");
	run("ip link add u0 type veth peer name u1");
	_cleanup_(free_ptr) char *move = str_format("ip link set u1 netns /proc/%d/fd/%d", getpid(), there);
	run(move);
	run("ip addr add 10.1.0.1/24 dev u0");
	run("ip link set u0 up");
	enter(there);
	run("ip addr add 10.1.0.2/24 dev u1");
	run("ip link set u1 up");
	subnet(n, "10.99.0.0/24");
	subnet(n, "fd00:99::/64");
	subnet(m, "10.99.0.0/24");
	subnet(m, "fd00:99::/64");
	n->spec.vni = m->spec.vni = 42;
	strv_add(&n->spec.peers, "10.1.0.9");
	strv_add(&m->spec.peers, "10.1.0.1");
	OK(network_complete(m, NULL, 0, &err));
	OK(driver(m)->up(TAG, m, &err));
	OK(driver(m)->attach(TAG, m, TWO, &two, true, b, &err));
	enter(here);
	OK(network_complete(n, NULL, 0, &err));
	OK(driver(n)->up(TAG, n, &err));
	says("bridge fdb", "dst 10.1.0.9 self permanent");
	free(n->spec.peers[0]);
	n->spec.peers[0] = str_copy("10.1.0.2");
	OK(driver(n)->up(TAG, n, &err));
	_cleanup_(free_ptr) char *fdb = output("bridge fdb");
	assert_non_null(strstr(fdb, "dst 10.1.0.2 self permanent"));
	assert_null(strstr(fdb, "10.1.0.9"));
	OK(driver(n)->attach(TAG, n, ONE, &one, true, a, &err));
	reaches(a, "10.99.0.5", b, "10.99.0.6");
	reaches(b, "fd00:99::6", a, "fd00:99::5");
	enter(a);
	says("ip link show eth0", "mtu 1450");
	enter(here);
	_cleanup_(network_free_ptr) struct network *same = network(ID_B, "same", "vxlan");
	subnet(same, "10.98.0.0/24");
	same->spec.vni = 42;
	OK(network_complete(same, NULL, 0, &err));
	REFUSED(driver(same)->up(TAG, same, &err), ERROR_INVALID, "42");
	OK(driver(same)->down(TAG, same, &err));
	OK(driver(n)->detach(TAG, n, ONE, &one, a, &err));
	OK(driver(n)->down(TAG, n, &err));
	_cleanup_(free_ptr) char *left = links();
	assert_null(strstr(left, "vxlan"));
	assert_null(strstr(left, "bridge"));
}

/* ---- machines ---- */

#define GUEST_UID 654321

/* A tap device in the caller's name space as QEMU opens it: by a user who is nobody, checksums and segments left to it or not. */
static int open_tap(const char *name, bool offload) {
	struct ifreq r = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	snprintf(r.ifr_name, sizeof r.ifr_name, "%s", name);
	if (fd < 0 || ioctl(fd, TUNSETIFF, &r) < 0 ||
	    (offload && ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6) < 0))
		_exit(errno);
	return fd;
}

static void relay(int from, int to) {
	char packet[70000];
	ssize_t n;
	while ((n = read(from, packet, sizeof packet)) > 0)
		if (write(to, packet, (size_t)n) < 0 && errno != EAGAIN && errno != EIO)
			_exit(errno);
}

/* In QEMU's place: what comes from one card goes to the other, headers and all. */
__attribute__((noreturn)) static void machine(int host, int guest, bool offload, int ready) {
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	enter(guest);
	int card = open_tap("card", offload);
	enter(host);
	if (setresgid(GUEST_UID, GUEST_UID, GUEST_UID) < 0 || setresuid(GUEST_UID, GUEST_UID, GUEST_UID) < 0)
		_exit(1);
	int tap = open_tap("tap0", offload);
	if (write(ready, "", 1) != 1)
		_exit(1);
	for (struct pollfd p[] = {{card, POLLIN, 0}, {tap, POLLIN, 0}}; poll(p, 2, -1) > 0;) {
		relay(card, tap);
		relay(tap, card);
	}
	_exit(0);
}

static pid_t start_machine(int host, int guest, bool offload) {
	int p[2];
	char byte;
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	pid_t pid = fork();
	if (pid == 0)
		machine(host, guest, offload, p[1]);
	close(p[1]);
	assert_int_equal(read(p[0], &byte, 1), 1);
	close(p[0]);
	return pid;
}

/* A megabyte over TCP, whole. */
static void streams(int from_netns, const char *from, int to_netns, const char *to) {
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(7003)};
	_cleanup_(close_fd) int own = open_netns();
	char chunk[4096];
	uint64_t sum = 0, wanted = 0;
	inet_pton(AF_INET, to, &at.sin_addr);
	enter(to_netns);
	_cleanup_(close_fd) int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(server, (struct sockaddr *)&at, sizeof at) | listen(server, 1), 0);
	enter(from_netns);
	pid_t sender = fork();
	if (sender == 0) {
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		struct sockaddr_in me = {.sin_family = AF_INET};
		inet_pton(AF_INET, from, &me.sin_addr);
		if (bind(fd, (struct sockaddr *)&me, sizeof me) < 0 || connect(fd, (struct sockaddr *)&at, sizeof at) < 0)
			_exit(1);
		for (int i = 0; i < 256; i++) {
			memset(chunk, i, sizeof chunk);
			if (fs_write_all(fd, chunk, sizeof chunk) < 0)
				_exit(2);
		}
		_exit(0);
	}
	enter(own);
	struct pollfd p = {server, POLLIN, 0};
	assert_int_equal(poll(&p, 1, 20000), 1);
	_cleanup_(close_fd) int fd = accept4(server, NULL, NULL, SOCK_CLOEXEC);
	for (ssize_t n; (n = recv(fd, chunk, sizeof chunk, 0)) > 0;)
		for (ssize_t i = 0; i < n; i++)
			sum += (uint8_t)chunk[i];
	for (uint64_t i = 0; i < 256; i++)
		wanted += i * sizeof chunk;
	assert_int_equal(sum, wanted);
	assert_int_equal(proc_wait(sender), 0);
}

static void try_machine(int host, int other, bool offload) {
	_cleanup_(close_fd) int guest = new_netns(), own = open_netns();
	pid_t pid = start_machine(host, guest, offload);
	enter(guest);
	run("ip link set card address 02:00:0a:63:00:05 mtu 1400 up");
	run("ip address add 10.99.0.5/24 dev card");
	run("ip address add fd00:99::5/64 dev card nodad");
	enter(own);
	OK(network_tap(host, "eth0", "tap0", GUEST_UID, &err)); /* again, while it is used */
	reaches(guest, "10.99.0.5", other, "10.99.0.6");
	reaches(-1, "10.99.0.1", guest, "10.99.0.5");
	reaches(other, "fd00:99::6", guest, "fd00:99::5");
	streams(guest, "10.99.0.5", other, "10.99.0.6");
	streams(other, "10.99.0.6", guest, "10.99.0.5");
	kill(pid, SIGKILL);
	assert_int_equal(proc_wait(pid), 128 + SIGKILL);
}

static void test_tap(UNUSED void **state) {
	_cleanup_(network_free_ptr) struct network *n = bridge();
	_cleanup_(close_fd) int host = new_netns(), other = new_netns(), own = open_netns();
	struct nic one = nic_of("10.99.0.5", "fd00:99::5", "02:00:0a:63:00:05"), two = nic_of("10.99.0.6", "fd00:99::6", "02:00:0a:63:00:06");
	REFUSED(network_tap(host, "eth0", "tap0", GUEST_UID, &err), ERROR_NOT_FOUND, "eth0");
	OK(driver(n)->attach(TAG, n, ONE, &one, true, host, &err));
	OK(driver(n)->attach(TAG, n, TWO, &two, true, other, &err));
	enter(host);
	run("ip link set eth0 mtu 1400");
	enter(own);
	for (int i = 0; i < 2; i++)
		OK(network_tap(host, "eth0", "tap0", GUEST_UID, &err));
	enter(host);
	says("ip -d link show tap0", "mtu 1400");
	says("ip -d link show tap0", "type tap pi off vnet_hdr on persist on user 654321");
	_cleanup_(free_ptr) char *addresses = output("ip -o address show dev eth0"), *more = output("ip -o address show dev tap0");
	assert_string_equal(addresses, "");
	assert_string_equal(more, "");
	enter(own);
	try_machine(host, other, true);
	try_machine(host, other, false);
	OK(driver(n)->detach(TAG, n, ONE, &one, host, &err));
	OK(driver(n)->detach(TAG, n, TWO, &two, other, &err));
}

int main(void) {
	if (geteuid() != 0) {
		print_message("1..0 # SKIP needs root for network name spaces\n");
		return 0;
	}
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_names, setup),
		cmocka_unit_test_setup(test_bridge, setup),
		cmocka_unit_test_setup(test_foreign, setup),
		cmocka_unit_test_setup(test_attach, setup),
		cmocka_unit_test_setup(test_attach_refused, setup),
		cmocka_unit_test_setup(test_attach_elsewhere, setup),
		cmocka_unit_test_setup(test_isolated, setup),
		cmocka_unit_test_setup(test_rates, setup),
		cmocka_unit_test_setup(test_tap, setup),
		cmocka_unit_test_setup(test_tagged, setup),
		cmocka_unit_test_setup(test_pick, setup),
		cmocka_unit_test_setup(test_raced, setup),
		cmocka_unit_test_setup(test_overlap, setup),
		cmocka_unit_test_setup(test_parent, setup),
		cmocka_unit_test_setup(test_vlan, setup),
		cmocka_unit_test_setup(test_macvlan, setup),
		cmocka_unit_test_setup(test_ipvlan, setup),
		cmocka_unit_test_setup(test_physical, setup),
		cmocka_unit_test_setup(test_physical_returned, setup),
		cmocka_unit_test_setup(test_up_killed, setup),
		cmocka_unit_test_setup(test_attach_killed, setup),
		cmocka_unit_test_setup(test_physical_killed, setup),
		cmocka_unit_test_setup(test_vxlan, setup),
	};
	if (getenv("WABE_TEST"))
		cmocka_set_test_filter(getenv("WABE_TEST"));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
