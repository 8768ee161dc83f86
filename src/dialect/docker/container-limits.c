/* From Docker's resources to the limits of a spec, with dockerd's own bounds and words. */
#include "dialect/docker/containers.h"

#include <unistd.h>

#define MIB INT64_C(1048576)
#define SHARES_MIN 2
#define SHARES_MAX 262144

static int bad(struct error *err, const char *text) {
	return error_set(err, ERROR_INVALID, "%s", text);
}

/* ---- what cannot be honoured ---- */

static int refuse_unknown(const struct docker_resources *r, struct error *err) {
	const struct {
		const char *name, *why;
		bool given;
	} all[] = {
		{"CgroupParent", "wabe keeps its containers in control groups of its own", r->cgroup_parent && *r->cgroup_parent},
		{"CpuRealtimePeriod", "real-time scheduling is not divided among containers", r->cpu_rt_period},
		{"CpuRealtimeRuntime", "real-time scheduling is not divided among containers", r->cpu_rt_runtime},
		{"KernelMemory", "the kernel has no such limit any more: Memory counts its memory too", r->kernel_memory > 0},
		{"KernelMemoryTCP", "the kernel has no such limit any more: Memory counts its memory too", r->kernel_memory_tcp > 0},
		{"CpuCount", "is for Windows", r->cpu_count},
		{"CpuPercent", "is for Windows", r->cpu_percent},
		{"IOMaximumIOps", "is for Windows", r->io_max_ops},
		{"IOMaximumBandwidth", "is for Windows", r->io_max_bandwidth},
	};
	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		if (all[i].given)
			return error_set(err, ERROR_INVALID, "HostConfig.%s: %s", all[i].name, all[i].why);
	return 0;
}

/* As dockerd says it where no driver for them is there. */
static int refuse_device_requests(const struct docker_resources *r, struct error *err) {
	if (!r->device_requests.n)
		return 0;
	const struct docker_device_request *d = &r->device_requests.items[0];
	_cleanup_(buf_free) struct buf caps = BUF_INIT;
	const json_t *set, *one;
	size_t i, k;
	json_array_foreach(d->capabilities, i, set) {
		buf_adds(&caps, i ? " [" : "[");
		json_array_foreach(set, k, one)
			buf_addf(&caps, "%s%s", k ? " " : "", json_is_string(one) ? json_string_value(one) : "");
		buf_addc(&caps, ']');
	}
	return error_set(err, ERROR_INVALID, "could not select device driver \"%s\" with capabilities: [%s]",
			 d->driver ? d->driver : "", buf_str(&caps));
}

/* ---- memory ---- */

static void warn(json_t *warnings, const char *text) {
	json_array_append_new(warnings, json_string(text));
}

static bool can_limit_swap(struct core *c) {
	_cleanup_(json_free_ptr) json_t *info = core_info(c);
	return json_get_bool(json_object_get(info, "agent"), "swap_limit");
}

static int check_memory(const struct docker_resources *r, struct error *err) {
	if (r->memory < 0 || (r->memory > 0 && r->memory < 6 * MIB))
		return bad(err, "Minimum memory limit allowed is 6MB");
	if (r->memory > 0 && r->memory_swap > 0 && r->memory_swap < r->memory)
		return bad(err, "Minimum memoryswap limit should be larger than memory limit, see usage");
	if (r->memory == 0 && r->memory_swap > 0)
		return bad(err, "You should always set the Memory limit when using Memoryswap limit, see usage");
	if (r->swappiness < -1 || r->swappiness > 100)
		return error_set(err, ERROR_INVALID, "Invalid value: %lld, valid memory swappiness range is 0-100",
				 (long long)r->swappiness);
	if (r->memory_reservation < 0 || (r->memory_reservation > 0 && r->memory_reservation < 6 * MIB))
		return bad(err, "Minimum memory reservation allowed is 6MB");
	if (r->memory > 0 && r->memory_reservation > 0 && r->memory < r->memory_reservation)
		return bad(err, "Minimum memory limit can not be less than memory reservation limit, see usage");
	return 0;
}

