/* A world for tests of the firewall: a host, a client outside and instances, each in a network name space of its own, with real
 * packets between them. For firewall_test.c and firewall_change_test.c. */
#pragma once

#include "driver/network/firewall.h"

#include "base/fs.h"
#include "base/proc.h"
#include "base/str.h"
#include "driver/network/network.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#pragma GCC diagnostic ignored "-Wunused-function"

#define TAG "0123abcd"
#define NET_A "aaaa000000000000000000000000000000000000000000000000000000000000"
#define NET_B "bbbb000000000000000000000000000000000000000000000000000000000000"
#define GROUP_1 "1111000000000000000000000000000000000000000000000000000000000000"
#define GROUP_2 "2222000000000000000000000000000000000000000000000000000000000000"
#define WAIT_MS 5000  /* for what must come */
#define QUIET_MS 250  /* for what must not: long against a packet's way, short against the test's */

/* ---- name spaces ---- */

enum place { HOST, OUTSIDE, A1, A2, B1, PLACES };
static int spaces[PLACES];
static const char *const ids[PLACES] = {[A1] = "a1a1", [A2] = "a2a2", [B1] = "b1b1"};
static const char *const addresses4[PLACES] = {"198.51.100.1", "198.51.100.2", "10.84.0.2", "10.84.0.3", "10.85.0.2"};
static const char *const addresses6[PLACES] = {"2001:db8::1", "2001:db8::2", "fd00:84::2", "fd00:84::3", "fd00:85::2"};
static const char *const macs[PLACES] = {[A1] = "02:00:0a:54:00:02", [A2] = "02:00:0a:54:00:03", [B1] = "02:00:0a:55:00:02"};

static void enter(enum place p) {
	assert_int_equal(setns(spaces[p], CLONE_NEWNET), 0);
}

static void expect(int r, struct error *err) {
	if (r < 0)
		fail_msg("%s", error_text(err));
}

static void run(const char *fmt, ...) PRINTF(1, 2);
static void run(const char *fmt, ...) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	va_list ap;
	va_start(ap, fmt);
	_cleanup_(free_ptr) char *command = str_vformat(fmt, ap);
	va_end(ap);
	_cleanup_(strv_free_ptr) char **argv = strv_split(command, ' ');
	struct proc p = {.argv = argv};
	int r = proc_run_ok(&p, &err);
	if (r < 0)
		fail_msg("%s: %s", command, error_text(&err));
}

static void nft(const char *commands) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct proc p = {.argv = (char *[]){"nft", "-f", "-", NULL}, .input = commands, .input_len = strlen(commands)};
	expect(proc_run_ok(&p, &err), &err);
}

static char *ruleset(const char *what) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct buf out = BUF_INIT;
	_cleanup_(free_ptr) char *command = str_format("nft list %s", what);
	_cleanup_(strv_free_ptr) char **argv = strv_split(command, ' ');
	struct proc p = {.argv = argv, .output = &out};
	expect(proc_run_ok(&p, &err), &err);
	return buf_steal(&out);
}

static int new_space(void) {
	assert_int_equal(unshare(CLONE_NEWNET), 0);
	int fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	run("ip link set lo up");
	fs_write_value("/proc/sys/net/ipv6/conf/default/accept_dad", "0");
	return fd;
}

static void join_outside(void) {
	enter(HOST);
	run("ip link add uplink type veth peer name eth0 netns /proc/%d/fd/%d", (int)getpid(), spaces[OUTSIDE]);
	run("ip addr add %s/24 dev uplink", addresses4[HOST]);
	run("ip addr add %s/64 dev uplink nodad", addresses6[HOST]);
	run("ip link set uplink up");
	enter(OUTSIDE);
	run("ip addr add %s/24 dev eth0", addresses4[OUTSIDE]);
	run("ip addr add %s/64 dev eth0 nodad", addresses6[OUTSIDE]);
	run("ip link set eth0 up");
	run("ip route add 10.84.0.0/15 via %s", addresses4[HOST]);
	run("ip route add fd00:80::/25 via %s", addresses6[HOST]);
}

static void make_bridge(const char *network, const char *v4, const char *v6) {
	char bridge[16];
	network_bridge_name(TAG, &(struct network){.id = (char *)network}, bridge);
	enter(HOST);
	run("ip link add %s type bridge", bridge);
	run("ip addr add %s/24 dev %s", v4, bridge);
	run("ip addr add %s/64 dev %s nodad", v6, bridge);
	run("ip link set %s up", bridge);
}

static void join(enum place p, const char *network, const char *gateway4, const char *gateway6) {
	char bridge[16], link[16];
	network_bridge_name(TAG, &(struct network){.id = (char *)network}, bridge);
	network_veth_name(TAG, ids[p], network, link);
	enter(HOST);
	run("ip link add %s type veth peer name eth0 netns /proc/%d/fd/%d", link, (int)getpid(), spaces[p]);
	run("ip link set %s up master %s", link, bridge);
	run("ip link set %s type bridge_slave hairpin on", link);
	enter(p);
	run("ip link set eth0 address %s up", macs[p]);
	run("ip addr add %s/24 dev eth0", addresses4[p]);
	run("ip addr add %s/64 dev eth0 nodad", addresses6[p]);
	run("ip route add default via %s", gateway4);
	run("ip route add default via %s", gateway6);
}

