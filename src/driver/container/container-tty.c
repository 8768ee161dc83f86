/* A terminal for a process of the container, from the container's own devpts, so that /dev/console, ttyname
 * and /proc/self/fd/0 agree inside. The devpts instance may have been tampered with by the container (exec):
 * it is looked up without links and checked to be a devpts. */
#include "base/fs.h"
#include "driver/container/container-priv.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <termios.h>
#include <unistd.h>

static int open_ptmx(int root, struct error *err) {
	_cleanup_(close_fd) int pts = fs_open_in_root(root, "/dev/pts", O_PATH | O_DIRECTORY | O_NOFOLLOW, 0);
	struct statfs fs;
	if (pts < 0 || fstatfs(pts, &fs) < 0 || fs.f_type != DEVPTS_SUPER_MAGIC)
		return error_set(err, ERROR_INVALID, "a terminal needs a devpts on the container's /dev/pts");
	struct open_how how = {
		.flags = O_RDWR | O_NOCTTY | O_CLOEXEC,
		.resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV | RESOLVE_BENEATH,
	};
	int fd = (int)syscall(SYS_openat2, pts, "ptmx", &how, sizeof how);
	return fd < 0 ? error_errno(err, errno, "cannot open /dev/pts/ptmx of the container") : fd;
}

int tty_open(int root, const struct container_process *p, uint32_t uid, int *master, int *slave, struct error *err) {
	_cleanup_(close_fd) int m = open_ptmx(root, err);
	if (m < 0)
		return m;
	int unlock = 0;
	if (ioctl(m, TIOCSPTLCK, &unlock) < 0)
		return error_errno(err, errno, "cannot unlock the terminal");
	_cleanup_(close_fd) int s = ioctl(m, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (s < 0)
		return error_errno(err, errno, "cannot open the terminal");
	if (fchown(s, uid, (gid_t)-1) < 0)
		return error_errno(err, errno, "cannot give the terminal to the user %u", uid);
	struct winsize size = {.ws_row = p->rows, .ws_col = p->columns};
	if (p->rows && p->columns)
		ioctl(m, TIOCSWINSZ, &size);
	*master = TAKE_FD(m);
	*slave = TAKE_FD(s);
	return 0;
}

int tty_adopt(int slave) {
	if (ioctl(slave, TIOCSCTTY, 0) < 0)
		return -errno;
	for (int fd = 0; fd <= 2; fd++)
		if (dup2(slave, fd) < 0)
			return -errno;
	return 0;
}
