/* The first process of a container between its clone and its exec.
 *
 * It begins in copies of the host's mounts, does what needs them, and ends with nothing of the host in its
 * hands: before it waits at the gate all descriptors but the standard ones, the preserved ones and the
 * gate itself are closed, so that no path of the configuration (a command of /proc/self/fd/N/…) can lead out
 * (CVE-2024-21626). Whatever fails is sent to the parent, which undoes the whole. */
#include "base/fs.h"
#include "driver/container/container-priv.h"

#include <fcntl.h>
#include <grp.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <unistd.h>

#define KEYCTL_JOIN_SESSION_KEYRING 1

static int loopback_up(struct error *err) {
	_cleanup_(close_fd) int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP};
	if (sock < 0 || ioctl(sock, SIOCSIFFLAGS, &request) < 0)
		return error_errno(err, errno, "cannot bring the loopback interface up");
	return 0;
}

static int set_names(const struct container_config *c, struct error *err) {
	if (c->hostname && sethostname(c->hostname, strlen(c->hostname)) < 0)
		return error_errno(err, errno, "cannot set the host name %s", c->hostname);
	if (c->domainname && setdomainname(c->domainname, strlen(c->domainname)) < 0)
		return error_errno(err, errno, "cannot set the domain name %s", c->domainname);
	return 0;
}

/* Only what belongs to a namespace of the container's own: else the host would change. */
static int check_sysctl(const struct container_config *c, const char *key, struct error *err) {
	static const struct {
		const char *prefix;
		int flag;
	} table[] = {
		{"net.", CLONE_NEWNET},          {"fs.mqueue.", CLONE_NEWIPC},     {"kernel.msg", CLONE_NEWIPC},
		{"kernel.sem", CLONE_NEWIPC},    {"kernel.shm", CLONE_NEWIPC},     {"kernel.domainname", CLONE_NEWUTS},
		{"kernel.hostname", CLONE_NEWUTS},
	};
	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (str_starts(key, table[i].prefix))
			return config_namespace(c, table[i].flag)
				       ? 0
				       : error_field(err, "sysctls", "%s would change the host: its namespace is not private", key);
	return error_field(err, "sysctls", "%s does not belong to a namespace", key);
}

/* "net.ipv4.ip_forward" or "net/ipv4/conf/eth0.1/forwarding". */
static int set_sysctl(const struct container_config *c, const struct pair *p, struct error *err) {
	_cleanup_(free_ptr) char *key = str_copy(p->key), *path = str_format("/proc/sys/%s", p->key);
	bool slashes = strchr(key, '/') != NULL;
	for (char *s = key; *s; s++)
		if (slashes && *s == '/')
			*s = '.';
	for (char *s = path + strlen("/proc/sys/"); *s && !slashes; s++)
		if (*s == '.')
			*s = '/';
	if (strstr(path, "/../") || str_ends(path, "/.."))
		return error_field(err, "sysctls", "%s is no name of a setting", p->key);
	int r = check_sysctl(c, key, err);
	if (r < 0)
		return r;
	r = fs_write_value(path, p->value);
	return r < 0 ? error_errno(err, r, "cannot set the sysctl %s to \"%s\"", p->key, p->value) : 0;
}

static int set_time_offsets(const struct container_config *c, struct error *err) {
	if (!config_new_namespace(c, CLONE_NEWTIME))
		return 0;
	if (unshare(CLONE_NEWTIME) < 0)
		return error_errno(err, errno, "cannot make a time namespace");
	const struct {
		const char *clock;
		int64_t ns;
	} offsets[] = {{"monotonic", c->timens_monotonic}, {"boottime", c->timens_boottime}};
	for (size_t i = 0; i < ARRAY_SIZE(offsets); i++) {
		char line[96];
		int64_t sec = offsets[i].ns / 1000000000, rest = offsets[i].ns % 1000000000;
		if (rest < 0) {
			rest += 1000000000;
			sec--;
		}
		snprintf(line, sizeof line, "%s %lld %lld\n", offsets[i].clock, (long long)sec, (long long)rest);
		int r = offsets[i].ns ? fs_write_value("/proc/self/timens_offsets", line) : 0;
		if (r < 0)
			return error_errno(err, r, "cannot set the offset of the %s clock", offsets[i].clock);
	}
	_cleanup_(close_fd) int ns = open("/proc/self/ns/time_for_children", O_RDONLY | O_CLOEXEC);
	if (ns < 0 || setns(ns, CLONE_NEWTIME) < 0)
		return error_errno(err, errno, "cannot enter the time namespace");
	return 0;
}

static int become_root(const struct container_config *c, struct child *k, struct error *err) {
	if (!config_namespace(c, CLONE_NEWUSER))
		return 0;
	if (config_new_namespace(c, CLONE_NEWUSER))
		child_await(k, SYNC_MAPPED, 0);
	if (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0 || setgroups(0, NULL) < 0)
		return error_errno(err, errno, "cannot become root of the user namespace (is id 0 mapped?)");
	return 0;
}

