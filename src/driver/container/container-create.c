/* Creating a container, seen from the parent: cgroup, clone, id maps, the mounts that it lends, filter,
 * hooks, limits. Until the end everything made can be undone by killing the child and removing the cgroup;
 * if the parent itself dies, the child ends as well (it sees its channel close). */
#include "base/fs.h"
#include "base/proc.h"
#include "base/time.h"
#include "driver/container/container-priv.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static int check_config(const struct container_config *c, struct error *err) {
	if (!c->id || !*c->id)
		return error_field(err, "id", "a container needs an id");
	if (!config_namespace(c, CLONE_NEWNS))
		return error_set(err, ERROR_UNSUPPORTED, "a container without a mount namespace");
	if (config_new_namespace(c, CLONE_NEWUSER) && (!c->n_uid_maps || !c->n_gid_maps))
		return error_field(err, "uid_maps", "a new user namespace needs maps of user and group ids");
	if (c->hostname && !config_namespace(c, CLONE_NEWUTS))
		return error_field(err, "hostname", "setting the host name needs a UTS namespace");
	if (c->domainname && !config_namespace(c, CLONE_NEWUTS))
		return error_field(err, "domainname", "setting the domain name needs a UTS namespace");
	for (size_t i = 0; i < c->n_mounts; i++)
		if (!c->mounts[i].target || c->mounts[i].target[0] != '/')
			return error_field(err, "mounts", "the mount point %s is not absolute",
					   c->mounts[i].target ? c->mounts[i].target : "(none)");
	for (size_t i = 0; i < c->n_devices; i++)
		if (!c->devices[i].path || c->devices[i].path[0] != '/')
			return error_field(err, "devices", "the path of a device is not absolute");
	return process_check(&c->process, err);
}

/* Those made by clone3; the time, network and cgroup namespaces are made by the child, the network
 * one so that this slow step overlaps with the parent's work. */
static uint64_t clone_flags(const struct container_config *c) {
	uint64_t flags = 0;
	for (size_t i = 0; i < c->n_namespaces; i++)
		if (!c->namespaces[i].path)
			flags |= (uint64_t)c->namespaces[i].flag;
	return flags & ~(uint64_t)(CLONE_NEWTIME | CLONE_NEWCGROUP | CLONE_NEWNET);
}

static bool config_joins(const struct container_config *c) {
	for (size_t i = 0; i < c->n_namespaces; i++)
		if (c->namespaces[i].path)
			return true;
	return false;
}

struct pipes {
	int gate[2], result[2];
};

static void pipes_close(struct pipes *p) {
	for (int i = 0; i < 2; i++) {
		close_fd(&p->gate[i]);
		close_fd(&p->result[i]);
	}
}

static void run_child(const struct container_config *c, const struct container_stdio *io, int sync, const struct pipes *pipes) {
	struct child k = {
		.c = c, .process = &c->process, .sync = sync, .root = -1, .gate_in = pipes->gate[0],
		.gate_hold = pipes->gate[1], .result = pipes->result[1], .master = -1, .slave = -1,
		.preserve_fds = io->preserve_fds, .null_file = -1, .null_dir = -1, .wants_filter = c->seccomp != NULL,
		.sets_rlimits = !config_namespace(c, CLONE_NEWUSER),
	};
	k.mounts = alloc_array(c->n_mounts + 1, sizeof(int));
	for (size_t i = 0; i < c->n_mounts; i++)
		k.mounts[i] = -1;
	struct error err = ERROR_INIT;
	if (child_take_stdio(&k, io, &err) < 0)
		sync_fail(sync, &err);
	child_run(&k);
}

static int send_error(struct error *err, int r) {
	/* a child that has failed has closed its end; why comes as its own message */
	return r == -EPIPE || r == -ECONNRESET ? 0 : error_errno(err, r, "cannot talk to the first process");
}

