/* Keeping the program itself out of a container's reach (CVE-2019-5736).
 *
 * A container can make our child execute us: a command, or the interpreter of a script, of /proc/self/exe. That
 * process is the container's own; through its /proc/PID/exe the container may open our file for writing as
 * soon as nobody executes it, if its root is the host's root. All that is cheap to check in advance can be
 * raced. So the program runs from a place that cannot be written: its own file, seen by a read-only mount
 * of its own that is attached nowhere, or a sealed copy in memory where the kernel cannot do that. */
#include "base/fs.h"
#include "driver/container/container-priv.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

static bool is_protected(int exe) {
	struct statvfs fs;
	if (fstatvfs(exe, &fs) == 0 && (fs.f_flag & ST_RDONLY))
		return true;
	int seals = fcntl(exe, F_GET_SEALS);
	return seals >= 0 && (seals & F_SEAL_WRITE);
}

static int readonly_mount(void) {
	_cleanup_(close_fd) int fd = open_tree(AT_FDCWD, "/proc/self/exe", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (fd < 0)
		return -errno;
	int r = mount_change(fd, false, MOUNT_ATTR_RDONLY, 0, 0);
	return r < 0 ? r : TAKE_FD(fd);
}

static int sealed_copy(int exe) {
	_cleanup_(close_fd) int fd = memfd_create("wabe", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	int r = fs_copy(exe, fd, NULL);
	if (r < 0)
		return r;
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0)
		return -errno;
	return TAKE_FD(fd);
}

static char **own_arguments(struct buf *text) {
	int r = fs_read("/proc/self/cmdline", (size_t)8 << 20, text);
	char **argv = NULL;
	for (size_t i = 0; r == 0 && i < text->len; i += strlen(text->data + i) + 1)
		strv_add(&argv, text->data + i);
	return argv;
}

#define PROGRAM_VARIABLE "WABE_PROGRAM"

char *container_program_path(void) {
	char path[PATH_MAX];
	const char *kept = getenv(PROGRAM_VARIABLE);
	ssize_t n = readlink("/proc/self/exe", path, sizeof path);
	/* the path of a mount that is attached nowhere is "/", that of a copy in memory "/memfd:…" */
	bool hidden = n == 1 || (n > 0 && strncmp(path, "/memfd:", 7) == 0);
	if (hidden)
		return kept ? str_copy(kept) : NULL;
	return n > 0 && n < (ssize_t)sizeof path ? str_copyn(path, (size_t)n) : NULL;
}

static int own_mount = -1;

void container_close_self(void) {
	close_fd(&own_mount);
}

/* The descriptor that we were executed by, where it has been left open. */
static void take_own_mount(int exe) {
	const char *name = (const char *)getauxval(AT_EXECFN);
	int fd;
	struct stat by, own;
	if (name && sscanf(name, "/dev/fd/%d", &fd) == 1 && (fcntl(fd, F_GETFL) & O_PATH) && fstat(fd, &by) == 0 &&
	    fstat(exe, &own) == 0 && by.st_dev == own.st_dev && by.st_ino == own.st_ino) {
		fd_set_cloexec(fd, true);
		own_mount = fd;
	}
}

int container_protect_self(struct error *err) {
	_cleanup_(close_fd) int exe = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	if (exe < 0)
		return error_errno(err, errno, "cannot open the own program");
	if (is_protected(exe)) {
		take_own_mount(exe);
		return 0;
	}
	_cleanup_(close_fd) int safe = readonly_mount();
	if (safe < 0)
		safe = sealed_copy(exe);
	if (safe < 0)
		return error_errno(err, safe, "cannot make the own program read-only");
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	_cleanup_(strv_free_ptr) char **argv = own_arguments(&text);
	if (!argv)
		return error_set(err, ERROR_INTERNAL, "cannot read /proc/self/cmdline");
	_cleanup_(free_ptr) char *program = container_program_path();
	if (program)
		setenv(PROGRAM_VARIABLE, program, 1);
	syscall(SYS_execveat, safe, "", argv, environ, AT_EMPTY_PATH);
	return error_errno(err, errno, "cannot execute the own program from its read-only mount");
}
