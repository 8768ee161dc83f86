/* Machines by QEMU: that the real one takes what we tell it, for every board and every kind of device, and that the container
 * around it holds. Guests are not started (-S). */
#include "base/fs.h"
#include "base/proc.h"
#include "base/str.h"
#include "base/time.h"
#include "driver/container/container-priv.h"
#include "driver/qemu/host-devices.h"
#include "driver/qemu/machine-priv.h"
#include "driver/qemu/memory.h"
#include "driver/qemu/qmp.h"

#include <endian.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define UID_BASE 300000
#define WAIT_MS 60000

static char top[64];

struct world {
	struct machine_spec spec;
	struct machine_config config;
	struct machine_disk disks[8];
	struct machine_nic nics[4];
	char *socket;
	int status;
};

static int file_of(const char *name, size_t size) {
	int fd = memfd_create(name, MFD_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	return fd;
}

static void world_begin(struct world *w) {
	*w = (struct world){0};
	w->socket = str_format("%s/qmp", top);
	w->config = (struct machine_config){
		.spec = &w->spec, .name = "test,one", .uuid = "9a1e5f0e-4c1b-4d54-8f3c-0b51a9d7c001", .memory = INT64_C(64) << 20, .cpus = 2,
		.disks = w->disks, .nics = w->nics, .qmp_fd = sock_listen_unix(w->socket, 0600), .events_fd = -1, .guest_fd = -1,
		.kernel_fd = -1, .initrd_fd = -1, .vars_fd = -1, .vsock_fd = -1, .memory_fd = -1,
	};
	assert_true(w->config.qmp_fd >= 0);
}

static void world_end(struct world *w) {
	int fds[] = {w->config.qmp_fd, w->config.events_fd, w->config.guest_fd, w->config.kernel_fd, w->config.initrd_fd, w->config.vars_fd};
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		close_fd(&fds[i]);
	for (size_t i = 0; i < w->config.n_disks; i++)
		close_fd(&w->disks[i].fd);
	unlink(w->socket);
	free(w->socket);
}

static void add_disk(struct world *w, const char *id, const char *bus, bool cdrom) {
	w->disks[w->config.n_disks++] = (struct machine_disk){
		.id = id, .fd = file_of(id, 4 << 20), .format = "raw", .bus = bus, .cdrom = cdrom, .serial = "with,comma",
		.boot_index = (int)w->config.n_disks + 1,
	};
}

/* --- QEMU itself, without a container --- */

static void exec_qemu(char **args, const int *pass, size_t n_pass, int out) {
	for (size_t i = 0; i < n_pass; i++) {
		int high = fcntl(pass[i], F_DUPFD_CLOEXEC, 100);
		if (high < 0 || dup2(high, 200 + (int)i) < 0)
			_exit(99);
	}
	for (size_t i = 0; i < n_pass; i++)
		dup2(200 + (int)i, 3 + (int)i);
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	dup2(null, 0);
	dup2(out, 1);
	dup2(out, 2);
	syscall(SYS_close_range, 3 + (unsigned)n_pass, ~0U, 0);
	execv(args[0], args);
	_exit(98);
}

/* What QMP answers to commands, the greeting left out; until one of them has ended QEMU. */
static char *talk(const char *path, const char *const *commands) {
	_cleanup_(buf_free) struct buf all = BUF_INIT_MAX(1 << 20);
	_cleanup_(close_fd) int sock = sock_connect_unix(path);
	assert_true(sock >= 0);
	for (size_t i = 0; commands[i]; i++)
		fs_write_all(sock, commands[i], strlen(commands[i]));
	struct pollfd p = {sock, POLLIN, 0};
	for (ssize_t n = 1; n > 0;) {
		assert_int_equal(poll(&p, 1, WAIT_MS), 1);
		n = read(sock, buf_room(&all, 4096), 4096);
		if (n > 0)
			buf_grown(&all, (size_t)n);
	}
	return buf_steal(&all);
}

/* Starts it stopped, asks it, until a command ends it: gives what it answered, and what it said. */
static char *start_with(struct world *w, const char *const *commands, char **said) {
	struct error err = ERROR_INIT;
	_cleanup_(strv_free_ptr) char **args = NULL;
	_cleanup_(free_ptr) int *pass = NULL;
	size_t n_pass;
	if (machine_args(&w->config, &args, &pass, &n_pass, &err) < 0)
		fail_msg("%s: %s", err.field ? err.field : "", error_text(&err));
	strv_add(&args, "-S");
	int p[2];
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	pid_t pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
		exec_qemu(args, pass, n_pass, p[1]);
	}
	close(p[1]);
	close_fd(&w->config.qmp_fd); /* so that it is refused once QEMU has ended */
	char *answers = talk(w->socket, commands);
	_cleanup_(buf_free) struct buf text = BUF_INIT_MAX(1 << 20);
	fs_read_fd(p[0], 1 << 20, &text);
	close(p[0]);
	w->status = proc_wait(pid);
	*said = buf_steal(&text);
	return answers;
}

