/* What a machine shows: its graphical console as a stream of RFB (RFC 6143), whose other end QEMU gets over QMP, and as a picture;
 * keys and pointer. */
#include "agent/machine-priv.h"

#include "base/fs.h"
#include "base/str.h"
#include "base/time.h"
#include "driver/qemu/screen.h"

#include <sys/file.h>
#include <sys/socket.h>
#include <unistd.h>

#define DISPLAY_WAIT (10 * NS_PER_SEC)
#define INPUT_WAIT (60 * NS_PER_SEC) /* a long text takes seconds */

int machine_open(const struct job *j, int *lock, struct msg_instance_create *r, struct qmp **q, struct error *err) {
	int result = instance_lock(j->agent, j->id, LOCK_EX, LOCK_WAIT, lock, err);
	if (result == 0)
		result = record_load(j->agent, j->id, r, err);
	if (result == 0 && !instance_is_machine(&r->instance.spec))
		result = error_set(err, ERROR_CONFLICT, "instance %.12s is a container: this is for machines", j->id);
	return result < 0 ? result : machine_monitor(j->agent, j->id, time_mono_ns() + DISPLAY_WAIT, q, err);
}

static int hand_over(struct qmp *q, int fd, struct error *err) {
	int64_t deadline = time_mono_ns() + DISPLAY_WAIT;
	int r = qmp_give(q, "display", fd, deadline, err);
	json_t *client = json_pack("{ss, ss, sb}", "protocol", "vnc", "fdname", "display", "skipauth", 1);
	return r < 0 ? json_decref(client), r : qmp_call(q, "add_client", client, -1, deadline, NULL, err);
}

static int check_video(const struct msg_instance_create *r, struct error *err) {
	const char *video = r->instance.spec.machine.video;
	return video && !str_same(video, "none") ? 0
						 : error_set(err, ERROR_CONFLICT, "machine %.12s has no graphics card: make one with "
							     "--video vga, or use its console", r->instance.id);
}

int work_machine_display(struct job *j, struct error *err) {
	_cleanup_(instance_unlock) int lock = -1;
	_cleanup_(record_free) struct msg_instance_create r = {0};
	_cleanup_(qmp_free_ptr) struct qmp *q = NULL;
	int result = machine_open(j, &lock, &r, &q, err), pair[2];
	if (result == 0)
		result = check_video(&r, err);
	if (result < 0)
		return result;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return error_errno(err, errno, "cannot make a pair of sockets");
	_cleanup_(close_fd) int own = pair[0], theirs = pair[1];
	result = hand_over(q, theirs, err);
	return result < 0 ? result : job_answer(j, NULL, &own, 1, err);
}

/* The picture is whole before anything of it is sent, so that the machine waits for nobody. */
int work_machine_screen(struct job *j, struct error *err) {
	_cleanup_(instance_unlock) int lock = -1;
	_cleanup_(record_free) struct msg_instance_create r = {0};
	_cleanup_(qmp_free_ptr) struct qmp *q = NULL;
	_cleanup_(buf_free) struct buf png = BUF_INIT_MAX(SCREEN_MAX);
	_cleanup_(close_fd) int writer = -1;
	int result = machine_open(j, &lock, &r, &q, err);
	if (result == 0)
		result = check_video(&r, err);
	if (result == 0)
		result = screen_shot(q, time_mono_ns() + DISPLAY_WAIT, &png, err);
	instance_unlock(&lock);
	if (result == 0)
		result = answer_stream(j, NULL, &writer, err);
	if (result < 0)
		return result;
	result = fs_write_all(writer, png.data, png.len);
	if (result == 0)
		guard_finish(&writer);
	return result < 0 ? error_errno(err, result, "cannot send the picture") : 0;
}

/* The pointer moves to a point by the tablet that comes with a graphics card or USB. */
static int check_input(const struct machine_spec *m, const struct machine_input *in, struct error *err) {
	bool video = m->video && !str_same(m->video, "none");
	if (str_same(m->chipset, "microvm"))
		return error_set(err, ERROR_UNSUPPORTED, "chipset microvm has neither keyboard nor pointer: use its console");
	if (str_same(in->move, "to") && !video)
		return error_field(err, "move", "there is no screen with points to move to: make the machine with --video vga");
	return screen_input_check(in, err);
}

int work_machine_input(struct job *j, struct error *err) {
	const struct msg_machine_input *m = j->body;
	_cleanup_(instance_unlock) int lock = -1;
	_cleanup_(record_free) struct msg_instance_create r = {0};
	_cleanup_(qmp_free_ptr) struct qmp *q = NULL;
	int result = machine_open(j, &lock, &r, &q, err);
	if (result == 0)
		result = check_input(&r.instance.spec.machine, &m->input, err);
	if (result == 0)
		result = screen_input(q, &m->input, time_mono_ns() + INPUT_WAIT, err);
	return result < 0 ? result : job_answer(j, NULL, NULL, 0, err);
}
