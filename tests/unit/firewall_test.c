/* The firewall on real packets: what comes through, from where, and as whom. */
#include "firewall_world.h"

/* ---- published ports ---- */

static int refused(enum place from, const char *to, int port) {
	int fd = call(from, to, SOCK_STREAM, port), r = connected(fd, patience);
	close(fd);
	return r;
}

static void check_directions(int t, int u) {
	assert_from(tcp(OUTSIDE, addresses4[HOST], 8080, t), addresses4[OUTSIDE]);
	assert_from(tcp(OUTSIDE, addresses6[HOST], 8080, t), addresses6[OUTSIDE]);
	assert_from(udp(OUTSIDE, addresses4[HOST], 5300, u), addresses4[OUTSIDE]);
	assert_from(udp(OUTSIDE, addresses6[HOST], 5300, u), addresses6[OUTSIDE]);
	assert_from(tcp(HOST, addresses4[HOST], 8080, t), addresses4[HOST]);
	assert_from(tcp(HOST, "127.0.0.1", 8080, t), "10.84.0.1");
	assert_from(udp(HOST, "127.0.0.1", 5300, u), "10.84.0.1");
	assert_from(tcp(HOST, addresses6[HOST], 8080, t), addresses6[HOST]);
	assert_int_equal(refused(HOST, "::1", 8080), ECONNREFUSED); /* not possible, but not silent */
	assert_from(tcp(B1, addresses4[HOST], 8080, t), addresses4[B1]);
	assert_from(tcp(B1, addresses6[HOST], 8080, t), addresses6[B1]);
	assert_non_null(tcp(A2, addresses4[HOST], 8080, t)); /* as the host, or as itself where the bridge translates */
	assert_non_null(tcp(A2, "10.84.0.1", 8080, t));
	assert_non_null(udp(A2, addresses6[HOST], 5300, u));
	assert_non_null(tcp(A1, addresses4[HOST], 8080, t));
	assert_non_null(udp(A1, addresses4[HOST], 5300, u));
	assert_non_null(tcp(A1, addresses6[HOST], 8080, t));
}

static void published_from_everywhere(UNUSED void **state) {
	struct setup *u = setup_new();
	add_port(u, A1, (struct port){.host_port = 8080, .port = 80, .count = 1, .protocol = "tcp"});
	add_port(u, A1, (struct port){.host_port = 5300, .port = 53, .count = 1, .protocol = "udp"});
	int t = serve(A1, SOCK_STREAM, 80), d = serve(A1, SOCK_DGRAM, 53);
	load(u);
	check_directions(t, d);
	set_bridge_filter("1");
	check_directions(t, d);
	set_bridge_filter("0");
	u->a.spec.publish = "open";
	load(u);
	check_directions(t, d);
	close(t);
	close(d);
	unload(u);
}

/* One address of the host and not another; several ports in a row. */
static void ranges_and_addresses(UNUSED void **state) {
	struct setup *u = setup_new();
	add_port(u, A1, (struct port){.address = "198.51.100.1", .host_port = 8100, .port = 90, .count = 3, .protocol = "tcp"});
	add_port(u, A1, (struct port){.address = "127.0.0.1", .host_port = 8200, .port = 91, .count = 1, .protocol = "tcp"});
	add_port(u, A1, (struct port){.address = "2001:db8::1", .host_port = 8300, .port = 91, .count = 1, .protocol = "tcp"});
	int t[3] = {serve(A1, SOCK_STREAM, 90), serve(A1, SOCK_STREAM, 91), serve(A1, SOCK_STREAM, 92)};
	load(u);
	for (int i = 0; i < 3; i++)
		assert_from(tcp(OUTSIDE, addresses4[HOST], 8100 + i, t[i]), addresses4[OUTSIDE]);
	assert_nobody(tcp(HOST, "127.0.0.1", 8101, t[1]));
	assert_nobody(tcp(OUTSIDE, addresses6[HOST], 8101, t[1]));
	assert_nobody(tcp(OUTSIDE, addresses4[HOST], 8103, t[2]));
	assert_from(tcp(HOST, "127.0.0.1", 8200, t[1]), "10.84.0.1");
	assert_nobody(tcp(OUTSIDE, addresses4[HOST], 8200, t[1]));
	assert_from(tcp(OUTSIDE, addresses6[HOST], 8300, t[1]), addresses6[OUTSIDE]);
	assert_nobody(tcp(OUTSIDE, addresses4[HOST], 8300, t[1]));
	for (int i = 0; i < 3; i++)
		close(t[i]);
	unload(u);
}