static void expect_taken(struct world *w) {
	static const char *const commands[] = {"{\"execute\":\"qmp_capabilities\"}", "{\"execute\":\"query-status\"}",
					       "{\"execute\":\"quit\"}", NULL};
	_cleanup_(free_ptr) char *said = NULL;
	_cleanup_(free_ptr) char *answers = start_with(w, commands, &said);
	if (!answers || !strstr(answers, "\"prelaunch\"") || w->status != 0 || (said && *said))
		fail_msg("QEMU ended with %d, said \"%s\", answered %s", w->status, said ? said : "", answers ? answers : "nothing");
	world_end(w);
}

static void buses(void **state) {
	static const char *const each[][4] = {
		{"q35", "virtio", "scsi", "sata"}, {"q35", "nvme", "sata", "virtio"}, {"pc", "ide", "scsi", "virtio"},
		{"pc", "nvme", "ide", NULL}, {"microvm", "virtio", "scsi", NULL},
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(each); i++) {
		struct world w;
		world_begin(&w);
		w.spec.chipset = (char *)each[i][0];
		for (size_t k = 1; k < 4 && each[i][k]; k++)
			add_disk(&w, k == 1 ? "root" : k == 2 ? "data1" : "data2", each[i][k], false);
		add_disk(&w, "cd0", NULL, true);
		w.disks[w.config.n_disks++] = (struct machine_disk){.id = "cd1", .fd = -1, .cdrom = true, .bus = "virtio"};
		expect_taken(&w);
	}
}

/* With a floppy and without, the first to be booted from. */
static void floppies(UNUSED void **state) {
	for (int i = 0; i < 4; i++) {
		struct world w;
		world_begin(&w);
		w.spec.chipset = (char *)(i % 2 ? "pc" : "q35");
		w.disks[w.config.n_disks++] = (struct machine_disk){.id = "floppy0", .fd = i < 2 ? file_of("floppy", 1440 << 10) : -1,
			.format = "raw", .bus = "floppy", .boot_index = i < 2 ? 1 : 0};
		expect_taken(&w);
	}
}

static void boards(void **state) {
	static const char *const videos[] = {"none", "vga", "virtio", "qxl"}, *const dogs[] = {"none", "reset", "poweroff", "pause"};
	(void)state;
	for (size_t i = 0; i < 8; i++) {
		struct world w;
		world_begin(&w);
		w.spec = (struct machine_spec){.chipset = (char *)(i % 2 ? "pc" : "q35"), .video = (char *)videos[i / 2], .watchdog = (char *)dogs[i / 2],
					       .usb = i == 2, .audio = i > 1, .cores = (int64_t)i / 2, .threads = 1, .cpu_model = (char *)(i == 3 ? "Nehalem,-ssse3" : NULL)};
		w.config.incoming = false;
		w.config.tty = i == 4;
		expect_taken(&w);
	}
}

/* Processors and memory of each node as QEMU has them, by its monitor for people. */
static void expect_nodes(struct world *w, const char *wanted) {
	static const char *const commands[] = {"{\"execute\":\"qmp_capabilities\"}",
					       "{\"execute\":\"human-monitor-command\",\"arguments\":{\"command-line\":\"info numa\"}}",
					       "{\"execute\":\"quit\"}", NULL};
	_cleanup_(free_ptr) char *said = NULL;
	_cleanup_(free_ptr) char *answers = start_with(w, commands, &said);
	if (!answers || !strstr(answers, wanted) || w->status != 0 || (said && *said))
		fail_msg("QEMU ended with %d, said \"%s\", answered %s", w->status, said ? said : "", answers ? answers : "nothing");
	world_end(w);
}

static void numa(void **state) {
	struct machine_numa two[] = {{.cpus = (char *)"1", .memory = INT64_C(16) << 20}, {.cpus = (char *)"0,2-3"}}, even[] = {{0}, {0}, {0}};
	(void)state;
	struct world w;
	world_begin(&w);
	w.config.cpus = 4;
	w.spec.numa.items = two;
	w.spec.numa.n = 2;
	expect_nodes(&w, "2 nodes\\r\\nnode 0 cpus: 1\\r\\nnode 0 size: 16 MB\\r\\nnode 0 plugged: 0 MB\\r\\n"
			 "node 1 cpus: 0 2 3\\r\\nnode 1 size: 48 MB");
	world_begin(&w); /* with room for more of both, and its memory on a node of the host */
	even[1] = (struct machine_numa){.host_nodes = (char *)"0", .policy = (char *)"preferred"};
	w.config.cpus = 4;
	w.spec.cpus_max = 7;
	w.spec.memory_max = INT64_C(128) << 20;
	w.spec.numa.items = even;
	w.spec.numa.n = 3;
	expect_nodes(&w, "3 nodes\\r\\nnode 0 cpus: 0 1\\r\\nnode 0 size: 21 MB\\r\\nnode 0 plugged: 0 MB\\r\\n"
			 "node 1 cpus: 2 3\\r\\nnode 1 size: 21 MB\\r\\nnode 1 plugged: 0 MB\\r\\nnode 2 cpus:\\r\\nnode 2 size: 22 MB");
}

static void firmware(void **state) {
	(void)state;
	for (int i = 0; i < 3; i++) {
		struct world w;
		struct stat st;
		world_begin(&w);
		w.spec = (struct machine_spec){.firmware = (char *)"uefi", .secure_boot = i == 1, .chipset = (char *)(i == 2 ? "pc" : "q35")};
		assert_int_equal(stat(machine_firmware_vars(&w.spec), &st), 0);
		w.config.vars_fd = file_of("vars", (size_t)st.st_size);
		add_disk(&w, "root", "virtio", false);
		expect_taken(&w);
	}
}

