/* From Docker's ServiceSpec to a workload's spec. What a container is goes the way of containers/create: the members of
 * ContainerSpec are put where Config and HostConfig have them. */
#include "core/networks.h"
#include "dialect/docker/containers.h"
#include "dialect/docker/networks-priv.h"
#include "dialect/docker/swarm-priv.h"

#define CPUS_MIN INT64_C(10000000) /* billionths */
#define INVALID(...) error_set(err, ERROR_INVALID, "rpc error: code = InvalidArgument desc = " __VA_ARGS__)

struct service {
	struct core *core;
	const json_t *body, *task, *container;
	struct workload_spec *w;
	bool vip; /* its name is one address on each of its networks */
};

static const json_t *object_of(const json_t *parent, const char *name) {
	const json_t *value = json_object_get(parent, name);
	return json_is_object(value) ? value : NULL;
}

static bool has(const json_t *object, const char *name) {
	const json_t *value = json_object_get(object, name);
	return value && !json_is_null(value) && !json_is_false(value) && !(json_is_array(value) && !json_array_size(value)) &&
	       !(json_is_string(value) && !*json_string_value(value)) && !(json_is_object(value) && !json_object_size(value));
}

static void set(char **member, const char *value) {
	free(*member);
	*member = str_copy(value);
}

/* ---- the container ---- */

static void move_to(json_t *to, const char *name, const json_t *from, const char *its_name) {
	json_t *value = json_object_get(from, its_name);
	if (value && !json_is_null(value))
		json_object_set(to, name, value);
}

static json_t *config_of(const json_t *k) {
	static const char *const names[][2] = {
		{"Image", "Image"}, {"Labels", "Labels"}, {"Entrypoint", "Command"}, {"Cmd", "Args"}, {"Env", "Env"},
		{"WorkingDir", "Dir"}, {"User", "User"}, {"Tty", "TTY"}, {"OpenStdin", "OpenStdin"}, {"StopSignal", "StopSignal"},
		{"Healthcheck", "Healthcheck"}};
	json_t *config = json_object();
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		move_to(config, names[i][0], k, names[i][1]);
	return config;
}

/* "ADDRESS NAME ALIAS…" → "NAME:ADDRESS", "ALIAS:ADDRESS" */
static json_t *extra_hosts(const json_t *hosts) {
	json_t *list = json_array(), *entry;
	size_t i;
	json_array_foreach(hosts, i, entry) {
		_cleanup_(strv_free_ptr) char **words = json_is_string(entry) ? strv_split(json_string_value(entry), ' ') : NULL;
		for (char **name = words ? words + 1 : NULL; words && words[0] && *name; name++)
			if (**name)
				json_array_append_new(list, json_sprintf("%s:%s", *name, words[0]));
	}
	return list;
}

static void take_privileges(const json_t *privileges, json_t *host) {
	const json_t *seccomp = object_of(privileges, "Seccomp");
	const char *mode = json_get_str(seccomp, "Mode");
	json_t *options = json_array();
	if (json_get_bool(privileges, "NoNewPrivileges"))
		json_array_append_new(options, json_string("no-new-privileges"));
	if (str_same(mode, "unconfined"))
		json_array_append_new(options, json_string("seccomp=unconfined"));
	if (str_same(json_get_str(object_of(privileges, "AppArmor"), "Mode"), "disabled"))
		json_array_append_new(options, json_string("apparmor=unconfined"));
	json_object_set_new(host, "SecurityOpt", options);
}

