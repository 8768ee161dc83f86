/* The container of a machine: the host's /usr to read, a few devices, no power over anything. */
#include "driver/container/confine.h"
#include "driver/qemu/machine-priv.h"

#include "base/fs.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define USERFAULTFD "/dev/userfaultfd"
#define OVERHEAD (INT64_C(96) << 20)       /* QEMU itself, its threads, the graphics card's memory, the firmware */
#define OVERHEAD_COMPANION (INT64_C(32) << 20)
#define OVERHEAD_PER_CPU (INT64_C(2) << 20)
#define OVERHEAD_PER_DISK (INT64_C(4) << 20)

int machine_skeleton(const char *dir, struct error *err) {
	static const char *const dirs[] = {"usr", "proc", "dev", "tmp", "guest", "tpm", NULL};
	static const char *const links[] = {"bin", "sbin", "lib", "lib64", NULL};
	_cleanup_(free_ptr) char *launcher = str_format("%s" LAUNCHER, dir);
	for (size_t i = 0; dirs[i]; i++) {
		_cleanup_(free_ptr) char *path = str_format("%s/%s", dir, dirs[i]);
		int r = fs_mkdir_p(path, 0755);
		if (r < 0)
			return error_errno(err, r, "cannot make %s", path);
	}
	for (size_t i = 0; links[i]; i++) {
		_cleanup_(free_ptr) char *path = str_format("%s/%s", dir, links[i]), *to = str_format("usr/%s", links[i]);
		if (symlink(to, path) < 0 && errno != EEXIST)
			return error_errno(err, errno, "cannot make %s", path);
	}
	if (mknod(launcher, S_IFREG | 0644, 0) < 0 && errno != EEXIST)
		return error_errno(err, errno, "cannot make %s", launcher);
	return 0;
}

/* --- mounts --- */

static void set_mount(struct container_mount *m, const char *type, const char *source, const char *target, unsigned long flags,
		      const char *data) {
	*m = (struct container_mount){
		.type = str_copy(type),
		.source = str_copy(source),
		.target = str_copy(target),
		.flags = flags,
		.data = data ? str_copy(data) : NULL,
	};
}

/* The console, or those of wabe-machine exec. */
static bool has_terminals(const struct machine_config *m) {
	return m->tty || m->launcher;
}

/* Before what c has. */
static void add_mounts(const struct machine_config *m, struct container_config *c) {
	const unsigned long none = MS_NOSUID | MS_NODEV | MS_NOEXEC;
	size_t n_pci = strv_len(m->spec->pci);
	struct container_mount *all = alloc_array(c->n_mounts + n_pci + 6, sizeof *all), *next = all;
	set_mount(next++, "bind", "/usr", "/usr", MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV, NULL);
	set_mount(next++, "proc", "proc", "/proc", none, m->n_shares ? NULL : "subset=pid"); /* virtiofsd wants /proc/sys/fs */
	set_mount(next++, "tmpfs", "tmpfs", "/dev", MS_NOSUID | MS_NOEXEC, "mode=755,size=64k");
	set_mount(next++, "tmpfs", "tmpfs", "/tmp", none, "mode=1777,size=16m");
	if (has_terminals(m))
		set_mount(next++, "devpts", "devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620");
	if (m->launcher)
		set_mount(next++, "bind", m->launcher, LAUNCHER, MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV, NULL);
	for (size_t i = 0; i < n_pci; i++) {
		_cleanup_(free_ptr) char *from = str_format("/sys/bus/pci/devices/%s", m->spec->pci[i]);
		_cleanup_(free_ptr) char *to = str_format(PCI_DIR "/%s", m->spec->pci[i]);
		set_mount(next++, "bind", from, to, MS_BIND | MS_RDONLY | none, NULL);
	}
	for (size_t i = 0; i < c->n_mounts; i++)
		*next++ = c->mounts[i];
	free(c->mounts);
	c->mounts = all;
	c->n_mounts = (size_t)(next - all);
}

/* --- devices --- */

static void add_rule(struct container_config *c, bool allow, char type, int64_t major, int64_t minor, const char *access) {
	struct cgroup_config *g = &c->cgroup;
	g->devices = alloc_resize(g->devices, g->n_devices + 1, sizeof *g->devices);
	struct cgroup_device_rule *rule = &g->devices[g->n_devices++];
	*rule = (struct cgroup_device_rule){.allow = allow, .type = type, .major = major, .minor = minor};
	strncpy(rule->access, access, sizeof rule->access - 1);
}

static int add_device(struct container_config *c, const char *path, struct error *err) {
	struct stat st;
	if (stat(path, &st) < 0)
		return error_errno(err, errno, "cannot look at %s", path);
	c->devices = alloc_resize(c->devices, c->n_devices + 1, sizeof *c->devices);
	c->devices[c->n_devices++] = (struct container_device){
		.path = str_copy(path),
		.type = 'c',
		.major = major(st.st_rdev),
		.minor = minor(st.st_rdev),
		.mode = 0600,
	};
	add_rule(c, true, 'c', major(st.st_rdev), minor(st.st_rdev), "rw");
	return 0;
}

/* QEMU opens them by their numbers. */
static int add_groups(const struct machine_config *m, struct container_config *c, struct error *err) {
	int r = add_device(c, "/dev/vfio/vfio", err);
	for (char *const *g = m->pci_groups; r == 0 && *g; g++) {
		_cleanup_(free_ptr) char *path = str_format("/dev/vfio/%s", *g);
		r = add_device(c, path, err);
	}
	return r;
}

/* A node for what is used alone. The caller's disks come open, but the rules hold for their use as well where the control group
 * is asked at an open: QEMU opens none. */
