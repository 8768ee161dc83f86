/* Copies of the disks of a machine, all of one moment: the guest's file systems are held still for it where it has an agent,
 * and the guest goes on while QEMU writes the copies into files without names. Of one that does not run they are what they are
 * (machine-idle.c). They leave as a tar of qcow2 images, or one
 * as it is. While it goes on the file "export" of the run directory is locked, and names the checkpoint that is to be
 * there when all has been read; what a killed worker leaves is taken away by recovery. */
#include "agent/machine-priv.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "base/time.h"
#include "driver/qemu/live.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define ANSWER_WAIT (60 * NS_PER_SEC)
#define LOOK_EVERY 200 /* ms: another one may want the monitor meanwhile */
#define CHUNK ((size_t)1 << 20)
#define TAR_BLOCK 512
#define TAR_NAME 90 /* without ".qcow2" */
#define EXPORT_FILE "export"

static int64_t soon(void) {
	return time_mono_ns() + ANSWER_WAIT;
}

struct disk {
	const struct run_disk *of;
	const char *id;   /* QEMU's */
	const char *name; /* "root", or the volume's */
	int fd;           /* its copy */
};

struct export {
	struct job *job;
	const struct msg_machine_export *m;
	struct msg_instance_create record;
	struct run_state run;
	struct run_disk *all;
	struct disk *disks; /* that are exported */
	size_t n;
	struct qmp *q;    /* monitor() */
	struct idle idle; /* of one that does not run */
	int lock, file; /* the machine's; "export", locked */
	bool begun;     /* the checkpoint is there */
};

/* A machine's monitor is held for no longer than is needed. */
static int monitor(struct export *x, struct error *err) {
	if (x->q)
		return 0;
	x->q = x->idle.q;
	return x->q ? 0 : machine_monitor(x->job->agent, x->job->id, soon(), &x->q, err);
}

static void let_go(struct export *x) {
	if (x->q != x->idle.q)
		qmp_free(x->q);
	x->q = NULL;
}

static void export_free(struct export *x) {
	for (size_t i = 0; i < x->n; i++)
		close_fd(&x->disks[i].fd);
	let_go(x);
	idle_end(&x->idle);
	free(x->disks);
	run_disks_free(x->all);
	close_fd(&x->file);
	instance_unlock(&x->lock);
	record_free(&x->record);
	run_free(&x->run);
}

/* --- the file --- */

static int lock_export(const struct agent *a, const char *id, int *fd, struct error *err) {
	_cleanup_(free_ptr) char *path = run_path(a, id, EXPORT_FILE);
	_cleanup_(close_fd) int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (file < 0)
		return error_errno(err, errno, "cannot make %s", path);
	if (flock(file, LOCK_EX | LOCK_NB) < 0)
		return error_set(err, ERROR_BUSY, "the disks of machine %.12s are being exported already", id);
	*fd = TAKE_FD(file);
	return 0;
}

/* "-": without a checkpoint. NULL: nothing goes on. */
static int note(int fd, const char *checkpoint, struct error *err) {
	if (ftruncate(fd, 0) < 0 || (checkpoint && pwrite(fd, checkpoint, strlen(checkpoint), 0) < 0))
		return error_errno(err, errno, "cannot write into the run directory");
	return 0;
}

/* --- the end, from whatever was --- */

static int end_in_qemu(struct qmp *q, const char *checkpoint, struct error *err) {
	_cleanup_(strv_free_ptr) char **ids = NULL;
	int r = live_list(q, "", soon(), &ids, err);
	for (char **id = ids; r == 0 && id && *id; id++) {
		if (!str_same(*id, "root") && !str_starts(*id, "volume"))
			continue;
		r = live_backup_end(q, *id, soon(), err);
		if (r == 0 && checkpoint)
			live_checkpoint_remove(q, *id, checkpoint, soon(), NULL); /* not there: fine */
	}
	return r;
}

