/* btrfs by its own calls: subvolumes, snapshots, quotas.
 *
 * Quotas are the classic ones, which count what a subvolume refers to. Simple quotas count a shared extent for whoever
 * wrote it first alone: a volume restored from its snapshot could take twice its size, a clone its origin's besides. They
 * are turned on when a volume first gets a size, since they cost a pool with many snapshots time. */
#include "driver/storage/files-priv.h"

#include <fcntl.h>
#include <linux/btrfs.h>
#include <linux/btrfs_tree.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>
#include <unistd.h>

#define NEST_MAX 65536

bool btrfs_is_subvolume(const char *path) {
	struct statfs fs;
	struct stat st;
	return lstat(path, &st) == 0 && S_ISDIR(st.st_mode) && st.st_ino == BTRFS_FIRST_FREE_OBJECTID &&
	       statfs(path, &fs) == 0 && fs.f_type == BTRFS_SUPER_MAGIC;
}

/* The directory of path, and its last name in *name. */
static int open_parent(const char *path, const char **name) {
	const char *slash = strrchr(path, '/');
	_cleanup_(free_ptr) char *dir = str_copyn(path, (size_t)(slash - path));
	*name = slash + 1;
	return open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

int btrfs_make(const char *path, struct error *err) {
	const char *name;
	_cleanup_(close_fd) int dir = open_parent(path, &name);
	struct btrfs_ioctl_vol_args_v2 args = {0};
	if (dir < 0 || strlen(name) >= sizeof args.name)
		return error_errno(err, dir < 0 ? errno : ENAMETOOLONG, "cannot make the subvolume %s", path);
	strcpy(args.name, name);
	if (ioctl(dir, BTRFS_IOC_SUBVOL_CREATE_V2, &args) < 0)
		return error_errno(err, errno, "cannot make the subvolume %s", path);
	return 0;
}

int btrfs_snapshot(const char *from, const char *to, bool read_only, struct error *err) {
	const char *name;
	_cleanup_(close_fd) int dir = open_parent(to, &name);
	_cleanup_(close_fd) int source = open(from, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct btrfs_ioctl_vol_args_v2 args = {.fd = source, .flags = read_only ? BTRFS_SUBVOL_RDONLY : 0};
	if (dir < 0 || source < 0 || strlen(name) >= sizeof args.name)
		return error_errno(err, errno, "cannot make a snapshot of %s", from);
	strcpy(args.name, name);
	/* what was written before it is in it, and it is on disk when we return */
	if (ioctl(dir, BTRFS_IOC_SNAP_CREATE_V2, &args) < 0 || ioctl(dir, BTRFS_IOC_SYNC, NULL) < 0)
		return error_errno(err, errno, "cannot make a snapshot of %s", from);
	return 0;
}

/* --- items of the file system's trees --- */

struct items {
	struct btrfs_ioctl_search_args_v2 args;
	char room[16384]; /* of args.buf */
};

/* Starts a search of one tree between two keys. */
static void search(struct items *s, uint64_t tree, uint64_t object, uint8_t type, uint64_t object_to, uint8_t type_to) {
	s->args = (struct btrfs_ioctl_search_args_v2){
		.key = {.tree_id = tree, .min_objectid = object, .max_objectid = object_to, .max_offset = UINT64_MAX,
			.max_transid = UINT64_MAX, .min_type = type, .max_type = type_to, .nr_items = 64},
		.buf_size = sizeof s->room,
	};
}

/* How many items were found, from the search's key on; -errno. */
static int found(int fd, struct items *s) {
	s->args.key.nr_items = 64;
	if (ioctl(fd, BTRFS_IOC_TREE_SEARCH_V2, &s->args) < 0)
		return -errno;
	return (int)s->args.key.nr_items;
}

static const struct btrfs_ioctl_search_header *next_item(const struct items *s, size_t *at, const void **data) {
	static struct btrfs_ioctl_search_header head;
	memcpy(&head, (const char *)s->args.buf + *at, sizeof head);
	*data = (const char *)s->args.buf + *at + sizeof head;
	*at += sizeof head + head.len;
	return &head;
}

/* --- removal --- */

static int tree_of(int fd, uint64_t *id) {
	struct btrfs_ioctl_ino_lookup_args args = {.objectid = BTRFS_FIRST_FREE_OBJECTID};
	if (ioctl(fd, BTRFS_IOC_INO_LOOKUP, &args) < 0)
		return -errno;
	*id = args.treeid;
	return 0;
}

/* A subvolume that lies in this one; 0: none. */
static int nested_in(int fd, uint64_t tree, uint64_t *nested) {
	_cleanup_(free_ptr) struct items *s = NEW(struct items);
	search(s, BTRFS_ROOT_TREE_OBJECTID, tree, BTRFS_ROOT_REF_KEY, tree, BTRFS_ROOT_REF_KEY);
	int n = found(fd, s);
	size_t at = 0;
	const void *data;
	*nested = n > 0 ? next_item(s, &at, &data)->offset : 0;
	return MIN(n, 0);
}

static int destroy_id(int dir, uint64_t id) {
	struct btrfs_ioctl_vol_args_v2 args = {.flags = BTRFS_SUBVOL_SPEC_BY_ID, .subvolid = id};
	return ioctl(dir, BTRFS_IOC_SNAP_DESTROY_V2, &args) < 0 ? -errno : 0;
}

/* The innermost first. A stranger may have nested them as deep as he liked. */
static int destroy_all(int dir, uint64_t top) {
	for (int tries = 0; tries < NEST_MAX; tries++) {
		uint64_t at = top, nested;
		for (int depth = 0; depth < NEST_MAX; depth++) {
			int r = nested_in(dir, at, &nested);
			if (r < 0)
				return r;
			if (!nested)
				break;
			at = nested;
		}
		int r = destroy_id(dir, at);
		if (r < 0 && r != -ENOENT)
			return r;
		if (at == top)
			return 0;
	}
	return -ELOOP;
}

int btrfs_destroy(const char *path, struct error *err) {
	const char *name;
	uint64_t id;
	_cleanup_(close_fd) int dir = open_parent(path, &name);
	_cleanup_(close_fd) int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0 || fd < 0)
		return error_errno(err, errno, "cannot open the subvolume %s", path);
	int r = tree_of(fd, &id);
	close_fd(&fd);
	if (r == 0)
		r = destroy_all(dir, id);
	return r < 0 ? error_errno(err, r, "cannot remove the subvolume %s", path) : 0;
}

/* --- quotas --- */

static int quotas_on(int fd) {
	struct btrfs_ioctl_quota_ctl_args on = {.cmd = BTRFS_QUOTA_CTL_ENABLE};
	if (ioctl(fd, BTRFS_IOC_QUOTA_CTL, &on) < 0)
		return -errno;
	return ioctl(fd, BTRFS_IOC_QUOTA_RESCAN_WAIT, NULL) < 0 ? -errno : 0;
}

int btrfs_limit(const char *path, int64_t size, struct error *err) {
	_cleanup_(close_fd) int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	uint64_t id;
	int r = fd < 0 ? -errno : tree_of(fd, &id);
	if (r < 0)
		return error_errno(err, r, "cannot open the subvolume %s", path);
	struct btrfs_ioctl_qgroup_limit_args args = {
		.qgroupid = id,
		.lim = {.flags = BTRFS_QGROUP_LIMIT_MAX_RFER, .max_rfer = size ? (uint64_t)size : UINT64_MAX}};
	r = ioctl(fd, BTRFS_IOC_QGROUP_LIMIT, &args) < 0 ? -errno : 0;
	if (r == -ENOTCONN && !size)
		return 0;
	if (r == -ENOTCONN) {
		r = quotas_on(fd);
		if (r == 0 && ioctl(fd, BTRFS_IOC_QGROUP_LIMIT, &args) < 0)
			r = -errno;
	}
	return r < 0 ? error_errno(err, r, "cannot set the quota of the subvolume %s", path) : 0;
}

int btrfs_referred(const char *path, int64_t *used) {
	_cleanup_(close_fd) int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	_cleanup_(free_ptr) struct items *s = NEW(struct items);
	uint64_t id;
	int r = fd < 0 ? -errno : tree_of(fd, &id);
	if (r == 0 && syncfs(fd) < 0) /* it is counted when a transaction ends */
		r = -errno;
	if (r < 0)
		return r;
	search(s, BTRFS_QUOTA_TREE_OBJECTID, 0, BTRFS_QGROUP_INFO_KEY, 0, BTRFS_QGROUP_INFO_KEY);
	s->args.key.min_offset = s->args.key.max_offset = id;
	r = found(fd, s);
	if (r <= 0)
		return r < 0 ? r : -ENOENT;
	size_t at = 0;
	const void *data;
	struct btrfs_qgroup_info_item info;
	next_item(s, &at, &data);
	memcpy(&info, data, sizeof info);
	*used = (int64_t)info.rfer;
	return 0;
}

static bool is_subvolume_id(int fd, uint64_t id) {
	_cleanup_(free_ptr) struct items *s = NEW(struct items);
	search(s, BTRFS_ROOT_TREE_OBJECTID, id, BTRFS_ROOT_ITEM_KEY, id, BTRFS_ROOT_ITEM_KEY);
	return found(fd, s) != 0;
}

void btrfs_forget_gone(const char *root) {
	_cleanup_(close_fd) int fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_(free_ptr) struct items *s = NEW(struct items);
	search(s, BTRFS_QUOTA_TREE_OBJECTID, 0, BTRFS_QGROUP_INFO_KEY, 0, BTRFS_QGROUP_INFO_KEY);
	s->args.key.min_offset = BTRFS_FIRST_FREE_OBJECTID;
	s->args.key.max_offset = BTRFS_LAST_FREE_OBJECTID;
	for (int n; fd >= 0 && (n = found(fd, s)) > 0;) {
		size_t at = 0;
		uint64_t last = 0;
		const void *data;
		for (int i = 0; i < n; i++) {
			last = next_item(s, &at, &data)->offset;
			struct btrfs_ioctl_qgroup_create_args gone = {.create = 0, .qgroupid = last};
			if (!is_subvolume_id(fd, last))
				ioctl(fd, BTRFS_IOC_QGROUP_CREATE, &gone); /* busy while it is still cleaned up: the next time */
		}
		s->args.key.min_offset = last + 1;
	}
}