static int add_devices(const struct machine_config *m, struct container_config *c, struct error *err) {
	static const int standard[][2] = {{1, 3}, {1, 5}, {1, 7}, {1, 8}, {1, 9}};
	bool vhost = false;
	add_rule(c, false, 'a', -1, -1, "rwm");
	for (size_t i = 0; i < ARRAY_SIZE(standard); i++)
		add_rule(c, true, 'c', standard[i][0], standard[i][1], "rw");
	if (has_terminals(m)) {
		add_rule(c, true, 'c', 5, 2, "rw");
		add_rule(c, true, 'c', 136, -1, "rw");
	}
	for (size_t i = 0; i < m->n_nics; i++)
		vhost |= m->nics[i].vhost;
	int r = m->kvm ? add_device(c, "/dev/kvm", err) : 0;
	if (r == 0 && m->n_nics)
		r = add_device(c, "/dev/net/tun", err);
	if (r == 0 && vhost)
		r = add_device(c, "/dev/vhost-net", err);
	if (r == 0 && m->post_copy && access(USERFAULTFD, F_OK) == 0)
		r = add_device(c, USERFAULTFD, err);
	return r == 0 && m->pci_groups ? add_groups(m, c, err) : r;
}

/* --- the rest --- */

static void add_namespaces(struct container_config *c) {
	static const int flags[] = {CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWIPC, CLONE_NEWUTS, CLONE_NEWNET, CLONE_NEWCGROUP, CLONE_NEWUSER};
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
		if (flags[i] == CLONE_NEWUSER && !c->n_uid_maps)
			continue;
		c->namespaces = alloc_resize(c->namespaces, c->n_namespaces + 1, sizeof *c->namespaces);
		c->namespaces[c->n_namespaces++] = (struct container_namespace){.flag = flags[i]};
	}
}

/* virtiofsd acts for all users of the guest: over the files that it is given, and in its own user name space. */
static uint64_t powers(const struct machine_config *m) {
	return m->n_shares ? cap_default() : 0;
}

static void set_process(const struct machine_config *m, struct container_process *p) {
	strv_add(&p->env, "PATH=/usr/bin:/usr/sbin");
	strv_add(&p->env, "HOME=/tmp");
	strv_add(&p->env, "LANG=C.UTF-8");
	p->cwd = str_copy("/");
	p->terminal = m->tty;
	p->no_new_privileges = true;
	p->cap_bounding = p->cap_permitted = p->cap_effective = powers(m);
	p->rlimits = alloc_resize(p->rlimits, p->n_rlimits + 1, sizeof *p->rlimits);
	p->rlimits[p->n_rlimits++] = (struct container_rlimit){str_copy("RLIMIT_CORE"), 0, 0};
	if (!m->pci_groups)
		return;
	/* devices reach into the guest's memory, all of which stays where it is for them */
	p->rlimits = alloc_resize(p->rlimits, p->n_rlimits + 1, sizeof *p->rlimits);
	p->rlimits[p->n_rlimits++] = (struct container_rlimit){str_copy("RLIMIT_MEMLOCK"), UINT64_MAX, UINT64_MAX};
}

static void allow(json_t *profile, const char *call) {
	json_t *rule = json_pack("{s:[s],s:s}", "names", call, "action", "SCMP_ACT_ALLOW");
	json_array_append_new(json_object_get(profile, "syscalls"), rule);
}

/* virtiofsd gives each of its threads a working directory of its own, which the usual profile does not let it. */
static void allow_threads(json_t *profile) {
	json_t *rule = json_pack("{s:[s],s:s,s:[{s:i,s:i,s:s}]}", "names", "unshare", "action", "SCMP_ACT_ALLOW", "args", "index", 0,
				 "value", CLONE_FS, "op", "SCMP_CMP_EQ");
	json_array_append_new(json_object_get(profile, "syscalls"), rule);
}

int machine_confine(const struct machine_config *m, const char *skeleton, struct container_config *c, struct error *err) {
	if (access(QEMU, X_OK) < 0)
		return error_set(err, ERROR_NO_COMMAND, "machines need QEMU, which is not installed on this host (package "
				 "qemu-system-x86)");
	int r = add_devices(m, c, err);
	if (r < 0)
		return r;
	c->rootfs = str_copy(skeleton);
	c->readonly_root = true;
	if (!c->hostname)
		c->hostname = str_copy("machine");
	add_namespaces(c);
	add_mounts(m, c);
	set_process(m, &c->process);
	c->seccomp = seccomp_default_profile(c->process.cap_bounding);
	if (!c->seccomp)
		return error_set(err, ERROR_INTERNAL, "there is no seccomp profile");
	if (numa_is_bound(m->spec)) /* where its own memory lies is otherwise nothing that a container says */
		allow(c->seccomp, "mbind");
	if (m->post_copy) /* before 8.0 QEMU knows the call alone, which vm.unprivileged_userfaultfd has to let it make */
		allow(c->seccomp, "userfaultfd");
	if (!m->n_shares)
		return 0;
	allow_threads(c->seccomp);
	container_mask_paths(c);
	return 0;
}

int64_t machine_overhead(const struct machine_config *m) {
	int64_t companions = (int64_t)m->n_shares + m->spec->tpm;
	int64_t translation = m->kvm ? 0 : (int64_t)TRANSLATION_MIB << 20;
	/* page tables and the like of the guest's memory: a hundredth */
	return OVERHEAD + translation + companions * OVERHEAD_COMPANION + m->cpus * OVERHEAD_PER_CPU +
	       (int64_t)m->n_disks * OVERHEAD_PER_DISK + m->memory / 100;
}
