/* The mounts that the child makes, and the change to its root.
 *
 * Every target is looked up inside the new root (openat2 with RESOLVE_IN_ROOT) and what is mounted goes on
 * the very descriptor that was found: a link in an image, or one that is swapped meanwhile, moves a mount
 * within the container at most, never out of it (CVE-2019-16884, CVE-2021-30465). The new root is put over
 * "/" of the copied mount namespace, so no directory of the host is needed as a place for it. */
#include "base/fs.h"
#include "driver/container/container-priv.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

uint64_t mount_attrs(unsigned long f) {
	static const struct {
		unsigned long ms;
		uint64_t attr;
	} table[] = {
		{MS_RDONLY, MOUNT_ATTR_RDONLY},     {MS_NOSUID, MOUNT_ATTR_NOSUID},
		{MS_NODEV, MOUNT_ATTR_NODEV},       {MS_NOEXEC, MOUNT_ATTR_NOEXEC},
		{MS_NOATIME, MOUNT_ATTR_NOATIME},   {MS_STRICTATIME, MOUNT_ATTR_STRICTATIME},
		{MS_NODIRATIME, MOUNT_ATTR_NODIRATIME}, {MS_NOSYMFOLLOW, MOUNT_ATTR_NOSYMFOLLOW},
	};
	uint64_t attrs = 0;
	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (f & table[i].ms)
			attrs |= table[i].attr;
	return attrs;
}

int mount_attach(int mount, int target) {
	int flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
	return move_mount(mount, "", target, "", (unsigned)flags) < 0 ? -errno : 0;
}

static int set_options(int fs, const char *type, const char *options, struct error *err) {
	_cleanup_(strv_free_ptr) char **v = options && *options ? strv_split(options, ',') : NULL;
	for (size_t i = 0; v && v[i]; i++) {
		char *value = strchr(v[i], '=');
		if (!v[i][0])
			continue;
		if (value)
			*value++ = '\0';
		int r = value ? fsconfig(fs, FSCONFIG_SET_STRING, v[i], value, 0) : fsconfig(fs, FSCONFIG_SET_FLAG, v[i], NULL, 0);
		if (r < 0)
			return error_errno(err, errno, "%s does not take the mount option %s%s%s", type, v[i],
					   value ? "=" : "", value ? value : "");
	}
	return 0;
}

