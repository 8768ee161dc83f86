/* A bundle's config.json (OCI runtime specification 1.0 to 1.2) into a container_config. What the
 * specification knows and we do not do is an error; what it does not know is passed over. */
#include "base/fs.h"
#include "base/str.h"
#include "driver/container/confine.h"
#include "oci/oci-priv.h"

#include <limits.h>
#include <sched.h>
#include <stdio.h>

#define CONFIG_MAX ((size_t)16 << 20)

static char *copy_str(const json_t *o, const char *key) {
	const char *s = json_get_str(o, key);
	return s ? str_copy(s) : NULL;
}

static int refuse(const json_t *o, const char *const *keys, struct error *err) {
	for (; *keys; keys++) {
		const json_t *v = json_object_get(o, *keys);
		if (v && !json_is_null(v) && !(json_is_string(v) && !*json_string_value(v)) &&
		    !(json_is_array(v) && !json_array_size(v)) && !(json_is_object(v) && !json_object_size(v)))
			return error_set(err, ERROR_UNSUPPORTED, "%s in config.json", *keys);
	}
	return 0;
}

/* --- process --- */

static uint64_t capabilities(struct oci *o, const json_t *list, uint64_t possible) {
	uint64_t caps = 0;
	for (size_t i = 0; i < json_array_size(list); i++) {
		const char *name = json_string_value(json_array_get(list, i));
		uint64_t bit = name ? cap_from_name(name) : 0;
		if (bit & possible)
			caps |= bit;
		else /* the specification: a runtime should not fail for what cannot be granted */
			oci_log(o, "warning", "the capability %s cannot be granted here", name ? name : "?");
	}
	return caps;
}

static int user(const json_t *u, struct container_process *p, struct error *err) {
	int64_t uid = json_get_int(u, "uid"), gid = json_get_int(u, "gid");
	if (uid < 0 || gid < 0 || uid >= UINT32_MAX || gid >= UINT32_MAX)
		return error_field(err, "process.user", "the user or group id is out of range");
	p->uid = (uint32_t)uid;
	p->gid = (uint32_t)gid;
	p->has_umask = json_object_get(u, "umask") != NULL;
	p->umask = (uint32_t)json_get_int(u, "umask") & 07777;
	const json_t *groups = json_object_get(u, "additionalGids");
	p->additional_gids = alloc_array(json_array_size(groups) + 1, sizeof *p->additional_gids);
	for (size_t i = 0; i < json_array_size(groups); i++)
		p->additional_gids[p->n_additional_gids++] = (uint32_t)json_integer_value(json_array_get(groups, i));
	return 0;
}

static void rlimits(const json_t *list, struct container_process *p) {
	p->rlimits = alloc_array(json_array_size(list) + 1, sizeof *p->rlimits);
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *l = json_array_get(list, i);
		const char *type = json_get_str(l, "type");
		p->rlimits[p->n_rlimits++] = (struct container_rlimit){
			.type = str_copy(type ? type : ""), .soft = (uint64_t)json_get_int(l, "soft"), .hard = (uint64_t)json_get_int(l, "hard")};
	}
}

int spec_process(struct oci *o, const json_t *j, struct container_process *p, struct error *err) {
	static const char *const unsupported[] = {"scheduler", "ioPriority", "execCPUAffinity", NULL};
	int r = refuse(j, unsupported, err);
	if (r == 0)
		r = user(json_object_get(j, "user"), p, err);
	if (r < 0)
		return r;
	p->args = json_get_strv(j, "args");
	p->env = json_get_strv(j, "env");
	p->cwd = copy_str(j, "cwd");
	if (!p->cwd || p->cwd[0] != '/')
		return error_field(err, "process.cwd", "the working directory has to be an absolute path");
	p->terminal = json_get_bool(j, "terminal");
	const json_t *size = json_object_get(j, "consoleSize");
	p->rows = (uint16_t)json_get_int(size, "height");
	p->columns = (uint16_t)json_get_int(size, "width");
	p->no_new_privileges = json_get_bool(j, "noNewPrivileges");
	p->has_oom_score_adj = json_is_integer(json_object_get(j, "oomScoreAdj"));
	p->oom_score_adj = json_get_int(j, "oomScoreAdj");
	p->apparmor_profile = copy_str(j, "apparmorProfile");
	p->selinux_label = copy_str(j, "selinuxLabel");
	const json_t *caps = json_object_get(j, "capabilities");
	uint64_t possible = cap_bounding();
	p->cap_bounding = capabilities(o, json_object_get(caps, "bounding"), possible);
	p->cap_effective = capabilities(o, json_object_get(caps, "effective"), possible);
	p->cap_permitted = capabilities(o, json_object_get(caps, "permitted"), possible);
	p->cap_inheritable = capabilities(o, json_object_get(caps, "inheritable"), possible);
	/* those that may not be raised are dropped, as runc does */
	p->cap_ambient = capabilities(o, json_object_get(caps, "ambient"), possible) & p->cap_permitted & p->cap_inheritable;
	rlimits(json_object_get(j, "rlimits"), p);
	return 0;
}

