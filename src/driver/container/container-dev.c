/* /dev: nodes and links.
 *
 * Where /dev is a fresh tmpfs, the parent makes it with all nodes in the host's user namespace, and gives
 * the nodes to the container's ids: a user namespace can neither make nodes nor own bound ones. Nodes
 * elsewhere are made, or bound from the host, by the child. */
#include "base/fs.h"
#include "driver/container/container-priv.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static const struct container_device standard[] = {
	{.path = "/dev/null", .type = 'c', .major = 1, .minor = 3, .mode = 0666},
	{.path = "/dev/zero", .type = 'c', .major = 1, .minor = 5, .mode = 0666},
	{.path = "/dev/full", .type = 'c', .major = 1, .minor = 7, .mode = 0666},
	{.path = "/dev/random", .type = 'c', .major = 1, .minor = 8, .mode = 0666},
	{.path = "/dev/urandom", .type = 'c', .major = 1, .minor = 9, .mode = 0666},
	{.path = "/dev/tty", .type = 'c', .major = 5, .minor = 0, .mode = 0666},
};

static const char *const links[][2] = {
	{"/proc/self/fd", "fd"},
	{"/proc/self/fd/0", "stdin"},
	{"/proc/self/fd/1", "stdout"},
	{"/proc/self/fd/2", "stderr"},
	{"/proc/kcore", "core"},
	{"pts/ptmx", "ptmx"},
};

static const struct container_mount *dev_mount(const struct container_config *c) {
	const struct container_mount *found = NULL;
	for (size_t i = 0; i < c->n_mounts; i++)
		if (str_same(c->mounts[i].target, "/dev"))
			found = &c->mounts[i];
	return found;
}

bool dev_is_fresh(const struct container_config *c) {
	const struct container_mount *m = dev_mount(c);
	return m && str_same(m->type, "tmpfs") && !(m->flags & MS_BIND) && !m->copy_up;
}

static mode_t node_type(const struct container_device *d) {
	return d->type == 'b' ? S_IFBLK : d->type == 'p' ? S_IFIFO : S_IFCHR;
}