static json_t *host_of(const json_t *k, const json_t *task) {
	static const char *const names[][2] = {
		{"ReadonlyRootfs", "ReadOnly"}, {"GroupAdd", "Groups"}, {"Init", "Init"}, {"Sysctls", "Sysctls"},
		{"CapAdd", "CapabilityAdd"}, {"CapDrop", "CapabilityDrop"}, {"Ulimits", "Ulimits"}, {"OomScoreAdj", "OomScoreAdj"}};
	const json_t *resources = object_of(task, "Resources"), *limits = object_of(resources, "Limits"),
		     *reserved = object_of(resources, "Reservations"), *dns = object_of(k, "DNSConfig"), *log = object_of(task, "LogDriver");
	json_t *host = json_object();
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		move_to(host, names[i][0], k, names[i][1]);
	json_object_set_new(host, "ExtraHosts", extra_hosts(json_object_get(k, "Hosts")));
	move_to(host, "Dns", dns, "Nameservers");
	move_to(host, "DnsSearch", dns, "Search");
	move_to(host, "DnsOptions", dns, "Options");
	move_to(host, "NanoCpus", limits, "NanoCPUs");
	int64_t cpus = json_get_int(host, "NanoCpus");
	if (cpus > 0 && cpus < CPUS_MIN) /* a service may have less than a container can */
		json_set_int(host, "NanoCpus", CPUS_MIN);
	move_to(host, "Memory", limits, "MemoryBytes");
	move_to(host, "PidsLimit", limits, "Pids");
	move_to(host, "MemoryReservation", reserved, "MemoryBytes");
	if (log) {
		json_t *config = json_object();
		move_to(config, "Type", log, "Name");
		move_to(config, "Config", log, "Options");
		json_object_set_new(host, "LogConfig", config);
	}
	take_privileges(object_of(k, "Privileges"), host);
	return host;
}

static int refuse_unknown(const struct service *s, struct error *err) {
	const json_t *k = s->container, *privileges = object_of(k, "Privileges");
	if (has(privileges, "CredentialSpec"))
		return error_set(err, ERROR_UNSUPPORTED, "TaskTemplate.ContainerSpec.Privileges.CredentialSpec: is not there");
	if (has(privileges, "SELinuxContext") && !json_is_true(json_object_get(object_of(privileges, "SELinuxContext"), "Disable")))
		return error_set(err, ERROR_UNSUPPORTED, "TaskTemplate.ContainerSpec.Privileges.SELinuxContext: wabe confines without SELinux");
	if (str_same(json_get_str(object_of(privileges, "Seccomp"), "Mode"), "custom"))
		return error_set(err, ERROR_UNSUPPORTED, "TaskTemplate.ContainerSpec.Privileges.Seccomp.Mode: custom is not there");
	const char *isolation = json_get_str(k, "Isolation");
	if (isolation && *isolation && !str_same(isolation, "default"))
		return error_set(err, ERROR_INVALID, "TaskTemplate.ContainerSpec.Isolation: \"%s\" is of Windows", isolation);
	if (has(object_of(object_of(s->task, "Resources"), "Reservations"), "GenericResources"))
		return error_set(err, ERROR_UNSUPPORTED, "TaskTemplate.Resources.Reservations.GenericResources: is not there");
	return 0;
}

/* Docker's words for what wabe's templates may have. */
static int translate(char **text, const char *field, struct error *err) {
	static const char *const words[][2] = {
		{"{{.Service.ID}}", "{{workload.id}}"}, {"{{.Service.Name}}", "{{workload.name}}"}, {"{{.Node.ID}}", "{{node.id}}"},
		{"{{.Node.Hostname}}", "{{node.name}}"}, {"{{.Task.ID}}", "{{instance.id}}"}, {"{{.Task.Name}}", "{{instance.name}}"},
		{"{{.Task.Slot}}", "{{slot}}"}};
	if (!*text || !strstr(*text, "{{"))
		return 0;
	struct buf out = BUF_INIT;
	for (const char *p = *text; *p;) {
		size_t i = 0;
		while (i < ARRAY_SIZE(words) && !str_starts(p, words[i][0]))
			i++;
		if (i < ARRAY_SIZE(words)) {
			buf_adds(&out, words[i][1]);
			p += strlen(words[i][0]);
		} else if (str_starts(p, "{{")) {
			buf_free(&out);
			_cleanup_(free_ptr) char *shown = text_shown(p);
			return error_set(err, ERROR_UNSUPPORTED, "TaskTemplate.ContainerSpec.%s: the placeholder in \"%s\" is not there", field, shown);
		} else {
			buf_addc(&out, *p++);
		}
	}
	free(*text);
	*text = buf_steal(&out);
	return 0;
}

static int translate_all(struct instance_spec *t, struct error *err) {
	int r = translate(&t->hostname, "Hostname", err);
	for (char **e = t->env; r == 0 && e && *e; e++)
		r = translate(e, "Env", err);
	for (size_t i = 0; r == 0 && i < t->mounts.n; i++)
		r = translate(&t->mounts.items[i].source, "Mounts", err);
	return r;
}