/* --- linux --- */

static int namespaces(const json_t *list, struct container_config *c, struct error *err) {
	static const struct {
		const char *name;
		int flag;
	} types[] = {{"pid", CLONE_NEWPID}, {"network", CLONE_NEWNET}, {"mount", CLONE_NEWNS}, {"ipc", CLONE_NEWIPC},
		     {"uts", CLONE_NEWUTS}, {"user", CLONE_NEWUSER}, {"cgroup", CLONE_NEWCGROUP}, {"time", CLONE_NEWTIME}};
	c->namespaces = alloc_array(json_array_size(list) + 1, sizeof *c->namespaces);
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *o = json_array_get(list, i);
		const char *type = json_get_str(o, "type");
		int flag = 0;
		for (size_t t = 0; t < ARRAY_SIZE(types); t++)
			if (str_same(type, types[t].name))
				flag = types[t].flag;
		if (!flag)
			return error_field(err, "linux.namespaces", "there is no namespace of type %s", type ? type : "(none)");
		for (size_t n = 0; n < c->n_namespaces; n++)
			if (c->namespaces[n].flag == flag)
				return error_field(err, "linux.namespaces", "%s is given twice", type);
		const char *path = json_get_str(o, "path");
		c->namespaces[c->n_namespaces++] =
			(struct container_namespace){.flag = flag, .path = path && *path ? str_copy(path) : NULL};
	}
	return 0;
}

static int devices(const json_t *list, struct container_config *c, struct error *err) {
	c->devices = alloc_array(json_array_size(list) + 1, sizeof *c->devices);
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *o = json_array_get(list, i);
		const char *type = json_get_str(o, "type"), *path = json_get_str(o, "path");
		if (!path || !type || !strchr("cubp", type[0]) || strlen(type) != 1)
			return error_field(err, "linux.devices", "device %zu has no path, or a type other than c, u, b, p", i);
		const json_t *mode = json_object_get(o, "fileMode");
		c->devices[c->n_devices++] = (struct container_device){
			.path = str_copy(path),
			.type = type[0] == 'u' ? 'c' : type[0],
			.major = json_get_int(o, "major"),
			.minor = json_get_int(o, "minor"),
			.mode = json_is_integer(mode) ? (mode_t)json_integer_value(mode) : 0666,
			.uid = (uint32_t)json_get_int(o, "uid"),
			.gid = (uint32_t)json_get_int(o, "gid"),
		};
	}
	return 0;
}

/* "/a/b", "a/b"; with --systemd-cgroup "slice:prefix:name", which becomes what systemd would call it. */
static char *cgroup_path(struct oci *o, const char *path, const char *id) {
	if (!path || !*path)
		return str_format("wabe-oci/%s", id);
	_cleanup_(strv_free_ptr) char **parts = o->systemd_cgroup ? strv_split(path, ':') : NULL;
	if (strv_len(parts) != 3)
		return str_copy(path + strspn(path, "/"));
	const char *slice = *parts[0] ? parts[0] : "system.slice";
	return *parts[1] ? str_format("%s/%s-%s.scope", slice, parts[1], parts[2]) : str_format("%s/%s.scope", slice, parts[2]);
}

static int cgroup(struct oci *o, const json_t *l, struct container_config *c, struct error *err) {
	c->cgroup.path = cgroup_path(o, json_get_str(l, "cgroupsPath"), c->id);
	if (strstr(c->cgroup.path, "..") || !*c->cgroup.path)
		return error_field(err, "linux.cgroupsPath", "the path leaves the tree of groups");
	int r = cgroup_limits_from_oci(json_object_get(l, "resources"), &c->cgroup.limits, &c->cgroup.devices,
				       &c->cgroup.n_devices, err);
	if (r == 0 && c->cgroup.n_devices)
		container_allow_standard_devices(c);
	return r;
}

static int offset(const json_t *o, const char *clock, int64_t *ns, struct error *err) {
	const json_t *v = json_object_get(o, clock);
	if (__builtin_mul_overflow(json_get_int(v, "secs"), 1000000000, ns) ||
	    __builtin_add_overflow(*ns, json_get_int(v, "nanosecs"), ns))
		return error_field(err, "linux.timeOffsets", "the offset of the %s clock is out of range", clock);
	return 0;
}

