/* model: the rules of an instance's spec, its flags, names and signals. */
#include "model/instance.h"

#include "base/str.h"

#include <setjmp.h>
#include <signal.h>
#include <stdio.h>

#include <cmocka.h>

static int parse(const char *text, struct instance_spec *s, struct error *err) {
	_cleanup_(json_free_ptr) json_t *v = json_parse(text, strlen(text), err);
	if (!v)
		fail_msg("%s: %s", text, error_text(err));
	return fields_parse(&instance_spec_table, v, 0, s, err);
}

static void test_refused(UNUSED void **state) {
	static const struct {
		const char *text, *field; /* without the image and the braces */
	} rows[] = {
		{"\"name\":\"a/b\"", "name"},
		{"\"name\":\"\"", "name"},
		{"\"name\":\"-a\"", "name"},
		{"\"name\":\"..\"", "name"},
		{"\"name\":\"a\\nb\"", "name"},
		{"\"env\":[\"=x\"]", "env[0]"},
		{"\"env\":[\"A=1\",\"\"]", "env[1]"},
		{"\"env\":[\"A\\u0001=1\"]", "env[0]"},
		{"\"workdir\":\"x\"", "workdir"},
		{"\"workdir\":\"/a/../b\"", "workdir"},
		{"\"hostname\":\"a b\"", "hostname"},
		{"\"hostname\":\"a\",\"uts_mode\":\"host\"", "hostname"},
		{"\"stop_signal\":\"SIGNONE\"", "stop_signal"},
		{"\"stop_timeout\":-1", "stop_timeout"},
		{"\"auto_remove\":true,\"restart\":{\"policy\":\"always\"}", "auto_remove"},
		{"\"restart\":{\"policy\":\"sometimes\"}", "restart.policy"},
		{"\"restart\":{\"policy\":\"always\",\"max_retries\":2}", "restart.max_retries"},
		{"\"health\":{\"command\":[\"true\"]}", "health.command"},
		{"\"health\":{\"command\":[\"CMD\"]}", "health.command"},
		{"\"userns\":\"mine\"", "userns"},
		{"\"cap_add\":[\"NET-ADMIN\"]", "cap_add[0]"},
		{"\"seccomp\":\"profile.json\"", "seccomp"},
		{"\"seccomp\":\"{\"", "seccomp"},
		{"\"devices\":[{\"path\":\"fuse\"}]", "devices[0].path"},
		{"\"devices\":[{\"path\":\"/dev/fuse\",\"permissions\":\"rx\"}]", "devices[0].permissions"},
		{"\"device_rules\":[\"c 1:3\"]", "device_rules[0]"},
		{"\"device_rules\":[\"\"]", "device_rules[0]"},
		{"\"device_rules\":[\"d 1:3 r\"]", "device_rules[0]"},
		{"\"sysctls\":{\"kernel.panic\":\"1\"}", "sysctls"},
		{"\"sysctls\":{\"net.../x\":\"1\"}", "sysctls"},
		{"\"sysctls\":{\"net.a\":\"1\"},\"network\":\"host\"", "sysctls"},
		{"\"sysctls\":{\"kernel.sem\":\"1\"},\"ipc_mode\":\"host\"", "sysctls"},
		{"\"ulimits\":[{\"name\":\"files\",\"soft\":1,\"hard\":1}]", "ulimits[0].name"},
		{"\"ulimits\":[{\"name\":\"nofile\",\"soft\":2,\"hard\":1}]", "ulimits[0].soft"},
		{"\"ulimits\":[{\"name\":\"nofile\"},{\"name\":\"nofile\"}]", "ulimits"},
		{"\"oom_score_adj\":1001", "oom_score_adj"},
		{"\"limits\":{\"memory\":\"1m\"}", "limits.memory"},
		{"\"limits\":{\"memory\":\"64m\",\"memory_swap\":\"63m\"}", "limits.memory_swap"},
		{"\"limits\":{\"memory_swap\":\"63m\"}", "limits.memory_swap"},
		{"\"limits\":{\"memory\":\"64m\",\"memory_reservation\":\"65m\"}", "limits.memory_reservation"},
		{"\"limits\":{\"cpus\":1,\"cpu_quota\":5000}", "limits.cpus"},
		{"\"limits\":{\"cpu_shares\":1}", "limits.cpu_shares"},
		{"\"limits\":{\"cpuset_cpus\":\"3-1\"}", "limits.cpuset_cpus"},
		{"\"limits\":{\"cpuset_cpus\":\"0,\"}", "limits.cpuset_cpus"},
		{"\"limits\":{\"io_weight\":5}", "limits.io_weight"},
		{"\"limits\":{\"io_weights\":[{\"device\":\"/dev/sda\",\"weight\":5}]}", "limits.io_weights[0].weight"},
		{"\"limits\":{\"io_read_bps\":[{\"device\":\"/dev/sda\"}]}", "limits.io_read_bps[0].rate"},
		{"\"limits\":{\"hugepages\":[{\"size\":\"2M\"}]}", "limits.hugepages[0].size"},
		{"\"pid_mode\":\"none\"", "pid_mode"},
		{"\"pid_mode\":\"instance:\"", "pid_mode"},
		{"\"network\":\"bridge\"", "network"},
		{"\"dns\":[\"dns.example\"]", "dns[0]"},
		{"\"extra_hosts\":[\"a\"]", "extra_hosts[0]"},
		{"\"mounts\":[{\"source\":\"/a\"}]", "mounts[0].target"},
		{"\"mounts\":[{\"source\":\"/a\",\"target\":\"b\"}]", "mounts[0].target"},
		{"\"mounts\":[{\"source\":\"/a\",\"target\":\"/\"}]", "mounts[0].target"},
		{"\"mounts\":[{\"source\":\"/a\",\"target\":\"/./\"}]", "mounts[0].target"},
		{"\"mounts\":[{\"source\":\"/a\",\"target\":\"/b/../c\"}]", "mounts[0].target"},
		{"\"mounts\":[{\"source\":\"a\",\"target\":\"/b\"}]", "mounts[0].source"},
		{"\"mounts\":[{\"target\":\"/b\"}]", "mounts[0].source"},
		{"\"mounts\":[{\"source\":\"/a\",\"target\":\"/b\",\"size\":5}]", "mounts[0].size"},
		{"\"mounts\":[{\"source\":\"/a\",\"target\":\"/b\",\"subpath\":\"../c\"}]", "mounts[0].subpath"},
		{"\"mounts\":[{\"source\":\"/a\",\"target\":\"/b\",\"options\":[\"nodev,suid\"]}]",
		 "mounts[0].options[0]"},
		{"\"mounts\":[{\"type\":\"tmpfs\",\"target\":\"/b\",\"mode\":\"99\"}]", "mounts[0].mode"},
		{"\"mounts\":[{\"type\":\"tmpfs\",\"target\":\"/b\"},{\"type\":\"tmpfs\",\"target\":\"//b/./\"}]",
		 "mounts[1].target"},
		{"\"log\":{\"driver\":\"syslog\"}", "log.driver"},
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(error_free) struct error err = ERROR_INIT;
		_cleanup_(free_ptr) char *text = str_format("{\"image\":\"debian\",%s}", rows[i].text);
		struct instance_spec s;
		if (parse(text, &s, &err) != -ERROR_INVALID)
			fail_msg("accepted: %s", rows[i].text);
		if (!str_same(err.field, rows[i].field))
			fail_msg("%s: field %s, %s", rows[i].text, err.field, error_text(&err));
	}
}

