/* Changes of the firewall while it runs: the table that they leave against the table that a load makes; balancers, flows of
 * UDP, spoofed frames; being told that the table has gone; and ports that are reserved. */
#include "firewall_world.h"

#include "base/json.h"

#include <linux/if_ether.h>
#include <sys/prctl.h>
#include <sys/wait.h>

/* ---- comparing tables ---- */

static int by_text(const void *a, const void *b) {
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static char *canonical(const json_t *value);

/* In any order: elements of a set come as their hashes do. */
static char *canonical_list(const json_t *list, bool sorted) {
	char **v = NULL;
	for (size_t i = 0; i < json_array_size(list); i++)
		strv_take(&v, canonical(json_array_get(list, i)));
	if (sorted && v)
		qsort(v, strv_len(v), sizeof *v, by_text);
	char *text = strv_join(v, ",");
	strv_free(v);
	return text;
}

static char *canonical(const json_t *value) {
	if (json_is_array(value))
		return canonical_list(value, false);
	if (!json_is_object(value))
		return json_dumps(value, JSON_ENCODE_ANY);
	char **v = NULL;
	const char *key;
	json_t *member;
	json_object_foreach((json_t *)value, key, member) {
		bool set = json_is_array(member) && (strcmp(key, "set") == 0 || strcmp(key, "elem") == 0);
		_cleanup_(free_ptr) char *text = set ? canonical_list(member, true) : canonical(member);
		if (strcmp(key, "handle") != 0)
			strv_take(&v, str_format("%s:%s", key, text));
	}
	char *text = strv_join(v, ";");
	strv_free(v);
	return text;
}

/* The order of rules counts, that of chains and sets does not. */
static void add_object(char ***lines, const json_t *object, size_t n) {
	const json_t *rule = json_object_get(object, "rule");
	_cleanup_(free_ptr) char *text = canonical(object);
	if (rule)
		strv_take(lines, str_format("rule %s %s %06zu %s", json_get_str(rule, "family"), json_get_str(rule, "chain"), n, text));
	else
		strv_take(lines, str_copy(text));
}

/* Numbers of rules count from the first of their own chain. */
static char *tables(void) {
	static const char *const families[] = {"bridge", "inet", "ip", "ip6"};
	char **lines = NULL;
	for (size_t f = 0; f < ARRAY_SIZE(families); f++) {
		_cleanup_(free_ptr) char *what = str_format("-j list table %s wabe_" TAG, families[f]);
		_cleanup_(strv_free_ptr) char **argv = strv_split(what, ' ');
		_cleanup_(buf_free) struct buf out = BUF_INIT;
		_cleanup_(error_free) struct error err = ERROR_INIT;
		char *full[8] = {"nft"};
		for (size_t i = 0; argv[i]; i++)
			full[i + 1] = argv[i];
		struct proc p = {.argv = full, .output = &out};
		expect(proc_run_ok(&p, &err), &err);
		_cleanup_(json_free_ptr) json_t *all = json_parse(buf_str(&out), out.len, &err);
		const char *last = "";
		for (size_t i = 1, n = 0; i < json_array_size(json_object_get(all, "nftables")); i++) {
			const json_t *o = json_array_get(json_object_get(all, "nftables"), i);
			const char *chain = json_get_str(json_object_get(o, "rule"), "chain") ?: "";
			n = strcmp(chain, last) == 0 ? n + 1 : 0;
			last = chain;
			add_object(&lines, o, n);
		}
	}
	qsort(lines, strv_len(lines), sizeof *lines, by_text);
	char *text = strv_join(lines, "\n");
	strv_free(lines);
	return text;
}

/* The table that a state's text makes, in a name space with nothing else. */
static char *rendered(const struct setup *u) {
	_cleanup_(buf_free) struct buf out = BUF_INIT;
	firewall_render(&u->s, &out);
	enter(OUTSIDE);
	nft(buf_str(&out));
	char *text = tables();
	nft("flush ruleset\n");
	enter(HOST);
	return text;
}

static void assert_as_rendered(const struct setup *u, const char *after) {
	_cleanup_(free_ptr) char *live = tables(), *whole = rendered(u);
	if (strcmp(live, whole) == 0)
		return;
	size_t at = 0;
	while (live[at] && live[at] == whole[at])
		at++;
	while (at && live[at - 1] != '\n')
		at--;
	fail_msg("after %s:\nlive: %.300s\nwhole: %.300s", after, live + at, whole + at);
}

#define change(u, call, what)                                  \
	do {                                                   \
		_cleanup_(error_free) struct error e_ = ERROR_INIT; \
		struct error *err = &e_;                       \
		expect(call, err);                             \
		assert_as_rendered(u, what);                   \
	} while (0)

/* The instances of a state as a list that grows: order A1, A2, B1. */
static void changes_lead_to_the_same_table(UNUSED void **state) {
	struct setup *u = setup_new();
	char detour[] = "ip link add wi" TAG " type veth peer name wo" TAG;
	enter(OUTSIDE);
	run("%s", detour);
	u->a.spec.ingress = "deny";
	u->b.spec.rules = (char *[]){(char *)GROUP_2, NULL};
	add_rule(u, 0, (struct rule){.direction = "ingress", .action = "allow", .source = "label:app=web", .protocol = "tcp", .ports = "80,443,440-450"});
	add_rule(u, 0, (struct rule){.direction = "egress", .action = "reject", .destination = "group:" GROUP_2, .protocol = "47"});
	add_rule(u, 1, (struct rule){.direction = "ingress", .action = "allow", .source = "network:" NET_A, .protocol = "icmp"});
	u->nics[A1].rules = u->nics[A2].rules = (char *[]){(char *)GROUP_1, NULL};
	add_port(u, A1, (struct port){.host_port = 8080, .port = 80, .count = 3, .protocol = "tcp"});
	add_port(u, A1, (struct port){.address = "198.51.100.1", .host_port = 53, .port = 53, .count = 1, .protocol = "udp"});
	add_port(u, B1, (struct port){.address = "2001:db8::1", .host_port = 8080, .port = 80, .count = 1, .protocol = "sctp"});
	u->s.n_instances = 0;
	load(u);
	assert_as_rendered(u, "a load");
	for (size_t i = 0; i < 3; i++) {
		u->s.n_instances = i + 1;
		change(u, firewall_instance_add(&u->s, &u->instances[i], err), "an instance");
		change(u, firewall_instance_add(&u->s, &u->instances[i], err), "the same again");
	}
	u->members[0] = (struct firewall_members){.peer = "label:app=web", .addresses = (char *[]){"10.84.0.2", "fd00:84::2", NULL}};
	u->s.n_members = 1;
	change(u, firewall_members_set(&u->s, &u->members[0], err), "members");
	u->members[0].addresses = (char *[]){"10.84.0.3", NULL};
	change(u, firewall_members_set(&u->s, &u->members[0], err), "other members");
	u->rules[0][0].source = "label:app=other";
	change(u, firewall_group_set(&u->s, &u->group[0], err), "a group with another label");
	u->members[0].addresses = NULL;
	change(u, firewall_members_set(&u->s, &u->members[0], err), "no members of a label that no rule has");
	u->balancer = (struct balancer){.id = (char *)GROUP_2, .backends = (char *[]){"10.84.0.2", "fd00:84::2", "10.84.0.3", NULL},
					.spec = {.host_port = 9000, .port = 80, .protocol = "tcp"}};
	u->s.n_balancers = 1;
	change(u, firewall_balancer_set(&u->s, &u->balancer, err), "a balancer");
	u->balancer.backends = (char *[]){"10.84.0.3", NULL};
	u->balancer.spec.affinity = "source";
	change(u, firewall_balancer_set(&u->s, &u->balancer, err), "one with a target of IPv4 alone");
	u->balancer.backends = NULL;
	change(u, firewall_balancer_set(&u->s, &u->balancer, err), "one without targets");
	u->s.n_balancers = 0;
	change(u, firewall_balancer_remove(&u->s, &u->balancer, err), "none");
	u->balancer = (struct balancer){.id = (char *)GROUP_2, .backends = (char *[]){"10.84.0.2", "fd00:84::2", "10.84.0.3", NULL},
					.spec = {.inside = true, .address = "10.84.0.77", .affinity = "none"}};
	u->s.n_balancers = 1;
	change(u, firewall_balancer_set(&u->s, &u->balancer, err), "one inside");
	u->balancer.backends = NULL;
	change(u, firewall_balancer_set(&u->s, &u->balancer, err), "one inside without targets");
	u->s.n_balancers = 0;
	change(u, firewall_balancer_remove(&u->s, &u->balancer, err), "none inside");
	for (size_t i = 3; i-- > 0;) {
		u->s.n_instances = i;
		change(u, firewall_instance_remove(&u->s, &u->instances[i], err), "an instance less");
		change(u, firewall_instance_remove(&u->s, &u->instances[i], err), "the same less again");
	}
	u->s.n_groups = 1;
	u->b.spec.rules = NULL;
	load(u);
	u->s.n_groups = 0;
	change(u, firewall_group_set(&u->s, &u->group[0], err), "a group less");
	enter(OUTSIDE);
	run("ip link del wi" TAG);
	unload(u);
}

/* What cannot be is refused, and nothing has changed. */
static void refused_changes(UNUSED void **state) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct setup *u = setup_new();
	load(u);
	_cleanup_(free_ptr) char *before = tables();
	u->nics[A1].rules = (char *[]){(char *)GROUP_1, NULL};
	assert_int_equal(firewall_instance_add(&u->s, instance_of(u, A1), &err), -ERROR_NOT_FOUND);
	assert_non_null(strstr(error_text(&err), GROUP_1));
	u->nics[A1].rules = NULL;
	add_port(u, A1, (struct port){.host_port = 8080, .port = 80, .count = 1, .protocol = "tcp"});
	add_port(u, A2, (struct port){.host_port = 8080, .port = 81, .count = 1, .protocol = "tcp"});
	u->s.n_instances = 0;
	load(u);
	expect(firewall_instance_add(&u->s, instance_of(u, A1), &err), &err);
	_cleanup_(free_ptr) char *one = tables();
	assert_true(firewall_instance_add(&u->s, instance_of(u, A2), &err) < 0); /* another's port */
	_cleanup_(free_ptr) char *after = tables();
	assert_string_equal(one, after);
	assert_string_not_equal(one, before);
	unload(u);
}