static int add_mount(struct service *s, const json_t *json, struct error *err) {
	struct instance_spec *t = &s->w->template;
	struct docker_mount d;
	int r = fields_parse(&docker_mount_table, json, FIELDS_FOREIGN, &d, err);
	if (r < 0)
		return error_wrap(err, "TaskTemplate.ContainerSpec.Mounts");
	bool driver = d.volume.driver.name && *d.volume.driver.name && !str_same(d.volume.driver.name, "local");
	t->mounts.items = alloc_resize(t->mounts.items, t->mounts.n + 1, sizeof *t->mounts.items);
	if (driver || d.volume.driver.options.n)
		r = error_set(err, ERROR_UNSUPPORTED, "TaskTemplate.ContainerSpec.Mounts.VolumeOptions.DriverConfig: make the volume first");
	else
		r = docker_mount_parse(&d, &t->mounts.items[t->mounts.n], err);
	if (r == 0)
		t->mounts.n++;
	fields_free(&docker_mount_table, &d);
	return r;
}

static int64_t number_of(const json_t *object, const char *name) {
	const json_t *v = json_object_get(object, name);
	int64_t n = 0;
	if (json_is_string(v)) /* UID and GID are texts */
		str_to_i64(json_string_value(v), &n);
	return json_is_integer(v) ? json_integer_value(v) : n;
}

static int add_file(struct service *s, const json_t *json, enum kept_kind kind, struct error *err) {
	const char *word = kind == KEPT_SECRET ? "secret" : "config";
	const json_t *file = object_of(json, "File");
	const char *id = json_get_str(json, kind == KEPT_SECRET ? "SecretID" : "ConfigID"),
		   *name = json_get_str(json, kind == KEPT_SECRET ? "SecretName" : "ConfigName"), *target = json_get_str(file, "Name");
	_cleanup_(noun_unref_ptr) struct noun *kept = NULL;
	if (!file)
		return error_set(err, ERROR_UNSUPPORTED, "TaskTemplate.ContainerSpec: a %s without File is not there", word);
	if (!id || !name || kept_get(s->core, kind, DOCKER_PROJECT, id && *id ? id : name, &kept, NULL) < 0)
		return INVALID("%s not found: %s", word, name ? name : "");
	instance_files *all = &s->w->template.files;
	all->items = alloc_resize(all->items, all->n + 1, sizeof *all->items);
	struct instance_file *f = &all->items[all->n++];
	target = target && *target ? target : name;
	*f = (struct instance_file){
		.kind = str_copy(word),
		.source = str_copy(((const struct kept *)kept->of)->spec.name),
		.target = target[0] == '/' ? str_copy(target) : str_format("%s/%s", kind == KEPT_SECRET ? "/run/secrets" : "", target),
		.uid = number_of(file, "UID"),
		.gid = number_of(file, "GID"),
		.mode = str_format("%04o", json_object_get(file, "Mode") ? (unsigned)number_of(file, "Mode") & 07777 : 0444),
	};
	return 0;
}

static int each(struct service *s, const char *name, int (*fn)(struct service *s, const json_t *json, struct error *err),
		struct error *err) {
	size_t i;
	json_t *json;
	int r = 0;
	json_array_foreach(json_object_get(s->container, name), i, json) {
		r = json_is_object(json) ? fn(s, json, err) : INVALID("%s: must be objects", name);
		if (r < 0)
			break;
	}
	return r;
}

static int add_secret(struct service *s, const json_t *json, struct error *err) {
	return add_file(s, json, KEPT_SECRET, err);
}

static int add_config(struct service *s, const json_t *json, struct error *err) {
	return add_file(s, json, KEPT_CONFIG, err);
}

static void add_labels(struct instance_spec *t) {
	static const char *const labels[][2] = {
		{"service.id", "{{workload.id}}"}, {"service.name", "{{workload.name}}"}, {"task", ""},
		{"task.id", "{{instance.id}}"}, {"task.name", "{{instance.name}}"}, {"node.id", "{{node.id}}"}};
	for (size_t i = 0; i < ARRAY_SIZE(labels); i++) {
		_cleanup_(free_ptr) char *key = str_format("com.docker.swarm.%s", labels[i][0]);
		pairs_set(&t->labels, key, labels[i][1]);
	}
}

