/* Checkpoints of a machine's disks between its runs. QEMU has them in memory; once its guest has ended they go into a file for each disk,
 * STATE/agent/checkpoints/<volume>.qcow2, and QEMU is told to quit: the file "checkpoints" of the run directory has had it wait.
 * The next run's QEMU takes them over before its guest runs, and the files go. A file is there only while nobody writes to the disk,
 * so who is about to change a disk otherwise removes it first. QEMU killed: no file, no checkpoint, and all is exported again. */
#include "agent/machine-priv.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "base/time.h"
#include "driver/qemu/live.h"

#include <fcntl.h>
#include <unistd.h>

#define WAIT_FILE "checkpoints" /* "saved" in it: the run is over, whoever sees to that */
#define SAVED "saved"
#define ANSWER_WAIT (60 * NS_PER_SEC)

static int64_t soon(void) {
	return time_mono_ns() + ANSWER_WAIT;
}

/* --- files --- */

static char *kept_dir(const struct agent *a) {
	return str_format("%s/checkpoints", a->dir);
}

static char *kept_path(const struct agent *a, const char *volume) {
	return str_format("%s/checkpoints/%s.qcow2", a->dir, volume);
}

static char *shared_path(const struct agent *a, const char *id, const char *volume) {
	_cleanup_(free_ptr) char *name = str_format("shared-%s", volume);
	return run_path(a, id, name);
}

int checkpoints_drop(const struct agent *a, const char *volume, struct error *err) {
	_cleanup_(free_ptr) char *path = kept_path(a, volume), *dir = kept_dir(a);
	int r = unlink(path) < 0 ? -errno : fs_fsync_dir(dir);
	return r < 0 && r != -ENOENT ? error_errno(err, r, "cannot remove %s", path) : 0;
}

int checkpoints_written(const struct agent *a, const char *volume, const char *by, bool takes, struct error *err) {
	_cleanup_(strv_free_ptr) char **users = volume_users(a, volume, by);
	for (char **u = users; u && *u; u++) {
		_cleanup_(free_ptr) char *path = shared_path(a, *u, volume);
		_cleanup_(close_fd) int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
		if (fd < 0)
			return error_errno(err, errno, "cannot make %s", path);
	}
	return takes ? 0 : checkpoints_drop(a, volume, err);
}

int checkpoints_check(const struct agent *a, const char *id, const char *volume, const char *name, struct error *err) {
	_cleanup_(free_ptr) char *path = shared_path(a, id, volume);
	_cleanup_(strv_free_ptr) char **users = volume_users(a, volume, id);
	if (!users && !fs_exists(path))
		return 0;
	return error_set(err, ERROR_CONFLICT, "volume %s has been used by another instance as well since the machine was started: what is written "
			 "to it cannot be followed, export all of it without a checkpoint", name);
}

/* --- disks --- */

void run_disks_free(struct run_disk *disks) {
	for (struct run_disk *d = disks; d && d->id; d++)
		free(d->id);
	free(disks);
}

struct run_disk *run_disks(const struct msg_instance_create *r, const struct run_state *run) {
	struct run_disk *disks = alloc_array(run->volumes.n + 2, sizeof *disks);
	size_t n = 0;
	disks[n++] = (struct run_disk){machine_disk_id(NULL), r->instance.id, root_pool_id(&r->instance), true};
	for (size_t i = 0; i < run->volumes.n; i++) {
		const struct run_volume *v = &run->volumes.items[i];
		if (v->block && !v->changing)
			disks[n++] = (struct run_disk){machine_disk_id(v->id), v->id, v->pool_id, false};
	}
	return disks;
}

bool checkpoints_kept_of(const struct agent *a, const char *volume) {
	_cleanup_(free_ptr) char *path = kept_path(a, volume);
	return fs_exists(path);
}

/* --- the beginning --- */

bool checkpoints_kept(const struct agent *a, const struct msg_instance_create *r, const struct run_state *run) {
	_cleanup_(run_disks_free_ptr) struct run_disk *disks = run_disks(r, run);
	bool any = false;
	for (const struct run_disk *d = disks; d->id; d++)
		any |= checkpoints_kept_of(a, d->volume);
	return any;
}