static const char foreign[] = "table inet foreign {\n"
			      "	chain input {\n"
			      "		type filter hook input priority 0; policy accept;\n"
			      "		iifname \"uplink\" tcp dport 8080 drop\n"
			      "		iifname \"uplink\" udp dport 5300 drop\n"
			      "	}\n"
			      "}\n";

/* The host's own firewall says no; it is asked for ports with policy host alone, and is as it was. */
static void host_firewall_decides(UNUSED void **state) {
	struct setup *u = setup_new();
	add_port(u, A1, (struct port){.host_port = 8080, .port = 80, .count = 1, .protocol = "tcp"});
	add_port(u, A1, (struct port){.host_port = 5300, .port = 53, .count = 1, .protocol = "udp"});
	int t = serve(A1, SOCK_STREAM, 80), d = serve(A1, SOCK_DGRAM, 53);
	nft(foreign);
	_cleanup_(free_ptr) char *before = ruleset("ruleset");
	load(u);
	for (int i = 0; i < 2; i++) {
		assert_nobody(tcp(OUTSIDE, addresses4[HOST], 8080, t));
		assert_nobody(tcp(OUTSIDE, addresses6[HOST], 8080, t));
		assert_nobody(udp(OUTSIDE, addresses4[HOST], 5300, d));
		assert_from(tcp(HOST, "127.0.0.1", 8080, t), "10.84.0.1");
		assert_from(tcp(B1, addresses4[HOST], 8080, t), addresses4[B1]);
		nft("delete table inet foreign\n"); /* a reload */
		assert_from(tcp(OUTSIDE, addresses4[HOST], 8080, t), addresses4[OUTSIDE]);
		nft(foreign);
	}
	u->a.spec.publish = "open";
	load(u);
	assert_from(tcp(OUTSIDE, addresses4[HOST], 8080, t), addresses4[OUTSIDE]);
	assert_from(tcp(OUTSIDE, addresses6[HOST], 8080, t), addresses6[OUTSIDE]);
	assert_from(udp(OUTSIDE, addresses4[HOST], 5300, d), addresses4[OUTSIDE]);
	close(t);
	close(d);
	unload(u);
	_cleanup_(free_ptr) char *after = ruleset("ruleset");
	assert_string_equal(before, after);
	nft("delete table inet foreign\n");
}

/* ---- networks ---- */

static void traffic_between(UNUSED void **state) {
	struct setup *u = setup_new();
	int out = serve(OUTSIDE, SOCK_STREAM, 80), a2 = serve(A2, SOCK_STREAM, 80), b = serve(B1, SOCK_STREAM, 80);
	load(u);
	assert_from(tcp(A1, addresses4[OUTSIDE], 80, out), addresses4[HOST]);
	assert_from(tcp(A1, addresses6[OUTSIDE], 80, out), addresses6[HOST]);
	assert_from(tcp(A1, addresses4[A2], 80, a2), addresses4[A1]);
	assert_from(tcp(A1, addresses4[B1], 80, b), addresses4[A1]);
	assert_from(tcp(A1, addresses6[B1], 80, b), addresses6[A1]);
	u->a.spec.nat = false;
	load(u);
	assert_from(tcp(A1, addresses4[OUTSIDE], 80, out), addresses4[A1]);
	assert_from(tcp(OUTSIDE, addresses4[B1], 80, b), addresses4[OUTSIDE]);
	close(out);
	close(a2);
	close(b);
	unload(u);
}

static void internal_network(UNUSED void **state) {
	struct setup *u = setup_new();
	u->b.spec.internal = true;
	add_port(u, B1, (struct port){.host_port = 8080, .port = 80, .count = 1, .protocol = "tcp"});
	int out = serve(OUTSIDE, SOCK_STREAM, 80), a1 = serve(A1, SOCK_STREAM, 80), b = serve(B1, SOCK_STREAM, 80);
	int dns = serve(HOST, SOCK_DGRAM, 53);
	load(u);
	assert_nobody(tcp(B1, addresses4[OUTSIDE], 80, out));
	assert_nobody(tcp(B1, addresses6[OUTSIDE], 80, out));
	assert_nobody(tcp(B1, addresses4[A1], 80, a1));
	assert_nobody(tcp(A1, addresses4[B1], 80, b));
	assert_nobody(tcp(A1, addresses6[B1], 80, b));
	assert_nobody(tcp(OUTSIDE, addresses4[B1], 80, b));
	assert_nobody(tcp(OUTSIDE, addresses4[HOST], 8080, b));
	assert_from(udp(B1, "10.85.0.1", 53, dns), addresses4[B1]);
	assert_from(tcp(HOST, addresses4[B1], 80, b), "10.85.0.1");
	close(out);
	close(a1);
	close(b);
	close(dns);
	unload(u);
}

