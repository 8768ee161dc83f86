/* Opening and listing beneath descriptors; shifting of owners and file capabilities. */
#include "image/layer-walk.h"

#include "base/fs.h"
#include "base/str.h"

#include <endian.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#define ID_RANGE 65536u
#define ID_NOBODY 65534u

static int open_how(int dir, const char *path, int flags, mode_t mode, uint64_t resolve) {
	struct open_how how = {
		.flags = (uint64_t)(flags | O_CLOEXEC),
		.mode = flags & O_CREAT ? mode : 0,
		.resolve = resolve | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV,
	};
	for (int tries = 0;; tries++) {
		long fd = syscall(SYS_openat2, dir, path, &how, sizeof how);
		if (fd >= 0)
			return (int)fd;
		if ((errno != EAGAIN && errno != EINTR) || tries > 64)
			return -errno;
	}
}

int tree_open_in(int root, const char *path, int flags, mode_t mode) {
	return open_how(root, path, flags, mode, RESOLVE_IN_ROOT);
}

int tree_reopen(int path_fd, int flags) {
	char path[FD_PATH_MAX];
	int fd = open(fd_path(path_fd, path), flags | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

bool tree_is_whiteout(const struct stat *st) {
	return S_ISCHR(st->st_mode) && st->st_rdev == makedev(0, 0);
}

bool tree_is_kernel_interface(int fd) {
	static const long magics[] = {PROC_SUPER_MAGIC,	   SYSFS_MAGIC,	  CGROUP_SUPER_MAGIC,
				      CGROUP2_SUPER_MAGIC, DEBUGFS_MAGIC, TRACEFS_MAGIC,
				      SECURITYFS_MAGIC,	   BPF_FS_MAGIC,  DEVPTS_SUPER_MAGIC};
	struct statfs fs;
	if (fstatfs(fd, &fs) < 0)
		return true;
	for (size_t i = 0; i < ARRAY_SIZE(magics); i++)
		if (fs.f_type == magics[i])
			return true;
	return false;
}

bool tree_is_opaque(int dir) {
	char path[FD_PATH_MAX], value;
	return getxattr(fd_path(dir, path), "trusted.overlay.opaque", &value, 1) == 1 && value == 'y';
}

static uint32_t get_le32(const uint8_t *p) {
	uint32_t v;
	memcpy(&v, p, sizeof v);
	return le32toh(v);
}

static void put_le32(uint8_t *p, uint32_t v) {
	v = htole32(v);
	memcpy(p, &v, sizeof v);
}

static void set_revision(uint8_t *value, uint32_t revision) {
	put_le32(value, (get_le32(value) & ~(uint32_t)VFS_CAP_REVISION_MASK) | revision);
}

static bool is_revision(const uint8_t *value, size_t len, uint32_t revision, size_t size) {
	return len == size && (get_le32(value) & VFS_CAP_REVISION_MASK) == revision;
}

_Static_assert(TREE_CAP_MAX == XATTR_CAPS_SZ_3, "room for version 3");

ssize_t tree_cap_shift(uint8_t value[TREE_CAP_MAX], size_t len, uint32_t uid_base) {
	bool v2 = is_revision(value, len, VFS_CAP_REVISION_2, XATTR_CAPS_SZ_2);
	bool v3 = is_revision(value, len, VFS_CAP_REVISION_3, XATTR_CAPS_SZ_3);
	if (!v2 && !(v3 && get_le32(value + XATTR_CAPS_SZ_2) == 0))
		return -EINVAL;
	set_revision(value, uid_base ? VFS_CAP_REVISION_3 : VFS_CAP_REVISION_2);
	if (!uid_base)
		return XATTR_CAPS_SZ_2;
	put_le32(value + XATTR_CAPS_SZ_2, uid_base);
	return XATTR_CAPS_SZ_3;
}

ssize_t tree_cap_unshift(uint8_t value[TREE_CAP_MAX], size_t len, uint32_t uid_base) {
	if (is_revision(value, len, VFS_CAP_REVISION_2, XATTR_CAPS_SZ_2))
		return XATTR_CAPS_SZ_2;
	if (!is_revision(value, len, VFS_CAP_REVISION_3, XATTR_CAPS_SZ_3) ||
	    get_le32(value + XATTR_CAPS_SZ_2) != uid_base)
		return -EINVAL;
	set_revision(value, VFS_CAP_REVISION_2);
	return XATTR_CAPS_SZ_2;
}

uint32_t tree_id_shift(uint64_t id, uint32_t uid_base) {
	if (!uid_base)
		return id < UINT32_MAX ? (uint32_t)id : ID_NOBODY;
	return uid_base + (id < ID_RANGE ? (uint32_t)id : ID_NOBODY);
}

uint32_t tree_id_unshift(uint32_t id, uint32_t uid_base) {
	if (!uid_base)
		return id;
	return id >= uid_base && id - uid_base < ID_RANGE ? id - uid_base : ID_NOBODY;
}
