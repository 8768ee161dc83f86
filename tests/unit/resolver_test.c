/* The resolver of a network against a real dnsmasq, in network name spaces of our own: names appear, change and go at once, the
 * process is found again and started again with its leases, and a real DHCP client gets its address. */
#include "driver/network/resolver.h"

#include "base/fs.h"
#include "base/proc.h"
#include "base/str.h"
#include "driver/network/network.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#define TAG "4567cdef"
#define ID "c333333333333333333333333333333333333333333333333333333333333333"
#define ONE "1000000000000000000000000000000000000000000000000000000000000001"
#define TWO "2000000000000000000000000000000000000000000000000000000000000002"
enum { A = 1, PTR = 12, AAAA = 28 };

#define OK(call)                                                     \
	do {                                                         \
		_cleanup_(error_free) struct error err = ERROR_INIT; \
		if ((call) < 0)                                      \
			fail_msg("line %d: %s", __LINE__, error_text(&err)); \
	} while (0)

/* A host with one network, and what belongs to it. */
struct place {
	char dir[64], interface[16];
	char *run, *leases;
	struct network network;
	struct resolver resolver;
};

static void place_subnet(struct place *p, const char *cidr) {
	struct network_spec *s = &p->network.spec;
	s->subnets.items = alloc_resize(s->subnets.items, s->subnets.n + 1, sizeof(struct subnet));
	s->subnets.items[s->subnets.n++] = (struct subnet){.cidr = str_copy(cidr)};
}

static int setup(void **state) {
	struct place *p = NEW(struct place);
	snprintf(p->dir, sizeof p->dir, "/tmp/wabe-resolver-XXXXXX");
	if (unshare(CLONE_NEWNET) < 0 || network_loopback_up(-1, NULL) < 0 || !mkdtemp(p->dir) || chmod(p->dir, 0755) < 0)
		return -1;
	p->run = str_format("%s/networks/%s", p->dir, ID);
	p->leases = str_format("%s/leases", p->dir);
	p->network = (struct network){.id = str_copy(ID), .spec = {.name = str_copy("web"), .driver = str_copy("bridge"),
								   .dns = true, .dhcp = true}};
	place_subnet(p, "10.99.0.0/24");
	place_subnet(p, "fd00:99::/64");
	network_bridge_name(TAG, &p->network, p->interface);
	p->resolver = (struct resolver){p->run, p->leases, &p->network, p->interface, NULL};
	OK(network_complete(&p->network, NULL, 0, &err));
	OK(network_driver_find("bridge")->up(TAG, &p->network, &err));
	*state = p;
	return 0;
}

static int teardown(void **state) {
	struct place *p = *state;
	int r = resolver_stop(&p->resolver, NULL);
	bool left = fs_exists(p->run);
	fs_remove_tree(p->dir);
	fields_free(&network_table, &p->network);
	free(p->run);
	free(p->leases);
	free(p);
	return r < 0 || left ? -1 : 0;
}

/* ---- asking ---- */

static size_t put_name(uint8_t *to, const char *name) {
	size_t n = 0;
	struct str rest = str_view(name);
	while (rest.len) {
		struct str label = str_cut(&rest, '.');
		to[n++] = (uint8_t)label.len;
		memcpy(to + n, label.p, label.len);
		n += label.len;
	}
	to[n++] = 0;
	return n;
}

static size_t take_name(const uint8_t *m, size_t at, char *out) {
	*out = 0;
	while (m[at]) {
		if (m[at] >= 0xc0) {
			at = (size_t)(m[at] & 0x3f) << 8 | m[at + 1];
			continue;
		}
		strncat(out, (const char *)m + at + 1, m[at]);
		at += m[at] + 1u;
		if (m[at])
			strcat(out, ".");
	}
	return at;
}