/* The bridge's ports are isolated by their flag; what an instance sends to the gateway's MAC is for the table. */
static void isolated_network(UNUSED void **state) {
	struct setup *u = setup_new();
	int a2 = serve(A2, SOCK_STREAM, 80);
	enter(A1);
	run("ip route replace %s via 10.84.0.1", addresses4[A2]);
	load(u);
	assert_from(tcp(A1, addresses4[A2], 80, a2), addresses4[A1]);
	u->a.spec.isolated = true;
	load(u);
	assert_nobody(tcp(A1, addresses4[A2], 80, a2));
	enter(A1);
	run("ip route del %s", addresses4[A2]);
	close(a2);
	unload(u);
}

/* Services of the host that listen on 127.0.0.1 are not reached by instances. */
static void loopback_is_the_hosts(UNUSED void **state) {
	struct setup *u = setup_new();
	int server = serve(HOST, SOCK_STREAM, 80);
	enter(A1);
	run("ip addr del 127.0.0.1/8 dev lo");
	run("ip route add 127.0.0.0/8 via 10.84.0.1");
	fs_write_value("/proc/sys/net/ipv4/conf/eth0/route_localnet", "1");
	load(u);
	assert_nobody(tcp(A1, "127.0.0.1", 80, server));
	enter(A1);
	run("ip route del 127.0.0.0/8 via 10.84.0.1");
	run("ip addr add 127.0.0.1/8 dev lo");
	close(server);
	unload(u);
}

/* ---- rules ---- */

static void rules_of_an_instance(UNUSED void **state) {
	struct setup *u = setup_new();
	int http = serve(A2, SOCK_STREAM, 80), other = serve(A2, SOCK_STREAM, 81), out = serve(OUTSIDE, SOCK_STREAM, 80);
	int dns = serve(HOST, SOCK_DGRAM, 53);
	u->nics[A2].rules = (char *[]){(char *)GROUP_1, NULL};
	u->a.spec.ingress = u->a.spec.egress = "deny";
	add_rule(u, 0, (struct rule){.direction = "ingress", .action = "reject", .protocol = "tcp", .ports = "82"});
	add_rule(u, 0, (struct rule){.direction = "ingress", .action = "deny", .source = (char *)addresses4[OUTSIDE]});
	add_rule(u, 0, (struct rule){.direction = "ingress", .action = "allow", .protocol = "tcp", .ports = "80,8000-8010"});
	add_rule(u, 0, (struct rule){.direction = "ingress", .action = "allow", .protocol = "icmp"});
	add_rule(u, 0, (struct rule){.direction = "egress", .action = "allow", .protocol = "tcp", .destination = "198.51.100.0/24"});
	load(u);
	assert_from(tcp(B1, addresses4[A2], 80, http), addresses4[B1]);
	assert_from(tcp(B1, addresses6[A2], 80, http), addresses6[B1]);
	assert_nobody(tcp(B1, addresses4[A2], 81, other));
	assert_nobody(tcp(OUTSIDE, addresses4[A2], 80, http));
	assert_int_equal(refused(B1, addresses4[A2], 82), ECONNREFUSED);
	assert_int_equal(refused(B1, addresses6[A2], 82), ECONNREFUSED);
	patience = QUIET_MS;
	assert_int_equal(refused(B1, addresses4[A2], 83), ETIMEDOUT);
	patience = WAIT_MS;
	assert_from(tcp(A2, addresses4[OUTSIDE], 80, out), addresses4[HOST]); /* the answers are let in */
	assert_nobody(tcp(A2, addresses6[OUTSIDE], 80, out));
	assert_from(udp(A2, "10.84.0.1", 53, dns), addresses4[A2]);
	enter(B1);
	run("busybox ping -c 1 -W 2 %s", addresses4[A2]);
	run("busybox ping -c 1 -W 2 %s", addresses6[A2]);
	close(http);
	close(other);
	close(out);
	close(dns);
	unload(u);
}

