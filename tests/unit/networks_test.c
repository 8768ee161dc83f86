/* Networks in the core, with an agent that does nothing but answer, and remembers what it was told. */
#include "base/fs.h"
#include "base/str.h"
#include "core/core-priv.h"
#include "wire/messages.h"

#include <poll.h>
#include <setjmp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define IMAGE "sha256:1111111111111111111111111111111111111111111111111111111111111111"

/* ---- the agent ---- */

static struct {
	char dir[64], *socket;
	int listen, events;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t told;
	char **log;         /* "request {body}" */
	const char *refuse; /* a request that fails */
	char *extra_network, *extra_group; /* that the agent has, and the store has not */
	int picked;         /* subnets */
	char **instances;
} agent;

static void remember(const char *type, const json_t *body) {
	_cleanup_(free_ptr) char *text = json_print(body);
	strv_take(&agent.log, str_format("%s %s", type, text));
	pthread_cond_broadcast(&agent.told);
}

static json_t *answer_network(const json_t *body) {
	json_t *subnets = json_deep_copy(json_object_get(json_object_get(body, "spec"), "subnets"));
	if (!json_array_size(subnets)) {
		subnets = subnets ? subnets : json_array();
		json_array_append_new(subnets, json_pack("{s:o, s:o}", "cidr", json_sprintf("10.64.%d.0/24", agent.picked),
							 "gateway", json_sprintf("10.64.%d.1", agent.picked)));
		agent.picked++;
	}
	size_t i;
	json_t *s;
	json_array_foreach(subnets, i, s) {
		struct cidr c;
		struct ip first;
		char text[46];
		assert_int_equal(cidr_parse(json_get_str(s, "cidr"), &c), 0);
		cidr_nth(&c, 1, &first);
		ip_format(&first, text);
		if (!json_get_str(s, "gateway"))
			json_set_str(s, "gateway", text);
	}
	return json_pack("{s:s, s:o, s:{s:s, s:s}}", "id", json_get_str(body, "id"), "subnets", subnets, "status", "state", "up",
			 "interface", "wbtest");
}

static json_t *answer_state(const char *id, const char *state) {
	return json_pack("{s:s, s:i, s:{s:s}}", "id", id, "uid_base", 65536, "status", "state", state);
}

static json_t *answer(const char *type, const json_t *body) {
	if (str_same(type, "hello"))
		return json_pack("{s:s, s:i}", "version", "test", "cgroup_version", 2);
	if (str_same(type, "network-create"))
		return answer_network(body);
	if (str_same(type, "network-list"))
		return agent.extra_network ? json_pack("{s:[{s:s}]}", "networks", "id", agent.extra_network) : json_object();
	if (str_same(type, "firewall-list"))
		return agent.extra_group ? json_pack("{s:[s], s:[s]}", "groups", agent.extra_group, "members", "label:old=1")
					 : json_object();
	if (str_same(type, "instance-create"))
		return answer_state(json_get_str(json_object_get(body, "instance"), "id"), "created");
	if (str_same(type, "instance-list")) {
		json_t *all = json_array();
		for (char **id = agent.instances; id && *id; id++)
			json_array_append_new(all, answer_state(*id, "created"));
		return json_pack("{s:o}", "instances", all);
	}
	if (str_same(type, "instance-update"))
		return answer_state(json_get_str(body, "id"), "created");
	return json_object();
}

static void serve(int fd) {
	struct wire_frame f;
	if (wire_recv(fd, &f, NULL) < 0)
		return;
	pthread_mutex_lock(&agent.lock);
	bool refused = str_same(agent.refuse, f.type), events = str_same(f.type, "events");
	remember(f.type, f.body);
	_cleanup_(json_free_ptr) json_t *reply = answer(f.type, f.body);
	if (str_same(f.type, "instance-create") && !refused)
		strv_add(&agent.instances, json_get_str(json_object_get(f.body, "instance"), "id"));
	pthread_mutex_unlock(&agent.lock);
	_cleanup_(error_free) struct error err = ERROR_INIT;
	error_set(&err, ERROR_CONFLICT, "refused by the test");
	if (refused)
		wire_send_error(fd, &err);
	else
		wire_send(fd, "ok", reply, NULL, 0, NULL);
	wire_frame_free(&f);
	if (events) {
		pthread_mutex_lock(&agent.lock);
		close_fd(&agent.events);
		agent.events = dup(fd);
		pthread_mutex_unlock(&agent.lock);
	}
}

static void *agent_main(void *arg UNUSED) {
	for (;;) {
		_cleanup_(close_fd) int fd = accept(agent.listen, NULL, NULL);
		if (fd < 0)
			return NULL;
		serve(fd);
	}
}

static void send_event(const char *id, const char *action, const char *state, const char *health) {
	_cleanup_(json_free_ptr) json_t *body =
		json_pack("{s:s, s:s, s:{s:s, s:s}}", "action", action, "id", id, "status", "state", state, "started_at",
			  "2026-11-23T03:00:00Z");
	json_set_str(json_object_get(body, "status"), "health", health);
	pthread_mutex_lock(&agent.lock);
	assert_int_equal(wire_send(agent.events, "ok", body, NULL, 0, NULL), 0);
	pthread_mutex_unlock(&agent.lock);
}

/* The last that was told which begins so; NULL. Whatever has been told before is forgotten with `forget`. */
static char *told(const char *start) {
	pthread_mutex_lock(&agent.lock);
	char *found = NULL;
	for (char **l = agent.log; l && *l; l++)
		if (str_starts(*l, start)) {
			free(found);
			found = str_copy(*l);
		}
	pthread_mutex_unlock(&agent.lock);
	return found;
}

