/* From an instance's record to the configuration of its container: the rules by which the image's process
 * and the instance's are merged, name spaces, mounts, limits. Every path of the host that the request names
 * is looked up and judged here. */
#include "agent/storage-priv.h"

#include "base/fs.h"
#include "base/str.h"
#include "driver/container/confine.h"

#include <ctype.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif
#define DEFAULT_PATH "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define CPU_PERIOD 100000

/* --- the process --- */

char **env_merge(char *const *base, char *const *more) {
	char **all = strv_copy(base);
	for (size_t i = 0; more && more[i]; i++) {
		if (strchr(more[i], '=')) {
			strv_env_set(&all, more[i]);
			continue;
		}
		size_t n = strlen(more[i]), to = 0; /* a name alone takes it away */
		for (size_t at = 0; all && all[at]; at++) {
			if (strncmp(all[at], more[i], n) == 0 && all[at][n] == '=')
				free(all[at]);
			else
				all[to++] = all[at];
		}
		if (all)
			all[to] = NULL;
	}
	return all;
}

static char **process_env(const struct msg_instance_create *r, const char *hostname) {
	_cleanup_(strv_free_ptr) char **base = NULL;
	strv_add(&base, DEFAULT_PATH);
	if (hostname)
		strv_take(&base, str_format("HOSTNAME=%s", hostname));
	if (r->instance.spec.tty)
		strv_add(&base, "TERM=xterm");
	_cleanup_(strv_free_ptr) char **image = env_merge(base, r->config.env);
	return env_merge(image, r->instance.spec.env);
}

/* An entrypoint of the instance's own makes the image's command void; an empty one stands for none. */
int process_args(const struct msg_instance_create *r, char ***args, struct error *err) {
	const struct instance_spec *spec = &r->instance.spec;
	char *const *entry = spec->entrypoint ? spec->entrypoint : r->config.entrypoint;
	char *const *command = spec->command || spec->entrypoint ? spec->command : r->config.command;
	for (size_t i = 0; entry && entry[i]; i++)
		if (entry[0][0] || entry[1])
			strv_add(args, entry[i]);
	for (size_t i = 0; command && command[i]; i++)
		strv_add(args, command[i]);
	if (!*args || !(*args)[0][0])
		return error_field(err, "spec.command", "neither the instance nor its image says which command to run");
	return 0;
}

static int add_rlimits(const struct instance_spec *spec, struct container_process *p, struct error *err) {
	static const char *const known[] = {"as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue",
					    "nice", "nofile", "nproc", "rss", "rtprio", "rttime", "sigpending",
					    "stack"};
	p->rlimits = alloc_array(spec->ulimits.n + 1, sizeof *p->rlimits);
	for (size_t i = 0; i < spec->ulimits.n; i++) {
		const struct ulimit *u = &spec->ulimits.items[i];
		bool found = false;
		for (size_t k = 0; k < ARRAY_SIZE(known); k++)
			found |= strcmp(known[k], u->name) == 0;
		if (!found)
			return error_field(err, "spec.ulimits", "there is no limit called \"%s\"", u->name);
		char *type = str_format("RLIMIT_%s", u->name);
		for (char *c = type; *c; c++)
			*c = (char)toupper((unsigned char)*c);
		p->rlimits[p->n_rlimits++] =
			(struct container_rlimit){type, (uint64_t)u->soft, (uint64_t)u->hard};
	}
	return 0;
}

static char *copy_or_null(const char *s) {
	return s && *s ? str_copy(s) : NULL;
}