/* ---- balancers and flows ---- */

/* Which of two servers gets a connection; -1: none. */
static int choose(int port, const int servers[2]) {
	struct pollfd p[2] = {{servers[0], POLLIN, 0}, {servers[1], POLLIN, 0}};
	int fd = call(OUTSIDE, addresses4[HOST], SOCK_STREAM, port), chosen = -1;
	if (RETRY_EINTR(poll(p, 2, patience)) > 0) {
		chosen = p[1].revents & POLLIN ? 1 : 0;
		close(accept(servers[chosen], NULL, NULL));
	}
	close(fd);
	return chosen;
}

static void balancer_spreads(UNUSED void **state) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct setup *u = setup_new();
	int servers[2] = {serve(A1, SOCK_STREAM, 80), serve(A2, SOCK_STREAM, 80)}, hits[2] = {0};
	u->balancer = (struct balancer){.id = (char *)GROUP_1, .backends = (char *[]){"10.84.0.2", "10.84.0.3", NULL},
					.spec = {.host_port = 9000, .port = 80, .protocol = "tcp"}};
	u->s.n_balancers = 1;
	load(u);
	for (int i = 0; i < 64; i++) {
		int chosen = choose(9000, servers);
		assert_in_range(chosen, 0, 1);
		hits[chosen]++;
	}
	assert_int_equal(hits[0] + hits[1], 64);
	assert_in_range(hits[0], 8, 56); /* all but impossible otherwise: less than one in 10^10 */
	u->balancer.spec.affinity = "source";
	expect(firewall_balancer_set(&u->s, &u->balancer, &err), &err);
	int first = choose(9000, servers);
	for (int i = 0; i < 16; i++)
		assert_int_equal(choose(9000, servers), first);
	u->balancer.backends = first ? (char *[]){"10.84.0.2", NULL} : (char *[]){"10.84.0.3", NULL};
	expect(firewall_balancer_set(&u->s, &u->balancer, &err), &err);
	assert_int_equal(choose(9000, servers), !first);
	u->balancer.backends = (char *[]){"10.84.0.3", "10.84.0.2", NULL}; /* and back, in another order */
	expect(firewall_balancer_set(&u->s, &u->balancer, &err), &err);
	assert_int_equal(choose(9000, servers), first);
	expect(firewall_balancer_remove(&u->s, &u->balancer, &err), &err);
	patience = QUIET_MS;
	assert_int_equal(choose(9000, servers), -1);
	patience = WAIT_MS;
	close(servers[0]);
	close(servers[1]);
	unload(u);
}