static void forget(void) {
	pthread_mutex_lock(&agent.lock);
	strv_free(agent.log);
	agent.log = NULL;
	pthread_mutex_unlock(&agent.lock);
}

static bool any_told(const char *start, const char *part) {
	for (char **l = agent.log; l && *l; l++)
		if (str_starts(*l, start) && strstr(*l, part))
			return true;
	return false;
}

/* Waits until something that begins so and holds the part is told. */
static void expect_told(const char *start, const char *part) {
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 30;
	pthread_mutex_lock(&agent.lock);
	int r = 0;
	while (r == 0 && !any_told(start, part))
		r = pthread_cond_timedwait(&agent.told, &agent.lock, &until);
	bool found = any_told(start, part);
	if (!found)
		for (char **l = agent.log; l && *l; l++)
			print_message("# %s\n", *l);
	pthread_mutex_unlock(&agent.lock);
	if (!found)
		fail_msg("the agent was not told %s … %s", start, part);
}

static void expect_untold(const char *start) {
	_cleanup_(free_ptr) char *said = told(start);
	if (said)
		fail_msg("the agent was told %s", said);
}

static void refuse(const char *request) {
	pthread_mutex_lock(&agent.lock);
	agent.refuse = request;
	pthread_mutex_unlock(&agent.lock);
}

/* ---- the core ---- */

static struct core *open_core(void) {
	struct error err = ERROR_INIT;
	struct core *c = NULL;
	struct core_config config = {.state = agent.dir, .agent_socket = agent.socket};
	if (core_open(&config, &c, &err) < 0)
		fail_msg("%s", error_text(&err));
	assert_true(core_wait_agent(c, INT64_C(30000000000)));
	return c;
}

static struct core *open_with_image(void) {
	struct core *c = open_core();
	struct image image = {.id = (char *)IMAGE, .digest = (char *)IMAGE};
	strv_add(&image.names, "docker.io/library/debian:latest");
	strv_add(&image.config.exposed_ports, "80/tcp");
	assert_int_equal(image_store(c, "default", &image, NULL, NULL), 0);
	strv_free(image.names);
	strv_free(image.config.exposed_ports);
	return c;
}

static int set_up(void **state) {
	strcpy(agent.dir, "/tmp/wabe-nets-test-XXXXXX");
	*state = NULL;
	if (!mkdtemp(agent.dir))
		return -1;
	agent.socket = str_format("%s/agent.sock", agent.dir);
	agent.listen = sock_listen_unix(agent.socket, 0600);
	agent.events = -1;
	pthread_mutex_init(&agent.lock, NULL);
	pthread_cond_init(&agent.told, NULL);
	return agent.listen < 0 ? -1 : pthread_create(&agent.thread, NULL, agent_main, NULL);
}

static int tear_down(void **state UNUSED) {
	shutdown(agent.listen, SHUT_RDWR);
	pthread_join(agent.thread, NULL);
	close_fd(&agent.listen);
	close_fd(&agent.events);
	strv_free(agent.log);
	strv_free(agent.instances);
	free(agent.socket);
	free(agent.extra_network);
	free(agent.extra_group);
	int r = fs_remove_tree(agent.dir);
	memset(&agent, 0, sizeof agent);
	return r;
}