static int build_process(const struct msg_instance_create *r, const char *hostname, struct container_config *c,
			 struct error *err) {
	const struct instance_spec *spec = &r->instance.spec;
	struct container_process *p = &c->process;
	int result = process_args(r, &p->args, err);
	if (result < 0)
		return result;
	p->env = process_env(r, hostname);
	const char *cwd = spec->workdir && *spec->workdir ? spec->workdir : r->config.workdir;
	p->cwd = str_copy(cwd && *cwd ? cwd : "/");
	const char *user = spec->user && *spec->user ? spec->user : r->config.user;
	p->user = str_copy(user && *user ? user : "0"); /* root with the groups that the image has it in */
	p->groups = strv_copy(spec->groups);
	p->terminal = spec->tty;
	p->no_new_privileges = spec->no_new_privileges;
	p->oom_score_adj = spec->oom_score_adj;
	p->has_oom_score_adj = spec->oom_score_adj != 0;
	return add_rlimits(spec, p, err);
}

/* --- name spaces --- */

static void add_namespace(struct container_config *c, int flag, char *path) {
	c->namespaces = alloc_resize(c->namespaces, c->n_namespaces + 1, sizeof *c->namespaces);
	c->namespaces[c->n_namespaces++] = (struct container_namespace){flag, path};
}

/* Joins the name space of a running instance. It is held open, so that the process may end meanwhile. */
static int join_namespace(const struct agent *a, const char *field, const char *id, const char *name, int flag,
			  struct container_config *c, struct error *err) {
	struct run_state run;
	if (run_load(a, id, &run, NULL) < 0 || !run.created || !container_state_alive(&run.container)) {
		run_free(&run);
		return error_set(err, ERROR_CONFLICT, "%s: instance %.12s, which is to be shared with, does not run",
				 field, id);
	}
	_cleanup_(free_ptr) char *path = str_format("/proc/%d/ns/%s", run.container.pid, name);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	bool alive = container_state_alive(&run.container);
	run_free(&run);
	if (fd < 0 || !alive)
		return error_errno(err, fd < 0 ? errno : ESRCH, "cannot open %s", path);
	add_namespace(c, flag, str_format("/proc/%d/fd/%d", getpid(), fd));
	return 0;
}

static int build_namespaces(const struct agent *a, const struct msg_instance_create *r, struct container_config *c,
			    struct error *err) {
	const struct instance_spec *spec = &r->instance.spec;
	const struct {
		const char *field, *mode, *name;
		int flag;
	} kinds[] = {
		{"pid_mode", spec->pid_mode, "pid", CLONE_NEWPID},
		{"ipc_mode", spec->ipc_mode, "ipc", CLONE_NEWIPC},
		{"uts_mode", spec->uts_mode, "uts", CLONE_NEWUTS},
		{"cgroup_mode", spec->cgroup_mode, "cgroup", CLONE_NEWCGROUP},
		{"network", spec->network, "net", CLONE_NEWNET},
	};
	const char *shared = NULL;
	add_namespace(c, CLONE_NEWNS, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		const char *id = join_target(kinds[i].mode);
		if (str_same(kinds[i].mode, "host"))
			continue;
		int result = id ? join_namespace(a, kinds[i].field, id, kinds[i].name, kinds[i].flag, c, err) : 0;
		if (result < 0)
			return result;
		if (!id)
			add_namespace(c, kinds[i].flag, NULL);
		else
			shared = id;
	}
	if (fs_exists("/proc/self/ns/time"))
		add_namespace(c, CLONE_NEWTIME, NULL);
	if (!r->instance.uid_base)
		return 0;
	/* What is shared belongs to the other's user name space: only inside it can it be used. */
	_cleanup_(record_free) struct msg_instance_create other = {0};
	if (shared && record_load(a, shared, &other, NULL) == 0 && other.instance.uid_base == r->instance.uid_base)
		return join_namespace(a, "userns", shared, "user", CLONE_NEWUSER, c, err);
	add_namespace(c, CLONE_NEWUSER, NULL);
	return 0;
}

/* --- limits --- */

