/* ext4 for file-system volumes whose pool has blocks only, or has no quotas: on a device, or in a file. */
#include "base/proc.h"
#include "base/time.h"
#include "driver/storage/storage-priv.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#define EXT4_IOC_RESIZE_FS _IOW('f', 16, uint64_t)

int64_t storage_default_size(const struct storage_pool *p) {
	const char *wanted = pairs_get(&p->pool->spec.options, "volume-size");
	int64_t size;
	return wanted && str_to_size(wanted, &size) == 0 && size >= EXT4_SIZE_MIN ? size : INT64_C(10) << 30;
}

int storage_ext4_size_check(int64_t size, struct error *err) {
	return size < EXT4_SIZE_MIN ? error_field(err, "size", "of a file system in this pool must be at least 16MiB") : 0;
}

static int make_root(const char *mount, const struct storage_volume *v) {
	_cleanup_(close_fd) int dir = open(mount, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return -errno;
	if (unlinkat(dir, "lost+found", AT_REMOVEDIR) < 0 && errno != ENOENT)
		return -errno;
	return fchown(dir, v->uid, v->gid) < 0 || fchmod(dir, v->mode) < 0 || syncfs(dir) < 0 ? -errno : 0;
}

int storage_ext4_make(const struct storage_pool *p, const char *device, const struct storage_volume *v, struct error *err) {
	/* inode tables are zeroed by the running kernel instead of now; the journal is on a device that may not read as zeros */
	char *argv[] = {"mkfs.ext4", "-q", "-F", "-m", "0", "-b", "4096", "-E", "lazy_itable_init=1,nodiscard",
			(char *)device, NULL};
	int r = proc_run_ok(&(struct proc){.argv = argv, .deadline_ns = 600 * NS_PER_SEC}, err);
	if (r < 0)
		return error_wrap(err, "making a file system on %s", device);
	storage_fault("storage-mkfs");
	_cleanup_(free_ptr) char *salt = random_hex(6);
	_cleanup_(free_ptr) char *name = str_format("tmp-%s", salt);
	_cleanup_(free_ptr) char *mount = storage_mount_point(p, name, NULL);
	r = storage_ext4_mount(device, NULL, false, mount, err);
	if (r < 0)
		return r;
	storage_fault("storage-mkfs-mounted");
	int made = make_root(mount, v);
	r = storage_unmount(mount, err);
	return made < 0 ? error_errno(err, made, "cannot make the root directory of the file system on %s", device) : r;
}

/* What the superblock of a file system says. */
struct super {
	int64_t bytes;
	bool errors;
};

static uint32_t get32(const uint8_t *p) {
	return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static int read_super(int fd, struct super *out) {
	uint8_t b[1024];
	ssize_t n = RETRY_EINTR(pread(fd, b, sizeof b, 1024));
	if (n != sizeof b)
		return n < 0 ? -errno : -EIO;
	uint64_t blocks = get32(b + 4) | (uint64_t)get32(b + 0x150) << 32;
	uint32_t shift = get32(b + 24);
	if (b[0x38] != 0x53 || b[0x39] != 0xef || shift > 6 || blocks > INT64_MAX >> 16)
		return -EUCLEAN;
	out->bytes = (int64_t)(blocks << (10 + shift));
	out->errors = b[0x3a] & 2;
	return 0;
}

static int run_on(const char *program, const char *option, const char *device, int most, struct error *err) {
	char *argv[] = {(char *)program, (char *)option, (char *)device, NULL};
	_cleanup_(buf_free) struct buf said = BUF_INIT_MAX(65536), errors = BUF_INIT_MAX(65536);
	struct proc x = {.argv = argv, .output = &said, .errors = &errors};
	int r = proc_run(&x, err);
	if (r == 0 && x.status > most)
		r = error_set(err, ERROR_CORRUPT, "%s %s failed with status %d: %.500s", program, device, x.status,
			      errors.len ? buf_str(&errors) : buf_str(&said));
	return r;
}

/* Before it is mounted: repaired where it noted errors (the pool may have been full under it), grown where its device was. */
static int prepare(const char *device, struct error *err) {
	_cleanup_(close_fd) int fd = open(device, O_RDONLY | O_CLOEXEC);
	struct super s;
	int r = fd < 0 ? -errno : read_super(fd, &s);
	int64_t room = r == 0 ? lseek(fd, 0, SEEK_END) : 0;
	if (r == -EUCLEAN)
		return error_set(err, ERROR_CORRUPT, "%s holds no ext4 file system", device);
	if (r < 0 || room < 0)
		return error_errno(err, r < 0 ? r : errno, "cannot read %s", device);
	bool grown = room - s.bytes >= EXT4_SIZE_MIN;
	close_fd(&fd);
	if (s.errors || grown)
		r = run_on("e2fsck", "-fp", device, 1, err); /* 1: repaired */
	return r == 0 && grown ? run_on("resize2fs", "-f", device, 0, err) : r;
}

int storage_ext4_mount(const char *device, const struct pairs *options, bool read_only, const char *target,
		       struct error *err) {
	if (storage_is_mounted(target))
		return 0;
	int r = read_only ? 0 : prepare(device, err);
	if (r < 0)
		return r;
	struct stat st;
	if (stat(device, &st) < 0)
		return error_errno(err, errno, "cannot find %s", device);
	_cleanup_(free_ptr) char *loop = NULL;
	_cleanup_(close_fd) int held = -1;
	if (S_ISREG(st.st_mode)) {
		held = storage_loop_attach(device, read_only, &loop, err);
		if (held < 0)
			return held;
	}
	/* a snapshot was taken of a file system at rest: its journal holds nothing that has to be written first */
	struct pair noload = {"noload", ""};
	struct pairs frozen = {&noload, 1};
	return storage_mount("ext4", loop ? loop : device, read_only ? &frozen : options,
			     read_only ? MOUNT_ATTR_RDONLY : 0, target, err);
}

bool storage_ext4_grows_online(void) {
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {0};
	return syscall(SYS_capget, &header, data) == 0 && (data[0].effective & 1U << CAP_SYS_RESOURCE);
}

int storage_ext4_grow(const char *mount, int64_t size, struct error *err) {
	_cleanup_(close_fd) int dir = open(mount, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct statfs fs;
	if (dir < 0 || fstatfs(dir, &fs) < 0)
		return error_errno(err, errno, "cannot read %s", mount);
	uint64_t blocks = (uint64_t)size / (uint64_t)fs.f_bsize;
	if (ioctl(dir, EXT4_IOC_RESIZE_FS, &blocks) < 0)
		return error_errno(err, errno, "cannot grow the file system on %s", mount);
	return 0;
}
