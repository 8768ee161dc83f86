/* "Config" and "HostConfig" of a container, as an inspect and others print them: from its spec, so that they are true for
 * any instance, and from the notes of its creation where a spec has no word. */
#include "dialect/docker/containers.h"
#include "dialect/docker/networks-priv.h"

#define NS_PER_S INT64_C(1000000000)

/* The note's value, or the other one (taken). */
static void set_noted(json_t *to, const json_t *note, const char *key, json_t *otherwise) {
	json_t *value = json_object_get(note, key);
	if (value)
		json_object_set(to, key, value);
	else
		json_object_set_new(to, key, otherwise ? otherwise : json_null());
	if (value)
		json_decref(otherwise);
}

/* ---- Config ---- */

/* The container's own come first, then what the image has besides. */
static json_t *environment(const struct instance *i, const struct image_config *image) {
	json_t *all = json_array();
	char *const *own = i->spec.env, *const *more = image ? image->env : NULL;
	for (; own && *own; own++)
		if (strchr(*own, '='))
			json_array_append_new(all, json_from_str(*own));
	for (; more && *more; more++) {
		size_t n = strcspn(*more, "=");
		bool known = false;
		for (own = i->spec.env; own && *own; own++)
			known |= strncmp(*own, *more, n) == 0 && ((*own)[n] == '=' || !(*own)[n]);
		if (!known)
			json_array_append_new(all, json_from_str(*more));
	}
	return all;
}

/* {"80/tcp":{}} of texts, added to what the note has; NULL for nothing at all. */
static json_t *set_of(const json_t *noted, char *const *more) {
	json_t *set = noted ? json_deep_copy(noted) : json_object();
	for (; more && *more; more++)
		json_object_set_new(set, *more, json_object());
	if (json_object_size(set))
		return set;
	json_decref(set);
	return NULL;
}

static json_t *health(const struct instance *i, const struct image_config *image) {
	const struct health_check *h = i->spec.health.command ? &i->spec.health : image ? &image->health : NULL;
	if (!h || !h->command)
		return NULL;
	json_t *o = json_object();
	json_object_set_new(o, "Test", json_from_strv(h->command));
	const struct {
		const char *name;
		int64_t value;
	} rest[] = {{"Interval", h->interval}, {"Timeout", h->timeout}, {"StartPeriod", h->start_period},
		    {"StartInterval", h->start_interval}, {"Retries", h->retries}};
	for (size_t k = 0; k < ARRAY_SIZE(rest); k++)
		if (rest[k].value)
			json_set_int(o, rest[k].name, rest[k].value);
	return o;
}

static void set_command(json_t *o, const struct instance *i, const struct image_config *image) {
	const struct instance_spec *s = &i->spec;
	bool none = s->entrypoint && !s->entrypoint[0][0] && !s->entrypoint[1];
	char *const *entry = none ? NULL : s->entrypoint ? s->entrypoint : image ? image->entrypoint : NULL;
	char *const *command = s->command || s->entrypoint ? s->command : image ? image->command : NULL;
	json_object_set_new(o, "Cmd", docker_strings_or_null(command));
	json_object_set_new(o, "Entrypoint", docker_strings_or_null(entry));
}

static const char *or_image(const char *own, const char *image) {
	return own && *own ? own : image;
}

/* Members that dockerd leaves out when they are not set. */
static void set_given(json_t *o, const char *key, json_t *value) {
	if (value)
		json_object_set_new(o, key, value);
}

