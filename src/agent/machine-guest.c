/* What is asked of the agent in a guest that has its own system (Debian's qemu-guest-agent and the like): processes, with input that
 * is given whole and output that comes when they have ended. */
#include "agent/machine-priv.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "base/time.h"
#include "driver/qemu/guest.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define INPUT_MAX ((size_t)16 << 20)
#define CALL_WAIT (30 * NS_PER_SEC)
#define THAW_WAIT (10 * NS_PER_SEC)
#define SHUTDOWN_WAIT (5 * NS_PER_SEC)
#define POLL_FIRST (20 * NS_PER_MS)
#define POLL_MAX (1 * NS_PER_SEC)
#define LOST 137

/* --- the channel --- */

/* Whether the guest has opened it: QEMU knows. */
static int check_channel(const struct agent *a, const char *id, struct error *err) {
	_cleanup_(json_free_ptr) json_t *list = NULL;
	int r = machine_call(a, id, "query-chardev", &list, err);
	for (size_t i = 0; r == 0 && i < json_array_size(list); i++) {
		const json_t *one = json_array_get(list, i);
		if (str_same(json_get_str(one, "label"), "guest") && json_get_bool(one, "frontend-open"))
			return 0;
	}
	return r < 0 ? r : error_set(err, ERROR_UNAVAILABLE, "no agent answers in machine %.12s: it may still be starting, or the guest has none "
				     "(its package is qemu-guest-agent)", id);
}

int machine_guest_open(const struct agent *a, const char *id, int64_t deadline, struct guest **out, struct error *err) {
	_cleanup_(free_ptr) char *dir = run_path(a, id, NULL);
	int r = check_channel(a, id, err);
	return r < 0 ? r : guest_open(dir, "guest", deadline, out, err);
}

/* --- processes --- */

/* What the agent has no word for the guest's own programs do. */
static char **guest_argv(const struct msg_exec_start *m) {
	char **argv = NULL;
	_cleanup_(free_ptr) char *user = m->user && *m->user ? str_copyn(m->user, strcspn(m->user, ":")) : NULL;
	const char *group = user ? strchr(m->user, ':') : NULL;
	const char *const as_user[] = {"runuser", "-u", user, group ? "-g" : "--", group ? group + 1 : NULL, "--"};
	for (size_t i = 0; user && i < (group ? 6u : 4u); i++)
		strv_add(&argv, as_user[i]);
	if (strv_len(m->env))
		strv_add(&argv, "env");
	for (char **e = m->env; e && *e; e++)
		strv_add(&argv, *e);
	if (m->workdir && *m->workdir) {
		const char *const there[] = {"sh", "-c", "cd -- \"$0\" && exec \"$@\"", m->workdir};
		for (size_t i = 0; i < ARRAY_SIZE(there); i++)
			strv_add(&argv, there[i]);
	}
	for (char **c = m->command; *c; c++)
		strv_add(&argv, *c);
	return argv;
}

static int begin(const struct agent *a, const char *id, const struct msg_exec_start *m, const struct buf *input, int64_t *pid,
		 struct error *err) {
	_cleanup_(strv_free_ptr) char **argv = guest_argv(m);
	_cleanup_(guest_free_ptr) struct guest *g = NULL;
	int64_t deadline = time_mono_ns() + CALL_WAIT;
	const struct guest_command c = {.argv = argv, .input = input ? input->data : NULL, .input_len = input ? input->len : 0,
					.capture = !m->detach};
	int r = machine_guest_open(a, id, deadline, &g, err);
	return r < 0 ? r : guest_exec(g, &c, deadline, pid, err);
}

static int await_end(const struct agent *a, const char *id, int64_t pid, struct guest_result *out, struct error *err) {
	int r = 0;
	for (int64_t pause = POLL_FIRST; r == 0; pause = MIN(2 * pause, POLL_MAX)) {
		_cleanup_(guest_free_ptr) struct guest *g = NULL; /* others have their turn between */
		int64_t deadline = time_mono_ns() + CALL_WAIT;
		r = machine_guest_open(a, id, deadline, &g, err);
		if (r == 0)
			r = guest_exec_status(g, pid, deadline, out, err);
		if (r < 0 || out->exited)
			break;
		guest_result_free(out);
		poll(NULL, 0, (int)(pause / NS_PER_MS)); /* there is no event of it */
	}
	return r;
}

int machine_guest_run(const struct agent *a, const char *id, char *const *argv, struct guest_result *out, struct error *err) {
	const struct msg_exec_start m = {.command = (char **)argv};
	int64_t pid;
	*out = (struct guest_result){0};
	int r = begin(a, id, &m, NULL, &pid, err);
	return r < 0 ? r : await_end(a, id, pid, out, err);
}

/* --- a process here that stands for one there --- */

struct stand_in {
	const struct agent *agent;
	const char *id;
	const struct msg_exec_start *exec;
	int64_t pid; /* there; 0: not started yet */
};

static void say(const char *text) {
	_cleanup_(free_ptr) char *line = str_format("wabe: %s\n", text);
	(void)!write(STDERR_FILENO, line, strlen(line));
}