static int linux_part(struct oci *o, const json_t *l, struct container_config *c, struct error *err) {
	static const char *const unsupported[] = {"intelRdt", "mountLabel", "netDevices", "memoryPolicy", NULL};
	int r = refuse(l, unsupported, err);
	const char *domain = json_get_str(json_object_get(l, "personality"), "domain");
	if (r == 0 && domain && !str_same(domain, "LINUX"))
		r = error_set(err, ERROR_UNSUPPORTED, "the personality %s", domain);
	if (r == 0)
		r = namespaces(json_object_get(l, "namespaces"), c, err);
	if (r == 0)
		r = spec_id_maps(json_object_get(l, "uidMappings"), &c->uid_maps, &c->n_uid_maps, err);
	if (r == 0)
		r = spec_id_maps(json_object_get(l, "gidMappings"), &c->gid_maps, &c->n_gid_maps, err);
	if (r == 0)
		r = devices(json_object_get(l, "devices"), c, err);
	if (r == 0)
		r = cgroup(o, l, c, err);
	if (r < 0)
		return r;
	pairs_read(&c->sysctls, json_object_get(l, "sysctl"));
	c->masked_paths = json_get_strv(l, "maskedPaths");
	c->readonly_paths = json_get_strv(l, "readonlyPaths");
	const json_t *seccomp = json_object_get(l, "seccomp");
	c->seccomp = json_is_object(seccomp) ? json_incref((json_t *)seccomp) : NULL;
	const json_t *offsets = json_object_get(l, "timeOffsets");
	r = offset(offsets, "monotonic", &c->timens_monotonic, err);
	if (r == 0)
		r = offset(offsets, "boottime", &c->timens_boottime, err);
	if (r < 0)
		return r;
	const char *propagation = json_get_str(l, "rootfsPropagation");
	if (propagation && *propagation && !(c->root_propagation = spec_propagation(propagation)))
		return error_field(err, "linux.rootfsPropagation", "there is no propagation called %s", propagation);
	return 0;
}

static void hooks(const json_t *h, struct container_config *c) {
	static const char *const names[HOOK_KINDS] = {
		[HOOK_PRESTART] = "prestart", [HOOK_CREATE_RUNTIME] = "createRuntime",
		[HOOK_CREATE_CONTAINER] = "createContainer", [HOOK_START_CONTAINER] = "startContainer",
		[HOOK_POSTSTART] = "poststart", [HOOK_POSTSTOP] = "poststop",
	};
	for (int i = 0; i < HOOK_KINDS; i++)
		container_hooks_parse(json_object_get(h, names[i]), &c->hooks[i].items, &c->hooks[i].n);
}

static int whole(struct oci *o, const json_t *j, struct container_config *c, struct error *err) {
	const char *version = json_get_str(j, "ociVersion");
	if (!version || !str_starts(version, "1."))
		return error_field(err, "ociVersion", "%s is not a version of the specification that is known",
				   version ? version : "nothing");
	const json_t *root = json_object_get(j, "root"), *process = json_object_get(j, "process");
	const char *path = json_get_str(root, "path");
	if (!path || !*path)
		return error_field(err, "root.path", "there is no root file system");
	if (!json_is_object(process))
		return error_field(err, "process", "there is no process");
	c->rootfs = path[0] == '/' ? str_copy(path) : str_format("%s/%s", c->bundle, path);
	c->readonly_root = json_get_bool(root, "readonly");
	c->hostname = copy_str(j, "hostname");
	c->domainname = copy_str(j, "domainname");
	pairs_read(&c->annotations, json_object_get(j, "annotations"));
	hooks(json_object_get(j, "hooks"), c);
	int r = spec_process(o, process, &c->process, err);
	if (r == 0)
		r = spec_mounts(json_object_get(j, "mounts"), c, err);
	return r < 0 ? r : linux_part(o, json_object_get(j, "linux"), c, err);
}

/* "Without limit" is written as 2^64 - 1, which no signed integer of the parser holds: it becomes -1, which
 * is the same for all that take it. */
static void spell_unlimited(char *text) {
	static const char number[] = "18446744073709551615";
	bool quoted = false;
	for (char *s = text; *s; s++) {
		if (quoted && *s == '\\' && s[1])
			s++;
		else if (*s == '"')
			quoted = !quoted;
		else if (!quoted && strncmp(s, number, sizeof number - 1) == 0)
			memcpy(s, "                  -1", sizeof number - 1);
	}
}

int spec_load(struct oci *o, const char *bundle, const char *id, struct container_config *c, struct error *err) {
	char real[PATH_MAX];
	if (!realpath(bundle, real))
		return error_errno(err, errno, "cannot open the bundle %s", bundle);
	_cleanup_(free_ptr) char *file = str_format("%s/config.json", real);
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	int r = fs_read(file, CONFIG_MAX, &text);
	if (r < 0)
		return error_errno(err, r, "cannot read %s", file);
	if (text.len)
		spell_unlimited(text.data);
	_cleanup_(json_free_ptr) json_t *j = json_parse(buf_str(&text), text.len, err);
	if (!j)
		return error_wrap(err, "%s", file);
	c->id = str_copy(id);
	c->bundle = str_copy(real);
	r = whole(o, j, c, err);
	return r < 0 ? error_wrap(err, "%s", file) : 0;
}
