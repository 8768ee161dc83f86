/* Limits and figures where the controllers sit in hierarchies of their own (cgroup v1). */
#include "driver/container/cgroup-priv.h"

#include "base/fs.h"
#include "base/str.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#define BIT(h) (1U << (h))

/* Only these cost time at each start: those that figures come from, and those that a limit asks for. A
 * process that has no group of its own in a hierarchy stays where its starter is. */
unsigned cgroup_v1_needs(const struct cgroup_limits *l, bool devices) {
	unsigned bits = BIT(CGROUP_CPU) | BIT(CGROUP_CPUACCT) | BIT(CGROUP_MEMORY) | BIT(CGROUP_PIDS) | BIT(CGROUP_IO) |
			BIT(CGROUP_SYSTEMD) | BIT(CGROUP_UNIFIED);
	if (devices)
		bits |= BIT(CGROUP_DEVICES);
	if (l->cpus || l->mems)
		bits |= BIT(CGROUP_CPUSET);
	if (l->n_hugepages)
		bits |= BIT(CGROUP_HUGETLB);
	if (!cgroup_host()->mount[CGROUP_UNIFIED])
		bits |= BIT(CGROUP_FREEZER);
	return bits;
}

/* The directory of the hierarchy, or an error that names what cannot be limited without it. */
static int need(struct cgroup_dirs *d, enum cgroup_hierarchy h, const char *what, struct error *err) {
	if (cgroup_dir(d, h) >= 0)
		return 0;
	_cleanup_(free_ptr) char *needs = str_format("the controller “%s”", cgroup_hierarchy_name(h));
	return cgroup_unsupported(err, what, needs);
}

static int plan_memory(const struct cgroup_limits *l, struct cgroup_dirs *d, struct cgroup_values *out,
		       struct error *err) {
	if (!l->memory && !l->memory_swap && !l->memory_reservation && !l->has_swappiness && !l->oom_kill_disable)
		return 0;
	int dir = cgroup_dir(d, CGROUP_MEMORY), r = need(d, CGROUP_MEMORY, "a memory limit", err);
	if (r < 0)
		return r;
	if (l->memory > 0 && l->memory_swap > 0 && l->memory_swap < l->memory)
		return error_field(err, "memory_swap", "memory and swap together cannot be less than memory alone");
	if (l->memory)
		cgroup_values_add(out, dir, "memory.limit_in_bytes", "%" PRId64, l->memory);
	if (l->memory_swap && cgroup_has(dir, "memory.memsw.limit_in_bytes"))
		cgroup_values_add(out, dir, "memory.memsw.limit_in_bytes", "%" PRId64, l->memory_swap);
	else if (l->memory_swap > 0)
		return cgroup_unsupported(err, "a limit of swap space", "swap accounting (boot with swapaccount=1)");
	if (l->memory_reservation)
		cgroup_values_add(out, dir, "memory.soft_limit_in_bytes", "%" PRId64, l->memory_reservation);
	if (l->has_swappiness)
		cgroup_values_add(out, dir, "memory.swappiness", "%" PRId64, l->memory_swappiness);
	if (l->oom_kill_disable)
		cgroup_values_add(out, dir, "memory.oom_control", "1");
	return 0;
}

static int plan_cpu(const struct cgroup_limits *l, struct cgroup_dirs *d, struct cgroup_values *out,
		    struct error *err) {
	if (!l->cpu_shares && !l->cpu_period && !l->cpu_quota && !l->cpu_burst && !l->cpu_idle && !l->realtime_period &&
	    !l->realtime_runtime)
		return 0;
	int dir = cgroup_dir(d, CGROUP_CPU), r = need(d, CGROUP_CPU, "a processor limit", err);
	if (r < 0)
		return r;
	if (l->cpu_shares)
		cgroup_values_add(out, dir, "cpu.shares", "%" PRIu64, l->cpu_shares);
	if (l->cpu_period)
		cgroup_values_add(out, dir, "cpu.cfs_period_us", "%" PRIu64, l->cpu_period);
	if (l->cpu_quota)
		cgroup_values_add(out, dir, "cpu.cfs_quota_us", "%" PRId64, l->cpu_quota);
	if (l->cpu_burst)
		cgroup_values_add(out, dir, "cpu.cfs_burst_us", "%" PRId64, l->cpu_burst);
	if (l->cpu_idle)
		cgroup_values_add(out, dir, "cpu.idle", "%" PRIu64, l->cpu_idle);
	if (l->realtime_period)
		cgroup_values_add(out, dir, "cpu.rt_period_us", "%" PRIu64, l->realtime_period);
	if (l->realtime_runtime)
		cgroup_values_add(out, dir, "cpu.rt_runtime_us", "%" PRId64, l->realtime_runtime);
	return 0;
}

