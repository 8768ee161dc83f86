/* A disk of a machine that runs moves into another pool: a volume, or the machine's root. QEMU copies it while the guest writes, then
 * halts for a moment, in which the disk is put upon the copy and it is put on record that the new pool has it (volume-moved.c):
 * until that step the old place counts, from then on the new one. What goes on is noted in the run's state; whoever holds the lock
 * of the new volume is at work on it, else it was cut off, and recovery ends it. The machine's lock is held at the beginning and at
 * the end alone, so that it can be stopped meanwhile. */
#include "agent/machine-priv.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "base/time.h"
#include "driver/qemu/live.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define ANSWER_WAIT (60 * NS_PER_SEC)
#define HALT_WAIT (10 * NS_PER_SEC) /* the guest stands still so long at most */
#define LOOK_EVERY 200              /* ms: QEMU has no event for progress */

static int64_t soon(void) {
	return time_mono_ns() + ANSWER_WAIT;
}

int machine_move_check(const struct run_state *run, const char *id, struct error *err) {
	if (!run->move.id || (id && !str_same(run->move.id, id)))
		return 0;
	return error_set(err, ERROR_CONFLICT, "the disk is on its way into another pool: wait for that task, or cancel it");
}

/* --- the end, from whatever was --- */

static char *disk_of(const char *instance, const char *volume) {
	return machine_disk_id(str_same(instance, volume) ? NULL : volume);
}

static void switch_pool(struct run_state *run, const char *id, const char *pool_id) {
	for (size_t i = 0; i < run->volumes.n; i++) {
		struct run_volume *v = &run->volumes.items[i];
		if (!str_same(v->id, id))
			continue;
		free(v->pool_id);
		v->pool_id = str_copy(pool_id);
	}
}

/* What QEMU knows of it goes. One that was halted after the exchange, and not recorded, is recorded now. */
static int end_in_qemu(const struct job *j, struct msg_instance_create *r, const struct run_state *run, const struct pool_entry *from,
		       const struct pool_entry *to, struct error *err) {
	_cleanup_(qmp_free_ptr) struct qmp *q = NULL;
	_cleanup_(free_ptr) char *disk = disk_of(r->instance.id, run->move.id);
	bool used = false;
	int result = run->move.place ? machine_monitor(j->agent, r->instance.id, soon(), &q, err) : 0;
	if (q)
		result = live_move_end(q, disk, run->move.place, soon(), &used, err);
	if (result == 0 && used && !volume_has_moved(j->agent, to, run->move.id))
		result = volume_moved(from, to, run->move.id, r, err);
	fault_point("diskmove.ended");
	return result == 0 && used ? live_move_drop_other(q, disk, run->move.place, soon(), err) : result;
}

static int end_in_pools(const struct job *j, struct run_state *run, const struct pool_entry *from, const struct pool_entry *to,
			struct error *err) {
	const char *id = run->move.id;
	if (!volume_has_moved(j->agent, to, id))
		return volume_clear(to, id, err);
	switch_pool(run, id, to->pool.id);
	int r = run_save(j->agent, j->id, run, err);
	fault_point("diskmove.noted");
	return r < 0 ? r : volume_moved_finish(from, to, id, err);
}

/* With both locks. */
static int end_move(const struct job *j, struct msg_instance_create *r, struct run_state *run, bool alive, struct error *err) {
	const struct pool_entry *from = pool_get(j->agent, run->move.from), *to = pool_get(j->agent, run->move.to);
	if (!from || !to) {
		run_move_free(&run->move);
		return 0;
	}
	int result = alive ? end_in_qemu(j, r, run, from, to, err) : 0;
	if (result < 0)
		return result;
	result = end_in_pools(j, run, from, to, err); /* what stays there is found by its record */
	run_move_free(&run->move);
	int saved = run_save(j->agent, j->id, run, result == 0 ? err : NULL);
	return result < 0 ? result : saved;
}

