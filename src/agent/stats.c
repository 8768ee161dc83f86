/* What an instance uses, and its processes. Reads alone. */
#include "agent/agent-priv.h"

#include "base/fs.h"
#include "base/str.h"
#include "base/time.h"

#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define COMMAND_SHOWN ((size_t)4096)

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

/* Those of the network name space of pid, unless that is ours. */
static void read_interfaces(pid_t pid, struct msg_stats *out) {
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
		out->interfaces.items = alloc_resize(out->interfaces.items, out->interfaces.n + 1, sizeof one);
		out->interfaces.items[out->interfaces.n++] = one;
	}
}

int work_stats(struct job *j, struct error *err) {
	_cleanup_(run_free) struct run_state run = {0};
	int64_t memory = (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
	struct cgroup_stats s = {0};
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
		read_interfaces(run.container.pid, &reply);
	int r = job_answer(j, &reply, NULL, 0, err);
	fields_free(&msg_stats_table, &reply);
	return r;
}

/* --- processes --- */

static int64_t boot_time_ns(void) {
	return time_now_ns() - time_mono_ns();
}

static void read_owner(pid_t pid, uint32_t base, struct process_row *row) {
	_cleanup_(free_ptr) char *path = str_format("/proc/%d/status", pid);
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	if (fs_read(path, 65536, &text) < 0)
		return;
	const char *line = strstr(buf_str(&text), "\nUid:");
	uint64_t uid = line ? strtoull(line + 5, NULL, 10) : 0;
	bool mapped = base && uid >= base && uid < (uint64_t)base + UID_RANGE;
	row->user = str_format("%llu", (unsigned long long)(mapped ? uid - base : uid));
}

static void read_command(pid_t pid, struct str name, struct process_row *row) {
	_cleanup_(free_ptr) char *path = str_format("/proc/%d/cmdline", pid);
	_cleanup_(buf_free) struct buf text = BUF_INIT_MAX(COMMAND_SHOWN + 16384);
	fs_read(path, COMMAND_SHOWN, &text);
	size_t n = MIN(text.len, COMMAND_SHOWN);
	while (n && text.data[n - 1] == '\0')
		n--;
	row->command = n ? str_copyn(text.data, n) : str_format("[%.*s]", (int)name.len, name.p);
	for (size_t i = 0; n && i < n; i++) {
		unsigned char c = (unsigned char)text.data[i];
		row->command[i] = c == '\0' ? ' ' : c < ' ' || c >= 0x7f ? '?' : (char)c;
	}
	row->command[n ? n : strlen(row->command)] = '\0';
}

static bool read_process(pid_t pid, uint32_t base, struct process_row *row) {
	_cleanup_(free_ptr) char *path = str_format("/proc/%d/stat", pid);
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	if (fs_read(path, 65536, &text) < 0)
		return false;
	const char *from = strchr(buf_str(&text), '('), *end = strrchr(buf_str(&text), ')');
	char state;
	int parent;
	unsigned long long user, system, start;
	long resident;
	if (!from || !end ||
	    sscanf(end + 1,
		   " %c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %*d %*d %*d %*d %*d %*d %llu %*u %ld", &state,
		   &parent, &user, &system, &start, &resident) != 6)
		return false;
	int64_t tick = NS_PER_SEC / sysconf(_SC_CLK_TCK);
	*row = (struct process_row){
		.pid = pid,
		.parent = parent,
		.state = str_format("%c", state),
		.memory = resident * sysconf(_SC_PAGESIZE),
		.cpu_ns = (int64_t)(user + system) * tick,
		.started_at = boot_time_ns() + (int64_t)start * tick,
	};
	read_owner(pid, base, row);
	read_command(pid, (struct str){from + 1, (size_t)(end - from - 1)}, row);
	return true;
}

int work_top(struct job *j, struct error *err) {
	_cleanup_(run_free) struct run_state run = {0};
	_cleanup_(record_free) struct msg_instance_create record = {0};
	int r = record_load(j->agent, j->id, &record, err);
	if (r < 0)
		return r;
	if (!load_running(j, &run))
		return error_set(err, ERROR_CONFLICT, "instance %.12s does not run", j->id);
	_cleanup_(free_ptr) pid_t *pids = NULL;
	size_t n = 0;
	r = cgroup_pids(&run.container.cgroup, &pids, &n, err);
	if (r < 0)
		return r;
	struct msg_processes reply = {0};
	reply.processes.items = alloc_array(n + 1, sizeof *reply.processes.items);
	for (size_t i = 0; i < n; i++)
		if (read_process(pids[i], (uint32_t)record.instance.uid_base,
				 &reply.processes.items[reply.processes.n]))
			reply.processes.n++;
	r = job_answer(j, &reply, NULL, 0, err);
	fields_free(&msg_processes_table, &reply);
	return r;
}
