/* The container driver by its own interface: overlays of idmapped layers, defaults, users, init, hand-over, and
 * that failures leave nothing. What `wabe oci` can show is in tests/host/oci_test.py. */
#include "base/fs.h"
#include "base/proc.h"
#include "base/str.h"
#include "driver/container/container-priv.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define BASE 200000

static char top[64];

static char *in_top(const char *name) {
	return str_format("%s/%s", top, name);
}

static void make_dir(const char *name) {
	_cleanup_(free_ptr) char *path = in_top(name);
	assert_int_equal(fs_mkdir_p(path, 0755), 0);
}

static void write_file(const char *name, const char *text) {
	_cleanup_(free_ptr) char *path = in_top(name);
	_cleanup_(close_fd) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	assert_true(fd >= 0);
	assert_int_equal(fs_write_all(fd, text, strlen(text)), 0);
}

static void make_busybox_layer(void) {
	static const char *const dirs[] = {"l0/bin", "l0/etc", "l0/proc", "l0/sys", "l0/dev", "l0/tmp", "l0/root", "work", NULL};
	static const char *const applets[] = {"sh", "cat", "id", "stat", "ls", "sleep", "true", "touch", "grep", "ps", "kill", NULL};
	for (int i = 0; dirs[i]; i++)
		make_dir(dirs[i]);
	_cleanup_(free_ptr) char *to = in_top("l0/bin/busybox");
	_cleanup_(close_fd) int in = open(fs_exists("/bin/busybox") ? "/bin/busybox" : "/usr/bin/busybox", O_RDONLY | O_CLOEXEC);
	_cleanup_(close_fd) int out = open(to, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
	assert_int_equal(fs_copy(in, out, NULL), 0);
	for (int i = 0; applets[i]; i++) {
		_cleanup_(free_ptr) char *name = str_format("%s/l0/bin/%s", top, applets[i]);
		assert_int_equal(symlink("busybox", name), 0);
	}
	write_file("l0/etc/passwd", "root:x:0:0:r:/root:/bin/sh\nann:x:1001:1002:a:/home/ann:/bin/sh\n");
	write_file("l0/etc/group", "root:x:0:\nann:x:1002:\nstaff:x:50:ann,bob\nextra:x:60:\n");
}

/* One layer more for each number, each with a file of its own. */
static void make_layers(struct container_config *c, int n) {
	for (int i = 0; i < n; i++) {
		_cleanup_(free_ptr) char *name = str_format("l%d", i), *file = str_format("l%d/file-%d", i, i);
		make_dir(name);
		write_file(file, "x");
		strv_take(&c->lowers, in_top(name));
	}
}

static void add_namespace(struct container_config *c, int flag) {
	c->namespaces = alloc_resize(c->namespaces, c->n_namespaces + 1, sizeof *c->namespaces);
	c->namespaces[c->n_namespaces++] = (struct container_namespace){.flag = flag};
}

static void base_config(struct container_config *c, const char *id, int layers, const char *script) {
	static const int flags[] = {CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWIPC, CLONE_NEWUTS, CLONE_NEWNET, CLONE_NEWUSER, CLONE_NEWCGROUP};
	container_config_init(c);
	c->id = str_format("%s-%d", id, getpid());
	c->cgroup.path = str_format("wabe-test/%s", c->id);
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
		add_namespace(c, flags[i]);
	c->uid_maps = NEW(struct id_map);
	c->gid_maps = NEW(struct id_map);
	*c->uid_maps = *c->gid_maps = (struct id_map){0, BASE, 65536};
	c->n_uid_maps = c->n_gid_maps = 1;
	make_layers(c, layers);
	_cleanup_(free_ptr) char *upper_name = str_format("upper-%s", id);
	make_dir(upper_name);
	c->upper = in_top(upper_name);
	_cleanup_(free_ptr) char *work_name = str_format("work-%s", id);
	make_dir(work_name);
	c->work = in_top(work_name);
	strv_add(&c->process.args, "sh");
	strv_add(&c->process.args, "-c");
	strv_add(&c->process.args, script);
	strv_add(&c->process.env, "PATH=/bin");
	struct container_defaults d = {0};
	struct error err = ERROR_INIT;
	if (container_apply_defaults(c, &d, &err) < 0)
		fail_msg("%s", error_text(&err));
}

static void create(const struct container_config *c, int out, struct container_state *s) {
	struct container_stdio io = {.in = -1, .out = out, .err = out};
	struct error err = ERROR_INIT;
	if (container_create(c, &io, s, &err) < 0)
		fail_msg("create: %s", error_text(&err));
}

static void destroy(struct container_state *s) {
	struct error err = ERROR_INIT;
	if (container_destroy(s, &err) < 0)
		fail_msg("destroy: %s", error_text(&err));
	container_state_free(s);
}

/* Runs it to its end; gives its output. */
static char *run(const struct container_config *c, int *status) {
	struct container_state s;
	int p[2];
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	create(c, p[1], &s);
	close(p[1]);
	struct error err = ERROR_INIT;
	if (container_start(&s, &err) < 0)
		fail_msg("start: %s", error_text(&err));
	struct buf out = BUF_INIT;
	assert_int_equal(fs_read_fd(p[0], 1 << 20, &out), 0);
	close(p[0]);
	*status = proc_wait(s.pid);
	destroy(&s);
	return out.len ? buf_steal(&out) : str_copy("");
}

static int count_fds(void) {
	int n = 0;
	DIR *d = opendir("/proc/self/fd");
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static void expect(const struct container_config *c, const char *wanted) {
	int status;
	_cleanup_(free_ptr) char *out = run(c, &status);
	assert_string_equal(out, wanted);
	assert_int_equal(status, 0);
}

static void overlay_of(const char *id, int layers) {
	_cleanup_(container_config_free) struct container_config c;
	base_config(&c, id, layers, "stat -c %u:%g /bin/busybox; ls -d /file-* | grep -c .; echo y > /etc/new; touch /bin/sh;"
				    "stat -c %u /etc/new; cat /proc/self/uid_map; id -u");
	_cleanup_(free_ptr) char *wanted = str_format("0:0\n%d\n0\n         0     200000      65536\n0\n", layers);
	int before = count_fds();
	expect(&c, wanted);
	assert_int_equal(count_fds(), before);
	_cleanup_(free_ptr) char *made = str_format("%s/etc/new", c.upper);
	struct stat st;
	assert_int_equal(stat(made, &st), 0);
	assert_int_equal(st.st_uid, 0);
	_cleanup_(free_ptr) char *layer = in_top("l0/etc/new");
	assert_false(fs_exists(layer));
}

static void overlay_one(void **state) {
	(void)state;
	overlay_of("one", 1);
}

static void overlay_many(void **state) {
	(void)state;
	overlay_of("many", 120);
}

static void overlay_compat(void **state) {
	(void)state;
	_cleanup_(container_config_free) struct container_config c;
	base_config(&c, "compat", 100, "true");
	struct error err = ERROR_INIT;
	_cleanup_(close_fd) int userns = userns_open(c.uid_maps, 1, c.gid_maps, 1, &err);
	_cleanup_(close_fd) int root = root_overlay_compat(&c, userns, &err);
	if (root < 0)
		fail_msg("%s", error_text(&err));
	struct stat st;
	assert_int_equal(fstatat(root, "bin/busybox", &st, 0), 0);
	assert_int_equal(st.st_uid, BASE);
	assert_int_equal(fstatat(root, "file-99", &st, 0), 0);
	assert_int_equal(mkdirat(root, "made", 0755), -1); /* by nobody who is known inside */
	assert_int_equal(errno, EOVERFLOW);
	setfsgid(BASE);
	setfsuid(BASE);
	int made = mkdirat(root, "made", 0755);
	setfsuid(0);
	setfsgid(0);
	assert_int_equal(made, 0);
	_cleanup_(free_ptr) char *on_disk = str_format("%s/made", c.upper);
	assert_int_equal(stat(on_disk, &st), 0);
	assert_int_equal(st.st_uid, 0);
}

static void upper_of_another(void **state) {
	(void)state;
	_cleanup_(container_config_free) struct container_config c;
	base_config(&c, "other", 1, "true");
	assert_int_equal(chown(c.upper, 7, 7), 0);
	struct container_stdio io = {-1, -1, -1, 0, -1};
	struct container_state s;
	struct error err = ERROR_INIT;
	int before = count_fds();
	assert_int_equal(container_create(&c, &io, &s, &err), -ERROR_INVALID);
	assert_string_equal(err.field, "upper");
	error_free(&err);
	assert_int_equal(count_fds(), before);
	struct cgroup_state group = {.path = c.cgroup.path, .version = cgroup_version()};
	pid_t *pids = NULL;
	size_t n = 0;
	int r = cgroup_pids(&group, &pids, &n, NULL);
	assert_true(r < 0 || n == 0);
	free(pids);
}

static void defaults(void **state) {
	(void)state;
	_cleanup_(container_config_free) struct container_config c;
	base_config(&c, "defaults", 1,
		    "grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/self/status; cat /proc/keys; echo x > /dev/null && echo null;"
		    "touch /sys/x 2>/dev/null || echo sys-ro; echo 1 2>/dev/null > /proc/sys/kernel/panic || echo proc-ro;"
		    "grep -c ' /dev/shm ' /proc/mounts; ls /sys/fs/cgroup | grep -c .  > /dev/null && echo groups; ls /sys/firmware");
	int status;
	_cleanup_(free_ptr) char *out = run(&c, &status);
	assert_non_null(strstr(out, "Seccomp:\t2"));
	assert_non_null(strstr(out, "NoNewPrivs:\t0"));
	_cleanup_(free_ptr) char *caps = str_format("CapEff:\t%016llx", (unsigned long long)(cap_default() & cap_bounding()));
	assert_non_null(strstr(out, caps));
	assert_non_null(strstr(out, "null\nsys-ro\nproc-ro\n1\ngroups\n"));
}

static void privileged_on_host_ids(void **state) {
	(void)state;
	_cleanup_(container_config_free) struct container_config c;
	base_config(&c, "priv", 1, "");
	container_config_free(&c);
	container_config_init(&c);
	c.id = str_format("priv-%d", getpid());
	c.cgroup.path = str_format("wabe-test/%s", c.id);
	add_namespace(&c, CLONE_NEWNS);
	add_namespace(&c, CLONE_NEWPID);
	c.rootfs = in_top("l0");
	for (const char *const *a = (const char *const[]){"sh", "-c", "ls /dev/vda /dev/loop-control; grep ^Seccomp: /proc/self/status", NULL}; *a; a++)
		strv_add(&c.process.args, *a);
	strv_add(&c.process.env, "PATH=/bin");
	struct container_defaults d = {.privileged = true};
	assert_int_equal(container_apply_defaults(&c, &d, NULL), 0);
	int status;
	_cleanup_(free_ptr) char *out = run(&c, &status);
	assert_non_null(strstr(out, "Seccomp:\t0"));
}

static void users(void **state) {
	(void)state;
	static const struct {
		const char *user, *wanted;
	} table[] = {
		{"ann", "uid=1001(ann) gid=1002(ann) groups=50(staff),60(extra)\n/home/ann\n"},
		{"ann:extra", "uid=1001(ann) gid=60(extra) groups=60(extra)\n/home/ann\n"},
		{"1001", "uid=1001(ann) gid=1002(ann) groups=50(staff),60(extra)\n/home/ann\n"},
		{"4321:99", "uid=4321 gid=99 groups=60(extra)\n/\n"},
	};
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		_cleanup_(container_config_free) struct container_config c;
		base_config(&c, "users", 1, "id; echo $HOME");
		c.process.user = str_copy(table[i].user);
		strv_add(&c.process.groups, "extra");
		int status;
		_cleanup_(free_ptr) char *out = run(&c, &status);
		/* busybox prints the groups in its own way; the ids are what matters */
		_cleanup_(free_ptr) char *first = str_copyn(out, strcspn(out, " "));
		assert_true(str_starts(table[i].wanted, first));
		assert_true(str_ends(out, strchr(table[i].wanted, '\n')));
	}
}

static void missing_users(void **state) {
	(void)state;
	static const char *const names[] = {"nobody-here", "ann:no-group", "ann:4294967295", "99999999999"};
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		_cleanup_(container_config_free) struct container_config c;
		base_config(&c, "missing", 1, "true");
		c.process.user = str_copy(names[i]);
		struct container_stdio io = {-1, -1, -1, 0, -1};
		struct container_state s;
		struct error err = ERROR_INIT;
		assert_int_equal(container_create(&c, &io, &s, &err), -ERROR_INVALID);
		assert_non_null(strstr(error_text(&err), "unable to find"));
		error_free(&err);
	}
}