static int lookup_device(const char *path, const char *field, mode_t *mode, dev_t *dev, struct error *err) {
	struct stat st;
	if (stat(path, &st) < 0) {
		error_errno(err, errno, "cannot look at %s", path);
		error_in_field(err, field);
		return -(int)err->kind;
	}
	if (!S_ISCHR(st.st_mode) && !S_ISBLK(st.st_mode))
		return error_field(err, field, "%s is not a device", path);
	*mode = st.st_mode;
	*dev = st.st_rdev;
	return 0;
}

static int add_throttle(const char *device, int64_t rate, const char *field, struct cgroup_throttle *to, size_t *n,
			struct error *err) {
	mode_t mode;
	dev_t dev;
	int r = lookup_device(device, field, &mode, &dev, err);
	if (r < 0)
		return r;
	if (!S_ISBLK(mode))
		return error_field(err, field, "%s is not a block device", device);
	to[(*n)++] = (struct cgroup_throttle){major(dev), minor(dev), (uint64_t)rate};
	return 0;
}

static int add_throttles(const io_throttles *from, const char *field, struct cgroup_throttle **to, size_t *n,
			 struct error *err) {
	int r = 0;
	*to = alloc_array(from->n + 1, sizeof **to);
	for (size_t i = 0; r == 0 && i < from->n; i++)
		r = add_throttle(from->items[i].device, from->items[i].rate, field, *to, n, err);
	return r;
}

static int add_weights(const struct limits *l, struct cgroup_limits *out, struct error *err) {
	int r = 0;
	out->weights = alloc_array(l->io_weights.n + 1, sizeof *out->weights);
	for (size_t i = 0; r == 0 && i < l->io_weights.n; i++)
		r = add_throttle(l->io_weights.items[i].device, l->io_weights.items[i].weight, "spec.limits.io_weights", out->weights,
				 &out->n_weights, err);
	return r;
}

bool can_limit_swap(void) {
	return cgroup_version() == 2 || fs_exists("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes");
}

int limits_to_cgroup(const struct limits *l, struct cgroup_limits *out, struct error *err) {
	out->cpu_shares = (uint64_t)l->cpu_shares;
	out->cpu_period = (uint64_t)l->cpu_period;
	out->cpu_quota = l->cpu_quota;
	if (l->cpus) {
		if (l->cpu_quota)
			return error_field(err, "spec.limits.cpus",
					   "cpus and cpu_quota say the same: give one of them");
		out->cpu_period = l->cpu_period ? (uint64_t)l->cpu_period : CPU_PERIOD;
		out->cpu_quota = (int64_t)((double)l->cpus / 1e9 * (double)out->cpu_period);
	}
	out->cpus = copy_or_null(l->cpuset_cpus);
	out->mems = copy_or_null(l->cpuset_mems);
	out->memory = l->memory;
	out->memory_reservation = l->memory_reservation;
	out->memory_swap = l->memory_swap;
	if (l->memory > 0 && !l->memory_swap && can_limit_swap())
		out->memory_swap = 2 * l->memory; /* as much swap as memory */
	out->pids = l->pids;
	out->io_weight = (uint64_t)l->io_weight;
	out->hugepages = alloc_array(l->hugepages.n + 1, sizeof *out->hugepages);
	for (size_t i = 0; i < l->hugepages.n; i++)
		out->hugepages[out->n_hugepages++] = (struct cgroup_hugepage){
			str_copy(l->hugepages.items[i].size), (uint64_t)l->hugepages.items[i].limit};
	int r = add_weights(l, out, err);
	if (r == 0)
		r = add_throttles(&l->io_read_bps, "spec.limits.io_read_bps", &out->read_bps, &out->n_read_bps, err);
	if (r == 0)
		r = add_throttles(&l->io_write_bps, "spec.limits.io_write_bps", &out->write_bps, &out->n_write_bps,
				  err);
	if (r == 0)
		r = add_throttles(&l->io_read_iops, "spec.limits.io_read_iops", &out->read_iops, &out->n_read_iops,
				  err);
	if (r == 0)
		r = add_throttles(&l->io_write_iops, "spec.limits.io_write_iops", &out->write_iops,
				  &out->n_write_iops, err);
	return r;
}

