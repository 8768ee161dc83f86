/* A new process in new namespaces, joined ones, or those of a running container.
 *
 * New namespaces alone need one clone3. To join some, a short-lived go-between enters them (the host's
 * root may enter any; the user namespace comes last) and clones the child with CLONE_PARENT, so that it is a
 * child of the caller all the same. Everybody is non-dumpable from before the first step inside: no process
 * of the container can trace it or reach its descriptors (CVE-2016-9962), and its command line, which anybody may read, is
 * that of "wabe-init" until it executes the container's. */
#include "base/proc.h"
#include "driver/container/container-priv.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/pidfd.h>
#include <unistd.h>

static pid_t clone3(uint64_t flags, int signo, int cgroup, int *pidfd) {
	struct clone_args a = {
		.flags = flags | CLONE_CLEAR_SIGHAND | (pidfd ? CLONE_PIDFD : 0) | (cgroup >= 0 ? CLONE_INTO_CGROUP : 0),
		.pidfd = (uint64_t)(uintptr_t)pidfd,
		.exit_signal = (uint64_t)signo,
		.cgroup = cgroup >= 0 ? (uint64_t)cgroup : 0,
	};
	return (pid_t)syscall(SYS_clone3, &a, sizeof a);
}

static int join_one(const struct container_namespace *ns, struct error *err) {
	_cleanup_(close_fd) int fd = open(ns->path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return error_errno(err, errno, "cannot open the namespace %s", ns->path);
	if (setns(fd, ns->flag) < 0)
		return error_errno(err, errno, "cannot join the namespace %s", ns->path);
	return 0;
}

static int join_all(const struct clone_request *q, struct error *err) {
	if (q->pidfd >= 0) {
		int flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP;
		/* the own user namespace cannot be entered again (EINVAL), and old kernels know no time namespace */
		if (setns(q->pidfd, flags | CLONE_NEWUSER | CLONE_NEWTIME) == 0 ||
		    (errno == EINVAL && setns(q->pidfd, flags | CLONE_NEWTIME) == 0))
			return 0;
		return error_errno(err, errno, "cannot enter the container's namespaces");
	}
	for (int user = 0; user <= 1; user++)
		for (size_t i = 0; i < q->n_joined; i++) {
			const struct container_namespace *ns = &q->joined[i];
			if (!ns->path || (ns->flag == CLONE_NEWUSER) != user)
				continue;
			int r = join_one(ns, err);
			if (r < 0)
				return r;
		}
	return 0;
}

static int compare_ints(const void *a, const void *b) {
	return *(const int *)a - *(const int *)b;
}

void close_all_but(unsigned from, int *keep, size_t n) {
	qsort(keep, n, sizeof keep[0], compare_ints);
	for (size_t i = 0; i < n; i++) {
		if (keep[i] < 0 || (unsigned)keep[i] < from)
			continue;
		if ((unsigned)keep[i] > from)
			syscall(SYS_close_range, from, (unsigned)keep[i] - 1, 0);
		from = (unsigned)keep[i] + 1;
	}
	syscall(SYS_close_range, from, ~0U, 0);
}

/* Before anything of the container's can see the process. */
static void close_foreign(const struct clone_request *q, int sync) {
	_cleanup_(free_ptr) int *keep = alloc_array(q->n_keep + 2, sizeof *keep);
	for (size_t i = 0; i < q->n_keep; i++)
		keep[i] = q->keep[i];
	keep[q->n_keep] = sync;
	keep[q->n_keep + 1] = q->pidfd;
	close_all_but(3 + (unsigned)q->preserve_fds, keep, q->n_keep + 2);
}

/* In the go-between; comes back in the child alone. */
static void go_between(const struct clone_request *q, int sync[2]) {
	struct error err = ERROR_INIT;
	close_foreign(q, sync[1]);
	if ((q->enter && cgroup_enter(q->enter, 0, &err) < 0) || join_all(q, &err) < 0)
		sync_fail(sync[1], &err);
	proc_set_title("wabe-init");
	pid_t pid = clone3(q->flags | CLONE_PARENT, 0, -1, NULL);
	if (pid == 0)
		return;
	if (pid < 0) {
		error_errno(&err, errno, "cannot make a process in the container's namespaces");
		sync_fail(sync[1], &err);
	}
	_exit(sync_send(sync[1], SYNC_PID, pid, NULL, 0, -1) < 0);
}

static pid_t clone_joined(const struct clone_request *q, int sync[2], int *pidfd, struct error *err) {
	pid_t between = clone3(0, SIGCHLD, q->cgroup, NULL);
	if (between < 0)
		return error_errno(err, errno, "cannot fork");
	if (between == 0) {
		go_between(q, sync);
		return 0;
	}
	close_fd(&sync[1]);
	_cleanup_(sync_message_free) struct sync_message m = {.fd = -1};
	int r = sync_recv(sync[0], &m);
	proc_wait(between);
	if (r < 0)
		return error_errno(err, r, "the namespaces could not be joined");
	if (m.type == SYNC_ERROR)
		return sync_error(&m, err);
	*pidfd = pidfd_open(m.value, 0);
	if (*pidfd < 0)
		return error_errno(err, errno, "cannot open the new process");
	return m.value;
}

pid_t clone_child(const struct clone_request *q, int sync[2], int *pidfd, struct error *err) {
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	bool joins = q->pidfd >= 0;
	for (size_t i = 0; i < q->n_joined; i++)
		joins |= q->joined[i].path != NULL;
	if (joins)
		return clone_joined(q, sync, pidfd, err);
	pid_t pid = clone3(q->flags, SIGCHLD, q->cgroup, pidfd);
	if (pid < 0)
		return error_errno(err, errno, "cannot make a process in new namespaces");
	if (pid == 0) {
		proc_set_title("wabe-init");
		close_foreign(q, sync[1]);
	} else {
		close_fd(&sync[1]);
	}
	return pid;
}

/* --- descriptors of the caller's that are passed on --- */

void numbers_occupy(const struct container_stdio *io, struct numbers *out) {
	for (int fd; io->pass && io->preserve_fds && (fd = fcntl(io->pass[0], F_DUPFD_CLOEXEC, 3)) >= 0;) {
		if (fd >= 3 + io->preserve_fds) {
			close(fd);
			return;
		}
		out->items = alloc_resize(out->items, out->n + 1, sizeof *out->items);
		out->items[out->n++] = fd;
	}
}

void numbers_release(struct numbers *n) {
	for (size_t i = 0; i < n->n; i++)
		close(n->items[i]);
	free(n->items);
}

int *stdio_kept(const struct container_stdio *io, const int gate[2], int result, size_t *n) {
	const int own[] = {io->in, io->out, io->err, gate[0], gate[1], result};
	size_t passed = io->pass ? (size_t)io->preserve_fds : 0;
	int *keep = alloc_array(ARRAY_SIZE(own) + passed, sizeof *keep);
	memcpy(keep, own, sizeof own);
	if (passed)
		memcpy(keep + ARRAY_SIZE(own), io->pass, passed * sizeof *keep);
	*n = ARRAY_SIZE(own) + passed;
	return keep;
}
