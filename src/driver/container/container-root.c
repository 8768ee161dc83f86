/* What the parent mounts for a container, as detached mounts that nobody sees: the root, binds, and what a
 * user namespace may not mount for itself.
 *
 * Layers of an overlay, its upper and its work directory are lent to the container's user namespace by idmapped
 * mounts: on disk everything has the owners that are seen inside, whatever range of ids the container has. */
#include "base/fs.h"
#include "driver/container/container-priv.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/fsuid.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

const struct container_namespace *config_namespace(const struct container_config *c, int flag) {
	for (size_t i = 0; i < c->n_namespaces; i++)
		if (c->namespaces[i].flag == flag)
			return &c->namespaces[i];
	return NULL;
}

bool config_new_namespace(const struct container_config *c, int flag) {
	const struct container_namespace *ns = config_namespace(c, flag);
	return ns && !ns->path;
}

int64_t id_to_host(const struct id_map *maps, size_t n, uint32_t inside) {
	if (n == 0)
		return inside;
	for (size_t i = 0; i < n; i++)
		if (inside >= maps[i].inside && inside - maps[i].inside < maps[i].count)
			return (int64_t)maps[i].host + (inside - maps[i].inside);
	return -1;
}

static int write_map(pid_t pid, const char *file, const struct id_map *maps, size_t n, struct error *err) {
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	for (size_t i = 0; i < n; i++)
		buf_addf(&text, "%u %u %u\n", maps[i].inside, maps[i].host, maps[i].count);
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/%s", pid, file);
	int r = fs_write_value(path, buf_str(&text));
	return r < 0 ? error_errno(err, r, "cannot set the id map of the user namespace (%s)", file) : 0;
}

int userns_write_maps(pid_t pid, const struct id_map *uids, size_t n_uids, const struct id_map *gids, size_t n_gids,
		      struct error *err) {
	int r = write_map(pid, "uid_map", uids, n_uids, err);
	return r < 0 ? r : write_map(pid, "gid_map", gids, n_gids, err);
}

static int read_map(pid_t pid, const char *file, struct id_map **maps, size_t *n, struct error *err) {
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/%s", pid, file);
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	int r = fs_read(path, 65536, &text);
	if (r < 0)
		return error_errno(err, r, "cannot read the id map of the user namespace (%s)", file);
	struct str all = str_view(buf_str(&text));
	*maps = NULL;
	*n = 0;
	while (all.len) {
		struct str line = str_cut(&all, '\n');
		_cleanup_(free_ptr) char *copy = str_copyn(line.p, line.len);
		struct id_map m;
		if (sscanf(copy, "%u %u %u", &m.inside, &m.host, &m.count) != 3)
			continue;
		*maps = alloc_resize(*maps, *n + 1, sizeof m);
		(*maps)[(*n)++] = m;
	}
	return 0;
}

int userns_read_maps(pid_t pid, struct container_config *c, struct error *err) {
	int r = read_map(pid, "uid_map", &c->uid_maps, &c->n_uid_maps, err);
	return r < 0 ? r : read_map(pid, "gid_map", &c->gid_maps, &c->n_gid_maps, err);
}

int userns_open(const struct id_map *uids, size_t n_uids, const struct id_map *gids, size_t n_gids, struct error *err) {
	_cleanup_(close_fd) int pidfd = -1;
	int sync[2];
	int r = sync_pair(sync);
	if (r < 0)
		return error_errno(err, r, "cannot make a socket");
	struct clone_request q = {.flags = CLONE_NEWUSER, .pidfd = -1, .cgroup = -1};
	pid_t pid = clone_child(&q, sync, &pidfd, err);
	if (pid == 0) {
		struct sync_message m;
		sync_recv(sync[1], &m);
		_exit(0);
	}
	int fd = -1;
	if (pid > 0 && userns_write_maps(pid, uids, n_uids, gids, n_gids, err) == 0) {
		char path[64];
		snprintf(path, sizeof path, "/proc/%d/ns/user", pid);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			error_errno(err, errno, "cannot open the user namespace");
	}
	close_fd(&sync[0]);
	close_fd(&sync[1]);
	if (pid > 0)
		waitpid(pid, NULL, 0);
	return fd < 0 ? -ERROR_INTERNAL : fd;
}

int mount_change(int mount, bool recursive, uint64_t set, uint64_t clear, uint64_t propagation) {
	struct mount_attr a = {.attr_set = set, .attr_clr = clear, .propagation = propagation};
	if (clear & MOUNT_ATTR__ATIME)
		a.attr_clr |= MOUNT_ATTR__ATIME;
	if (!a.attr_set && !a.attr_clr && !a.propagation)
		return 0;
	int flags = AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0);
	return mount_setattr(mount, "", (unsigned)flags, &a, sizeof a) < 0 ? -errno : 0;
}