static void channels(void **state) {
	(void)state;
	struct world w;
	world_begin(&w);
	_cleanup_(free_ptr) char *events = str_format("%s/events", top), *guest = str_format("%s/guest", top);
	w.config.events_fd = sock_listen_unix(events, 0600);
	w.config.guest_fd = sock_listen_unix(guest, 0600);
	expect_taken(&w);
	unlink(events);
	unlink(guest);
}

/* --- in its container --- */

static void make_tap(pid_t pid) {
	pid_t helper = fork();
	if (helper == 0) {
		char path[64];
		snprintf(path, sizeof path, "/proc/%d/ns/net", pid);
		int ns = open(path, O_RDONLY | O_CLOEXEC);
		struct ifreq r = {.ifr_name = "tap0", .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
		if (setns(ns, CLONE_NEWNET) < 0)
			_exit(1);
		int tun = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
		_exit(ioctl(tun, TUNSETIFF, &r) < 0 || ioctl(tun, TUNSETOWNER, UID_BASE) < 0 || ioctl(tun, TUNSETPERSIST, 1) < 0);
	}
	assert_int_equal(proc_wait(helper), 0);
}

/* In a process of its own, since descriptors from 3 on are the container's. Gives what could not be done, on standard error. */
static void run_contained(struct world *w, const char *skeleton, int out, int ready) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(container_config_free) struct container_config c;
	struct container_state s;
	_cleanup_(free_ptr) int *pass = NULL;
	size_t n_pass;
	container_config_init(&c);
	c.id = str_format("machine-%d", getpid());
	c.cgroup.path = str_format("wabe-test/%s", c.id);
	c.uid_maps = NEW(struct id_map);
	c.gid_maps = NEW(struct id_map);
	*c.uid_maps = *c.gid_maps = (struct id_map){0, UID_BASE, 65536};
	c.n_uid_maps = c.n_gid_maps = 1;
	int r = machine_args(&w->config, &c.process.args, &pass, &n_pass, &err);
	strv_add(&c.process.args, "-S");
	for (size_t i = 0; i < 2; i++) {
		static const char *const targets[] = {"/guest", "/tpm"};
		c.mounts = alloc_resize(c.mounts, c.n_mounts + 1, sizeof *c.mounts);
		c.mounts[c.n_mounts++] = (struct container_mount){.type = str_copy("bind"), .flags = MS_BIND, .target = str_copy(targets[i]),
								  .source = str_format("%s%s", top, targets[i]), .idmap = true};
	}
	if (r == 0)
		r = machine_confine(&w->config, skeleton, &c, &err);
	for (size_t i = 0; r == 0 && i < n_pass; i++)
		dup2(pass[i], 200 + (int)i);
	for (size_t i = 0; r == 0 && i < n_pass; i++)
		dup2(200 + (int)i, 3 + (int)i);
	struct container_stdio io = {.in = -1, .out = out, .err = out, .preserve_fds = (int)n_pass};
	if (r == 0)
		r = container_create(&c, &io, &s, &err);
	if (r == 0) {
		make_tap(s.pid);
		syscall(SYS_close_range, 3, 3 + (unsigned)n_pass - 1, 0);
		r = container_start(&s, &err);
	}
	dprintf(out, "%s", r < 0 ? error_text(&err) : "");
	dprintf(ready, "%d\n", r < 0 ? r : s.pid);
	int status = r < 0 ? 1 : proc_wait(s.pid);
	if (r == 0)
		container_destroy(&s, NULL);
	_exit(status);
}

/* Of the first process: the user's is not ours, no capability, nothing to gain, a filter. */
static void check_powers(int pid) {
	_cleanup_(buf_free) struct buf status = BUF_INIT;
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/status", pid);
	assert_int_equal(fs_read(path, 65536, &status), 0);
	assert_non_null(strstr(buf_str(&status), "\nUid:\t300000\t300000\t300000\t300000\n"));
	assert_non_null(strstr(buf_str(&status), "\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nCapBnd:\t0000000000000000\n"));
	assert_non_null(strstr(buf_str(&status), "\nNoNewPrivs:\t1\nSeccomp:\t2\n"));
}

/* Its processes beside wabe-machine. */
static void check_companions(int first) {
	_cleanup_(buf_free) struct buf children = BUF_INIT;
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/task/%d/children", first, first);
	assert_int_equal(fs_read(path, 4096, &children), 0);
	struct str rest = str_view(buf_str(&children));
	int n = 0;
	while (rest.len) {
		_cleanup_(buf_free) struct buf command = BUF_INIT;
		struct str word = str_cut(&rest, ' ');
		snprintf(path, sizeof path, "/proc/%.*s/cmdline", (int)word.len, word.p);
		assert_int_equal(fs_read(path, 65536, &command), 0);
		if (strcmp(buf_str(&command), VIRTIOFSD) != 0)
			check_powers(atoi(word.p));
		n++;
	}
	assert_int_equal(n, 3);
}

