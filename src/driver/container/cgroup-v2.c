/* Limits and figures in the unified hierarchy (cgroup v2). */
#include "driver/container/cgroup-priv.h"

#include "base/fs.h"
#include "base/str.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

/* The files that stand for a controller: where they are missing, the controller is. */
static int need(int dir, const char *file, const char *what, const char *controller, struct error *err) {
	if (cgroup_has(dir, file))
		return 0;
	_cleanup_(free_ptr) char *needs = str_format("the controller “%s” in cgroup v2", controller);
	return cgroup_unsupported(err, what, needs);
}

static void add_bytes(struct cgroup_values *out, int dir, const char *file, int64_t v) {
	if (v < 0)
		cgroup_values_add(out, dir, file, "max");
	else
		cgroup_values_add(out, dir, file, "%" PRId64, v);
}

/* OCI's swap counts memory and swap together, v2's swap alone. */
static int plan_swap(const struct cgroup_limits *l, int dir, struct cgroup_values *out, struct error *err) {
	if (!l->memory_swap)
		return 0;
	int64_t memory = l->memory;
	if (!memory) {
		uint64_t now = cgroup_read_number(dir, "memory.max");
		memory = now > INT64_MAX ? -1 : (int64_t)now;
	}
	if (l->memory_swap > 0 && memory < 0)
		return error_field(err, "memory_swap", "needs a memory limit beside it");
	if (l->memory_swap > 0 && l->memory_swap < memory)
		return error_field(err, "memory_swap", "memory and swap together cannot be less than memory alone");
	if (cgroup_has(dir, "memory.swap.max"))
		add_bytes(out, dir, "memory.swap.max", l->memory_swap < 0 ? -1 : l->memory_swap - memory);
	else if (l->memory_swap > 0)
		return cgroup_unsupported(err, "a limit of swap space", "swap accounting (boot with swapaccount=1)");
	return 0;
}

static int plan_memory(const struct cgroup_limits *l, int dir, struct cgroup_values *out, struct error *err) {
	if (l->has_swappiness)
		return cgroup_unsupported(err, "swappiness", "such a setting in cgroup v2");
	if (l->oom_kill_disable)
		return cgroup_unsupported(err, "turning the out-of-memory killer off", "such a setting in cgroup v2");
	if (!l->memory && !l->memory_swap && !l->memory_reservation)
		return 0;
	int r = need(dir, "memory.max", "a memory limit", "memory", err);
	if (r < 0)
		return r;
	if (l->memory)
		add_bytes(out, dir, "memory.max", l->memory);
	if (l->memory_reservation)
		add_bytes(out, dir, "memory.low", l->memory_reservation);
	return plan_swap(l, dir, out, err);
}

/* cpu.max holds quota and period; one that is not given stays as it is. */
static void plan_quota(const struct cgroup_limits *l, int dir, struct cgroup_values *out) {
	_cleanup_(buf_free) struct buf now = BUF_INIT;
	_cleanup_(free_ptr) char *quota = NULL;
	if (l->cpu_quota > 0)
		quota = str_format("%" PRId64, l->cpu_quota);
	else if (l->cpu_quota == 0 && fs_read_at(dir, "cpu.max", 256, &now) == 0 && now.len)
		quota = str_copyn(buf_str(&now), strcspn(buf_str(&now), " \n"));
	else
		quota = str_copy("max");
	if (l->cpu_period)
		cgroup_values_add(out, dir, "cpu.max", "%s %" PRIu64, quota, l->cpu_period);
	else
		cgroup_values_add(out, dir, "cpu.max", "%s", quota);
}

/* Shares of 2 … 262144 are spread evenly over weights of 1 … 10000. */
static uint64_t weight_of_shares(uint64_t shares) {
	shares = MIN(MAX(shares, (uint64_t)2), (uint64_t)262144);
	return 1 + (shares - 2) * 9999 / 262142;
}

static int plan_cpu(const struct cgroup_limits *l, int dir, struct cgroup_values *out, struct error *err) {
	if (l->realtime_period || l->realtime_runtime)
		return cgroup_unsupported(err, "realtime processor limits", "such a setting in cgroup v2");
	if (!l->cpu_shares && !l->cpu_period && !l->cpu_quota && !l->cpu_burst && !l->cpu_idle)
		return 0;
	int r = need(dir, "cpu.weight", "a processor limit", "cpu", err);
	if (r < 0)
		return r;
	if (l->cpu_shares)
		cgroup_values_add(out, dir, "cpu.weight", "%" PRIu64, weight_of_shares(l->cpu_shares));
	if (l->cpu_quota || l->cpu_period)
		plan_quota(l, dir, out);
	if (l->cpu_burst)
		cgroup_values_add(out, dir, "cpu.max.burst", "%" PRId64, l->cpu_burst);
	if (l->cpu_idle)
		cgroup_values_add(out, dir, "cpu.idle", "%" PRIu64, l->cpu_idle);
	return 0;
}

