/* Control groups: with real processes on this host, and what v2 would get written on plain files. */
#include "driver/container/cgroup-priv.h"

#include "base/fs.h"
#include "base/proc.h"
#include "base/str.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char *group_path(const char *name) {
	return str_format("wabe-test-%d/%s", (int)getpid(), name);
}

static void expect(int r, struct error *err) {
	if (r < 0)
		fail_msg("%s", error_text(err));
}

static void create(struct cgroup_config *c, const char *name, struct cgroup_state *s) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	c->path = group_path(name);
	expect(cgroup_create(c, s, &err), &err);
}

static void finish(struct cgroup_config *c, struct cgroup_state *s) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	expect(cgroup_kill(s, SIGKILL, &err), &err);
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
	expect(cgroup_remove(s, &err), &err);
	cgroup_state_free(s);
	cgroup_config_free(c);
}

/* A child in the group, by the fast way in, that then runs fn and exits with its result. */
static pid_t run_inside(const struct cgroup_state *s, int (*fn)(void *), void *arg) {
	_cleanup_(close_fd) int v2 = cgroup_open_v2(s);
	struct clone_args args = {.exit_signal = SIGCHLD, .flags = v2 >= 0 ? CLONE_INTO_CGROUP : 0, .cgroup = v2 >= 0 ? (uint64_t)v2 : 0};
	pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof args);
	if (pid == 0)
		_exit(cgroup_enter(s, 0, NULL) < 0 ? 99 : fn(arg));
	assert_true(pid > 0);
	return pid;
}

static int sleep_on(UNUSED void *arg) {
	pause();
	return 0;
}

/* A child that has entered, as its writing to the pipe shows, and waits. */
static int say_and_pause(void *arg) {
	(void)!write(*(int *)arg, "x", 1);
	pause();
	return 0;
}

static pid_t start_sleeper(const struct cgroup_state *s) {
	int p[2];
	char c;
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	pid_t pid = run_inside(s, say_and_pause, &p[1]);
	close(p[1]);
	assert_int_equal(read(p[0], &c, 1), 1);
	close(p[0]);
	return pid;
}

static char *value_of(const struct cgroup_state *s, enum cgroup_hierarchy h, const char *file) {
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	_cleanup_(free_ptr) char *path = str_format("%s/%s/%s", cgroup_host()->mount[h], s->path, file);
	if (fs_read(path, 65536, &text) < 0)
		fail_msg("cannot read %s", path);
	return str_copyn(buf_str(&text), strcspn(buf_str(&text), "\n"));
}

static void assert_value(const struct cgroup_state *s, enum cgroup_hierarchy h, const char *file, const char *expected) {
	_cleanup_(free_ptr) char *text = value_of(s, h, file);
	assert_string_equal(text, expected);
}

static void test_host(UNUSED void **state) {
	struct cgroup_host host;
	cgroup_host_parse("32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:5 master:2 - cgroup cgroup rw,cpu,cpuacct\n"
			  "33 31 0:30 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n"
			  "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
			  "50 1 0:9 / /proc rw - proc proc rw\n", &host);
	assert_int_equal(host.version, 1);
	assert_string_equal(host.mount[CGROUP_CPU], "/sys/fs/cgroup/cpu,cpuacct");
	assert_string_equal(host.mount[CGROUP_CPUACCT], "/sys/fs/cgroup/cpu,cpuacct");
	assert_string_equal(host.mount[CGROUP_SYSTEMD], "/sys/fs/cgroup/systemd");
	assert_string_equal(host.mount[CGROUP_UNIFIED], "/sys/fs/cgroup/unified");
	assert_null(host.mount[CGROUP_MEMORY]);
	for (int h = 0; h < CGROUP_HIERARCHIES; h++)
		free(host.mount[h]);
	cgroup_host_parse("29 22 0:25 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n", &host);
	assert_int_equal(host.version, 2);
	assert_string_equal(host.mount[CGROUP_UNIFIED], "/sys/fs/cgroup");
	free(host.mount[CGROUP_UNIFIED]);
}

static void test_paths(UNUSED void **state) {
	static const char *const bad[] = {"", "/", "..", "a/../b", "a/.", "a\nb"};
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct cgroup_state s;
		struct cgroup_config c = {.path = (char *)bad[i]};
		assert_int_equal(cgroup_create(&c, &s, NULL), -ERROR_INVALID);
		_cleanup_(json_free_ptr) json_t *j = json_pack("{s:s,s:i}", "path", bad[i], "version", 1);
		assert_int_equal(cgroup_state_parse(j, &s, NULL), -ERROR_CORRUPT);
	}
}