static void in_container(struct world *w, bool companions) {
	static const char *const commands[] = {"{\"execute\":\"qmp_capabilities\"}", "{\"execute\":\"query-status\"}",
					       "{\"execute\":\"quit\"}", NULL};
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(free_ptr) char *skeleton = str_format("%s/skeleton", top), *guest = str_format("%s/guest", top), *tpm = str_format("%s/tpm", top);
	for (int i = 0; i < 2; i++) /* again: as at every start */
		assert_int_equal(machine_skeleton(skeleton, &err), 0);
	assert_int_equal(fs_mkdir_p(guest, 0755) | fs_mkdir_p(tpm, 0755), 0);
	w->nics[w->config.n_nics++] = (struct machine_nic){.id = "nic0", .tap = "tap0", .mac = "02:00:00:00:00:05", .mtu = 1400};
	add_disk(w, "root", "virtio", false);
	int out[2], ready[2];
	assert_int_equal(pipe2(out, O_CLOEXEC) | pipe2(ready, O_CLOEXEC), 0);
	pid_t pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
		run_contained(w, skeleton, out[1], ready[1]);
	}
	close(out[1]);
	close(ready[1]);
	close_fd(&w->config.qmp_fd);
	char line[32] = "";
	assert_true(read(ready[0], line, sizeof line - 1) > 0);
	_cleanup_(free_ptr) char *answers = NULL;
	struct qmp *q = NULL; /* all is in place when QEMU answers */
	if (atoi(line) > 0 && qmp_open(top, "qmp", time_mono_ns() + WAIT_MS * NS_PER_MS, &q, NULL) == 0) {
		if (companions)
			check_companions(atoi(line));
		else
			check_powers(atoi(line));
		qmp_free(q);
		answers = talk(w->socket, commands);
	}
	_cleanup_(buf_free) struct buf text = BUF_INIT_MAX(1 << 20);
	fs_read_fd(out[0], 1 << 20, &text);
	close(out[0]);
	close(ready[0]);
	int status = proc_wait(pid);
	if (!answers || !strstr(answers, "\"prelaunch\"") || status != 0 || text.len)
		fail_msg("status %d, said \"%s\", answered %s", status, buf_str(&text), answers ? answers : "nothing");
	world_end(w);
}

static void contained(void **state) {
	(void)state;
	struct world w;
	world_begin(&w);
	in_container(&w, false);
}

static void companions(void **state) {
	static const struct machine_share share = {.tag = "root", .path = "/guest"};
	(void)state;
	struct world w;
	world_begin(&w);
	w.config.shares = &share;
	w.config.n_shares = 1;
	w.spec.tpm = true;
	w.config.tpm_dir = "/tpm";
	w.config.launcher = getenv("WABE_MACHINE");
	assert_non_null(w.config.launcher);
	in_container(&w, true);
}

/* --- QMP --- */

static int64_t soon(void) {
	return time_mono_ns() + WAIT_MS * NS_PER_MS;
}

/* QEMU with nothing but monitors, stopped. */
static pid_t start_stopped(struct world *w, int *out) {
	_cleanup_(strv_free_ptr) char **args = NULL;
	_cleanup_(free_ptr) int *pass = NULL;
	size_t n_pass;
	int p[2];
	assert_int_equal(machine_args(&w->config, &args, &pass, &n_pass, NULL), 0);
	strv_add(&args, "-S");
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	pid_t pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
		exec_qemu(args, pass, n_pass, p[1]);
	}
	close(p[1]);
	*out = p[0];
	close_fd(&w->config.qmp_fd);
	close_fd(&w->config.events_fd);
	return pid;
}

static struct qmp *open_monitor(const char *name) {
	struct error err = ERROR_INIT;
	struct qmp *q = NULL;
	if (qmp_open(top, name, soon(), &q, &err) < 0)
		fail_msg("%s", error_text(&err));
	return q;
}

/* The status that `query-status` gives. */
static void expect_status(struct qmp *q, const char *wanted) {
	struct error err = ERROR_INIT;
	_cleanup_(json_free_ptr) json_t *ret = NULL;
	if (qmp_call(q, "query-status", NULL, -1, soon(), &ret, &err) < 0)
		fail_msg("%s", error_text(&err));
	assert_string_equal(json_get_str(ret, "status"), wanted);
}

static void qmp_errors(struct qmp *q) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	assert_int_equal(qmp_call(q, "no-such", NULL, -1, soon(), NULL, &err), -ERROR_UNSUPPORTED);
	assert_non_null(strstr(error_text(&err), "no-such"));
	assert_int_equal(qmp_call(q, "device_del", json_pack("{s:s}", "id", "none"), -1, soon(), NULL, &err), -ERROR_NOT_FOUND);
	assert_int_equal(qmp_call(q, "getfd", json_pack("{s:s}", "fdname", "x"), -1, soon(), NULL, &err), -ERROR_INTERNAL);
	assert_int_equal(qmp_call(q, "query-status", NULL, -1, time_mono_ns() - 1, NULL, &err), -ERROR_TIMEOUT);
	expect_status(q, "prelaunch"); /* and not the answer that came too late */
}