void machine_move_recover(const struct job *j, struct msg_instance_create *r, struct run_state *run, bool alive) {
	const struct pool_entry *to = run->move.id ? pool_get(j->agent, run->move.to) : NULL;
	_cleanup_(volume_unlock) int lock = -1;
	_cleanup_(error_free) struct error err = ERROR_INIT;
	if (!to || volume_try_lock(to, run->move.id, &lock) < 0)
		return;
	if (end_move(j, r, run, alive, &err) < 0)
		log_warn("machine %.12s: a disk that was on its way into the pool %s: %s", r->instance.id, to->pool.spec.name,
			 error_text(&err));
}

/* --- one move --- */

struct move {
	struct job *job;
	const struct msg_disk_move *m;
	const struct pool_entry *from, *to;
	struct volume_source source;
	char *disk;
	bool root, read_only;
	int64_t run; /* that it is a disk of */
	int pool_lock, lock, fd;
};

static void move_free(struct move *x) {
	volume_unlock(&x->source.lock);
	volume_unlock(&x->lock);
	volume_unlock(&x->pool_lock);
	close_fd(&x->fd);
	free(x->disk);
}

/* The machine, locked, as it is now. */
struct here {
	struct msg_instance_create record;
	struct run_state run;
	int lock;
	bool alive;
};

static void here_free(struct here *h) {
	record_free(&h->record);
	run_free(&h->run);
	instance_unlock(&h->lock);
}

/* With any run, or none. */
static int enter(const struct job *j, struct here *h, struct error *err) {
	*h = (struct here){.lock = -1};
	int r = instance_lock(j->agent, j->id, LOCK_EX, LOCK_WAIT, &h->lock, err);
	if (r == 0)
		r = record_load(j->agent, j->id, &h->record, err);
	if (r == 0 && run_load(j->agent, j->id, &h->run, NULL) == 0)
		h->alive = h->run.created && container_state_alive(&h->run.container);
	return r;
}

/* With the run in which the move began. */
static int enter_run(const struct move *x, struct here *h, struct error *err) {
	int r = enter(x->job, h, err);
	if (r == 0 && (!h->alive || h->run.started_at != x->run || !str_same(h->run.move.id, x->m->volume.id)))
		r = error_set(err, ERROR_CONFLICT, "the machine ended while its disk was moved: it stays where it was");
	return r;
}

static bool is_cancelled(const struct move *x, int timeout) {
	struct pollfd p = {x->job->sock, POLLIN | POLLRDHUP, 0};
	return poll(&p, 1, timeout) > 0;
}

static int cancelled(struct error *err) {
	return error_set(err, ERROR_CANCELLED, "cancelled: the disk stays where it was");
}

/* --- whether it can be --- */

static const struct run_volume *volume_of(const struct run_state *run, const char *id) {
	for (size_t i = 0; i < run->volumes.n; i++)
		if (str_same(run->volumes.items[i].id, id))
			return &run->volumes.items[i];
	return NULL;
}

static bool is_read_only(const struct instance *i, const char *volume) {
	for (size_t n = 0; n < i->volumes.n; n++)
		for (size_t k = 0; k < i->spec.mounts.n; k++)
			if (str_same(i->volumes.items[n].volume_id, volume) && i->spec.mounts.items[k].read_only &&
			    str_same(i->spec.mounts.items[k].source, i->volumes.items[n].name))
				return true;
	return false;
}

static int check_volume(const struct move *x, const struct here *h, struct error *err) {
	const struct run_volume *v = volume_of(&h->run, x->m->volume.id);
	_cleanup_(strv_free_ptr) char **others = volume_users(x->job->agent, x->m->volume.id, x->job->id);
	if (!v || !v->block || v->changing || !str_same(v->pool_id, x->m->from))
		return error_set(err, ERROR_CONFLICT, "machine %.12s does not run with the volume of that pool", x->job->id);
	if (others)
		return error_set(err, ERROR_CONFLICT, "instance %.12s uses the volume too: only one that one machine has moves while it is used",
				 others[0]);
	if (is_read_only(&h->record.instance, x->m->volume.id))
		return error_set(err, ERROR_UNSUPPORTED, "machine %.12s has the volume to read only: detach it first", x->job->id);
	return 0;
}

