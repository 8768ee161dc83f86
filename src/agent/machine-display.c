/* What a machine shows: its graphical console as a stream of RFB (RFC 6143), whose other end QEMU gets over QMP. */
#include "agent/machine-priv.h"

#include "base/str.h"
#include "base/time.h"
#include "driver/qemu/qmp.h"

#include <sys/file.h>
#include <sys/socket.h>
#include <unistd.h>

#define DISPLAY_WAIT (10 * NS_PER_SEC)

int machine_open(const struct job *j, int *lock, struct msg_instance_create *r, struct qmp **q, struct error *err) {
	_cleanup_(free_ptr) char *dir = run_path(j->agent, j->id, NULL);
	int result = instance_lock(j->agent, j->id, LOCK_EX, LOCK_WAIT, lock, err);
	if (result == 0)
		result = record_load(j->agent, j->id, r, err);
	if (result == 0 && !instance_is_machine(&r->instance.spec))
		result = error_set(err, ERROR_CONFLICT, "instance %.12s is a container: this is for machines", j->id);
	return result < 0 ? result : qmp_open(dir, "qmp", time_mono_ns() + DISPLAY_WAIT, q, err);
}

static int hand_over(struct qmp *q, int fd, struct error *err) {
	int64_t deadline = time_mono_ns() + DISPLAY_WAIT;
	json_t *name = json_pack("{ss}", "fdname", "display");
	int r = qmp_call(q, "getfd", name, fd, deadline, NULL, err);
	json_t *client = json_pack("{ss, ss, sb}", "protocol", "vnc", "fdname", "display", "skipauth", 1);
	return r < 0 ? json_decref(client), r : qmp_call(q, "add_client", client, -1, deadline, NULL, err);
}

int work_machine_display(struct job *j, struct error *err) {
	_cleanup_(instance_unlock) int lock = -1;
	_cleanup_(record_free) struct msg_instance_create r = {0};
	_cleanup_(qmp_free_ptr) struct qmp *q = NULL;
	int result = machine_open(j, &lock, &r, &q, err), pair[2];
	if (result < 0)
		return result;
	const char *video = r.instance.spec.machine.video;
	if (!video || str_same(video, "none"))
		return error_set(err, ERROR_CONFLICT, "machine %.12s has no graphics card: make one with --video vga, or use its console", j->id);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return error_errno(err, errno, "cannot make a pair of sockets");
	_cleanup_(close_fd) int own = pair[0], theirs = pair[1];
	result = hand_over(q, theirs, err);
	return result < 0 ? result : job_answer(j, NULL, &own, 1, err);
}
