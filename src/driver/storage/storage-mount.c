/* Mounts of pools and volumes, by the new mount interface, all below the pool's own directory; and freezing. */
#include "base/proc.h"
#include "driver/storage/storage-priv.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

/* The last line that the kernel has to say about a failed mount; in `text`, "" where it says nothing. */
static const char *kernel_says(int fs, char text[512]) {
	ssize_t n = read(fs, text, 511);
	if (n <= 0)
		return "";
	text[n] = '\0';
	text[strcspn(text, "\n")] = '\0';
	return strlen(text) > 2 && text[1] == ' ' ? text + 2 : text;
}

static int mount_failed(int fs, int errnum, const char *type, const char *source, struct error *err) {
	char text[512];
	const char *says = kernel_says(fs, text);
	if (errnum == EINVAL && *says)
		return error_set(err, ERROR_INVALID, "cannot mount %s as %s: %s", source ? source : type, type, says);
	return error_errno(err, errnum, "cannot mount %s as %s%s%s", source ? source : type, type, *says ? ": " : "", says);
}

static int set_option(int fs, const char *type, const struct pair *o, struct error *err) {
	int r = *o->value ? fsconfig(fs, FSCONFIG_SET_STRING, o->key, o->value, 0)
			  : fsconfig(fs, FSCONFIG_SET_FLAG, o->key, NULL, 0);
	if (r == 0)
		return 0;
	char text[512];
	const char *says = kernel_says(fs, text);
	return error_field(err, "options", "%s does not take the mount option %s%s%s%s%s", type, o->key,
			   *o->value ? "=" : "", o->value, *says ? ": " : "", says);
}

static int new_mount(const char *type, const char *source, const struct pairs *options, uint64_t attrs,
		     struct error *err) {
	_cleanup_(close_fd) int fs = fsopen(type, FSOPEN_CLOEXEC);
	if (fs < 0)
		return errno == ENODEV ? error_set(err, ERROR_UNSUPPORTED, "this kernel has no file system %s", type)
				       : error_errno(err, errno, "cannot mount a file system of type %s", type);
	for (size_t i = 0; options && i < options->n; i++) {
		int r = set_option(fs, type, &options->items[i], err);
		if (r < 0)
			return r;
	}
	if (source && fsconfig(fs, FSCONFIG_SET_STRING, "source", source, 0) < 0)
		return mount_failed(fs, errno, type, source, err);
	if ((attrs & MOUNT_ATTR_RDONLY) && fsconfig(fs, FSCONFIG_SET_FLAG, "ro", NULL, 0) < 0)
		return mount_failed(fs, errno, type, source, err);
	if (fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return mount_failed(fs, errno, type, source, err);
	int fd = fsmount(fs, FSMOUNT_CLOEXEC, (unsigned)(attrs | MOUNT_ATTR_NODEV));
	return fd < 0 ? mount_failed(fs, errno, type, source, err) : fd;
}

/* Private, so that no other mount name space holds it in use. */
int storage_mount_attach(int mount, const char *target, struct error *err) {
	struct mount_attr private = {.propagation = MS_PRIVATE};
	if (mkdir(target, 0700) < 0 && errno != EEXIST)
		return error_errno(err, errno, "cannot make the mount point %s", target);
	int r = move_mount(mount, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH);
	if (r < 0 && errno == ENOENT && mkdir(target, 0700) == 0) /* recovery took it for one left over, this moment */
		r = move_mount(mount, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH);
	if (r < 0)
		return error_errno(err, errno, "cannot mount on %s", target);
	mount_setattr(AT_FDCWD, target, 0, &private, sizeof private);
	return 0;
}

int storage_mount(const char *type, const char *source, const struct pairs *options, uint64_t attrs, const char *target,
		  struct error *err) {
	if (storage_is_mounted(target))
		return 0;
	_cleanup_(close_fd) int mount = new_mount(type, source, options, attrs, err);
	return mount < 0 ? mount : storage_mount_attach(mount, target, err);
}

int storage_mount_read_only(const char *dir, const char *target, struct error *err) {
	if (storage_is_mounted(target))
		return 0;
	_cleanup_(close_fd) int mount = open_tree(AT_FDCWD, dir, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW);
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV, .propagation = MS_PRIVATE};
	if (mount < 0 || mount_setattr(mount, "", AT_EMPTY_PATH, &attr, sizeof attr) < 0)
		return error_errno(err, errno, "cannot mount %s read-only", dir);
	return storage_mount_attach(mount, target, err);
}

bool storage_is_mounted(const char *target) {
	struct statx st;
	return statx(AT_FDCWD, target, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC, 0, &st) == 0 &&
	       (st.stx_attributes & STATX_ATTR_MOUNT_ROOT);
}

int storage_unmount(const char *target, struct error *err) {
	struct stat st;
	_cleanup_(free_ptr) char *file = storage_is_mounted(target) && stat(target, &st) == 0 ? storage_loop_file(st.st_dev) : NULL;
	/* more than one is not expected, but would be ours as well */
	for (int i = 0; i < 16 && storage_is_mounted(target); i++)
		if (umount2(target, UMOUNT_NOFOLLOW) < 0)
			return errno == EBUSY ? error_set(err, ERROR_BUSY, "%s is in use", target)
					      : error_errno(err, errno, "cannot unmount %s", target);
	if (rmdir(target) < 0 && errno != ENOENT)
		return error_errno(err, errno, "cannot remove the mount point %s", target);
	if (file)
		storage_loop_wait(st.st_dev, file);
	return 0;
}

