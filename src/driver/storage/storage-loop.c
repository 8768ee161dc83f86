/* Loop devices: each on one file of a pool's, marked to go with its last user. */
#include "driver/storage/storage-priv.h"

#include <fcntl.h>
#include <linux/loop.h>
#include <linux/major.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define TRIES 256
#define WAIT_MS 10
#define WAITS 500

/* A free device: somebody else may take it before us (-EBUSY). */
static int take(int control, int file, bool read_only, char **device) {
	int number = ioctl(control, LOOP_CTL_GET_FREE);
	if (number < 0)
		return -errno;
	_cleanup_(free_ptr) char *path = str_format("/dev/loop%d", number);
	if (!fs_exists(path) && mknod(path, S_IFBLK | 0600, makedev(7, (unsigned)number)) < 0 && errno != EEXIST)
		return -errno;
	_cleanup_(close_fd) int fd = open(path, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	struct loop_config config = {
		.fd = (uint32_t)file,
		.block_size = 512,
		.info = {.lo_flags = LO_FLAGS_AUTOCLEAR | (read_only ? LO_FLAGS_READ_ONLY : 0U)},
	};
	if (ioctl(fd, LOOP_CONFIGURE, &config) < 0)
		return -errno;
	*device = TAKE_PTR(path);
	return TAKE_FD(fd);
}

int storage_loop_attach(const char *file, bool read_only, char **device, struct error *err) {
	_cleanup_(close_fd) int backing = open(file, (read_only ? O_RDONLY : O_RDWR) | O_NOFOLLOW | O_CLOEXEC);
	if (backing < 0)
		return error_errno(err, errno, "cannot open %s", file);
	_cleanup_(close_fd) int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	if (control < 0)
		return error_set(err, ERROR_UNSUPPORTED, "this kernel has no loop devices (module loop): /dev/loop-control: %s",
				 strerror(errno));
	int r = -EBUSY;
	for (int i = 0; i < TRIES && (r == -EBUSY || r == -ENXIO); i++)
		r = take(control, backing, read_only, device);
	return r < 0 ? error_errno(err, r, "cannot make a loop device of %s", file) : r;
}

char *storage_loop_file(dev_t dev) {
	_cleanup_(free_ptr) char *path = str_format("/sys/dev/block/%u:%u/loop/backing_file", major(dev), minor(dev));
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	return major(dev) == LOOP_MAJOR && fs_read(path, 8192, &text) == 0 && text.len ? buf_steal(&text) : NULL;
}

void storage_loop_wait(dev_t dev, const char *file) {
	for (int i = 0; i < WAITS; i++) {
		_cleanup_(free_ptr) char *now = storage_loop_file(dev);
		if (!str_same(now, file))
			return;
		poll(NULL, 0, WAIT_MS); /* nothing tells of it that every host has */
	}
}

int storage_loop_grow(const char *mount, struct error *err) {
	struct stat st;
	if (stat(mount, &st) < 0)
		return error_errno(err, errno, "cannot read %s", mount);
	_cleanup_(free_ptr) char *path = str_format("/dev/loop%u", minor(st.st_dev));
	_cleanup_(close_fd) int fd = open(path, O_RDWR | O_CLOEXEC);
	struct stat dev;
	if (fd < 0 || fstat(fd, &dev) < 0 || dev.st_rdev != st.st_dev)
		return error_set(err, ERROR_INTERNAL, "%s does not lie on a loop device", mount);
	return ioctl(fd, LOOP_SET_CAPACITY, 0) < 0 ? error_errno(err, errno, "cannot grow %s", path) : 0;
}
