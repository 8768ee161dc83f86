/* What control can no longer do once it is confined: each try runs in a child of its own. Needs root. */
#include "control/confine.h"

#include "base/fs.h"
#include "base/proc.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define NOBODY 65534
static char dir[64];

static void need_root(void) {
	if (geteuid() != 0) {
		print_message("needs root\n");
		skip();
	}
}

static int set_up(void **state UNUSED) {
	strcpy(dir, "/tmp/wabe-confine-test-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	_cleanup_(free_ptr) char *inside = str_format("%s/inside", dir), *outside = str_format("%s/outside", dir);
	int ok = chmod(dir, 0777) | mkdir(inside, 0777) | mkdir(outside, 0777) | chmod(inside, 0777) | chmod(outside, 0777);
	return ok;
}

static int tear_down(void **state UNUSED) {
	return fs_remove_tree(dir);
}

static char *path_of(const char *name) {
	return str_format("%s/%s", dir, name);
}

static int open_at(const char *name, int flags) {
	_cleanup_(free_ptr) char *path = path_of(name);
	return open(path, flags | O_CLOEXEC, 0600);
}

static void confine_all(void) {
	struct error err = ERROR_INIT;
	_cleanup_(free_ptr) char *inside = path_of("inside");
	const struct confine_path paths[] = {{inside, true}, {"/etc/hosts"}, {"/nowhere"}};
	if (confine_user(NOBODY, NOBODY, &err) < 0 || confine_files(paths, ARRAY_SIZE(paths), &err) < 0 ||
	    confine_calls(&err) < 0) {
		fprintf(stderr, "%s\n", error_text(&err));
		_exit(99);
	}
}

/* The number of the first check that fails, or 0; run in a confined child. */
static void in_child(int (*checks)(void)) {
	need_root();
	fflush(NULL);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		confine_all();
		_exit(checks());
	}
	assert_int_equal(proc_wait(pid), 0);
}

#define CHECK(condition)         \
	do {                     \
		if (!(condition)) \
			return __LINE__ % 200 + 1; \
	} while (0)

static int files(void) {
	CHECK(open_at("inside/a", O_CREAT | O_RDWR) >= 0);
	CHECK(open_at("outside/a", O_CREAT | O_RDWR) < 0 && errno == EACCES);
	CHECK(open_at("outside", O_RDONLY | O_DIRECTORY) < 0);
	CHECK(open_at("inside/../outside/a", O_CREAT | O_RDWR) < 0);
	_cleanup_(free_ptr) char *inside = path_of("inside/a"), *outside = path_of("outside/b"), *deep = path_of("inside/d");
	CHECK(link(inside, outside) < 0);
	CHECK(rename(inside, outside) < 0);
	CHECK(mkdir(deep, 0700) == 0 && rmdir(deep) == 0);
	CHECK(open("/etc/shadow", O_RDONLY) < 0);
	CHECK(open("/etc/passwd", O_RDONLY) < 0 && errno == EACCES); /* readable, but for Landlock */
	CHECK(open("/etc/hosts", O_RDONLY) >= 0);
	CHECK(open("/etc/hosts", O_WRONLY) < 0);
	CHECK(open("/proc/1/environ", O_RDONLY) < 0);
	CHECK(unlink(inside) == 0);
	return 0;
}

static int system_calls(void) {
	CHECK(syscall(SYS_execve, "/bin/true", NULL, NULL) < 0 && errno == ENOSYS);
#ifdef SYS_fork
	CHECK(syscall(SYS_fork) < 0 && errno == ENOSYS);
#endif
	CHECK(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) < 0 && errno == ENOSYS);
	CHECK(syscall(SYS_clone3, NULL, 0) < 0 && errno == ENOSYS);
	CHECK(syscall(SYS_unshare, CLONE_NEWUSER) < 0 && errno == ENOSYS);
	CHECK(syscall(SYS_mount, "x", "/", "tmpfs", 0, NULL) < 0 && errno == ENOSYS);
	CHECK(syscall(SYS_ptrace, PTRACE_TRACEME, 0, 0, 0) < 0 && errno == ENOSYS);
	CHECK(syscall(SYS_bpf, 0, NULL, 0) < 0 && errno == ENOSYS);
	CHECK(syscall(SYS_io_uring_setup, 1, NULL) < 0 && errno == ENOSYS);
	CHECK(syscall(SYS_keyctl, 0, 0) < 0 && errno == ENOSYS);
	CHECK(syscall(SYS_kill, getppid(), 0) < 0 && errno == ENOSYS);
	CHECK(syscall(SYS_setuid, 0) < 0 && errno == ENOSYS);
	CHECK(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) < 0 && errno == ENOSYS);
	int pending;
	CHECK(syscall(SYS_ioctl, 0, TIOCSTI, "x") < 0 && errno == ENOSYS);
	CHECK(syscall(SYS_ioctl, 0, TIOCSTI | 1UL << 32, "x") < 0 && errno == ENOSYS);
	CHECK(ioctl(socket(AF_UNIX, SOCK_STREAM, 0), FIONREAD, &pending) == 0);
	CHECK(socket(AF_PACKET, SOCK_RAW, 0) < 0);
	CHECK(socket(AF_VSOCK, SOCK_STREAM, 0) < 0 && errno == ENOSYS);
	CHECK(socket(AF_INET, SOCK_STREAM, 0) >= 0);
	return 0;
}

static void *thread_main(void *arg) {
	*(int *)arg = 7;
	return NULL;
}

static int threads_work(void) {
	pthread_t t;
	int value = 0;
	CHECK(pthread_create(&t, NULL, thread_main, &value) == 0);
	CHECK(pthread_join(t, NULL) == 0);
	CHECK(value == 7);
	return 0;
}

static void files_outside_stay_closed(void **state UNUSED) {
	in_child(files);
}

static void calls_off_the_list_fail(void **state UNUSED) {
	in_child(system_calls);
}

static void threads_can_be_made(void **state UNUSED) {
	in_child(threads_work);
}

static void status_of_a_confined_process(void **state UNUSED) {
	need_root();
	int ready[2], end[2];
	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	assert_int_equal(pipe2(end, O_CLOEXEC), 0);
	pid_t pid = fork();
	if (pid == 0) {
		close(end[1]);
		confine_all();
		char byte = 0;
		_exit(write(ready[1], "x", 1) != 1 || read(end[0], &byte, 1) != 0);
	}
	close(ready[1]);
	char byte;
	assert_int_equal(read(ready[0], &byte, 1), 1);
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	_cleanup_(free_ptr) char *path = str_format("/proc/%d/status", pid);
	assert_int_equal(fs_read(path, 1 << 16, &text), 0);
	static const char *const lines[] = {"CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "CapInh:\t0000000000000000",
					    "CapBnd:\t0000000000000000", "CapAmb:\t0000000000000000", "NoNewPrivs:\t1",
					    "Seccomp:\t2", "Uid:\t65534\t65534\t65534\t65534", "Gid:\t65534\t65534\t65534\t65534"};
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
		if (!strstr(buf_str(&text), lines[i]))
			fail_msg("%s is not in %s", lines[i], buf_str(&text));
	close(end[1]);
	assert_int_equal(proc_wait(pid), 0);
	close(ready[0]);
	close(end[0]);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(files_outside_stay_closed, set_up, tear_down),
		cmocka_unit_test_setup_teardown(calls_off_the_list_fail, set_up, tear_down),
		cmocka_unit_test_setup_teardown(threads_can_be_made, set_up, tear_down),
		cmocka_unit_test_setup_teardown(status_of_a_confined_process, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