/* Something to mount on, made where there is nothing; never opened for use, never a link's target. */
static int place_file(int dir, const char *name) {
	if (mknodat(dir, name, S_IFREG | 0600, 0) < 0 && errno != EEXIST)
		return -errno;
	int fd = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int bind_host_node(int dir, const char *name, const char *path, struct error *err) {
	_cleanup_(close_fd) int tree = open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (tree < 0)
		return error_errno(err, errno, "cannot bind the device %s", path);
	_cleanup_(close_fd) int file = place_file(dir, name);
	if (file < 0)
		return error_errno(err, file, "cannot make %s", path);
	int r = mount_attach(tree, file);
	return r < 0 ? error_errno(err, r, "cannot bind the device %s", path) : 0;
}

static int make_node(const struct container_config *c, int dev, const struct container_device *d, bool host_root,
		     struct error *err) {
	const char *slash = strrchr(d->path, '/');
	_cleanup_(free_ptr) char *parent = str_copyn(d->path, (size_t)(slash - d->path));
	const char *sub = host_root ? parent + strlen("/dev") : parent;
	_cleanup_(close_fd) int made = *sub ? fs_mkdir_in_root(dev, sub, 0755) : -1;
	int dir = *sub ? made : dev;
	if (dir < 0)
		return error_errno(err, dir, "cannot make the directory of the device %s", d->path);
	int64_t uid = host_root ? id_to_host(c->uid_maps, c->n_uid_maps, d->uid) : d->uid;
	int64_t gid = host_root ? id_to_host(c->gid_maps, c->n_gid_maps, d->gid) : d->gid;
	mode_t mask = umask(0);
	int r = mknodat(dir, slash + 1, node_type(d) | (d->mode & 07777), makedev((unsigned)d->major, (unsigned)d->minor));
	umask(mask);
	if (r < 0) {
		if (errno == EEXIST)
			return 0;
		if (errno == EPERM && !host_root)
			return bind_host_node(dir, slash + 1, d->path, err);
		return error_errno(err, errno, "cannot make the device %s", d->path);
	}
	if ((uid > 0 || gid > 0) && fchownat(dir, slash + 1, (uid_t)uid, (gid_t)gid, AT_SYMLINK_NOFOLLOW) < 0)
		return error_errno(err, errno, "cannot set the owner of the device %s", d->path);
	return 0;
}

/* For the parent's tmpfs: its root directory belongs to the container's root as well. */
static int own_dev(const struct container_config *c, int dev, struct error *err) {
	int64_t uid = id_to_host(c->uid_maps, c->n_uid_maps, 0), gid = id_to_host(c->gid_maps, c->n_gid_maps, 0);
	if ((uid > 0 || gid > 0) && fchownat(dev, "", (uid_t)uid, (gid_t)gid, AT_EMPTY_PATH) < 0)
		return error_errno(err, errno, "cannot set the owner of /dev");
	return 0;
}

static int make_links(const struct container_config *c, int dev, bool host_root, struct error *err) {
	int64_t uid = host_root ? id_to_host(c->uid_maps, c->n_uid_maps, 0) : 0;
	int64_t gid = host_root ? id_to_host(c->gid_maps, c->n_gid_maps, 0) : 0;
	for (size_t i = 0; i < ARRAY_SIZE(links); i++) {
		if (symlinkat(links[i][0], dev, links[i][1]) < 0) {
			if (errno == EEXIST)
				continue;
			return error_errno(err, errno, "cannot make the link /dev/%s", links[i][1]);
		}
		if ((uid > 0 || gid > 0) && fchownat(dev, links[i][1], (uid_t)uid, (gid_t)gid, AT_SYMLINK_NOFOLLOW) < 0)
			return error_errno(err, errno, "cannot set the owner of the link /dev/%s", links[i][1]);
	}
	return 0;
}

static int make_nodes(const struct container_config *c, int base, bool host_root, struct error *err) {
	for (size_t i = 0; i < c->n_devices; i++) {
		const struct container_device *d = &c->devices[i];
		bool beneath_dev = strncmp(d->path, "/dev/", 5) == 0;
		if (host_root ? !beneath_dev : beneath_dev && dev_is_fresh(c))
			continue;
		int r = make_node(c, base, d, host_root, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int make_standard(const struct container_config *c, int base, bool host_root, struct error *err) {
	for (size_t i = 0; i < ARRAY_SIZE(standard); i++) {
		int r = make_node(c, base, &standard[i], host_root, err);
		if (r < 0)
			return r;
	}
	return 0;
}

int dev_populate(const struct container_config *c, int dev, bool host_root, struct error *err) {
	int r = own_dev(c, dev, err);
	if (r == 0)
		r = make_nodes(c, dev, host_root, err);
	if (r == 0)
		r = make_standard(c, dev, host_root, err);
	return r < 0 ? r : make_links(c, dev, host_root, err);
}

int dev_create_others(struct child *k, struct error *err) {
	const struct container_mount *m = dev_mount(k->c);
	int r = make_nodes(k->c, k->root, false, err);
	if (r < 0 || dev_is_fresh(k->c) || (m && (m->flags & MS_BIND)))
		return r;
	_cleanup_(close_fd) int dev = fs_mkdir_in_root(k->root, "/dev", 0755);
	if (dev < 0)
		return error_errno(err, dev, "cannot make /dev");
	r = make_standard(k->c, k->root, false, err);
	return r < 0 ? r : make_links(k->c, dev, false, err);
}

int dev_bind_console(struct child *k, struct error *err) {
	_cleanup_(close_fd) int dev = fs_open_in_root(k->root, "/dev", O_PATH | O_DIRECTORY, 0);
	if (dev < 0)
		return error_errno(err, dev, "cannot open /dev");
	_cleanup_(close_fd) int file = place_file(dev, "console");
	if (file < 0)
		return error_errno(err, file, "cannot make /dev/console");
	_cleanup_(close_fd) int tree = open_tree(k->slave, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
	if (tree < 0)
		return error_errno(err, errno, "cannot bind the terminal on /dev/console");
	int r = mount_attach(tree, file);
	return r < 0 ? error_errno(err, r, "cannot bind the terminal on /dev/console") : 0;
}