char *machine_export_unfinished(const struct agent *a, const char *id) {
	_cleanup_(free_ptr) char *path = run_path(a, id, EXPORT_FILE);
	_cleanup_(buf_free) struct buf name = BUF_INIT;
	return fs_read(path, 256, &name) == 0 && name.len && !str_same(buf_str(&name), "-") ? str_copy(buf_str(&name)) : NULL;
}

void machine_export_recover(const struct agent *a, const char *id) {
	_cleanup_(free_ptr) char *path = run_path(a, id, EXPORT_FILE);
	_cleanup_(close_fd) int file = -1;
	_cleanup_(qmp_free_ptr) struct qmp *q = NULL;
	_cleanup_(error_free) struct error err = ERROR_INIT;
	char name[256] = "";
	if (!fs_exists(path) || lock_export(a, id, &file, NULL) < 0 || pread(file, name, sizeof name - 1, 0) <= 0)
		return;
	int r = machine_monitor(a, id, soon(), &q, &err);
	if (r == 0)
		r = end_in_qemu(q, str_same(name, "-") ? NULL : name, &err);
	if (r == 0)
		r = note(file, NULL, &err);
	if (r < 0)
		log_warn("machine %.12s: an export that was cut off: %s", id, error_text(&err));
}

/* --- what is exported --- */

static const char *name_of(const struct instance *i, const char *volume) {
	for (size_t n = 0; n < i->volumes.n; n++)
		if (str_same(i->volumes.items[n].volume_id, volume))
			return i->volumes.items[n].name;
	return volume;
}

static int choose_disks(struct export *x, struct error *err) {
	const struct instance *i = &x->record.instance;
	x->all = run_disks(&x->record, &x->run);
	for (const struct run_disk *d = x->all; d->id; d++) {
		const char *name = d->root ? "root" : name_of(i, d->volume);
		if (x->m->disk && !str_same(x->m->disk, name))
			continue;
		if (!x->m->disk && strlen(name) > TAR_NAME)
			return error_set(err, ERROR_UNSUPPORTED, "the name of volume %s is too long for a tar: export disk by disk", name);
		x->disks = alloc_resize(x->disks, x->n + 1, sizeof *x->disks);
		x->disks[x->n++] = (struct disk){.of = d, .id = d->id, .name = name, .fd = -1};
	}
	return x->n ? 0 : error_set(err, ERROR_NOT_FOUND, "machine %s has no disk %.128s: its disks are root and its block volumes",
				    i->spec.name, x->m->disk);
}

static int check_machine(const struct msg_instance_create *r, struct error *err) {
	const char *name = r->instance.spec.name;
	if (!instance_is_machine(&r->instance.spec))
		return error_set(err, ERROR_UNSUPPORTED, "instance %s is a container: \"wabe export\" gives its files", name);
	return guest_is(r) ? error_set(err, ERROR_UNSUPPORTED, "machine %s is of a container's image, its root is no disk", name) : 0;
}

/* Its lock, its record, and its run: of one that does not run, as it would be. */
static int open_machine(const struct job *j, int *lock, struct msg_instance_create *record, struct run_state *run, bool *up, struct error *err) {
	int r = instance_lock(j->agent, j->id, LOCK_EX, LOCK_WAIT, lock, err);
	if (r == 0)
		r = record_load(j->agent, j->id, record, err);
	if (r == 0)
		r = check_machine(record, err);
	if (r == 0)
		r = instance_reap(j, record, false, err);
	*up = r == 0 && run_load(j->agent, j->id, run, NULL) == 0;
	return r < 0 || *up ? r : volumes_plan(j->agent, record, run, err);
}