json_t *docker_container_config(const struct instance *i, const struct image_config *image, int api) {
	const struct instance_spec *s = &i->spec;
	_cleanup_(json_free_ptr) json_t *note = docker_note(i, NOTE_CONFIG);
	json_t *o = json_object();
	_cleanup_(free_ptr) char *hostname = s->hostname ? str_copy(s->hostname) : str_copyn(i->id, 12);
	set_text(o, "Hostname", hostname);
	set_text(o, "Domainname", s->domainname);
	set_text(o, "User", or_image(s->user, image ? image->user : NULL));
	json_set_bool(o, "AttachStdin", json_get_bool(note, "AttachStdin"));
	json_set_bool(o, "AttachStdout", json_get_bool(note, "AttachStdout"));
	json_set_bool(o, "AttachStderr", json_get_bool(note, "AttachStderr"));
	set_given(o, "ExposedPorts", set_of(NULL, i->exposed));
	json_set_bool(o, "Tty", s->tty);
	json_set_bool(o, "OpenStdin", s->stdin_open);
	json_set_bool(o, "StdinOnce", s->stdin_once);
	json_object_set_new(o, "Env", environment(i, image));
	set_command(o, i, image);
	set_given(o, "Healthcheck", health(i, image));
	set_given(o, "ArgsEscaped", json_get_bool(note, "ArgsEscaped") ? json_true() : NULL);
	set_text(o, "Image", s->image);
	json_t *volumes = set_of(json_object_get(note, "Volumes"), image ? image->volumes : NULL);
	json_object_set_new(o, "Volumes", volumes ? volumes : json_null());
	set_text(o, "WorkingDir", or_image(s->workdir, image ? image->workdir : NULL));
	set_given(o, "NetworkDisabled", json_get_bool(note, "NetworkDisabled") ? json_true() : NULL);
	if (api < 44)
		set_given(o, "MacAddress", json_incref(json_object_get(note, "MacAddress")));
	json_object_set_new(o, "OnBuild", docker_strings_or_null(image ? image->on_build : NULL));
	json_object_set_new(o, "Labels", pairs_print(&s->labels));
	if (or_image(s->stop_signal, image ? image->stop_signal : NULL))
		set_text(o, "StopSignal", or_image(s->stop_signal, image ? image->stop_signal : NULL));
	set_given(o, "StopTimeout", json_incref(json_object_get(note, "StopTimeout")));
	if (json_object_get(note, "Shell") || (image && image->shell))
		set_noted(o, note, "Shell", image ? json_from_strv(image->shell) : NULL);
	return o;
}

/* ---- HostConfig ---- */

static json_t *throttles(const io_throttles *list) {
	json_t *all = json_array();
	for (size_t k = 0; k < list->n; k++)
		json_array_append_new(all, json_pack("{sssI}", "Path", list->items[k].device, "Rate",
						     (json_int_t)list->items[k].rate));
	return list->n ? all : (json_decref(all), json_null());
}

static json_t *weights(const struct limits *l) {
	json_t *all = json_array();
	for (size_t k = 0; k < l->io_weights.n; k++)
		json_array_append_new(all, json_pack("{sssI}", "Path", l->io_weights.items[k].device, "Weight",
						     (json_int_t)l->io_weights.items[k].weight));
	return all;
}

static json_t *devices(const struct instance_spec *s) {
	json_t *all = json_array();
	for (size_t k = 0; k < s->devices.n; k++) {
		const struct device *d = &s->devices.items[k];
		json_array_append_new(all, json_pack("{ssssss}", "PathOnHost", d->path, "PathInContainer",
						     d->target ? d->target : d->path, "CgroupPermissions",
						     d->permissions ? d->permissions : "rwm"));
	}
	return all;
}

static json_t *ulimits(const struct instance_spec *s) {
	json_t *all = json_array();
	for (size_t k = 0; k < s->ulimits.n; k++) {
		const struct ulimit *u = &s->ulimits.items[k];
		json_array_append_new(all, json_pack("{sssIsI}", "Name", u->name, "Hard", (json_int_t)u->hard, "Soft",
						     (json_int_t)u->soft));
	}
	return all;
}

static void set_limits(json_t *o, const struct instance_spec *s) {
	const struct limits *l = &s->limits;
	json_set_int(o, "CpuShares", l->cpu_shares);
	json_set_int(o, "Memory", l->memory);
	json_set_int(o, "NanoCpus", l->cpus);
	set_text(o, "CgroupParent", NULL);
	json_set_int(o, "BlkioWeight", l->io_weight);
	json_object_set_new(o, "BlkioWeightDevice", weights(l));
	json_object_set_new(o, "BlkioDeviceReadBps", throttles(&l->io_read_bps));
	json_object_set_new(o, "BlkioDeviceWriteBps", throttles(&l->io_write_bps));
	json_object_set_new(o, "BlkioDeviceReadIOps", throttles(&l->io_read_iops));
	json_object_set_new(o, "BlkioDeviceWriteIOps", throttles(&l->io_write_iops));
	json_set_int(o, "CpuPeriod", l->cpu_period);
	json_set_int(o, "CpuQuota", l->cpu_quota);
	json_set_int(o, "CpuRealtimePeriod", 0);
	json_set_int(o, "CpuRealtimeRuntime", 0);
	set_text(o, "CpusetCpus", l->cpuset_cpus);
	set_text(o, "CpusetMems", l->cpuset_mems);
	json_object_set_new(o, "Devices", devices(s));
	json_object_set_new(o, "DeviceCgroupRules", docker_strings_or_null(s->device_rules));
	json_object_set_new(o, "DeviceRequests", json_null());
	json_set_int(o, "MemoryReservation", l->memory_reservation);
	json_set_int(o, "MemorySwap", l->memory > 0 && !l->memory_swap ? 2 * l->memory : l->memory_swap);
	json_object_set_new(o, "MemorySwappiness", json_null());
	json_object_set_new(o, "OomKillDisable", json_null());
	json_object_set_new(o, "PidsLimit", l->pids ? json_integer(MAX(l->pids, 0)) : json_null());
	json_object_set_new(o, "Ulimits", ulimits(s));
	json_set_int(o, "CpuCount", 0);
	json_set_int(o, "CpuPercent", 0);
	json_set_int(o, "IOMaximumIOps", 0);
	json_set_int(o, "IOMaximumBandwidth", 0);
	json_object_set_new(o, "RestartPolicy",
			    json_pack("{sssI}", "Name", s->restart.policy ? s->restart.policy : "no", "MaximumRetryCount",
				      (json_int_t)s->restart.max_retries));
}