static int read_input(struct buf *input, struct error *err) {
	int r = fs_read_fd(STDIN_FILENO, INPUT_MAX, input);
	if (r == -EFBIG)
		return error_set(err, ERROR_TOO_LARGE, "the guest's agent takes an input of %zu bytes at most", INPUT_MAX);
	return r < 0 ? error_errno(err, r, "cannot read the input") : 0;
}

static int stand_in_work(const struct stand_in *s, struct guest_result *result, struct error *err) {
	_cleanup_(buf_free) struct buf input = BUF_INIT;
	int64_t pid = s->pid;
	int r = pid ? 0 : read_input(&input, err);
	if (r == 0 && !pid)
		r = begin(s->agent, s->id, s->exec, &input, &pid, err);
	return r < 0 ? r : await_end(s->agent, s->id, pid, result, err);
}

__attribute__((noreturn)) static void stand_in_run(const struct stand_in *s) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct guest_result result = {0};
	int r = stand_in_work(s, &result, &err);
	if (r < 0) {
		say(error_text(&err));
		_exit(r == -ERROR_NOT_FOUND || r == -ERROR_UNAVAILABLE ? LOST : (int)start_failure_code(err.kind));
	}
	fs_write_all(STDOUT_FILENO, buf_str(&result.out), result.out.len);
	fs_write_all(STDERR_FILENO, buf_str(&result.err), result.err.len);
	if (result.out_truncated || result.err_truncated)
		say("there was more output than the guest's agent keeps");
	_exit(result.status);
}

static int take_stdio(const struct container_stdio *io) {
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	const int fds[] = {io->in, io->out, io->err};
	for (int i = 0; i < 3; i++)
		if (dup2(fds[i] < 0 ? null : fds[i], i) < 0)
			return -errno;
	syscall(SYS_close_range, 3, ~0U, 0);
	return 0;
}

int machine_guest_exec(const struct job *j, const struct msg_exec_start *m, int *lock, struct container_stdio *io, pid_t *pid,
		       struct error *err) {
	struct stand_in s = {.agent = j->agent, .id = j->id, .exec = m};
	if (m->tty)
		return error_set(err, ERROR_UNSUPPORTED, "the agent of machine %.12s gives no terminal: wabe console has one, and exec "
				 "without -t", j->id);
	if (m->privileged)
		return error_field(err, "privileged", "is for containers: in a machine all powers are the user's");
	instance_unlock(lock); /* the guest may take its time */
	int r = m->stdin_open ? check_channel(j->agent, j->id, err) : begin(j->agent, j->id, m, NULL, &s.pid, err);
	if (r < 0)
		return r;
	*pid = fork();
	if (*pid < 0)
		return error_errno(err, errno, "cannot start a process");
	if (*pid > 0)
		return 0;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (take_stdio(io) < 0 || worker_drop_powers() < 0)
		_exit(LOST);
	stand_in_run(&s);
}

/* --- the system --- */

bool machine_guest_freeze(const struct agent *a, const char *id) {
	_cleanup_(guest_free_ptr) struct guest *g = NULL;
	_cleanup_(error_free) struct error err = ERROR_INIT;
	int64_t deadline = time_mono_ns() + CALL_WAIT;
	int r = machine_guest_open(a, id, deadline, &g, &err);
	if (r == 0)
		r = guest_freeze(g, deadline, NULL, &err);
	if (r < 0 && r != -ERROR_UNAVAILABLE)
		log_warn("machine %.12s: its file systems are not held still: %s", id, error_text(&err));
	return r == 0;
}

void machine_guest_thaw(const struct agent *a, const char *id) {
	_cleanup_(guest_free_ptr) struct guest *g = NULL;
	_cleanup_(error_free) struct error err = ERROR_INIT;
	int64_t deadline = time_mono_ns() + THAW_WAIT;
	bool frozen = false;
	int r = machine_guest_open(a, id, deadline, &g, &err);
	if (r == 0)
		r = guest_frozen(g, deadline, &frozen, &err);
	if (r == 0 && frozen)
		r = guest_thaw(g, deadline, NULL, &err);
	if (r < 0 && r != -ERROR_UNAVAILABLE && r != -ERROR_NOT_FOUND && r != -ERROR_UNSUPPORTED)
		log_warn("machine %.12s: its file systems may still be held still: %s", id, error_text(&err));
}

bool machine_guest_shutdown(const struct agent *a, const char *id) {
	_cleanup_(guest_free_ptr) struct guest *g = NULL;
	_cleanup_(error_free) struct error err = ERROR_INIT;
	int64_t deadline = time_mono_ns() + SHUTDOWN_WAIT;
	int r = machine_guest_open(a, id, deadline, &g, &err);
	if (r == 0)
		r = guest_shutdown(g, "powerdown", deadline, &err);
	if (r < 0 && r != -ERROR_UNAVAILABLE)
		log_warn("machine %.12s: %s", id, error_text(&err));
	return r == 0;
}