static void qmp_events(struct qmp *q) {
	_cleanup_(free_ptr) char *event = NULL;
	_cleanup_(json_free_ptr) json_t *data = NULL;
	assert_int_equal(qmp_call(q, "cont", NULL, -1, soon(), NULL, NULL), 0);
	expect_status(q, "running");
	assert_int_equal(qmp_call(q, "stop", NULL, -1, soon(), NULL, NULL), 0);
	expect_status(q, "paused");
	assert_int_equal(qmp_event(q, "STOP", soon(), NULL, NULL, NULL), 0);
	assert_int_equal(qmp_event(q, NULL, soon(), &event, &data, NULL), 0);
	assert_string_equal(event, "RESUME");
	assert_null(data);
	assert_int_equal(qmp_event(q, NULL, time_mono_ns(), NULL, NULL, NULL), -ERROR_TIMEOUT);
}

/* What the event loop sees on the other monitor: both changes, then the end. */
static void qmp_watched(struct qmp *watch) {
	static const char *const wanted[] = {"RESUME", "STOP", "SHUTDOWN"};
	size_t n = 0;
	int r = 0;
	while (r >= 0) {
		_cleanup_(free_ptr) char *event = NULL;
		_cleanup_(json_free_ptr) json_t *data = NULL;
		struct pollfd p = {qmp_fd(watch), POLLIN, 0};
		r = qmp_poll(watch, &event, &data, NULL);
		if (r == 0)
			assert_int_equal(poll(&p, 1, WAIT_MS), 1);
		if (r <= 0)
			continue;
		assert_true(n < ARRAY_SIZE(wanted));
		assert_string_equal(event, wanted[n++]);
		if (n == 3)
			assert_string_equal(json_get_str(data, "reason"), "host-qmp-quit");
	}
	assert_int_equal(r, -ERROR_UNAVAILABLE);
	assert_int_equal(n, 3);
}

/* An event loop takes a connection over before anything has been said. */
static void adopted(void **state) {
	static const char greeting[] = "{\"QMP\":{\"version\":{}}}\r\n", *const later = "{\"return\":{}}\n{\"event\":\"STOP\"}\n{\"eve";
	(void)state;
	int ends[2];
	char said[64] = "";
	_cleanup_(free_ptr) char *event = NULL;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	struct qmp *q = qmp_adopt(ends[0]);
	assert_int_equal(qmp_poll(q, &event, NULL, NULL), 0);
	assert_int_equal(fs_write_all(ends[1], greeting, strlen(greeting)), 0);
	assert_int_equal(qmp_poll(q, &event, NULL, NULL), 0);
	assert_true(read(ends[1], said, sizeof said - 1) > 0);
	assert_string_equal(said, "{\"execute\":\"qmp_capabilities\"}\n");
	assert_int_equal(fs_write_all(ends[1], later, strlen(later)), 0);
	assert_int_equal(qmp_poll(q, &event, NULL, NULL), 1);
	assert_string_equal(event, "STOP");
	assert_int_equal(qmp_poll(q, NULL, NULL, NULL), 0);
	close(ends[1]);
	assert_int_equal(qmp_poll(q, NULL, NULL, NULL), -ERROR_UNAVAILABLE);
	qmp_free(q);
}

static void monitor(void **state) {
	(void)state;
	struct world w;
	_cleanup_(error_free) struct error err = ERROR_INIT;
	world_begin(&w);
	_cleanup_(free_ptr) char *events = str_format("%s/events", top);
	w.config.events_fd = sock_listen_unix(events, 0600);
	_cleanup_(close_fd) int out = -1;
	pid_t pid = start_stopped(&w, &out);
	struct qmp *watch = open_monitor("events"), *q = open_monitor("qmp"), *second = NULL;
	/* one that waits for its turn, and finds none in time */
	assert_int_equal(qmp_open(top, "qmp", time_mono_ns() + 50 * NS_PER_MS, &second, &err), -ERROR_TIMEOUT);
	qmp_errors(q);
	qmp_events(q);
	_cleanup_(close_fd) int some = open("/dev/null", O_RDWR | O_CLOEXEC);
	assert_int_equal(qmp_call(q, "getfd", json_pack("{s:s}", "fdname", "x"), some, soon(), NULL, NULL), 0);
	assert_int_equal(qmp_call(q, "closefd", json_pack("{s:s}", "fdname", "x"), -1, soon(), NULL, NULL), 0);
	qmp_free(q);
	q = open_monitor("qmp"); /* free again for the next */
	assert_int_equal(qmp_call(q, "quit", NULL, -1, soon(), NULL, NULL), 0);
	assert_int_equal(qmp_event(q, "NEVER", soon(), NULL, NULL, &err), -ERROR_UNAVAILABLE);
	qmp_free(q);
	qmp_watched(watch);
	qmp_free(watch);
	assert_int_equal(proc_wait(pid), 0);
	assert_int_equal(qmp_open(top, "qmp", soon(), &q, &err), -ERROR_NOT_FOUND);
	assert_int_equal(qmp_open(top, "nothing", soon(), &q, &err), -ERROR_NOT_FOUND);
	unlink(events);
	world_end(&w);
}

/* --- what cannot be had --- */

static void refused(struct world *w, enum error_kind kind, const char *field) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	assert_int_equal(machine_check(&w->config, &err), -(int)kind);
	assert_string_equal(err.field ? err.field : "", field);
	world_end(w);
}

