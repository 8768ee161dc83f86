/* Disk images converted by qemu-img, which parses what strangers made: it runs as root without any capability, in a tree
 * that holds its own program, the two files and nothing else, without a network. A backing file that an image names is
 * not there. */
#include "agent/storage-priv.h"

#include "base/fs.h"
#include "base/proc.h"
#include "base/str.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PROGRAM "/usr/bin/qemu-img"
#define MEMORY_MAX ((rlim_t)4 << 30)
#define MESSAGES_MAX ((size_t)16384)

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
	for (unsigned c = 0; prctl(PR_CAPBSET_READ, c, 0, 0, 0) >= 0; c++)
		if (prctl(PR_CAPBSET_DROP, c, 0, 0, 0) < 0)
			return -1;
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {0};
	if (setrlimit(RLIMIT_CORE, &none) < 0 || setrlimit(RLIMIT_AS, &memory) < 0 || syscall(SYS_capset, &header, data) < 0)
		return -1;
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

/* In the child of a child, which is the first process of a name space of its own. */
__attribute__((noreturn)) static void run(int in, const char *in_format, int out, const char *out_format) {
	const char *const argv[] = {"qemu-img", "convert", "-f", in_format, "-O", out_format, "/proc/self/fd/3",
				    "/proc/self/fd/4", str_same(out_format, "raw") ? "-n" : NULL, NULL};
	const char *const env[] = {"PATH=/usr/bin", "LANG=C.UTF-8", NULL};
	if (make_tree(in, out) < 0 || drop_powers() < 0)
		_exit(126);
	syscall(SYS_close_range, 5, ~0U, 0);
	execve(PROGRAM, (char *const *)argv, (char *const *)env);
	_exit(127);
}

__attribute__((noreturn)) static void child(pid_t parent, int in, const char *in_format, int out, const char *out_format,
					    int messages) {
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if (getppid() != parent || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(messages, 2) < 0)
		_exit(126);
	int a = fcntl(in, F_DUPFD_CLOEXEC, 10), b = fcntl(out, F_DUPFD_CLOEXEC, 10);
	if (a < 0 || b < 0 || unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWPID) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		_exit(126);
	pid_t pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
		run(a, in_format, b, out_format);
	}
	int status = pid < 0 ? 126 : proc_wait(pid);
	_exit(status < 0 ? 126 : status);
}

/* The last line of what it said. */
static int failed(int status, struct buf *text, struct error *err) {
	while (text->len && buf_str(text)[text->len - 1] == '\n')
		buf_truncate(text, text->len - 1);
	const char *line = text->len ? strrchr(buf_str(text), '\n') : NULL;
	_cleanup_(free_ptr) char *shown = text_shown(line ? line + 1 : buf_str(text));
	return error_set(err, ERROR_INVALID, "qemu-img cannot convert the image (status %d): %s", status,
			 *shown ? shown : "it gives no reason");
}

int qemu_img_convert(int in, const char *in_format, int out, const char *out_format, struct error *err) {
	int ends[2];
	if (access(PROGRAM, X_OK) < 0)
		return error_set(err, ERROR_UNSUPPORTED, "qcow2 needs qemu-img, which is not installed on this host (package "
				 "qemu-utils)");
	if (pipe2(ends, O_CLOEXEC) < 0)
		return error_errno(err, errno, "cannot make a pipe");
	pid_t parent = getpid(), pid = fork();
	if (pid == 0)
		child(parent, in, in_format, out, out_format, ends[1]);
	close_fd(&ends[1]);
	_cleanup_(close_fd) int messages = ends[0];
	if (pid < 0)
		return error_errno(err, errno, "cannot start qemu-img");
	_cleanup_(buf_free) struct buf text = BUF_INIT_MAX(MESSAGES_MAX);
	fs_read_fd(messages, MESSAGES_MAX - 1, &text);
	int status = proc_wait(pid);
	return status == 0 ? 0 : failed(status, &text, err);
}