static int mount_idmap(int mount, bool recursive, int userns) {
	struct mount_attr a = {.attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (uint64_t)userns};
	int flags = AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0);
	return mount_setattr(mount, "", (unsigned)flags, &a, sizeof a) < 0 ? -errno : 0;
}

static int clone_tree(int dir, const char *path, bool recursive) {
	int fd = open_tree(dir, path, (unsigned)(OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (recursive ? AT_RECURSIVE : 0) |
						 (*path ? 0 : AT_EMPTY_PATH)));
	return fd < 0 ? -errno : fd;
}

static int open_layer(const char *path, int userns, struct error *err) {
	int fd = clone_tree(AT_FDCWD, path, false);
	if (fd < 0)
		return error_errno(err, fd, "cannot open the layer %s", path);
	int r = userns >= 0 ? mount_idmap(fd, false, userns) : 0;
	if (r < 0) {
		close(fd);
		return error_errno(err, r, "cannot map the ids of the layer %s", path);
	}
	return fd;
}

static int fs_error(int fs, int errnum, struct error *err, const char *what) {
	char line[512];
	ssize_t n = read(fs, line, sizeof line - 1);
	if (n <= 0)
		return error_errno(err, errnum, "%s", what);
	line[n] = '\0';
	line[strcspn(line, "\n")] = '\0';
	error_errno(err, errnum, "%s", what);
	return error_wrap(err, "%s", line[0] && line[1] == ' ' ? line + 2 : line);
}

struct layers {
	int *fds;
	size_t n;
};

static void layers_close(struct layers *l) {
	for (size_t i = 0; i < l->n; i++)
		close_fd(&l->fds[i]);
	free(l->fds);
}

static int layers_open(const struct container_config *c, int userns, struct layers *out, struct error *err) {
	size_t n = strv_len(c->lowers);
	out->fds = alloc_array(n + 1, sizeof(int));
	for (out->n = 0; out->n < n; out->n++) {
		int fd = open_layer(c->lowers[out->n], userns, err);
		if (fd < 0)
			return fd;
		out->fds[out->n] = fd;
	}
	return 0;
}

/* What can be written. Both directories come from one copy of the mount of the directory that they lie in: an
 * overlay wants them on the same mount. */
struct writable {
	int mount, upper, work;
};
#define WRITABLE_INIT ((struct writable){-1, -1, -1})

static void writable_close(struct writable *w) {
	close_fd(&w->mount);
	close_fd(&w->upper);
	close_fd(&w->work);
}

static const char *last_name(const char *path) {
	const char *slash = strrchr(path, '/');
	return slash ? slash + 1 : path;
}

static int writable_open(const struct container_config *c, int userns, struct writable *out, struct error *err) {
	if (!c->upper)
		return 0;
	_cleanup_(free_ptr) char *parent = str_copyn(c->upper, (size_t)(last_name(c->upper) - c->upper));
	out->mount = clone_tree(AT_FDCWD, *parent ? parent : ".", false);
	if (out->mount < 0)
		return error_errno(err, out->mount, "cannot open %s", parent);
	int r = userns >= 0 ? mount_idmap(out->mount, false, userns) : 0;
	if (r == -EINVAL)
		return error_set(err, ERROR_UNSUPPORTED, "ids cannot be mapped on the file system of %s: no instance "
				 "with a user namespace of its own can live there", parent);
	if (r < 0)
		return error_errno(err, r, "cannot map the ids of %s", parent);
	out->upper = openat(out->mount, last_name(c->upper), O_PATH | O_DIRECTORY | O_CLOEXEC);
	out->work = openat(out->mount, last_name(c->work), O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (out->upper < 0 || out->work < 0)
		return error_errno(err, errno, "cannot open the upper or work directory of the overlay in %s", parent);
	return 0;
}

int act_as_container_root(const struct container_config *c, bool on) {
	setfsgid(on ? (gid_t)id_to_host(c->gid_maps, c->n_gid_maps, 0) : 0);
	setfsuid(on ? (uid_t)id_to_host(c->uid_maps, c->n_uid_maps, 0) : 0); /* takes capabilities away */
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];
	if (syscall(SYS_capget, &header, data) < 0)
		return -1;
	data[0].effective = data[0].permitted;
	data[1].effective = data[1].permitted;
	return (int)syscall(SYS_capset, &header, data);
}