/* --- devices --- */

static void add_device_rule(struct container_config *c, const struct cgroup_device_rule *rule) {
	c->cgroup.devices = alloc_resize(c->cgroup.devices, c->cgroup.n_devices + 1, sizeof *c->cgroup.devices);
	c->cgroup.devices[c->cgroup.n_devices++] = *rule;
}

static int parse_number_or_any(const char *s, int64_t *out) {
	if (strcmp(s, "*") == 0) {
		*out = -1;
		return 0;
	}
	return str_to_i64(s, out) == 0 && *out >= 0 ? 0 : -EINVAL;
}

/* "c 1:3 mr" */
static int parse_device_rule(const char *text, struct cgroup_device_rule *out, struct error *err) {
	char type, access[4], major_text[16], minor_text[16];
	int used = 0;
	*out = (struct cgroup_device_rule){.allow = true};
	if (sscanf(text, "%c %15[0-9*]:%15[0-9*] %3[rwm]%n", &type, major_text, minor_text, access, &used) != 4 ||
	    text[used] ||
	    !strchr("abc", type) || parse_number_or_any(major_text, &out->major) < 0 ||
	    parse_number_or_any(minor_text, &out->minor) < 0)
		return error_field(err, "spec.device_rules", "\"%s\" is not a rule such as \"c 1:3 rwm\"", text);
	out->type = type;
	snprintf(out->access, sizeof out->access, "%s", access);
	return 0;
}

struct container_mount *config_add_mount(struct container_config *c) {
	c->mounts = alloc_resize(c->mounts, c->n_mounts + 1, sizeof *c->mounts);
	struct container_mount *m = &c->mounts[c->n_mounts++];
	*m = (struct container_mount){0};
	return m;
}

static int build_devices(const struct instance_spec *spec, struct container_config *c, struct error *err) {
	for (size_t i = 0; i < spec->devices.n; i++) {
		const struct device *d = &spec->devices.items[i];
		mode_t mode;
		dev_t dev;
		int r = lookup_device(d->path, "spec.devices", &mode, &dev, err);
		if (r < 0)
			return r;
		struct cgroup_device_rule rule = {.allow = true, .type = S_ISBLK(mode) ? 'b' : 'c',
						  .major = major(dev), .minor = minor(dev)};
		snprintf(rule.access, sizeof rule.access, "%s", d->permissions ? d->permissions : "rwm");
		add_device_rule(c, &rule);
		/* bound, not made: in a user name space nodes cannot be made */
		struct container_mount *m = config_add_mount(c);
		m->type = str_copy("bind");
		m->source = str_copy(d->path);
		m->target = str_copy(d->target ? d->target : d->path);
		m->flags = MS_BIND | MS_NOSUID | MS_NOEXEC;
	}
	for (size_t i = 0; spec->device_rules && spec->device_rules[i]; i++) {
		struct cgroup_device_rule rule;
		int r = parse_device_rule(spec->device_rules[i], &rule, err);
		if (r < 0)
			return r;
		add_device_rule(c, &rule);
	}
	return 0;
}

/* --- mounts --- */

int config_mount_flag(const char *option, unsigned long *set, unsigned long *clear) {
	static const struct {
		const char *name;
		unsigned long set, clear;
	} options[] = {
		{"nosuid", MS_NOSUID, 0}, {"suid", 0, MS_NOSUID}, {"nodev", MS_NODEV, 0}, {"dev", 0, MS_NODEV},
		{"noexec", MS_NOEXEC, 0}, {"exec", 0, MS_NOEXEC}, {"noatime", MS_NOATIME, 0},
		{"nodiratime", MS_NODIRATIME, 0},
		{"relatime", MS_RELATIME, 0}, {"ro", MS_RDONLY, 0}, {"rw", 0, MS_RDONLY}, {"sync", MS_SYNCHRONOUS, 0},
	};
	for (size_t i = 0; i < ARRAY_SIZE(options); i++)
		if (strcmp(options[i].name, option) == 0) {
			*set |= options[i].set;
			*clear |= options[i].clear;
			*set &= ~options[i].clear;
			return 0;
		}
	return -EINVAL;
}

