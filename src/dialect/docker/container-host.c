/* From HostConfig to a spec: confinement, name spaces, log. What cannot be honoured is refused by name. */
#include "dialect/docker/containers.h"

#include <strings.h>

static int refuse(struct error *err, const char *member, const char *value, const char *why) {
	_cleanup_(free_ptr) char *shown = text_shown(value);
	return error_set(err, ERROR_INVALID, "HostConfig.%s: \"%s\" %s", member, shown, why);
}

static bool given(const char *s) {
	return s && *s;
}

static void set(char **member, const char *value) {
	free(*member);
	*member = str_copy(value);
}

/* ---- name spaces ---- */

/* "container:X" */
static bool shared_with(const char *mode, char **to) {
	if (!str_starts(mode, "container:") || !mode[strlen("container:")])
		return false;
	free(*to);
	*to = str_format("instance:%s", mode + strlen("container:"));
	return true;
}

static int invalid_mode(struct error *err, const char *what, const char *mode) {
	_cleanup_(free_ptr) char *shown = text_shown(mode);
	return error_set(err, ERROR_INVALID, "invalid %s mode: %s", what, shown);
}

static int take_ipc(const struct docker_host *h, struct instance_spec *spec, struct error *err) {
	const char *mode = h->ipc_mode;
	if (!given(mode) || str_same(mode, "private") || str_same(mode, "shareable") || shared_with(mode, &spec->ipc_mode))
		return 0;
	if (str_same(mode, "none"))
		return refuse(err, "IpcMode", mode, "is not there: private has shared memory of its own");
	if (!str_same(mode, "host"))
		return invalid_mode(err, "IPC", mode);
	set(&spec->ipc_mode, "host");
	return 0;
}

static int take_pid(const struct docker_host *h, struct instance_spec *spec, struct error *err) {
	if (!given(h->pid_mode) || str_same(h->pid_mode, "private") || shared_with(h->pid_mode, &spec->pid_mode))
		return 0;
	if (!str_same(h->pid_mode, "host"))
		return invalid_mode(err, "PID", h->pid_mode);
	set(&spec->pid_mode, "host");
	return 0;
}

static int take_host_or_own(const char *mode, const char *what, char **to, struct error *err) {
	if (!given(mode) || str_same(mode, "private"))
		return 0;
	if (!str_same(mode, "host"))
		return invalid_mode(err, what, mode);
	set(to, "host");
	return 0;
}

static int take_modes(const struct docker_host *h, struct instance_spec *spec, struct error *err) {
	int r = take_ipc(h, spec, err);
	if (r == 0)
		r = take_pid(h, spec, err);
	if (r == 0)
		r = take_host_or_own(h->uts_mode, "UTS", &spec->uts_mode, err);
	if (r == 0)
		r = take_host_or_own(h->userns_mode, "user namespace", &spec->userns, err);
	if (r == 0)
		r = take_host_or_own(h->cgroupns_mode, "cgroup namespace", &spec->cgroup_mode, err);
	if (r == 0 && given(h->cgroup))
		r = refuse(err, "Cgroup", h->cgroup, "is not there: a container has a control group of its own");
	return r;
}

/* ---- confinement ---- */

/* A profile as "seccomp=" has it: what a client has read from a file, or a name. */
static int take_seccomp(const char *value, struct instance_spec *spec, struct error *err) {
	if (str_same(value, "unconfined"))
		set(&spec->seccomp, value);
	else if (str_same(value, "builtin") || str_same(value, "default"))
		set(&spec->seccomp, "default");
	else if (value[strspn(value, " \t\r\n")] == '{')
		set(&spec->seccomp, value + strspn(value, " \t\r\n"));
	else
		return error_set(err, ERROR_INVALID, "opening seccomp profile failed: a profile comes as JSON text, "
				 "not as a file of this host");
	return 0;
}