static int plan_cpuset(const struct cgroup_limits *l, struct cgroup_dirs *d, struct cgroup_values *out,
		       struct error *err) {
	if (!l->cpus && !l->mems)
		return 0;
	int r = need(d, CGROUP_CPUSET, "a choice of processors", err);
	if (r < 0)
		return r;
	if (l->cpus)
		cgroup_values_add(out, cgroup_dir(d, CGROUP_CPUSET), "cpuset.cpus", "%s", l->cpus);
	if (l->mems)
		cgroup_values_add(out, cgroup_dir(d, CGROUP_CPUSET), "cpuset.mems", "%s", l->mems);
	return 0;
}

static int plan_weights(const struct cgroup_limits *l, int dir, struct cgroup_values *out, struct error *err) {
	bool bfq = cgroup_has(dir, "blkio.bfq.weight") || cgroup_has(dir, "blkio.bfq.weight_device");
	const char *file = bfq ? "blkio.bfq.weight" : "blkio.weight";
	const char *single = bfq ? "blkio.bfq.weight_device" : "blkio.weight_device";
	if ((l->io_weight && !cgroup_has(dir, file)) || (l->n_weights && !cgroup_has(dir, single)))
		return cgroup_unsupported(err, "an I/O weight", "a scheduler with weights (bfq)");
	if (l->io_weight)
		cgroup_values_add(out, dir, file, "%" PRIu64, l->io_weight);
	for (size_t i = 0; i < l->n_weights; i++)
		cgroup_values_add(out, dir, single, "%" PRId64 ":%" PRId64 " %" PRIu64, l->weights[i].major, l->weights[i].minor,
				  l->weights[i].rate);
	return 0;
}

static void plan_throttle(int dir, const char *file, const struct cgroup_throttle *t, size_t n, struct cgroup_values *out) {
	for (size_t i = 0; i < n; i++)
		cgroup_values_add(out, dir, file, "%" PRId64 ":%" PRId64 " %" PRIu64, t[i].major, t[i].minor, t[i].rate);
}

static int plan_io(const struct cgroup_limits *l, struct cgroup_dirs *d, struct cgroup_values *out,
		   struct error *err) {
	if (!l->io_weight && !l->n_weights && !l->n_read_bps && !l->n_write_bps && !l->n_read_iops && !l->n_write_iops)
		return 0;
	int dir = cgroup_dir(d, CGROUP_IO), r = need(d, CGROUP_IO, "a limit of block I/O", err);
	if (r < 0)
		return r;
	r = plan_weights(l, dir, out, err);
	if (r < 0)
		return r;
	plan_throttle(dir, "blkio.throttle.read_bps_device", l->read_bps, l->n_read_bps, out);
	plan_throttle(dir, "blkio.throttle.write_bps_device", l->write_bps, l->n_write_bps, out);
	plan_throttle(dir, "blkio.throttle.read_iops_device", l->read_iops, l->n_read_iops, out);
	plan_throttle(dir, "blkio.throttle.write_iops_device", l->write_iops, l->n_write_iops, out);
	return 0;
}

static int plan_rest(const struct cgroup_limits *l, struct cgroup_dirs *d, struct cgroup_values *out,
		     struct error *err) {
	int r = l->pids ? need(d, CGROUP_PIDS, "a limit of processes", err) : 0;
	if (r < 0)
		return r;
	if (l->pids > 0)
		cgroup_values_add(out, cgroup_dir(d, CGROUP_PIDS), "pids.max", "%" PRId64, l->pids);
	else if (l->pids)
		cgroup_values_add(out, cgroup_dir(d, CGROUP_PIDS), "pids.max", "max");
	for (size_t i = 0; i < l->n_hugepages; i++) {
		r = need(d, CGROUP_HUGETLB, "a limit of huge pages", err);
		if (r < 0)
			return r;
		_cleanup_(free_ptr) char *file = str_format("hugetlb.%s.limit_in_bytes", l->hugepages[i].size);
		cgroup_values_add(out, cgroup_dir(d, CGROUP_HUGETLB), file, "%" PRIu64, l->hugepages[i].limit);
	}
	if (json_object_size(l->unified))
		return cgroup_unsupported(err, "limits given as files of cgroup v2", "their controllers in cgroup v2");
	return 0;
}