static void init_reaps_and_forwards(void **state) {
	(void)state;
	_cleanup_(container_config_free) struct container_config c;
	base_config(&c, "init", 1, "(sleep 0 &); trap 'exit 5' USR1; echo ready; while :; do sleep 0.05; done");
	c.init = true;
	struct container_state s;
	int p[2];
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	create(&c, p[1], &s);
	close(p[1]);
	assert_int_equal(container_start(&s, NULL), 0);
	char line[8] = "";
	assert_int_equal(read(p[0], line, sizeof line - 1), 6);
	assert_int_equal(container_kill(&s, SIGUSR1, false, NULL), 0);
	assert_int_equal(proc_wait(s.pid), 5);
	close(p[0]);
	destroy(&s);
}

/* Created by one process, started and entered by others that know the printed state alone. */
static void state_is_enough(void **state) {
	(void)state;
	_cleanup_(container_config_free) struct container_config c;
	base_config(&c, "state", 1, "sleep 1000");
	struct container_state made, s;
	create(&c, -1, &made);
	container_hand_over(&made);
	_cleanup_(json_free_ptr) json_t *printed = container_state_print(&made);
	_cleanup_(free_ptr) char *text = json_print(printed);
	pid_t pid = made.pid;
	container_state_free(&made);
	_cleanup_(json_free_ptr) json_t *read_back = json_parse(text, strlen(text), NULL);
	assert_int_equal(container_state_parse(read_back, &s, NULL), 0);
	struct error err = ERROR_INIT;
	if (container_start(&s, &err) < 0)
		fail_msg("%s", error_text(&err));
	assert_true(container_state_alive(&s));

	_cleanup_(container_process_free) struct container_process p = {0};
	for (const char *const *a = (const char *const[]){"sh", "-c", "grep ^CapEff: /proc/self/status; touch /tmp/from-exec", NULL}; *a; a++)
		strv_add(&p.args, *a);
	strv_add(&p.env, "PATH=/bin");
	int out[2];
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	struct container_stdio io = {.in = -1, .out = out[1], .err = out[1]};
	pid_t entered;
	if (container_exec(&s, &p, true, &io, &entered, &err) < 0)
		fail_msg("%s", error_text(&err));
	close(out[1]);
	_cleanup_(buf_free) struct buf got = BUF_INIT;
	fs_read_fd(out[0], 65536, &got);
	close(out[0]);
	assert_int_equal(proc_wait(entered), 0);
	_cleanup_(free_ptr) char *caps = str_format("CapEff:\t%016llx\n", (unsigned long long)cap_bounding());
	assert_string_equal(buf_str(&got), caps);

	_cleanup_(close_fd) int live = container_root_open(&s, &err);
	assert_true(live >= 0);
	assert_int_equal(faccessat(live, "tmp/from-exec", F_OK, 0), 0);
	assert_int_equal(container_kill(&s, SIGKILL, false, NULL), 0);
	assert_int_equal(proc_wait(pid), 137);
	assert_false(container_state_alive(&s));
	close_fd(&live);
	_cleanup_(close_fd) int dead = container_root_open(&s, &err);
	if (dead < 0)
		fail_msg("%s", error_text(&err));
	struct stat st;
	assert_int_equal(fstatat(dead, "tmp/from-exec", &st, 0), 0);
	assert_int_equal(st.st_uid, BASE);
	destroy(&s);
}