/* The answer as text: an address or a name; "nxdomain", "none", "refused". */
static void ask(const char *server, const char *name, uint16_t type, char out[256]) {
	uint8_t m[512] = {0x12, 0x34, 1, 0, 0, 1};
	size_t n = 12 + put_name(m + 12, name);
	m[n + 1] = (uint8_t)type;
	m[n + 3] = 1;
	n += 4;
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(53)};
	inet_pton(AF_INET, server, &to.sin_addr);
	_cleanup_(close_fd) int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct pollfd p = {fd, POLLIN, 0};
	assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
	assert_int_equal(send(fd, m, n, 0), n);
	assert_int_equal(poll(&p, 1, 10000), 1);
	ssize_t got = recv(fd, m, sizeof m, 0);
	if (got < (ssize_t)n)
		fail_msg("%s does not answer for %s: %s", server, name, strerror(errno));
	if (m[3] & 15 || !m[7]) {
		snprintf(out, 256, "%s", (m[3] & 15) == 3 ? "nxdomain" : m[3] & 15 ? "refused" : "none");
		return;
	}
	if (type == PTR)
		take_name(m, n + 12, out);
	else
		inet_ntop(type == A ? AF_INET : AF_INET6, m + n + 12, out, 256);
}

/* At once, or in a moment: it reads a changed file as soon as it runs. */
static void answers_from(const char *server, const char *name, uint16_t type, const char *expected) {
	char got[256] = "";
	for (int i = 0; i < 2000 && strcmp(got, expected) != 0; i++)
		ask(server, name, type, got);
	if (strcmp(got, expected) != 0)
		fail_msg("%s is %s, not %s", name, got, expected);
}

static void answers(const char *name, uint16_t type, const char *expected) {
	answers_from("10.99.0.1", name, type, expected);
}

static struct nic nic_of(const char *ipv4, const char *ipv6, char **aliases) {
	return (struct nic){.network_id = ID, .network = "web", .interface = "eth0", .mac = "02:00:0a:63:00:05",
			    .ipv4 = (char *)ipv4, .ipv6 = (char *)ipv6, .aliases = aliases};
}

/* ---- tests ---- */

static void test_names(void **state) {
	struct place *p = *state;
	char *aliases[] = {"db", NULL};
	struct nic one = nic_of("10.99.0.5", "fd00:99::5", aliases), two = nic_of("10.99.0.6", NULL, NULL);
	OK(resolver_start(&p->resolver, NULL, &err));
	answers("one", A, "nxdomain");
	OK(resolver_host_set(&p->resolver, ONE, "one", &one, &err));
	OK(resolver_host_set(&p->resolver, TWO, "odd_name.two", &two, &err));
	answers("one", A, "10.99.0.5");
	answers("one.web.wabe", A, "10.99.0.5");
	answers("db", A, "10.99.0.5");
	_cleanup_(free_ptr) char *short_id = str_copyn(ONE, 12);
	answers(short_id, A, "10.99.0.5");
	answers("db.web.wabe", AAAA, "fd00:99::5");
	answers("one", AAAA, "fd00:99::5");
	answers("5.0.99.10.in-addr.arpa", PTR, "one.web.wabe");
	answers("77.0.99.10.in-addr.arpa", PTR, "nxdomain");
	answers("odd_name.two.web.wabe", A, "10.99.0.6");
	answers("odd_name.two.web.wabe", AAAA, "none");
	answers("nobody.web.wabe", A, "nxdomain");
	one = nic_of("10.99.0.7", NULL, NULL);
	OK(resolver_host_set(&p->resolver, ONE, "one", &one, &err));
	answers("one", A, "10.99.0.7");
	answers("one", AAAA, "none");
	answers("db", A, "nxdomain");
	OK(resolver_host_remove(&p->resolver, ONE, &err));
	OK(resolver_host_remove(&p->resolver, ONE, &err));
	answers("one", A, "nxdomain");
	answers("odd_name.two.web.wabe", A, "10.99.0.6");
}