static int check_machine(const struct move *x, const struct here *h, struct error *err) {
	const struct instance *i = &h->record.instance;
	if (!instance_is_machine(&i->spec))
		return error_set(err, ERROR_UNSUPPORTED, "instance %.12s is a container: only what a machine has moves while it is used", i->id);
	if (!h->alive || !(state_bit(i->status.state) & S_UP))
		return error_set(err, ERROR_CONFLICT, "machine %.12s does not run", i->id);
	if (guest_is(&h->record))
		return error_set(err, ERROR_UNSUPPORTED, "machine %.12s is of a container's image: its disks move when it is stopped", i->id);
	if (h->run.move.id)
		return error_set(err, ERROR_CONFLICT, "another disk of machine %.12s is on its way into another pool", i->id);
	if (!x->root)
		return check_volume(x, h, err);
	if (!str_same(root_pool_id(&h->record.instance), x->m->from))
		return error_set(err, ERROR_CONFLICT, "the root of machine %.12s is not in that pool", i->id);
	return 0;
}

/* --- the steps --- */

static int open_both(struct move *x, struct error *err) {
	int r = pool_use(x->job, x->m->pool_id, &x->to, &x->pool_lock, err);
	if (r == 0)
		r = pool_ready(x->job, x->m->from, &x->from, err);
	if (r == 0 && x->from == x->to)
		return error_field(err, "pool_id", "is where the disk is already");
	if (r == 0 && !pool_can(x->to).blocks)
		return error_set(err, ERROR_UNSUPPORTED, "the pool %s (driver %s) has no block volumes", x->to->pool.spec.name,
				 x->to->driver->name);
	if (r == 0)
		r = volume_lock(x->to, x->m->volume.id, LOCK_EX, &x->lock, err);
	if (r == 0)
		r = volume_lock(x->from, x->m->volume.id, LOCK_SH, &x->source.lock, err);
	x->source.pool = x->from;
	x->source.id = x->m->volume.id;
	x->source.block = true;
	return r;
}

/* On record before anything is there. */
static int note(struct move *x, struct error *err) {
	_cleanup_(here_free) struct here h = {.lock = -1};
	int r = enter(x->job, &h, err);
	if (r == 0 && h.run.move.id && str_same(h.run.move.to, x->m->pool_id) && str_same(h.run.move.id, x->m->volume.id))
		r = end_move(x->job, &h.record, &h.run, h.alive, err); /* one that was cut off: its lock is ours */
	if (r == 0)
		r = check_machine(x, &h, err);
	if (r < 0)
		return r;
	x->run = h.run.started_at;
	h.run.move = (struct run_move){str_copy(x->m->volume.id), str_copy(x->m->from), str_copy(x->m->pool_id), NULL};
	r = run_save(x->job->agent, x->job->id, &h.run, err);
	fault_point("diskmove.begun");
	return r;
}

/* As large as the old one is now. */
static int make_new(struct move *x, struct error *err) {
	struct storage_volume v = volume_for_driver(&x->m->volume);
	int64_t used;
	_cleanup_(volume_unlock) int busy = -1;
	int r = volume_clear(x->to, v.id, err);
	if (r == 0)
		r = volume_begin(x->to, &x->m->volume, err);
	if (r == 0)
		r = volume_busy_lock(x->from, v.id, &busy, err);
	if (r == 0)
		r = x->from->driver->volume_usage(&x->from->ref, v.id, true, &v.size, &used, err);
	volume_unlock(&busy);
	if (r == 0)
		r = volume_move_snapshots(x->job, &x->source, x->m->snapshots, x->to, &v, err);
	fault_point("diskmove.made");
	return r;
}

static int open_in(const struct move *x, const struct pool_entry *e, int *fd, struct error *err) {
	_cleanup_(free_ptr) char *device = NULL;
	struct storage_handle h = {0};
	int r = x->root ? volume_open(e, x->m->volume.id, true, NULL, &h, err) : volume_open_device(e, x->m->volume.id, &device, err);
	const char *path = x->root ? h.path : device;
	*fd = r < 0 ? r : open(path, O_RDWR | O_CLOEXEC);
	if (r == 0 && *fd < 0)
		r = error_errno(err, errno, "cannot open %s", path);
	storage_handle_free(&h);
	return r;
}