static void test_accepted(UNUSED void **state) {
	static const char *const rows[] = {
		"\"command\":[\"sh\",\"-c\",\"a\\nb\\tc\"]",
		"\"env\":[\"A=\",\"B\",\"C=\\n\"]",
		"\"mounts\":[{\"type\":\"tmpfs\",\"target\":\"/a\"},{\"type\":\"tmpfs\",\"target\":\"/a/b\"}]",
		"\"limits\":{\"memory\":\"6m\",\"memory_swap\":-1,\"cpu_quota\":-1,\"pids\":-1}",
		"\"health\":{\"command\":[\"NONE\"]}",
		"\"extra_hosts\":[\"a:::1\",\"b:10.0.0.1\"]",
		"\"sysctls\":{\"net.ipv4.ip_forward\":\"1\",\"kernel.shm_rmid_forced\":\"1\"}",
		"\"name\":\"a\",\"labels\":{\"a/b.c\":\"\\n\"}",
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(error_free) struct error err = ERROR_INIT;
		_cleanup_(free_ptr) char *text = str_format("{\"image\":\"debian\",%s}", rows[i]);
		struct instance_spec s;
		if (parse(text, &s, &err) < 0)
			fail_msg("%s: %s: %s", rows[i], err.field, error_text(&err));
		fields_free(&instance_spec_table, &s);
	}
}

static int set(struct instance_spec *s, const char *flag, const char *text) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	void *object = s;
	const struct field *f = fields_find_flag(&instance_spec_table, flag, &object);
	if (!f)
		fail_msg("no flag %s", flag);
	return field_set_text(f, object, text, &err);
}