static int enter_cgroup(struct child *k, struct error *err) {
	struct cgroup_state group = {.path = k->c->cgroup.path, .version = cgroup_version()};
	if (!group.path)
		return 0;
	child_await(k, SYNC_CGROUP, 0);
	return cgroup_enter(&group, 0, err);
}

static int set_up_namespaces(struct child *k, struct error *err) {
	const struct container_config *c = k->c;
	/* this is slow: the parent makes the control groups meanwhile */
	if (config_new_namespace(c, CLONE_NEWNET) && unshare(CLONE_NEWNET) < 0)
		return error_errno(err, errno, "cannot make a network namespace");
	int r = enter_cgroup(k, err);
	if (r < 0)
		return r;
	if (config_new_namespace(c, CLONE_NEWCGROUP) && unshare(CLONE_NEWCGROUP) < 0)
		return error_errno(err, errno, "cannot make a cgroup namespace");
	r = set_time_offsets(c, err);
	if (r == 0)
		r = become_root(c, k, err);
	if (r == 0)
		r = set_names(c, err);
	if (r == 0 && config_new_namespace(c, CLONE_NEWNET))
		r = loopback_up(err);
	for (size_t i = 0; r == 0 && i < c->sysctls.n; i++)
		r = set_sysctl(c, &c->sysctls.items[i], err);
	return r;
}

static int run_hooks(struct child *k, struct error *err) {
	const struct container_config *c = k->c;
	if (c->hooks[HOOK_PRESTART].n || c->hooks[HOOK_CREATE_RUNTIME].n) {
		sync_send(k->sync, SYNC_HOOKS, 0, NULL, 0, -1);
		child_await(k, SYNC_HOOKS, 0);
	}
	if (!c->hooks[HOOK_CREATE_CONTAINER].n)
		return 0;
	_cleanup_(free_ptr) char *state = hooks_state(c->id, "creating", getpid(), c->bundle, &c->annotations);
	return hooks_run(c->hooks[HOOK_CREATE_CONTAINER].items, c->hooks[HOOK_CREATE_CONTAINER].n, state, err);
}

static int make_cwd(struct child *k, struct error *err) {
	const char *cwd = k->process->cwd;
	if (!cwd || !*cwd || str_same(cwd, "/"))
		return 0;
	_cleanup_(close_fd) int dir = fs_open_in_root(k->root, cwd, O_PATH | O_DIRECTORY, 0);
	if (dir != -ENOENT)
		return 0; /* what is wrong with it shows when it is entered */
	dir = fs_mkdir_in_root(k->root, cwd, 0755);
	return dir < 0 ? error_errno(err, dir, "cannot make the working directory %s", cwd) : 0;
}

static int set_up_root(struct child *k, struct error *err) {
	int r = child_mounts(k, err);
	if (r == 0)
		r = make_cwd(k, err);
	if (r < 0)
		return r;
	if (k->process->terminal) {
		struct user_ids ids;
		r = users_resolve(k->root, k->process, &ids, err);
		if (r < 0)
			return r;
		r = tty_open(k->root, k->process, ids.uid, &k->master, &k->slave, err);
		user_ids_free(&ids);
		if (r == 0)
			r = dev_bind_console(k, err);
		if (r < 0)
			return r;
	}
	r = run_hooks(k, err);
	if (r == 0)
		r = child_pivot(k, err);
	return r < 0 ? r : child_finish_root(k, err);
}

/* The caller's further descriptors to their numbers, which nothing else has. */
static int take_passed(struct child *k, const struct container_stdio *io, struct error *err) {
	_cleanup_(free_ptr) int *above = alloc_array((size_t)k->preserve_fds + 1, sizeof *above);
	for (int i = 0; io->pass && i < k->preserve_fds; i++) {
		above[i] = fcntl(io->pass[i], F_DUPFD_CLOEXEC, 3 + k->preserve_fds);
		if (above[i] < 0)
			return error_errno(err, errno, "cannot pass on a descriptor");
	}
	for (int i = 0; io->pass && i < k->preserve_fds; i++) {
		dup2(above[i], 3 + i);
		close(above[i]);
	}
	return 0;
}

int child_take_stdio(struct child *k, const struct container_stdio *io, struct error *err) {
	if (setsid() < 0)
		return error_errno(err, errno, "cannot make a session");
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (k->process->terminal)
		return take_passed(k, io, err);
	int fds[3] = {io->in, io->out, io->err};
	_cleanup_(close_fd) int null = -1;
	for (int i = 0; i < 3; i++) {
		if (fds[i] < 0 && null < 0)
			null = open("/dev/null", O_RDWR | O_CLOEXEC);
		fds[i] = fcntl(fds[i] < 0 ? null : fds[i], F_DUPFD_CLOEXEC, 3 + k->preserve_fds);
		if (fds[i] < 0)
			return error_errno(err, errno, "cannot use the standard descriptors");
	}
	for (int i = 0; i < 3; i++) {
		dup2(fds[i], i);
		close(fds[i]);
	}
	return take_passed(k, io, err);
}