/* Within one bridge, by sets of members; a link-local address is the instance too. */
static void rules_within_a_bridge(UNUSED void **state) {
	struct setup *u = setup_new();
	int http = serve(A2, SOCK_STREAM, 80), plain = serve(A1, SOCK_STREAM, 80);
	u->nics[A2].rules = (char *[]){(char *)GROUP_1, NULL};
	u->members[0] = (struct firewall_members){.peer = "label:tier=front end", .addresses = (char *[]){(char *)addresses4[A1], NULL}};
	u->s.n_members = 1;
	add_rule(u, 0, (struct rule){.direction = "ingress", .action = "allow", .protocol = "tcp", .source = "label:tier=front end"});
	add_rule(u, 0, (struct rule){.direction = "ingress", .action = "allow", .protocol = "tcp", .source = "network:" NET_B});
	add_rule(u, 0, (struct rule){.direction = "ingress", .action = "deny"});
	load(u);
	assert_from(tcp(A1, addresses4[A2], 80, http), addresses4[A1]);
	assert_nobody(tcp(A1, addresses6[A2], 80, http));
	assert_from(tcp(B1, addresses6[A2], 80, http), addresses6[B1]);
	assert_nobody(tcp(HOST, addresses4[A2], 80, http));
	assert_from(tcp(A2, addresses4[A1], 80, plain), addresses4[A2]);
	enter(A1);
	int fd = call(A1, addresses4[A2], SOCK_STREAM, 80); /* belongs to what was let through, whatever the rules say now */
	assert_int_equal(connected(fd, WAIT_MS), 0);
	u->members[0].addresses = NULL;
	enter(HOST);
	_cleanup_(error_free) struct error err = ERROR_INIT;
	expect(firewall_members_set(&u->s, &u->members[0], &err), &err);
	int other = accept(http, NULL, NULL);
	assert_int_equal(send(other, "ok", 2, 0), 2);
	assert_true(ready(fd, POLLIN, WAIT_MS));
	close(other);
	assert_nobody(tcp(A1, addresses4[A2], 80, http));
	close(fd);
	close(http);
	close(plain);
	unload(u);
}

/* To be let out is not to be let in: both ends are asked, also on one bridge. */
static void rules_of_both_ends(UNUSED void **state) {
	struct setup *u = setup_new();
	int a2 = serve(A2, SOCK_STREAM, 80), b = serve(B1, SOCK_STREAM, 80);
	u->nics[A1].rules = (char *[]){(char *)GROUP_1, NULL};
	add_rule(u, 0, (struct rule){.direction = "egress", .action = "allow", .protocol = "tcp", .ports = "80"});
	add_rule(u, 0, (struct rule){.direction = "egress", .action = "deny"});
	add_rule(u, 1, (struct rule){.direction = "ingress", .action = "deny", .source = (char *)addresses4[A1]});
	load(u);
	assert_from(tcp(A1, addresses4[A2], 80, a2), addresses4[A1]);
	assert_from(tcp(A1, addresses4[B1], 80, b), addresses4[A1]);
	u->nics[A2].rules = (char *[]){(char *)GROUP_2, NULL};
	u->b.spec.rules = (char *[]){(char *)GROUP_2, NULL};
	load(u);
	assert_nobody(tcp(A1, addresses4[A2], 80, a2));
	assert_nobody(tcp(A1, addresses4[B1], 80, b));
	assert_from(tcp(A1, addresses6[A2], 80, a2), addresses6[A1]);
	assert_from(tcp(OUTSIDE, addresses4[B1], 80, b), addresses4[OUTSIDE]);
	close(a2);
	close(b);
	unload(u);
}

/* A client learns that nobody serves the port inside, by TCP's reset and by an error of ICMP that is translated back. */
static void errors_come_back(UNUSED void **state) {
	struct setup *u = setup_new();
	add_port(u, A1, (struct port){.host_port = 8080, .port = 80, .count = 1, .protocol = "tcp"});
	add_port(u, A1, (struct port){.host_port = 5300, .port = 53, .count = 1, .protocol = "udp"});
	load(u);
	for (int i = 0; i < 2; i++) {
		const char *host = i ? addresses6[HOST] : addresses4[HOST];
		assert_int_equal(refused(OUTSIDE, host, 8080), ECONNREFUSED);
		int fd = call(OUTSIDE, host, SOCK_DGRAM, 5300);
		assert_int_equal(send(fd, "hi", 2, 0), 2);
		assert_true(ready(fd, POLLIN, WAIT_MS));
		assert_int_equal(socket_error(fd), ECONNREFUSED);
		close(fd);
	}
	unload(u);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(published_from_everywhere),
		cmocka_unit_test(ranges_and_addresses),
		cmocka_unit_test(host_firewall_decides),
		cmocka_unit_test(traffic_between),
		cmocka_unit_test(internal_network),
		cmocka_unit_test(isolated_network),
		cmocka_unit_test(loopback_is_the_hosts),
		cmocka_unit_test(rules_of_an_instance),
		cmocka_unit_test(rules_within_a_bridge),
		cmocka_unit_test(rules_of_both_ends),
		cmocka_unit_test(errors_come_back),
	};
	return cmocka_run_group_tests(tests, make_world, NULL);
}