static void checks(void **state) {
	(void)state;
	struct world w;
	world_begin(&w);
	w.config.memory += 1;
	refused(&w, ERROR_INVALID, "spec.limits.memory");
	world_begin(&w);
	w.config.cpus = 5;
	w.spec.sockets = 2;
	w.spec.cores = 2;
	refused(&w, ERROR_INVALID, "spec.machine.sockets");
	world_begin(&w);
	add_disk(&w, "root", "ide", false);
	refused(&w, ERROR_INVALID, "spec.machine.disk_bus");
	world_begin(&w);
	w.spec.chipset = (char *)"pc";
	for (int i = 0; i < 5; i++)
		add_disk(&w, "d", "ide", false);
	refused(&w, ERROR_INVALID, "spec.machine.disk_bus");
	world_begin(&w);
	w.spec.chipset = (char *)"microvm";
	w.spec.usb = true;
	refused(&w, ERROR_INVALID, "spec.machine.chipset");
	world_begin(&w);
	w.spec.chipset = (char *)"microvm";
	w.config.kernel_fd = file_of("kernel", 1);
	refused(&w, ERROR_UNSUPPORTED, "spec.machine.chipset");
	world_begin(&w);
	add_disk(&w, "root", "virtio", false);
	w.disks[0].format = "vmdk";
	refused(&w, ERROR_INVALID, "spec.disks");
	world_begin(&w);
	add_disk(&w, "root", "virtio", false);
	w.disks[0].serial = "123456789012345678901";
	refused(&w, ERROR_INVALID, "spec.disks");
}

static void bad_nodes(UNUSED void **state) {
	static const struct {
		struct machine_numa nodes[2];
		enum error_kind kind;
	} bad[] = {
		{{{.cpus = (char *)"0"}, {.cpus = (char *)"0-1"}}, ERROR_INVALID},
		{{{.cpus = (char *)"0"}, {0}}, ERROR_INVALID},
		{{{.cpus = (char *)"0"}, {.cpus = (char *)"1-2"}}, ERROR_INVALID},
		{{{.memory = INT64_C(64) << 20}, {0}}, ERROR_INVALID},
		{{{.memory = INT64_C(32) << 20}, {.memory = INT64_C(16) << 20}}, ERROR_INVALID},
		{{{.host_nodes = (char *)"0,999"}, {0}}, ERROR_UNSUPPORTED},
	};
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct machine_numa nodes[] = {bad[i].nodes[0], bad[i].nodes[1]};
		struct world w;
		world_begin(&w);
		w.spec.numa.items = nodes;
		w.spec.numa.n = 2;
		refused(&w, bad[i].kind, "spec.machine.numa");
	}
}

/* --- the host's devices --- */

/* A file of a device in a tree like /sys's. */
static void put(const char *tree, const char *device, const char *name, const char *value) {
	_cleanup_(free_ptr) char *dir = str_format("%s/%s/%s", top, tree, device), *path = str_format("%s/%s", dir, name);
	assert_int_equal(fs_mkdir_p(dir, 0755), 0);
	assert_int_equal(fs_replace(path, value, strlen(value), 0644), 0);
}

static void put_usb(const char *device, const char *vendor, const char *product, const char *class, const char *bus, const char *number) {
	put("usb", device, "idVendor", vendor);
	put("usb", device, "idProduct", product);
	put("usb", device, "bDeviceClass", class);
	put("usb", device, "busnum", bus);
	put("usb", device, "devnum", number);
}

static void expect_usb(int tree, const char *wanted, const char *nodes) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(strv_free_ptr) char **found = NULL;
	if (host_usb_find(tree, wanted, &found, &err) < 0)
		fail_msg("%s", error_text(&err));
	_cleanup_(free_ptr) char *joined = strv_join(found, " ");
	assert_string_equal(joined, nodes);
}

static void usb_of_the_host(UNUSED void **state) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(free_ptr) char *dir = str_format("%s/usb", top);
	char **found;
	put_usb("usb1", "1d6b", "0002", "09\n", "1\n", "1\n");
	put_usb("1-4", "05e3\n", "0610\n", "09\n", "1\n", "3\n");
	put_usb("1-4.2", "046d\n", "c52b\n", "00\n", "1\n", "12\n");
	put("usb", "1-4.2:1.0", "bInterfaceNumber", "00\n");
	put_usb("1-4.1", "0951\n", "1666\n", "00\n", "1\n", "x\n"); /* it is just going */
	_cleanup_(close_fd) int tree = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	expect_usb(tree, "046D:c52b", "001/012");
	expect_usb(tree, "1-4.2", "001/012");
	static const struct {
		const char *wanted;
		enum error_kind kind;
	} bad[] = {{"1-4", ERROR_UNSUPPORTED}, {"05e3:0610", ERROR_UNSUPPORTED}, {"usb1", ERROR_NOT_FOUND}, {"1-4.2:1.0", ERROR_NOT_FOUND},
		   {"1-4.1", ERROR_NOT_FOUND}, {"1-3", ERROR_NOT_FOUND}, {"dead:beef", ERROR_NOT_FOUND}};
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(host_usb_find(tree, bad[i].wanted, &found, &err), -(int)bad[i].kind);
		assert_null(found);
		error_free(&err);
	}
	assert_int_equal(host_usb_find(-1, "1-4", &found, &err), -ERROR_NOT_FOUND);
}

