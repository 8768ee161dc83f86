/* The rules of an instance's fields: of single values, and over several fields. */
#include "base/str.h"
#include "model/instance-priv.h"

#include <arpa/inet.h>
#include <ctype.h>

#define LOG_FILE_MIN 4096
#define MEMORY_MIN (INT64_C(6) << 20) /* less does not hold a first process */

static int invalid(struct error *err, const char *text) {
	return error_set(err, ERROR_INVALID, "%s", text);
}

/* Whether s is one or more of these characters only. */
static bool only(const char *s, const char *allowed) {
	return *s && s[strspn(s, allowed)] == '\0';
}

/* s is text; a NULL is nothing. */
static bool is(const char *s, const char *text) {
	return s && strcmp(s, text) == 0;
}

#define DIGITS "0123456789"
#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

int instance_name_check(const char *name, struct error *err) {
	if (!isalnum((unsigned char)name[0]) || !only(name, LETTERS DIGITS "_.-") || strlen(name) > 128) {
		_cleanup_(free_ptr) char *shown = text_shown(name);
		return error_set(err, ERROR_INVALID,
				 "\"%s\" is not a name: letters, digits, \"_\", \".\", \"-\", a letter or digit first, "
				 "at most 128", shown);
	}
	return 0;
}

int instance_id_check(const char *id, struct error *err) {
	if (strlen(id) != INSTANCE_ID_LEN || !only(id, DIGITS "abcdef"))
		return invalid(err, "must be 64 lower-case hexadecimal digits");
	return 0;
}

static bool has_dotdot(const char *path) {
	struct str rest = str_view(path);
	while (rest.len)
		if (str_is(str_cut(&rest, '/'), ".."))
			return true;
	return false;
}

int path_check(const char *path, struct error *err) {
	if (path[0] != '/')
		return invalid(err, "must be an absolute path");
	if (has_dotdot(path))
		return invalid(err, "must not contain \"..\"");
	return text_check(path, err);
}

int mount_target_check(const char *path, struct error *err) {
	int r = path_check(path, err);
	if (r == 0 && !path[strspn(path, "/.")])
		return invalid(err, "must not be the root");
	return r;
}

int subpath_check(const char *path, struct error *err) {
	if (!*path || path[0] == '/' || has_dotdot(path))
		return invalid(err, "must be a relative path without \"..\"");
	return text_check(path, err);
}

int env_check(const char *entry, struct error *err) {
	size_t n = strcspn(entry, "=");
	if (!n)
		return invalid(err, "must be KEY=VALUE, or KEY alone");
	for (size_t i = 0; i < n; i++)
		if (iscntrl((unsigned char)entry[i]))
			return invalid(err, "has control characters in its key");
	return 0;
}

/* In a workload's template a part of it may be a placeholder (control/expand.h); an instance must not have one. */
int hostname_check(const char *name, struct error *err) {
	if (strstr(name, "{{") ? !only(name, LETTERS DIGITS "-._{}") : !only(name, LETTERS DIGITS "-._") || name[0] == '-' || name[0] == '.')
		return invalid(err, "must be letters, digits, \"-\" and \".\"");
	return 0;
}

/* Names may be anything that a passwd file holds; numbers must be ids. */
static bool is_user(struct str s) {
	_cleanup_(free_ptr) char *text = str_copyn(s.p, s.len);
	uint64_t id;
	if (!only(text, DIGITS))
		return text[0] != '-' && text_check(text, NULL) == 0;
	return str_to_u64(text, 10, &id) == 0 && id < UINT32_MAX;
}

int user_check(const char *user, struct error *err) {
	struct str group = str_view(user), name = str_cut(&group, ':');
	if (is_user(name) && (!group.len || is_user(group)) && !memchr(group.p, ':', group.len))
		return 0;
	_cleanup_(free_ptr) char *shown = text_shown(user);
	return error_set(err, ERROR_INVALID, "\"%s\" is not USER[:GROUP] of names or ids", shown);
}

int signal_check(const char *name, struct error *err) {
	_cleanup_(free_ptr) char *shown = text_shown(name);
	return signal_from_name(name) ? 0 : error_set(err, ERROR_INVALID, "there is no signal %s", shown);
}

int capability_check(const char *name, struct error *err) {
	if (!only(name, LETTERS DIGITS "_") || strlen(name) > 40)
		return invalid(err, "is not the name of a capability, such as NET_ADMIN");
	return 0;
}