static int check_checkpoints(struct export *x, struct error *err) {
	const struct msg_machine_export *m = x->m;
	for (size_t i = 0; i < x->n; i++) {
		_cleanup_(strv_free_ptr) char **has = NULL;
		const struct disk *d = &x->disks[i];
		bool follows = (m->since || m->checkpoint) && !d->of->root && !x->idle.q;
		int r = follows ? checkpoints_check(x->job->agent, x->job->id, d->of->volume, d->name, err) : 0;
		if (r == 0)
			r = live_checkpoints(x->q, d->id, soon(), &has, err);
		if (r < 0)
			return r;
		if (m->since && !strv_has(has, m->since))
			return error_set(err, ERROR_NOT_FOUND, "the disk %s has no checkpoint %s: checkpoints end when the machine is killed, and when a "
					 "disk is changed while it is stopped; export all of it, with another checkpoint", d->name, m->since);
		if (m->checkpoint && strv_has(has, m->checkpoint))
			return error_set(err, ERROR_EXISTS, "the disk %s has a checkpoint %s already", x->disks[i].name, m->checkpoint);
	}
	return 0;
}

/* --- the copies --- */

static int prepare(struct export *x, struct error *err) {
	int r = 0;
	for (size_t i = 0; r == 0 && i < x->n; i++) {
		struct disk *d = &x->disks[i];
		d->fd = open_spool(x->job->agent, err);
		r = d->fd < 0 ? d->fd : live_backup_end(x->q, d->id, soon(), err); /* of one that was cut off */
		if (r == 0)
			r = live_backup_prepare(x->q, d->id, d->fd, soon(), err);
	}
	return r;
}

/* The moment. */
static int begin(struct export *x, struct error *err) {
	const char **ids = alloc_array(x->n + 1, sizeof *ids);
	for (size_t i = 0; i < x->n; i++)
		ids[i] = x->disks[i].id;
	int r = monitor(x, err);
	if (r == 0)
		r = live_backup_begin(x->q, ids, x->m->since, x->m->checkpoint, soon(), err);
	x->begun = r == 0;
	let_go(x);
	fault_point("export.begun");
	free(ids);
	return r;
}

/* Whether there is an agent in the guest the monitor says, which one at a time has. */
static int begin_held(struct export *x, struct error *err) {
	bool held = str_same(x->record.instance.status.state, "running") && machine_guest_freeze(x->job->agent, x->job->id);
	fault_point("export.held");
	int r = begin(x, err);
	if (held)
		machine_guest_thaw(x->job->agent, x->job->id);
	return r;
}

static int start_running(struct export *x, struct error *err) {
	const struct agent *a = x->job->agent;
	int r = machine_move_check(&x->run, NULL, err);
	if (r == 0)
		r = lock_export(a, x->job->id, &x->file, err);
	if (r == 0)
		r = monitor(x, err);
	if (r == 0)
		r = check_checkpoints(x, err);
	if (r == 0 && x->m->checkpoint)
		r = checkpoints_hold(a, x->job->id, x->q, err);
	if (r == 0)
		r = note(x->file, x->m->checkpoint ? x->m->checkpoint : "-", err);
	if (r == 0)
		r = prepare(x, err);
	fault_point("export.prepared");
	let_go(x);
	if (r == 0)
		r = begin_held(x, err);
	instance_unlock(&x->lock);
	return r;
}

static int start_idle(struct export *x, struct error *err) {
	int r = idle_open(x->job, &x->idle, err);
	for (size_t i = 0; r == 0 && i < x->n; i++)
		r = idle_add(&x->idle, x->disks[i].of, err);
	if (r == 0)
		r = monitor(x, err);
	if (r == 0)
		r = check_checkpoints(x, err);
	if (r == 0)
		r = prepare(x, err);
	return r < 0 ? r : begin(x, err);
}

static int start(struct export *x, struct error *err) {
	bool up;
	int r = open_machine(x->job, &x->lock, &x->record, &x->run, &up, err);
	if (r == 0)
		r = choose_disks(x, err);
	if (r < 0)
		return r;
	return up ? start_running(x, err) : start_idle(x, err);
}