static bool same_process(int a, int b) {
	char one[64], two[64], path[64];
	_cleanup_(buf_free) struct buf first = BUF_INIT, second = BUF_INIT;
	snprintf(path, sizeof path, "/proc/self/fdinfo/%d", a);
	assert_int_equal(fs_read(path, 4096, &first), 0);
	snprintf(path, sizeof path, "/proc/self/fdinfo/%d", b);
	assert_int_equal(fs_read(path, 4096, &second), 0);
	assert_int_equal(sscanf(strstr(buf_str(&first), "\nPid:"), " Pid: %60s", one), 1);
	assert_int_equal(sscanf(strstr(buf_str(&second), "\nPid:"), " Pid: %60s", two), 1);
	return strcmp(one, two) == 0;
}

static void test_process(void **state) {
	struct place *p = *state;
	struct nic one = nic_of("10.99.0.5", NULL, NULL);
	_cleanup_(close_fd) int first = -1, again = -1, next = -1, other = -1, found = -1;
	assert_int_equal(resolver_find(&p->resolver), -1);
	OK(resolver_start(&p->resolver, &first, &err));
	OK(resolver_host_set(&p->resolver, ONE, "one", &one, &err));
	OK(resolver_start(&p->resolver, &again, &err));
	assert_true(same_process(first, again));
	found = resolver_find(&p->resolver);
	assert_true(same_process(first, found));
	/* it dies: its descriptor tells, and it comes back with all names */
	assert_int_equal(syscall(SYS_pidfd_send_signal, first, SIGKILL, NULL, 0), 0);
	struct pollfd ended = {first, POLLIN, 0};
	assert_int_equal(poll(&ended, 1, 10000), 1);
	assert_int_equal(resolver_find(&p->resolver), -1);
	OK(resolver_start(&p->resolver, &next, &err));
	assert_false(same_process(next, first));
	answers("one", A, "10.99.0.5");
	/* another configuration */
	p->network.spec.internal = true;
	OK(resolver_start(&p->resolver, &other, &err));
	assert_false(same_process(other, next));
	answers("one", A, "10.99.0.5");
	answers("www.example.org", A, "refused"); /* nothing goes out */
	/* somebody else's process under its number is not touched */
	OK(resolver_stop(&p->resolver, &err));
	OK(resolver_stop(&p->resolver, &err));
	assert_int_equal(fs_mkdir_p(p->run, 0755), 0);
	_cleanup_(free_ptr) char *pid = str_format("%d\n", getpid()), *path = str_format("%s/pid", p->run);
	assert_int_equal(fs_replace(path, pid, strlen(pid), 0644), 0);
	assert_int_equal(resolver_find(&p->resolver), -1);
}

/* Its user is not root, and must reach what it reads. */
static void test_user(void **state) {
	struct place *p = *state;
	_cleanup_(close_fd) int fd = -1;
	char path[64];
	struct stat st;
	int pid;
	_cleanup_(error_free) struct error refused = ERROR_INIT;
	assert_int_equal(chmod(p->dir, 0700), 0);
	assert_int_equal(resolver_start(&p->resolver, &fd, &refused), -ERROR_DENIED);
	assert_non_null(strstr(error_text(&refused), p->dir));
	assert_int_equal(chmod(p->dir, 0711), 0);
	OK(resolver_start(&p->resolver, &fd, &err));
	_cleanup_(buf_free) struct buf info = BUF_INIT;
	snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
	assert_int_equal(fs_read(path, 4096, &info), 0);
	assert_int_equal(sscanf(strstr(buf_str(&info), "\nPid:"), " Pid: %d", &pid), 1);
	snprintf(path, sizeof path, "/proc/%d", pid);
	assert_int_equal(stat(path, &st), 0);
	snprintf(path, sizeof path, "/proc/%d/status", pid);
	info.len = 0;
	assert_int_equal(fs_read(path, 8192, &info), 0);
	assert_null(strstr(buf_str(&info), "\nUid:\t0"));
}

