/* Which CPUs of the host the processors of a machine run on: each is a thread of QEMU's, which says its number in its own name space. */
#include "agent/machine-priv.h"

#include "base/fs.h"
#include "base/str.h"
#include "base/time.h"
#include "driver/qemu/qmp.h"

#include <fcntl.h>
#include <sched.h>

#define ANSWER_WAIT (60 * NS_PER_SEC)
#define STATUS_MAX 65536

struct thread {
	pid_t host, inside;
};
struct threads {
	struct thread *items;
	size_t n;
};

static void threads_free(struct threads *t) {
	free(t->items);
}

/* Of a line "NSpid: 4711 12 7" the last. */
static pid_t number_inside(const char *status) {
	const char *line = strstr(status, "\nNSpid:"), *end = line ? strchr(line + 1, '\n') : NULL;
	while (end && end > line && end[-1] >= '0' && end[-1] <= '9')
		end--;
	return end ? (pid_t)strtol(end, NULL, 10) : -1;
}

static void add_threads(pid_t pid, struct threads *out) {
	_cleanup_(free_ptr) char *dir = str_format("/proc/%d/task", pid);
	_cleanup_(close_fd) int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_(strv_free_ptr) char **names = NULL;
	if (fd < 0 || fs_names(fd, &names) < 0) /* it has ended */
		return;
	for (char **n = names; n && *n; n++) {
		_cleanup_(free_ptr) char *path = str_format("%s/%s/status", dir, *n);
		_cleanup_(buf_free) struct buf status = BUF_INIT;
		if (fs_read(path, STATUS_MAX, &status) < 0)
			continue;
		out->items = alloc_resize(out->items, out->n + 1, sizeof *out->items);
		out->items[out->n++] = (struct thread){(pid_t)strtol(*n, NULL, 10), number_inside(buf_str(&status))};
	}
}

static int find_threads(const struct run_state *run, struct threads *out, struct error *err) {
	_cleanup_(free_ptr) pid_t *pids = NULL;
	size_t n = 0;
	int r = cgroup_pids(&run->container.cgroup, &pids, &n, err);
	for (size_t i = 0; r == 0 && i < n; i++)
		add_threads(pids[i], out);
	return r;
}

static int pin(const struct threads *all, const json_t *cpu, char *const *lists, struct error *err) {
	int64_t index = json_get_int(cpu, "cpu-index"), inside = json_get_int(cpu, "thread-id");
	const char *list = index >= 0 && index < (int64_t)strv_len(lists) ? lists[index] : NULL;
	cpu_set_t set;
	machine_cpu_list(list ? list : "0-1023", &set);
	for (size_t i = 0; i < all->n; i++) {
		if (all->items[i].inside != inside)
			continue;
		if (sched_setaffinity(all->items[i].host, sizeof set, &set) == 0)
			return 0;
		return error_field(err, "spec.machine.pin", "processor %lld cannot run on the CPUs %s: the host has none of them, or the machine's "
				   "cpuset_cpus", (long long)index, list ? list : "of the host");
	}
	return error_set(err, ERROR_INTERNAL, "QEMU has no thread for processor %lld", (long long)index);
}

int machine_pin(const struct agent *a, const struct msg_instance_create *r, const struct run_state *run, struct error *err) {
	_cleanup_(qmp_free_ptr) struct qmp *q = NULL;
	_cleanup_(json_free_ptr) json_t *cpus = NULL;
	_cleanup_(threads_free) struct threads all = {0};
	int64_t deadline = time_mono_ns() + ANSWER_WAIT;
	int result = machine_monitor(a, r->instance.id, deadline, &q, err);
	if (result == 0)
		result = qmp_call(q, "query-cpus-fast", NULL, -1, deadline, &cpus, err);
	if (result == 0)
		result = find_threads(run, &all, err);
	for (size_t i = 0; result == 0 && i < json_array_size(cpus); i++)
		result = pin(&all, json_array_get(cpus, i), r->instance.spec.machine.pin, err);
	return result;
}
