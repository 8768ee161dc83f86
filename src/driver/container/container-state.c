/* What is kept of a container, and what can be done with that alone: is it alive, signals, start, destroy. */
#include "base/fs.h"
#include "driver/container/container-priv.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

int proc_start_time(pid_t pid, uint64_t *start) {
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/stat", pid);
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	int r = fs_read(path, 65536, &text);
	if (r < 0)
		return r;
	/* the second field is the command's name in parentheses and may hold anything */
	const char *p = strrchr(buf_str(&text), ')');
	for (int field = 2; p && field < 22; field++)
		p = strchr(p + 1, ' ');
	if (!p)
		return -EINVAL;
	*start = strtoull(p + 1, NULL, 10);
	return 0;
}

int state_open_pid(const struct container_state *s) {
	if (s->pid <= 0)
		return -ESRCH;
	_cleanup_(close_fd) int pidfd = pidfd_open(s->pid, 0);
	if (pidfd < 0)
		return errno == EINVAL ? -ESRCH : -errno;
	uint64_t start;
	/* read after pidfd_open: if it fits, the descriptor is that process's */
	if (proc_start_time(s->pid, &start) < 0 || start != s->pid_start)
		return -ESRCH;
	return TAKE_FD(pidfd);
}

static bool is_zombie(int pidfd) {
	siginfo_t info = {0};
	/* a pidfd is readable once its process has ended; waitid works for our own children alone */
	if (waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED | WNOHANG | WNOWAIT) == 0)
		return info.si_pid != 0;
	return pidfd_send_signal(pidfd, 0, NULL, 0) < 0;
}

bool container_state_alive(const struct container_state *s) {
	_cleanup_(close_fd) int pidfd = state_open_pid(s);
	if (pidfd < 0 || is_zombie(pidfd))
		return false;
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/stat", s->pid);
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	if (fs_read(path, 65536, &text) < 0)
		return false;
	const char *p = strrchr(buf_str(&text), ')');
	return p && p[1] && p[2] != 'Z' && p[2] != 'X';
}

json_t *container_state_print(const struct container_state *s) {
	json_t *o = json_object();
	json_set_str(o, "id", s->id);
	json_set_int(o, "pid", s->pid);
	json_set_int(o, "pid_start", (int64_t)s->pid_start);
	json_object_set_new(o, "gate", json_pack("[iiII]", s->gate[0], s->gate[1],
							 (json_int_t)s->gate_inodes[0], (json_int_t)s->gate_inodes[1]));
	json_object_set(o, "config", s->config);
	if (s->cgroup.path)
		json_object_set_new(o, "cgroup", cgroup_state_print(&s->cgroup));
	return o;
}

int container_state_parse(const json_t *json, struct container_state *s, struct error *err) {
	*s = (struct container_state){.start_fd = -1, .result_fd = -1, .sync_fd = -1, .pidfd = -1};
	const char *id = json_get_str(json, "id");
	json_t *config = json_object_get(json, "config"), *gate = json_object_get(json, "gate");
	const json_t *cgroup = json_object_get(json, "cgroup");
	if (!id || !json_is_object(config) || json_array_size(gate) != 4)
		return error_set(err, ERROR_CORRUPT, "the state of the container is not readable");
	int r = cgroup ? cgroup_state_parse(cgroup, &s->cgroup, err) : 0;
	if (r < 0)
		return r;
	s->id = str_copy(id);
	s->pid = (pid_t)json_get_int(json, "pid");
	s->pid_start = (uint64_t)json_get_int(json, "pid_start");
	for (size_t i = 0; i < 2; i++) {
		s->gate[i] = (int)json_integer_value(json_array_get(gate, i));
		s->gate_inodes[i] = (uint64_t)json_integer_value(json_array_get(gate, i + 2));
	}
	s->config = json_incref(config);
	return 0;
}

void container_state_free(struct container_state *s) {
	free(s->id);
	json_decref(s->config);
	cgroup_state_free(&s->cgroup);
	close_fd(&s->start_fd);
	close_fd(&s->result_fd);
	close_fd(&s->sync_fd);
	close_fd(&s->pidfd);
	*s = (struct container_state){.start_fd = -1, .result_fd = -1, .sync_fd = -1, .pidfd = -1};
}