static int plan_cpuset(const struct cgroup_limits *l, int dir, struct cgroup_values *out, struct error *err) {
	if (!l->cpus && !l->mems)
		return 0;
	int r = need(dir, "cpuset.cpus", "a choice of processors", "cpuset", err);
	if (r < 0)
		return r;
	if (l->cpus)
		cgroup_values_add(out, dir, "cpuset.cpus", "%s", l->cpus);
	if (l->mems)
		cgroup_values_add(out, dir, "cpuset.mems", "%s", l->mems);
	return 0;
}

static void plan_throttle(int dir, const char *key, const struct cgroup_throttle *t, size_t n, struct cgroup_values *out) {
	for (size_t i = 0; i < n; i++) {
		if (t[i].rate)
			cgroup_values_add(out, dir, "io.max", "%" PRId64 ":%" PRId64 " %s=%" PRIu64, t[i].major, t[i].minor,
					  key, t[i].rate);
		else
			cgroup_values_add(out, dir, "io.max", "%" PRId64 ":%" PRId64 " %s=max", t[i].major, t[i].minor, key);
	}
}

/* io.weight goes from 1 to 10000. */
static uint64_t scaled(uint64_t weight, bool bfq) {
	return bfq ? weight : 1 + (MIN(MAX(weight, (uint64_t)10), (uint64_t)1000) - 10) * 9999 / 990;
}

static int plan_weights(const struct cgroup_limits *l, int dir, struct cgroup_values *out, struct error *err) {
	if (!l->io_weight && !l->n_weights)
		return 0;
	bool bfq = cgroup_has(dir, "io.bfq.weight");
	const char *file = bfq ? "io.bfq.weight" : "io.weight";
	int r = need(dir, file, "an I/O weight", "io", err);
	if (r < 0)
		return r;
	if (l->io_weight)
		cgroup_values_add(out, dir, file, "%" PRIu64, scaled(l->io_weight, bfq));
	for (size_t i = 0; i < l->n_weights; i++)
		cgroup_values_add(out, dir, file, "%" PRId64 ":%" PRId64 " %" PRIu64, l->weights[i].major, l->weights[i].minor,
				  scaled(l->weights[i].rate, bfq));
	return 0;
}

static int plan_io(const struct cgroup_limits *l, int dir, struct cgroup_values *out, struct error *err) {
	int r = plan_weights(l, dir, out, err);
	if (r < 0 || (!l->n_read_bps && !l->n_write_bps && !l->n_read_iops && !l->n_write_iops))
		return r;
	r = need(dir, "io.max", "a limit of block I/O", "io", err);
	if (r < 0)
		return r;
	plan_throttle(dir, "rbps", l->read_bps, l->n_read_bps, out);
	plan_throttle(dir, "wbps", l->write_bps, l->n_write_bps, out);
	plan_throttle(dir, "riops", l->read_iops, l->n_read_iops, out);
	plan_throttle(dir, "wiops", l->write_iops, l->n_write_iops, out);
	return 0;
}

static int plan_rest(const struct cgroup_limits *l, int dir, struct cgroup_values *out, struct error *err) {
	int r = l->pids ? need(dir, "pids.max", "a limit of processes", "pids", err) : 0;
	if (r < 0)
		return r;
	if (l->pids)
		add_bytes(out, dir, "pids.max", l->pids);
	for (size_t i = 0; i < l->n_hugepages; i++) {
		_cleanup_(free_ptr) char *file = str_format("hugetlb.%s.max", l->hugepages[i].size);
		r = need(dir, file, "a limit of huge pages", "hugetlb", err);
		if (r < 0)
			return r;
		cgroup_values_add(out, dir, file, "%" PRIu64, l->hugepages[i].limit);
	}
	const char *file;
	json_t *value;
	json_object_foreach(l->unified, file, value) {
		if (strchr(file, '/') || !strchr(file, '.') || !json_is_string(value))
			return error_field(err, "unified", "“%s” is not a file of a control group", file);
		cgroup_values_add(out, dir, file, "%s", json_string_value(value));
	}
	return 0;
}