static void put_pci(const char *address, const char *class, const char *driver, const char *group) {
	_cleanup_(free_ptr) char *device = str_format("devices/%s", address), *driver_dir = str_format("drivers/%s", driver);
	_cleanup_(free_ptr) char *driver_link = str_format("%s/pci/%s/driver", top, device), *driver_to = str_format("../../%s", driver_dir);
	_cleanup_(free_ptr) char *group_dir = str_format("%s/pci/groups/%s/devices/%s", top, group, address);
	_cleanup_(free_ptr) char *group_link = str_format("%s/pci/%s/iommu_group", top, device), *group_to = str_format("../../groups/%s", group);
	put("pci", device, "class", class);
	put("pci", device, "driver_override", "");
	put("pci", driver_dir, "unbind", "");
	if (*driver)
		assert_int_equal(symlink(driver_to, driver_link), 0);
	if (!*group)
		return;
	assert_int_equal(fs_mkdir_p(group_dir, 0755), 0);
	assert_int_equal(symlink(group_to, group_link), 0);
}

static void expect_text(const char *file, const char *text) {
	_cleanup_(free_ptr) char *path = str_format("%s/pci/%s", top, file);
	_cleanup_(buf_free) struct buf b = BUF_INIT;
	assert_int_equal(fs_read(path, 4096, &b), 0);
	assert_string_equal(buf_str(&b), text);
}

static void pci_of_the_host(UNUSED void **state) {
	static char first[] = "0000:01:00.0", second[] = "0000:01:00.1";
	char *const alone[] = {first, NULL}, *const both[] = {first, second, NULL};
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(free_ptr) char *dir = str_format("%s/pci", top), *group = NULL;
	put_pci("0000:00:01.0", "0x060400\n", "pcieport", "7");
	put_pci(first, "0x020000\n", "e1000e", "7");
	put_pci(second, "0x040300\n", "snd_hda_intel", "7");
	put_pci("0000:02:00.0", "0x010802\n", "nvme", "");
	put_pci("0000:03:00.0", "0x010802\n", "vfio-pci", "8");
	put("pci", ".", "drivers_probe", "");
	_cleanup_(close_fd) int tree = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(host_pci_group(tree, first, &group, &err), 0);
	assert_string_equal(group, "7");
	char *none = NULL;
	assert_int_equal(host_pci_group(tree, "0000:09:00.0", &none, &err), -ERROR_NOT_FOUND);
	error_free(&err);
	assert_int_equal(host_pci_group(tree, "0000:02:00.0", &none, &err), -ERROR_UNSUPPORTED);
	assert_non_null(strstr(error_text(&err), "IOMMU"));
	error_free(&err);
	assert_int_equal(host_pci_check(tree, first, alone, &err), -ERROR_CONFLICT);
	assert_non_null(strstr(error_text(&err), "0000:01:00.1, which the host uses (driver snd_hda_intel)"));
	error_free(&err);
	assert_int_equal(host_pci_check(tree, first, both, &err), 0);
	assert_true(host_pci_is_free(tree, "0000:03:00.0"));
	assert_false(host_pci_is_free(tree, first));
	/* nothing acts on what is written there: it stays with its driver */
	assert_int_equal(host_pci_take(tree, first, &err), -ERROR_UNSUPPORTED);
	expect_text("devices/0000:01:00.0/driver_override", "vfio-pci");
	expect_text("drivers/e1000e/unbind", first);
	expect_text("drivers_probe", first);
	assert_int_equal(host_pci_give_back(tree, first, NULL), 0);
	assert_int_equal(host_pci_give_back(tree, "0000:09:00.0", NULL), 0);
}

static void redirected_usb(UNUSED void **state) {
	struct world w;
	world_begin(&w);
	w.spec.usb_redirects = 4;
	expect_taken(&w);
	for (int64_t i = 0; i < 4; i++) { /* outside of a container they lie with all others */
		_cleanup_(free_ptr) char *name = machine_redirect_name(i), *path = str_format("/tmp/%s", name);
		unlink(path);
	}
}

/* --- acceleration --- */

/* --- the state of a machine, taken apart --- */

static void add_u32(struct buf *b, uint32_t value) {
	value = htobe32(value);
	buf_add(b, &value, sizeof value);
}

static void add_u64(struct buf *b, uint64_t value) {
	value = htobe64(value);
	buf_add(b, &value, sizeof value);
}

static void add_name(struct buf *b, const char *name) {
	buf_addc(b, (char)strlen(name));
	buf_adds(b, name);
}

/* A record of the block's page number n; its bytes are `with`, 0: a page of zeros, which is told as such. */
static void add_page(struct buf *b, const char *block, uint64_t n, char with) {
	char page[4096];
	memset(page, with, sizeof page);
	add_u64(b, n * sizeof page | (with ? 0x08 : 0x02));
	add_name(b, block);
	buf_add(b, page, with ? sizeof page : 1);
}

static void add_end(struct buf *b, char kind) {
	add_u64(b, 0x10);
	buf_addc(b, 0x7e);
	add_u32(b, 2);
	if (!kind)
		return;
	buf_addc(b, kind);
	add_u32(b, 2);
}