static const json_t *networks_of(const struct service *s) {
	const json_t *networks = json_object_get(s->task, "Networks");
	return json_array_size(networks) ? networks : json_object_get(s->body, "Networks");
}

/* Whether its name is one address on each of its networks: all of them must have a bridge, which has that. */
static bool wants_vip(const struct service *s) {
	const char *mode = json_get_str(object_of(s->body, "EndpointSpec"), "Mode");
	const json_t *networks = networks_of(s), *one;
	bool vip = json_array_size(networks) && !str_same(mode, "dnsrr") && !workload_is_job(s->w);
	size_t i;
	json_array_foreach(networks, i, one) {
		_cleanup_(object_snap_unref_ptr) struct object_snap *snap = NULL;
		const char *target = json_get_str(one, "Target");
		if (!vip || !target || network_get(s->core, DOCKER_PROJECT, target, &snap, NULL) < 0)
			return false;
		const struct network_spec *n = &((const struct network *)snap->noun)->spec;
		vip = !str_same(n->name, "default") && (str_same(n->driver, "bridge") || str_same(n->driver, "vxlan"));
	}
	return vip;
}

static bool is_predefined(const char *network) {
	return str_same(network, "host") || str_same(network, "none") || str_same(network, "bridge");
}

/* Networks of the task, or of older clients: {name: endpoint}, and which comes first. */
static int endpoints_of(struct service *s, json_t *endpoints, const char **first, struct error *err) {
	const json_t *networks = networks_of(s);
	size_t i;
	json_t *one, *alias;
	s->vip = wants_vip(s);
	if (s->vip)
		strv_add(&s->w->balanced_names, s->w->name);
	json_array_foreach(networks, i, one) {
		const char *target = json_get_str(one, "Target");
		_cleanup_(object_snap_unref_ptr) struct object_snap *snap = NULL;
		bool mode = is_predefined(target);
		if (!target || (!mode && network_get(s->core, DOCKER_PROJECT, target, &snap, NULL) < 0))
			return error_set(err, ERROR_NOT_FOUND, "network %s not found", target ? target : "");
		const char *name = mode ? target : docker_network_name(((const struct network *)snap->noun)->spec.name);
		json_t *aliases = json_array();
		size_t k;
		json_array_foreach(json_object_get(one, "Aliases"), k, alias)
			if (!s->vip)
				json_array_append(aliases, alias);
			else if (json_is_string(alias) && !strv_has(s->w->balanced_names, json_string_value(alias)))
				strv_add(&s->w->balanced_names, json_string_value(alias));
		if (!s->vip)
			json_array_append_new(aliases, json_string(s->w->name));
		json_array_append_new(aliases, json_sprintf("tasks.%s", s->w->name));
		bool plain = mode || str_same(name, "bridge");
		json_object_set_new(endpoints, name, plain ? json_object() : json_pack("{sO}", "Aliases", aliases));
		json_decref(aliases);
		if (i == 0)
			*first = json_object_iter_key(json_object_iter_at(endpoints, name));
	}
	return 0;
}

static int add_networks(struct service *s, json_t *config, json_t *host, struct error *err) {
	_cleanup_(json_free_ptr) json_t *endpoints = json_object();
	const char *first = "default";
	int r = endpoints_of(s, endpoints, &first, err);
	if (r < 0)
		return r;
	json_set_str(host, "NetworkMode", first);
	if (str_same(first, "host") || str_same(first, "none") || str_same(first, "default"))
		json_object_clear(endpoints);
	_cleanup_(json_free_ptr) json_t *networking = json_pack("{sO}", "EndpointsConfig", endpoints);
	return docker_spec_networks(s->core, config, host, networking, &s->w->template, err);
}

static int fill_container(struct service *s, struct docker_create *d, struct error *err) {
	struct instance_spec *t = &s->w->template;
	int r = fields_parse(&docker_config_table, d->config, FIELDS_FOREIGN, &d->c, err);
	if (r == 0)
		r = fields_parse(&docker_host_table, d->host, FIELDS_FOREIGN, &d->h, err);
	if (r == 0 && !(d->c.image && *d->c.image))
		r = INVALID("ContainerSpec: image reference must be provided");
	if (r == 0)
		r = docker_spec_config(d, t, err);
	if (r == 0)
		r = docker_spec_host(d, t, err);
	if (r == 0)
		r = add_networks(s, d->config, d->host, err);
	return r;
}