static bool is_null(int fd) {
	struct stat st;
	return fstat(fd, &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3);
}

/* A null device that the caller has given is the host's own file, whose mode a root without a user namespace of
 * its own could change by way of the descriptor: the container's takes its place. */
static int take_own_null(struct error *err) {
	_cleanup_(close_fd) int own = -1;
	for (int fd = 0; fd <= 2; fd++) {
		if (!is_null(fd))
			continue;
		if (own < 0)
			own = open("/dev/null", O_RDWR | O_NOCTTY | O_CLOEXEC);
		if (own < 0 || !is_null(own))
			return error_set(err, ERROR_INVALID, "/dev/null of the container is not the null device");
		if (dup2(own, fd) < 0)
			return error_errno(err, errno, "cannot use the null device");
	}
	return 0;
}

static void close_rest(struct child *k) {
	int keep[4] = {k->sync, k->gate_in, k->gate_hold, k->result};
	close_all_but(3 + (unsigned)k->preserve_fds, keep, ARRAY_SIZE(keep));
	for (int fd = 3; fd < 3 + k->preserve_fds; fd++)
		fd_set_cloexec(fd, false);
}

/* Until a byte comes through the gate. Until it is released, it dies with the parent. */
static void wait_at_gate(struct child *k) {
	for (;;) {
		struct pollfd fds[] = {{k->gate_in, POLLIN, 0}, {k->released ? -1 : k->sync, POLLIN, 0}};
		if (poll(fds, ARRAY_SIZE(fds), -1) < 0)
			continue;
		char byte;
		if ((fds[0].revents & POLLIN) && read(k->gate_in, &byte, 1) == 1)
			return;
		if (fds[1].revents) {
			child_await(k, SYNC_RELEASE, 0);
			sync_send(k->sync, SYNC_RELEASE, 0, NULL, 0, -1);
		}
	}
}

static void __attribute__((noreturn)) report_failure(struct child *k, const struct error *err) {
	_cleanup_(buf_free) struct buf packed = BUF_INIT;
	sync_pack_error(err, &packed);
	fs_write_all(k->result, packed.data, packed.len);
	_exit(err->kind == ERROR_NO_COMMAND ? 127 : err->kind == ERROR_NO_EXEC ? 126 : 125);
}

static int start_hooks(struct child *k, struct error *err) {
	if (!k->c || !k->c->hooks[HOOK_START_CONTAINER].n)
		return 0;
	const struct container_config *c = k->c;
	_cleanup_(free_ptr) char *state = hooks_state(c->id, "created", getpid(), c->bundle, &c->annotations);
	return hooks_run(c->hooks[HOOK_START_CONTAINER].items, c->hooks[HOOK_START_CONTAINER].n, state, err);
}

void child_finish(struct child *k, const struct user_ids *ids) {
	struct error err = ERROR_INIT;
	const struct container_process *p = k->process;
	syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL, 0, 0, 0); /* a kernel without keys has none to share */
	/* root may enter where the user may not, and the other way round (a file system that squashes root) */
	bool entered = process_enter_cwd(p, NULL) == 0;
	int r = take_own_null(&err);
	if (r == 0 && k->sets_rlimits)
		r = process_set_rlimits(p, 0, &err);
	if (r == 0)
		r = process_take_identity(p, ids, k->wants_filter && !p->no_new_privileges, &err);
	if (r == 0 && k->slave >= 0 && (r = tty_adopt(k->slave)) < 0)
		error_errno(&err, r, "cannot take the terminal");
	if (r == 0 && !entered)
		r = process_enter_cwd(p, &err);
	if (r == 0)
		r = process_look_up(p, &err);
	if (r < 0)
		sync_fail(k->sync, &err);
	if (sync_send(k->sync, SYNC_READY, 0, NULL, 0, k->master) < 0)
		_exit(125);
	close_rest(k);
	wait_at_gate(k);
	close(k->sync);
	r = start_hooks(k, &err);
	if (r == 0)
		r = process_confine(p, k->wants_filter ? &k->filter : NULL, k->filter_flags, &err);
	if (r == 0 && k->c && k->c->init)
		r = init_fork(&err);
	if (r == 0)
		process_exec(p, ids->home, &err);
	report_failure(k, &err);
}

void child_run(struct child *k) {
	struct error err = ERROR_INIT;
	int r = set_up_namespaces(k, &err);
	if (r == 0 && config_new_namespace(k->c, CLONE_NEWNS))
		r = set_up_root(k, &err);
	_cleanup_(close_fd) int root = r < 0 ? -1 : open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct user_ids ids = {0};
	if (r == 0)
		r = users_resolve(root, k->process, &ids, &err);
	if (r < 0)
		sync_fail(k->sync, &err);
	if (k->wants_filter)
		child_await(k, SYNC_SECCOMP, 0);
	child_finish(k, &ids);
}
