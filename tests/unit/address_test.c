/* Addresses as numbers, and the texts of networks, ports and rules. */
#include "model/network.h"

#include "base/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void cidrs(UNUSED void **state) {
	struct cidr c, d;
	char text[50];
	assert_int_equal(cidr_parse("10.84.0.0/20", &c), 0);
	cidr_format(&c, text);
	assert_string_equal(text, "10.84.0.0/20");
	assert_true(cidr_size(&c) == 4096);
	static const char *const bad[] = {"10.84.0.1/20", "10.84.0.0", "10.84.0.0/33", "10.84.0.0/", "/20", "x/20", "10.84.0.0/+2",
					  "10.84.0.0/020x", "::1/64", "fd00::/129", "10.84.0.0/20 "};
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(cidr_parse(bad[i], &d), -EINVAL);
	assert_int_equal(cidr_parse("fd00:1::/64", &d), 0);
	assert_true(cidr_size(&d) == UINT64_MAX);
	assert_false(cidr_overlap(&c, &d));
}

static void inside_and_overlap(UNUSED void **state) {
	struct cidr big, small, other;
	struct ip ip;
	assert_int_equal(cidr_parse("10.84.0.0/20", &big), 0);
	assert_int_equal(cidr_parse("10.84.15.128/25", &small), 0);
	assert_int_equal(cidr_parse("10.84.16.0/20", &other), 0);
	assert_true(cidr_overlap(&big, &small));
	assert_true(cidr_overlap(&small, &big));
	assert_false(cidr_overlap(&big, &other));
	assert_int_equal(ip_parse("10.84.15.255", &ip), 0);
	assert_true(cidr_contains(&big, &ip));
	assert_int_equal(ip_parse("10.84.16.0", &ip), 0);
	assert_false(cidr_contains(&big, &ip));
	assert_int_equal(cidr_parse("0.0.0.0/0", &other), 0);
	assert_true(cidr_contains(&other, &ip));
}

static void nth(UNUSED void **state) {
	struct cidr c;
	struct ip ip;
	char text[46];
	assert_int_equal(cidr_parse("10.84.0.0/20", &c), 0);
	assert_true(cidr_nth(&c, 257, &ip));
	ip_format(&ip, text);
	assert_string_equal(text, "10.84.1.1");
	assert_true(cidr_nth(&c, 4095, &ip));
	ip_format(&ip, text);
	assert_string_equal(text, "10.84.15.255");
	assert_false(cidr_nth(&c, 4096, &ip));
	assert_int_equal(cidr_parse("fd00:1::/64", &c), 0);
	assert_true(cidr_nth(&c, UINT64_C(0x1122334455667788), &ip));
	ip_format(&ip, text);
	assert_string_equal(text, "fd00:1::1122:3344:5566:7788");
}

static void published_ports(UNUSED void **state) {
	static const struct {
		const char *text, *address, *protocol;
		int64_t host, port, count;
	} good[] = {
		{"80", NULL, "tcp", 0, 80, 1},
		{"8080:80", NULL, "tcp", 8080, 80, 1},
		{"8080:80/udp", NULL, "udp", 8080, 80, 1},
		{"127.0.0.1:8080:80", "127.0.0.1", "tcp", 8080, 80, 1},
		{"127.0.0.1::80", "127.0.0.1", "tcp", 0, 80, 1},
		{"[::1]:8080:80", "::1", "tcp", 8080, 80, 1},
		{"8000-8010:9000-9010", NULL, "tcp", 8000, 9000, 11},
		{"9000-9010/sctp", NULL, "sctp", 0, 9000, 11},
	};
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		struct port p;
		fields_init(&port_table, &p);
		assert_int_equal(port_parse(good[i].text, &p, NULL), 0);
		assert_true(p.host_port == good[i].host && p.port == good[i].port && p.count == good[i].count);
		assert_true(str_same(p.address, good[i].address));
		assert_string_equal(p.protocol, good[i].protocol);
		assert_int_equal(fields_validate(&port_table, &p, NULL), 0);
		fields_free(&port_table, &p);
	}
	static const char *const bad[] = {"", "x", "80:", "0", "65536", "80-70", "8000-8010:80", "1:2:3:4", "80/icmp", "65530-65540:65530-65540",
					  "1.2.3.4.5:80:80"};
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct port p;
		fields_init(&port_table, &p);
		assert_true(port_parse(bad[i], &p, NULL) < 0 || fields_validate(&port_table, &p, NULL) < 0);
		fields_free(&port_table, &p);
	}
}