#define GOOD(call_)                                                              \
	do {                                                                     \
		_cleanup_(error_free) struct error err = ERROR_INIT;             \
		if ((call_) < 0)                                                 \
			fail_msg("%s: %s: %s", #call_, err.field ? err.field : "", error_text(&err)); \
	} while (0)

/* Fails so, and the message has the part. */
#define BAD(call_, kind_, part_)                                                 \
	do {                                                                     \
		_cleanup_(error_free) struct error err = ERROR_INIT;             \
		int r_ = (call_);                                                \
		if (r_ != -(int)(kind_) || err.kind != (kind_) || !strstr(error_text(&err), part_)) \
			fail_msg("%s: %d %s: %s", #call_, r_, error_kind_name(err.kind), error_text(&err)); \
	} while (0)

static int network(struct core *c, const char *json, struct error *err) {
	_cleanup_(json_free_ptr) json_t *body = json_parse(json, strlen(json), NULL);
	assert_non_null(body);
	struct network_spec spec;
	struct object_snap *snap = NULL;
	int r = fields_parse(&network_spec_table, body, 0, &spec, err);
	if (r == 0)
		r = network_create(c, "default", &spec, &snap, err);
	object_snap_unref(snap);
	return r;
}

static int group(struct core *c, const char *json, struct error *err) {
	_cleanup_(json_free_ptr) json_t *body = json_parse(json, strlen(json), NULL);
	assert_non_null(body);
	struct rule_group_spec spec;
	struct object_snap *snap = NULL;
	int r = fields_parse(&rule_group_spec_table, body, 0, &spec, err);
	if (r == 0)
		r = rules_create(c, "default", &spec, &snap, err);
	object_snap_unref(snap);
	return r;
}

static int balancer(struct core *c, const char *json, struct error *err) {
	_cleanup_(json_free_ptr) json_t *body = json_parse(json, strlen(json), NULL);
	assert_non_null(body);
	struct balancer_spec spec;
	struct object_snap *snap = NULL;
	int r = fields_parse(&balancer_spec_table, body, 0, &spec, err);
	if (r == 0)
		r = balancer_create(c, "default", &spec, &snap, err);
	object_snap_unref(snap);
	return r;
}

static struct instance_snap *last;

static int instance(struct core *c, const char *json, struct error *err) {
	_cleanup_(json_free_ptr) json_t *body = json_parse(json, strlen(json), NULL);
	assert_non_null(body);
	json_set_str(body, "image", "debian");
	struct instance_spec spec;
	instance_snap_unref(last);
	last = NULL;
	int r = fields_parse(&instance_spec_table, body, 0, &spec, err);
	return r < 0 ? r : instance_create(c, "default", &spec, &last, err);
}

static int patch(struct core *c, const char *name, const char *json, struct error *err) {
	_cleanup_(json_free_ptr) json_t *body = json_parse(json, strlen(json), NULL);
	assert_non_null(body);
	instance_snap_unref(last);
	last = NULL;
	return instance_update(c, "default", name, body, &last, err);
}

static int attach(struct core *c, const char *name, const char *text, struct error *err) {
	struct attachment a;
	fields_init(&attachment_table, &a);
	GOOD(attachment_parse(text, &a, &err));
	instance_snap_unref(last);
	last = NULL;
	return network_connect(c, "default", name, &a, &last, err);
}

static int detach(struct core *c, const char *name, const char *from, struct error *err) {
	instance_snap_unref(last);
	last = NULL;
	return network_disconnect(c, "default", name, from, &last, err);
}

static const struct nic *nic(size_t i) {
	assert_non_null(last);
	assert_true(i < last->instance.nics.n);
	return &last->instance.nics.items[i];
}

static size_t count_nics(void) {
	return last->instance.nics.n;
}

static void done(struct core *c) {
	instance_snap_unref(last);
	last = NULL;
	core_close(c);
}

static char *listed_addresses(struct core *c) {
	char *json = NULL;
	size_t len;
	GOOD(address_list(c, "default", NULL, &json, &len, &err));
	return json;
}

/* ---- networks ---- */

static void the_default_network_is_made_at_first_use(void **state UNUSED) {
	struct core *c = open_with_image();
	GOOD(instance(c, "{\"name\":\"alone\",\"network\":\"none\"}", &err));
	assert_int_equal(count_nics(), 0);
	expect_untold("network-create");
	GOOD(instance(c, "{\"name\":\"a\"}", &err));
	assert_string_equal(nic(0)->network, "default");
	assert_string_equal(nic(0)->ipv4, "10.64.0.2");
	assert_string_equal(nic(0)->interface, "eth0");
	assert_true(str_starts(nic(0)->mac, "02:"));
	assert_null(nic(0)->ipv6);
	expect_told("instance-create", "10.64.0.2");
	GOOD(instance(c, "{\"name\":\"b\"}", &err));
	assert_string_equal(nic(0)->ipv4, "10.64.0.3");
	assert_int_equal(map_count(c->networks.by_id), 1);
	done(c);
}

static void all_of_it_lasts(void **state UNUSED) {
	struct core *c = open_with_image();
	GOOD(network(c, "{\"name\":\"web\",\"subnets\":[{\"cidr\":\"10.9.0.0/29\"},{\"cidr\":\"fd00:9::/64\"}]}", &err));
	GOOD(instance(c, "{\"name\":\"a\",\"networks\":[{\"network\":\"web\"}],\"ports\":[{\"host_port\":8080,\"port\":80}]}", &err));
	assert_string_equal(nic(0)->ipv4, "10.9.0.2");
	assert_string_equal(nic(0)->ipv6, "fd00:9::2");
	_cleanup_(free_ptr) char *mac = str_copy(nic(0)->mac);
	struct address a = {.network = str_copy("web"), .address = str_copy("fd00:9:0:0::0007"), .description = str_copy("later")};
	GOOD(address_reserve(c, "default", &a, &err));
	assert_string_equal(a.address, "fd00:9::7");
	fields_free(&address_table, &a);
	done(c);

	c = open_core();
	_cleanup_(free_ptr) char *listed = listed_addresses(c);
	assert_non_null(strstr(listed, "10.9.0.2"));
	assert_non_null(strstr(listed, "fd00:9::7"));
	assert_non_null(strstr(listed, mac));
	BAD(instance(c, "{\"name\":\"b\",\"networks\":[{\"network\":\"web\",\"ipv4\":\"10.9.0.2\"}]}", &err), ERROR_CONFLICT, "instance a");
	GOOD(instance_delete(c, "default", "a", true, &err));
	GOOD(instance(c, "{\"name\":\"b\",\"networks\":[{\"network\":\"web\",\"ipv4\":\"10.9.0.2\"}],"
			 "\"ports\":[{\"host_port\":8080,\"port\":80}]}", &err));
	assert_string_equal(nic(0)->mac, mac); /* the same address, the same MAC */
	done(c);
}

static void bad_networks_are_refused(void **state UNUSED) {
	struct core *c = open_with_image();
	GOOD(network(c, "{\"name\":\"web\",\"subnets\":[{\"cidr\":\"10.9.0.0/24\"}]}", &err));
	forget();
	BAD(network(c, "{\"name\":\"web\"}", &err), ERROR_EXISTS, "web");
	BAD(network(c, "{\"name\":\"x\",\"subnets\":[{\"cidr\":\"10.9.0.128/25\"}]}", &err), ERROR_CONFLICT, "10.9.0.0/24 of network web");
	BAD(network(c, "{\"name\":\"x\",\"subnets\":[{\"cidr\":\"10.9.0.1/24\"}]}", &err), ERROR_INVALID, "subnet");
	BAD(network(c, "{\"name\":\"no label\"}", &err), ERROR_INVALID, "not a name");
	BAD(network(c, "{\"name\":\"x\",\"rules\":[\"nowhere\"]}", &err), ERROR_NOT_FOUND, "nowhere");
	expect_untold("network-");
	refuse("network-create");
	BAD(network(c, "{\"name\":\"x\"}", &err), ERROR_CONFLICT, "refused");
	refuse(NULL);
	_cleanup_(store_items_free) struct store_items left = {0}, names = {0};
	GOOD(store_list(c->store, "networks/", &left, &err));
	GOOD(store_list(c->store, "network-names/", &names, &err));
	assert_int_equal(left.n + names.n, 2);
	GOOD(network(c, "{\"name\":\"x\"}", &err)); /* nothing was left of it */
	done(c);
}

static void addresses_and_macs_have_one_owner(void **state UNUSED) {
	struct core *c = open_with_image();
	GOOD(network(c, "{\"name\":\"web\",\"subnets\":[{\"cidr\":\"10.9.0.0/29\",\"gateway\":\"10.9.0.3\"}]}", &err));
#define ON(rest_) "{\"networks\":[{\"network\":\"web\"" rest_ "}]}"
	BAD(instance(c, ON(",\"ipv4\":\"10.9.1.1\""), &err), ERROR_INVALID, "10.9.0.0/29");
	BAD(instance(c, ON(",\"ipv4\":\"10.9.0.0\""), &err), ERROR_INVALID, "10.9.0.0");
	BAD(instance(c, ON(",\"ipv4\":\"10.9.0.7\""), &err), ERROR_INVALID, "10.9.0.7");
	BAD(instance(c, ON(",\"ipv4\":\"10.9.0.3\""), &err), ERROR_CONFLICT, "gateway");
	BAD(instance(c, ON(",\"ipv6\":\"fd00::1\""), &err), ERROR_INVALID, "no IPv6 subnet");
	GOOD(instance(c, "{\"name\":\"a\",\"networks\":[{\"network\":\"web\",\"mac\":\"02:00:00:00:00:AA\"}]}", &err));
	assert_string_equal(nic(0)->ipv4, "10.9.0.2"); /* .1 was picked for the one before, which came to nothing */
	assert_string_equal(nic(0)->mac, "02:00:00:00:00:aa");
	BAD(instance(c, ON(",\"mac\":\"02:00:00:00:00:aa\""), &err), ERROR_CONFLICT, "instance a");
	BAD(instance(c, "{\"networks\":[{\"network\":\"web\"},{\"network\":\"web\"}]}", &err), ERROR_INVALID, "twice");
	for (int i = 0; i < 4; i++) /* with .2: .1 .4 .5 .6 */
		GOOD(instance(c, ON(""), &err));
	BAD(instance(c, ON(""), &err), ERROR_CONFLICT, "no free address");
	GOOD(instance_delete(c, "default", "a", true, &err));
	GOOD(instance(c, ON(""), &err));
	assert_string_equal(nic(0)->ipv4, "10.9.0.2");
	GOOD(network(c, "{\"name\":\"wide\",\"subnets\":[{\"cidr\":\"10.9.1.0/24\"}]}", &err));
	/* unless all say that they share: who runs has it; it is taken until the last is gone */
#define WIDE "{\"networks\":[{\"network\":\"wide\",\"ipv4\":\"10.9.1.6\"}]}"
#define SHARED(name_) "{\"name\":\"" name_ "\",\"networks\":[{\"network\":\"wide\",\"ipv4\":\"10.9.1.6\",\"mac\":\"02:00:00:00:00:bb\",\"share\":true}]}"
	GOOD(instance(c, SHARED("s1"), &err));
	BAD(instance(c, WIDE, &err), ERROR_CONFLICT, "instance s1");
	GOOD(instance(c, SHARED("s2"), &err));
	GOOD(instance_delete(c, "default", "s2", true, &err));
	BAD(instance(c, WIDE, &err), ERROR_CONFLICT, "instance s1");
	GOOD(instance_delete(c, "default", "s1", true, &err));
	GOOD(instance(c, WIDE, &err));
	done(c);
}

static void reserved_addresses_are_for_who_asks(void **state UNUSED) {
	struct core *c = open_with_image();
	GOOD(network(c, "{\"name\":\"web\",\"subnets\":[{\"cidr\":\"10.9.0.0/29\"}]}", &err));
	struct address a = {.network = str_copy("web")}, twice;
	GOOD(address_reserve(c, "default", &a, &err));
	assert_string_equal(a.address, "10.9.0.2");
	fields_copy(&address_table, &a, &twice);
	BAD(address_reserve(c, "default", &twice, &err), ERROR_EXISTS, "reserved");
	GOOD(instance(c, ON(""), &err));
	assert_string_equal(nic(0)->ipv4, "10.9.0.3");
	GOOD(instance(c, "{\"name\":\"db\",\"networks\":[{\"network\":\"web\",\"ipv4\":\"10.9.0.2\"}]}", &err));
	GOOD(instance_delete(c, "default", "db", true, &err)); /* it stays reserved */
	BAD(address_reserve(c, "default", &twice, &err), ERROR_EXISTS, "reserved");
	GOOD(address_release(c, "default", "web", "10.9.0.2", &err));
	BAD(address_release(c, "default", "web", "10.9.0.2", &err), ERROR_NOT_FOUND, "10.9.0.2");
	GOOD(address_reserve(c, "default", &twice, &err));
	BAD(network_delete(c, "default", "web", &err), ERROR_CONFLICT, "in use");
	fields_free(&address_table, &a);
	fields_free(&address_table, &twice);
	done(c);
}

static void a_network_in_use_stays(void **state UNUSED) {
	struct core *c = open_with_image();
	GOOD(network(c, "{\"name\":\"web\"}", &err));
	GOOD(instance(c, "{\"name\":\"a\",\"networks\":[{\"network\":\"web\"}]}", &err));
	BAD(network_delete(c, "default", "web", &err), ERROR_CONFLICT, "in use by a");
	GOOD(instance_delete(c, "default", "a", true, &err));
	GOOD(group(c, "{\"name\":\"g\",\"rules\":[{\"action\":\"allow\",\"source\":\"network:web\"}]}", &err));
	BAD(network_delete(c, "default", "web", &err), ERROR_CONFLICT, "group g");
	GOOD(rules_delete(c, "default", "g", &err));
	GOOD(balancer(c, "{\"target\":\"label:app\",\"network\":\"web\"}", &err));
	BAD(network_delete(c, "default", "web", &err), ERROR_CONFLICT, "balancer app-80");
	GOOD(balancer_delete(c, "default", "app-80", &err));
	refuse("network-delete");
	BAD(network_delete(c, "default", "web", &err), ERROR_CONFLICT, "refused");
	refuse(NULL);
	GOOD(network(c, "{\"name\":\"other\"}", &err));
	GOOD(instance(c, "{\"networks\":[{\"network\":\"other\"}]}", &err));
	_cleanup_(strv_free_ptr) char **gone = NULL;
	GOOD(network_prune(c, "default", &gone, &err));
	assert_int_equal(strv_len(gone), 1);
	assert_string_equal(gone[0], "web");
	done(c);
}

static void interfaces_have_names(void **state UNUSED) {
	struct core *c = open_with_image();
	GOOD(network(c, "{\"name\":\"n1\"}", &err));
	GOOD(network(c, "{\"name\":\"n2\"}", &err));
	GOOD(network(c, "{\"name\":\"n3\"}", &err));
	GOOD(instance(c, "{\"name\":\"a\",\"networks\":[{\"network\":\"n1\"},{\"network\":\"n2\",\"interface\":\"eth0\"},{\"network\":\"n3\"}]}", &err));
	assert_string_equal(nic(0)->interface, "eth1");
	assert_string_equal(nic(1)->interface, "eth0");
	assert_string_equal(nic(2)->interface, "eth2");
	BAD(instance(c, "{\"networks\":[{\"network\":\"n1\",\"interface\":\"x\"},{\"network\":\"n2\",\"interface\":\"x\"}]}", &err),
	    ERROR_INVALID, "x");
	done(c);
}

static void connecting_and_leaving(void **state UNUSED) {
	struct core *c = open_with_image();
	GOOD(network(c, "{\"name\":\"db\"}", &err));
	GOOD(group(c, "{\"name\":\"strict\"}", &err));
	GOOD(instance(c, "{\"name\":\"a\"}", &err));
	_cleanup_(free_ptr) char *first = str_copy(nic(0)->ipv4);
	GOOD(attach(c, "a", "db,alias=cache", &err));
	assert_int_equal(count_nics(), 2);
	assert_string_equal(nic(0)->ipv4, first);
	assert_string_equal(nic(1)->interface, "eth1");
	expect_told("nic-set", "cache");
	_cleanup_(free_ptr) char *second = str_copy(nic(1)->ipv4), *mac = str_copy(nic(1)->mac);
	GOOD(attach(c, "a", "db,ip=10.64.0.77", &err)); /* it does not run: the next start has that */
	assert_string_equal(nic(1)->ipv4, "10.64.0.77");
	_cleanup_(free_ptr) char *back = str_format("db,ip=%s", second);
	GOOD(attach(c, "a", back, &err));
	GOOD(attach(c, "a", "db,rules=strict", &err)); /* the same interface, other settings */
	assert_int_equal(count_nics(), 2);
	assert_string_equal(nic(1)->ipv4, second);
	assert_string_equal(nic(1)->mac, mac);
	assert_null(nic(1)->aliases);
	assert_int_equal(strv_len(nic(1)->rules), 1);
	BAD(rules_delete(c, "default", "strict", &err), ERROR_CONFLICT, "instance a");
	GOOD(detach(c, "a", "default", &err));
	assert_int_equal(count_nics(), 1);
	assert_string_equal(nic(0)->interface, "eth1");
	expect_told("nic-remove", "");
	BAD(detach(c, "a", "default", &err), ERROR_NOT_FOUND, "not on network");
	GOOD(network_delete(c, "default", "default", &err));
	refuse("nic-set");
	BAD(attach(c, "a", "default", &err), ERROR_CONFLICT, "refused");
	refuse(NULL);
	GOOD(network_delete(c, "default", "default", &err)); /* nothing is held on it */
	_cleanup_(store_items_free) struct store_items marks = {0};
	GOOD(store_list(c->store, "changing/", &marks, &err));
	assert_int_equal(marks.n, 0);
	done(c);
}

static void a_change_that_was_cut_off_is_taken_back(void **state UNUSED) {
	struct core *c = open_with_image();
	GOOD(network(c, "{\"name\":\"db\"}", &err));
	GOOD(instance(c, "{\"name\":\"a\"}", &err));
	_cleanup_(free_ptr) char *key = str_format("changing/default/%s", last->instance.id);
	_cleanup_(free_ptr) char *other = NULL;
	core_lock(c);
	other = str_copy(object_id(object_find(c, &c->networks, "default", "db", NULL)));
	core_unlock(c);
	GOOD(store_put(c->store, key, "1", STORE_ABSENT, NULL, &err));
	done(c);
	forget();
	c = open_core(); /* the agent may have it on db, the store says default alone */
	expect_told("instance-update", "");
	expect_told("nic-remove", other);
	expect_told("nic-set", "10.64.1.2");
	GOOD(instance(c, "{\"name\":\"b\"}", &err)); /* behind it: */
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *a = NULL;
	GOOD(patch(c, "a", "{\"labels\":{\"x\":\"y\"}}", &err));
	_cleanup_(store_items_free) struct store_items marks = {0};
	GOOD(store_list(c->store, "changing/", &marks, &err));
	assert_int_equal(marks.n, 0);
	done(c);
}

static void a_stopped_instance_moves(void **state UNUSED) {
	struct core *c = open_with_image();
	GOOD(network(c, "{\"name\":\"n1\",\"subnets\":[{\"cidr\":\"10.9.1.0/24\"}]}", &err));
	GOOD(network(c, "{\"name\":\"n2\",\"subnets\":[{\"cidr\":\"10.9.2.0/24\"}]}", &err));
	GOOD(instance(c, "{\"name\":\"a\",\"networks\":[{\"network\":\"n1\"}]}", &err));
	GOOD(patch(c, "a", "{\"networks\":[{\"network\":\"n2\"},{\"network\":\"n1\"}]}", &err));
	assert_string_equal(nic(0)->ipv4, "10.9.2.2");
	assert_string_equal(nic(1)->ipv4, "10.9.1.2");
	assert_string_equal(nic(1)->interface, "eth0");
	GOOD(patch(c, "a", "{\"network\":\"none\",\"networks\":null}", &err));
	assert_int_equal(count_nics(), 0);
	GOOD(network_delete(c, "default", "n1", &err));
	GOOD(network_delete(c, "default", "n2", &err));
	refuse("instance-update");
	BAD(patch(c, "a", "{\"network\":\"private\"}", &err), ERROR_CONFLICT, "refused");
	refuse(NULL);
	GOOD(network_delete(c, "default", "default", &err)); /* it was made for that, and nothing is on it */
	done(c);
}

/* ---- ports ---- */

/* Several instances may want a port, of which one has it when it runs; what is picked is nobody else's. */
static void ports_have_owners(void **state UNUSED) {
	struct core *c = open_with_image();
#define PORTS(list_) "{\"ports\":[" list_ "]}"
	GOOD(instance(c, "{\"name\":\"a\",\"ports\":[{\"address\":\"127.0.0.1\",\"host_port\":8080,\"port\":80,\"count\":3}]}", &err));
	GOOD(instance(c, PORTS("{\"host_port\":8082,\"port\":1}"), &err));
	GOOD(instance(c, PORTS("{\"address\":\"0.0.0.0\",\"host_port\":8081,\"host_last\":8084,\"port\":1}"), &err));
	assert_int_equal(last->instance.ports.items[0].host_port, 8083);
	assert_int_equal(last->instance.ports.items[0].host_last, 0);
	BAD(instance(c, PORTS("{\"host_port\":8080,\"host_last\":8082,\"port\":1}"), &err), ERROR_CONFLICT, "8080 to 8082");
	GOOD(instance(c, PORTS("{\"address\":\"::\",\"host_port\":8081,\"port\":1}"), &err)); /* the other family */
	GOOD(instance(c, PORTS("{\"address\":\"127.0.0.2\",\"host_port\":8082,\"port\":1}"), &err));
	GOOD(instance(c, PORTS("{\"host_port\":8082,\"port\":1,\"protocol\":\"udp\"}"), &err));
	BAD(instance(c, PORTS("{\"host_port\":9000,\"port\":1,\"count\":5},{\"host_port\":9004,\"port\":1}"), &err), ERROR_INVALID, "twice");
	BAD(balancer(c, "{\"target\":\"label:x\",\"port\":80,\"host_port\":8080}", &err), ERROR_CONFLICT, "instance a");
	GOOD(balancer(c, "{\"target\":\"label:x\",\"port\":80}", &err));
	BAD(instance(c, PORTS("{\"host_port\":80,\"port\":1}"), &err), ERROR_CONFLICT, "balancer x-80");
	GOOD(patch(c, "a", "{\"ports\":[]}", &err));
	GOOD(instance(c, PORTS("{\"address\":\"127.0.0.1\",\"host_port\":8080,\"port\":1}"), &err));
	BAD(instance(c, "{\"network\":\"none\",\"ports\":[{\"host_port\":1,\"port\":1}]}", &err), ERROR_INVALID, "none");
	done(c);
}

static void free_ports_are_picked(void **state UNUSED) {
	struct core *c = open_with_image();
	GOOD(instance(c, "{\"name\":\"a\",\"publish_all\":true,\"ports\":[{\"port\":81,\"count\":4}]}", &err));
	assert_int_equal(last->instance.ports.n, 2);
	int64_t host = last->instance.ports.items[0].host_port;
	assert_in_range(host, 32768, 60996);
	assert_int_equal(last->instance.ports.items[1].port, 80); /* the image's */
	assert_in_range(last->instance.ports.items[1].host_port, 32768, 60999);
	GOOD(patch(c, "a", "{\"ports\":[{\"port\":81,\"count\":4},{\"port\":90}]}", &err));
	assert_int_equal(last->instance.ports.items[0].host_port, host); /* stays */
	assert_int_equal(last->instance.ports.n, 3);
	done(c);
}

/* ---- rules, members, balancers ---- */

static void members_follow_instances(void **state UNUSED) {
	struct core *c = open_with_image();
	GOOD(network(c, "{\"name\":\"web\",\"subnets\":[{\"cidr\":\"10.9.0.0/24\"}]}", &err));
	GOOD(instance(c, "{\"name\":\"a\",\"labels\":{\"app\":\"web\"},\"networks\":[{\"network\":\"web\"}]}", &err));
	expect_untold("members-set");
	GOOD(group(c, "{\"name\":\"g\",\"rules\":[{\"action\":\"allow\",\"source\":\"label:app=web\"},"
		      "{\"action\":\"allow\",\"source\":\"group:g\"},{\"action\":\"deny\",\"source\":\"network:web\"}]}", &err));
	core_lock(c);
	_cleanup_(free_ptr) char *gid = str_format("group:%s", object_id(object_find(c, &c->groups, "default", "g", NULL)));
	_cleanup_(free_ptr) char *nid = str_format("network:%s", object_id(object_find(c, &c->networks, "default", "web", NULL)));
	core_unlock(c);
	expect_told("rules-set", gid);
	expect_told("rules-set", nid);
	expect_told("members-set {\"peer\":\"label:app=web\"", "[\"10.9.0.2\"]");
	forget();
	GOOD(instance(c, "{\"name\":\"b\",\"networks\":[{\"network\":\"web\"}]}", &err));
	expect_untold("members-set");
	GOOD(patch(c, "b", "{\"labels\":{\"app\":\"web\"}}", &err));
	expect_told("members-set {\"peer\":\"label:app=web\"", "[\"10.9.0.2\",\"10.9.0.3\"]");
	GOOD(attach(c, "b", "web,rules=g", &err));
	expect_told("members-set {\"peer\":\"group:", "[\"10.9.0.3\"]");
	forget();
	GOOD(instance_delete(c, "default", "a", true, &err));
	expect_told("members-set {\"peer\":\"label:app=web\"", "[\"10.9.0.3\"]");
	forget();
	_cleanup_(json_free_ptr) json_t *with = json_pack("{s:[s]}", "rules", "g");
	_cleanup_(object_snap_unref_ptr) struct object_snap *snap = NULL, *group_snap = NULL;
	GOOD(network_update(c, "default", "web", with, &snap, &err));
	expect_told("network-create", gid + strlen("group:"));
	GOOD(instance(c, "{\"name\":\"c\",\"networks\":[{\"network\":\"web\"}]}", &err)); /* by its network */
	expect_told("members-set {\"peer\":\"group:", "10.9.0.4");
	forget();
	GOOD(rules_remove(c, "default", "g", 1, &group_snap, &err));
	expect_told("members-set {\"peer\":\"label:app=web\"}", ""); /* nobody asks for it any more */
	BAD(rules_remove(c, "default", "g", 3, &group_snap, &err), ERROR_INVALID, "2 rules");
	BAD(rules_delete(c, "default", "g", &err), ERROR_CONFLICT, "network web");
	done(c);
}

static void rules_are_numbered(void **state UNUSED) {
	struct core *c = open_with_image();
	GOOD(group(c, "{\"name\":\"g\"}", &err));
	static const struct {
		const char *ports;
		int64_t number;
	} steps[] = {{"1", 0}, {"2", 0}, {"3", 1}, {"4", 2}, {"5", 5}};
	struct object_snap *snap = NULL;
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		struct rule r;
		fields_init(&rule_table, &r);
		free(r.protocol);
		r.protocol = str_copy("tcp");
		r.ports = str_copy(steps[i].ports);
		object_snap_unref(snap);
		snap = NULL;
		GOOD(rules_add(c, "default", "g", steps[i].number, &r, &snap, &err));
	}
	const struct rule_group *g = snap->noun;
	static const char *const wanted[] = {"3", "4", "1", "2", "5"};
	for (size_t i = 0; i < ARRAY_SIZE(wanted); i++)
		assert_string_equal(g->spec.rules.items[i].ports, wanted[i]);
	object_snap_unref(snap);
	struct rule bad;
	fields_init(&rule_table, &bad);
	bad.source = str_copy("group:nowhere");
	forget();
	BAD(rules_add(c, "default", "g", 0, &bad, &snap, &err), ERROR_NOT_FOUND, "nowhere");
	expect_untold("rules-set");
	done(c);
}

static void backends_follow_state_and_health(void **state UNUSED) {
	struct core *c = open_with_image();
	GOOD(network(c, "{\"name\":\"web\",\"subnets\":[{\"cidr\":\"10.9.0.0/24\"}]}", &err));
	GOOD(balancer(c, "{\"name\":\"shop\",\"target\":\"label:app=web\",\"port\":80}", &err));
	expect_told("balancer-set", "shop");
	_cleanup_(free_ptr) char *id = NULL, *id2 = NULL;
	GOOD(instance(c, "{\"name\":\"a\",\"labels\":{\"app\":\"web\"},\"networks\":[{\"network\":\"web\"}]}", &err));
	id = str_copy(last->instance.id);
	GOOD(instance(c, "{\"name\":\"b\",\"labels\":{\"app\":\"web\"},\"networks\":[{\"network\":\"web\"}]}", &err));
	id2 = str_copy(last->instance.id);
	forget();
	send_event(id, "start", "running", NULL);
	expect_told("balancer-set", "\"backends\":[\"10.9.0.2\"]");
	send_event(id2, "start", "running", "starting");
	expect_told("balancer-set", "\"backends\":[\"10.9.0.2\",\"10.9.0.3\"]");
	forget();
	send_event(id2, "health", "running", "unhealthy");
	expect_told("balancer-set", "\"backends\":[\"10.9.0.2\"]");
	send_event(id2, "health", "running", "healthy");
	expect_told("balancer-set", "10.9.0.3");
	_cleanup_(object_snap_unref_ptr) struct object_snap *snap = NULL;
	GOOD(balancer_get(c, "default", "shop", &snap, &err));
	assert_int_equal(strv_len(((struct balancer *)snap->noun)->backends), 2);
	BAD(balancer(c, "{\"target\":\"instance:nobody\",\"port\":81}", &err), ERROR_NOT_FOUND, "nobody");
	BAD(balancer(c, "{\"target\":\"label:x\",\"port\":81,\"network\":\"nowhere\"}", &err), ERROR_NOT_FOUND, "nowhere");
	GOOD(balancer_delete(c, "default", "shop", &err));
	expect_told("balancer-delete", "");
	done(c);
}

static void an_address_inside_is_a_balancers(void **state UNUSED) {
	struct core *c = open_with_image();
	GOOD(network(c, "{\"name\":\"web\",\"subnets\":[{\"cidr\":\"10.9.0.0/24\"}]}", &err));
	GOOD(network(c, "{\"name\":\"other\"}", &err));
	GOOD(instance(c, "{\"networks\":[{\"network\":\"web\"}]}", &err));
	BAD(balancer(c, "{\"target\":\"label:x\",\"names\":[\"db\"]}", &err), ERROR_INVALID, "address inside");
	BAD(balancer(c, "{\"target\":\"label:x\",\"inside\":true}", &err), ERROR_INVALID, "required inside");
	BAD(balancer(c, "{\"target\":\"label:x\",\"inside\":true,\"network\":\"web\",\"host_port\":80}", &err), ERROR_INVALID, "port of the host");
	BAD(balancer(c, "{\"target\":\"label:x\",\"inside\":true,\"network\":\"web\",\"address\":\"10.9.0.2\"}", &err), ERROR_CONFLICT, "taken");
	BAD(balancer(c, "{\"target\":\"label:x\",\"inside\":true,\"network\":\"web\",\"address\":\"10.9.1.2\"}", &err), ERROR_INVALID, "10.9.0.0/24");
	GOOD(balancer(c, "{\"target\":\"label:x\",\"inside\":true,\"network\":\"web\",\"names\":[\"db\"]}", &err));
	expect_told("balancer-set", "\"address\":\"10.9.0.3\"");
	GOOD(instance(c, "{\"networks\":[{\"network\":\"web\"}]}", &err));
	assert_string_equal(nic(0)->ipv4, "10.9.0.4");
	_cleanup_(json_free_ptr) json_t *moved = json_pack("{ss}", "network", "other");
	struct object_snap *snap = NULL;
	BAD(balancer_update(c, "default", "x-web", moved, &snap, &err), ERROR_INVALID, "cannot change");
	refuse("balancer-set");
	BAD(balancer(c, "{\"name\":\"y\",\"target\":\"label:y\",\"inside\":true,\"network\":\"web\",\"address\":\"10.9.0.9\"}", &err), ERROR_CONFLICT, "refused");
	refuse(NULL);
	GOOD(instance(c, "{\"networks\":[{\"network\":\"web\",\"ipv4\":\"10.9.0.9\"}]}", &err)); /* it is not held any more */
	done(c);
	c = open_core();
	BAD(instance(c, "{\"networks\":[{\"network\":\"web\",\"ipv4\":\"10.9.0.3\"}]}", &err), ERROR_CONFLICT, "a balancer's");
	GOOD(balancer_delete(c, "default", "x-web", &err));
	GOOD(instance(c, "{\"networks\":[{\"network\":\"web\",\"ipv4\":\"10.9.0.3\"}]}", &err));
	done(c);
}

static void what_the_store_has_not_goes(void **state UNUSED) {
	struct core *c = open_with_image();
	GOOD(network(c, "{\"name\":\"web\"}", &err));
	GOOD(group(c, "{\"name\":\"g\",\"rules\":[{\"source\":\"label:new=1\"}]}", &err));
	GOOD(balancer(c, "{\"target\":\"label:x\",\"port\":80}", &err));
	done(c);
	forget();
	agent.extra_network = random_hex(32);
	agent.extra_group = random_hex(32);
	c = open_core();
	expect_told("network-create", "web");
	expect_told("rules-set", "label:new=1");
	expect_told("members-set", "label:new=1");
	expect_told("balancer-set", "label:x");
	expect_told("network-delete", agent.extra_network);
	expect_told("rules-delete", agent.extra_group);
	expect_told("members-set", "label:old=1");
	done(c);
}

static void many_addresses_are_picked_fast(void **state UNUSED) {
	struct core *c = open_with_image();
	GOOD(network(c, "{\"name\":\"big\",\"subnets\":[{\"cidr\":\"10.8.0.0/14\"}]}", &err));
	core_lock(c);
	struct object *o = object_find(c, &c->networks, "default", "big", NULL);
	struct nic n = {.network_id = (char *)object_id(o)};
	for (int i = 0; i < 100000; i++) { /* quadratic work would take minutes */
		char text[46], owner[24];
		n.ipv4 = text;
		snprintf(owner, sizeof owner, "%d", i);
		assert_int_equal(address_pick(o, AF_INET, text, NULL), 0);
		nic_claim(c, &n, owner);
	}
	assert_int_equal(map_count(use_of(o)->addresses), 100001);
	core_unlock(c);
	done(c);
}

int main(void) {
#define T(name_) cmocka_unit_test_setup_teardown(name_, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		T(the_default_network_is_made_at_first_use), T(all_of_it_lasts), T(bad_networks_are_refused),
		T(addresses_and_macs_have_one_owner), T(reserved_addresses_are_for_who_asks), T(a_network_in_use_stays),
		T(interfaces_have_names), T(connecting_and_leaving), T(a_change_that_was_cut_off_is_taken_back),
		T(a_stopped_instance_moves), T(ports_have_owners), T(free_ports_are_picked), T(members_follow_instances),
		T(rules_are_numbered), T(backends_follow_state_and_health), T(an_address_inside_is_a_balancers),
		T(rules_are_numbered), T(backends_follow_state_and_health), T(what_the_store_has_not_goes),
		T(many_addresses_are_picked_fast),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
