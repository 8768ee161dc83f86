/* A further process in a running container: the same namespaces, cgroup and filter.
 *
 * Whoever enters the namespaces is non-dumpable and holds no descriptor of the host but its channel to the
 * parent, and executes nothing but the command: the container can neither trace it nor climb out by its
 * /proc entry. */
#include "base/fs.h"
#include "base/proc.h"
#include "base/time.h"
#include "driver/container/container-priv.h"

#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <sys/pidfd.h>
#include <unistd.h>

static void run_child(const struct container_config *c, const struct container_process *p, const struct container_stdio *io,
		      int sync, const int gate[2], int result) {
	struct child k = {
		.process = p, .sync = sync, .root = -1, .gate_in = gate[0], .gate_hold = gate[1], .result = result,
		.master = -1, .slave = -1, .preserve_fds = io->preserve_fds,
		.wants_filter = c->seccomp != NULL, .sets_rlimits = !c->n_uid_maps,
	};
	struct error err = ERROR_INIT;
	int r = child_take_stdio(&k, io, &err);
	/* in the host's user namespace this changes nothing */
	if (r == 0 && (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0 || setgroups(0, NULL) < 0))
		r = error_errno(&err, errno, "cannot become root of the container");
	_cleanup_(close_fd) int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct user_ids ids = {0};
	if (r == 0)
		r = users_resolve(root, p, &ids, &err);
	if (r == 0 && p->terminal)
		r = tty_open(root, p, ids.uid, &k.master, &k.slave, &err);
	if (r < 0)
		sync_fail(sync, &err);
	if (k.wants_filter)
		child_await(&k, SYNC_SECCOMP, 0);
	child_finish(&k, &ids);
}

static int send_filter(const struct container_config *c, const struct container_process *p, int sync, struct error *err) {
	struct sock_fprog filter = {0};
	unsigned flags = 0;
	int r = seccomp_compile(c->seccomp, p->cap_bounding, &filter, &flags, err);
	if (r < 0)
		return error_wrap(err, "seccomp");
	sync_send(sync, SYNC_SECCOMP, (int)flags, filter.filter, filter.len * sizeof *filter.filter, -1);
	free(filter.filter);
	return 0; /* if it has gone, what it sent says why */
}

/* As long as the process, which the container can stop, takes to write it, and no longer than EXEC_WAIT. */
static int read_result(int fd, struct buf *text, struct error *err) {
	int64_t deadline = time_mono_ns() + EXEC_WAIT;
	for (char chunk[4096];;) {
		int r = parent_await_exec(fd, deadline, err);
		if (r < 0)
			return r;
		ssize_t n = RETRY_EINTR(read(fd, chunk, sizeof chunk));
		if (n < 0)
			return error_errno(err, errno, "cannot read the result of the start");
		if (n == 0)
			return 0;
		buf_add(text, chunk, (size_t)n);
	}
}

static int lead(const struct container_config *c, const struct container_process *p, pid_t pid, int sync, int gate, int result,
		struct container_stdio *io, struct error *err) {
	int r = c->seccomp ? send_filter(c, p, sync, err) : 0;
	if (r == 0)
		r = parent_await_ready(NULL, pid, sync, io, err);
	if (r == 0)
		r = process_set_oom_score(p, pid, err);
	if (r == 0 && c->n_uid_maps)
		r = process_set_rlimits(p, pid, err);
	if (r < 0)
		return r;
	if (RETRY_EINTR(write(gate, "s", 1)) != 1)
		return error_errno(err, errno, "cannot start the process");
	_cleanup_(buf_free) struct buf text = BUF_INIT_MAX(65536);
	r = read_result(result, &text, err);
	if (r < 0)
		return r;
	return text.len ? sync_unpack_error(0, text.data, text.len, err) : 0;
}

static void close_pair(int (*p)[2]) {
	close_fd(&(*p)[0]);
	close_fd(&(*p)[1]);
}

static int exec_in(const struct container_state *s, const struct container_config *c, const struct container_process *p,
		   struct container_stdio *io, pid_t *out, struct error *err) {
	_cleanup_(close_fd) int first = state_open_pid(s), pidfd = -1;
	if (first < 0 || !container_state_alive(s))
		return error_set(err, ERROR_CONFLICT, "the container %s is not running", s->id);
	if (s->cgroup.path && cgroup_is_frozen(&s->cgroup))
		return error_set(err, ERROR_CONFLICT, "the container %s is paused", s->id);
	int sync[2];
	_cleanup_(close_pair) int gate[2] = {-1, -1};
	_cleanup_(close_pair) int result[2] = {-1, -1};
	_cleanup_(numbers_release) struct numbers taken = {0};
	numbers_occupy(io, &taken);
	if (pipe2(gate, O_CLOEXEC) < 0 || pipe2(result, O_CLOEXEC) < 0 || sync_pair(sync) < 0)
		return error_errno(err, errno, "cannot make a pipe");
	_cleanup_(close_fd) int cgroup = s->cgroup.path ? cgroup_open_v2_beside(&s->cgroup, s->pid) : -1;
	size_t n_keep;
	_cleanup_(free_ptr) int *keep = stdio_kept(io, gate, result[1], &n_keep);
	struct clone_request q = {.keep = keep, .n_keep = n_keep, .preserve_fds = io->preserve_fds, .pidfd = first, .cgroup = cgroup, .enter = s->cgroup.path ? &s->cgroup : NULL};
	pid_t pid = clone_child(&q, sync, &pidfd, err);
	if (pid == 0)
		run_child(c, p, io, sync[1], gate, result[1]);
	_cleanup_(close_fd) int sock = sync[0];
	if (pid < 0)
		return pid;
	close_fd(&result[1]);
	int r = lead(c, p, pid, sock, gate[1], result[0], io, err);
	if (r < 0) {
		pidfd_send_signal(pidfd, SIGKILL, NULL, 0);
		proc_wait(pid);
		close_fd(&io->terminal_master);
		return r;
	}
	*out = pid;
	return 0;
}

int container_exec(const struct container_state *s, const struct container_process *p, bool privileged,
		   struct container_stdio *io, pid_t *pid, struct error *err) {
	io->terminal_master = -1;
	int r = process_check(p, err);
	if (r < 0)
		return r;
	_cleanup_(container_config_free) struct container_config c;
	container_config_init(&c);
	r = state_config_parse(s->config, &c, err);
	if (r < 0)
		return r;
	struct container_process copy = *p; /* shares what p points to */
	if (privileged) {
		copy.cap_bounding = copy.cap_permitted = copy.cap_effective = cap_bounding();
		copy.cap_inheritable = copy.cap_ambient = 0;
	}
	return exec_in(s, &c, &copy, io, pid, err);
}