static int say(const struct agent *a, const char *id, const char *text, struct error *err) {
	_cleanup_(free_ptr) char *path = run_path(a, id, WAIT_FILE);
	int r = file_replace(path, text, strlen(text), 0600);
	return r < 0 ? error_errno(err, r, "cannot write %s", path) : 0;
}

bool checkpoints_wait(const struct agent *a, const char *id) {
	_cleanup_(free_ptr) char *path = run_path(a, id, WAIT_FILE);
	return fs_exists(path);
}

bool checkpoints_saved(const struct agent *a, const char *id) {
	_cleanup_(free_ptr) char *path = run_path(a, id, WAIT_FILE);
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	return fs_read(path, 64, &text) == 0 && str_same(buf_str(&text), SAVED);
}

int checkpoints_hold(const struct agent *a, const char *id, struct qmp *q, struct error *err) {
	int r = checkpoints_wait(a, id) ? 0 : say(a, id, "", err);
	return r < 0 ? r : live_end_waits(q, soon(), err);
}

void checkpoints_take(const struct agent *a, struct qmp *q, const struct run_disk *d) {
	_cleanup_(free_ptr) char *path = kept_path(a, d->volume);
	_cleanup_(close_fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
	_cleanup_(error_free) struct error why = ERROR_INIT;
	if (fd >= 0 && live_checkpoints_load(q, d->id, fd, soon(), &why) < 0)
		log_warn("volume %.12s has no checkpoints any more: %s", d->volume, error_text(&why));
}

static int load_disk(const struct agent *a, struct qmp *q, const struct run_disk *d, struct error *err) {
	checkpoints_take(a, q, d);
	fault_point("checkpoints.loaded");
	return checkpoints_drop(a, d->volume, err);
}

int checkpoints_load(const struct agent *a, const struct msg_instance_create *record, const struct run_state *run, struct error *err) {
	_cleanup_(run_disks_free_ptr) struct run_disk *disks = run_disks(record, run);
	_cleanup_(qmp_free_ptr) struct qmp *q = NULL;
	int r = machine_monitor(a, record->instance.id, soon(), &q, err);
	if (r == 0)
		r = checkpoints_hold(a, record->instance.id, q, err);
	for (const struct run_disk *d = disks; r == 0 && d->id; d++)
		r = load_disk(a, q, d, err);
	return r;
}

void machine_forget_run(const struct agent *a, const char *id) {
	_cleanup_(free_ptr) char *dir = run_path(a, id, NULL);
	_cleanup_(close_fd) int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_(strv_free_ptr) char **names = NULL;
	if (fd >= 0 && fs_names(fd, &names) < 0)
		return;
	for (char **n = names; n && *n; n++)
		if (str_same(*n, WAIT_FILE) || str_same(*n, CHANGED_FILE) || str_starts(*n, "shared-"))
			unlinkat(fd, *n, 0);
}

/* --- the end --- */

int checkpoints_write(const struct agent *a, struct qmp *q, const struct run_disk *d, int *fd, struct error *err) {
	_cleanup_(strv_free_ptr) char **names = NULL;
	_cleanup_(free_ptr) char *dir = kept_dir(a);
	int r = live_checkpoints(q, d->id, soon(), &names, err);
	if (r < 0 || !names)
		return r;
	_cleanup_(close_fd) int file = -1;
	if ((r = fs_mkdir_p(dir, 0700)) < 0 || (file = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600)) < 0)
		return error_errno(err, r < 0 ? r : errno, "cannot make a file in %s", dir);
	r = live_checkpoints_save(q, d->id, names, file, soon(), err);
	if (r == 0 && fsync(file) < 0)
		r = error_errno(err, errno, "cannot write back %s", dir);
	if (r == 0)
		*fd = TAKE_FD(file);
	return r;
}