int fs_mount_new(const char *type, const char *source, const char *options, uint64_t attrs, struct error *err) {
	_cleanup_(close_fd) int fs = fsopen(type, FSOPEN_CLOEXEC);
	if (fs < 0)
		return error_errno(err, errno, "cannot mount a file system of type %s", type);
	int r = set_options(fs, type, options, err);
	if (r < 0)
		return r;
	if (source)
		fsconfig(fs, FSCONFIG_SET_STRING, "source", source, 0);
	if (fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return error_errno(err, errno, "cannot make a file system of type %s", type);
	int fd = fsmount(fs, FSMOUNT_CLOEXEC, (unsigned)attrs);
	return fd < 0 ? error_errno(err, errno, "cannot mount a file system of type %s", type) : fd;
}

/* --- targets --- */

static int make_file_in_root(int root, const char *path) {
	_cleanup_(free_ptr) char *parent = str_copy(path);
	char *slash = strrchr(parent, '/');
	if (!slash || !slash[1])
		return -EISDIR;
	*slash = '\0';
	_cleanup_(close_fd) int dir = fs_mkdir_in_root(root, parent, 0755);
	if (dir < 0)
		return dir;
	if (mknodat(dir, slash + 1, S_IFREG | 0644, 0) < 0 && errno != EEXIST)
		return -errno;
	return fs_open_in_root(root, path, O_PATH, 0);
}

int mount_open_target(int root, const char *path, bool directory, struct error *err) {
	int fd = fs_open_in_root(root, path, O_PATH, 0);
	if (fd == -ENOENT)
		fd = directory ? fs_mkdir_in_root(root, path, 0755) : make_file_in_root(root, path);
	return fd < 0 ? error_errno(err, fd, "cannot make the mount point %s", path) : fd;
}

/* Nothing but procfs and sysfs of our own may lie on /proc and /sys, lest masks and labels written there go
 * astray (CVE-2019-16884): a target that is inside a mounted /proc is refused for anything but binds of files
 * that lxcfs-like tools lend. */
int mount_check_target(const struct container_mount *m, int target, struct error *err) {
	struct statfs fs;
	struct stat st;
	if (fstatfs(target, &fs) < 0 || fstat(target, &st) < 0)
		return error_errno(err, errno, "cannot read the mount point %s", m->target);
	if (fs.f_type != PROC_SUPER_MAGIC || str_same(m->type, "proc") || !S_ISDIR(st.st_mode))
		return 0;
	return error_field(err, "mounts", "the mount on %s would lie inside /proc", m->target);
}

/* --- single mounts --- */

/* Is there something to copy? A volume keeps its own owner and mode where the image has no such directory. */
static bool wants_copy(struct child *k, int root, const struct container_mount *m) {
	if (!m->copy_up || !mount_is_parents(k->c, m))
		return m->copy_up;
	_cleanup_(close_fd) int there = fs_open_in_root(root, m->target, O_PATH | O_DIRECTORY, 0);
	return there >= 0;
}

/* Where targets are looked up: what is mounted there by now. */
static int open_within(struct child *k, const struct container_mount *m, struct error *err) {
	int fd = fs_open_in_root(k->root, m->within, O_PATH | O_DIRECTORY, 0);
	return fd < 0 ? error_errno(err, fd, "cannot open %s", m->within) : fd;
}

static int attach_mount(struct child *k, const struct container_mount *m, int mount, struct error *err) {
	struct stat st;
	if (fstatat(mount, "", &st, AT_EMPTY_PATH) < 0)
		return error_errno(err, errno, "cannot read what is mounted on %s", m->target);
	_cleanup_(close_fd) int within = m->within ? open_within(k, m, err) : -1;
	if (m->within && within < 0)
		return within;
	int root = m->within ? within : k->root;
	bool copy = wants_copy(k, root, m);
	_cleanup_(close_fd) int target = mount_open_target(root, m->target, S_ISDIR(st.st_mode), err);
	if (target < 0)
		return target;
	int r = mount_check_target(m, target, err);
	if (r < 0)
		return r;
	if (copy) {
		r = copy_tree(target, mount, err);
		if (r < 0)
			return r;
	}
	r = mount_attach(mount, target);
	if (r < 0)
		return error_errno(err, r, "cannot mount %s on %s", m->type ? m->type : m->source, m->target);
	/* a new file system is private, a bind may be a peer of the host's mount: private unless asked for; and what
	 * lies in it stays a peer only where all of it is to be shared */
	unsigned long propagation = m->propagation & (MS_SHARED | MS_PRIVATE | MS_SLAVE | MS_UNBINDABLE);
	if (propagation && !(propagation & MS_SHARED) && !(m->propagation & MS_REC))
		r = mount_change(mount, true, 0, 0, MS_SLAVE);
	if (r == 0 && propagation)
		r = mount_change(mount, (m->propagation & MS_REC) != 0, 0, 0, propagation);
	else if (r == 0 && mount_is_parents(k->c, m))
		r = mount_change(mount, true, 0, 0, MS_PRIVATE);
	return r < 0 ? error_errno(err, r, "cannot set the propagation of %s", m->target) : 0;
}

/* Read-only at last, where something had to be copied into it before. */
static int late_readonly(const struct container_mount *m, int mount, struct error *err) {
	if (!m->copy_up || !(m->flags & MS_RDONLY))
		return 0;
	int r = mount_change(mount, false, MOUNT_ATTR_RDONLY, 0, 0);
	return r < 0 ? error_errno(err, r, "cannot make %s read-only", m->target) : 0;
}

static int new_mount(struct child *k, const struct container_mount *m, struct error *err) {
	uint64_t attrs = mount_attrs(m->flags);
	_cleanup_(close_fd) int mount =
		fs_mount_new(m->type, m->source, m->data, m->copy_up ? attrs & ~MOUNT_ATTR_RDONLY : attrs, err);
	if (mount < 0)
		return mount;
	int r = attach_mount(k, m, mount, err);
	return r < 0 ? r : late_readonly(m, mount, err);
}

static int mount_cgroup(struct child *k, const struct container_mount *m, struct error *err) {
	_cleanup_(close_fd) int target = mount_open_target(k->root, m->target, true, err);
	if (target < 0)
		return target;
	char path[FD_PATH_MAX];
	struct cgroup_state group = {.path = k->c->cgroup.path, .version = cgroup_version()};
	return cgroup_mount(&group, fd_path(target, path), str_same(m->type, "cgroup2"), !(m->flags & MS_RDONLY), err);
}

static int one_mount(struct child *k, size_t i, struct error *err) {
	const struct container_mount *m = &k->c->mounts[i];
	if (mount_is_parents(k->c, m))
		child_await(k, SYNC_MOUNT, (int)i);
	if (k->mounts[i] < 0)
		return mount_is_cgroup(m) ? mount_cgroup(k, m, err) : new_mount(k, m, err);
	int r = attach_mount(k, m, k->mounts[i], err);
	return r < 0 ? r : late_readonly(m, k->mounts[i], err);
}

/* --- masks --- */

static int mask_source(int *keep, bool directory, struct error *err) {
	if (*keep >= 0) {
		int fd = open_tree(*keep, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
		return fd < 0 ? error_errno(err, errno, "cannot copy a mount") : fd;
	}
	if (directory)
		return fs_mount_new("tmpfs", "tmpfs", "size=0,mode=755,nr_inodes=1", MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID |
				    MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC, err);
	struct stat st;
	int fd = open_tree(AT_FDCWD, "/dev/null", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (fd < 0 || fstatat(fd, "", &st, AT_EMPTY_PATH) < 0)
		return error_errno(err, errno, "cannot open /dev/null of the host");
	if (!S_ISCHR(st.st_mode) || st.st_rdev != makedev(1, 3)) {
		close(fd);
		return error_set(err, ERROR_INTERNAL, "/dev/null of the host is not the null device");
	}
	int r = mount_change(fd, false, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, 0, 0);
	if (r < 0) {
		close(fd);
		return error_errno(err, r, "cannot make the mask read-only");
	}
	return fd;
}

static int mask_path(struct child *k, const char *path, struct error *err) {
	_cleanup_(close_fd) int target = fs_open_in_root(k->root, path, O_PATH, 0);
	if (target == -ENOENT || target == -ENOTDIR)
		return 0;
	struct stat st;
	if (target < 0 || fstat(target, &st) < 0)
		return error_errno(err, target < 0 ? target : errno, "cannot open %s to mask it", path);
	int *keep = S_ISDIR(st.st_mode) ? &k->null_dir : &k->null_file;
	_cleanup_(close_fd) int mount = mask_source(keep, S_ISDIR(st.st_mode), err);
	if (mount < 0)
		return mount;
	int r = mount_attach(mount, target);
	if (r < 0)
		return error_errno(err, r, "cannot mask %s", path);
	if (*keep < 0)
		*keep = TAKE_FD(mount);
	return 0;
}

static int readonly_path(struct child *k, const char *path, struct error *err) {
	_cleanup_(close_fd) int target = fs_open_in_root(k->root, path, O_PATH, 0);
	if (target == -ENOENT || target == -ENOTDIR)
		return 0;
	if (target < 0)
		return error_errno(err, target, "cannot open %s to make it read-only", path);
	_cleanup_(close_fd) int tree =
		open_tree(target, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | AT_RECURSIVE);
	if (tree < 0)
		return error_errno(err, errno, "cannot bind %s", path);
	int r = mount_change(tree, false, MOUNT_ATTR_RDONLY, 0, 0);
	if (r == 0)
		r = mount_attach(tree, target);
	return r < 0 ? error_errno(err, r, "cannot make %s read-only", path) : 0;
}

int child_mounts(struct child *k, struct error *err) {
	const struct container_config *c = k->c;
	/* what the host mounts later may still come in, nothing goes out */
	if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
		return error_errno(err, errno, "cannot cut the mounts off from the host's");
	child_await(k, SYNC_MOUNT, -1);
	if (move_mount(k->root, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return error_errno(err, errno, "cannot attach the root file system");
	int r = mount_change(k->root, true, 0, 0, MS_PRIVATE);
	if (r < 0)
		return error_errno(err, r, "cannot make the root file system private");
	for (size_t i = 0; i < c->n_mounts; i++) {
		r = one_mount(k, i, err);
		if (r < 0)
			return r;
	}
	r = child_files(k, err);
	if (r == 0)
		r = dev_create_others(k, err);
	if (r < 0)
		return r;
	for (size_t i = 0; c->readonly_paths && c->readonly_paths[i]; i++) {
		r = readonly_path(k, c->readonly_paths[i], err);
		if (r < 0)
			return r;
	}
	for (size_t i = 0; c->masked_paths && c->masked_paths[i]; i++) {
		r = mask_path(k, c->masked_paths[i], err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* --- the change of root --- */

static int pivot(struct error *err) {
	if (syscall(SYS_pivot_root, ".", ".") < 0)
		return error_errno(err, errno, "cannot change the root (pivot_root)");
	/* the old root lies over the new one now; all its mounts are slaves: nothing is unmounted on the host */
	if (umount2(".", MNT_DETACH) < 0)
		return error_errno(err, errno, "cannot unmount the host's root");
	return chdir("/") < 0 ? error_errno(err, errno, "cannot enter the new root") : 0;
}

int child_pivot(struct child *k, struct error *err) {
	if (fchdir(k->root) < 0)
		return error_errno(err, errno, "cannot enter the root file system");
	if (!k->c->no_pivot)
		return pivot(err);
	if (chroot(".") < 0 || chdir("/") < 0)
		return error_errno(err, errno, "cannot change the root (chroot)");
	return 0;
}

int child_finish_root(struct child *k, struct error *err) {
	const struct container_config *c = k->c;
	unsigned long propagation = c->root_propagation & (MS_SHARED | MS_PRIVATE | MS_SLAVE | MS_UNBINDABLE);
	if (propagation && mount(NULL, "/", NULL, c->root_propagation, NULL) < 0)
		return error_errno(err, errno, "cannot set the propagation of the root");
	int r = c->readonly_root ? mount_change(k->root, false, MOUNT_ATTR_RDONLY, 0, 0) : 0;
	return r < 0 ? error_errno(err, r, "cannot make the root read-only") : 0;
}
