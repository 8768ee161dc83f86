/* What a guest has before it knows what it is for: mounts, modules, the directory from the host. */
#include "guest/guest-priv.h"

#include "base/fs.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LIST_MAX ((size_t)1 << 20)
#define MODULES_MAX 64

/* --- mounts --- */

/* The root of an initramfs can be left by nobody (pivot_root(2)), so another one is put over it. */
static int change_root(struct error *err) {
	if (mkdir("/base", 0755) < 0 && errno != EEXIST)
		return error_errno(err, errno, "cannot make /base");
	if (mount("tmpfs", "/base", "tmpfs", MS_NOSUID, "mode=755") < 0)
		return error_errno(err, errno, "cannot mount a root");
	if (chdir("/base") < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 || chdir("/") < 0)
		return error_errno(err, errno, "cannot change the root");
	return 0;
}

int boot_mounts(struct guest *g, struct error *err) {
	static const struct {
		const char *type, *target, *data;
		unsigned long flags;
	} mounts[] = {
		{"proc", "/proc", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC},
		{"sysfs", "/sys", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC},
		{"devtmpfs", "/dev", "mode=755", MS_NOSUID | MS_NOEXEC},
		{"cgroup2", "/sys/fs/cgroup", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC},
		{"tmpfs", "/run", "mode=755", MS_NOSUID | MS_NODEV},
	};
	g->initramfs = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	int r = change_root(err);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(mounts); i++) {
		fs_mkdir_p(mounts[i].target, 0755);
		if (mount(mounts[i].type, mounts[i].target, mounts[i].type, mounts[i].flags, mounts[i].data) < 0)
			r = error_errno(err, errno, "cannot mount %s", mounts[i].target);
	}
	return r;
}

int boot_share(struct error *err) {
	fs_mkdir_p(GUEST_HOST, 0755);
	if (mount(GUEST_TAG, GUEST_HOST, "virtiofs", 0, NULL) < 0)
		return error_errno(err, errno, "cannot mount the host's directory \"" GUEST_TAG "\" (virtiofs)");
	return 0;
}

/* --- modules --- */

static int insert(int dir, struct str name, struct error *err) {
	char file[128];
	if (snprintf(file, sizeof file, "%.*s.ko", (int)name.len, name.p) >= (int)sizeof file)
		return error_set(err, ERROR_CORRUPT, "the list of modules is damaged");
	_cleanup_(close_fd) int fd = openat(dir, file, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST))
		return error_errno(err, errno, "cannot load the module %s", file);
	return 0;
}

/* A line of modules/list: the name, then the files to be loaded for it, in order. */
int boot_module(const struct guest *g, const char *name, struct error *err) {
	_cleanup_(buf_free) struct buf list = BUF_INIT;
	_cleanup_(close_fd) int dir = openat(g->initramfs, "modules", O_PATH | O_DIRECTORY | O_CLOEXEC);
	int r = dir < 0 ? -errno : fs_read_at(dir, "list", LIST_MAX, &list);
	if (r < 0)
		return error_errno(err, r, "cannot read the list of modules");
	struct str text = str_view(buf_str(&list));
	while (text.len) {
		struct str line = str_cut(&text, '\n');
		if (!str_is(str_cut(&line, ' '), name))
			continue;
		for (size_t i = 0; r == 0 && line.len && i < MODULES_MAX; i++)
			r = insert(dir, str_cut(&line, ' '), err);
		return r;
	}
	return error_set(err, ERROR_UNSUPPORTED, "this kernel's image has no module %s: make it anew by \"wabe image bootstrap --kernel\"",
			 name);
}

/* --- disks --- */

/* The block device with this serial number, as its name; NULL. */
static char *disk_name(const char *serial) {
	_cleanup_(strv_free_ptr) char **names = NULL;
	_cleanup_(close_fd) int dir = open("/sys/block", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0 || fs_names(dir, &names) < 0)
		return NULL;
	for (char **n = names; n && *n; n++) {
		_cleanup_(free_ptr) char *path = str_format("%s/serial", *n);
		_cleanup_(buf_free) struct buf text = BUF_INIT;
		if (fs_read_at(dir, path, 256, &text) >= 0 && str_is(str_cut(&(struct str){buf_str(&text), text.len}, '\n'), serial))
			return str_copy(*n);
	}
	return NULL;
}

static int add_disk(const struct guest_disk *d, struct container_config *c, struct error *err) {
	_cleanup_(free_ptr) char *name = disk_name(d->serial);
	_cleanup_(free_ptr) char *path = name ? str_format("/sys/block/%s/dev", name) : NULL;
	_cleanup_(buf_free) struct buf numbers = BUF_INIT;
	unsigned major, minor;
	if (!path || fs_read(path, 64, &numbers) < 0 || sscanf(buf_str(&numbers), "%u:%u", &major, &minor) != 2)
		return error_set(err, ERROR_NOT_FOUND, "the volume for %s is not there", d->target);
	c->devices = alloc_resize(c->devices, c->n_devices + 1, sizeof *c->devices);
	c->devices[c->n_devices++] = (struct container_device){
		.path = str_copy(d->target), .type = 'b', .major = major, .minor = minor, .mode = d->read_only ? 0440 : 0660};
	return 0;
}

int boot_disks(const struct guest *g, struct container_config *c, struct error *err) {
	int r = g->config.disks.n ? boot_module(g, "virtio_blk", err) : 0;
	for (size_t i = 0; r == 0 && i < g->config.disks.n; i++)
		r = add_disk(&g->config.disks.items[i], c, err);
	return r;
}