/* Whether bridges call the rules for what they forward, also those that nobody asked. */
static void set_bridge_filter(const char *on) {
	enter(HOST);
	if (!fs_exists("/proc/sys/net/bridge") && strcmp(on, "0") == 0)
		return; /* br_netfilter is not loaded */
	if (!fs_exists("/proc/sys/net/bridge"))
		run("modprobe br_netfilter");
	assert_int_equal(fs_write_value("/proc/sys/net/bridge/bridge-nf-call-iptables", on), 0);
	assert_int_equal(fs_write_value("/proc/sys/net/bridge/bridge-nf-call-ip6tables", on), 0);
}

/* The programs of the group see the interfaces of their own name space below /sys. */
static int make_world(UNUSED void **state) {
	assert_int_equal(unshare(CLONE_NEWNS), 0);
	assert_int_equal(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	for (int i = PLACES - 1; i >= 0; i--)
		spaces[i] = new_space();
	assert_int_equal(mount("sysfs", "/sys", "sysfs", 0, NULL), 0); /* the host's, which was made last */
	join_outside();
	make_bridge(NET_A, "10.84.0.1", "fd00:84::1");
	make_bridge(NET_B, "10.85.0.1", "fd00:85::1");
	join(A1, NET_A, "10.84.0.1", "fd00:84::1");
	join(A2, NET_A, "10.84.0.1", "fd00:84::1");
	join(B1, NET_B, "10.85.0.1", "fd00:85::1");
	set_bridge_filter("0");
	enter(HOST);
	return 0;
}

/* ---- the state that a test wants ---- */

struct setup {
	struct network a, b;
	const struct network *networks[2];
	struct subnet subnets[4];
	struct nic nics[PLACES];
	struct firewall_instance instances[PLACES];
	struct port ports[PLACES][8];
	struct rule_group group[2];
	struct rule rules[2][8];
	const struct rule_group *groups[2];
	struct firewall_members members[2];
	struct balancer balancer;
	const struct balancer *balancers[1];
	struct firewall_state s;
};

static void set_network(struct network *n, const char *id, const char *name, struct subnet *subnets) {
	*n = (struct network){.id = (char *)id, .spec = {.name = (char *)name, .driver = "bridge", .nat = true}};
	n->spec.subnets.items = subnets;
	n->spec.subnets.n = 2;
}

static struct firewall_instance *instance_of(struct setup *u, enum place p) {
	return &u->instances[p - A1];
}

static struct setup *setup_new(void) {
	struct setup *u = NEW(struct setup);
	u->subnets[0] = (struct subnet){.cidr = "10.84.0.0/24", .gateway = "10.84.0.1"};
	u->subnets[1] = (struct subnet){.cidr = "fd00:84::/64", .gateway = "fd00:84::1"};
	u->subnets[2] = (struct subnet){.cidr = "10.85.0.0/24", .gateway = "10.85.0.1"};
	u->subnets[3] = (struct subnet){.cidr = "fd00:85::/64", .gateway = "fd00:85::1"};
	set_network(&u->a, NET_A, "a", &u->subnets[0]);
	set_network(&u->b, NET_B, "b", &u->subnets[2]);
	u->networks[0] = &u->a;
	u->networks[1] = &u->b;
	for (enum place p = A1; p <= B1; p++) {
		struct network *n = p == B1 ? &u->b : &u->a;
		u->nics[p] = (struct nic){.network_id = n->id, .network = n->spec.name, .interface = "eth0", .mac = (char *)macs[p],
					  .ipv4 = (char *)addresses4[p], .ipv6 = (char *)addresses6[p]};
		*instance_of(u, p) = (struct firewall_instance){.id = ids[p], .nics = &u->nics[p], .n_nics = 1, .ports = u->ports[p]};
	}
	for (size_t i = 0; i < 2; i++) {
		u->group[i].id = (char *)(i ? GROUP_2 : GROUP_1);
		u->group[i].spec.rules.items = u->rules[i];
		u->groups[i] = &u->group[i];
	}
	u->balancers[0] = &u->balancer;
	u->s = (struct firewall_state){.tag = TAG, .networks = u->networks, .n_networks = 2, .instances = u->instances, .n_instances = 3,
				       .groups = u->groups, .members = u->members, .balancers = u->balancers};
	return u;
}

static void add_port(struct setup *u, enum place p, struct port port) {
	struct firewall_instance *i = instance_of(u, p);
	u->ports[p][i->n_ports++] = port;
}

static void add_rule(struct setup *u, size_t group, struct rule r) {
	u->rules[group][u->group[group].spec.rules.n++] = r;
	u->s.n_groups = MAX(u->s.n_groups, group + 1);
}

static void load(struct setup *u) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	enter(HOST);
	expect(firewall_load(&u->s, &err), &err);
	assert_true(firewall_present(TAG));
}