static int take_container(struct service *s, struct error *err) {
	static const struct image no_image;
	struct instance_spec *t = &s->w->template;
	struct docker_create d = {.core = s->core, .config = config_of(s->container), .host = host_of(s->container, s->task),
				  .image = &no_image, .warnings = json_array()};
	docker_widen_lists(d.config, d.host);
	int r = fill_container(s, &d, err);
	json_decref(d.config);
	json_decref(d.host);
	json_decref(d.warnings);
	fields_free(&docker_config_table, &d.c);
	fields_free(&docker_host_table, &d.h);
	if (r < 0)
		return r;
	const char *hostname = json_get_str(s->container, "Hostname");
	const json_t *grace = json_object_get(s->container, "StopGracePeriod");
	if (hostname && *hostname)
		set(&t->hostname, hostname);
	if (json_is_integer(grace) && json_integer_value(grace) >= 0)
		t->stop_timeout = MIN(json_integer_value(grace), 8640000 * NANO);
	r = each(s, "Mounts", add_mount, err);
	if (r == 0)
		r = each(s, "Secrets", add_secret, err);
	if (r == 0)
		r = each(s, "Configs", add_config, err);
	if (r == 0)
		r = translate_all(t, err);
	if (r == 0)
		add_labels(t);
	return r;
}

/* ---- the service ---- */

static int take_mode(struct service *s, struct error *err) {
	const json_t *mode = object_of(s->body, "Mode"), *job = object_of(mode, "ReplicatedJob"), *replicated = object_of(mode, "Replicated");
	const json_t *n = json_object_get(replicated, "Replicas"), *total = json_object_get(job, "TotalCompletions"),
		     *most = json_object_get(job, "MaxConcurrent");
	size_t given = (replicated != NULL) + (job != NULL) + (object_of(mode, "Global") != NULL) + (object_of(mode, "GlobalJob") != NULL);
	if (given > 1)
		return error_set(err, ERROR_INVALID, "must specify only one service mode");
	set(&s->w->mode, job ? "job" : object_of(mode, "GlobalJob") ? "global-job" : object_of(mode, "Global") ? "global" : "replicated");
	s->w->replicas = json_is_integer(n) ? json_integer_value(n) : 1;
	s->w->parallelism = json_is_integer(most) ? json_integer_value(most) : 1;
	s->w->completions = json_is_integer(total) ? json_integer_value(total) : s->w->parallelism;
	return 0;
}

static int take_rollout(const json_t *json, const char *name, struct rollout_policy *p, struct error *err) {
	const char *action = json_get_str(json, "FailureAction"), *order = json_get_str(json, "Order");
	const json_t *ratio = json_object_get(json, "MaxFailureRatio");
	if (!json)
		return 0;
	p->parallelism = json_get_int(json, "Parallelism");
	p->delay = json_get_int(json, "Delay");
	p->monitor = json_get_int(json, "Monitor") ? json_get_int(json, "Monitor") : 5 * NANO;
	p->max_failure_ratio = json_is_number(ratio) ? (int64_t)(json_number_value(ratio) * 1e9) : 0;
	if (p->delay < 0)
		return INVALID("TaskSpec: update-delay cannot be negative");
	if (p->monitor < 0)
		return INVALID("TaskSpec: update-monitor cannot be negative");
	if (p->max_failure_ratio < 0 || p->max_failure_ratio > NANO)
		return INVALID("TaskSpec: update-maxfailureratio cannot be less than 0 or bigger than 1");
	if (action && *action)
		set(&p->on_failure, action);
	if (order && *order)
		set(&p->order, order);
	if (!str_same(p->on_failure, "pause") && !str_same(p->on_failure, "continue") &&
	    !(str_same(p->on_failure, "rollback") && str_same(name, "update")))
		return error_set(err, ERROR_INVALID, "unrecognized %s failure action %s", name, p->on_failure);
	return 0;
}