static int send_mount(int sync, int index, int fd, struct error *err) {
	_cleanup_(close_fd) int mount = fd;
	if (mount < 0)
		return mount;
	int r = sync_send(sync, SYNC_MOUNT, index, NULL, 0, mount);
	return r < 0 ? send_error(err, r) : 0;
}

static int send_filter(const struct container_config *c, int sync, struct error *err) {
	struct sock_fprog filter = {0};
	unsigned flags = 0;
	int r = seccomp_compile(c->seccomp, c->process.cap_bounding, &filter, &flags, err);
	if (r < 0)
		return error_wrap(err, "seccomp");
	r = sync_send(sync, SYNC_SECCOMP, (int)flags, filter.filter, filter.len * sizeof *filter.filter, -1);
	free(filter.filter);
	return r < 0 ? send_error(err, r) : 0;
}

static int open_userns(const struct container_config *c, pid_t pid, struct error *err) {
	if (!config_namespace(c, CLONE_NEWUSER))
		return -1;
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/ns/user", pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? error_errno(err, errno, "cannot open the user namespace") : fd;
}

static int supply_cgroup(const struct container_config *c, struct cgroup_state *group, int sync, struct error *err) {
	bool made = group->version;
	if (!c->cgroup.path)
		return 0;
	int r = made ? 0 : cgroup_finish(&c->cgroup, group, err);
	if (r == 0 && (r = sync_send(sync, SYNC_CGROUP, 0, NULL, 0, -1)) < 0)
		return send_error(err, r);
	/* while it enters; before its root comes, it uses no device */
	return r == 0 && !made ? cgroup_set_devices(&c->cgroup, group, err) : r;
}

static int supply_mount(const struct container_config *c, const struct cgroup_state *group, size_t i, int userns, int sync,
			struct error *err) {
	const struct container_mount *m = &c->mounts[i];
	if (!mount_is_cgroup(m))
		return send_mount(sync, (int)i, parent_mount(c, m, userns, err), err);
	/* what goes wrong here is the child's to do, and to tell */
	_cleanup_(close_fd) int tree = cgroup_tree_v1(group, !(m->flags & MS_RDONLY));
	int r = sync_send(sync, SYNC_MOUNT, (int)i, NULL, 0, tree);
	return r < 0 ? send_error(err, r) : 0;
}

/* Gives the child all it waits for. */
static int supply(struct container_config *c, struct container_state *s, int sync, struct error *err) {
	pid_t pid = s->pid;
	int r = supply_cgroup(c, &s->cgroup, sync, err);
	if (r < 0)
		return r;
	if (config_new_namespace(c, CLONE_NEWUSER)) {
		r = userns_write_maps(pid, c->uid_maps, c->n_uid_maps, c->gid_maps, c->n_gid_maps, err);
		if (r == 0 && (r = sync_send(sync, SYNC_MAPPED, 0, NULL, 0, -1)) < 0)
			return send_error(err, r);
	}
	else if (config_namespace(c, CLONE_NEWUSER) && !c->n_uid_maps)
		r = userns_read_maps(pid, c, err);
	if (r < 0)
		return r;
	if (config_new_namespace(c, CLONE_NEWNS)) {
		_cleanup_(close_fd) int userns = open_userns(c, pid, err);
		if (userns < -1)
			return userns;
		r = send_mount(sync, -1, root_mount(c, userns, err), err);
		for (size_t i = 0; r == 0 && i < c->n_mounts; i++)
			if (mount_is_parents(c, &c->mounts[i]))
				r = supply_mount(c, &s->cgroup, i, userns, sync, err);
	}
	return r == 0 && c->seccomp ? send_filter(c, sync, err) : r;
}

static int run_hooks(const struct container_config *c, pid_t pid, int sync, struct error *err) {
	_cleanup_(free_ptr) char *state = hooks_state(c->id, "creating", pid, c->bundle, &c->annotations);
	int r = hooks_run(c->hooks[HOOK_PRESTART].items, c->hooks[HOOK_PRESTART].n, state, err);
	if (r == 0)
		r = hooks_run(c->hooks[HOOK_CREATE_RUNTIME].items, c->hooks[HOOK_CREATE_RUNTIME].n, state, err);
	if (r == 0 && (r = sync_send(sync, SYNC_HOOKS, 0, NULL, 0, -1)) < 0)
		return send_error(err, r);
	return r;
}