int seccomp_check(const char *profile, struct error *err) {
	if (strcmp(profile, "default") == 0 || strcmp(profile, "unconfined") == 0)
		return 0;
	if (profile[0] != '{')
		return invalid(err, "must be default, unconfined, or a profile as a JSON object");
	json_t *v = json_parse(profile, strlen(profile), err);
	if (!v)
		return error_wrap(err, "the profile");
	json_decref(v);
	return 0;
}

/* "*" or a number, then the character `end`; moves *s behind it. */
static bool take_device_number(const char **s, char end) {
	size_t n = **s == '*' ? 1 : strspn(*s, DIGITS);
	if (!n || n > 10 || (*s)[n] != end)
		return false;
	*s += n + 1;
	return true;
}

int device_permissions_check(const char *permissions, struct error *err) {
	return only(permissions, "rwm") ? 0 : invalid(err, "must be some of r, w, m");
}

int device_rule_check(const char *rule, struct error *err) {
	const char *s = rule;
	if (strchr("abc", *s) && *s && s[1] == ' ') {
		s += 2;
		if (take_device_number(&s, ':') && take_device_number(&s, ' ') && only(s, "rwm") && strlen(s) <= 3)
			return 0;
	}
	return invalid(err, "must be written as \"c 1:3 mr\" or \"b 8:* rwm\"");
}

static bool is_ipc_sysctl(const char *key) {
	static const char *const keys[] = {"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem",
					   "kernel.shmall", "kernel.shmmax", "kernel.shmmni",
					   "kernel.shm_rmid_forced"};
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		if (strcmp(keys[i], key) == 0)
			return true;
	return str_starts(key, "fs.mqueue.");
}

int sysctl_check(const char *key, struct error *err) {
	_cleanup_(free_ptr) char *shown = text_shown(key);
	if (!only(key, LETTERS DIGITS "._/-") || has_dotdot(key) || strstr(key, ".."))
		return error_set(err, ERROR_INVALID, "%s is not the name of a kernel parameter", shown);
	if (!is_ipc_sysctl(key) && !str_starts(key, "net."))
		return error_set(err, ERROR_INVALID,
				 "%s belongs to the whole host: net.*, fs.mqueue.* and those of System V "
				 "IPC can be set",
				 shown);
	return 0;
}

int ulimit_name_check(const char *name, struct error *err) {
	static const char *const names[] = {"as",      "core",	   "cpu",	 "data",   "fsize", "locks",
					    "memlock", "msgqueue", "nice",	 "nofile", "nproc", "rss",
					    "rtprio",  "rttime",   "sigpending", "stack"};
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (strcmp(names[i], name) == 0)
			return 0;
	return invalid(err,
		       "must be one of as, core, cpu, data, fsize, locks, memlock, msgqueue, nice, nofile, nproc, rss, "
		       "rtprio, rttime, sigpending, stack");
}

/* One range "3" or "0-7". */
static bool is_cpu_range(struct str range) {
	_cleanup_(free_ptr) char *text = str_copyn(range.p, range.len);
	char *dash = strchr(text, '-');
	if (dash)
		*dash = '\0';
	uint64_t from, to;
	if (str_to_u64(text, 10, &from) < 0 || str_to_u64(dash ? dash + 1 : text, 10, &to) < 0)
		return false;
	return from <= to && to < 65536;
}

int cpuset_check(const char *list, struct error *err) {
	struct str rest = str_view(list);
	bool good = rest.len && !str_ends(list, ",");
	while (good && rest.len)
		good = is_cpu_range(str_cut(&rest, ','));
	return good ? 0 : invalid(err, "must be a list such as 0-3,6");
}

int hugepage_size_check(const char *size, struct error *err) {
	size_t n = strspn(size, DIGITS);
	const char *unit = size + n;
	if (!n || n > 6 || (strcmp(unit, "KB") != 0 && strcmp(unit, "MB") != 0 && strcmp(unit, "GB") != 0))
		return invalid(err, "must be a size of pages such as 2MB or 1GB");
	return 0;
}

static bool is_instance(const char *mode) {
	return str_starts(mode, "instance:") && instance_name_check(mode + strlen("instance:"), NULL) == 0;
}

int pid_mode_check(const char *mode, struct error *err) {
	if (strcmp(mode, "private") == 0 || strcmp(mode, "host") == 0 || is_instance(mode))
		return 0;
	return invalid(err, "must be private, host or instance:NAME");
}