/* A sender that goes on sending meets the new target, and none that has gone. */
static void flows_of_udp_follow(UNUSED void **state) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct setup *u = setup_new();
	int one = serve(A1, SOCK_DGRAM, 53), two = serve(A2, SOCK_DGRAM, 53), out = serve(OUTSIDE, SOCK_DGRAM, 5300);
	struct port port = {.host_port = 5300, .port = 53, .count = 1, .protocol = "udp"};
	add_port(u, A1, port);
	add_port(u, A2, port);
	u->s.n_instances = 0;
	load(u);
	int fd = call(OUTSIDE, addresses4[HOST], SOCK_DGRAM, 5300), other = call(B1, addresses4[OUTSIDE], SOCK_DGRAM, 5300);
	assert_from(udp_on(other, out), addresses4[HOST]); /* to such a port, but not of the host */
	assert_nobody(udp_on(fd, one)); /* before there is anything: refused, and remembered */
	(void)socket_error(fd);
	expect(firewall_instance_add(&u->s, instance_of(u, A1), &err), &err);
	assert_from(udp_on(fd, one), addresses4[OUTSIDE]);
	expect(firewall_instance_remove(&u->s, instance_of(u, A1), &err), &err);
	expect(firewall_instance_add(&u->s, instance_of(u, A2), &err), &err);
	assert_from(udp_on(fd, two), addresses4[OUTSIDE]);
	expect(firewall_instance_remove(&u->s, instance_of(u, A2), &err), &err);
	assert_nobody(udp_on(fd, two));
	(void)socket_error(fd);
	u->balancer = (struct balancer){.id = (char *)GROUP_1, .backends = (char *[]){"10.84.0.2", NULL},
					.spec = {.host_port = 5300, .port = 53, .protocol = "udp"}};
	u->s.n_balancers = 1;
	expect(firewall_balancer_set(&u->s, &u->balancer, &err), &err);
	assert_from(udp_on(fd, one), addresses4[OUTSIDE]);
	u->balancer.backends = (char *[]){"10.84.0.3", NULL};
	expect(firewall_balancer_set(&u->s, &u->balancer, &err), &err);
	assert_from(udp_on(fd, two), addresses4[OUTSIDE]);
	assert_from(udp_on(other, out), addresses4[HOST]);
	close(fd);
	close(other);
	close(one);
	close(two);
	close(out);
	unload(u);
}