int parent_await_exec(int fd, int64_t deadline, struct error *err) {
	struct pollfd p = {fd, POLLIN, 0};
	int64_t left = MAX(deadline - time_mono_ns(), (int64_t)0);
	int n = RETRY_EINTR(poll(&p, 1, (int)(left / NS_PER_MS)));
	return n > 0 ? 0
		     : error_set(err, ERROR_TIMEOUT, "the process did not start in time: is it stopped by the container, or is its "
						     "file system stuck?");
}

/* Until the child waits at the gate. c is NULL for an exec. */
int parent_await_ready(const struct container_config *c, pid_t pid, int sync, struct container_stdio *io, struct error *err) {
	int64_t deadline = time_mono_ns() + EXEC_WAIT;
	container_close_self();
	for (;;) {
		_cleanup_(sync_message_free) struct sync_message m = {.fd = -1};
		int r = c ? 0 : parent_await_exec(sync, deadline, err);
		if (r < 0)
			return r;
		r = sync_recv(sync, &m);
		if (r < 0)
			return error_set(err, ERROR_INTERNAL, "the first process ended while the container was made (out of memory?)");
		switch (m.type) {
		case SYNC_ERROR:
			return sync_error(&m, err);
		case SYNC_READY:
			io->terminal_master = TAKE_FD(m.fd);
			return 0;
		case SYNC_HOOKS:
			r = c ? run_hooks(c, pid, sync, err) : 0;
			if (r < 0)
				return r;
			break;
		default:
			return error_set(err, ERROR_INTERNAL, "the first process sent no sense");
		}
	}
}

static void kill_process(struct container_state *s) {
	pidfd_send_signal(s->pidfd, SIGKILL, NULL, 0);
	proc_wait(s->pid);
}

/* Those among the files, too. */
static int *keep_sockets(const struct container_config *c, int *keep, size_t *n) {
	keep = alloc_resize(keep, *n + c->n_files + 1, sizeof *keep);
	for (size_t i = 0; i < c->n_files; i++)
		if (c->files[i].is_socket)
			keep[(*n)++] = c->files[i].socket;
	return keep;
}

/* Clones, and gives the child what it needs. On failure the child is dead and reaped. */
static int make_process(struct container_config *c, const struct container_stdio *io, int cgroup, struct container_state *out,
			struct error *err) {
	_cleanup_(pipes_close) struct pipes pipes = {{-1, -1}, {-1, -1}};
	_cleanup_(numbers_release) struct numbers taken = {0};
	int sync[2];
	numbers_occupy(io, &taken);
	if (pipe2(pipes.gate, O_CLOEXEC) < 0 || pipe2(pipes.result, O_CLOEXEC) < 0 || sync_pair(sync) < 0)
		return error_errno(err, errno, "cannot make a pipe");
	out->gate[0] = pipes.gate[0];
	out->gate[1] = pipes.result[1];
	for (int i = 0; i < 2; i++) {
		struct stat st;
		if (fstat(out->gate[i], &st) < 0)
			return error_errno(err, errno, "cannot look at a pipe");
		out->gate_inodes[i] = st.st_ino;
	}
	size_t n_keep;
	_cleanup_(free_ptr) int *keep = stdio_kept(io, pipes.gate, pipes.result[1], &n_keep);
	keep = keep_sockets(c, keep, &n_keep);
	struct clone_request q = {
		.keep = keep, .n_keep = n_keep, .preserve_fds = io->preserve_fds, .flags = clone_flags(c), .joined = c->namespaces, .n_joined = c->n_namespaces, .pidfd = -1, .cgroup = cgroup,
		.enter = c->cgroup.path ? &out->cgroup : NULL,
	};
	out->pid = clone_child(&q, sync, &out->pidfd, err);
	if (out->pid == 0)
		run_child(c, io, sync[1], &pipes);
	out->sync_fd = sync[0];
	if (out->pid < 0) {
		close_fd(&sync[1]);
		return out->pid;
	}
	out->start_fd = TAKE_FD(pipes.gate[1]);
	out->result_fd = TAKE_FD(pipes.result[0]);
	int r = supply(c, out, out->sync_fd, err);
	if (r == 0 && (r = proc_start_time(out->pid, &out->pid_start)) < 0)
		error_errno(err, r, "cannot read the start time of the first process");
	if (r < 0)
		kill_process(out);
	return r;
}