static json_t *log_config(const struct log_config *l) {
	json_t *options = json_object();
	if (str_same(l->driver, "none"))
		return json_pack("{ssso}", "Type", "none", "Config", options);
	_cleanup_(free_ptr) char *size = str_format("%lld", (long long)l->max_size), *files = str_format("%lld", (long long)l->max_files);
	if (l->max_size) {
		json_set_str(options, "max-size", size);
		json_set_str(options, "max-file", files);
	}
	return json_pack("{ssso}", "Type", "json-file", "Config", options);
}

static json_t *log_noted(const struct instance *i, const json_t *note) {
	json_t *given = json_object_get(note, "LogConfig");
	const char *type = json_get_str(given, "Type");
	if (!given)
		return log_config(&i->spec.log);
	json_t *options = json_incref(json_object_get(given, "Config"));
	return json_pack("{ssso}", "Type", type && *type ? type : "json-file", "Config", options ? options : json_object());
}

static json_t *security(const struct instance_spec *s, const json_t *note) {
	json_t *all = json_array(), *noted = json_object_get(note, "SecurityOpt"), *one;
	size_t i;
	json_array_foreach(noted, i, one)
		json_array_append(all, one);
	if (!noted && s->no_new_privileges)
		json_array_append_new(all, json_string("no-new-privileges"));
	if (s->seccomp && !str_same(s->seccomp, "default") && !(s->privileged && str_same(s->seccomp, "unconfined"))) {
		_cleanup_(free_ptr) char *text = str_format("seccomp=%s", s->seccomp);
		json_array_append_new(all, json_from_str(text));
	}
	if (s->privileged && !json_array_size(all))
		json_array_append_new(all, json_string("label=disable"));
	return json_array_size(all) ? all : (json_decref(all), json_null());
}

/* Of one with all privileges it is null, of one that is to have nothing hidden []. */
static json_t *paths(const struct instance_spec *s, const char *const *list) {
	if (s->privileged)
		return json_null();
	return s->unmask_paths ? json_array() : json_from_strv((char *const *)list);
}