/* ---- spoofing ---- */

struct frame {
	uint8_t bytes[128];
	size_t n;
};

static void frame_begin(struct frame *f, const char *to, const char *from, uint16_t type) {
	unsigned b[12];
	*f = (struct frame){.n = 14};
	assert_int_equal(sscanf(to, "%x:%x:%x:%x:%x:%x", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5]), 6);
	assert_int_equal(sscanf(from, "%x:%x:%x:%x:%x:%x", &b[6], &b[7], &b[8], &b[9], &b[10], &b[11]), 6);
	for (size_t i = 0; i < 12; i++)
		f->bytes[i] = (uint8_t)b[i];
	f->bytes[12] = (uint8_t)(type >> 8);
	f->bytes[13] = (uint8_t)type;
}

static void frame_add(struct frame *f, const void *data, size_t n) {
	assert_true(f->n + n <= sizeof f->bytes);
	memcpy(f->bytes + f->n, data, n);
	f->n += n;
}

static void frame_address(struct frame *f, const char *text) {
	struct ip ip;
	assert_int_equal(ip_parse(text, &ip), 0);
	frame_add(f, ip.bytes, ip.family == AF_INET ? 4 : 16);
}

static struct frame ip4_frame(const char *mac, const char *source) {
	static const uint8_t header[12] = {0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0}, udp_header[8] = {0, 1, 0, 2, 0, 8, 0, 0};
	struct frame f;
	frame_begin(&f, macs[A2], mac, ETH_P_IP);
	frame_add(&f, header, sizeof header);
	frame_address(&f, source);
	frame_address(&f, addresses4[A2]);
	frame_add(&f, udp_header, sizeof udp_header);
	return f;
}