static void drop_read_maps(const struct container_config *c, struct container_config *own) {
	if (own->uid_maps != c->uid_maps)
		free(own->uid_maps);
	if (own->gid_maps != c->gid_maps)
		free(own->gid_maps);
}

/* As the runtime specification has it: a v2 group that is mounted writable in a cgroup name space of the container's
 * own belongs to its root. */
static int delegate(const struct container_config *c, const struct cgroup_state *group, struct error *err) {
	int64_t uid = id_to_host(c->uid_maps, c->n_uid_maps, 0), gid = id_to_host(c->gid_maps, c->n_gid_maps, 0);
	if (!config_namespace(c, CLONE_NEWCGROUP) || uid <= 0 || gid < 0)
		return 0;
	for (size_t i = 0; i < c->n_mounts; i++) {
		const struct container_mount *m = &c->mounts[i];
		bool v2 = str_same(m->type, "cgroup2") || (str_same(m->type, "cgroup") && cgroup_version() == 2);
		if (v2 && !(m->flags & MS_RDONLY))
			return cgroup_delegate(group, (uid_t)uid, (gid_t)gid, err);
	}
	return 0;
}

int container_begin(const struct container_config *c, const struct container_stdio *io, struct container_state *out,
		    struct error *err) {
	*out = (struct container_state){.start_fd = -1, .result_fd = -1, .sync_fd = -1, .pidfd = -1};
	int r = check_config(c, err);
	/* a process that joins namespaces has to be in all groups before that; else most are made after the clone */
	if (r == 0 && c->cgroup.path)
		r = config_joins(c) ? cgroup_create(&c->cgroup, &out->cgroup, err) : cgroup_begin(&c->cgroup, &out->cgroup, err);
	if (r < 0)
		return r;
	r = c->cgroup.path ? delegate(c, &out->cgroup, err) : 0;
	if (r < 0) {
		cgroup_undo(&out->cgroup);
		container_state_free(out);
		return r;
	}
	_cleanup_(close_fd) int cgroup = c->cgroup.path ? cgroup_open_v2(&out->cgroup) : -1;
	struct container_config own = *c; /* shares all but the maps of a user namespace that is joined */
	r = make_process(&own, io, cgroup, out, err);
	if (r == 0) {
		out->id = str_copy(c->id);
		out->config = state_config_print(&own);
	} else {
		cgroup_undo(&out->cgroup);
		container_state_free(out);
	}
	drop_read_maps(c, &own);
	return r;
}

int container_await(const struct container_config *c, struct container_stdio *io, struct container_state *s, struct error *err) {
	io->terminal_master = -1;
	int r = parent_await_ready(c, s->pid, s->sync_fd, io, err);
	if (r == 0)
		r = process_set_oom_score(&c->process, s->pid, err);
	if (r == 0 && config_namespace(c, CLONE_NEWUSER))
		r = process_set_rlimits(&c->process, s->pid, err);
	if (r < 0) {
		kill_process(s);
		cgroup_undo(&s->cgroup);
		close_fd(&io->terminal_master);
		container_state_free(s);
	}
	return r;
}

int container_create(const struct container_config *c, struct container_stdio *io, struct container_state *out, struct error *err) {
	io->terminal_master = -1;
	int r = container_begin(c, io, out, err);
	return r < 0 ? r : container_await(c, io, out, err);
}