/* A file and a device are not the same to QEMU: what it has saved with the one it does not take up with the other. */
static int open_new(struct move *x, struct error *err) {
	_cleanup_(close_fd) int old = -1;
	struct stat a, b;
	int r = open_in(x, x->to, &x->fd, err);
	if (r == 0)
		r = open_in(x, x->from, &old, err);
	if (r == 0 && (fstat(x->fd, &a) < 0 || fstat(old, &b) < 0 || S_ISBLK(a.st_mode) != S_ISBLK(b.st_mode)))
		machine_mark_changed(x->job->agent, x->job->id);
	return r;
}

static int begin(struct move *x, struct error *err) {
	_cleanup_(here_free) struct here h = {.lock = -1};
	_cleanup_(qmp_free_ptr) struct qmp *q = NULL;
	const struct machine_disk d = {.id = x->disk, .fd = x->fd, .format = "raw"};
	const char *place;
	int r = enter_run(x, &h, err);
	if (r == 0)
		r = machine_monitor(x->job->agent, x->job->id, soon(), &q, err);
	if (r == 0)
		r = live_jobs_none(q, soon(), err);
	if (r == 0)
		r = live_move_place(q, x->disk, soon(), &place, err);
	if (r < 0)
		return r;
	h.run.move.place = str_copy(place);
	r = run_save(x->job->agent, x->job->id, &h.run, err);
	if (r == 0)
		r = live_move_begin(q, &d, place, soon(), err);
	fault_point("diskmove.copying");
	return r;
}

static int look(const struct move *x, struct live_copy *c, struct error *err) {
	_cleanup_(qmp_free_ptr) struct qmp *q = NULL;
	int r = machine_monitor(x->job->agent, x->job->id, soon(), &q, err);
	return r < 0 ? r : live_move_look(q, x->disk, soon(), c, err);
}

static int await_copy(const struct move *x, struct error *err) {
	for (;;) {
		struct live_copy c = {0};
		int r = look(x, &c, err);
		if (r < 0)
			return r;
		job_progress(x->job, "copying", c.done, c.total);
		fault_point("diskmove.progress");
		if (is_cancelled(x, c.ready ? 0 : LOOK_EVERY))
			return cancelled(err);
		if (c.ready)
			return 0;
	}
}

static int is_running(struct qmp *q, bool *running, struct error *err) {
	_cleanup_(json_free_ptr) json_t *status = NULL;
	int r = qmp_call(q, "query-status", NULL, -1, soon(), &status, err);
	*running = r == 0 && json_get_bool(status, "running");
	return r;
}

/* The machine is halted. */
static int exchange(const struct move *x, struct here *h, struct qmp *q, struct error *err) {
	int r = live_move_switch(q, x->disk, x->read_only, h->run.move.place, time_mono_ns() + HALT_WAIT, err);
	fault_point("diskmove.switched");
	if (r < 0)
		return r;
	r = volume_moved(x->from, x->to, x->m->volume.id, &h->record, err);
	fault_point("diskmove.moved");
	if (r < 0 && !volume_has_moved(x->job->agent, x->to, x->m->volume.id)) {
		const char *back = str_same(h->run.move.place, "file") ? "moved" : "file";
		live_move_put(q, x->disk, x->read_only, back, soon(), NULL);
	}
	return r;
}

/* One that a user has paused, or that waits for room on a disk, stands still already. */
static int finish(const struct move *x, struct error *err) {
	_cleanup_(here_free) struct here h = {.lock = -1};
	_cleanup_(qmp_free_ptr) struct qmp *q = NULL;
	_cleanup_(error_free) struct error why = ERROR_INIT;
	bool running = false;
	int r = enter_run(x, &h, err);
	if (r == 0)
		r = machine_monitor(x->job->agent, x->job->id, soon(), &q, err);
	if (r == 0)
		r = is_running(q, &running, err);
	if (r == 0 && running)
		r = qmp_call(q, "stop", NULL, -1, soon(), NULL, err);
	fault_point("diskmove.halted");
	if (r == 0)
		r = exchange(x, &h, q, err);
	if (running && qmp_call(q, "cont", NULL, -1, soon(), NULL, &why) < 0)
		log_error("machine %.12s: %s", x->job->id, error_text(&why));
	fault_point("diskmove.continued");
	return r;
}

