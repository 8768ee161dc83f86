/* Further processes inside a machine of a container's image: a port is plugged into the machine for each, on which wabe-init starts
 * it (model/guest.h), and in QEMU's container a process stands for it, as confined as QEMU (wabe-machine exec). Ports of
 * processes that have ended are taken away before the next one comes. */
#include "agent/machine-priv.h"

#include "base/fs.h"
#include "base/str.h"
#include "base/time.h"
#include "driver/qemu/qmp.h"
#include "model/guest.h"
#include "shim/protocol.h"

#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#define PORT_WAIT (10 * NS_PER_SEC)
#define ANSWER_WAIT (120 * NS_PER_SEC) /* the machine may have begun to start just now */
#define PORT_ID "exec-"

/* --- ports --- */

/* QEMU lets go of what is behind a device only some time after the device: then that goes at the next sweep. */
static int unplug(struct qmp *q, const char *id, struct error *err) {
	_cleanup_(error_free) struct error why = ERROR_INIT;
	int64_t deadline = time_mono_ns() + PORT_WAIT;
	int r = qmp_call(q, "device_del", json_pack("{s:s}", "id", id), -1, deadline, NULL, &why);
	if (r < 0 && r != -ERROR_NOT_FOUND)
		return error_move(err, &why);
	qmp_call(q, "chardev-remove", json_pack("{s:s}", "id", id), -1, deadline, NULL, &why);
	return 0;
}

/* Unplugs those of processes that have ended. */
static int sweep_ports(struct qmp *q, struct error *err) {
	_cleanup_(json_free_ptr) json_t *list = NULL;
	int r = qmp_call(q, "query-chardev", NULL, -1, time_mono_ns() + PORT_WAIT, &list, err);
	for (size_t i = 0; r == 0 && i < json_array_size(list); i++) {
		const json_t *one = json_array_get(list, i);
		const char *id = json_get_str(one, "label"), *where = json_get_str(one, "filename");
		if (id && str_starts(id, PORT_ID) && where && str_starts(where, "disconnected"))
			r = unplug(q, id, err);
	}
	return r;
}

static int plug(struct qmp *q, const char *id, int fd, struct error *err) {
	int64_t deadline = time_mono_ns() + PORT_WAIT;
	_cleanup_(free_ptr) char *name = str_format("%s%s", GUEST_PORT, id);
	json_t *add = json_pack("{s:s,s:{s:s,s:{s:{s:s,s:{s:s}},s:b}}}", "id", id, "backend", "type", "socket", "data", "addr", "type",
				"fd", "data", "str", id, "server", 0);
	int r = qmp_give(q, id, fd, deadline, err);
	if (r == 0)
		r = qmp_call(q, "chardev-add", json_incref(add), -1, deadline, NULL, err);
	if (r == 0)
		r = qmp_call(q, "device_add", json_pack("{s:s,s:s,s:s,s:s}", "driver", "virtserialport", "id", id, "chardev", id, "name", name),
			     -1, deadline, NULL, err);
	json_decref(add);
	return r < 0 ? error_wrap(err, "the machine takes no port for another process") : 0;
}

static int open_port(const struct job *j, const char *exec_id, int *port, struct error *err) {
	_cleanup_(free_ptr) char *id = str_format(PORT_ID "%.32s", exec_id);
	_cleanup_(qmp_free_ptr) struct qmp *q = NULL;
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return error_errno(err, errno, "cannot make a pair of sockets");
	_cleanup_(close_fd) int own = pair[0], theirs = pair[1];
	int r = machine_monitor(j->agent, j->id, time_mono_ns() + PORT_WAIT, &q, err);
	if (r == 0)
		r = sweep_ports(q, err);
	if (r == 0)
		r = plug(q, id, theirs, err);
	if (r == 0)
		*port = TAKE_FD(own);
	return r;
}

/* --- the talk before the process runs --- */