static int add_tmpfs(const struct mount *m, struct container_config *c, struct error *err) {
	struct container_mount *to = config_add_mount(c);
	to->source = str_copy("tmpfs");
	to->target = str_copy(m->target);
	to->type = str_copy("tmpfs");
	to->flags = MS_NOSUID | MS_NODEV | (m->read_only ? MS_RDONLY : 0);
	_cleanup_(buf_free) struct buf data = BUF_INIT;
	buf_addf(&data, "mode=%s", m->mode ? m->mode : "1777");
	if (m->size)
		buf_addf(&data, ",size=%lld", (long long)m->size);
	if (m->uid || m->gid)
		buf_addf(&data, ",uid=%lld,gid=%lld", (long long)m->uid, (long long)m->gid);
	if (m->inodes)
		buf_addf(&data, ",nr_inodes=%lld", (long long)m->inodes);
	for (size_t i = 0; m->options && m->options[i]; i++)
		if (config_mount_flag(m->options[i], &to->flags, &to->clear_flags) < 0)
			return error_field(err, "spec.mounts.options", "a tmpfs has no option \"%s\" here",
					   m->options[i]);
	to->data = buf_steal(&data);
	return 0;
}

static bool has_mount(const struct instance_spec *spec, const char *target) {
	for (size_t i = 0; i < spec->mounts.n; i++)
		if (str_same(spec->mounts.items[i].target, target))
			return true;
	return false;
}

/* /etc/hostname and the like: those of the instance whose network is shared, else its own. */
static void add_etc(const struct agent *a, const struct msg_instance_create *r, struct container_config *c) {
	static const char *const names[] = {"hostname", "hosts", "resolv.conf"};
	const char *owner = join_target(r->instance.spec.network);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		_cleanup_(free_ptr) char *target = str_format("/etc/%s", names[i]);
		if (has_mount(&r->instance.spec, target))
			continue;
		struct container_mount *m = config_add_mount(c);
		m->source = instance_path(a, owner ? owner : r->instance.id, names[i]);
		m->target = TAKE_PTR(target);
		m->type = str_copy("bind");
		m->flags = MS_BIND;
		m->propagation = MS_PRIVATE | MS_REC;
	}
}

static void add_volume_node(const struct mount *m, const struct volume_mount *v, struct container_config *c) {
	struct cgroup_device_rule rule = volume_device_rule(v->dev, m->read_only);
	add_device_rule(c, &rule);
	struct container_mount *to = config_add_mount(c);
	to->type = str_copy("bind");
	to->source = str_copy(v->node);
	to->target = str_copy(m->target);
	to->flags = volume_node_flags(m->read_only);
	to->propagation = MS_PRIVATE | MS_REC;
}

static int add_volume(const struct instance *i, const struct mount *m, const struct volume_mounts *volumes,
		      struct container_config *c, struct error *err) {
	const struct volume_mount *v = NULL;
	for (size_t n = 0; volumes && n < volumes->n; n++)
		if (volumes->items[n].mount == m)
			v = &volumes->items[n];
	if (!v)
		return error_field(err, "spec.mounts.source", "the volume %s is not known to the agent", m->source);
	if (v->block) {
		add_volume_node(m, v, c);
		return 0;
	}
	struct container_mount *to = config_add_mount(c);
	to->type = str_copy("bind");
	to->source = str_copy(v->handle.path);
	to->target = str_copy(m->target);
	to->subpath = m->subpath && *m->subpath ? str_copy(m->subpath) : NULL;
	to->flags = volume_mount_flags(i, m->read_only);
	to->propagation = MS_PRIVATE | MS_REC;
	to->idmap = i->uid_base != 0;
	to->copy_up = v->fill;
	for (size_t n = 0; m->options && m->options[n]; n++)
		if (strcmp(m->options[n], "nocopy") != 0 && config_mount_flag(m->options[n], &to->flags, &to->clear_flags) < 0)
			return error_field(err, "spec.mounts.options", "the mount of a volume has no option \"%s\"",
					   m->options[n]);
	return 0;
}

