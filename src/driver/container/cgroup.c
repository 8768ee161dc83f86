/* Making, changing and removing control groups; what differs between v1 and v2 is in cgroup-v1.c and
 * cgroup-v2.c, what runs inside a group is looked after in cgroup-run.c. */
#include "driver/container/cgroup-priv.h"

#include "base/fs.h"
#include "base/str.h"
#include "base/time.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define REMOVE_WAIT (1 * NS_PER_SEC)

int cgroup_version(void) {
	return cgroup_host()->version;
}

void cgroup_limits_free(struct cgroup_limits *l) {
	free(l->cpus);
	free(l->mems);
	free(l->read_bps);
	free(l->write_bps);
	free(l->weights);
	free(l->read_iops);
	free(l->write_iops);
	for (size_t i = 0; i < l->n_hugepages; i++)
		free(l->hugepages[i].size);
	free(l->hugepages);
	json_decref(l->unified);
	*l = (struct cgroup_limits){0};
}

void cgroup_config_free(struct cgroup_config *c) {
	free(c->path);
	cgroup_limits_free(&c->limits);
	free(c->devices);
	*c = (struct cgroup_config){0};
}

json_t *cgroup_state_print(const struct cgroup_state *s) {
	json_t *o = json_object();
	json_set_str(o, "path", s->path);
	json_set_int(o, "version", s->version);
	if (s->n_devices)
		json_object_set_new(o, "devices", cgroup_devices_print(s->devices, s->n_devices));
	return o;
}

/* A path below the hierarchies' roots that cannot lead out of them, without slashes around it. */
static char *clean_path(const char *path) {
	while (path && *path == '/')
		path++;
	if (!path || !*path || strlen(path) >= 2048 || strchr(path, '\n'))
		return NULL;
	_cleanup_(strv_free_ptr) char **parts = strv_split(path, '/');
	_cleanup_(strv_free_ptr) char **kept = NULL;
	for (size_t i = 0; parts[i]; i++) {
		if (strcmp(parts[i], ".") == 0 || strcmp(parts[i], "..") == 0 || strlen(parts[i]) > NAME_MAX)
			return NULL;
		if (*parts[i])
			strv_add(&kept, parts[i]);
	}
	return strv_join(kept, "/");
}

int cgroup_state_parse(const json_t *json, struct cgroup_state *s, struct error *err) {
	*s = (struct cgroup_state){.path = clean_path(json_get_str(json, "path")), .version = (int)json_get_int(json, "version")};
	bool known = cgroup_devices_parse(json_object_get(json, "devices"), &s->devices, &s->n_devices) == 0;
	if (known && s->path && (s->version == 1 || s->version == 2))
		return 0;
	cgroup_state_free(s);
	return error_set(err, ERROR_CORRUPT, "the record of the control group is damaged");
}

void cgroup_state_free(struct cgroup_state *s) {
	free(s->path);
	free(s->devices);
	*s = (struct cgroup_state){0};
}

/* Whether a hierarchy is mounted, and not just a second name of an earlier one ("cpu,cpuacct"). */
static bool is_own_mount(const struct cgroup_host *host, int h) {
	for (int i = 0; i < h; i++)
		if (host->mount[h] && str_same(host->mount[h], host->mount[i]))
			return false;
	return host->mount[h];
}