static void test_life(UNUSED void **state) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct cgroup_config c = {0}, again = {0};
	struct cgroup_state s, other, read_back;
	create(&c, "life", &s);
	_cleanup_(json_free_ptr) json_t *j = cgroup_state_print(&s);
	expect(cgroup_state_parse(j, &read_back, &err), &err);
	assert_string_equal(read_back.path, s.path);
	cgroup_state_free(&read_back);

	create(&again, "life", &other); /* an empty one is taken */
	cgroup_state_free(&other);
	pid_t child = start_sleeper(&s);
	assert_int_equal(cgroup_create(&again, &other, &err), -ERROR_EXISTS);
	cgroup_config_free(&again);
	assert_int_equal(cgroup_remove(&s, &err), -ERROR_BUSY);

	pid_t *pids;
	size_t n;
	expect(cgroup_pids(&s, &pids, &n, &err), &err);
	assert_int_equal(n, 1);
	assert_int_equal(pids[0], child);
	free(pids);
	finish(&c, &s);
}

static void test_leave_nothing(UNUSED void **state) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct cgroup_config c = {.path = group_path("broken"), .limits = {.cpus = str_copy("4095")}};
	struct cgroup_state s;
	assert_true(cgroup_create(&c, &s, &err) < 0);
	for (int h = 0; h < CGROUP_HIERARCHIES; h++) {
		if (!cgroup_host()->mount[h])
			continue;
		_cleanup_(free_ptr) char *full = str_format("%s/%s", cgroup_host()->mount[h], c.path);
		assert_false(fs_exists(full));
	}
	cgroup_config_free(&c);
}

static void test_enter_other(UNUSED void **state) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct cgroup_config c = {0};
	struct cgroup_state s, gone = {.path = (char *)"wabe-test-none", .version = 1};
	create(&c, "other", &s);
	pid_t pid = fork();
	if (pid == 0)
		_exit(sleep_on(NULL));
	assert_int_equal(cgroup_enter(&gone, pid, &err), -ERROR_NOT_FOUND);
	expect(cgroup_enter(&s, pid, &err), &err);
	pid_t *pids;
	size_t n;
	expect(cgroup_pids(&s, &pids, &n, &err), &err);
	assert_int_equal(n, 1);
	free(pids);
	finish(&c, &s);
}

static void test_limits_v1(UNUSED void **state) {
	if (cgroup_version() != 1)
		skip();
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct cgroup_config c = {.limits = {.memory = 64 << 20, .memory_swap = 128 << 20, .memory_reservation = 32 << 20,
					     .cpu_shares = 512, .cpu_period = 50000, .cpu_quota = 25000, .pids = 50,
					     .cpus = str_copy("0"), .has_swappiness = true, .memory_swappiness = 10}};
	struct cgroup_state s;
	create(&c, "limits", &s);
	assert_value(&s, CGROUP_MEMORY, "memory.limit_in_bytes", "67108864");
	assert_value(&s, CGROUP_MEMORY, "memory.memsw.limit_in_bytes", "134217728");
	assert_value(&s, CGROUP_MEMORY, "memory.soft_limit_in_bytes", "33554432");
	assert_value(&s, CGROUP_MEMORY, "memory.swappiness", "10");
	assert_value(&s, CGROUP_CPU, "cpu.shares", "512");
	assert_value(&s, CGROUP_CPU, "cpu.cfs_quota_us", "25000");
	assert_value(&s, CGROUP_PIDS, "pids.max", "50");
	assert_value(&s, CGROUP_CPUSET, "cpuset.cpus", "0");
	assert_value(&s, CGROUP_CPUSET, "cpuset.mems", "0");

	/* over the old memsw limit: only together */
	struct cgroup_limits more = {.memory = 256 << 20, .memory_swap = 512 << 20, .pids = -1};
	expect(cgroup_update(&s, &more, &err), &err);
	assert_value(&s, CGROUP_MEMORY, "memory.limit_in_bytes", "268435456");
	assert_value(&s, CGROUP_MEMORY, "memory.memsw.limit_in_bytes", "536870912");
	assert_value(&s, CGROUP_PIDS, "pids.max", "max");

	/* the last value is refused: the first is as it was */
	struct cgroup_limits wrong = {.memory = 128 << 20, .cpus = (char *)"999"};
	assert_int_equal(cgroup_update(&s, &wrong, &err), -ERROR_INVALID);
	assert_value(&s, CGROUP_MEMORY, "memory.limit_in_bytes", "268435456");
	finish(&c, &s);
}