static int take_restart(struct service *s, struct error *err) {
	const json_t *json = object_of(s->task, "RestartPolicy");
	const char *condition = json_get_str(json, "Condition");
	struct replace_policy *p = &s->w->restart;
	bool job = workload_is_job(s->w);
	set(&p->condition, condition && *condition ? condition : job ? "on-failure" : "any");
	p->delay = json_object_get(json, "Delay") ? json_get_int(json, "Delay") : 5 * NANO;
	p->max_delay = 0;
	p->max_attempts = json_get_int(json, "MaxAttempts");
	p->window = json_get_int(json, "Window");
	if (!str_same(p->condition, "any") && !str_same(p->condition, "none") && !str_same(p->condition, "on-failure"))
		return error_set(err, ERROR_INVALID, "invalid RestartCondition: \"%s\"", p->condition);
	if (job && str_same(p->condition, "any"))
		return INVALID("job-mode service must not have restart condition of any");
	return p->delay < 0 ? INVALID("TaskSpec: restart-delay cannot be negative") : 0;
}

static bool platform_fits(const json_t *platform) {
	const char *os = json_get_str(platform, "OS"), *arch = json_get_str(platform, "Architecture");
	bool x86 = str_same(arch, "x86_64") || str_same(arch, "amd64"), arm = str_same(arch, "aarch64") || str_same(arch, "arm64");
#ifdef __x86_64__
	bool same = x86;
	(void)arm;
#else
	bool same = arm;
	(void)x86;
#endif
	return (!os || !*os || str_same(os, "linux")) && (!arch || !*arch || same);
}

static int take_placement(struct service *s, struct error *err) {
	const json_t *placement = object_of(s->task, "Placement"), *platforms = json_object_get(placement, "Platforms");
	bool fits = !json_array_size(platforms);
	size_t i;
	json_t *one;
	s->w->constraints = json_get_strv(placement, "Constraints");
	s->w->max_per_node = json_get_int(placement, "MaxReplicas");
	for (char **c = s->w->constraints; c && *c; c++)
		if (!strstr(*c, "==") && !strstr(*c, "!="))
			return error_set(err, ERROR_INVALID,
					 "rpc error: code = Unknown desc = constraint expected one operator from ==, !=");
	json_array_foreach(platforms, i, one)
		fits |= platform_fits(one);
	if (!fits)
		strv_add(&s->w->constraints, "node.platform.os==of the image's platforms");
	return 0;
}

static int add_port(struct service *s, const json_t *json, struct error *err) {
	struct workload_spec *w = s->w;
	const char *protocol = json_get_str(json, "Protocol"), *mode = json_get_str(json, "PublishMode");
	int64_t target = json_get_int(json, "TargetPort"), published = json_get_int(json, "PublishedPort");
	if (target < 1 || target > 65535 || published < 0 || published > 65535)
		return INVALID("EndpointSpec: ports must be from 1 to 65535");
	bool host = str_same(mode, "host");
	if (mode && *mode && !host && !str_same(mode, "ingress"))
		return error_set(err, ERROR_INVALID, "EndpointSpec.Ports.PublishMode: \"%s\" is neither ingress nor host", mode);
	ports *all = host ? &w->template.ports : &w->ports;
	all->items = alloc_resize(all->items, all->n + 1, sizeof *all->items);
	struct port *p = &all->items[all->n++];
	fields_init(&port_table, p);
	p->port = target;
	p->host_port = published;
	if (protocol && *protocol)
		set(&p->protocol, protocol);
	return 0;
}