static int send_request(int port, const struct msg_exec_start *m, struct error *err) {
	const struct guest_run q = {.command = m->command, .env = m->env, .user = m->user && *m->user ? m->user : NULL,
		.workdir = m->workdir && *m->workdir ? m->workdir : NULL, .tty = m->tty, .stdin_open = m->stdin_open, .rows = m->rows,
		.columns = m->columns};
	_cleanup_(json_free_ptr) json_t *o = fields_print(&guest_run_table, &q);
	_cleanup_(free_ptr) char *text = json_print(o);
	uint8_t header[SHIM_HEADER];
	shim_header(header, GUEST_RUN, strlen(text));
	if (strlen(text) > GUEST_RUN_MAX)
		return error_set(err, ERROR_TOO_LARGE, "the command is too long");
	int r = fs_write_all(port, header, sizeof header);
	if (r == 0)
		r = fs_write_all(port, text, strlen(text));
	return r < 0 ? error_errno(err, r, "cannot talk to the machine") : 0;
}

/* Not one byte more: what comes behind is the relay's. */
static int receive(int port, void *to, size_t n, int64_t deadline, struct error *err) {
	for (char *at = to; n;) {
		int64_t left = deadline - time_mono_ns();
		struct pollfd p = {port, POLLIN, 0};
		if (left <= 0 || RETRY_EINTR(poll(&p, 1, (int)(left / NS_PER_MS + 1))) == 0)
			return error_set(err, ERROR_TIMEOUT, "the machine's first process does not answer");
		ssize_t got = RETRY_EINTR(recv(port, at, n, MSG_DONTWAIT));
		if (got == 0 || (got < 0 && errno != EAGAIN))
			return error_set(err, ERROR_CONFLICT, "the machine has ended");
		at += MAX(got, 0);
		n -= (size_t)MAX(got, 0);
	}
	return 0;
}

static int take_failure(const char *text, size_t n, struct error *err) {
	_cleanup_(json_free_ptr) json_t *o = json_parse(text, n, err);
	const char *kind = json_get_str(o, "kind"), *message = json_get_str(o, "message");
	if (!kind || !message)
		return error_set(err, ERROR_CORRUPT, "what the machine answers is no error");
	return error_set(err, error_kind_from_name(kind), "%s", message);
}

static int await_start(int port, struct error *err) {
	int64_t deadline = time_mono_ns() + ANSWER_WAIT;
	for (bool greeted = false;;) {
		char body[SHIM_FRAME_MAX];
		uint8_t h[SHIM_HEADER];
		int r = receive(port, h, sizeof h, deadline, err);
		size_t n = shim_length(h);
		if (r == 0 && n > sizeof body)
			r = error_set(err, ERROR_CORRUPT, "what the machine answers is too long");
		if (r == 0)
			r = receive(port, body, n, deadline, err);
		if (r < 0)
			return r;
		if (h[0] == GUEST_FAILED)
			return take_failure(body, n, err);
		if (h[0] == SHIM_READY)
			return 0;
		if (h[0] != GUEST_HELLO || greeted)
			return error_set(err, ERROR_CORRUPT, "the machine was started anew, or answers nonsense");
		greeted = true;
	}
}

/* --- the process that stands for it --- */

static int start_relay(const struct run_state *run, const struct msg_exec_start *m, int port, struct container_stdio *io, pid_t *pid,
		       struct error *err) {
	char *args[] = {MACHINE_LAUNCHER, "exec", NULL};
	const struct container_process p = {.args = args, .cwd = "/", .terminal = m->tty, .no_new_privileges = true,
		.rows = (uint16_t)m->rows, .columns = (uint16_t)m->columns};
	io->pass = &port;
	io->preserve_fds = 1;
	int r = container_exec(&run->container, &p, false, io, pid, err);
	io->pass = NULL;
	return r;
}

int machine_exec(const struct job *j, const struct msg_instance_create *r, const struct run_state *run,
		 const struct msg_exec_start *m, int *lock, struct container_stdio *io, pid_t *pid, struct error *err) {
	_cleanup_(close_fd) int port = -1;
	if (str_same(r->instance.status.state, "paused"))
		return error_set(err, ERROR_CONFLICT, "machine %.12s is paused", j->id);
	if (!guest_is(r))
		return machine_guest_exec(j, m, lock, io, pid, err);
	signal(SIGPIPE, SIG_IGN);
	int result = open_port(j, m->exec_id, &port, err);
	instance_unlock(lock); /* the guest may take its time */
	if (result == 0)
		result = send_request(port, m, err);
	if (result == 0)
		result = await_start(port, err);
	return result < 0 ? result : start_relay(run, m, port, io, pid, err);
}
