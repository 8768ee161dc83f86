/* What an instance uses, and its processes. Reads alone. */
#include "agent/machine-priv.h"

#include "base/fs.h"
#include "base/str.h"
#include "base/time.h"
#include "driver/container/processes.h"

#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static bool load_running(const struct job *j, struct run_state *run) {
	return run_load(j->agent, j->id, run, NULL) == 0 && run->created;
}

/* CPU time of the whole host: the first line of /proc/stat, in ticks. */
static int64_t system_cpu_ns(void) {
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	if (fs_read("/proc/stat", 1 << 20, &text) < 0)
		return 0;
	struct str all = {buf_str(&text), text.len};
	struct str line = str_cut(&all, '\n');
	_cleanup_(free_ptr) char *copy = str_copyn(line.p, line.len);
	unsigned long long v[8] = {0}, sum = 0;
	sscanf(copy, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &v[0], &v[1], &v[2], &v[3], &v[4], &v[5], &v[6],
	       &v[7]);
	for (size_t i = 0; i < ARRAY_SIZE(v); i++)
		sum += v[i];
	return (int64_t)sum * (NS_PER_SEC / sysconf(_SC_CLK_TCK));
}

/* "No limit" is a huge number in some files of the kernel. */
static int64_t limit_of(uint64_t value, int64_t most) {
	return value > (uint64_t)most ? most : (int64_t)value;
}

/* A line of /proc/PID/net/dev; false for what is none, and for lo. */
static bool read_counters(struct str line, struct nic_counters *out) {
	_cleanup_(free_ptr) char *text = str_copyn(line.p, line.len);
	char name[65];
	long long v[16];
	*out = (struct nic_counters){0};
	char *colon = strchr(text, ':');
	if (!colon)
		return false;
	*colon = '\0';
	if (sscanf(text, "%64s", name) != 1 || str_same(name, "lo") ||
	    sscanf(colon + 1, "%lld %lld %lld %lld %lld %lld %lld %lld %lld %lld %lld %lld", &v[0], &v[1], &v[2], &v[3], &v[4],
		   &v[5], &v[6], &v[7], &v[8], &v[9], &v[10], &v[11]) != 12)
		return false;
	*out = (struct nic_counters){str_copy(name), v[0], v[1], v[2], v[3], v[8], v[9], v[10], v[11]};
	return true;
}

/* Those of the network name space of pid, unless that is ours. Beside each interface of a machine is its tap device, which has the
 * same packets once more. */
static void read_interfaces(pid_t pid, bool machine, struct msg_stats *out) {
	_cleanup_(free_ptr) char *space = str_format("/proc/%d/ns/net", pid), *path = str_format("/proc/%d/net/dev", pid);
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	struct stat own, its;
	if (stat("/proc/self/ns/net", &own) < 0 || stat(space, &its) < 0 || own.st_ino == its.st_ino ||
	    fs_read(path, 1 << 20, &text) < 0)
		return;
	struct str rest = {buf_str(&text), text.len};
	while (rest.len) {
		struct nic_counters one;
		if (!read_counters(str_cut(&rest, '\n'), &one))
			continue;
		if (machine && machine_is_tap(one.name)) {
			free(one.name);
			continue;
		}
		out->interfaces.items = alloc_resize(out->interfaces.items, out->interfaces.n + 1, sizeof one);
		out->interfaces.items[out->interfaces.n++] = one;
	}
}

int work_stats(struct job *j, struct error *err) {
	_cleanup_(run_free) struct run_state run = {0};
	int64_t memory = (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
	struct cgroup_stats s = {0};
	const struct inst *known = inst_get(j->agent, j->id);
	if (load_running(j, &run)) {
		int r = cgroup_stats(&run.container.cgroup, &s, err);
		if (r < 0)
			return r;
	}
	struct msg_stats reply = {
		.time = time_now_ns(),
		.cpu_ns = (int64_t)s.cpu_ns,
		.cpu_user_ns = (int64_t)s.cpu_user_ns,
		.cpu_system_ns = (int64_t)s.cpu_system_ns,
		.throttled_ns = (int64_t)s.throttled_ns,
		.throttled_periods = (int64_t)s.throttled_periods,
		.periods = (int64_t)s.periods,
		.memory = (int64_t)s.memory,
		.memory_max = (int64_t)s.memory_max,
		.memory_limit = run.created ? limit_of(s.memory_limit ? s.memory_limit : UINT64_MAX, memory) : 0,
		.memory_cache = (int64_t)s.memory_cache,
		.memory_failures = (int64_t)s.memory_failures,
		.swap = (int64_t)s.swap,
		.pids = (int64_t)s.pids,
		.pids_limit = limit_of(s.pids_limit, INT64_C(1) << 40),
		.read_bytes = (int64_t)s.read_bytes,
		.write_bytes = (int64_t)s.write_bytes,
		.read_ops = (int64_t)s.read_ops,
		.write_ops = (int64_t)s.write_ops,
		.online_cpus = sysconf(_SC_NPROCESSORS_ONLN),
		.system_cpu_ns = system_cpu_ns(),
	};
	if (run.created)
		read_interfaces(run.container.pid, known && known->machine, &reply);
	int r = job_answer(j, &reply, NULL, 0, err);
	fields_free(&msg_stats_table, &reply);
	return r;
}

/* --- processes --- */

static char *shown_user(uint32_t uid, uint32_t base) {
	bool mapped = base && uid >= base && uid < (uint64_t)base + UID_RANGE;
	return str_format("%u", mapped ? uid - base : uid);
}

static bool read_process(pid_t pid, uint32_t base, struct process_row *row) {
	struct process_info p;
	if (process_look(pid, &p) < 0)
		return false;
	*row = (struct process_row){
		.pid = pid,
		.parent = p.parent,
		.user = shown_user(p.uid, base),
		.state = str_format("%c", p.state),
		.command = p.command,
		.memory = p.memory,
		.cpu_ns = p.cpu_ns,
		.started_at = p.started_at,
	};
	return true;
}

static int list_processes(const struct run_state *run, const struct msg_instance_create *record, struct msg_processes *out,
			  struct error *err) {
	_cleanup_(free_ptr) pid_t *pids = NULL;
	size_t n = 0;
	int r = cgroup_pids(&run->container.cgroup, &pids, &n, err);
	if (r < 0)
		return r;
	out->processes.items = alloc_array(n + 1, sizeof *out->processes.items);
	for (size_t i = 0; i < n; i++)
		out->processes.n += read_process(pids[i], (uint32_t)record->instance.uid_base, &out->processes.items[out->processes.n]);
	return 0;
}

int work_top(struct job *j, struct error *err) {
	_cleanup_(run_free) struct run_state run = {0};
	_cleanup_(record_free) struct msg_instance_create record = {0};
	struct msg_processes reply = {0};
	int r = record_load(j->agent, j->id, &record, err);
	if (r < 0)
		return r;
	if (!load_running(j, &run))
		return error_set(err, ERROR_CONFLICT, "instance %.12s does not run", j->id);
	r = instance_is_machine(&record.instance.spec) ? machine_processes(j->agent, &record, &reply, err)
						       : list_processes(&run, &record, &reply, err);
	if (r == 0)
		r = job_answer(j, &reply, NULL, 0, err);
	fields_free(&msg_processes_table, &reply);
	return r;
}