int uts_mode_check(const char *mode, struct error *err) {
	if (strcmp(mode, "private") == 0 || strcmp(mode, "host") == 0)
		return 0;
	return invalid(err, "must be private or host");
}

int network_check(const char *mode, struct error *err) {
	if (strcmp(mode, "private") == 0 || strcmp(mode, "none") == 0 || strcmp(mode, "host") == 0 || is_instance(mode))
		return 0;
	return invalid(err, "must be private, none, host or instance:NAME");
}

int address_check(const char *address, struct error *err) {
	struct in6_addr parsed;
	if (inet_pton(AF_INET, address, &parsed) == 1 || inet_pton(AF_INET6, address, &parsed) == 1)
		return 0;
	_cleanup_(free_ptr) char *shown = text_shown(address);
	return error_set(err, ERROR_INVALID, "%s is not an IP address", shown);
}

int extra_host_check(const char *entry, struct error *err) {
	size_t n = strcspn(entry, ":");
	_cleanup_(free_ptr) char *name = str_copyn(entry, n);
	if (!entry[n] || hostname_check(name, NULL) < 0)
		return invalid(err, "must be written NAME:ADDRESS");
	return strcmp(entry + n + 1, "host-gateway") == 0 ? 0 : address_check(entry + n + 1, err);
}

int exposed_check(const char *entry, struct error *err) {
	struct port p;
	fields_init(&port_table, &p);
	int r = strchr(entry, ':') ? -EINVAL : port_parse(entry, &p, NULL);
	if (r == 0)
		r = fields_validate(&port_table, &p, NULL);
	fields_free(&port_table, &p);
	return r == 0 ? 0 : invalid(err, "must be written PORT[-END][/PROTOCOL]");
}

int link_check(const char *entry, struct error *err) {
	size_t n = strcspn(entry, ":");
	_cleanup_(free_ptr) char *name = str_copyn(entry, n);
	if (!entry[n] || instance_name_check(name, NULL) < 0 || instance_name_check(entry + n + 1, NULL) < 0)
		return invalid(err, "must be written INSTANCE:ALIAS");
	return 0;
}

int dns_search_check(const char *name, struct error *err) {
	return strcmp(name, ".") == 0 ? 0 : hostname_check(name, err);
}

int mount_option_check(const char *option, struct error *err) {
	static const char *const options[] = {"suid",	       "nosuid",     "dev",	"nodev",    "exec",
					      "noexec",	       "atime",	     "noatime", "diratime", "nodiratime",
					      "relatime",      "norelatime", "sync",	"async",    "strictatime",
					      "nostrictatime", "nosymfollow", "nocopy"};
	for (size_t i = 0; i < ARRAY_SIZE(options); i++)
		if (strcmp(options[i], option) == 0)
			return 0;
	_cleanup_(free_ptr) char *shown = text_shown(option);
	return error_set(err, ERROR_INVALID, "there is no mount option \"%s\"", shown);
}

int octal_mode_check(const char *mode, struct error *err) {
	uint64_t v;
	if (!only(mode, "01234567") || str_to_u64(mode, 8, &v) < 0 || v > 07777)
		return invalid(err, "must be an octal mode such as 1777");
	return 0;
}

int restart_validate(const void *object, struct error *err) {
	const struct restart_policy *p = object;
	if (p->max_retries && !is(p->policy, "on-failure"))
		return error_field(err, "max_retries", "goes with the policy on-failure alone");
	return 0;
}

int health_validate(const void *object, struct error *err) {
	const struct health_check *h = object;
	size_t n = strv_len(h->command);
	if (!n)
		return 0;
	const char *kind = h->command[0];
	if ((strcmp(kind, "NONE") == 0 && n == 1) || (strcmp(kind, "CMD-SHELL") == 0 && n == 2) ||
	    (strcmp(kind, "CMD") == 0 && n > 1))
		return 0;
	return error_field(err, "command", "must be [\"CMD\", argument…], [\"CMD-SHELL\", text] or [\"NONE\"]");
}

int ulimit_validate(const void *object, struct error *err) {
	const struct ulimit *u = object;
	if (u->hard != -1 && (u->soft == -1 || u->soft > u->hard))
		return error_field(err, "soft", "must not be above the hard limit");
	return 0;
}