static struct frame ip6_frame(const char *source, const char *target) {
	static const uint8_t header[8] = {0x60, 0, 0, 0, 0, 24, 58, 255}, advert[8] = {136, 0, 0, 0, 0x20, 0, 0, 0};
	struct frame f;
	frame_begin(&f, macs[A2], macs[A1], ETH_P_IPV6);
	frame_add(&f, header, sizeof header);
	frame_address(&f, source);
	frame_address(&f, addresses6[A2]);
	frame_add(&f, advert, sizeof advert);
	frame_address(&f, target);
	return f;
}

static struct frame arp_frame(const char *sender_mac, const char *sender_ip) {
	static const uint8_t header[8] = {0, 1, 8, 0, 6, 4, 0, 2};
	struct frame f, mac;
	frame_begin(&f, "ff:ff:ff:ff:ff:ff", macs[A1], ETH_P_ARP);
	frame_begin(&mac, macs[A2], sender_mac, 0);
	frame_add(&f, header, sizeof header);
	frame_add(&f, mac.bytes + 6, 6);
	frame_address(&f, sender_ip);
	frame_add(&f, mac.bytes, 6);
	frame_address(&f, addresses4[A2]);
	return f;
}

static struct frame rarp_frame(const char *mac, uint8_t operation) {
	const uint8_t header[8] = {0, 1, 8, 0, 6, 4, 0, operation}, none[4] = {0};
	struct frame f, own;
	frame_begin(&f, "ff:ff:ff:ff:ff:ff", mac, ETH_P_RARP);
	frame_begin(&own, macs[A2], mac, 0);
	frame_add(&f, header, sizeof header);
	for (int i = 0; i < 2; i++) {
		frame_add(&f, own.bytes + 6, 6);
		frame_add(&f, none, sizeof none);
	}
	return f;
}

static int packet_socket(enum place p) {
	enter(p);
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, htons(ETH_P_ALL));
	struct sockaddr_ll a = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = (int)if_nametoindex("eth0")};
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
	enter(HOST);
	return fd;
}

/* Whether a frame that A1 sends comes to A2. */
static bool arrives(struct frame f, int ms) {
	int from = packet_socket(A1), to = packet_socket(A2);
	uint8_t got[2048];
	bool found = false;
	assert_int_equal(send(from, f.bytes, f.n, 0), f.n);
	while (!found && ready(to, POLLIN, ms)) {
		ssize_t n = recv(to, got, sizeof got, 0);
		found = n >= (ssize_t)f.n && memcmp(got, f.bytes, f.n) == 0;
	}
	close(from);
	close(to);
	return found;
}

static void check_frames(bool spoofed) {
	static const char stranger[] = "02:00:00:00:00:99";
	int ms = spoofed ? WAIT_MS : QUIET_MS;
	struct frame tagged = ip4_frame(macs[A1], "10.84.0.77");
	memmove(tagged.bytes + 16, tagged.bytes + 12, tagged.n - 12); /* priority 0, VLAN 0 */
	memcpy(tagged.bytes + 12, (uint8_t[]){0x81, 0, 0, 0}, 4);
	tagged.n += 4;
	assert_true(arrives(ip4_frame(macs[A1], addresses4[A1]), WAIT_MS));
	assert_true(arrives(ip6_frame(addresses6[A1], addresses6[A1]), WAIT_MS));
	assert_true(arrives(ip6_frame("fe80::aff:fe54:2", addresses6[A1]), WAIT_MS));
	assert_true(arrives(arp_frame(macs[A1], addresses4[A1]), WAIT_MS));
	assert_true(arrives(rarp_frame(macs[A1], 3), WAIT_MS));
	assert_int_equal(arrives(rarp_frame(macs[A1], 4), ms), spoofed);
	assert_int_equal(arrives(rarp_frame(stranger, 3), ms), spoofed);
	assert_int_equal(arrives(ip4_frame(stranger, addresses4[A1]), ms), spoofed);
	assert_int_equal(arrives(ip4_frame(macs[A1], "10.84.0.77"), ms), spoofed);
	assert_int_equal(arrives(ip6_frame("fd00:84::77", addresses6[A1]), ms), spoofed);
	assert_int_equal(arrives(ip6_frame("fe80::1234", addresses6[A1]), ms), spoofed);
	assert_int_equal(arrives(ip6_frame(addresses6[A1], "fd00:84::1"), ms), spoofed);
	assert_int_equal(arrives(arp_frame(macs[A1], "10.84.0.1"), ms), spoofed);
	assert_int_equal(arrives(arp_frame(stranger, addresses4[A1]), ms), spoofed);
	if (!spoofed)
		assert_false(arrives(tagged, QUIET_MS));
}