static int take_memory(struct core *c, const struct docker_resources *r, struct limits *l, json_t *warnings,
		       struct error *err) {
	int result = check_memory(r, err);
	if (result < 0)
		return result;
	l->memory = r->memory;
	l->memory_reservation = r->memory_reservation;
	l->memory_swap = r->memory_swap < 0 ? -1 : r->memory_swap;
	if (r->swappiness != SWAPPINESS_NONE)
		warn(warnings, "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. "
			       "Memory swappiness discarded.");
	if (r->oom_kill_disable)
		warn(warnings, "Your kernel does not support OomKillDisable. OomKillDisable discarded.");
	if (l->memory_swap && !can_limit_swap(c)) {
		warn(warnings, "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory "
			       "limited without swap.");
		l->memory_swap = 0;
	}
	return 0;
}

/* ---- CPU ---- */

static int check_cpu(const struct docker_resources *r, struct error *err) {
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	if (r->nano_cpus && r->cpu_period)
		return bad(err, "Conflicting options: Nano CPUs and CPU Period cannot both be set");
	if (r->nano_cpus && r->cpu_quota)
		return bad(err, "Conflicting options: Nano CPUs and CPU Quota cannot both be set");
	if (r->nano_cpus && (r->nano_cpus < 10000000 || r->nano_cpus > cpus * 1000000000))
		return error_set(err, ERROR_INVALID,
				 "Range of CPUs is from 0.01 to %ld.00, as there are only %ld CPUs available", cpus, cpus);
	if (r->cpu_period && (r->cpu_period < 1000 || r->cpu_period > 1000000))
		return bad(err, "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)");
	if (r->cpu_quota > 0 && r->cpu_quota < 1000)
		return bad(err, "CPU cfs quota can not be less than 1ms (i.e. 1000)");
	if (r->cpu_shares < 0)
		return error_set(err, ERROR_INVALID, "invalid CPU shares (%lld): value must be a positive integer",
				 (long long)r->cpu_shares);
	return 0;
}

static char *text_or_null(const char *s) {
	return s && *s ? str_copy(s) : NULL;
}

#define CPUSET_MAX 8192

/* Marks what a list such as "0-3,7" names. -EINVAL: it is none. */
static int cpuset_parse(const char *list, bool set[CPUSET_MAX]) {
	_cleanup_(strv_free_ptr) char **parts = strv_split(list, ',');
	for (char **p = parts; *p; p++) {
		char *dash = strchr(*p, '-');
		uint64_t first, last;
		if (dash)
			*dash = '\0';
		if (str_to_u64(*p, 10, &first) < 0 || str_to_u64(dash ? dash + 1 : *p, 10, &last) < 0 || first > last ||
		    last >= CPUSET_MAX)
			return -EINVAL;
		for (; first <= last; first++)
			set[first] = true;
	}
	return 0;
}

static bool is_within(const bool wanted[CPUSET_MAX], const char *available) {
	bool there[CPUSET_MAX] = {false};
	if (!available || !*available || cpuset_parse(available, there) < 0)
		return true; /* the agent finds out */
	for (size_t i = 0; i < CPUSET_MAX; i++)
		if (wanted[i] && !there[i])
			return false;
	return true;
}

/* cpus, or mems: what the host has is a list of the agent's. */
static int take_cpuset(struct core *c, const char *given, bool cpus, char **to, struct error *err) {
	bool wanted[CPUSET_MAX] = {false};
	_cleanup_(free_ptr) char *shown = text_shown(given ? given : "");
	if (given && *given && cpuset_parse(given, wanted) < 0)
		return error_set(err, ERROR_INVALID, "Invalid value %s for cpuset %s", shown, cpus ? "cpus" : "mems");
	_cleanup_(json_free_ptr) json_t *info = given && *given ? core_info(c) : NULL;
	const char *available = json_get_str(json_object_get(info, "agent"), cpus ? "cpu_list" : "node_list");
	if (!is_within(wanted, available))
		return error_set(err, ERROR_INVALID, "Requested %s are not available - requested %s, available: %s",
				 cpus ? "CPUs" : "memory nodes", shown, available);
	free(*to);
	*to = text_or_null(given);
	return 0;
}