/* Each flag of docker run that wabe has, as Docker writes it, and what comes of it. */
static void test_flags(UNUSED void **state) {
	static const struct {
		const char *flag, *text, *printed;
	} rows[] = {
		{"l", "a=b", "\"labels\":{\"a\":\"b\"}"},
		{"e", "A=1=2", "\"env\":[\"A=1=2\"]"},
		{"t", NULL, "\"tty\":true"},
		{"i", "true", "\"stdin_open\":true"},
		{"h", "box", "\"hostname\":\"box\""},
		{"entrypoint", "", "\"entrypoint\":[\"\"]"},
		{"restart", "on-failure:3", "\"restart\":{\"policy\":\"on-failure\",\"max_retries\":3}"},
		{"restart", "always", "\"restart\":{\"policy\":\"always\"}"},
		{"health-cmd", "curl x", "\"health\":{\"command\":[\"CMD-SHELL\",\"curl x\"]}"},
		{"no-healthcheck", NULL, "\"health\":{\"command\":[\"NONE\"]}"},
		{"security-opt", "no-new-privileges", "\"no_new_privileges\":true"},
		{"security-opt", "seccomp=unconfined", "\"seccomp\":\"unconfined\""},
		{"security-opt", "systempaths=unconfined", "\"unmask_paths\":true"},
		{"device", "/dev/fuse", "\"devices\":[{\"path\":\"/dev/fuse\"}]"},
		{"device", "/dev/fuse:r", "\"devices\":[{\"path\":\"/dev/fuse\",\"permissions\":\"r\"}]"},
		{"device", "/dev/a:/dev/b:rw",
		 "\"devices\":[{\"path\":\"/dev/a\",\"target\":\"/dev/b\",\"permissions\":\"rw\"}]"},
		{"ulimit", "nofile=10", "\"ulimits\":[{\"name\":\"nofile\",\"soft\":10,\"hard\":10}]"},
		{"ulimit", "core=0:-1", "\"ulimits\":[{\"name\":\"core\",\"hard\":-1}]"},
		{"cpus", "0.5", "\"cpus\":0.5"},
		{"c", "512", "\"cpu_shares\":512"},
		{"m", "64m", "\"memory\":67108864"},
		{"memory-swap", "-1", "\"memory_swap\":-1"},
		{"blkio-weight-device", "/dev/sda:200", "\"io_weights\":[{\"device\":\"/dev/sda\",\"weight\":200}]"},
		{"device-read-bps", "/dev/sda:1mb", "\"io_read_bps\":[{\"device\":\"/dev/sda\",\"rate\":1048576}]"},
		{"hugepages", "2MB=4m", "\"hugepages\":[{\"size\":\"2MB\",\"limit\":4194304}]"},
		{"pid", "container:x", "\"pid_mode\":\"instance:x\""},
		{"ipc", "shareable", "\"ipc_mode\":\"private\""},
		{"net", "host", "\"network\":\"host\""},
		{"mount", "type=bind,src=/a,dst=/b,readonly,bind-propagation=rslave",
		 "{\"type\":\"bind\",\"source\":\"/a\",\"target\":\"/b\",\"read_only\":true,\"recursive\":true,"
		 "\"propagation\":\"rslave\"}"},
		{"mount", "type=bind,\"source=/a,\"\"b\",target=/b,bind-nonrecursive",
		 "\"source\":\"/a,\\\"b\",\"target\":\"/b\",\"recursive\":false"},
		{"mount", "type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=700",
		 "{\"type\":\"tmpfs\",\"target\":\"/t\",\"recursive\":true,\"size\":1048576,\"mode\":\"700\"}"},
		{"v", "/a:/b", "{\"type\":\"bind\",\"source\":\"/a\",\"target\":\"/b\",\"recursive\":true}"},
		{"v", "/a:/b:ro,z,rshared,noexec",
		 "\"read_only\":true,\"recursive\":true,\"propagation\":\"rshared\",\"options\":[\"noexec\"]"},
		{"v", "data:/b", "{\"type\":\"volume\",\"source\":\"data\",\"target\":\"/b\",\"recursive\":true}"},
		{"tmpfs", "/run:size=64k,mode=1777,nosuid",
		 "{\"type\":\"tmpfs\",\"target\":\"/run\",\"recursive\":true,\"size\":65536,\"mode\":\"1777\",\"options\":[\"nosuid\"]}"},
		{"log-driver", "json-file", "\"log\":{\"driver\":\"file\""},
		{"log-opt", "max-size=1m", "\"max_size\":1048576"},
		{"log-opt", "max-file=3", "\"max_files\":3"},
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct instance_spec s;
		fields_init(&instance_spec_table, &s);
		s.image = str_copy("debian");
		assert_int_equal(set(&s, rows[i].flag, rows[i].text), 0);
		_cleanup_(error_free) struct error err = ERROR_INIT;
		_cleanup_(json_free_ptr) json_t *v = fields_print(&instance_spec_table, &s);
		_cleanup_(free_ptr) char *printed = json_print(v);
		if (!strstr(printed, rows[i].printed))
			fail_msg("--%s %s gives %s", rows[i].flag, rows[i].text, printed);
		if (fields_validate(&instance_spec_table, &s, &err) < 0 && strcmp(rows[i].flag, "memory-swap") != 0)
			fail_msg("--%s %s: %s", rows[i].flag, rows[i].text, error_text(&err));
		fields_free(&instance_spec_table, &s);
	}
}