/* A pipe of the first process that is the one which it was made with; nothing else is opened for use. */
static int open_pipe_of(const struct container_state *s, int i, int flags) {
	char path[64], own[FD_PATH_MAX];
	struct stat st;
	snprintf(path, sizeof path, "/proc/%d/fd/%d", s->pid, s->gate[i]);
	_cleanup_(close_fd) int fd = open(path, O_PATH | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISFIFO(st.st_mode) || st.st_ino != s->gate_inodes[i])
		return -1;
	return open(fd_path(fd, own), flags | O_CLOEXEC);
}

/* The far ends of the gate, by way of the first process's own descriptors: they work for any process of the
 * host's root, as long as the first process has not passed the gate. */
static int open_gate(struct container_state *s, struct error *err) {
	_cleanup_(close_fd) int pidfd = state_open_pid(s);
	if (pidfd < 0)
		return error_set(err, ERROR_CONFLICT, "the container %s has ended", s->id);
	s->start_fd = open_pipe_of(s, 0, O_WRONLY);
	s->result_fd = open_pipe_of(s, 1, O_RDONLY);
	if (s->start_fd < 0 || s->result_fd < 0)
		return error_set(err, ERROR_CONFLICT, "the container %s has been started already", s->id);
	return 0;
}

int container_start(struct container_state *s, struct error *err) {
	if (s->start_fd < 0) {
		int r = open_gate(s, err);
		if (r < 0)
			return r;
	}
	ssize_t n = RETRY_EINTR(write(s->start_fd, "s", 1));
	close_fd(&s->start_fd);
	if (n != 1)
		return error_set(err, ERROR_CONFLICT, "the container %s has ended before its start", s->id);
	_cleanup_(buf_free) struct buf text = BUF_INIT_MAX(65536);
	int r = fs_read_fd(s->result_fd, 65000, &text);
	close_fd(&s->result_fd);
	close_fd(&s->sync_fd);
	if (r < 0)
		return error_errno(err, r, "cannot read the result of the start");
	return text.len ? sync_unpack_error(0, text.data, text.len, err) : 0;
}

void container_hand_over(struct container_state *s) {
	_cleanup_(sync_message_free) struct sync_message m = {.fd = -1};
	if (s->sync_fd >= 0 && sync_send(s->sync_fd, SYNC_RELEASE, 0, NULL, 0, -1) == 0)
		sync_recv(s->sync_fd, &m); /* it has taken note, or has ended */
	close_fd(&s->sync_fd);
}

int container_kill(const struct container_state *s, int signo, bool all, struct error *err) {
	if (all && s->cgroup.path)
		return cgroup_kill(&s->cgroup, signo, err);
	_cleanup_(close_fd) int pidfd = state_open_pid(s);
	if (pidfd < 0 || !container_state_alive(s))
		return error_set(err, ERROR_NOT_FOUND, "the container %s has ended", s->id);
	if (pidfd_send_signal(pidfd, signo, NULL, 0) < 0)
		return errno == ESRCH ? error_set(err, ERROR_NOT_FOUND, "the container %s has ended", s->id)
				      : error_errno(err, errno, "cannot send signal %d to the container %s", signo, s->id);
	return 0;
}

int container_destroy(struct container_state *s, struct error *err) {
	_cleanup_(close_fd) int pidfd = state_open_pid(s);
	if (pidfd >= 0)
		pidfd_send_signal(pidfd, SIGKILL, NULL, 0);
	if (!s->cgroup.path)
		return 0;
	struct error killed = ERROR_INIT;
	if (cgroup_kill(&s->cgroup, SIGKILL, &killed) < 0 && killed.kind != ERROR_NOT_FOUND)
		return error_move(err, &killed);
	error_free(&killed);
	return cgroup_remove(&s->cgroup, err);
}

int container_root_open(const struct container_state *s, struct error *err) {
	_cleanup_(close_fd) int pidfd = container_state_alive(s) ? state_open_pid(s) : -1;
	if (pidfd >= 0) {
		char path[64];
		snprintf(path, sizeof path, "/proc/%d/root", s->pid);
		_cleanup_(close_fd) int root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
		/* still that process: then the path was its root */
		if (root >= 0 && pidfd_send_signal(pidfd, 0, NULL, 0) == 0)
			return TAKE_FD(root);
	}
	_cleanup_(container_config_free) struct container_config c;
	container_config_init(&c);
	int r = state_config_parse(s->config, &c, err);
	return r < 0 ? r : container_root_mount(&c, err);
}