int checkpoints_settle(const struct agent *a, const char *volume, int fd, struct error *err) {
	_cleanup_(free_ptr) char *from = str_format("/proc/self/fd/%d", fd), *to = kept_path(a, volume), *dir = kept_dir(a);
	int r = checkpoints_drop(a, volume, err);
	fault_point("checkpoints.dropped");
	if (r < 0 || fd < 0)
		return r;
	r = linkat(AT_FDCWD, from, AT_FDCWD, to, AT_SYMLINK_FOLLOW) < 0 ? -errno : fs_fsync_dir(dir);
	return r < 0 ? error_errno(err, r, "cannot make %s", to) : 0;
}

/* With the volume's lock: who opens it later finds what is kept here. */
static int settle(const struct agent *a, const char *id, const struct run_disk *d, int fd, struct error *err) {
	const struct pool_entry *e = pool_get(a, d->pool);
	_cleanup_(volume_unlock) int lock = -1;
	int r = e ? volume_lock(e, d->volume, LOCK_EX, &lock, err) : error_set(err, ERROR_UNAVAILABLE, "there is no pool %s", d->pool);
	if (r == 0)
		r = checkpoints_check(a, id, d->volume, d->volume, err);
	return r < 0 ? r : checkpoints_settle(a, d->volume, fd, err);
}

static int save_disk(const struct agent *a, struct qmp *q, const char *id, const struct run_disk *d, const char *except, struct error *err) {
	_cleanup_(close_fd) int fd = -1;
	int r = live_backup_end(q, d->id, soon(), err); /* of an export, which its machine's end cuts off */
	if (r == 0 && except)
		live_checkpoint_remove(q, d->id, except, soon(), NULL);
	if (r == 0)
		r = checkpoints_write(a, q, d, &fd, err);
	fault_point("checkpoints.written");
	return r < 0 || fd < 0 ? r : settle(a, id, d, fd, err);
}

int checkpoints_save(const struct agent *a, const struct msg_instance_create *record, const struct run_state *run, struct qmp *q,
		     struct error *err) {
	const char *id = record->instance.id;
	_cleanup_(run_disks_free_ptr) struct run_disk *disks = run_disks(record, run);
	_cleanup_(free_ptr) char *except = machine_export_unfinished(a, id);
	if (!checkpoints_wait(a, id))
		return 0;
	int r = say(a, id, SAVED, err); /* no way back from here */
	fault_point("checkpoints.end");
	for (const struct run_disk *d = disks; r == 0 && d->id; d++) {
		_cleanup_(error_free) struct error why = ERROR_INIT;
		if (save_disk(a, q, id, d, except, &why) < 0)
			log_warn("machine %.12s: the checkpoints of its disk %s are lost: %s", id, d->id, error_text(&why));
	}
	fault_point("checkpoints.saved");
	return r;
}

int checkpoints_end(const struct agent *a, const char *id, bool now, struct error *err) {
	_cleanup_(instance_unlock) int lock = -1;
	_cleanup_(record_free) struct msg_instance_create record = {0};
	_cleanup_(run_free) struct run_state run = {0};
	_cleanup_(qmp_free_ptr) struct qmp *q = NULL;
	_cleanup_(json_free_ptr) json_t *status = NULL;
	int r = instance_lock(a, id, LOCK_EX, LOCK_WAIT, &lock, err);
	if (r == 0)
		r = record_load(a, id, &record, err);
	if (r == 0)
		r = run_load(a, id, &run, err);
	if (r == 0)
		r = machine_monitor(a, id, soon(), &q, err);
	if (r == 0 && now)
		r = qmp_call(q, "stop", NULL, -1, soon(), NULL, err);
	if (r == 0)
		r = qmp_call(q, "query-status", NULL, -1, soon(), &status, err);
	if (r < 0 || (!now && !str_same(json_get_str(status, "status"), "shutdown")))
		return r;
	r = checkpoints_save(a, &record, &run, q, err);
	int quit = qmp_call(q, "quit", NULL, -1, soon(), NULL, r < 0 ? NULL : err);
	return r < 0 ? r : quit;
}

/* Nobody asks for it: the guest has powered down. It may have ended meanwhile. */
int work_machine_end(struct job *j, struct error *err) {
	int r = checkpoints_end(j->agent, j->id, false, err);
	return r == -ERROR_NOT_FOUND ? 0 : r;
}