/* A second network, whose names are asked of its own resolver. */
static void test_neighbours(void **state) {
	struct place *p = *state;
	struct network other = {.id = "d4", .spec = {.name = "back", .driver = "bridge", .dns = true, .domain = "back.wabe"}};
	struct subnet subnet = {.cidr = "10.98.0.0/24", .gateway = "10.98.0.1"};
	other.spec.subnets.items = &subnet;
	other.spec.subnets.n = 1;
	_cleanup_(free_ptr) char *run = str_format("%s/networks/d4", p->dir), *leases = str_format("%s/leases4", p->dir);
	char interface[16];
	network_bridge_name(TAG, &other, interface);
	struct resolver second = {run, leases, &other, interface, NULL};
	struct nic two = nic_of("10.98.0.6", NULL, NULL);
	OK(network_driver_find("bridge")->up(TAG, &other, &err));
	OK(resolver_start(&p->resolver, NULL, &err));
	OK(resolver_start(&second, NULL, &err));
	OK(resolver_host_set(&second, TWO, "two", &two, &err));
	answers_from("10.98.0.1", "two.back.wabe", A, "10.98.0.6");
	char *neighbours[] = {"back.wabe 10.98.0.1", NULL};
	p->resolver.neighbours = neighbours;
	_cleanup_(close_fd) int before = resolver_find(&p->resolver), after = -1;
	OK(resolver_start(&p->resolver, &after, &err));
	assert_true(same_process(before, after));
	answers("two.back.wabe", A, "10.98.0.6");
	OK(resolver_stop(&second, &err));
}

static void test_dhcp(void **state) {
	struct place *p = *state;
	_cleanup_(close_fd) int own = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC), inside = -1;
	struct nic one = nic_of("10.99.0.5", NULL, NULL), bare = nic_of(NULL, NULL, NULL);
	char *argv[] = {"busybox", "udhcpc", "-f", "-n", "-q", "-t", "5", "-T", "1", "-i", "eth0", "-s", "/bin/true", NULL};
	_cleanup_(buf_free) struct buf said = BUF_INIT, leases = BUF_INIT;
	struct proc client = {.argv = argv, .errors = &said};
	assert_int_equal(unshare(CLONE_NEWNET), 0);
	inside = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	assert_int_equal(setns(own, CLONE_NEWNET), 0);
	OK(resolver_start(&p->resolver, NULL, &err));
	OK(network_driver_find("bridge")->attach(TAG, &p->network, ONE, &bare, false, inside, &err));
	for (int i = 0; i < 2; i++) {
		OK(resolver_host_set(&p->resolver, ONE, "one", &one, &err));
		answers("one", A, one.ipv4); /* then it has read its files */
		assert_int_equal(setns(inside, CLONE_NEWNET), 0);
		buf_truncate(&said, 0);
		OK(proc_run(&client, &err));
		assert_int_equal(setns(own, CLONE_NEWNET), 0);
		_cleanup_(free_ptr) char *lease = str_format("lease of %s obtained", one.ipv4);
		if (client.status != 0 || !strstr(buf_str(&said), lease))
			fail_msg("no %s: %s", lease, buf_str(&said));
		one.ipv4 = "10.99.0.8"; /* then it gets another address */
	}
	_cleanup_(close_fd) int restarted = resolver_find(&p->resolver);
	assert_int_equal(syscall(SYS_pidfd_send_signal, restarted, SIGKILL, NULL, 0), 0);
	struct pollfd ended = {restarted, POLLIN, 0};
	assert_int_equal(poll(&ended, 1, 10000), 1);
	OK(resolver_start(&p->resolver, NULL, &err));
	answers("one", A, "10.99.0.8");
	assert_int_equal(fs_read(p->leases, 4096, &leases), 0);
	if (!strstr(buf_str(&leases), "02:00:0a:63:00:05 10.99.0.8 one"))
		fail_msg("no lease in: %s", buf_str(&leases));
}

int main(void) {
	if (geteuid() != 0) {
		print_message("1..0 # SKIP needs root for network name spaces\n");
		return 0;
	}
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_names, setup, teardown),
		cmocka_unit_test_setup_teardown(test_process, setup, teardown),
		cmocka_unit_test_setup_teardown(test_user, setup, teardown),
		cmocka_unit_test_setup_teardown(test_neighbours, setup, teardown),
		cmocka_unit_test_setup_teardown(test_dhcp, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