/* The files of an image, to read: its one layer, or an overlay of them. */
static int add_image(const struct agent *a, const struct instance *i, const struct mount *m, struct container_config *c, struct error *err) {
	const struct image_use *use = NULL;
	for (size_t n = 0; !use && n < i->images.n; n++)
		if (str_same(i->images.items[n].name, m->source))
			use = &i->images.items[n];
	if (!use || !use->layers || !use->layers[0])
		return error_field(err, "spec.mounts.source", "the image %s is not known to the agent", m->source ? m->source : "(none)");
	struct container_mount *to = config_add_mount(c);
	to->target = str_copy(m->target);
	to->flags = MS_RDONLY | MS_NODEV | MS_NOSUID;
	to->propagation = MS_PRIVATE | MS_REC;
	for (size_t n = 0; use->layers[1] && use->layers[n]; n++)
		strv_take(&to->lowers, layer_path(a, use->layers[n], "fs"));
	to->type = str_copy(to->lowers ? "overlay" : "bind");
	if (!to->lowers) {
		to->source = layer_path(a, use->layers[0], "fs");
		to->flags |= MS_BIND;
		to->idmap = i->uid_base != 0;
	}
	return 0;
}

static int build_mounts(const struct agent *a, const struct msg_instance_create *r, const struct volume_mounts *volumes,
			struct container_config *c, struct error *err) {
	const struct instance_spec *spec = &r->instance.spec;
	add_etc(a, r, c);
	for (size_t i = 0; i < spec->mounts.n; i++) {
		const struct mount *m = &spec->mounts.items[i];
		int result;
		if (!m->target || m->target[0] != '/')
			result = error_field(err, "spec.mounts.target", "the target of a mount is an absolute path");
		else if (str_same(m->type, "bind"))
			result = config_bind(a, m, r->instance.uid_base != 0, c, err);
		else if (str_same(m->type, "tmpfs"))
			result = add_tmpfs(m, c, err);
		else if (str_same(m->type, "image"))
			result = add_image(a, &r->instance, m, c, err);
		else
			result = add_volume(&r->instance, m, volumes, c, err);
		if (result < 0)
			return result;
	}
	return 0;
}

/* --- all of it --- */

static char *host_name(void) {
	char name[256] = "localhost";
	gethostname(name, sizeof name - 1);
	return str_copy(name);
}

char *config_hostname(const struct msg_instance_create *r) {
	const struct instance_spec *spec = &r->instance.spec;
	if (spec->hostname && *spec->hostname)
		return str_copy(spec->hostname);
	if (str_same(spec->network, "host") || str_same(spec->uts_mode, "host"))
		return host_name();
	return str_copyn(r->instance.id, 12);
}

void config_maps(const struct msg_instance_create *r, struct container_config *c) {
	if (!r->instance.uid_base)
		return;
	c->uid_maps = NEW(struct id_map);
	c->gid_maps = NEW(struct id_map);
	*c->uid_maps = *c->gid_maps = (struct id_map){0, (uint32_t)r->instance.uid_base, UID_RANGE};
	c->n_uid_maps = c->n_gid_maps = 1;
}