/* Docker writes "key=value" and, of old, "key:value". */
static int take_security(const char *option, struct instance_spec *spec, struct error *err) {
	_cleanup_(free_ptr) char *shown = text_shown(option);
	size_t n = strcspn(option, "=");
	if (!option[n])
		n = strcspn(option, ":");
	const char *value = option[n] ? option + n + 1 : NULL;
	_cleanup_(free_ptr) char *key = str_copyn(option, n);
	if (str_same(key, "no-new-privileges") && (!value || str_same(value, "true") || str_same(value, "false")))
		spec->no_new_privileges = !str_same(value, "false");
	else if (!value && !str_same(key, "disable"))
		return error_set(err, ERROR_INVALID, "invalid --security-opt 1: \"%s\"", shown);
	else if (str_same(key, "seccomp"))
		return take_seccomp(value, spec, err);
	else if (str_same(key, "apparmor"))
		return str_same(value, "unconfined") ? 0 : refuse(err, "SecurityOpt", option, "cannot be had: wabe confines without AppArmor");
	else if (str_same(key, "label") && !str_same(value, "disable"))
		return refuse(err, "SecurityOpt", option, "cannot be had: wabe confines without SELinux");
	else if (!str_same(key, "label") && !str_same(key, "disable"))
		return error_set(err, ERROR_INVALID, "invalid --security-opt 2: \"%s\"", shown);
	return 0;
}

/* [] unmasks, null is the default; a list of one's own cannot be had. */
static int take_paths(const json_t *list, const char *member, bool *unmask, struct error *err) {
	if (!list || json_is_null(list))
		return 0;
	if (!json_is_array(list))
		return error_set(err, ERROR_INVALID, "HostConfig.%s: must be a list of texts", member);
	if (json_array_size(list) == 0)
		*unmask = true;
	const char *first = json_string_value(json_array_get(list, 0));
	/* a list that an inspect has given comes back here */
	if (first && !str_same(first, "/proc/asound") && !str_same(first, "/proc/bus"))
		return refuse(err, member, first, "cannot be chosen: all of the usual paths, or none");
	return 0;
}

