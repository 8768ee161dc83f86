/* Who uses a volume: locks, the drivers' opening and closing, and the count, which is that of the runs that note the
 * volume in their state. See storage-priv.h for what is locked when. */
#include "agent/storage-priv.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "base/time.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- locks --- */

static int lock_path(const char *path, int how, int64_t deadline, int *lock) {
	for (;;) {
		_cleanup_(close_fd) int fd = open(path, O_RDONLY | O_CREAT | O_CLOEXEC, 0600);
		int r = fd < 0 ? -errno : lock_file(fd, how, deadline);
		if (r < 0)
			return r;
		if (lock_is_of(fd, path)) { /* else it was removed with its volume */
			*lock = TAKE_FD(fd);
			return 0;
		}
	}
}

static int lock_named(const struct pool_entry *e, const char *id, const char *suffix, int how, int *lock,
		      struct error *err) {
	_cleanup_(free_ptr) char *path = str_format("%s/locks/%s%s", e->dir, id, suffix);
	int r = lock_path(path, how, LOCK_WAIT, lock);
	if (r == -EBUSY)
		return error_set(err, ERROR_BUSY, "another operation on %.12s in the pool %s goes on; try again when it "
				 "is done", id, e->pool.spec.name);
	return r < 0 ? error_errno(err, r, "cannot lock %s", path) : 0;
}

int volume_lock(const struct pool_entry *e, const char *id, int how, int *lock, struct error *err) {
	return lock_named(e, id, "", how, lock, err);
}

int volume_busy_lock(const struct pool_entry *e, const char *id, int *lock, struct error *err) {
	return lock_named(e, id, ".busy", LOCK_EX, lock, err);
}

int volume_lock_present(const struct pool_entry *e, const char *id, int *lock, struct error *err) {
	_cleanup_(free_ptr) char *path = str_format("%s/locks/%s", e->dir, id);
	return fs_exists(path) ? volume_lock(e, id, LOCK_EX, lock, err) : 0;
}

int volume_try_lock(const struct pool_entry *e, const char *id, int *lock) {
	_cleanup_(free_ptr) char *path = str_format("%s/locks/%s", e->dir, id);
	return lock_path(path, LOCK_EX, 0, lock);
}

void volume_unlock(int *lock) {
	instance_unlock(lock);
}

void volume_locks_remove(const struct pool_entry *e, const char *id) {
	_cleanup_(free_ptr) char *use = str_format("%s/locks/%s", e->dir, id);
	_cleanup_(free_ptr) char *busy = str_format("%s/locks/%s.busy", e->dir, id);
	_cleanup_(free_ptr) char *fill = str_format("%s/locks/%s.fill", e->dir, id);
	_cleanup_(free_ptr) char *filling = str_format("%s/open/%s.fill", e->dir, id);
	unlink(filling);
	unlink(fill);
	unlink(use);
	unlink(busy);
}