int cgroup_v1_plan(const struct cgroup_limits *l, struct cgroup_dirs *d, struct cgroup_values *out,
		   struct error *err) {
	int r = plan_memory(l, d, out, err);
	if (r == 0)
		r = plan_cpu(l, d, out, err);
	if (r == 0)
		r = plan_cpuset(l, d, out, err);
	if (r == 0)
		r = plan_io(l, d, out, err);
	return r == 0 ? plan_rest(l, d, out, err) : r;
}

/* Copies a value from a group to one below it that has none yet. */
static int inherit(int parent, int child, const char *file) {
	_cleanup_(buf_free) struct buf have = BUF_INIT, value = BUF_INIT;
	int r = fs_read_at(child, file, 65536, &have);
	if (r < 0 || have.len > 1)
		return r;
	r = fs_read_at(parent, file, 65536, &value);
	return r < 0 ? r : fs_write_value_at(child, file, buf_str(&value));
}

int cgroup_v1_init_cpuset(int root, const char *path, struct error *err) {
	_cleanup_(close_fd) int parent = openat(root, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct str rest = str_view(path);
	while (rest.len) {
		struct str part = str_cut(&rest, '/');
		_cleanup_(free_ptr) char *name = str_copyn(part.p, part.len);
		_cleanup_(close_fd) int child = openat(parent, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (child < 0)
			return error_errno(err, errno, "cannot open cpuset group %s", name);
		int r = inherit(parent, child, "cpuset.cpus");
		if (r == 0)
			r = inherit(parent, child, "cpuset.mems");
		if (r < 0)
			return error_errno(err, r, "cannot initialise cpuset group %s", path);
		int old = parent;
		parent = TAKE_FD(child);
		close(old);
	}
	return 0;
}

/* Sums "8:0 Read 4096" lines. */
static void sum_io(int dir, const char *file, uint64_t *reads, uint64_t *writes) {
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	if (dir < 0 || fs_read_at(dir, file, (size_t)1 << 20, &text) < 0)
		return;
	for (char *save = NULL, *line = strtok_r(text.data, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		uint64_t v;
		char kind[16];
		if (sscanf(line, "%*u:%*u %15s %" SCNu64, kind, &v) != 2)
			continue;
		if (strcmp(kind, "Read") == 0)
			*reads += v;
		else if (strcmp(kind, "Write") == 0)
			*writes += v;
	}
}

void cgroup_v1_stats(struct cgroup_dirs *d, struct cgroup_stats *out) {
	int cpu = cgroup_dir(d, CGROUP_CPU), acct = cgroup_dir(d, CGROUP_CPUACCT), mem = cgroup_dir(d, CGROUP_MEMORY), io = cgroup_dir(d, CGROUP_IO);
	*out = (struct cgroup_stats){
		.cpu_ns = cgroup_read_number(acct, "cpuacct.usage"),
		.cpu_user_ns = cgroup_read_number(acct, "cpuacct.usage_user"),
		.cpu_system_ns = cgroup_read_number(acct, "cpuacct.usage_sys"),
		.throttled_ns = cgroup_read_key(cpu, "cpu.stat", "throttled_time"),
		.throttled_periods = cgroup_read_key(cpu, "cpu.stat", "nr_throttled"),
		.periods = cgroup_read_key(cpu, "cpu.stat", "nr_periods"),
		.memory = cgroup_read_number(mem, "memory.usage_in_bytes"),
		.memory_max = cgroup_read_number(mem, "memory.max_usage_in_bytes"),
		.memory_limit = cgroup_read_number(mem, "memory.limit_in_bytes"),
		.memory_cache = cgroup_read_key(mem, "memory.stat", "total_inactive_file"),
		.memory_failures = cgroup_read_number(mem, "memory.failcnt"),
		.swap = cgroup_read_key(mem, "memory.stat", "total_swap"),
		.pids = cgroup_read_number(cgroup_dir(d, CGROUP_PIDS), "pids.current"),
		.pids_limit = cgroup_read_number(cgroup_dir(d, CGROUP_PIDS), "pids.max"),
	};
	sum_io(io, "blkio.throttle.io_service_bytes_recursive", &out->read_bytes, &out->write_bytes);
	sum_io(io, "blkio.throttle.io_serviced_recursive", &out->read_ops, &out->write_ops);
}