int cgroup_v2_plan(const struct cgroup_limits *l, int dir, struct cgroup_values *out, struct error *err) {
	int r = plan_memory(l, dir, out, err);
	if (r == 0)
		r = plan_cpu(l, dir, out, err);
	if (r == 0)
		r = plan_cpuset(l, dir, out, err);
	if (r == 0)
		r = plan_io(l, dir, out, err);
	return r == 0 ? plan_rest(l, dir, out, err) : r;
}

static char **read_words(int dir, const char *file) {
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	if (fs_read_at(dir, file, 4096, &text) < 0)
		return NULL;
	buf_truncate(&text, strcspn(buf_str(&text), "\n"));
	return text.len ? strv_split(buf_str(&text), ' ') : NULL;
}

/* Turns the wanted ones on for the children of dir, each alone so that one that cannot be (cpu while there
 * are realtime processes) keeps no other off. What a limit needs and is not there is found out later. */
static void enable_children(int dir, char *const *wanted) {
	_cleanup_(strv_free_ptr) char **on = read_words(dir, "cgroup.subtree_control");
	for (size_t i = 0; wanted[i]; i++) {
		if (strv_has(on, wanted[i]))
			continue;
		_cleanup_(free_ptr) char *value = str_format("+%s", wanted[i]);
		fs_write_value_at(dir, "cgroup.subtree_control", value);
	}
}

int cgroup_v2_enable(int root, const char *path, struct error *err) {
	_cleanup_(strv_free_ptr) char **wanted = read_words(root, "cgroup.controllers");
	_cleanup_(close_fd) int leaf = openat(root, path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (leaf < 0)
		return error_errno(err, errno, "cannot open control group %s", path);
	_cleanup_(strv_free_ptr) char **have = read_words(leaf, "cgroup.controllers");
	if (strv_len(wanted) == strv_len(have))
		return 0;
	_cleanup_(close_fd) int dir = openat(root, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	for (struct str rest = str_view(path); rest.len;) {
		enable_children(dir, wanted);
		struct str part = str_cut(&rest, '/');
		_cleanup_(free_ptr) char *name = str_copyn(part.p, part.len);
		int next = openat(dir, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (next < 0)
			return error_errno(err, errno, "cannot open control group %s", path);
		close(dir);
		dir = next;
	}
	return 0;
}

/* Adds up the values of "8:0 rbytes=1 wbytes=2 rios=3 …" lines. */
static void sum_io(int dir, struct cgroup_stats *out) {
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	if (fs_read_at(dir, "io.stat", (size_t)1 << 20, &text) < 0 || !text.len)
		return;
	for (char *save = NULL, *word = strtok_r(text.data, " \n", &save); word; word = strtok_r(NULL, " \n", &save)) {
		uint64_t v;
		if (sscanf(word, "rbytes=%" SCNu64, &v) == 1)
			out->read_bytes += v;
		else if (sscanf(word, "wbytes=%" SCNu64, &v) == 1)
			out->write_bytes += v;
		else if (sscanf(word, "rios=%" SCNu64, &v) == 1)
			out->read_ops += v;
		else if (sscanf(word, "wios=%" SCNu64, &v) == 1)
			out->write_ops += v;
	}
}

void cgroup_v2_stats(int dir, struct cgroup_stats *out) {
	*out = (struct cgroup_stats){
		.cpu_ns = 1000 * cgroup_read_key(dir, "cpu.stat", "usage_usec"),
		.cpu_user_ns = 1000 * cgroup_read_key(dir, "cpu.stat", "user_usec"),
		.cpu_system_ns = 1000 * cgroup_read_key(dir, "cpu.stat", "system_usec"),
		.throttled_ns = 1000 * cgroup_read_key(dir, "cpu.stat", "throttled_usec"),
		.throttled_periods = cgroup_read_key(dir, "cpu.stat", "nr_throttled"),
		.periods = cgroup_read_key(dir, "cpu.stat", "nr_periods"),
		.memory = cgroup_read_number(dir, "memory.current"),
		.memory_max = cgroup_read_number(dir, "memory.peak"),
		.memory_limit = cgroup_read_number(dir, "memory.max"),
		.memory_cache = cgroup_read_key(dir, "memory.stat", "inactive_file"),
		.memory_failures = cgroup_read_key(dir, "memory.events", "max"),
		.swap = cgroup_read_number(dir, "memory.swap.current"),
		.pids = cgroup_read_number(dir, "pids.current"),
		.pids_limit = cgroup_read_number(dir, "pids.max"),
	};
	sum_io(dir, out);
}
