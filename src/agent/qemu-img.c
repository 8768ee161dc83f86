/* Disk images converted by qemu-img, which parses what strangers made: it runs as root without any capability, in a tree
 * that holds its own program, the two files and nothing else, without a network. A backing file that an image names is
 * not there. So does QEMU itself without a machine, for disks of machines that do not run. */
#include "agent/machine-priv.h"

#include "base/proc.h"
#include "base/str.h"
#include "base/time.h"
#include "driver/qemu/qmp.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PROGRAM "/usr/bin/qemu-img"
#define MEMORY_MAX ((rlim_t)4 << 30)
#define LINE_BYTES ((size_t)1024)
#define NONE_WAIT (30 * NS_PER_SEC)

static int attach(int mount, const char *target) {
	return mount < 0 || move_mount(mount, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH) < 0 ? -1 : 0;
}

static int make_tree(int in, int out) {
	static const char *const links[][2] = {{"usr/lib", "lib"}, {"usr/lib64", "lib64"}, {"usr/bin", "bin"}};
	/* /proc/self/fd: a file without a name can be reached by no other path */
	if (mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID, "mode=755,size=64k") < 0 || chdir("/tmp") < 0 ||
	    mkdir("usr", 0755) < 0 || mkdir("proc", 0755) < 0 || mkdir("tmp", 0755) < 0)
		return -1;
	int usr = open_tree(AT_FDCWD, "/usr", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	struct mount_attr read_only = {.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV};
	if (usr < 0 || mount_setattr(usr, "", AT_EMPTY_PATH, &read_only, sizeof read_only) < 0 || attach(usr, "usr") < 0)
		return -1;
	for (size_t i = 0; i < ARRAY_SIZE(links); i++)
		if (symlink(links[i][0], links[i][1]) < 0)
			return -1;
	if (mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, "subset=pid") < 0)
		return -1;
	if (dup2(in, 3) < 0 || dup2(out, 4) < 0)
		return -1;
	return syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0 ? -1 : 0;
}

static int drop_powers(void) {
	struct rlimit none = {0, 0}, memory = {MEMORY_MAX, MEMORY_MAX};
	if (setrlimit(RLIMIT_CORE, &none) < 0 || setrlimit(RLIMIT_AS, &memory) < 0)
		return -1;
	return worker_drop_powers();
}

/* In the child of a child, which is the first process of a name space of its own. */
__attribute__((noreturn)) static void run(char *const *argv, int in, int out) {
	const char *const env[] = {"PATH=/usr/bin", "LANG=C.UTF-8", NULL};
	if (make_tree(in, out) < 0 || drop_powers() < 0)
		_exit(126);
	syscall(SYS_close_range, 5, ~0U, 0);
	execve(argv[0], argv, (char *const *)env);
	_exit(127);
}

__attribute__((noreturn)) static void child(pid_t parent, char *const *argv, int in, int out, int messages) {
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if (getppid() != parent || dup2(null, 0) < 0 || dup2(messages, 1) < 0 || dup2(messages, 2) < 0)
		_exit(126);
	int a = fcntl(in, F_DUPFD_CLOEXEC, 10), b = fcntl(out, F_DUPFD_CLOEXEC, 10);
	if (a < 0 || b < 0 || unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWPID) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		_exit(126);
	pid_t pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
		run(argv, a, b);
	}
	int status = pid < 0 ? 126 : proc_wait(pid);
	_exit(status < 0 ? 126 : status);
}

/* What it says: lines, and in between "(12.34/100%)" with a carriage return. */
struct listener {
	struct buf line;
	char *said; /* the last line that is none of progress */
	void (*progress)(int done, void *arg);
	void *arg;
};

static void take_line(struct listener *l) {
	const char *text = buf_str(&l->line);
	text += strspn(text, " ");
	char *end;
	double percent = text[0] == '(' ? strtod(text + 1, &end) : -1;
	if (percent >= 0 && str_starts(end, "/100%)")) {
		if (l->progress && percent <= 100)
			l->progress((int)(percent * 10), l->arg);
	} else if (*text) {
		free(l->said);
		l->said = text_shown(text);
	}
	buf_truncate(&l->line, 0);
}

static void listen_to(struct listener *l, int fd) {
	char chunk[4096];
	for (ssize_t n; (n = RETRY_EINTR(read(fd, chunk, sizeof chunk))) > 0;)
		for (ssize_t i = 0; i < n; i++) {
			if (chunk[i] == '\n' || chunk[i] == '\r')
				take_line(l);
			else if (l->line.len < LINE_BYTES)
				buf_addc(&l->line, chunk[i]);
		}
	take_line(l);
}

