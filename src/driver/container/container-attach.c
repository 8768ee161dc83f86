/* Mounts in a container that runs: put there and taken away by a child that enters the container's mount name space
 * alone and stays the host's root. It resolves every path beneath the container's root, executes nothing and cannot be
 * seen from inside. */
#include "base/fs.h"
#include "driver/container/container-priv.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct inside {
	const struct container_config *c;
	const char *target;
	int mount;          /* add; -1 */
	bool directory;
	struct stat source; /* remove: what is mounted there */
	int fds;            /* /proc/self/fd of the host */
	int root;
};

static int add(struct inside *x, struct error *err) {
	if (act_as_container_root(x->c, true) < 0)
		return error_errno(err, errno, "cannot act as root of the container");
	_cleanup_(close_fd) int target = mount_open_target(x->root, x->target, x->directory, err);
	act_as_container_root(x->c, false);
	if (target < 0)
		return target;
	struct container_mount m = {.type = "bind", .target = (char *)x->target};
	int r = mount_check_target(&m, target, err);
	if (r < 0)
		return r;
	r = mount_attach(x->mount, target);
	return r < 0 ? error_errno(err, r, "cannot mount on %s", x->target) : 0;
}

/* Only what is known to be ours: a container must not have another mount of its own taken away, such as a mask. */
static int remove_mount(struct inside *x, struct error *err) {
	_cleanup_(close_fd) int target = fs_open_in_root(x->root, x->target, O_PATH, 0);
	struct stat st;
	if (target < 0 || fstat(target, &st) < 0 || st.st_dev != x->source.st_dev || st.st_ino != x->source.st_ino)
		return 0;
	char name[16];
	snprintf(name, sizeof name, "%d", target);
	if (fchdir(x->fds) < 0)
		return error_errno(err, errno, "cannot enter /proc");
	if (umount2(name, MNT_DETACH) < 0 && errno != EINVAL)
		return error_errno(err, errno, "cannot unmount %s", x->target);
	return 0;
}

static int enter(const struct container_state *s, int pidfd, struct inside *x, struct error *err) {
	x->fds = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (x->fds < 0 || setns(pidfd, CLONE_NEWNS) < 0)
		return error_errno(err, errno, "cannot enter the mount name space of the container %s", s->id);
	x->root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	return x->root < 0 ? error_errno(err, errno, "cannot open the container's root") : 0;
}

static int run_inside(const struct container_state *s, struct inside *x, int (*fn)(struct inside *x, struct error *err),
		      struct error *err) {
	_cleanup_(close_fd) int pidfd = state_open_pid(s);
	if (pidfd < 0 || !container_state_alive(s))
		return error_set(err, ERROR_CONFLICT, "the container %s is not running", s->id);
	int sync[2];
	int r = sync_pair(sync);
	if (r < 0)
		return error_errno(err, r, "cannot make a socket");
	pid_t pid = fork();
	if (pid == 0) {
		struct error e = ERROR_INIT;
		if (enter(s, pidfd, x, &e) < 0 || fn(x, &e) < 0)
			sync_fail(sync[1], &e);
		_exit(sync_send(sync[1], SYNC_MOUNT, -1, NULL, 0, -1) < 0);
	}
	close_fd(&sync[1]);
	_cleanup_(close_fd) int sock = sync[0];
	if (pid < 0)
		return error_errno(err, errno, "cannot fork");
	_cleanup_(sync_message_free) struct sync_message m = {.fd = -1};
	r = sync_recv(sock, &m);
	waitpid(pid, NULL, 0);
	if (r < 0)
		return error_errno(err, r, "a mount in the container %s could not be changed", s->id);
	return m.type == SYNC_ERROR ? sync_error(&m, err) : 0;
}

static int open_userns(const struct container_state *s, const struct container_config *c, struct error *err) {
	if (!c->n_uid_maps)
		return -1;
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/ns/user", s->pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? error_errno(err, errno, "cannot open the user namespace") : fd;
}

int container_mount_add(const struct container_state *s, const struct container_mount *m, struct error *err) {
	_cleanup_(container_config_free) struct container_config c;
	container_config_init(&c);
	int r = state_config_parse(s->config, &c, err);
	if (r < 0)
		return r;
	_cleanup_(close_fd) int userns = open_userns(s, &c, err);
	if (userns < -1)
		return userns;
	_cleanup_(close_fd) int mount = parent_mount(&c, m, userns, err);
	if (mount < 0)
		return mount;
	struct stat st;
	r = fstatat(mount, "", &st, AT_EMPTY_PATH) < 0 ? -errno : mount_change(mount, true, 0, 0, MS_PRIVATE);
	if (r < 0)
		return error_errno(err, r, "cannot prepare the mount on %s", m->target);
	struct inside x = {.c = &c, .target = m->target, .mount = mount, .directory = S_ISDIR(st.st_mode)};
	return run_inside(s, &x, add, err);
}

int container_mount_remove(const struct container_state *s, const char *target, const struct stat *source,
			   struct error *err) {
	struct inside x = {.target = target, .mount = -1, .source = *source};
	return run_inside(s, &x, remove_mount, err);
}