static void test_flags_refused(UNUSED void **state) {
	static const char *const rows[][2] = {
		{"restart", "on-failure:x"},
		{"restart", "now"},
		{"ulimit", "nofile"},
		{"ulimit", "nofile=a"},
		{"mount", "type=bind,colour=red"},
		{"mount", "readonly=maybe"},
		{"device-read-bps", "/dev/sda"},
		{"hugepages", "2MB"},
		{"security-opt", "apparmor=x"},
		{"log-opt", "labels=x"},
		{"tty", "perhaps"},
		{"no-healthcheck", "false"},
		{"name", "a b"},
		{"label", "=x"},
		{"cpus", "-1"},
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct instance_spec s;
		fields_init(&instance_spec_table, &s);
		if (set(&s, rows[i][0], rows[i][1]) == 0)
			fail_msg("accepted: --%s %s", rows[i][0], rows[i][1]);
		fields_free(&instance_spec_table, &s);
	}
}

static void test_live(UNUSED void **state) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct instance_spec s;
	assert_int_equal(parse("{\"image\":\"debian\"}", &s, &err), 0);
	static const struct {
		const char *patch;
		int result;
	} rows[] = {
		{"{\"limits\":{\"memory\":\"64m\",\"pids\":5}}", 0},
		{"{\"name\":\"new\",\"labels\":{\"a\":\"b\"},\"restart\":{\"policy\":\"always\"}}", 0},
		{"{\"limits\":{\"shm_size\":\"1m\"}}", -ERROR_CONFLICT},
		{"{\"env\":[\"A=1\"]}", -ERROR_CONFLICT},
		{"{\"image\":\"other\"}", -ERROR_INVALID},
		{"{\"limits\":{\"memory\":null,\"memory_swap\":\"70m\"}}", -ERROR_INVALID},
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(json_free_ptr) json_t *patch = json_loads(rows[i].patch, 0, NULL);
		assert_int_equal(fields_patch(&instance_spec_table, patch, true, &s, &err), rows[i].result);
	}
	assert_string_equal(s.name, "new");
	fields_free(&instance_spec_table, &s);
}

static void test_names(UNUSED void **state) {
	for (int i = 0; i < 1000; i++) {
		_cleanup_(free_ptr) char *name = instance_name_random();
		assert_int_equal(instance_name_check(name, NULL), 0);
		assert_non_null(strchr(name, '_'));
	}
	char text[200];
	memset(text, 'a', sizeof text);
	text[129] = '\0';
	assert_int_equal(instance_name_check(text, NULL), -ERROR_INVALID);
	text[128] = '\0';
	assert_int_equal(instance_name_check(text, NULL), 0);
	assert_int_equal(instance_id_check(text, NULL), -ERROR_INVALID);
	text[64] = '\0';
	assert_int_equal(instance_id_check(text, NULL), 0);
}

static void test_signals(UNUSED void **state) {
	static const struct {
		const char *name;
		int signo;
	} rows[] = {
		{"SIGTERM", SIGTERM}, {"TERM", SIGTERM}, {"term", SIGTERM}, {"15", 15},	      {"0", 0},
		{"64", 64},	      {"65", 0},	 {"SIGRTMIN", 34},  {"RTMIN+3", 37},  {"SIGRTMAX", 64},
		{"SIGRTMAX-1", 63},   {"RTMIN-1", 0},	 {"RTMIN+31", 0},   {"CLD", SIGCHLD}, {"", 0},
		{"SIG", 0},	      {"-1", 0},	 {"SIGX", 0},
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_int_equal(signal_from_name(rows[i].name), rows[i].signo);
	for (int s = 1; s < 32; s++)
		assert_int_equal(signal_from_name(signal_name(s)), s);
	assert_null(signal_name(0));
	assert_null(signal_name(64));
	assert_null(signal_name(-1));
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refused), cmocka_unit_test(test_accepted), cmocka_unit_test(test_flags),
		cmocka_unit_test(test_flags_refused), cmocka_unit_test(test_live), cmocka_unit_test(test_names),
		cmocka_unit_test(test_signals),
	};
	return cmocka_run_group_tests_name("instance", tests, NULL, NULL);
}
