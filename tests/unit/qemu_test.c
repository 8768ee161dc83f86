/* Machines by QEMU: that the real one takes what we tell it, for every board and every kind of device, and that the container
 * around it holds. Guests are not started (-S). */
#include "base/fs.h"
#include "base/proc.h"
#include "base/str.h"
#include "base/time.h"
#include "driver/container/container-priv.h"
#include "driver/qemu/machine-priv.h"

#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
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
		.kernel_fd = -1, .initrd_fd = -1, .vars_fd = -1,
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

/* Starts it stopped, asks for its status, ends it: gives what it said. */
static char *start(struct world *w, char **said) {
	static const char *const commands[] = {"{\"execute\":\"qmp_capabilities\"}", "{\"execute\":\"query-status\"}",
					       "{\"execute\":\"quit\"}", NULL};
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
	_cleanup_(free_ptr) char *said = NULL;
	_cleanup_(free_ptr) char *answers = start(w, &said);
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
	add_disk(&w, "root", "virtio", false);
	w.disks[0].format = "vmdk";
	refused(&w, ERROR_INVALID, "spec.disks");
	world_begin(&w);
	add_disk(&w, "root", "virtio", false);
	w.disks[0].serial = "123456789012345678901";
	refused(&w, ERROR_INVALID, "spec.disks");
}

/* --- acceleration --- */

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

static int setup(void **state) {
	(void)state;
	snprintf(top, sizeof top, "/var/tmp/wabe-qemu-test.XXXXXX");
	return mkdtemp(top) ? 0 : -1;
}

static int teardown(void **state) {
	(void)state;
	return fs_remove_tree(top);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(accel), cmocka_unit_test(checks), cmocka_unit_test(buses), cmocka_unit_test(boards),
		cmocka_unit_test(firmware), cmocka_unit_test(channels),
	};
	return cmocka_run_group_tests_name("qemu", tests, setup, teardown);
}