static void add_layers(const struct agent *a, const struct msg_instance_create *r, const char *root,
		       struct container_config *c) {
	for (size_t i = 0; r->layers && r->layers[i]; i++)
		strv_take(&c->lowers, layer_path(a, r->layers[i], "fs"));
	strv_add(&c->lowers, a->base);
	c->upper = str_format("%s/upper", root);
	c->work = str_format("%s/work", root);
}

void config_root(const struct agent *a, const struct msg_instance_create *r, const char *root,
		 struct container_config *c) {
	container_config_init(c);
	c->id = str_copy(r->instance.id);
	add_layers(a, r, root, c);
	config_maps(r, c);
}

static struct container_defaults defaults_of(const struct instance_spec *spec) {
	return (struct container_defaults){
		.privileged = spec->privileged,
		.unmask_paths = spec->unmask_paths,
		.shm_size = spec->limits.shm_size,
		.seccomp = spec->seccomp ? spec->seccomp : spec->privileged ? "unconfined" : "default",
		.cap_add = spec->cap_add,
		.cap_drop = spec->cap_drop,
	};
}

/* In a network of its own anybody may ping and listen on any port, as far as its groups reach; the spec's come after. */
static void add_sysctls(const struct msg_instance_create *r, struct container_config *c) {
	const struct instance_spec *spec = &r->instance.spec;
	if (!str_same(spec->network, "host") && !join_target(spec->network)) {
		pairs_set(&c->sysctls, "net.ipv4.ping_group_range", r->instance.uid_base ? "0 65535" : "0 2147483647");
		pairs_set(&c->sysctls, "net.ipv4.ip_unprivileged_port_start", "0");
	}
	pairs_add(&c->sysctls, &spec->sysctls);
}

int config_build(const struct agent *a, const struct msg_instance_create *r, const char *root,
		 const struct volume_mounts *volumes, struct container_config *c, struct error *err) {
	const struct instance_spec *spec = &r->instance.spec;
	config_root(a, r, root, c);
	c->readonly_root = spec->read_only;
	c->hostname = config_hostname(r);
	if (str_same(spec->uts_mode, "host") || join_target(spec->uts_mode))
		c->hostname = (free(c->hostname), NULL);
	c->domainname = c->hostname ? copy_or_null(spec->domainname) : NULL;
	c->init = spec->init;
	c->cgroup.path = str_format("%s/%s", a->cgroup, r->instance.id);
	add_sysctls(r, c);
	int result = build_process(r, c->hostname, c, err);
	if (result == 0)
		result = build_namespaces(a, r, c, err);
	if (result == 0)
		result = limits_to_cgroup(&spec->limits, &c->cgroup.limits, err);
	struct container_defaults d = defaults_of(spec);
	if (result == 0 && runs_system(r))
		config_system(r, c);
	if (result == 0)
		result = container_apply_defaults(c, &d, err);
	if (result == 0)
		result = build_devices(spec, c, err);
	if (result == 0)
		result = build_mounts(a, r, volumes, c, err);
	return result < 0 ? result : files_load(a, r, c, err);
}

int config_exec(const struct msg_instance_create *r, char *const *command, char *const *env, const char *user,
		const char *workdir, struct container_config *c, struct error *err) {
	const struct instance_spec *spec = &r->instance.spec;
	container_config_init(c);
	config_maps(r, c);
	_cleanup_(free_ptr) char *hostname = config_hostname(r);
	struct container_defaults d = defaults_of(spec);
	int result = build_process(r, hostname, c, err);
	if (result == 0)
		result = container_apply_defaults(c, &d, err);
	if (result < 0)
		return result;
	struct container_process *p = &c->process;
	strv_free(p->args);
	p->args = strv_copy(command);
	char **merged = env_merge(p->env, env);
	strv_free(p->env);
	p->env = merged;
	p->terminal = false;
	if (user && *user) {
		free(p->user);
		p->user = str_copy(user);
	}
	if (workdir && *workdir) {
		free(p->cwd);
		p->cwd = str_copy(workdir);
	}
	return 0;
}