static void failures_leave_nothing(void **state) {
	(void)state;
	for (int kind = 0; kind < 5; kind++) {
		_cleanup_(container_config_free) struct container_config c;
		base_config(&c, "fail", 2, "true");
		if (kind == 0) {
			free(c.lowers[1]);
			c.lowers[1] = str_copy("/no/such/layer");
		} else if (kind == 1) {
			c.mounts[0].data = str_copy("nonsense=1");
		} else if (kind == 2) {
			strv_add(&c.process.groups, "no-such-group");
		} else if (kind == 3) {
			c.process.cwd = str_copy("/etc/passwd");
		} else {
			json_object_set_new(c.seccomp, "defaultAction", json_string("SCMP_ACT_NONSENSE"));
		}
		struct container_stdio io = {-1, -1, -1, 0, -1};
		struct container_state s;
		struct error err = ERROR_INIT;
		int before = count_fds();
		assert_true(container_create(&c, &io, &s, &err) < 0);
		assert_true(err.message != NULL);
		error_free(&err);
		assert_int_equal(count_fds(), before);
		assert_int_equal(proc_wait(-1), -ECHILD);
		_cleanup_(free_ptr) char *group = str_format("/sys/fs/cgroup/pids/%s", c.cgroup.path);
		assert_false(fs_exists(group));
	}
}

static void program_path(void **state) {
	(void)state;
	_cleanup_(free_ptr) char *path = container_program_path();
	assert_non_null(path);
	assert_true(str_ends(path, "container_test"));
}

static int set_up(void **state) {
	(void)state;
	snprintf(top, sizeof top, "/tmp/wabe-container-test-%d", getpid());
	fs_remove_tree(top);
	make_busybox_layer();
	return 0;
}

static int tear_down(void **state) {
	(void)state;
	fs_remove_tree(top);
	return 0;
}

int main(void) {
	if (geteuid() != 0 || (!fs_exists("/bin/busybox") && !fs_exists("/usr/bin/busybox"))) {
		puts("1..0 # SKIP needs root and busybox-static");
		return 0;
	}
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(overlay_one),          cmocka_unit_test(overlay_many),
		cmocka_unit_test(overlay_compat),       cmocka_unit_test(upper_of_another),
		cmocka_unit_test(defaults),             cmocka_unit_test(privileged_on_host_ids),
		cmocka_unit_test(users),                cmocka_unit_test(missing_users),
		cmocka_unit_test(init_reaps_and_forwards), cmocka_unit_test(state_is_enough),
		cmocka_unit_test(failures_leave_nothing), cmocka_unit_test(program_path),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