/* Removes a group and those below it. -EBUSY when something runs there. */
static int remove_group(int parent, const char *name) {
	if (unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
		return 0;
	if (errno != EBUSY)
		return -errno;
	int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir) {
		int r = errno == ENOENT ? 0 : -errno;
		close_fd(&fd);
		return r;
	}
	int r = 0;
	for (struct dirent *e; r == 0 && (e = readdir(dir));)
		if (e->d_type == DT_DIR && strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			r = remove_group(fd, e->d_name);
	closedir(dir);
	if (r == 0 && unlinkat(parent, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		r = -errno;
	return r;
}

/* A left-over of the same name goes first: its limits and figures are of another life. */
static int make_group(const char *mount, const char *path) {
	_cleanup_(free_ptr) char *full = str_format("%s/%s", mount, path);
	if (mkdir(full, 0755) == 0)
		return 0;
	if (errno == EEXIST) {
		int r = remove_group(AT_FDCWD, full);
		return r < 0 ? r : mkdir(full, 0755) < 0 ? -errno : 0;
	}
	return errno == ENOENT ? fs_mkdir_p(full, 0755) : -errno;
}

static void remove_made(const struct cgroup_host *host, const char *path, unsigned made) {
	for (int h = 0; h < CGROUP_HIERARCHIES; h++) {
		if (!(made & 1U << h))
			continue;
		_cleanup_(free_ptr) char *full = str_format("%s/%s", host->mount[h], path);
		remove_group(AT_FDCWD, full);
	}
}

/* The group in each of the hierarchies of `wanted` (bits), with v1's cpuset filled and v2's controllers
 * on. *made says which are new, also after a failure. */
static int make_groups(const struct cgroup_host *host, const char *path, unsigned wanted, unsigned *made, struct error *err) {
	for (int h = 0; h < CGROUP_HIERARCHIES; h++) {
		if (!(wanted & 1U << h) || !is_own_mount(host, h))
			continue;
		int r = make_group(host->mount[h], path);
		if (r == -EBUSY || r == -EEXIST)
			return error_set(err, ERROR_EXISTS, "control group %s exists and processes run in it", path);
		if (r < 0)
			return error_errno(err, r, "cannot make control group %s/%s", host->mount[h], path);
		*made |= 1U << h;
		_cleanup_(close_fd) int root = -1;
		if (h == CGROUP_CPUSET || (h == CGROUP_UNIFIED && host->version == 2))
			root = open(host->mount[h], O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (root >= 0)
			r = h == CGROUP_CPUSET ? cgroup_v1_init_cpuset(root, path, err) : cgroup_v2_enable(root, path, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int write_limits(const struct cgroup_limits *l, struct cgroup_dirs *d, bool undo, struct error *err) {
	_cleanup_(cgroup_values_free) struct cgroup_values values = {0};
	int r = cgroup_version() == 1 ? cgroup_v1_plan(l, d, &values, err)
				      : cgroup_v2_plan(l, cgroup_dir(d, CGROUP_UNIFIED), &values, err);
	return r < 0 ? r : cgroup_values_write(&values, undo, err);
}

static void add_rule(struct cgroup_state *s, const struct cgroup_device_rule *rule) {
	s->devices = alloc_resize(s->devices, s->n_devices + 1, sizeof *s->devices);
	s->devices[s->n_devices++] = *rule;
}

static int set_devices(const struct cgroup_config *c, struct cgroup_dirs *d, struct error *err) {
	if (!c->n_devices)
		return 0;
	if (cgroup_dir(d, CGROUP_DEVICES) >= 0)
		return cgroup_v1_devices(cgroup_dir(d, CGROUP_DEVICES), c->devices, c->n_devices, err);
	if (cgroup_dir(d, CGROUP_UNIFIED) >= 0)
		return cgroup_v2_devices(cgroup_dir(d, CGROUP_UNIFIED), c->devices, c->n_devices, err);
	return cgroup_unsupported(err, "device rules", "the controller “devices”");
}

int cgroup_begin(const struct cgroup_config *c, struct cgroup_state *out, struct error *err) {
	const struct cgroup_host *host = cgroup_host();
	*out = (struct cgroup_state){0};
	_cleanup_(free_ptr) char *path = clean_path(c->path);
	if (!path)
		return error_set(err, ERROR_INVALID, "“%s” is not a path of a control group", c->path ? c->path : "");
	unsigned made = 0;
	int r = make_groups(host, path, 1U << CGROUP_UNIFIED, &made, err);
	if (r < 0) {
		remove_made(host, path, made);
		return r;
	}
	*out = (struct cgroup_state){.path = TAKE_PTR(path)};
	return 0;
}

int cgroup_finish(const struct cgroup_config *c, struct cgroup_state *s, struct error *err) {
	const struct cgroup_host *host = cgroup_host();
	unsigned made = 0;
	int r = make_groups(host, s->path, cgroup_v1_needs(&c->limits, c->n_devices) & ~(1U << CGROUP_UNIFIED), &made, err);
	if (r == 0 && !made && !host->mount[CGROUP_UNIFIED])
		r = error_set(err, ERROR_UNSUPPORTED, "no control groups are mounted on this host");
	_cleanup_(cgroup_dirs_close) struct cgroup_dirs dirs = {.path = s->path};
	if (r == 0)
		r = write_limits(&c->limits, &dirs, false, err);
	if (r < 0)
		remove_made(host, s->path, made);
	else
		s->version = host->version;
	return r;
}

int cgroup_set_devices(const struct cgroup_config *c, struct cgroup_state *s, struct error *err) {
	_cleanup_(cgroup_dirs_close) struct cgroup_dirs dirs = {.path = s->path};
	int r = set_devices(c, &dirs, err);
	for (size_t i = 0; r == 0 && i < c->n_devices; i++)
		add_rule(s, &c->devices[i]);
	return r;
}

/* Of the same device alone: rules with stars stay. */
static void drop_allowance(struct cgroup_state *s, const struct cgroup_device_rule *rule) {
	size_t kept = 0;
	for (size_t i = 0; i < s->n_devices; i++) {
		const struct cgroup_device_rule *had = &s->devices[i];
		if (!had->allow || had->type != rule->type || had->major != rule->major || had->minor != rule->minor)
			s->devices[kept++] = *had;
	}
	s->n_devices = kept;
}

int cgroup_set_device(struct cgroup_state *s, const struct cgroup_device_rule *rule, struct error *err) {
	_cleanup_(cgroup_dirs_close) struct cgroup_dirs dirs = {.path = s->path};
	if (!s->n_devices)
		return 0;
	drop_allowance(s, rule);
	if (rule->allow)
		add_rule(s, rule);
	if (cgroup_dir(&dirs, CGROUP_DEVICES) >= 0)
		return cgroup_v1_device(cgroup_dir(&dirs, CGROUP_DEVICES), rule, err);
	return cgroup_v2_devices(cgroup_dir(&dirs, CGROUP_UNIFIED), s->devices, s->n_devices, err);
}

void cgroup_undo(struct cgroup_state *s) {
	if (s->version && cgroup_kill(s, SIGKILL, NULL) == 0)
		cgroup_remove(s, NULL);
	else if (s->path && !s->version && cgroup_host()->mount[CGROUP_UNIFIED])
		remove_made(cgroup_host(), s->path, 1U << CGROUP_UNIFIED);
	cgroup_state_free(s);
}

int cgroup_create(const struct cgroup_config *c, struct cgroup_state *out, struct error *err) {
	int r = cgroup_begin(c, out, err);
	if (r < 0)
		return r;
	r = cgroup_finish(c, out, err);
	if (r == 0)
		r = cgroup_set_devices(c, out, err);
	if (r < 0)
		cgroup_undo(out);
	return r;
}

/* A change may ask for a hierarchy that the group did not need so far (cpuset, hugetlb): it is made now, and
 * what runs in the group moves in. */
static int add_hierarchies(const struct cgroup_state *s, const struct cgroup_limits *l, struct cgroup_dirs *d,
			   struct error *err) {
	const struct cgroup_host *host = cgroup_host();
	unsigned missing = 0, made = 0;
	for (int h = 0; h < CGROUP_HIERARCHIES; h++)
		if ((cgroup_v1_needs(l, false) & 1U << h) && host->mount[h] && cgroup_dir(d, h) < 0)
			missing |= 1U << h;
	if (host->version != 1 || !missing)
		return 0;
	_cleanup_(free_ptr) pid_t *pids = NULL;
	size_t n = 0;
	int r = cgroup_pids(s, &pids, &n, err);
	if (r == 0)
		r = make_groups(host, s->path, missing, &made, err);
	cgroup_dirs_close(d);
	for (int h = 0; r == 0 && h < CGROUP_HIERARCHIES; h++) {
		for (size_t i = 0; (made & 1U << h) && i < n; i++) {
			_cleanup_(free_ptr) char *text = str_format("%d", pids[i]);
			int moved = fs_write_value_at(cgroup_dir(d, h), "cgroup.procs", text);
			if (moved < 0 && moved != -ESRCH)
				r = error_errno(err, moved, "cannot move process %d to %s", pids[i], s->path);
		}
	}
	return r;
}

int cgroup_update(const struct cgroup_state *s, const struct cgroup_limits *l, struct error *err) {
	_cleanup_(cgroup_dirs_close) struct cgroup_dirs dirs = {.path = s->path};
	int r = add_hierarchies(s, l, &dirs, err);
	return r < 0 ? r : write_limits(l, &dirs, true, err);
}

int cgroup_open_v2(const struct cgroup_state *s) {
	const char *mount = cgroup_host()->mount[CGROUP_UNIFIED];
	if (!mount)
		return -1;
	_cleanup_(free_ptr) char *full = str_format("%s/%s", mount, s->path);
	return open(full, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

int cgroup_open_v2_beside(const struct cgroup_state *s, pid_t pid) {
	_cleanup_(close_fd) int group = cgroup_open_v2(s);
	_cleanup_(buf_free) struct buf on = BUF_INIT, text = BUF_INIT;
	if (group < 0 || fs_read_at(group, "cgroup.subtree_control", 4096, &on) < 0 || !on.data || *on.data == '\n' || !*on.data)
		return TAKE_FD(group);
	_cleanup_(free_ptr) char *file = str_format("/proc/%d/cgroup", pid);
	_cleanup_(free_ptr) char *start = str_format("0::/%s/", s->path);
	fs_read(file, 65536, &text);
	for (struct str all = str_view(buf_str(&text)); all.len;) {
		struct str line = str_cut(&all, '\n');
		_cleanup_(free_ptr) char *below = str_copyn(line.p, line.len);
		if (str_starts(below, start))
			return openat(group, below + strlen(start), O_PATH | O_DIRECTORY | O_CLOEXEC);
	}
	return TAKE_FD(group);
}

/* Whether the process is in the group of the v2 tree already, or below (clone3 put it there). */
static bool is_in_v2(const struct cgroup_state *s, pid_t pid) {
	_cleanup_(free_ptr) char *file = pid ? str_format("/proc/%d/cgroup", pid) : str_copy("/proc/self/cgroup");
	_cleanup_(free_ptr) char *line = str_format("0::/%s", s->path);
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	fs_read(file, 65536, &text);
	const char *found = strstr(buf_str(&text), line);
	return found && (found == text.data || found[-1] == '\n') && strchr("\n/", found[strlen(line)]);
}

/* v1's `tasks` takes the caller alone, without the system-wide lock on forking that cgroup.procs takes: that
 * one waits for milliseconds. */
int cgroup_enter(const struct cgroup_state *s, pid_t pid, struct error *err) {
	const struct cgroup_host *host = cgroup_host();
	_cleanup_(free_ptr) char *text = str_format("%d", pid);
	bool entered = false;
	for (int h = 0; h < CGROUP_HIERARCHIES; h++) {
		if (!is_own_mount(host, h))
			continue;
		if (h == CGROUP_UNIFIED && is_in_v2(s, pid))
			return 0; /* the last of the hierarchies */
		const char *list = pid || h == CGROUP_UNIFIED ? "cgroup.procs" : "tasks";
		_cleanup_(free_ptr) char *file = str_format("%s/%s/%s", host->mount[h], s->path, list);
		int r = fs_write_value(file, text);
		if (r < 0 && r != -ENOENT)
			return error_errno(err, r, "cannot enter control group %s", file);
		entered = entered || r == 0;
	}
	return entered ? 0 : error_set(err, ERROR_NOT_FOUND, "control group %s does not exist", s->path);
}

static int remove_in_time(const char *full, int64_t deadline) {
	for (;;) {
		int r = remove_group(AT_FDCWD, full);
		if (r != -EBUSY || time_mono_ns() > deadline)
			return r;
		/* v1 tells nobody when the last process has gone */
		nanosleep(&(struct timespec){.tv_nsec = NS_PER_MS}, NULL);
	}
}

int cgroup_remove(const struct cgroup_state *s, struct error *err) {
	const struct cgroup_host *host = cgroup_host();
	int64_t deadline = time_mono_ns() + REMOVE_WAIT;
	int result = 0;
	for (int h = 0; h < CGROUP_HIERARCHIES; h++) {
		if (!is_own_mount(host, h))
			continue;
		_cleanup_(free_ptr) char *full = str_format("%s/%s", host->mount[h], s->path);
		int r = remove_in_time(full, deadline);
		if (r == -EBUSY)
			result = error_set(err, ERROR_BUSY, "processes still run in control group %s", s->path);
		else if (r < 0)
			result = error_errno(err, r, "cannot remove control group %s", full);
	}
	return result;
}

int cgroup_stats(const struct cgroup_state *s, struct cgroup_stats *out, struct error *err) {
	_cleanup_(cgroup_dirs_close) struct cgroup_dirs dirs = {.path = s->path};
	bool v1 = cgroup_version() == 1;
	if (cgroup_dir(&dirs, v1 ? CGROUP_CPUACCT : CGROUP_UNIFIED) < 0)
		return error_set(err, ERROR_NOT_FOUND, "control group %s does not exist", s->path);
	if (v1)
		cgroup_v1_stats(&dirs, out);
	else
		cgroup_v2_stats(cgroup_dir(&dirs, CGROUP_UNIFIED), out);
	return 0;
}

uint64_t cgroup_oom_kills(const struct cgroup_state *s) {
	bool v1 = cgroup_version() == 1;
	const char *mount = cgroup_host()->mount[v1 ? CGROUP_MEMORY : CGROUP_UNIFIED];
	_cleanup_(free_ptr) char *full = str_format("%s/%s", mount ? mount : "/nonexistent", s->path);
	_cleanup_(close_fd) int dir = open(full, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return cgroup_read_key(dir, v1 ? "memory.oom_control" : "memory.events", "oom_kill");
}

/* ---- handing over ---- */

#define DELEGATED_GROUPS_MAX "10000"

bool cgroup_can_delegate(void) {
	return cgroup_host()->mount[CGROUP_UNIFIED] != NULL;
}

static int give(int dir, const char *file, uid_t uid, gid_t gid) {
	return fchownat(dir, file, uid, gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0 && errno != ENOENT ? -errno : 0;
}

int cgroup_delegate(const struct cgroup_state *s, uid_t uid, gid_t gid, struct error *err) {
	_cleanup_(close_fd) int group = cgroup_open_v2(s);
	if (group < 0)
		return cgroup_unsupported(err, "handing a control group over", "a tree of cgroup v2");
	/* the kernel's own list of what may be handed over */
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	if (fs_read("/sys/kernel/cgroup/delegate", 4096, &text) < 0)
		buf_adds(&text, "cgroup.procs\ncgroup.threads\ncgroup.subtree_control\n");
	int r = fs_write_value_at(group, "cgroup.max.descendants", DELEGATED_GROUPS_MAX);
	if (r == 0)
		r = give(group, "", uid, gid);
	for (struct str all = str_view(buf_str(&text)); r == 0 && all.len;) {
		struct str line = str_cut(&all, '\n');
		_cleanup_(free_ptr) char *file = str_copyn(line.p, line.len);
		if (*file && !strchr(file, '/'))
			r = give(group, file, uid, gid);
	}
	return r < 0 ? error_errno(err, r, "cannot hand control group %s over to user %u", s->path, uid) : 0;
}

#define MOUNT_ATTRS (MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)

static int set_attrs(int mount, bool writable) {
	struct mount_attr attr = {.attr_set = MOUNT_ATTRS | (writable ? 0 : MOUNT_ATTR_RDONLY)};
	return (int)syscall(SYS_mount_setattr, mount, "", AT_EMPTY_PATH, &attr, sizeof attr);
}

static int attach(int mount, int dir, const char *name) {
	unsigned flags = MOVE_MOUNT_F_EMPTY_PATH | (*name ? 0 : MOVE_MOUNT_T_EMPTY_PATH) | MOVE_MOUNT_T_SYMLINKS;
	return (int)syscall(SYS_move_mount, mount, "", dir, name, flags);
}

/* A second mount of one group's directory. */
static int clone_group(const char *mount, const char *path, bool writable) {
	_cleanup_(free_ptr) char *full = str_format("%s/%s", mount, path);
	_cleanup_(close_fd) int tree = (int)syscall(SYS_open_tree, AT_FDCWD, full, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (tree < 0 || set_attrs(tree, writable) < 0)
		return -errno;
	return TAKE_FD(tree);
}

static int new_tmpfs(void) {
	_cleanup_(close_fd) int fs = (int)syscall(SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC);
	if (fs < 0 || syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "mode", "755", 0) < 0 ||
	    syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "size", "64k", 0) < 0 ||
	    syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -errno;
	int mount = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, MOUNT_ATTRS);
	return mount < 0 ? -errno : mount;
}

/* In v1 each hierarchy is a directory, named as on the host ("cpu,cpuacct"), below a small tmpfs. */
static int fill_v1(const struct cgroup_state *s, int top, bool writable) {
	const struct cgroup_host *host = cgroup_host();
	for (int h = 0; h < CGROUP_HIERARCHIES; h++) {
		if (!is_own_mount(host, h))
			continue;
		const char *slash = strrchr(host->mount[h], '/');
		_cleanup_(close_fd) int group = clone_group(host->mount[h], s->path, writable);
		if (group == -ENOENT)
			continue;
		if (group < 0)
			return group;
		if (mkdirat(top, slash + 1, 0755) < 0 || attach(group, top, slash + 1) < 0)
			return -errno;
	}
	return set_attrs(top, false) < 0 ? -errno : 0;
}

int cgroup_tree_v1(const struct cgroup_state *s, bool writable) {
	_cleanup_(close_fd) int top = new_tmpfs();
	int r = top < 0 ? top : fill_v1(s, top, writable);
	return r < 0 ? r : TAKE_FD(top);
}

static int mount_v1(const struct cgroup_state *s, const char *target, bool writable) {
	_cleanup_(close_fd) int top = new_tmpfs();
	if (top < 0 || attach(top, AT_FDCWD, target) < 0)
		return top < 0 ? top : -errno;
	return fill_v1(s, top, writable);
}

int cgroup_mount(const struct cgroup_state *s, const char *target, bool unified, bool writable, struct error *err) {
	const struct cgroup_host *host = cgroup_host();
	int r = 0;
	if (unified && !host->mount[CGROUP_UNIFIED])
		return cgroup_unsupported(err, "mounting cgroup2", "a tree of cgroup v2");
	if (host->version == 1 && !unified) {
		r = mount_v1(s, target, writable);
	} else {
		_cleanup_(close_fd) int group = clone_group(host->mount[CGROUP_UNIFIED], s->path, writable);
		r = group < 0 ? group : attach(group, AT_FDCWD, target) < 0 ? -errno : 0;
	}
	return r < 0 ? error_errno(err, r, "cannot mount the control groups on %s", target) : 0;
}