/* After success and failure alike. */
static int end(const struct move *x, struct error *err) {
	_cleanup_(here_free) struct here h = {.lock = -1};
	int r = enter(x->job, &h, err);
	if (r == 0 && str_same(h.run.move.id, x->m->volume.id))
		return end_move(x->job, &h.record, &h.run, h.alive, err);
	if (r == -ERROR_NOT_FOUND) { /* the machine has been removed */
		error_free(err);
		r = 0;
	}
	if (r == 0 && !volume_has_moved(x->job->agent, x->to, x->m->volume.id))
		r = volume_clear(x->to, x->m->volume.id, err); /* that run is over */
	return r;
}

static int move(struct move *x, struct error *err) {
	_cleanup_(error_free) struct error why = ERROR_INIT;
	int r = open_both(x, err);
	if (r == 0)
		r = note(x, err);
	if (r < 0)
		return r;
	r = make_new(x, err);
	if (r == 0)
		r = open_new(x, err);
	if (r == 0)
		r = begin(x, err);
	close_fd(&x->fd);
	if (r == 0)
		r = await_copy(x, err);
	if (r == 0)
		r = finish(x, err);
	fault_point("diskmove.done");
	volume_unlock(&x->source.lock); /* the old place is to go */
	int ended = end(x, &why);
	if (ended < 0)
		log_warn("machine %.12s: a disk moved into the pool %s: %s", x->job->id, x->to->pool.spec.name, error_text(&why));
	return r;
}

/* --- the request --- */

static int answer(struct job *j, const struct msg_disk_move *m, struct error *err) {
	_cleanup_(record_free) struct msg_instance_create r = {0};
	bool root = str_same(m->volume.id, m->id);
	int result = root ? record_load(j->agent, m->id, &r, err) : 0;
	struct msg_volume_ref reply = {.id = m->volume.id};
	reply.pool_id = (char *)(root ? root_pool_id(&r.instance) : volume_pool_now(j->agent, m->from, m->volume.id));
	return result < 0 ? result : job_answer(j, &reply, NULL, 0, err);
}

/* Waits for whoever is still at work on it. */
static int settle(struct job *j, const struct msg_disk_move *m, struct error *err) {
	const struct pool_entry *to = pool_get(j->agent, m->pool_id);
	_cleanup_(volume_unlock) int lock = -1;
	_cleanup_(here_free) struct here h = {.lock = -1};
	int r = to ? volume_lock(to, m->volume.id, LOCK_EX, &lock, err)
		   : error_set(err, ERROR_NOT_FOUND, "the agent has no pool %s", m->pool_id);
	if (r == 0)
		r = enter(j, &h, err);
	if (r == 0 && str_same(h.run.move.id, m->volume.id))
		r = end_move(j, &h.record, &h.run, h.alive, err);
	return r < 0 ? r : answer(j, m, err);
}

int work_machine_disk_move(struct job *j, struct error *err) {
	const struct msg_disk_move *m = j->body;
	struct move x = {.job = j, .m = m, .pool_lock = -1, .lock = -1, .fd = -1, .source = {.lock = -1}};
	if (!m->volume.id || instance_id_check(m->volume.id, err) < 0)
		return error_field(err, "volume.id", "is required: 64 hexadecimal digits");
	if (!volume_is_block(&m->volume))
		return error_field(err, "volume.spec.kind", "must be block: only such volumes are disks of machines");
	if (m->settle)
		return settle(j, m, err);
	x.root = str_same(m->volume.id, m->id);
	x.disk = disk_of(m->id, m->volume.id);
	int r = move(&x, err);
	bool moved = x.to && volume_has_moved(j->agent, x.to, m->volume.id);
	if (r < 0 && moved) /* the guest has it, whatever else failed */
		log_warn("machine %.12s: %s", j->id, error_text(err));
	if (r < 0 && !moved && x.to)
		pool_failed(j, x.to, r, err);
	move_free(&x);
	return r < 0 && !moved ? r : answer(j, m, err);
}