/* Does somebody hold the volume's lock? */
static bool is_locked(const struct pool_entry *e, const char *id) {
	_cleanup_(free_ptr) char *path = str_format("%s/locks/%s", e->dir, id);
	_cleanup_(close_fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0;
}

/* --- runs --- */

static bool run_names_volume(const struct agent *a, const char *instance, const char *id, struct run_state *run) {
	_cleanup_(free_ptr) char *path = run_path(a, instance, "state.json");
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	return fs_read(path, (size_t)8 << 20, &text) == 0 && strstr(buf_str(&text), id) && run_load(a, instance, run, NULL) == 0;
}

static bool run_moves_volume(const struct agent *a, const char *instance, const char *id, const char *to) {
	_cleanup_(run_free) struct run_state run = {0};
	return run_names_volume(a, instance, id, &run) && str_same(run.move.id, id) && str_same(run.move.to, to);
}

bool volume_is_coming(const struct pool_entry *e, const char *id) {
	const struct agent *a = e->agent;
	DIR *d = opendir(a->shims);
	bool found = false;
	for (struct dirent *entry; d && !found && (entry = readdir(d));)
		found = entry->d_name[0] != '.' && run_moves_volume(a, entry->d_name, id, e->pool.id);
	if (d)
		closedir(d);
	return found;
}

static bool run_has_volume(const struct agent *a, const char *instance, const char *id) {
	_cleanup_(run_free) struct run_state run = {0};
	if (!run_names_volume(a, instance, id, &run))
		return false;
	for (size_t i = 0; i < run.volumes.n; i++)
		if (str_same(run.volumes.items[i].id, id))
			return true;
	return false;
}

char **volume_users(const struct agent *a, const char *id, const char *except) {
	DIR *d = opendir(a->shims);
	char **users = NULL;
	for (struct dirent *e; d && (e = readdir(d));)
		if (e->d_name[0] != '.' && !str_same(e->d_name, except) && run_has_volume(a, e->d_name, id))
			strv_add(&users, e->d_name);
	if (d)
		closedir(d);
	return users;
}

int volume_check_unused(const struct agent *a, const char *id, const char *what, struct error *err) {
	_cleanup_(strv_free_ptr) char **users = volume_users(a, id, NULL);
	if (!users)
		return 0;
	size_t n = strv_len(users);
	return error_set(err, ERROR_CONFLICT, "volume %.12s cannot be %s: instance %.12s runs with it%s", id, what, users[0],
			 n > 1 ? ", and others do" : "");
}

static bool in_use(const struct agent *a, const struct pool_entry *e, const char *id, const char *except) {
	_cleanup_(free_ptr) char *run = run_path(a, id, "state.json");
	if (is_locked(e, id) || (!str_same(id, except) && fs_exists(run))) /* an instance's root */
		return true;
	if (str_same(id, except))
		return false;
	_cleanup_(strv_free_ptr) char **users = volume_users(a, id, except);
	return users != NULL;
}

/* --- open, close --- */

static char *mark_path(const struct pool_entry *e, const char *id, const char *snapshot) {
	return str_format("%s/open/%s%s%s", e->dir, id, snapshot ? "@" : "", snapshot ? snapshot : "");
}

/* What a volume of its record mounts lies over the directory that it has in its pool. */
static int open_foreign(const struct pool_entry *e, const char *id, struct storage_handle *h, struct error *err) {
	struct volume v;
	char *path = NULL;
	if (volume_record_load(e, id, &v, NULL) < 0) /* an instance's root, or one that is just being made */
		return 0;
	int r = v.spec.mount.type ? storage_foreign_mount(&e->ref, id, &v.spec.mount, &path, err) : 0;
	fields_free(&volume_table, &v);
	if (path) {
		free(h->path);
		*h = (struct storage_handle){path, true};
	}
	return r;
}

static int open_locked(const struct pool_entry *e, const char *id, bool block, const char *snapshot,
		       struct storage_handle *out, struct error *err) {
	_cleanup_(free_ptr) char *mark = mark_path(e, id, snapshot);
	_cleanup_(close_fd) int fd = open(mark, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return error_errno(err, errno, "cannot make %s", mark);
	fault_point("volume.marked");
	int r = e->driver->volume_open(&e->ref, id, block, snapshot, out, err);
	if (r == 0 && !block && !snapshot)
		r = open_foreign(e, id, out, err);
	fault_point("volume.opened");
	return r;
}

int volume_open(const struct pool_entry *e, const char *id, bool block, const char *snapshot, struct storage_handle *out,
		struct error *err) {
	_cleanup_(volume_unlock) int busy = -1;
	int r = volume_busy_lock(e, id, &busy, err);
	return r < 0 ? r : open_locked(e, id, block, snapshot, out, err);
}

/* The mark of a volume with a loop device says on which file that is. */
int volume_open_device(const struct pool_entry *e, const char *id, char **device, struct error *err) {
	_cleanup_(volume_unlock) int busy = -1;
	_cleanup_(free_ptr) char *mark = mark_path(e, id, NULL);
	struct storage_handle h = {0};
	struct stat st;
	int r = volume_busy_lock(e, id, &busy, err);
	if (r == 0)
		r = open_locked(e, id, true, NULL, &h, err);
	if (r == 0 && stat(h.path, &st) < 0)
		r = error_errno(err, errno, "cannot read %s", h.path);
	if (r == 0 && S_ISREG(st.st_mode)) {
		if ((r = file_replace(mark, h.path, strlen(h.path), 0600)) < 0)
			r = error_errno(err, r, "cannot write %s", mark);
		fault_point("volume.looped");
		if (r == 0)
			r = loop_attach(h.path, device, err);
	} else if (r == 0) {
		*device = str_copy(h.path);
	}
	storage_handle_free(&h);
	return r;
}

static char *looped_file(const char *mark) {
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	return fs_read(mark, 4096, &text) == 0 && text.len ? str_copy(buf_str(&text)) : NULL;
}

int volume_device_resized(const struct pool_entry *e, const char *id, struct error *err) {
	_cleanup_(free_ptr) char *mark = mark_path(e, id, NULL);
	_cleanup_(free_ptr) char *file = looped_file(mark);
	return file ? loop_resized(file, err) : 0;
}

int volume_sync(const struct pool_entry *e, const char *id, bool block, const char *path, struct error *err) {
	_cleanup_(free_ptr) char *mark = mark_path(e, id, NULL);
	_cleanup_(free_ptr) char *file = block ? looped_file(mark) : NULL;
	if (file)
		return loop_flush(file, err);
	_cleanup_(close_fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || (block ? fsync(fd) : syncfs(fd)) < 0)
		return error_errno(err, errno, "cannot write back %s", path);
	return 0;
}

static int close_locked(const struct pool_entry *e, const char *id, bool block, const char *snapshot, struct error *err) {
	_cleanup_(free_ptr) char *mark = mark_path(e, id, snapshot);
	_cleanup_(free_ptr) char *file = block ? looped_file(mark) : NULL;
	int r = file ? loop_detach(file, err) : !block && !snapshot ? storage_foreign_unmount(&e->ref, id, err) : 0;
	if (r == 0)
		r = e->driver->volume_close(&e->ref, id, block, snapshot, err);
	if (r == 0 && str_same(snapshot, SNAPSHOT_MOVING))
		r = e->driver->snapshot_remove(&e->ref, id, block, snapshot, err);
	fault_point("volume.closed");
	if (r == 0)
		unlink(mark);
	return r;
}

int volume_snapshot_close(const struct pool_entry *e, const char *id, bool block, const char *snapshot, struct error *err) {
	_cleanup_(volume_unlock) int busy = -1;
	_cleanup_(free_ptr) char *mark = mark_path(e, id, snapshot);
	if (!fs_exists(mark))
		return 0;
	int r = volume_busy_lock(e, id, &busy, err);
	return r < 0 ? r : close_locked(e, id, block, snapshot, err);
}

int volume_close(const struct pool_entry *e, const char *id, bool block, struct error *err) {
	return volume_snapshot_close(e, id, block, NULL, err);
}

int volume_snapshot_moving(const struct pool_entry *e, const char *id, bool block, struct error *err) {
	_cleanup_(volume_unlock) int busy = -1;
	_cleanup_(free_ptr) char *mark = mark_path(e, id, SNAPSHOT_MOVING);
	int r = volume_snapshot_close(e, id, block, SNAPSHOT_MOVING, err); /* of a move that was cut off */
	if (r == 0)
		r = volume_busy_lock(e, id, &busy, err);
	if (r == 0 && (r = file_replace(mark, "", 0, 0600)) < 0)
		r = error_errno(err, r, "cannot make %s", mark);
	fault_point("move.marked");
	return r < 0 ? r : e->driver->snapshot_create(&e->ref, id, block, SNAPSHOT_MOVING, err);
}

void volume_close_unused(const struct agent *a, const struct pool_entry *e, const char *id, bool block,
			 const char *snapshot, const char *except) {
	_cleanup_(volume_unlock) int busy = -1;
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(free_ptr) char *mark = mark_path(e, id, snapshot);
	if (!fs_exists(mark)) /* who is about to open it uses it */
		return;
	int r = volume_busy_lock(e, id, &busy, &err);
	if (r == 0 && (snapshot ? is_locked(e, id) : in_use(a, e, id, except)))
		return;
	if (r == 0)
		r = close_locked(e, id, block, snapshot, &err);
	if (r < 0)
		log_warn("pool %s: %s", e->pool.spec.name, error_text(&err)); /* the mark stays: it is tried again */
}

/* Of volumes that are no more: somebody may have waited for them. With the pool's lock, exclusive. */
void volumes_unlock_gone(const struct agent *a, const struct pool_entry *e) {
	_cleanup_(free_ptr) char *dir = pool_path(e, "locks");
	DIR *d = opendir(dir);
	for (struct dirent *entry; d && (entry = readdir(d));) {
		_cleanup_(free_ptr) char *id = str_copyn(entry->d_name, INSTANCE_ID_LEN);
		_cleanup_(free_ptr) char *instance = instance_path(a, id, NULL);
		_cleanup_(free_ptr) char *mark = mark_path(e, id, NULL);
		struct volume v;
		_cleanup_(error_free) struct error err = ERROR_INIT;
		if (instance_id_check(id, NULL) < 0 || fs_exists(instance) || fs_exists(mark))
			continue;
		int r = volume_record_load(e, id, &v, &err);
		if (r == 0)
			fields_free(&volume_table, &v);
		else if (r == -ERROR_NOT_FOUND)
			volume_locks_remove(e, id);
	}
	if (d)
		closedir(d);
}

bool volume_recorded_block(const struct pool_entry *e, const char *id) {
	struct volume v;
	if (volume_record_load(e, id, &v, NULL) < 0)
		return root_recorded_block(e->agent, id);
	bool block = volume_is_block(&v);
	fields_free(&volume_table, &v);
	return block;
}

void volumes_close_stale(const struct agent *a, const struct pool_entry *e) {
	_cleanup_(free_ptr) char *dir = pool_path(e, "open");
	DIR *d = opendir(dir);
	for (struct dirent *entry; d && (entry = readdir(d));) {
		_cleanup_(free_ptr) char *id = str_copy(entry->d_name);
		char *snapshot = strchr(id, '@');
		if (snapshot)
			*snapshot++ = '\0';
		if (instance_id_check(id, NULL) == 0)
			volume_close_unused(a, e, id, volume_recorded_block(e, id), snapshot, NULL);
	}
	if (d)
		closedir(d);
}