static void add_stream(struct buf *b) {
	add_u32(b, 0x5145564d);
	add_u32(b, 3);
	buf_addc(b, 7);
	add_u32(b, 1);
	buf_addc(b, 'q');
	buf_addc(b, 1);
	add_u32(b, 2);
	add_name(b, "ram");
	add_u64(b, 4); /* its instance and version */
	add_u64(b, (4 + 1) * 4096 | 0x04);
	add_name(b, "pc.ram");
	add_u64(b, 4 * 4096);
	add_name(b, "vga.vram");
	add_u64(b, 4096);
	add_end(b, 2);
	add_page(b, "pc.ram", 0, 'a');
	add_page(b, "pc.ram", 1, 'b');
	add_page(b, "vga.vram", 0, 'v');
	add_page(b, "pc.ram", 3, 0);
	add_end(b, 3);
	add_page(b, "pc.ram", 0, 'c'); /* once more */
	add_page(b, "pc.ram", 1, 0);
	add_end(b, 0);
	buf_adds(b, "the rest");
}

static void memory(UNUSED void **state) {
	_cleanup_(buf_free) struct buf b = BUF_INIT;
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(close_fd) int in = file_of("in", 0), ram = file_of("memory", 0), rest = file_of("state", 0);
	const struct memory_sink to = {"pc.ram", 4 * 4096, ram, rest};
	char page[4096];
	add_stream(&b);
	assert_int_equal(fs_write_all(in, b.data, b.len), 0);
	assert_int_equal(lseek(in, 0, SEEK_SET), 0);
	if (memory_split(in, &to, NULL, NULL, &err) < 0)
		fail_msg("%s", error_text(&err));
	for (int i = 0; i < 4; i++) {
		assert_int_equal(pread(ram, page, sizeof page, i * 4096), sizeof page);
		assert_int_equal(page[0], i ? 0 : 'c');
		assert_memory_equal(page, page + 1, sizeof page - 1);
	}
	/* what is not the guest's memory stays as it was: all but three pages, two zeros, and the heads of five records */
	_cleanup_(buf_free) struct buf left = BUF_INIT;
	assert_int_equal(lseek(rest, 0, SEEK_SET), 0);
	assert_int_equal(fs_read_fd(rest, b.len, &left), 0);
	assert_int_equal(left.len, b.len - 3 * 4096 - 2 - 5 * (8 + 7));
	assert_memory_equal(left.data + left.len - 8, "the rest", 8);
}

static void accel(void **state) {
	(void)state;
	_cleanup_(error_free) struct error err = ERROR_INIT;
	const struct accel none = {false, "because"}, both = {true, NULL};
	struct accel here;
	bool kvm;
	accel_probe(&here);
	assert_true(here.kvm == (here.why == NULL));
	print_message("# %s\n", here.kvm ? "KVM works" : here.why);
	struct machine_spec spec = {0};
	assert_int_equal(accel_choose(&spec, &both, &kvm, &err), 0);
	assert_true(kvm);
	assert_int_equal(accel_choose(&spec, &none, &kvm, &err), 0);
	assert_false(kvm);
	spec.accel = (char *)"tcg";
	assert_int_equal(accel_choose(&spec, &both, &kvm, &err), 0);
	assert_false(kvm);
	spec.accel = (char *)"kvm";
	assert_int_equal(accel_choose(&spec, &none, &kvm, &err), -ERROR_UNSUPPORTED);
	assert_string_equal(err.field, "spec.machine.accel");
	assert_non_null(strstr(error_text(&err), "because"));
}

/* The container of a machine that comes by post-copy alone may serve page faults: by the call, and by the device where there is one. */
static void page_faults(void **state) {
	(void)state;
	struct stat st;
	bool there = stat("/dev/userfaultfd", &st) == 0;
	for (int on = 0; on < 2; on++) {
		_cleanup_(error_free) struct error err = ERROR_INIT;
		struct container_config c;
		struct world w;
		container_config_init(&c);
		world_begin(&w);
		w.config.post_copy = on;
		assert_int_equal(machine_confine(&w.config, top, &c, &err), 0);
		_cleanup_(free_ptr) char *profile = json_print(c.seccomp);
		assert_int_equal(strstr(profile, "\"userfaultfd\"") != NULL, on);
		bool found = false;
		for (size_t i = 0; i < c.n_devices; i++)
			found |= str_same(c.devices[i].path, "/dev/userfaultfd") && c.devices[i].major == major(st.st_rdev);
		assert_int_equal(found, on && there);
		container_config_free(&c);
		world_end(&w);
	}
}

static int setup(void **state) {
	(void)state;
	snprintf(top, sizeof top, "/var/tmp/wabe-qemu-test.XXXXXX");
	return mkdtemp(top) ? 0 : -1;
}

static int teardown(void **state) {
	(void)state;
	return fs_remove_tree(top);
}

int main(int argc, char **argv) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(accel), cmocka_unit_test(memory), cmocka_unit_test(checks), cmocka_unit_test(bad_nodes), cmocka_unit_test(numa),
		cmocka_unit_test(usb_of_the_host), cmocka_unit_test(pci_of_the_host), cmocka_unit_test(redirected_usb),
		cmocka_unit_test(buses), cmocka_unit_test(boards), cmocka_unit_test(floppies),
		cmocka_unit_test(firmware), cmocka_unit_test(channels), cmocka_unit_test(contained), cmocka_unit_test(companions), cmocka_unit_test(adopted), cmocka_unit_test(monitor),
		cmocka_unit_test(page_faults),
	};
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests_name("qemu", tests, setup, teardown);
}