static void test_late_cpuset(UNUSED void **state) {
	if (cgroup_version() != 1)
		skip();
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct cgroup_config c = {0};
	struct cgroup_state s;
	create(&c, "late", &s);
	pid_t child = start_sleeper(&s);
	struct cgroup_limits l = {.cpus = (char *)"1"};
	expect(cgroup_update(&s, &l, &err), &err);
	cpu_set_t set;
	assert_int_equal(sched_getaffinity(child, sizeof set, &set), 0);
	assert_int_equal(CPU_COUNT(&set), 1);
	assert_true(CPU_ISSET(1, &set));
	finish(&c, &s);
}

static void test_missing_controller(UNUSED void **state) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct cgroup_hugepage page = {(char *)"2MB", 4096};
	struct cgroup_limits l = {.hugepages = &page, .n_hugepages = 1};
	struct cgroup_config c = {0};
	struct cgroup_state s;
	create(&c, "missing", &s);
	if (!cgroup_host()->mount[CGROUP_HUGETLB] && cgroup_version() == 1) {
		assert_int_equal(cgroup_update(&s, &l, &err), -ERROR_UNSUPPORTED);
		assert_non_null(strstr(error_text(&err), "hugetlb"));
	}
	finish(&c, &s);
}

static int fork_until_refused(UNUSED void *arg) {
	for (int i = 0; i < 100; i++) {
		pid_t pid = fork();
		if (pid == 0) {
			pause();
			_exit(0);
		}
		if (pid < 0)
			return errno == EAGAIN ? i : 99;
	}
	return 98;
}

static void test_pids(UNUSED void **state) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct cgroup_config c = {.limits = {.pids = 10}};
	struct cgroup_state s;
	create(&c, "pids", &s);
	pid_t pid = run_inside(&s, fork_until_refused, NULL);
	assert_int_equal(proc_wait(pid), 9);
	struct cgroup_stats stats;
	expect(cgroup_stats(&s, &stats, &err), &err);
	assert_int_equal(stats.pids, 9);
	assert_int_equal(stats.pids_limit, 10);
	finish(&c, &s);
}

static int fill_memory(UNUSED void *arg) {
	size_t n = (size_t)200 << 20;
	char *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (size_t i = 0; p != MAP_FAILED && i < n; i += 4096)
		p[i] = 1;
	return 0;
}

static void test_oom(UNUSED void **state) {
	struct cgroup_config c = {.limits = {.memory = 16 << 20, .memory_swap = 16 << 20}};
	struct cgroup_state s;
	create(&c, "oom", &s);
	assert_int_equal(cgroup_oom_kills(&s), 0);
	pid_t pid = run_inside(&s, fill_memory, NULL);
	assert_int_equal(proc_wait(pid), 137);
	assert_int_equal(cgroup_oom_kills(&s), 1);
	struct cgroup_stats stats;
	assert_int_equal(cgroup_stats(&s, &stats, NULL), 0);
	assert_int_equal(stats.memory_limit, 16 << 20);
	assert_true(stats.memory_max > 8 << 20);
	assert_true(stats.cpu_ns > 0);
	finish(&c, &s);
}

/* Counts in shared memory for as long as it runs. */
static int count_on(void *arg) {
	volatile uint64_t *counter = arg;
	for (;;)
		++*counter;
	return 0;
}

static void test_freeze(UNUSED void **state) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	uint64_t *counter = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct cgroup_config c = {0};
	struct cgroup_state s;
	create(&c, "freeze", &s);
	run_inside(&s, count_on, counter);
	while (__atomic_load_n(counter, __ATOMIC_RELAXED) == 0)
		sched_yield();
	assert_false(cgroup_is_frozen(&s));
	expect(cgroup_freeze(&s, true, &err), &err);
	assert_true(cgroup_is_frozen(&s));
	uint64_t before = __atomic_load_n(counter, __ATOMIC_RELAXED);
	for (int i = 0; i < 1000; i++)
		sched_yield();
	assert_int_equal(before, __atomic_load_n(counter, __ATOMIC_RELAXED));
	expect(cgroup_freeze(&s, false, &err), &err);
	while (__atomic_load_n(counter, __ATOMIC_RELAXED) == before)
		sched_yield();
	expect(cgroup_freeze(&s, true, &err), &err);
	finish(&c, &s); /* a frozen one dies too */
	munmap(counter, 4096);
}