static void rates(UNUSED void **state) {
	int64_t bits;
	assert_int_equal(rate_parse("100mbit", &bits, NULL), 0);
	assert_true(bits == 100000000);
	assert_int_equal(rate_parse("1.5g", &bits, NULL), 0);
	assert_true(bits == 1500000000);
	static const char *const bad[] = {"", "-1", "mbit", "1x", "nan", "1e99", "2000gbit", "0x10"};
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_true(rate_parse(bad[i], &bits, NULL) < 0);
}

static bool good_network(const char *text) {
	json_error_t e;
	json_t *json = json_loads(text, 0, &e);
	assert_non_null(json);
	struct network_spec s;
	int r = fields_parse(&network_spec_table, json, 0, &s, NULL);
	if (r == 0)
		fields_free(&network_spec_table, &s);
	json_decref(json);
	return r == 0;
}

static void networks(UNUSED void **state) {
	static const char *const good[] = {
		"{\"name\":\"web\"}",
		"{\"name\":\"net_10.1.0.0/16\"}",
		"{\"name\":\"b\",\"interface\":\"br-b\",\"interface_prefix\":\"net\"}",
		"{\"name\":\"shop_a.b\"}",
		"{\"name\":\"web\",\"subnets\":[{\"cidr\":\"10.1.0.0/16\",\"gateway\":\"10.1.0.1\",\"range\":\"10.1.128.0/17\"},{\"cidr\":\"fd00::/64\"}]}",
		"{\"name\":\"v\",\"driver\":\"vxlan\",\"vni\":7,\"peers\":[\"10.0.0.2\"]}",
		"{\"name\":\"m\",\"driver\":\"macvlan\",\"parent\":\"eth0\",\"mode\":\"bridge\"}",
	};
	static const char *const bad[] = {
		"{}",
		"{\"name\":\"/a\"}",
		"{\"name\":\"m\",\"driver\":\"macvlan\",\"parent\":\"eth0\",\"interface\":\"br-m\"}",
		"{\"name\":\"b\",\"interface\":\"lo\"}",
		"{\"name\":\"-a\"}",
		"{\"name\":\"web\",\"subnets\":[{\"cidr\":\"10.1.0.1/16\"}]}",
		"{\"name\":\"web\",\"subnets\":[{\"cidr\":\"10.1.0.0/31\"}]}",
		"{\"name\":\"web\",\"subnets\":[{\"cidr\":\"127.0.0.0/8\"}]}",
		"{\"name\":\"web\",\"subnets\":[{\"cidr\":\"10.1.0.0/16\"},{\"cidr\":\"10.2.0.0/16\"}]}",
		"{\"name\":\"web\",\"subnets\":[{\"cidr\":\"10.1.0.0/16\",\"gateway\":\"10.2.0.1\"}]}",
		"{\"name\":\"web\",\"subnets\":[{\"cidr\":\"10.1.0.0/16\",\"range\":\"10.2.0.0/24\"}]}",
		"{\"name\":\"v\",\"driver\":\"vxlan\"}",
		"{\"name\":\"v\",\"vni\":7}",
		"{\"name\":\"m\",\"driver\":\"macvlan\"}",
		"{\"name\":\"m\",\"driver\":\"macvlan\",\"parent\":\"eth0/../x\"}",
		"{\"name\":\"m\",\"driver\":\"ipvlan\",\"parent\":\"eth0\",\"mode\":\"vepa\"}",
		"{\"name\":\"m\",\"vlan\":7}",
		"{\"name\":\"m\",\"mtu\":100}",
	};
	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		assert_true(good_network(good[i]));
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_false(good_network(bad[i]));
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cidrs), cmocka_unit_test(inside_and_overlap), cmocka_unit_test(nth),
		cmocka_unit_test(published_ports), cmocka_unit_test(rates), cmocka_unit_test(networks),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