/* The machine may have ended meanwhile, and another run may have begun: that has no such job. */
static int await(struct export *x, const struct disk *d, struct error *err) {
	for (;;) {
		struct live_copy c = {0};
		int r = monitor(x, err);
		if (r == 0)
			r = live_backup_look(x->q, d->id, soon(), &c, err);
		let_go(x);
		if (r < 0 || c.over)
			return r;
		fault_point("export.copying");
		poll(NULL, 0, LOOK_EVERY);
	}
}

/* QEMU has written all of it then, and has it no more. */
static int finish(struct export *x, bool keep, struct error *err) {
	int r = monitor(x, err);
	for (size_t i = 0; r == 0 && i < x->n; i++) {
		r = live_backup_end(x->q, x->disks[i].id, soon(), err);
		if (r == 0 && !keep && x->begun && x->m->checkpoint)
			live_checkpoint_remove(x->q, x->disks[i].id, x->m->checkpoint, soon(), NULL);
	}
	let_go(x);
	return r;
}

/* --- the stream --- */

static int copy_out(int from, int to, struct error *err) {
	_cleanup_(free_ptr) char *chunk = alloc_zero(CHUNK);
	for (int64_t at = 0;;) {
		ssize_t n = RETRY_EINTR(pread(from, chunk, CHUNK, at));
		if (n <= 0)
			return n < 0 ? error_errno(err, errno, "cannot read the copy") : 0;
		int r = fs_write_all(to, chunk, (size_t)n);
		if (r < 0)
			return error_errno(err, r, "the export is not wanted any more");
		at += n;
	}
}

/* GNU tar's, whose sizes may be binary. */
static void tar_header(char block[TAR_BLOCK], const char *name, int64_t size) {
	memset(block, 0, TAR_BLOCK);
	snprintf(block, 100, "%.90s.qcow2", name);
	memcpy(block + 100, "0000600\0000000000\0000000000", 24);
	block[124] = (char)0x80;
	for (int i = 0; i < 8; i++)
		block[135 - i] = (char)(size >> (8 * i));
	memcpy(block + 136, "00000000000", 12);
	memset(block + 148, ' ', 8);
	block[156] = '0';
	memcpy(block + 257, "ustar  ", 8);
	unsigned sum = 0;
	for (int i = 0; i < TAR_BLOCK; i++)
		sum += (unsigned char)block[i];
	snprintf(block + 148, 8, "%06o", sum);
}

static int write_member(const struct disk *d, int to, struct error *err) {
	char block[TAR_BLOCK];
	struct stat st;
	if (fstat(d->fd, &st) < 0)
		return error_errno(err, errno, "cannot read the copy");
	tar_header(block, d->name, st.st_size);
	int r = fs_write_all(to, block, TAR_BLOCK);
	if (r < 0)
		return error_errno(err, r, "the export is not wanted any more");
	r = copy_out(d->fd, to, err);
	size_t rest = (size_t)(-st.st_size & (TAR_BLOCK - 1));
	memset(block, 0, TAR_BLOCK);
	if (r == 0 && fs_write_all(to, block, rest) < 0)
		r = error_set(err, ERROR_UNAVAILABLE, "the export is not wanted any more");
	return r;
}

static int write_all(const struct export *x, int to, struct error *err) {
	static const char end[2 * TAR_BLOCK];
	int r = 0;
	if (x->m->disk)
		return copy_out(x->disks[0].fd, to, err);
	for (size_t i = 0; r == 0 && i < x->n; i++)
		r = write_member(&x->disks[i], to, err);
	if (r == 0 && fs_write_all(to, end, sizeof end) < 0)
		r = error_set(err, ERROR_UNAVAILABLE, "the export is not wanted any more");
	return r;
}

/* --- the requests --- */