static void spoofed_frames(UNUSED void **state) {
	struct setup *u = setup_new();
	load(u);
	check_frames(false);
	u->nics[A1].allow_spoofing = true;
	load(u);
	check_frames(true);
	unload(u);
}

/* ---- watching ---- */

static void gone_table_is_seen(UNUSED void **state) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct setup *u = setup_new();
	int fd = firewall_watch_open(&err);
	expect(fd, &err);
	load(u);
	assert_true(ready(fd, POLLIN, WAIT_MS));
	assert_int_equal(firewall_watch_read(fd, TAG), 0); /* our own */
	load(u);
	assert_int_equal(firewall_watch_read(fd, TAG), 0);
	nft("table inet other { }\n");
	nft("delete table inet other\n");
	assert_int_equal(firewall_watch_read(fd, TAG), 0);
	assert_false(ready(fd, POLLIN, 0));
	nft("flush ruleset\n");
	assert_true(ready(fd, POLLIN, WAIT_MS));
	assert_int_equal(firewall_watch_read(fd, TAG), 1);
	assert_false(firewall_present(TAG));
	load(u);
	assert_int_equal(firewall_watch_read(fd, TAG), 0);
	close(fd);
	unload(u);
}

/* ---- ports ---- */

static void close_all(int *fds, size_t n) {
	for (size_t i = 0; i < n; i++)
		close(fds[i]);
	free(fds);
}

/* A reservation fails with words for a person. */
static void assert_refused(struct port port, enum error_kind kind, const char *words) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	int *fds = NULL;
	size_t n = 0;
	assert_int_equal(ports_reserve(&port, 1, &fds, &n, &err), -(int)kind);
	if (!strstr(error_text(&err), words))
		fail_msg("\"%s\" is not in: %s", words, error_text(&err));
	assert_null(fds);
}

static void assert_taken(struct port port, const char *words) {
	assert_refused(port, ERROR_CONFLICT, words);
}

static void ports_are_reserved(UNUSED void **state) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	enter(HOST);
	struct port tcp_port = {.host_port = 8080, .port = 80, .count = 3, .protocol = "tcp"};
	struct port both[] = {tcp_port, {.host_port = 8080, .port = 80, .count = 1, .protocol = "udp"},
			      {.host_port = 8080, .port = 80, .count = 1, .protocol = "sctp"}};
	_cleanup_(free_ptr) char *self = str_format("(pid %d)", (int)getpid());
	int *fds = NULL, server = serve(HOST, SOCK_STREAM, 8082);
	size_t n = 0;
	assert_taken(tcp_port, self);
	assert_taken(tcp_port, "8082/tcp");
	close(server);
	expect(ports_reserve(both, 3, &fds, &n, &err), &err);
	assert_true(n >= 4);
	server = socket_in(HOST, AF_INET, SOCK_STREAM);
	union endpoint a;
	socklen_t length = address("127.0.0.1", 8081, &a);
	assert_int_equal(bind(server, &a.any, length), -1);
	assert_int_equal(errno, EADDRINUSE);
	close(server);
	assert_taken(both[1], self);
	assert_taken(tcp_port, "another program");
	prctl(PR_SET_NAME, "wabe-shim");
	assert_taken(tcp_port, self);
	close_all(fds, n);
	assert_refused((struct port){.address = "203.0.113.1", .host_port = 1, .port = 1, .count = 1}, ERROR_INVALID, "203.0.113.1");
	both[0].address = "127.0.0.1";
	expect(ports_reserve(both, 1, &fds, &n, &err), &err);
	close_all(fds, n);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(changes_lead_to_the_same_table),
		cmocka_unit_test(refused_changes),
		cmocka_unit_test(balancer_spreads),
		cmocka_unit_test(flows_of_udp_follow),
		cmocka_unit_test(spoofed_frames),
		cmocka_unit_test(gone_table_is_seen),
		cmocka_unit_test(ports_are_reserved),
	};
	return cmocka_run_group_tests(tests, make_world, NULL);
}