int mount_validate(const void *object, struct error *err) {
	const struct mount *m = object;
	bool bind = is(m->type, "bind"), tmpfs = is(m->type, "tmpfs"), image = is(m->type, "image");
	if (bind && !m->source)
		return error_field(err, "source", "is required for a bind mount");
	if (tmpfs && m->source)
		return error_field(err, "source", "does not go with tmpfs");
	if (!tmpfs && (m->size || m->mode))
		return error_field(err, m->size ? "size" : "mode", "goes with tmpfs alone");
	if (!bind && m->propagation)
		return error_field(err, "propagation", "goes with bind alone");
	if (!tmpfs && (m->uid || m->gid || m->inodes))
		return error_field(err, m->inodes ? "inodes" : m->uid ? "uid" : "gid", "goes with tmpfs alone");
	if (m->create && !bind)
		return error_field(err, "create", "goes with bind alone");
	if (m->anonymous && !is(m->type, "volume"))
		return error_field(err, "anonymous", "goes with volume alone");
	if ((tmpfs || image) && m->subpath)
		return error_field(err, "subpath", "does not go with %s", m->type);
	if (image && !m->source)
		return error_field(err, "source", "is required for an image");
	int r = !m->source || image || strstr(m->source, "{{") ? 0 : bind ? path_check(m->source, err) : instance_name_check(m->source, err);
	if (r < 0)
		error_in_field(err, "source");
	return r;
}

/* A machine has its own kernel's mounts. */
static int image_mounts_validate(const struct instance_spec *s, struct error *err) {
	for (size_t i = 0; instance_is_machine(s) && i < s->mounts.n; i++)
		if (is(s->mounts.items[i].type, "image"))
			return error_field(err, "mounts", "images can be mounted in containers alone");
	return 0;
}

static int memory_validate(const struct limits *l, struct error *err) {
	if (l->memory && l->memory < MEMORY_MIN)
		return error_field(err, "memory", "must be at least 6MiB");
	if (l->memory_swap > 0 && !l->memory)
		return error_field(err, "memory_swap", "needs a limit of memory too");
	if (l->memory_swap > 0 && l->memory_swap < l->memory)
		return error_field(err, "memory_swap", "is memory and swap together: must not be below memory");
	if (l->memory && l->memory_reservation > l->memory)
		return error_field(err, "memory_reservation", "must not be above memory");
	return 0;
}

int limits_validate(const void *object, struct error *err) {
	const struct limits *l = object;
	if (l->cpus && (l->cpu_quota || l->cpu_period))
		return error_field(err, "cpus", "excludes cpu_quota and cpu_period: they say the same");
	if (l->cpus && l->cpus < 10000000)
		return error_field(err, "cpus", "must be at least 0.01");
	if (l->cpu_shares == 1)
		return error_field(err, "cpu_shares", "must be at least 2");
	if (l->cpu_quota > 0 && l->cpu_quota < 1000)
		return error_field(err, "cpu_quota", "must be at least 1000");
	if (l->cpu_period && l->cpu_period < 1000)
		return error_field(err, "cpu_period", "must be at least 1000");
	if (l->io_weight && l->io_weight < 10)
		return error_field(err, "io_weight", "must be at least 10");
	return memory_validate(l, err);
}

int log_validate(const void *object, struct error *err) {
	const struct log_config *l = object;
	if (l->max_size && l->max_size < LOG_FILE_MIN)
		return error_field(err, "max_size", "must be at least 4KiB, or 0: without end");
	return 0;
}

/* Whether two absolute paths are the same but for doubled and trailing slashes. */
static bool same_path(const char *a, const char *b) {
	struct str x = str_view(a), y = str_view(b);
	for (;;) {
		struct str p = {0}, q = {0};
		while (x.len && (!p.len || str_is(p, ".")))
			p = str_cut(&x, '/');
		while (y.len && (!q.len || str_is(q, ".")))
			q = str_cut(&y, '/');
		if (str_is(p, "."))
			p.len = 0;
		if (str_is(q, "."))
			q.len = 0;
		if (p.len != q.len || (p.len && memcmp(p.p, q.p, p.len) != 0))
			return false;
		if (!p.len)
			return true;
	}
}

static int mounts_validate(const struct instance_spec *s, struct error *err) {
	for (size_t i = 0; i < s->mounts.n; i++)
		for (size_t k = 0; k < i; k++)
			if (same_path(s->mounts.items[i].target, s->mounts.items[k].target)) {
				_cleanup_(free_ptr) char *field = str_format("mounts[%zu].target", i);
				return error_field(err, field, "%s is mounted twice", s->mounts.items[i].target);
			}
	return 0;
}