static int take_cpu(struct core *c, const struct docker_resources *r, struct limits *l, struct error *err) {
	int result = check_cpu(r, err);
	if (result < 0)
		return result;
	l->cpus = r->nano_cpus;
	l->cpu_period = r->cpu_period;
	l->cpu_quota = r->cpu_quota < 0 ? -1 : r->cpu_quota;
	l->cpu_shares = r->cpu_shares ? MIN(MAX(r->cpu_shares, SHARES_MIN), SHARES_MAX) : 0; /* as the kernel does */
	result = take_cpuset(c, r->cpuset_cpus, true, &l->cpuset_cpus, err);
	return result < 0 ? result : take_cpuset(c, r->cpuset_mems, false, &l->cpuset_mems, err);
}

/* ---- block devices ---- */

static void take_throttles(const void *from, io_throttles *to) {
	const FIELD_LIST_OF(struct docker_throttle) *list = from;
	to->items = list->n ? alloc_array(list->n, sizeof *to->items) : NULL;
	for (; to->n < list->n; to->n++)
		to->items[to->n] = (struct io_throttle){str_copy(list->items[to->n].path), list->items[to->n].rate};
}

static int take_weights(const struct docker_resources *r, struct limits *l, struct error *err) {
	l->io_weights.items = r->weights.n ? alloc_array(r->weights.n, sizeof *l->io_weights.items) : NULL;
	for (size_t i = 0; i < r->weights.n; i++) {
		const struct docker_weight *w = &r->weights.items[i];
		if (w->weight < 10 || w->weight > 1000)
			return bad(err, "Range of blkio weight is from 10 to 1000");
		l->io_weights.items[l->io_weights.n++] = (struct io_weight){str_copy(w->path), w->weight};
	}
	return 0;
}

static int take_io(const struct docker_resources *r, struct limits *l, struct error *err) {
	if (r->io_weight && (r->io_weight < 10 || r->io_weight > 1000))
		return bad(err, "Range of blkio weight is from 10 to 1000");
	l->io_weight = r->io_weight;
	take_throttles(&r->read_bps, &l->io_read_bps);
	take_throttles(&r->write_bps, &l->io_write_bps);
	take_throttles(&r->read_iops, &l->io_read_iops);
	take_throttles(&r->write_iops, &l->io_write_iops);
	return take_weights(r, l, err);
}

int docker_limits(struct core *c, const struct docker_resources *r, struct limits *l, json_t *warnings,
		  struct error *err) {
	int result = refuse_unknown(r, err);
	if (result == 0)
		result = refuse_device_requests(r, err);
	if (result == 0)
		result = take_memory(c, r, l, warnings, err);
	if (result == 0)
		result = take_cpu(c, r, l, err);
	if (result == 0)
		result = take_io(r, l, err);
	if (result == 0)
		l->pids = MAX(r->pids, 0); /* 0 and what is below are without a limit */
	return result;
}

int docker_restart_policy(const struct docker_restart *from, struct restart_policy *to, struct error *err) {
	static const char *const names[] = {"no", "always", "unless-stopped", "on-failure"};
	const char *name = from->name && *from->name ? from->name : "no";
	bool known = false;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		known |= str_same(name, names[i]);
	if (!known) {
		_cleanup_(free_ptr) char *shown = text_shown(name);
		return error_set(err, ERROR_INVALID, "invalid restart policy '%s'", shown);
	}
	if (from->max_retries < 0)
		return bad(err, "maximum retry count cannot be negative");
	if (from->max_retries && !str_same(name, "on-failure"))
		return error_set(err, ERROR_INVALID, "maximum retry count cannot be used with restart policy '%s'", name);
	free(to->policy);
	*to = (struct restart_policy){str_copy(name), from->max_retries};
	return 0;
}
