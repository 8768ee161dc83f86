/* What a container gets that says nothing of its own: mounts, masked paths, devices, capabilities and filter
 * equal in effect to those of `docker run`. A mount, or a path's mount, that the config already has is left
 * alone. */
#include "base/fs.h"
#include "driver/container/container-priv.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define DEV_DEPTH_MAX 8

static const char *const masked[] = {
	"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
	"/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
	"/sys/devices/virtual/powercap", NULL,
};
static const char *const readonly[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger", NULL};

#define NO_SUID_DEV_EXEC (MS_NOSUID | MS_NODEV | MS_NOEXEC)

static bool has_mount(const struct container_config *c, const char *target) {
	for (size_t i = 0; i < c->n_mounts; i++)
		if (str_same(c->mounts[i].target, target))
			return true;
	return false;
}

struct mount_list {
	struct container_mount *items;
	size_t n;
};

static void add_mount(const struct container_config *c, struct mount_list *list, const char *type, const char *source,
		      const char *target, unsigned long flags, const char *data) {
	if (has_mount(c, target))
		return;
	list->items = alloc_resize(list->items, list->n + 1, sizeof *list->items);
	list->items[list->n++] = (struct container_mount){
		.type = str_copy(type),
		.source = str_copy(source),
		.target = str_copy(target),
		.flags = flags,
		.data = data ? str_copy(data) : NULL,
	};
}

/* In front of what the config has, so that its mounts may lie on these. */
static void add_mounts(struct container_config *c, const struct container_defaults *d) {
	bool own_ipc = config_namespace(c, CLONE_NEWIPC) != NULL;
	unsigned long ro = d->privileged ? 0 : MS_RDONLY;
	const char *pts = id_to_host(c->gid_maps, c->n_gid_maps, 5) < 0 ? "newinstance,ptmxmode=0666,mode=0620"
									: "newinstance,ptmxmode=0666,mode=0620,gid=5";
	_cleanup_(free_ptr) char *shm =
		str_format("mode=1777,size=%lld", (long long)(d->shm_size > 0 ? d->shm_size : INT64_C(64) << 20));
	struct mount_list list = {0};
	add_mount(c, &list, "proc", "proc", "/proc", NO_SUID_DEV_EXEC, NULL);
	add_mount(c, &list, "tmpfs", "tmpfs", "/dev", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k");
	add_mount(c, &list, "devpts", "devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, pts);
	add_mount(c, &list, "sysfs", "sysfs", "/sys", NO_SUID_DEV_EXEC | ro, NULL);
	add_mount(c, &list, "cgroup", "cgroup", "/sys/fs/cgroup", NO_SUID_DEV_EXEC | ro, NULL);
	if (own_ipc) {
		add_mount(c, &list, "mqueue", "mqueue", "/dev/mqueue", NO_SUID_DEV_EXEC, NULL);
		add_mount(c, &list, "tmpfs", "shm", "/dev/shm", NO_SUID_DEV_EXEC, shm);
	} else {
		if (fs_exists("/dev/mqueue"))
			add_mount(c, &list, "bind", "/dev/mqueue", "/dev/mqueue", MS_BIND | MS_REC | NO_SUID_DEV_EXEC, NULL);
		add_mount(c, &list, "bind", "/dev/shm", "/dev/shm", MS_BIND | MS_REC | NO_SUID_DEV_EXEC, NULL);
	}
	list.items = alloc_resize(list.items, list.n + c->n_mounts + 1, sizeof *list.items);
	for (size_t i = 0; i < c->n_mounts; i++)
		list.items[list.n++] = c->mounts[i];
	free(c->mounts);
	c->mounts = list.items;
	c->n_mounts = list.n;
}

static void allow(struct container_config *c, bool yes, char type, int64_t major, int64_t minor, const char *access) {
	struct cgroup_config *g = &c->cgroup;
	g->devices = alloc_resize(g->devices, g->n_devices + 1, sizeof *g->devices);
	struct cgroup_device_rule *rule = &g->devices[g->n_devices++];
	*rule = (struct cgroup_device_rule){.allow = yes, .type = type, .major = major, .minor = minor};
	strncpy(rule->access, access, sizeof rule->access - 1);
}

void container_allow_standard_devices(struct container_config *c) {
	static const int chars[][2] = {{1, 3}, {1, 5}, {1, 7}, {1, 8}, {1, 9}, {5, 0}, {5, 1}, {5, 2}, {136, -1}};
	allow(c, true, 'c', -1, -1, "m");
	allow(c, true, 'b', -1, -1, "m");
	for (size_t i = 0; i < ARRAY_SIZE(chars); i++)
		allow(c, true, 'c', chars[i][0], chars[i][1], "rwm");
}

/* Docker's rules come first: what the config adds (a device that was asked for) wins. */
static void add_device_rules(struct container_config *c, const struct container_defaults *d) {
	struct cgroup_device_rule *asked = c->cgroup.devices;
	size_t n = c->cgroup.n_devices;
	c->cgroup.devices = NULL;
	c->cgroup.n_devices = 0;
	if (d->privileged) {
		allow(c, true, 'a', -1, -1, "rwm");
	} else {
		allow(c, false, 'a', -1, -1, "rwm");
		container_allow_standard_devices(c);
	}
	for (size_t i = 0; i < n; i++) {
		allow(c, asked[i].allow, asked[i].type, asked[i].major, asked[i].minor, "");
		memcpy(c->cgroup.devices[c->cgroup.n_devices - 1].access, asked[i].access, sizeof asked[i].access);
	}
	free(asked);
}

/* --- privileged: all devices of the host --- */

static bool skip_device(const char *path) {
	static const char *const skipped[] = {"/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/fd", "/dev/console", "/dev/ptmx",
					      "/dev/hugepages", NULL};
	return strv_has((char *const *)skipped, path);
}

static bool has_device(const struct container_config *c, const char *path) {
	for (size_t i = 0; i < c->n_devices; i++)
		if (str_same(c->devices[i].path, path))
			return true;
	return false;
}

static void add_device(struct container_config *c, const char *path, const struct stat *st) {
	if (has_device(c, path))
		return;
	c->devices = alloc_resize(c->devices, c->n_devices + 1, sizeof *c->devices);
	c->devices[c->n_devices++] = (struct container_device){
		.path = str_copy(path),
		.type = S_ISBLK(st->st_mode) ? 'b' : 'c',
		.major = major(st->st_rdev),
		.minor = minor(st->st_rdev),
		.mode = st->st_mode & 0777,
		.uid = st->st_uid,
		.gid = st->st_gid,
	};
}

static void close_dir(DIR **d) {
	if (*d)
		closedir(*d);
}

static void add_host_devices(struct container_config *c, const char *dir, int depth) {
	_cleanup_(close_dir) DIR *d = depth < DEV_DEPTH_MAX ? opendir(dir) : NULL;
	for (struct dirent *e; d && (e = readdir(d));) {
		if (e->d_name[0] == '.')
			continue;
		_cleanup_(free_ptr) char *path = str_format("%s/%s", dir, e->d_name);
		struct stat st;
		if (skip_device(path) || lstat(path, &st) < 0)
			continue;
		if (S_ISDIR(st.st_mode))
			add_host_devices(c, path, depth + 1);
		else if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode))
			add_device(c, path, &st);
	}
}

/* --- confinement --- */

static int set_capabilities(struct container_config *c, const struct container_defaults *d, struct error *err) {
	struct container_process *p = &c->process;
	uint64_t caps = cap_bounding();
	if (!d->privileged) {
		int r = cap_compute(cap_default() & cap_bounding(), d->cap_add, d->cap_drop, &caps, err);
		if (r < 0)
			return r;
	}
	p->cap_bounding = p->cap_permitted = p->cap_effective = caps;
	p->cap_inheritable = p->cap_ambient = 0;
	return 0;
}

static int set_seccomp(struct container_config *c, const struct container_defaults *d, struct error *err) {
	const char *profile = d->seccomp && *d->seccomp ? d->seccomp : d->privileged ? "unconfined" : "default";
	if (c->seccomp || str_same(profile, "unconfined"))
		return 0;
	c->seccomp = str_same(profile, "default") ? seccomp_default_profile(c->process.cap_bounding)
						  : json_parse(profile, strlen(profile), err);
	return c->seccomp ? 0 : error_wrap(err, "the seccomp profile");
}

void container_mask_paths(struct container_config *c) {
	if (!c->masked_paths)
		c->masked_paths = strv_copy((char *const *)masked);
	if (!c->readonly_paths)
		c->readonly_paths = strv_copy((char *const *)readonly);
}

int container_apply_defaults(struct container_config *c, const struct container_defaults *d, struct error *err) {
	int r = set_capabilities(c, d, err);
	if (r == 0)
		r = set_seccomp(c, d, err);
	if (r < 0)
		return r;
	add_mounts(c, d);
	add_device_rules(c, d);
	if (d->privileged)
		add_host_devices(c, "/dev", 0);
	if (!d->privileged && !d->unmask_paths)
		container_mask_paths(c);
	return 0;
}