static int fork_for_ever(UNUSED void *arg) {
	for (;;)
		if (fork() < 0)
			sched_yield();
	return 0;
}

static void test_kill_fork_bomb(UNUSED void **state) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct cgroup_config c = {.limits = {.pids = 40}};
	struct cgroup_state s;
	create(&c, "bomb", &s);
	pid_t pid = run_inside(&s, fork_for_ever, NULL);
	struct cgroup_stats stats = {0};
	while (stats.pids < 40)
		expect(cgroup_stats(&s, &stats, &err), &err);
	expect(cgroup_kill(&s, SIGKILL, &err), &err);
	assert_int_equal(proc_wait(pid), 137);
	finish(&c, &s);
}

static void test_signal_all(UNUSED void **state) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct cgroup_config c = {0};
	struct cgroup_state s;
	create(&c, "signal", &s);
	pid_t one = start_sleeper(&s), two = start_sleeper(&s);
	expect(cgroup_kill(&s, SIGTERM, &err), &err);
	assert_int_equal(proc_wait(one), 143);
	assert_int_equal(proc_wait(two), 143);
	finish(&c, &s);
}

static const struct cgroup_device_rule device_rules[] = {
	{false, 'a', -1, -1, "rwm"}, {true, 'c', 1, 3, "rwm"}, {true, 'c', 1, 5, "r"}, {true, 'c', 136, -1, "rwm"},
	{true, 'c', -1, -1, "m"},
};

/* Exit status 0 when what the rules say holds. */
static int try_devices(void *arg) {
	const char *folder = arg;
	int null = open("/dev/null", O_RDWR), zero = open("/dev/zero", O_RDONLY), full = open("/dev/full", O_RDONLY);
	int zero_rw = open("/dev/zero", O_RDWR);
	_cleanup_(free_ptr) char *node = str_format("%s/node", folder);
	bool made = mknod(node, S_IFCHR | 0600, makedev(1, 7)) == 0;
	unlink(node);
	bool made_block = mknod(node, S_IFBLK | 0600, makedev(7, 0)) == 0;
	return null < 0 ? 1 : zero < 0 ? 2 : full >= 0 ? 3 : zero_rw >= 0 ? 4 : !made ? 5 : made_block ? 6 : 0;
}

static void test_devices(UNUSED void **state) {
	char folder[] = "/tmp/wabe-test-XXXXXX";
	assert_non_null(mkdtemp(folder));
	struct cgroup_config c = {.n_devices = ARRAY_SIZE(device_rules)};
	c.devices = alloc_array(c.n_devices, sizeof *c.devices);
	memcpy(c.devices, device_rules, sizeof device_rules);
	struct cgroup_state s;
	create(&c, "devices", &s);
	assert_int_equal(proc_wait(run_inside(&s, try_devices, folder)), 0);
	finish(&c, &s);
	fs_remove_tree(folder);
}

/* The program for v2 works on the v2 tree of a host whose controllers are in v1 too. */
static void test_devices_v2(UNUSED void **state) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	char folder[] = "/tmp/wabe-test-XXXXXX";
	assert_non_null(mkdtemp(folder));
	struct cgroup_config c = {0};
	struct cgroup_state s;
	create(&c, "devices-v2", &s);
	_cleanup_(close_fd) int dir = cgroup_open_v2(&s);
	if (dir < 0)
		skip();
	struct cgroup_device_rule nothing = {false, 'a', -1, -1, "rwm"};
	expect(cgroup_v2_devices(dir, &nothing, 1, &err), &err);
	assert_int_equal(proc_wait(run_inside(&s, try_devices, folder)), 1);
	expect(cgroup_v2_devices(dir, device_rules, ARRAY_SIZE(device_rules), &err), &err); /* replaces */
	assert_int_equal(proc_wait(run_inside(&s, try_devices, folder)), 0);
	finish(&c, &s);
	fs_remove_tree(folder);
}