static int ulimits_validate(const struct instance_spec *s, struct error *err) {
	for (size_t i = 0; i < s->ulimits.n; i++)
		for (size_t k = 0; k < i; k++)
			if (strcmp(s->ulimits.items[i].name, s->ulimits.items[k].name) == 0)
				return error_field(err, "ulimits", "%s is given twice", s->ulimits.items[i].name);
	return 0;
}

/* Parameters can be set in name spaces of the instance's own alone. */
static int sysctls_validate(const struct instance_spec *s, struct error *err) {
	for (size_t i = 0; i < s->sysctls.n; i++) {
		const char *key = s->sysctls.items[i].key;
		bool ipc = is_ipc_sysctl(key);
		if (is(ipc ? s->ipc_mode : s->network, "host"))
			return error_field(err, "sysctls", "%s cannot be set while %s is host", key,
					   ipc ? "ipc_mode" : "network");
		if (text_check(s->sysctls.items[i].value, NULL) < 0)
			return error_field(err, "sysctls", "%s has control characters in its value", key);
	}
	return 0;
}

/* Networks and ports are for an instance with a network name space of its own. */
static int networks_validate(const struct instance_spec *s, struct error *err) {
	if (is(s->network, "private"))
		return 0;
	if (s->networks.n)
		return error_field(err, "networks", "cannot be given while network is %s", s->network);
	if (s->ports.n || s->publish_all)
		return error_field(err, "ports", "cannot be published while network is %s", s->network);
	return 0;
}

bool instance_is_machine(const struct instance_spec *s) {
	return is(s->kind, "machine");
}

bool instance_is_blank(const struct instance_spec *s) {
	return instance_is_machine(s) && is(s->image, "scratch");
}

/* Nodes that all say their memory are the machine's. */
static int numa_validate(const struct instance_spec *s, struct error *err) {
	int64_t sum = 0, all = machine_numa_memory(&s->machine), memory = s->limits.memory;
	for (size_t i = 0; i < s->machine.numa.n; i++)
		sum += s->machine.numa.items[i].memory;
	if (!memory || (all ? sum == memory >> 20 << 20 : sum < memory))
		return 0;
	return error_field(err, "machine.numa", "the nodes have %lld MiB of memory together, and the machine %lld: leave one of the two out, or give "
			   "the nodes none", (long long)(sum >> 20), (long long)(memory >> 20));
}

/* What only one of the kinds has. */
static int kind_validate(const struct instance_spec *s, struct error *err) {
	static const struct machine_spec none;
	if (!instance_is_machine(s)) {
		if (!fields_equal(&machine_spec_table, &s->machine, &none))
			return error_field(err, "machine", "is for instances of kind machine (--vm)");
		return 0;
	}
	const struct {
		const char *field;
		bool given;
	} refused[] = {
		{"privileged", s->privileged}, {"userns", is(s->userns, "host")}, {"pid_mode", is(s->pid_mode, "host")},
		{"ipc_mode", is(s->ipc_mode, "host")}, {"uts_mode", is(s->uts_mode, "host")}, {"devices", s->devices.n},
		{"cap_add", s->cap_add && *s->cap_add}, {"sysctls", s->sysctls.n}, {"seccomp", s->seccomp && !is(s->seccomp, "default")},
		{"network", s->network && !is(s->network, "private") && !is(s->network, "none")},
	};
	for (size_t i = 0; i < ARRAY_SIZE(refused); i++)
		if (refused[i].given)
			return error_field(err, refused[i].field, "has no meaning for a machine, which has a kernel of its own");
	return numa_validate(s, err);
}

int instance_spec_validate(const void *object, struct error *err) {
	const struct instance_spec *s = object;
	if (s->hostname && is(s->uts_mode, "host"))
		return error_field(err, "hostname", "cannot be set while uts_mode is host");
	if (s->auto_remove && s->restart.policy && !is(s->restart.policy, "no"))
		return error_field(err, "auto_remove", "excludes a restart policy");
	int r = kind_validate(s, err);
	if (r == 0)
		r = mounts_validate(s, err);
	if (r == 0)
		r = networks_validate(s, err);
	if (r == 0)
		r = image_mounts_validate(s, err);
	if (r == 0)
		r = ulimits_validate(s, err);
	return r == 0 ? sysctls_validate(s, err) : r;
}