static void unload(struct setup *u) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	enter(HOST);
	expect(firewall_unload(TAG, &err), &err);
	assert_false(firewall_present(TAG));
	free(u);
}

/* ---- traffic ---- */

static int patience = WAIT_MS;

union endpoint {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

static socklen_t address(const char *text, int port, union endpoint *a) {
	*a = (union endpoint){0};
	if (inet_pton(AF_INET, text, &a->v4.sin_addr) == 1) {
		a->v4.sin_family = AF_INET;
		a->v4.sin_port = htons((uint16_t)port);
		return sizeof a->v4;
	}
	assert_int_equal(inet_pton(AF_INET6, text, &a->v6.sin6_addr), 1);
	a->v6.sin6_family = AF_INET6;
	a->v6.sin6_port = htons((uint16_t)port);
	return sizeof a->v6;
}

static const char *sender(const union endpoint *a) {
	static char text[46];
	bool mapped = a->any.sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&a->v6.sin6_addr);
	if (mapped)
		inet_ntop(AF_INET, a->v6.sin6_addr.s6_addr + 12, text, sizeof text);
	else
		inet_ntop(a->any.sa_family, a->any.sa_family == AF_INET ? (void *)&a->v4.sin_addr : (void *)&a->v6.sin6_addr, text, sizeof text);
	return text;
}

static bool ready(int fd, short events, int ms) {
	struct pollfd p = {fd, events, 0};
	return RETRY_EINTR(poll(&p, 1, ms)) == 1;
}

static int socket_in(enum place p, int family, int type) {
	enter(p);
	int fd = socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	enter(HOST);
	assert_true(fd >= 0);
	return fd;
}

/* A server for both families. */
static int serve(enum place p, int type, int port) {
	int fd = socket_in(p, AF_INET6, type);
	static const int on = 1;
	union endpoint a;
	setsockopt(fd, SOL_SOCKET, type == SOCK_STREAM ? SO_REUSEADDR : SO_REUSEPORT, &on, sizeof on);
	socklen_t n = address("::", port, &a);
	assert_int_equal(bind(fd, &a.any, n), 0);
	if (type == SOCK_STREAM)
		assert_int_equal(listen(fd, 8), 0);
	return fd;
}

static int call(enum place from, const char *to, int type, int port) {
	union endpoint a;
	socklen_t n = address(to, port, &a);
	int fd = socket_in(from, a.any.sa_family, type);
	if (connect(fd, &a.any, n) < 0)
		(void)(errno == EINPROGRESS);
	return fd;
}

static int socket_error(int fd) {
	int error = 0;
	socklen_t n = sizeof error;
	getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &n);
	return error;
}

/* 0 when the connection is there, its error, or ETIMEDOUT. */
static int connected(int fd, int ms) {
	return ready(fd, POLLOUT, ms) ? socket_error(fd) : ETIMEDOUT;
}

/* Calls, answers with a word, hears it: gives the caller's address as the server sees it, or NULL. */
static const char *tcp(enum place from, const char *to, int port, int server) {
	union endpoint peer;
	socklen_t n = sizeof peer;
	char word[3] = "";
	const char *seen = NULL;
	int fd = call(from, to, SOCK_STREAM, port);
	if (ready(server, POLLIN, patience) && connected(fd, WAIT_MS) == 0) {
		int other = accept(server, &peer.any, &n);
		assert_true(other >= 0);
		assert_int_equal(send(other, "ok", 2, 0), 2);
		if (ready(fd, POLLIN, WAIT_MS) && recv(fd, word, 2, 0) == 2)
			seen = sender(&peer);
		close(other);
	}
	close(fd);
	return seen;
}

/* The same with datagrams, there and back twice, on a socket that may be kept. */
static const char *udp_on(int fd, int server) {
	union endpoint peer;
	socklen_t n = sizeof peer;
	char word[3] = "";
	for (int i = 0; i < 2; i++) {
		if (send(fd, "hi", 2, 0) != 2 || !ready(server, POLLIN, patience))
			return NULL;
		n = sizeof peer;
		assert_int_equal(recvfrom(server, word, 2, 0, &peer.any, &n), 2);
		assert_int_equal(sendto(server, "ok", 2, 0, &peer.any, n), 2);
		if (!ready(fd, POLLIN, WAIT_MS) || recv(fd, word, 2, 0) != 2)
			return NULL;
	}
	return sender(&peer);
}

static const char *udp(enum place from, const char *to, int port, int server) {
	int fd = call(from, to, SOCK_DGRAM, port);
	const char *seen = udp_on(fd, server);
	close(fd);
	return seen;
}

#define assert_from(call, who) assert_string_equal((call) ?: "(nobody)", who)
#define assert_nobody(call)                   \
	do {                                  \
		patience = QUIET_MS;          \
		const char *who_ = (call);    \
		patience = WAIT_MS;           \
		assert_null(who_);            \
	} while (0)