/* A process in a user namespace of its own that lives until the other end of *alive is closed. */
static pid_t fork_with_userns(int *alive) {
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return -1;
	pid_t pid = fork();
	if (pid == 0) {
		char c = 0;
		close(pair[0]);
		if (unshare(CLONE_NEWUSER) == 0 && write(pair[1], &c, 1) == 1)
			(void)!read(pair[1], &c, 1);
		_exit(0);
	}
	close(pair[1]);
	*alive = pair[0];
	return pid;
}

static int open_userns(void) {
	_cleanup_(close_fd) int alive = -1;
	int fd = -1;
	char c, ns[64], uids[64], gids[64];
	pid_t pid = fork_with_userns(&alive);
	if (pid < 0)
		return -1;
	snprintf(ns, sizeof ns, "/proc/%d/ns/user", pid);
	snprintf(uids, sizeof uids, "/proc/%d/uid_map", pid);
	snprintf(gids, sizeof gids, "/proc/%d/gid_map", pid);
	if (read(alive, &c, 1) == 1 && fs_write_value(uids, "0 1 1\n") == 0 && fs_write_value(gids, "0 1 1\n") == 0)
		fd = open(ns, O_RDONLY | O_CLOEXEC);
	close_fd(&alive);
	waitpid(pid, NULL, 0);
	return fd;
}

bool storage_can_idmap(const char *path) {
	struct statfs fs;
	if (statfs(path, &fs) < 0 || fs.f_type == EXT4_SUPER_MAGIC || fs.f_type == XFS_SUPER_MAGIC || fs.f_type == BTRFS_SUPER_MAGIC)
		return true;
	_cleanup_(close_fd) int tree = open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC), userns = open_userns();
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (uint64_t)userns};
	return tree >= 0 && userns >= 0 && mount_setattr(tree, "", AT_EMPTY_PATH, &attr, sizeof attr) == 0;
}

static char *mounts_of(const struct storage_pool *p) {
	return str_format("%s/mnt", p->dir);
}

char *storage_mount_point(const struct storage_pool *p, const char *id, const char *snapshot) {
	_cleanup_(free_ptr) char *dir = mounts_of(p);
	mkdir(dir, 0700); /* that it is missing shows where something is mounted in it */
	return str_format("%s/%s%s%s", dir, id, snapshot ? "@" : "", snapshot ? snapshot : "");
}

static void thaw_left(const char *mount) {
	_cleanup_(close_fd) int fd = open(mount, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0)
		ioctl(fd, FITHAW, 0); /* EINVAL: it was not frozen */
}

int storage_mount_recover(const struct storage_pool *p, struct error *err) {
	_cleanup_(free_ptr) char *dir = mounts_of(p);
	_cleanup_(close_fd) int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : error_errno(err, errno, "cannot open %s", dir);
	_cleanup_(strv_free_ptr) char **names = NULL;
	int r = fs_names(fd, &names);
	for (size_t i = 0; r == 0 && names && names[i]; i++) {
		_cleanup_(free_ptr) char *path = str_format("%s/%s", dir, names[i]);
		if (storage_is_mounted(path))
			thaw_left(path);
		if (!str_starts(names[i], "tmp-")) {
			rmdir(path); /* unless it is one: volumes may be opened meanwhile */
			continue;
		}
		r = storage_unmount(path, err);
		if (r < 0)
			return r;
	}
	return r < 0 ? error_errno(err, r, "cannot read %s", dir) : 0;
}

/* --- freezing --- */

/* In the guard: thaws once the other end of the pipe is closed, by whatever. */
static void guard_freeze(int mount, int pipe) {
	prctl(PR_SET_NAME, "wabe-thaw");
	struct pollfd ended = {pipe, POLLIN, 0};
	while (poll(&ended, 1, -1) < 0 && errno == EINTR)
		;
	ioctl(mount, FITHAW, 0);
	_exit(0);
}

int storage_freeze(const char *mount, struct storage_frozen *f, struct error *err) {
	int ends[2];
	f->fd = open(mount, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (f->fd < 0)
		return error_errno(err, errno, "cannot open %s", mount);
	if (pipe2(ends, O_CLOEXEC) < 0 || (f->guard = fork()) < 0)
		return error_errno(err, errno, "cannot start what guards the freezing of %s", mount);
	if (f->guard == 0) {
		/* neither our pipe's end nor anything else that somebody waits to see closed is held open */
		int from = MAX(f->fd, ends[0]) + 1;
		syscall(SYS_close_range, from, ~0U, 0);
		for (int i = 3; i < from; i++)
			if (i != f->fd && i != ends[0])
				close(i);
		setsid();
		guard_freeze(f->fd, ends[0]);
	}
	close(ends[0]);
	f->pipe = ends[1];
	if (ioctl(f->fd, FIFREEZE, 0) == 0)
		return 0;
	int r = errno == EBUSY ? error_set(err, ERROR_BUSY, "the file system on %s is frozen by somebody else", mount)
			       : error_errno(err, errno, "cannot freeze the file system on %s", mount);
	kill(f->guard, SIGKILL); /* it would thaw what others froze */
	storage_thaw(f);
	return r;
}

void storage_thaw(struct storage_frozen *f) {
	if (f->guard <= 0) {
		close_fd(&f->fd);
		return;
	}
	close_fd(&f->pipe);
	proc_wait(f->guard);
	f->guard = 0;
	close_fd(&f->fd);
}
