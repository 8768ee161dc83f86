/* Loop devices for block volumes that are plain files: one for each file, however many instances share it. Not held by
 * a descriptor, since an instance outlives every worker: it goes when the volume is closed. */
#include "agent/storage-priv.h"

#include "base/fs.h"
#include "base/str.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define TRIES 64 /* others may take the free device first */

static bool is_on(int loop, const struct stat *file) {
	struct loop_info64 info;
	return ioctl(loop, LOOP_GET_STATUS64, &info) == 0 && info.lo_device == file->st_dev && info.lo_inode == file->st_ino;
}

/* The device on that file, or NULL. */
static char *find(const struct stat *file) {
	DIR *d = opendir("/sys/block");
	char *found = NULL;
	for (struct dirent *e; d && !found && (e = readdir(d));) {
		_cleanup_(free_ptr) char *backing = str_format("/sys/block/%s/loop/backing_file", e->d_name);
		if (!str_starts(e->d_name, "loop") || !fs_exists(backing))
			continue;
		_cleanup_(free_ptr) char *path = str_format("/dev/%s", e->d_name);
		_cleanup_(close_fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd >= 0 && is_on(fd, file))
			found = TAKE_PTR(path);
	}
	if (d)
		closedir(d);
	return found;
}

static int make_free(char **path) {
	_cleanup_(close_fd) int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	int n = control < 0 ? -1 : ioctl(control, LOOP_CTL_GET_FREE);
	if (n < 0)
		return -errno;
	*path = str_format("/dev/loop%d", n);
	if (!fs_exists(*path) && mknod(*path, S_IFBLK | 0600, makedev(7, (unsigned)n)) < 0 && errno != EEXIST)
		return -errno;
	return 0;
}

static int configure(const char *path, int file) {
	_cleanup_(close_fd) int loop = open(path, O_RDWR | O_CLOEXEC);
	struct loop_config config = {.fd = (uint32_t)file};
	return loop < 0 || ioctl(loop, LOOP_CONFIGURE, &config) < 0 ? -errno : 0;
}

int loop_attach(const char *file, char **device, struct error *err) {
	_cleanup_(close_fd) int fd = open(file, O_RDWR | O_CLOEXEC);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0)
		return error_errno(err, errno, "cannot open %s", file);
	*device = find(&st);
	if (*device)
		return 0;
	int r = -EBUSY;
	for (int i = 0; r == -EBUSY && i < TRIES; i++) {
		_cleanup_(free_ptr) char *path = NULL;
		r = make_free(&path);
		if (r == 0)
			r = configure(path, fd);
		if (r == 0)
			*device = TAKE_PTR(path);
	}
	return r < 0 ? error_errno(err, r, "cannot make a loop device for %s", file) : 0;
}

static int change(const char *file, unsigned long request) {
	struct stat st;
	if (stat(file, &st) < 0)
		return 0;
	_cleanup_(free_ptr) char *path = find(&st);
	_cleanup_(close_fd) int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	return fd >= 0 && ioctl(fd, request, 0) < 0 ? -errno : 0;
}

int loop_detach(const char *file, struct error *err) {
	int r = change(file, LOOP_CLR_FD);
	return r < 0 && r != -ENXIO ? error_errno(err, r, "cannot take the loop device of %s away", file) : 0;
}

int loop_flush(const char *file, struct error *err) {
	struct stat st;
	_cleanup_(free_ptr) char *path = stat(file, &st) == 0 ? find(&st) : NULL;
	_cleanup_(close_fd) int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	return fd >= 0 && fsync(fd) < 0 ? error_errno(err, errno, "cannot write back %s", path) : 0;
}

int loop_resized(const char *file, struct error *err) {
	int r = change(file, LOOP_SET_CAPACITY);
	return r < 0 ? error_errno(err, r, "the loop device of %s does not take its new size", file) : 0;
}
