/* What runs inside a control group: listing, signalling, freezing. Waits for the kernel's notice in
 * cgroup.events where the v2 tree is mounted. */
#include "driver/container/cgroup-priv.h"

#include "base/fs.h"
#include "base/str.h"
#include "base/time.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define RUN_WAIT (10 * NS_PER_SEC)

static int open_group(const struct cgroup_state *s, enum cgroup_hierarchy h) {
	const char *mount = cgroup_host()->mount[h];
	if (!mount)
		return -ENOENT;
	_cleanup_(free_ptr) char *full = str_format("%s/%s", mount, s->path);
	int fd = open(full, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* The group in the hierarchy that says what runs: the v2 tree, or any of v1. */
static int open_any(const struct cgroup_state *s) {
	int fd = open_group(s, CGROUP_UNIFIED);
	for (int h = 0; fd < 0 && h < CGROUP_HIERARCHIES; h++)
		fd = open_group(s, h);
	return fd;
}

struct pid_list {
	pid_t *items;
	size_t n;
};

static void add_pids(int dir, struct pid_list *list) {
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	if (fs_read_at(dir, "cgroup.procs", (size_t)64 << 20, &text) < 0)
		return;
	struct str all = str_view(buf_str(&text));
	while (all.len) {
		struct str line = str_cut(&all, '\n');
		pid_t pid = (pid_t)strtol(line.p, NULL, 10);
		if (pid <= 0)
			continue; /* of another pid name space */
		list->items = alloc_resize(list->items, list->n + 1, sizeof *list->items);
		list->items[list->n++] = pid;
	}
}

static void walk(int dir, struct pid_list *list) {
	add_pids(dir, list);
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	if (!d) {
		close_fd(&fd);
		return;
	}
	for (struct dirent *e; (e = readdir(d));) {
		if (e->d_type != DT_DIR || strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		_cleanup_(close_fd) int below = openat(fd, e->d_name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (below >= 0)
			walk(below, list);
	}
	closedir(d);
}

int cgroup_pids(const struct cgroup_state *s, pid_t **pids, size_t *n, struct error *err) {
	_cleanup_(close_fd) int dir = open_any(s);
	struct pid_list list = {0};
	*pids = NULL;
	*n = 0;
	if (dir < 0)
		return error_errno(err, dir, "control group %s", s->path);
	walk(dir, &list);
	*pids = list.items;
	*n = list.n;
	return 0;
}

/* Waits until cgroup.events has "key value". Reading arms the notice, so it comes before the look. The
 * kernel holds a notice back that follows another within 10 ms: the first looks do not wait for it. */
static int wait_event(int dir, const char *key, uint64_t value, int64_t deadline) {
	_cleanup_(close_fd) int fd = openat(dir, "cgroup.events", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	for (int64_t pause = NS_PER_MS / 8;; pause = MIN(2 * pause, NS_PER_SEC)) {
		char drop[256];
		if (pread(fd, drop, sizeof drop, 0) < 0)
			return -errno;
		if (cgroup_read_key(dir, "cgroup.events", key) == value)
			return 0;
		if (time_mono_ns() > deadline)
			return -ETIMEDOUT;
		struct pollfd p = {.fd = fd, .events = POLLPRI};
		struct timespec t = {.tv_sec = pause / NS_PER_SEC, .tv_nsec = pause % NS_PER_SEC};
		if (ppoll(&p, 1, &t, NULL) < 0 && errno != EINTR)
			return -errno;
	}
}

/* v1's freezer may need several tries while processes fork, and gives no notice. */
static int wait_freezer(int dir, const char *state, int64_t deadline) {
	for (int64_t pause = NS_PER_MS / 10;; pause = MIN(2 * pause, 10 * NS_PER_MS)) {
		_cleanup_(buf_free) struct buf text = BUF_INIT;
		int r = fs_write_value_at(dir, "freezer.state", state);
		if (r == 0)
			r = fs_read_at(dir, "freezer.state", 64, &text);
		if (r < 0)
			return r;
		if (str_starts(buf_str(&text), state))
			return 0;
		if (time_mono_ns() > deadline)
			return -ETIMEDOUT;
		nanosleep(&(struct timespec){.tv_nsec = pause}, NULL);
	}
}

static int set_frozen(const struct cgroup_state *s, bool freeze) {
	int64_t deadline = time_mono_ns() + RUN_WAIT;
	_cleanup_(close_fd) int v2 = open_group(s, CGROUP_UNIFIED);
	if (v2 >= 0 && cgroup_has(v2, "cgroup.freeze")) {
		int r = fs_write_value_at(v2, "cgroup.freeze", freeze ? "1" : "0");
		return r < 0 ? r : wait_event(v2, "frozen", freeze, deadline);
	}
	_cleanup_(close_fd) int v1 = open_group(s, CGROUP_FREEZER);
	return v1 < 0 ? v1 : wait_freezer(v1, freeze ? "FROZEN" : "THAWED", deadline);
}

int cgroup_freeze(const struct cgroup_state *s, bool freeze, struct error *err) {
	int r = set_frozen(s, freeze);
	if (r == -ETIMEDOUT && freeze)
		set_frozen(s, false);
	return r < 0 ? error_errno(err, r, "cannot %s control group %s", freeze ? "freeze" : "thaw", s->path) : 0;
}

bool cgroup_is_frozen(const struct cgroup_state *s) {
	_cleanup_(close_fd) int v2 = open_group(s, CGROUP_UNIFIED);
	if (v2 >= 0 && cgroup_has(v2, "cgroup.freeze"))
		return cgroup_read_key(v2, "cgroup.events", "frozen") == 1;
	_cleanup_(close_fd) int v1 = open_group(s, CGROUP_FREEZER);
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	return v1 >= 0 && fs_read_at(v1, "freezer.state", 64, &text) == 0 && str_starts(buf_str(&text), "FROZEN");
}

/* Signals each process, by descriptor so that a number used again cannot be hit, and gives the
 * descriptors: they tell when the processes have ended. */
static size_t signal_all(int dir, int signo, int **fds) {
	struct pid_list list = {0};
	walk(dir, &list);
	*fds = alloc_array(list.n + 1, sizeof **fds);
	size_t n = 0;
	for (size_t i = 0; i < list.n; i++) {
		int fd = (int)syscall(SYS_pidfd_open, list.items[i], 0);
		if (fd < 0)
			continue;
		syscall(SYS_pidfd_send_signal, fd, signo, NULL, 0);
		(*fds)[n++] = fd;
	}
	free(list.items);
	return n;
}

static void close_all(int *fds, size_t n) {
	for (size_t i = 0; i < n; i++)
		close(fds[i]);
	free(fds);
}

/* Nobody in it, and no groups below between which somebody could move. */
static bool is_empty(int dir) {
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	struct stat st;
	return fstat(dir, &st) == 0 && st.st_nlink == 2 && fs_read_at(dir, "cgroup.procs", 64, &text) == 0 && text.len == 0;
}

/* Without cgroup.kill: frozen, so that none escapes by forking, signalled, thawed to die. Not where nobody is left: to freeze
 * the first group of all the kernel rewrites its own code, with all processors held. */
static int kill_by_hand(const struct cgroup_state *s, int dir, int64_t deadline) {
	while (!is_empty(dir)) {
		int *fds;
		bool frozen = set_frozen(s, true) == 0;
		size_t n = signal_all(dir, SIGKILL, &fds);
		if (frozen)
			set_frozen(s, false);
		for (size_t i = 0; i < n; i++) {
			struct pollfd p = {.fd = fds[i], .events = POLLIN};
			int64_t left = MAX(deadline - time_mono_ns(), (int64_t)0);
			poll(&p, 1, (int)(left / NS_PER_MS));
		}
		close_all(fds, n);
		if (n == 0)
			return 0;
		if (time_mono_ns() > deadline)
			return -ETIMEDOUT;
	}
	return 0;
}

static int kill_group(const struct cgroup_state *s, int dir, int signo) {
	int64_t deadline = time_mono_ns() + RUN_WAIT;
	if (signo != SIGKILL) {
		int *fds;
		size_t n = signal_all(dir, signo, &fds);
		close_all(fds, n);
		return 0;
	}
	if (!cgroup_has(dir, "cgroup.kill"))
		return kill_by_hand(s, dir, deadline);
	if (cgroup_read_key(dir, "cgroup.events", "populated") == 0)
		return 0;
	int r = fs_write_value_at(dir, "cgroup.kill", "1");
	return r < 0 ? r : wait_event(dir, "populated", 0, deadline);
}

int cgroup_kill(const struct cgroup_state *s, int signo, struct error *err) {
	_cleanup_(close_fd) int dir = open_any(s);
	if (dir == -ENOENT)
		return 0;
	int r = dir < 0 ? dir : kill_group(s, dir, signo);
	return r < 0 ? error_errno(err, r, "cannot kill all of control group %s", s->path) : 0;
}