/* An overlay makes its work as whoever mounts it, who must be somebody on the idmapped mount. */
static int overlay_create(const struct container_config *c, int fs, int userns) {
	bool act = userns >= 0 && c->upper;
	int r = act && act_as_container_root(c, true) < 0 ? -errno : 0;
	if (r == 0 && fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		r = -errno;
	if (act)
		act_as_container_root(c, false);
	return r;
}

static int overlay_mount_on(const struct container_config *c, const char *target, const char *options, int userns) {
	bool act = userns >= 0 && c->upper;
	int r = act && act_as_container_root(c, true) < 0 ? -errno : 0;
	if (r == 0 && mount("overlay", target, "overlay", 0, options) < 0)
		r = -errno;
	if (act)
		act_as_container_root(c, false);
	return r;
}

/* A detached mount ends when its descriptor is closed: the layers have to outlive the creation. */
static int overlay_mount(const struct container_config *c, int userns, struct error *err) {
	_cleanup_(close_fd) int fs = fsopen("overlay", FSOPEN_CLOEXEC);
	if (fs < 0)
		return error_errno(err, errno, "this kernel has no overlayfs");
	_cleanup_(layers_close) struct layers layers = {0};
	_cleanup_(writable_close) struct writable w = WRITABLE_INIT;
	int r = layers_open(c, userns, &layers, err);
	if (r == 0)
		r = writable_open(c, userns, &w, err);
	if (r < 0)
		return r;
	for (size_t i = layers.n; i-- > 0;)
		if (fsconfig(fs, FSCONFIG_SET_FD, "lowerdir+", NULL, layers.fds[i]) < 0)
			return errno == EINVAL || errno == EOPNOTSUPP /* 6.5 to 6.14, before */
				       ? root_overlay_compat(c, userns, err)
				       : fs_error(fs, errno, err, "cannot use a layer of the overlay");
	if (c->upper && (fsconfig(fs, FSCONFIG_SET_FD, "upperdir", NULL, w.upper) < 0 ||
			 fsconfig(fs, FSCONFIG_SET_FD, "workdir", NULL, w.work) < 0))
		return fs_error(fs, errno, err, "cannot use the upper or work directory of the overlay");
	r = overlay_create(c, fs, userns);
	if (r < 0)
		return r == -EINVAL ? root_overlay_compat(c, userns, err) : fs_error(fs, r, err, "cannot make the overlay");
	int mount = fsmount(fs, FSMOUNT_CLOEXEC, 0);
	return mount < 0 ? fs_error(fs, errno, err, "cannot mount the overlay") : mount;
}

/* --- kernels before 6.15 --- */

static int compat_in_namespace(const struct container_config *c, int userns, struct error *err) {
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return error_errno(err, errno, "cannot make a mount namespace");
	_cleanup_(layers_close) struct layers layers = {0};
	_cleanup_(writable_close) struct writable w = WRITABLE_INIT;
	int r = layers_open(c, userns, &layers, err);
	if (r == 0)
		r = writable_open(c, userns, &w, err);
	if (r < 0)
		return r;
	/* short names relative to the working directory: the options have to fit one page */
	if (mount("tmpfs", "/tmp", "tmpfs", 0, "mode=755") < 0 || chdir("/tmp") < 0 || mkdir("root", 0700) < 0)
		return error_errno(err, errno, "cannot mount a temporary file system");
	_cleanup_(buf_free) struct buf options = BUF_INIT;
	buf_adds(&options, "lowerdir=");
	for (size_t i = layers.n; i-- > 0;) {
		char name[24];
		snprintf(name, sizeof name, "%zu", i);
		if (mkdir(name, 0755) < 0 || move_mount(layers.fds[i], "", AT_FDCWD, name, MOVE_MOUNT_F_EMPTY_PATH) < 0)
			return error_errno(err, errno, "cannot attach the layer %s", c->lowers[i]);
		buf_addf(&options, "%s%s", name, i ? ":" : "");
	}
	if (c->upper) {
		if (mkdir("w", 0755) < 0 || move_mount(w.mount, "", AT_FDCWD, "w", MOVE_MOUNT_F_EMPTY_PATH) < 0)
			return error_errno(err, errno, "cannot attach the directory that can be written");
		buf_addf(&options, ",upperdir=w/%s,workdir=w/%s", last_name(c->upper), last_name(c->work));
	}
	r = overlay_mount_on(c, "root", buf_str(&options), userns);
	if (r < 0)
		return error_errno(err, r, "cannot mount the overlay");
	int fd = clone_tree(AT_FDCWD, "root", false);
	return fd < 0 ? error_errno(err, fd, "cannot detach the overlay") : fd;
}

int root_overlay_compat(const struct container_config *c, int userns, struct error *err) {
	int sync[2];
	int r = sync_pair(sync);
	if (r < 0)
		return error_errno(err, r, "cannot make a socket");
	pid_t pid = fork();
	if (pid == 0) {
		struct error e = ERROR_INIT;
		int fd = compat_in_namespace(c, userns, &e);
		if (fd < 0)
			sync_fail(sync[1], &e);
		_exit(sync_send(sync[1], SYNC_MOUNT, -1, NULL, 0, fd) < 0);
	}
	close_fd(&sync[1]);
	_cleanup_(close_fd) int sock = sync[0];
	if (pid < 0)
		return error_errno(err, errno, "cannot fork");
	_cleanup_(sync_message_free) struct sync_message m = {.fd = -1};
	r = sync_recv(sock, &m);
	waitpid(pid, NULL, 0);
	if (r < 0)
		return error_errno(err, r, "the overlay could not be mounted");
	return m.type == SYNC_ERROR ? sync_error(&m, err) : TAKE_FD(m.fd);
}

static int check_upper(const struct container_config *c, struct error *err) {
	if (!c->upper)
		return 0;
	size_t n = (size_t)(last_name(c->upper) - c->upper);
	if (!c->work || strncmp(c->upper, c->work, n) != 0 || strchr(c->work + n, '/'))
		return error_field(err, "work", "an overlay with an upper directory needs a work directory beside it");
	struct stat st;
	if (stat(c->upper, &st) < 0)
		return error_errno(err, errno, "cannot read the upper directory %s", c->upper);
	if (st.st_uid != 0)
		return error_field(err, "upper", "the upper directory %s belongs to uid %u, not to root", c->upper,
				   st.st_uid);
	return 0;
}

int root_mount(const struct container_config *c, int userns, struct error *err) {
	if (c->lowers) {
		int r = check_upper(c, err);
		return r < 0 ? r : overlay_mount(c, userns, err);
	}
	if (!c->rootfs)
		return error_field(err, "rootfs", "the container has no root file system");
	int fd = clone_tree(AT_FDCWD, c->rootfs, true);
	if (fd < 0)
		return error_errno(err, fd, "cannot open the root file system %s", c->rootfs);
	struct stat st;
	if (fstatat(fd, "", &st, AT_EMPTY_PATH) < 0 || !S_ISDIR(st.st_mode)) {
		close(fd);
		return error_field(err, "rootfs", "the root file system %s is not a directory", c->rootfs);
	}
	return fd;
}

int container_root_mount(const struct container_config *c, struct error *err) {
	_cleanup_(close_fd) int userns = -1;
	if (c->lowers && c->n_uid_maps) {
		userns = userns_open(c->uid_maps, c->n_uid_maps, c->gid_maps, c->n_gid_maps, err);
		if (userns < 0)
			return userns;
	}
	return root_mount(c, userns, err);
}

/* --- binds --- */

static bool is_type(const struct container_mount *m, const char *type) {
	return str_same(m->type, type);
}

static bool is_bind(const struct container_mount *m) {
	return (m->flags & MS_BIND) || is_type(m, "bind") || is_type(m, "rbind");
}

/* A user namespace may mount /sys for a network namespace that it owns alone, mqueue for such an IPC
 * namespace, /proc for such a pid namespace: those of the host are bound. */
static const char *host_stand_in(const struct container_config *c, const struct container_mount *m) {
	static const struct {
		const char *type, *path;
		int flag;
	} table[] = {{"sysfs", "/sys", CLONE_NEWNET}, {"mqueue", "/dev/mqueue", CLONE_NEWIPC}, {"proc", "/proc", CLONE_NEWPID}};
	if (!config_new_namespace(c, CLONE_NEWUSER))
		return NULL;
	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (is_type(m, table[i].type) && !config_namespace(c, table[i].flag))
			return table[i].path;
	return NULL;
}

bool mount_is_cgroup(const struct container_mount *m) {
	return is_type(m, "cgroup") || is_type(m, "cgroup2");
}

bool mount_is_parents(const struct container_config *c, const struct container_mount *m) {
	if (mount_is_cgroup(m)) /* a user namespace is to own its /sys/fs/cgroup */
		return is_type(m, "cgroup") && c->cgroup.path && cgroup_version() == 1 && !config_namespace(c, CLONE_NEWUSER);
	return m->root || m->lowers || is_bind(m) || host_stand_in(c, m) || (dev_is_fresh(c) && str_same(m->target, "/dev"));
}

static int open_subpath(const struct container_mount *m, struct error *err) {
	_cleanup_(close_fd) int base = open(m->source, O_PATH | O_CLOEXEC);
	if (base < 0)
		return error_errno(err, errno, "cannot open the source %s of the mount on %s", m->source, m->target);
	if (!m->subpath)
		return TAKE_FD(base);
	const char *sub = m->subpath + strspn(m->subpath, "/");
	int fd = fs_open_within(base, *sub ? sub : ".", O_PATH);
	if (fd >= 0)
		return fd;
	int r = fd == -EXDEV ? error_set(err, ERROR_INVALID, "%s leads out of what is mounted on %s", m->subpath, m->target)
			     : error_errno(err, fd, "cannot access path %s of what is mounted on %s", m->subpath, m->target);
	error_in_field(err, "mounts.subpath");
	return r;
}

static int bind_idmap(const struct container_config *c, const struct container_mount *m, int tree, bool recursive,
		      int userns, struct error *err) {
	if (!m->idmap)
		return 0;
	_cleanup_(close_fd) int own = -1;
	if (m->n_uid_maps) {
		own = userns_open(m->uid_maps, m->n_uid_maps, m->gid_maps, m->n_gid_maps, err);
		if (own < 0)
			return own;
		userns = own;
	}
	if (userns < 0)
		return c->n_uid_maps ? error_set(err, ERROR_INVALID, "no user namespace to map the mount on %s", m->target) : 0;
	int r = mount_idmap(tree, recursive, userns);
	if (r == 0 || (r == -EINVAL && m->idmap_optional))
		return 0;
	return error_errno(err, r, "cannot map the ids of the mount on %s: keep its files on ext4, XFS or btrfs (tmpfs: since Linux "
			   "6.3), or run without a user namespace of its own (--userns=host)", m->target);
}

static int bind_mount(const struct container_config *c, const struct container_mount *m, int userns, struct error *err) {
	if (!m->source)
		return error_field(err, "mounts", "the bind mount on %s has no source", m->target);
	_cleanup_(close_fd) int source = open_subpath(m, err);
	if (source < 0)
		return source;
	bool recursive = (m->flags & MS_REC) || is_type(m, "rbind");
	_cleanup_(close_fd) int tree = clone_tree(source, "", recursive);
	if (tree < 0)
		return error_errno(err, tree, "cannot bind %s", m->source);
	int r = bind_idmap(c, m, tree, recursive, userns, err);
	if (r < 0)
		return r;
	uint64_t set = mount_attrs(m->copy_up ? m->flags & ~(unsigned long)MS_RDONLY : m->flags), clear = mount_attrs(m->clear_flags);
	r = mount_change(tree, false, set, clear, 0);
	if (r == 0 && m->recursive_readonly)
		r = mount_change(tree, true, MOUNT_ATTR_RDONLY, 0, 0);
	return r < 0 ? error_errno(err, r, "cannot set the flags of the mount on %s", m->target) : TAKE_FD(tree);
}

static int fresh_dev(const struct container_config *c, const struct container_mount *m, struct error *err) {
	_cleanup_(close_fd) int fd = fs_mount_new("tmpfs", "tmpfs", m->data, mount_attrs(m->flags), err);
	if (fd < 0)
		return fd;
	int r = dev_populate(c, fd, true, err);
	return r < 0 ? r : TAKE_FD(fd);
}

/* Its ids are mapped as those of the container's own root. */
static int lowers_mount(const struct container_config *c, const struct container_mount *m, int userns, struct error *err) {
	struct container_config stack = *c;
	stack.lowers = m->lowers;
	stack.upper = stack.work = NULL;
	_cleanup_(close_fd) int fd = root_mount(&stack, userns, err);
	if (fd < 0)
		return fd;
	int r = mount_change(fd, false, mount_attrs(m->flags), 0, 0);
	return r < 0 ? error_errno(err, r, "cannot set the flags of the mount on %s", m->target) : TAKE_FD(fd);
}

int parent_mount(const struct container_config *c, const struct container_mount *m, int userns, struct error *err) {
	if (m->root)
		return root_mount(m->root, userns, err);
	if (m->lowers)
		return lowers_mount(c, m, userns, err);
	if (is_bind(m))
		return bind_mount(c, m, userns, err);
	const char *path = host_stand_in(c, m);
	if (!path)
		return fresh_dev(c, m, err);
	struct container_mount bind = *m;
	bind.source = (char *)path;
	bind.flags |= MS_BIND | MS_REC;
	bind.recursive_readonly = (m->flags & MS_RDONLY) != 0;
	bind.subpath = NULL;
	return bind_mount(c, &bind, -1, err);
}