/* Gives its exit status. */
static int qemu_img(char *const *argv, int in, int out, struct listener *l, struct error *err) {
	int ends[2];
	if (access(PROGRAM, X_OK) < 0)
		return error_set(err, ERROR_UNSUPPORTED, "disk images need qemu-img, which is not installed on this host (package "
				 "qemu-utils)");
	if (pipe2(ends, O_CLOEXEC) < 0)
		return error_errno(err, errno, "cannot make a pipe");
	pid_t parent = getpid(), pid = fork();
	if (pid == 0)
		child(parent, argv, in, out, ends[1]);
	close_fd(&ends[1]);
	_cleanup_(close_fd) int messages = ends[0];
	if (pid < 0)
		return error_errno(err, errno, "cannot start qemu-img");
	listen_to(l, messages);
	return proc_wait(pid);
}

static void listener_free(struct listener *l) {
	buf_free(&l->line);
	free(l->said);
}

static const char *reason(const struct listener *l) {
	return l->said ? l->said : "it gives no reason";
}

/* The format is always told; a VHD's size is the one that it says, not that of a geometry. */
static void add_input(char ***argv, const char *format) {
	bool vpc = str_same(format, "vpc");
	strv_add(argv, vpc ? "--image-opts" : "-f");
	strv_add(argv, vpc ? "driver=vpc,force_size_calc=current_size,file.driver=file,file.filename=/proc/self/fd/3" : format);
	if (!vpc)
		strv_add(argv, "/proc/self/fd/3");
}

int qemu_img_convert(int in, const char *in_format, int out, const char *out_format, void (*progress)(int done, void *arg),
		     void *arg, struct error *err) {
	_cleanup_(strv_free_ptr) char **argv = NULL;
	_cleanup_(listener_free) struct listener l = {.progress = progress, .arg = arg};
	bool stream = str_same(out_format, "vmdk-stream");
	strv_add(&argv, PROGRAM);
	strv_add(&argv, "convert");
	if (progress)
		strv_add(&argv, "-p");
	if (str_same(out_format, "raw"))
		strv_add(&argv, "-n");
	strv_add(&argv, "-O");
	strv_add(&argv, stream ? "vmdk" : out_format);
	if (stream || str_same(out_format, "vpc")) {
		strv_add(&argv, "-o");
		strv_add(&argv, stream ? "subformat=streamOptimized" : "force_size=on");
	}
	add_input(&argv, in_format);
	strv_add(&argv, "/proc/self/fd/4");
	int status = qemu_img(argv, in, out, &l, err);
	if (status <= 0)
		return status;
	return error_set(err, ERROR_INVALID, "qemu-img cannot convert the image (status %d): %s", status, reason(&l));
}

/* Exit statuses of qemu-img check, as qemu-img(1) has them. */
#define CHECK_LEAKS 3
#define CHECK_UNKNOWN 63

int qemu_img_check(int in, const char *format, struct error *err) {
	_cleanup_(strv_free_ptr) char **argv = NULL;
	_cleanup_(listener_free) struct listener l = {0};
	strv_add(&argv, PROGRAM);
	strv_add(&argv, "check");
	strv_add(&argv, "-q");
	add_input(&argv, format);
	int status = qemu_img(argv, in, in, &l, err);
	if (status <= 0 || status == CHECK_LEAKS || status == CHECK_UNKNOWN)
		return MIN(status, 0);
	return error_set(err, ERROR_CORRUPT, "the disk image is damaged or cut off: %s", reason(&l));
}

/* --- QEMU without a machine --- */

int qemu_none_start(struct qmp **q, pid_t *pid, struct error *err) {
	int ends[2];
	_cleanup_(close_fd) int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	_cleanup_(strv_free_ptr) char **argv = machine_none_args(3);
	if (access(argv[0], X_OK) < 0)
		return error_set(err, ERROR_UNSUPPORTED, "this host has no %s (package qemu-system-x86)", argv[0]);
	if (null < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		return error_errno(err, errno, "cannot start QEMU");
	pid_t parent = getpid();
	*pid = fork();
	if (*pid == 0)
		child(parent, argv, ends[1], null, null);
	close_fd(&ends[1]);
	if (*pid < 0) {
		close_fd(&ends[0]);
		return error_errno(err, errno, "cannot start QEMU");
	}
	int r = qmp_begin(ends[0], time_mono_ns() + NONE_WAIT, q, err);
	if (r < 0)
		qemu_none_end(q, pid);
	return r;
}

void qemu_none_end(struct qmp **q, pid_t *pid) {
	if (*pid <= 0)
		return;
	if (*q)
		qmp_call(*q, "quit", NULL, -1, time_mono_ns() + NONE_WAIT, NULL, NULL);
	qmp_free(TAKE_PTR(*q));
	kill(*pid, SIGKILL); /* what it has begun ends with it */
	proc_wait(*pid);
	*pid = 0;
}