/* What is hidden or read-only, as Docker has it. */
static void set_paths(json_t *o, const struct instance_spec *s) {
	static const char *const masked[] = {"/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys",
					     "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
					     "/proc/sched_debug", "/proc/scsi", "/sys/firmware", NULL};
	static const char *const read_only[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger", NULL};
	json_object_set_new(o, "MaskedPaths", paths(s, masked));
	json_object_set_new(o, "ReadonlyPaths", paths(s, read_only));
}

static json_t *port_bindings(const struct instance_spec *s) {
	json_t *all = json_object();
	for (size_t k = 0; k < s->ports.n; k++) {
		const struct port *p = &s->ports.items[k];
		for (int64_t n = 0; n < MAX(p->count, 1); n++) {
			_cleanup_(free_ptr) char *key = str_format("%lld/%s", (long long)(p->port + n), p->protocol ? p->protocol : "tcp");
			_cleanup_(free_ptr) char *port = p->host_port ? str_format("%lld", (long long)(p->host_port + n)) : str_copy("");
			json_t *list = json_object_get(all, key);
			if (!list)
				json_object_set_new(all, key, list = json_array());
			json_array_append_new(list, json_pack("{ssss}", "HostIp", p->address ? p->address : "", "HostPort", port));
		}
	}
	return all;
}

char *docker_network_mode(const struct instance *i) {
	const struct instance_spec *s = &i->spec;
	const char *noted = pairs_get(&s->annotations, NOTE_NETWORK);
	if (noted)
		return str_copy(noted);
	if (!str_same(s->network, "private"))
		return docker_mode(s->network);
	return str_copy(s->networks.n ? docker_network_name(s->networks.items[0].network) : "default");
}

/* "host:inside[:ro]" of those mounts that Docker would call binds; null without any. */
static json_t *binds(const struct instance_spec *s) {
	json_t *all = json_array();
	for (size_t k = 0; k < s->mounts.n; k++) {
		const struct mount *m = &s->mounts.items[k];
		if (str_same(m->type, "tmpfs") || !m->source)
			continue;
		_cleanup_(free_ptr) char *text = str_format("%s:%s%s", m->source, m->target, m->read_only ? ":ro" : "");
		json_array_append_new(all, json_from_str(text));
	}
	return json_array_size(all) ? all : (json_decref(all), json_null());
}

static void set_names(json_t *o, const struct instance *i, const json_t *note) {
	const struct instance_spec *s = &i->spec;
	_cleanup_(free_ptr) char *network = docker_network_mode(i), *pid = docker_mode(s->pid_mode), *ipc = docker_mode(s->ipc_mode);
	set_text(o, "NetworkMode", network);
	const char *shareable = json_get_str(note, "IpcMode");
	set_text(o, "IpcMode", str_same(shareable, "shareable") ? shareable : ipc);
	set_text(o, "PidMode", str_same(pid, "private") ? "" : pid);
	set_text(o, "UTSMode", str_same(s->uts_mode, "host") ? "host" : "");
	set_text(o, "UsernsMode", str_same(s->userns, "host") ? "host" : "");
	set_text(o, "CgroupnsMode", s->cgroup_mode);
	set_text(o, "Cgroup", NULL);
}

static json_t *own_annotations(const struct pairs *p) {
	json_t *all = json_object();
	for (size_t k = 0; k < p->n; k++)
		if (!str_starts(p->items[k].key, NOTE_PREFIX))
			json_set_str(all, p->items[k].key, p->items[k].value);
	return all;
}

static void set_process(json_t *o, const struct instance *i, const json_t *note, int api) {
	const struct instance_spec *s = &i->spec;
	json_t *annotations = own_annotations(&s->annotations);
	if (api >= 43 && json_object_size(annotations))
		json_object_set(o, "Annotations", annotations);
	json_decref(annotations);
	json_object_set_new(o, "CapAdd", docker_strings_or_null(s->cap_add));
	json_object_set_new(o, "CapDrop", docker_strings_or_null(s->cap_drop));
	json_object_set_new(o, "Dns", json_from_strv(s->dns));
	json_object_set_new(o, "DnsOptions", json_from_strv(s->dns_options));
	json_object_set_new(o, "DnsSearch", json_from_strv(s->dns_search));
	json_object_set_new(o, "ExtraHosts", docker_strings_or_null(s->extra_hosts));
	json_object_set_new(o, "GroupAdd", docker_strings_or_null(s->groups));
	json_set_int(o, "OomScoreAdj", s->oom_score_adj);
	json_set_bool(o, "Privileged", s->privileged);
	json_set_bool(o, "PublishAllPorts", s->publish_all);
	json_set_bool(o, "ReadonlyRootfs", s->read_only);
	json_object_set_new(o, "SecurityOpt", security(s, note));
	if (s->sysctls.n)
		json_object_set_new(o, "Sysctls", pairs_print(&s->sysctls));
	if (json_object_get(note, "StorageOpt"))
		set_noted(o, note, "StorageOpt", NULL);
	json_set_int(o, "ShmSize", s->limits.shm_size);
	if (s->init)
		json_set_bool(o, "Init", true);
}

json_t *docker_host_config(struct core *c, const struct instance *i, int api) {
	const struct instance_spec *s = &i->spec;
	_cleanup_(json_free_ptr) json_t *note = docker_note(i, NOTE_HOST);
	json_t *o = json_object();
	set_noted(o, note, "Binds", note ? NULL : binds(s));
	set_noted(o, note, "ContainerIDFile", json_string(""));
	json_object_set_new(o, "LogConfig", log_noted(i, note));
	json_object_set_new(o, "PortBindings", port_bindings(s));
	json_set_bool(o, "AutoRemove", s->auto_remove);
	set_noted(o, note, "VolumeDriver", json_string(""));
	set_noted(o, note, "VolumesFrom", NULL);
	set_noted(o, note, "ConsoleSize", json_pack("[ii]", 0, 0));
	const char *const optional[] = {"Mounts", "Tmpfs"};
	for (size_t k = 0; k < ARRAY_SIZE(optional); k++)
		if (json_object_get(note, optional[k]))
			set_noted(o, note, optional[k], NULL);
	set_names(o, i, note);
	set_process(o, i, note, api);
	json_object_set_new(o, "Links", docker_links(c, i));
	set_noted(o, note, "Runtime", json_string(instance_is_machine(s) ? "machine" : "runc"));
	set_noted(o, note, "Isolation", json_string(""));
	set_limits(o, s);
	set_paths(o, s);
	return o;
}
