/* A machine that is suspended: its memory is on disk, and QEMU has ended. Once the memory is kept under its name the machine ends,
 * whoever sees to it: this worker, or recovery after a crash. Before that it goes on. */
#include "agent/machine-priv.h"

#include "base/log.h"
#include "base/str.h"
#include "base/time.h"
#include "driver/qemu/qmp.h"

#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <unistd.h>

#define QUIT_WAIT (30 * NS_PER_SEC)

static int64_t soon(void) {
	return time_mono_ns() + QUIT_WAIT;
}

/* No restart policy takes its end for one. */
static int note_wish(const struct job *j, struct memory_saver *s, struct error *err) {
	struct instance_status *st = &s->record.instance.status;
	st->stopped_by_user = true;
	int r = record_save(j->agent, &s->record, err);
	if (r == 0)
		job_report(j, NULL, st, NULL);
	return r;
}

int machine_quit(const struct memory_saver *s, struct error *err) {
	_cleanup_(close_fd) int shim = run_pidfd(&s->run);
	int r = qmp_call(s->q, "quit", NULL, -1, soon(), NULL, err);
	struct pollfd p = {shim, POLLIN, 0};
	if (r == 0 && shim >= 0 && poll(&p, 1, (int)(QUIT_WAIT / NS_PER_MS)) == 0)
		container_kill(&s->run.container, SIGKILL, true, NULL);
	return r;
}

static int suspend(const struct job *j, struct memory_saver *s, struct error *err) {
	_cleanup_(free_ptr) char *to = memory_path(j->agent, j->id, NULL);
	int r = memory_save(j->agent, j->id, false, s, err);
	if (r == 0)
		r = note_wish(j, s, err);
	if (r == 0)
		r = memory_keep(s, to, err);
	if (r < 0)
		return r;
	r = checkpoints_save(j->agent, &s->record, &s->run, s->q, err);
	if (r == 0)
		r = machine_quit(s, err);
	s->halted = false; /* its memory is what goes on */
	fault_point("suspend.ended");
	return r < 0 ? r : instance_reap(j, &s->record, true, err);
}

int work_machine_suspend(struct job *j, struct error *err) {
	_cleanup_(memory_saver_free) struct memory_saver s = MEMORY_SAVER_INIT;
	int r = suspend(j, &s, err);
	if (r < 0)
		return r;
	job_report(j, "suspend", &s.record.instance.status, NULL);
	return job_answer_state(j, &s.record.instance, err);
}

/* One that halts for want of space, or after a panic, has another word for it. */
static int go_on(const struct agent *a, struct msg_instance_create *record, const struct run_state *run, struct qmp *q,
		 struct error *err) {
	_cleanup_(json_free_ptr) json_t *status = NULL;
	const struct instance_status *st = &record->instance.status;
	bool paused = !str_same(st->state, "running");
	bool suspended = memory_is_of(a, record->instance.id, st->started_at);
	if (st->moved || suspended || checkpoints_saved(a, record->instance.id)) {
		int r = st->moved ? 0 : checkpoints_save(a, record, run, q, err);
		return r < 0 ? r : qmp_call(q, "quit", NULL, -1, soon(), NULL, err);
	}
	if (st->moves_to)
		return migrate_recover(a, record, run, q, err);
	if (st->arriving)
		return arrival_look(a, record, run, q, err);
	qmp_call(q, "migrate_cancel", NULL, -1, soon(), NULL, NULL);
	int r = qmp_call(q, "query-status", NULL, -1, soon(), &status, err);
	const char *state = json_get_str(status, "status");
	bool halted = str_same(state, "paused") || str_same(state, "postmigrate");
	return r == 0 && halted && !paused ? qmp_call(q, "cont", NULL, -1, soon(), NULL, err) : r;
}

void machine_recover(const struct agent *a, struct msg_instance_create *record, const struct run_state *run) {
	const char *id = record->instance.id;
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(qmp_free_ptr) struct qmp *q = NULL;
	int r = machine_monitor(a, id, soon(), &q, &err);
	if (r == 0)
		r = go_on(a, record, run, q, &err);
	if (r < 0)
		log_warn("machine %.12s: %s", id, error_text(&err));
	qmp_free(TAKE_PTR(q)); /* one at a time has the monitor */
	if (str_same(record->instance.status.state, "running"))
		machine_size_recover(a, record, run);
	machine_export_recover(a, id);
	machine_guest_thaw(a, id); /* its file systems may be held still */
	memory_tidy(a, id);
}