static int look_at_mount(void *arg) {
	struct cgroup_state *s = arg;
	char folder[] = "/tmp/wabe-test-XXXXXX";
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || !mkdtemp(folder))
		return 1;
	_cleanup_(error_free) struct error err = ERROR_INIT;
	if (cgroup_mount(s, folder, false, false, &err) < 0) {
		fprintf(stderr, "# %s\n", error_text(&err));
		return 2;
	}
	_cleanup_(free_ptr) char *file = str_format("%s/%s", folder, cgroup_version() == 1 ? "pids/pids.max" : "pids.max");
	_cleanup_(free_ptr) char *procs = str_format("%s/%s", folder, cgroup_version() == 1 ? "pids/tasks" : "cgroup.procs");
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	bool good = fs_read(file, 64, &text) == 0 && strcmp(buf_str(&text), "77\n") == 0;
	bool readonly = fs_write_value(procs, "0") == -EROFS;
	umount2(folder, MNT_DETACH);
	rmdir(folder);
	return !good ? 3 : !readonly ? 4 : 0;
}

static void test_mount(UNUSED void **state) {
	struct cgroup_config c = {.limits = {.pids = 77}};
	struct cgroup_state s;
	create(&c, "mount", &s);
	assert_int_equal(proc_wait(run_inside(&s, look_at_mount, &s)), 0);
	finish(&c, &s);
}

/* --- v2 on plain files --- */

static int fake_group(const char *const *files, char *folder) {
	assert_non_null(mkdtemp(folder));
	int dir = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	for (size_t i = 0; files[i]; i += 2) {
		int fd = openat(dir, files[i], O_WRONLY | O_CREAT, 0600);
		assert_int_equal(write(fd, files[i + 1], strlen(files[i + 1])), strlen(files[i + 1]));
		close(fd);
	}
	return dir;
}

static void test_v2_plan(UNUSED void **state) {
	static const char *const files[] = {"memory.max", "", "memory.low", "", "memory.swap.max", "", "cpu.weight", "",
					    "cpu.max", "max\n", "cpu.idle", "", "cpuset.cpus", "", "cpuset.mems", "",
					    "io.weight", "", "io.max", "", "pids.max", "", "hugetlb.2MB.max", "",
					    "memory.high", "", "cpu.max.burst", "", NULL};
	static const struct {
		const char *json, *file, *value;
	} rows[] = {
		{"{\"memory\":{\"limit\":1000,\"swap\":3000,\"reservation\":500}}", "memory.swap.max", "2000"},
		{"{\"memory\":{\"limit\":1000,\"swap\":3000,\"reservation\":500}}", "memory.max", "1000"},
		{"{\"memory\":{\"limit\":1000,\"swap\":3000,\"reservation\":500}}", "memory.low", "500"},
		{"{\"memory\":{\"limit\":-1,\"swap\":-1}}", "memory.swap.max", "max"},
		{"{\"memory\":{\"limit\":5,\"swap\":5}}", "memory.swap.max", "0"},
		{"{\"cpu\":{\"shares\":2}}", "cpu.weight", "1"},
		{"{\"cpu\":{\"shares\":1024}}", "cpu.weight", "39"},
		{"{\"cpu\":{\"shares\":262144}}", "cpu.weight", "10000"},
		{"{\"cpu\":{\"quota\":5000,\"period\":10000}}", "cpu.max", "5000 10000"},
		{"{\"cpu\":{\"period\":20000}}", "cpu.max", "max 20000"},
		{"{\"cpu\":{\"burst\":100}}", "cpu.max.burst", "100"},
		{"{\"cpu\":{\"cpus\":\"0-1\",\"mems\":\"0\"}}", "cpuset.cpus", "0-1"},
		{"{\"blockIO\":{\"weight\":10}}", "io.weight", "1"},
		{"{\"blockIO\":{\"weight\":1000}}", "io.weight", "10000"},
		{"{\"blockIO\":{\"weightDevice\":[{\"major\":8,\"minor\":16,\"weight\":1000}]}}", "io.weight", "8:16 10000"},
		{"{\"blockIO\":{\"throttleWriteBpsDevice\":[{\"major\":8,\"minor\":16,\"rate\":4096}]}}", "io.max", "8:16 wbps=4096"},
		{"{\"blockIO\":{\"throttleReadIOPSDevice\":[{\"major\":8,\"minor\":0,\"rate\":10}]}}", "io.max", "8:0 riops=10"},
		{"{\"pids\":{\"limit\":12}}", "pids.max", "12"},
		{"{\"pids\":{\"limit\":-1}}", "pids.max", "max"},
		{"{\"hugepageLimits\":[{\"pageSize\":\"2MB\",\"limit\":99}]}", "hugetlb.2MB.max", "99"},
		{"{\"unified\":{\"memory.high\":\"77\"}}", "memory.high", "77"},
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char folder[] = "/tmp/wabe-test-XXXXXX";
		_cleanup_(error_free) struct error err = ERROR_INIT;
		_cleanup_(close_fd) int dir = fake_group(files, folder);
		_cleanup_(cgroup_limits_free) struct cgroup_limits l;
		_cleanup_(cgroup_values_free) struct cgroup_values values = {0};
		_cleanup_(json_free_ptr) json_t *j = json_parse(rows[i].json, strlen(rows[i].json), &err);
		expect(cgroup_limits_from_oci(j, &l, NULL, NULL, &err), &err);
		expect(cgroup_v2_plan(&l, dir, &values, &err), &err);
		expect(cgroup_values_write(&values, false, &err), &err);
		_cleanup_(buf_free) struct buf text = BUF_INIT;
		assert_int_equal(fs_read_at(dir, rows[i].file, 256, &text), 0);
		assert_string_equal(buf_str(&text), rows[i].value);
		fs_remove_tree(folder);
	}
}