static int run_export(struct export *x, struct error *err) {
	_cleanup_(close_fd) int writer = -1;
	int r = start(x, err);
	for (size_t i = 0; r == 0 && i < x->n; i++)
		r = await(x, &x->disks[i], err);
	if (r == 0)
		r = finish(x, true, err);
	bool keep = x->idle.q && x->m->checkpoint;
	if (r == 0 && keep)
		r = idle_keep(&x->idle, err);
	fault_point("export.copied");
	if (r == 0)
		r = answer_stream(x->job, NULL, &writer, err);
	if (r == 0)
		r = write_all(x, writer, err);
	fault_point("export.written");
	if (r == 0 && keep)
		r = idle_settle(&x->idle, err);
	if (r == 0 && x->file >= 0)
		r = note(x->file, NULL, err);
	if (r == 0)
		guard_finish(&writer);
	return r;
}

int work_machine_export(struct job *j, struct error *err) {
	struct export x = {.job = j, .m = j->body, .lock = -1, .file = -1};
	_cleanup_(error_free) struct error why = ERROR_INIT;
	int r = run_export(&x, err);
	if (r < 0 && x.file >= 0 && (finish(&x, false, &why) == 0 || why.kind == ERROR_NOT_FOUND))
		note(x.file, NULL, NULL);
	export_free(&x);
	return r;
}

/* --- checkpoints --- */

static int list(struct qmp *q, const char *id, const char *remove, char ***all, struct error *err) {
	_cleanup_(strv_free_ptr) char **has = NULL;
	int r = live_checkpoints(q, id, soon(), &has, err);
	for (char **name = has; r == 0 && name && *name; name++) {
		if (!strv_has(*all, *name))
			strv_add(all, *name);
		if (str_same(*name, remove))
			r = live_checkpoint_remove(q, id, *name, soon(), err);
	}
	return r;
}

static int list_running(const struct job *j, const struct run_disk *disks, const char *remove, char ***all, struct error *err) {
	_cleanup_(qmp_free_ptr) struct qmp *q = NULL;
	int r = machine_monitor(j->agent, j->id, soon(), &q, err);
	for (const struct run_disk *d = disks; r == 0 && d->id; d++)
		r = list(q, d->id, remove, all, err);
	return r;
}

static int list_idle(const struct job *j, const struct run_disk *disks, const char *remove, char ***all, struct error *err) {
	struct idle idle = {0};
	int r = 0;
	for (const struct run_disk *d = disks; r == 0 && d->id; d++) {
		if (!checkpoints_kept_of(j->agent, d->volume))
			continue;
		r = idle.q ? 0 : idle_open(j, &idle, err);
		if (r == 0)
			r = idle_add(&idle, d, err);
		if (r == 0)
			r = list(idle.q, d->id, remove, all, err);
	}
	if (r == 0 && remove && idle.q)
		r = idle_keep(&idle, err);
	if (r == 0 && remove)
		r = idle_settle(&idle, err);
	idle_end(&idle);
	return r;
}

int work_machine_checkpoints(struct job *j, struct error *err) {
	const char *remove = ((const struct msg_machine_export *)j->body)->checkpoint;
	_cleanup_(instance_unlock) int lock = -1;
	_cleanup_(record_free) struct msg_instance_create record = {0};
	_cleanup_(run_free) struct run_state run = {0};
	_cleanup_(strv_free_ptr) char **all = NULL;
	bool up;
	int r = open_machine(j, &lock, &record, &run, &up, err);
	if (r < 0)
		return r;
	_cleanup_(run_disks_free_ptr) struct run_disk *disks = run_disks(&record, &run);
	r = up ? list_running(j, disks, remove, &all, err) : list_idle(j, disks, remove, &all, err);
	if (r == 0 && remove && !strv_has(all, remove))
		r = error_set(err, ERROR_NOT_FOUND, "machine %s has no checkpoint %s", record.instance.spec.name, remove);
	struct msg_checkpoints reply = {.checkpoints = all};
	return r < 0 ? r : job_answer(j, &reply, NULL, 0, err);
}