static int take_capabilities(char *const *from, const char *member, char ***to, struct error *err) {
	for (size_t i = 0; from && from[i]; i++) {
		const char *s = from[i];
		if (!*s || s[strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")]) {
			_cleanup_(free_ptr) char *shown = text_shown(s);
			return error_set(err, ERROR_INVALID, "invalid %s: unknown capability: \"%s\"", member, shown);
		}
		strv_add(to, s);
	}
	return 0;
}

static int take_confinement(const struct docker_host *h, struct instance_spec *spec, struct error *err) {
	bool seccomp = false;
	spec->privileged = h->privileged;
	spec->read_only = h->read_only;
	int r = take_capabilities(h->cap_add, "CapAdd", &spec->cap_add, err);
	if (r == 0)
		r = take_capabilities(h->cap_drop, "CapDrop", &spec->cap_drop, err);
	for (size_t i = 0; r == 0 && h->security && h->security[i]; i++) {
		seccomp |= str_starts(h->security[i], "seccomp");
		r = take_security(h->security[i], spec, err);
	}
	if (h->privileged && !seccomp)
		set(&spec->seccomp, "unconfined");
	if (r == 0)
		r = take_paths(h->masked, "MaskedPaths", &spec->unmask_paths, err);
	if (r == 0)
		r = take_paths(h->read_only_paths, "ReadonlyPaths", &spec->unmask_paths, err);
	return r;
}

/* ---- devices, limits of processes ---- */

static void take_devices(const struct docker_resources *r, struct instance_spec *spec) {
	spec->devices.items = r->devices.n ? alloc_array(r->devices.n, sizeof *spec->devices.items) : NULL;
	for (; spec->devices.n < r->devices.n; spec->devices.n++) {
		const struct docker_device *d = &r->devices.items[spec->devices.n];
		spec->devices.items[spec->devices.n] = (struct device){
			.path = str_copy(d->host),
			.target = given(d->target) ? str_copy(d->target) : NULL,
			.permissions = given(d->permissions) ? str_copy(d->permissions) : NULL,
		};
	}
	spec->device_rules = strv_copy(r->device_rules);
}

static void take_ulimits(const struct docker_resources *r, struct instance_spec *spec) {
	spec->ulimits.items = r->ulimits.n ? alloc_array(r->ulimits.n, sizeof *spec->ulimits.items) : NULL;
	for (; spec->ulimits.n < r->ulimits.n; spec->ulimits.n++) {
		const struct docker_ulimit *u = &r->ulimits.items[spec->ulimits.n];
		spec->ulimits.items[spec->ulimits.n] = (struct ulimit){str_copy(u->name), u->soft, u->hard};
	}
}

/* ---- log ---- */

static int take_log_option(const char *driver, const char *key, const char *value, struct log_config *log,
			   struct error *err) {
	_cleanup_(free_ptr) char *shown = text_shown(value), *name = text_shown(key);
	if (str_same(key, "max-size")) {
		if (str_same(value, "-1"))
			log->max_size = 0;
		else if (str_to_size(value, &log->max_size) < 0 || log->max_size <= 0)
			return error_set(err, ERROR_INVALID, "invalid max-size: \"%s\"", shown);
		return 0;
	}
	if (str_same(key, "max-file")) {
		if (str_to_i64(value, &log->max_files) < 0 || log->max_files < 1)
			return error_set(err, ERROR_INVALID, "max-file cannot be less than 1: \"%s\"", shown);
		return 0;
	}
	if ((str_same(key, "mode") && str_same(value, "blocking")) ||
	    (str_same(key, "compress") && (str_same(value, "false") || str_same(driver, "local"))))
		return 0;
	static const char *const attributes[] = {"labels", "labels-regex", "env", "env-regex", NULL}; /* notes keep them */
	if (str_same(key, "tag"))
		return docker_log_tag_check(value, err);
	if (strv_has((char *const *)attributes, key))
		return 0;
	static const char *const others[] = {"mode", "max-buffer-size", "compress", NULL};
	if (strv_has((char *const *)others, key))
		return error_set(err, ERROR_INVALID, "HostConfig.LogConfig.Config: %s=%s is not there: max-size and max-file are",
				 name, shown);
	return error_set(err, ERROR_INVALID, "unknown log opt '%s' for %s log driver", name, driver);
}

static int take_log(const struct docker_log *from, struct log_config *log, struct error *err) {
	const char *driver = given(from->type) ? from->type : "json-file";
	bool local = str_same(driver, "local"), none = str_same(driver, "none");
	if (!local && !none && !str_same(driver, "json-file")) {
		_cleanup_(free_ptr) char *shown = text_shown(driver);
		return error_set(err, ERROR_INVALID, "logger: no log driver named '%s' is registered", shown);
	}
	set(&log->driver, none ? "none" : "file");
	log->max_size = local ? 20 << 20 : 0; /* Docker's own defaults */
	log->max_files = local ? 5 : 1;
	int r = 0;
	for (size_t i = 0; r == 0 && i < from->options.n; i++)
		r = take_log_option(driver, from->options.items[i].key, from->options.items[i].value, log, err);
	return r;
}

/* ---- the rest ---- */

#define MACHINE_STOP_TIMEOUT (60 * INT64_C(1000000000)) /* a whole system takes its time to power down */

static int take_runtime(const struct docker_create *d, struct instance_spec *spec, struct error *err) {
	static const char *const ours[] = {"runc", "wabe", "default", "io.containerd.runc.v2", NULL};
	const char *runtime = d->h.runtime;
	if (!given(runtime) || strv_has((char *const *)ours, runtime))
		return 0;
	_cleanup_(free_ptr) char *shown = text_shown(runtime);
	if (!str_same(runtime, "machine"))
		return error_set(err, ERROR_INVALID, "unknown or invalid runtime name: %s", shown);
	set(&spec->kind, "machine");
	if (!json_is_integer(json_object_get(d->config, "StopTimeout")))
		spec->stop_timeout = MACHINE_STOP_TIMEOUT;
	return 0;
}

static int take_storage(const struct pairs *options, struct instance_spec *spec, struct error *err) {
	for (size_t i = 0; i < options->n; i++) {
		const struct pair *p = &options->items[i];
		_cleanup_(free_ptr) char *shown = text_shown(p->key);
		if (!str_same(p->key, "size"))
			return error_set(err, ERROR_INVALID, "HostConfig.StorageOpt: there is no option \"%s\": size is", shown);
		if (str_to_size(p->value, &spec->root_size) < 0)
			return refuse(err, "StorageOpt", p->value, "is not a size");
	}
	return 0;
}

static int take_annotations(const struct pairs *from, struct pairs *to, struct error *err) {
	for (size_t i = 0; i < from->n; i++) {
		if (!*from->items[i].key)
			return error_set(err, ERROR_INVALID, "invalid Annotations: the empty string is not permitted as an annotation key");
		if (str_starts(from->items[i].key, NOTE_PREFIX))
			return refuse(err, "Annotations", from->items[i].key, "belongs to the daemon: keys with \"" NOTE_PREFIX "\" do");
		pairs_set(to, from->items[i].key, from->items[i].value);
	}
	return 0;
}

static int take_small(const struct docker_host *h, struct instance_spec *spec, struct error *err) {
	if (h->oom_score_adj < -1000 || h->oom_score_adj > 1000)
		return error_set(err, ERROR_INVALID, "Invalid value %lld, range for oom score adj is [-1000, 1000]",
				 (long long)h->oom_score_adj);
	if (h->shm_size < 0)
		return error_set(err, ERROR_INVALID, "SHM size can not be less than 0");
	if (given(h->isolation) && strcasecmp(h->isolation, "default") != 0) {
		_cleanup_(free_ptr) char *shown = text_shown(h->isolation);
		return error_set(err, ERROR_INVALID, "invalid isolation '%s' on linux", shown);
	}
	spec->oom_score_adj = h->oom_score_adj;
	spec->init = h->init;
	spec->auto_remove = h->auto_remove;
	spec->groups = strv_copy(h->groups);
	if (h->shm_size)
		spec->limits.shm_size = h->shm_size;
	pairs_add(&spec->sysctls, &h->sysctls);
	return 0;
}

static int take_restart(const struct docker_host *h, struct instance_spec *spec, struct error *err) {
	int r = docker_restart_policy(&h->resources.restart, &spec->restart, err);
	if (r == 0 && spec->auto_remove && !str_same(spec->restart.policy, "no"))
		return error_set(err, ERROR_INVALID, "can't create 'AutoRemove' container with restart policy");
	return r;
}

int docker_spec_host(struct docker_create *d, struct instance_spec *spec, struct error *err) {
	const struct docker_host *h = &d->h;
	int r = take_runtime(d, spec, err);
	if (r == 0)
		r = take_small(h, spec, err);
	if (r == 0)
		r = docker_limits(d->core, &h->resources, &spec->limits, d->warnings, err);
	if (r == 0)
		r = take_modes(h, spec, err);
	if (r == 0)
		r = take_confinement(h, spec, err);
	if (r == 0)
		r = take_log(&h->log, &spec->log, err);
	if (r == 0)
		r = take_storage(&h->storage, spec, err);
	if (r == 0)
		r = take_annotations(&h->annotations, &spec->annotations, err);
	if (r == 0)
		r = take_restart(h, spec, err);
	take_devices(&h->resources, spec);
	take_ulimits(&h->resources, spec);
	return r;
}