static void test_v2_missing(UNUSED void **state) {
	static const char *const none[] = {NULL};
	static const char *const rows[][2] = {
		{"{\"memory\":{\"limit\":1000}}", "memory"},  {"{\"cpu\":{\"shares\":10}}", "cpu"},
		{"{\"cpu\":{\"cpus\":\"0\"}}", "cpuset"},     {"{\"blockIO\":{\"weight\":100}}", "io"},
		{"{\"pids\":{\"limit\":1}}", "pids"},         {"{\"hugepageLimits\":[{\"pageSize\":\"2MB\",\"limit\":1}]}", "hugetlb"},
		{"{\"memory\":{\"swappiness\":1}}", "swappiness"},
	};
	char folder[] = "/tmp/wabe-test-XXXXXX";
	_cleanup_(close_fd) int dir = fake_group(none, folder);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(error_free) struct error err = ERROR_INIT;
		_cleanup_(cgroup_limits_free) struct cgroup_limits l;
		_cleanup_(cgroup_values_free) struct cgroup_values values = {0};
		_cleanup_(json_free_ptr) json_t *j = json_parse(rows[i][0], strlen(rows[i][0]), &err);
		expect(cgroup_limits_from_oci(j, &l, NULL, NULL, &err), &err);
		assert_int_equal(cgroup_v2_plan(&l, dir, &values, &err), -ERROR_UNSUPPORTED);
		assert_non_null(strstr(error_text(&err), rows[i][1]));
	}
	fs_remove_tree(folder);
}

static void test_v2_enable(UNUSED void **state) {
	static const char *const files[] = {"cgroup.controllers", "cpu memory\n", "cgroup.subtree_control", "cpu\n", NULL};
	char folder[] = "/tmp/wabe-test-XXXXXX";
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(close_fd) int dir = fake_group(files, folder);
	_cleanup_(buf_free) struct buf top = BUF_INIT, mid = BUF_INIT;
	_cleanup_(free_ptr) char *leaf = str_format("%s/a/b", folder), *sub = str_format("%s/a/cgroup.subtree_control", folder);
	assert_int_equal(fs_mkdir_p(leaf, 0755), 0);
	close(open(sub, O_CREAT | O_WRONLY, 0600));
	expect(cgroup_v2_enable(dir, "a/b", &err), &err);
	assert_int_equal(fs_read_at(dir, "cgroup.subtree_control", 100, &top), 0);
	assert_string_equal(buf_str(&top), "+memory"); /* cpu was on */
	assert_int_equal(fs_read(sub, 100, &mid), 0);
	assert_string_equal(buf_str(&mid), "+memory"); /* written over "+cpu", as a file is */
	fs_remove_tree(folder);
}