static int take_endpoint(struct service *s, struct error *err) {
	const json_t *endpoint = object_of(s->body, "EndpointSpec"), *ports = json_object_get(endpoint, "Ports");
	const char *mode = json_get_str(endpoint, "Mode");
	size_t i, k;
	json_t *one, *other;
	int r = 0;
	if (mode && *mode && !str_same(mode, "vip") && !str_same(mode, "dnsrr"))
		return error_set(err, ERROR_INVALID, "EndpointSpec.Mode: \"%s\" is neither vip nor dnsrr", mode);
	json_array_foreach(ports, i, one) {
		if (str_same(mode, "dnsrr") && !str_same(json_get_str(one, "PublishMode"), "host"))
			return INVALID("EndpointSpec: port published with ingress mode can't be used with dnsrr mode");
		for (k = 0; k < i; k++) {
			other = json_array_get(ports, k);
			if (json_get_int(one, "PublishedPort") && json_get_int(one, "PublishedPort") == json_get_int(other, "PublishedPort") &&
			    str_same(json_get_str(one, "Protocol"), json_get_str(other, "Protocol")))
				return INVALID("EndpointSpec: duplicate published ports provided");
		}
		r = add_port(s, one, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int take_all(struct service *s, struct error *err) {
	const json_t *reserved = object_of(object_of(s->task, "Resources"), "Reservations");
	pairs_read(&s->w->labels, object_of(s->body, "Labels"));
	s->w->force = json_get_int(s->task, "ForceUpdate");
	s->w->reservations = (struct reservations){json_get_int(reserved, "NanoCPUs"), json_get_int(reserved, "MemoryBytes")};
	int r = take_mode(s, err);
	if (r == 0)
		r = take_rollout(object_of(s->body, "UpdateConfig"), "update", &s->w->update, err);
	if (r == 0)
		r = take_rollout(object_of(s->body, "RollbackConfig"), "rollback", &s->w->rollback, err);
	if (r == 0)
		r = take_restart(s, err);
	if (r == 0)
		r = take_placement(s, err);
	if (r == 0)
		r = refuse_unknown(s, err);
	if (r == 0)
		r = take_container(s, err);
	return r == 0 ? take_endpoint(s, err) : r;
}

static int check_name(const char *name, struct error *err) {
	if (!name || !*name)
		return INVALID("meta: name must be provided");
	if (strlen(name) > 63)
		return INVALID("meta: name must be 63 characters or fewer");
	if (instance_name_check(name, NULL) < 0)
		return INVALID("name must be valid as a DNS name component");
	return 0;
}

/* ---- what is kept ---- */

static void set_default(json_t *object, const char *name, const char *value) {
	const char *given = json_get_str(object, name);
	if (!given || !*given)
		json_set_str(object, name, value);
}

/* Names of networks are known by ids from now on. */
static void keep_ids(struct core *c, json_t *networks) {
	json_t *one;
	size_t i;
	json_array_foreach(networks, i, one) {
		_cleanup_(object_snap_unref_ptr) struct object_snap *snap = NULL;
		const char *target = json_get_str(one, "Target");
		if (target && !is_predefined(target) && network_get(c, DOCKER_PROJECT, target, &snap, NULL) == 0)
			json_set_str(one, "Target", ((const struct network *)snap->noun)->id);
	}
}

/* The body as an inspect shows it. */
static void complete(struct core *c, json_t *body) {
	json_t *port;
	size_t i;
	keep_ids(c, json_object_get(object_of(body, "TaskTemplate"), "Networks"));
	keep_ids(c, json_object_get(body, "Networks"));
	json_array_foreach(json_object_get(object_of(body, "EndpointSpec"), "Ports"), i, port) {
		set_default(port, "Protocol", "tcp");
		set_default(port, "PublishMode", "ingress");
	}
}

int service_spec_parse(struct core *c, json_t *body, int64_t history, struct workload_spec *out, struct error *err) {
	struct service s = {c, body, object_of(body, "TaskTemplate"), NULL, out, false};
	const char *runtime = json_get_str(s.task, "Runtime");
	s.container = object_of(s.task, "ContainerSpec");
	fields_init(&workload_spec_table, out);
	int r = check_name(json_get_str(body, "Name"), err);
	if (r == 0 && (object_of(s.task, "PluginSpec") || str_same(runtime, "plugin") || str_same(runtime, "attachment")))
		r = error_set(err, ERROR_UNSUPPORTED, "TaskTemplate.Runtime: only containers are there");
	else if (r == 0 && !s.container)
		r = INVALID("TaskSpec: missing runtime");
	if (r == 0) {
		out->name = str_copy(json_get_str(body, "Name"));
		out->history = history;
		r = take_all(&s, err);
	}
	if (r == 0) {
		complete(c, body);
		out->origin = swarm_keep_origin(body);
	}
	if (r == 0)
		r = fields_validate(&workload_spec_table, out, err);
	if (r < 0)
		fields_free(&workload_spec_table, out);
	return r;
}