static void test_v2_stats(UNUSED void **state) {
	static const char *const files[] = {
		"cpu.stat", "usage_usec 10\nuser_usec 6\nsystem_usec 4\nnr_periods 3\nnr_throttled 2\nthrottled_usec 1\n",
		"memory.current", "1000\n", "memory.peak", "2000\n", "memory.max", "max\n", "memory.stat", "anon 1\ninactive_file 300\n",
		"memory.events", "low 0\nmax 7\noom_kill 2\n", "memory.swap.current", "5\n", "pids.current", "4\n", "pids.max", "99\n",
		"io.stat", "8:0 rbytes=100 wbytes=200 rios=1 wios=2 dbytes=0 dios=0\n8:16 rbytes=1 wbytes=2 rios=3 wios=4\n", NULL};
	char folder[] = "/tmp/wabe-test-XXXXXX";
	_cleanup_(close_fd) int dir = fake_group(files, folder);
	struct cgroup_stats s;
	cgroup_v2_stats(dir, &s);
	assert_int_equal(s.cpu_ns, 10000);
	assert_int_equal(s.cpu_system_ns, 4000);
	assert_int_equal(s.throttled_ns, 1000);
	assert_int_equal(s.memory, 1000);
	assert_true(s.memory_limit == UINT64_MAX);
	assert_int_equal(s.memory_cache, 300);
	assert_int_equal(s.memory_failures, 7);
	assert_int_equal(s.pids_limit, 99);
	assert_int_equal(s.read_bytes, 101);
	assert_int_equal(s.write_ops, 6);
	fs_remove_tree(folder);
}

static void test_oci(UNUSED void **state) {
	static const char *const bad[] = {
		"{\"memory\":{\"limit\":\"x\"}}", "{\"cpu\":{\"shares\":-1}}", "{\"devices\":[{\"type\":\"x\"}]}",
		"{\"devices\":[{\"allow\":true,\"access\":\"rwx\"}]}", "{\"hugepageLimits\":[{\"pageSize\":\"../2MB\",\"limit\":1}]}",
		"{\"devices\":[{\"major\":4294967296}]}",
	};
	struct cgroup_limits l;
	struct cgroup_device_rule *rules;
	size_t n;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		_cleanup_(error_free) struct error err = ERROR_INIT;
		_cleanup_(json_free_ptr) json_t *j = json_parse(bad[i], strlen(bad[i]), &err);
		assert_int_equal(cgroup_limits_from_oci(j, &l, &rules, &n, &err), -ERROR_INVALID);
		assert_non_null(err.field);
	}
	static const char good[] = "{\"devices\":[{\"allow\":false,\"access\":\"rwm\"},{\"allow\":true,\"type\":\"c\",\"major\":1,"
				   "\"minor\":3,\"access\":\"rw\"},{\"allow\":true,\"type\":\"p\"}],\"memory\":{\"swappiness\":0}}";
	_cleanup_(json_free_ptr) json_t *j = json_parse(good, strlen(good), NULL);
	assert_int_equal(cgroup_limits_from_oci(j, &l, &rules, &n, NULL), 0);
	assert_int_equal(n, 2);
	assert_int_equal(rules[0].type, 'a');
	assert_int_equal(rules[0].major, -1);
	assert_string_equal(rules[1].access, "rw");
	assert_true(l.has_swappiness);
	free(rules);
	cgroup_limits_free(&l);
}

static int clean_up(UNUSED void **state) {
	struct cgroup_state top = {.path = str_format("wabe-test-%d", (int)getpid())};
	cgroup_kill(&top, SIGKILL, NULL);
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
	int r = cgroup_remove(&top, NULL);
	cgroup_state_free(&top);
	return r;
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_host),
		cmocka_unit_test(test_paths),
		cmocka_unit_test(test_life),
		cmocka_unit_test(test_leave_nothing),
		cmocka_unit_test(test_enter_other),
		cmocka_unit_test(test_limits_v1),
		cmocka_unit_test(test_late_cpuset),
		cmocka_unit_test(test_missing_controller),
		cmocka_unit_test(test_pids),
		cmocka_unit_test(test_oom),
		cmocka_unit_test(test_freeze),
		cmocka_unit_test(test_kill_fork_bomb),
		cmocka_unit_test(test_signal_all),
		cmocka_unit_test(test_devices),
		cmocka_unit_test(test_devices_v2),
		cmocka_unit_test(test_mount),
		cmocka_unit_test(test_v2_plan),
		cmocka_unit_test(test_v2_missing),
		cmocka_unit_test(test_v2_enable),
		cmocka_unit_test(test_v2_stats),
		cmocka_unit_test(test_oci),
	};
	return cmocka_run_group_tests(tests, NULL, clean_up);
}
