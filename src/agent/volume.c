/* Volumes: their records, making, removing and resizing them. A volume is made after its record has been written under
 * a temporary name and there when that has its final one; removed the other way round. Whatever a crash leaves has a
 * record with a temporary name, and is removed. */
#include "agent/machine-priv.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "base/time.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

#define TEMPORARY ".tmp-"

/* --- records --- */

static char *record_file(const struct pool_entry *e, const char *id, bool temporary) {
	return str_format("%s/volumes/%s%s.json", e->dir, temporary ? TEMPORARY : "", id);
}

int volume_record_load(const struct pool_entry *e, const char *id, struct volume *out, struct error *err) {
	_cleanup_(free_ptr) char *path = record_file(e, id, false);
	_cleanup_(free_ptr) char *temporary = record_file(e, id, true);
	_cleanup_(error_free) struct error why = ERROR_INIT;
	int r = object_load(&volume_table, path, out, &why);
	if (r == -ERROR_NOT_FOUND)
		return object_load(&volume_table, temporary, out, NULL) < 0
			       ? error_set(err, ERROR_NOT_FOUND, "the pool %s has no volume %s", e->pool.spec.name, id)
			       : (fields_free(&volume_table, out),
				  error_set(err, ERROR_CONFLICT, "volume %.12s is being made or removed", id));
	return r < 0 ? error_move(err, &why) : 0;
}

bool volume_is_block(const struct volume *v) {
	return str_same(v->spec.kind, "block");
}

struct storage_volume volume_for_driver(const struct volume *v) {
	return (struct storage_volume){
		.id = v->id,
		.block = volume_is_block(v),
		.size = v->spec.size,
		.uid = (uint32_t)v->spec.uid,
		.gid = (uint32_t)v->spec.gid,
		.mode = (mode_t)v->spec.mode,
	};
}

static int sync_volumes(const struct pool_entry *e) {
	_cleanup_(free_ptr) char *dir = pool_path(e, "volumes");
	return fs_fsync_dir(dir);
}

int volume_begin(const struct pool_entry *e, const struct volume *v, struct error *err) {
	_cleanup_(free_ptr) char *path = record_file(e, v->id, true);
	return object_save(&volume_table, path, v, err);
}

static int rename_record(const struct pool_entry *e, const char *id, bool to_temporary, struct error *err) {
	_cleanup_(free_ptr) char *from = record_file(e, id, !to_temporary);
	_cleanup_(free_ptr) char *to = record_file(e, id, to_temporary);
	int r = rename(from, to) < 0 ? -errno : sync_volumes(e);
	return r < 0 ? error_errno(err, r, "cannot rename %s", from) : 0;
}

int volume_finish(const struct pool_entry *e, const char *id, struct error *err) {
	return rename_record(e, id, false, err);
}

int volume_unfinished(const struct pool_entry *e, const char *id, struct volume *out, struct error *err) {
	_cleanup_(free_ptr) char *path = record_file(e, id, true);
	return object_load(&volume_table, path, out, err);
}

bool volume_is_whole(const struct pool_entry *e, const char *id) {
	_cleanup_(free_ptr) char *path = record_file(e, id, false);
	return fs_exists(path);
}

int volume_clear(const struct pool_entry *e, const char *id, struct error *err) {
	_cleanup_(free_ptr) char *unfinished = record_file(e, id, true);
	int r = volume_is_whole(e, id) ? rename_record(e, id, true, err) : 0;
	return r < 0 || !fs_exists(unfinished) ? r : volume_undo(e, id, err);
}

int volume_undo(const struct pool_entry *e, const char *id, struct error *err) {
	_cleanup_(free_ptr) char *path = record_file(e, id, true);
	struct volume v;
	int r = volume_unfinished(e, id, &v, err);
	if (r < 0)
		return r;
	bool block = volume_is_block(&v);
	fields_free(&volume_table, &v);
	if (root_is_here(e, id)) { /* of a move that came to its end, or to nothing: the record alone is too much */
		unlink(path);
		sync_volumes(e);
		return 0;
	}
	r = volume_close(e, id, block, err);
	if (r == 0)
		r = e->driver->volume_remove(&e->ref, id, block, err);
	fault_point("volume.undone");
	if (r < 0)
		return r;
	volume_locks_remove(e, id);
	unlink(path);
	sync_volumes(e);
	return 0;
}

/* A worker that still works on it holds its lock. */
static void undo_stale(const struct pool_entry *e, const char *id) {
	_cleanup_(volume_unlock) int lock = -1;
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(free_ptr) char *path = str_format("%s/locks/%s", e->dir, id);
	_cleanup_(free_ptr) char *record = record_file(e, id, true);
	lock = open(path, O_RDONLY | O_CREAT | O_CLOEXEC, 0600);
	if (lock < 0 || flock(lock, LOCK_EX | LOCK_NB) < 0 || !fs_exists(record) || volume_is_coming(e, id))
		return;
	if (volume_undo(e, id, &err) < 0)
		log_warn("what is left of volume %.12s in the pool %s: %s", id, e->pool.spec.name, error_text(&err));
}

void volumes_undo_stale(UNUSED const struct job *j, const struct pool_entry *e) {
	_cleanup_(free_ptr) char *dir = pool_path(e, "volumes");
	DIR *d = opendir(dir);
	for (struct dirent *entry; d && (entry = readdir(d));) {
		size_t n = strlen(entry->d_name), before = strlen(TEMPORARY), after = strlen(".json");
		if (!str_starts(entry->d_name, TEMPORARY) || n != before + INSTANCE_ID_LEN + after)
			continue; /* also what a killed writer has left: replaced by the next one */
		_cleanup_(free_ptr) char *id = str_copyn(entry->d_name + before, INSTANCE_ID_LEN);
		if (instance_id_check(id, NULL) == 0)
			undo_stale(e, id);
	}
	if (d)
		closedir(d);
}

/* --- create --- */

int volume_check_new(const struct pool_entry *e, const struct volume *v, struct error *err) {
	struct pool_capabilities can = pool_can(e);
	bool block = volume_is_block(v);
	_cleanup_(free_ptr) char *instance = instance_path(e->agent, v->id, NULL);
	if (fs_exists(instance))
		return error_field(err, "volume.id", "is that of an instance");
	if (block ? !can.blocks : !can.filesystems) {
		error_set(err, ERROR_UNSUPPORTED, "the pool %s (driver %s) has no %s volumes", e->pool.spec.name,
			  e->driver->name, block ? "block" : "file-system");
		error_in_field(err, "volume.spec.kind");
		return -ERROR_UNSUPPORTED;
	}
	if (!block && v->spec.size && !can.quotas) {
		error_set(err, ERROR_UNSUPPORTED, "the pool %s (driver %s) cannot limit the size of a file-system volume",
			  e->pool.spec.name, e->driver->name);
		error_in_field(err, "volume.spec.size");
		return -ERROR_UNSUPPORTED;
	}
	return 0;
}

/* Is it there already? CONFLICT: as something else. */
static int check_same(const struct pool_entry *e, const struct volume *v, bool *there, struct error *err) {
	struct volume have;
	_cleanup_(error_free) struct error why = ERROR_INIT;
	int r = volume_record_load(e, v->id, &have, &why);
	*there = r == 0;
	if (r == -ERROR_NOT_FOUND)
		return 0;
	if (r == -ERROR_CONFLICT) /* left over: we hold its lock */
		return volume_undo(e, v->id, err);
	if (r < 0)
		return error_move(err, &why);
	bool same = volume_is_block(&have) == volume_is_block(v);
	fields_free(&volume_table, &have);
	return same ? 0 : error_set(err, ERROR_CONFLICT, "volume %.12s is there and is of another kind", v->id);
}

int volume_make(const struct job *j, const struct pool_entry *e, const struct volume *wanted, volume_maker *make,
		void *arg, struct error *err) {
	struct storage_volume v = volume_for_driver(wanted);
	bool there = false;
	int r = check_same(e, wanted, &there, err);
	if (r < 0 || there)
		return r;
	r = volume_begin(e, wanted, err);
	fault_point("volume.begun");
	if (r == 0)
		r = make(j, e, &v, arg, err);
	fault_point("volume.made");
	if (r == 0)
		r = volume_finish(e, wanted->id, err);
	fault_point("volume.finished");
	if (r < 0) {
		_cleanup_(error_free) struct error why = ERROR_INIT;
		if (volume_undo(e, wanted->id, &why) < 0)
			log_warn("volume %.12s: %s", wanted->id, error_text(&why));
	}
	return r;
}

static int make(const struct job *j, const struct pool_entry *e, const struct storage_volume *v, void *arg,
		struct error *err) {
	const struct msg_volume_create *m = j->body;
	if (!m->from.id)
		return e->driver->volume_create(&e->ref, v, err);
	if (m->snapshots && *m->snapshots)
		return volume_move(j, arg, m->snapshots, e, v, err);
	return m->linked ? volume_clone(arg, e, v, err) : volume_copy(j, arg, e, v, err);
}

/* What is to be copied: a volume, with its lock and those who write to it held still. */
static int open_source(const struct job *j, struct volume_source *from, struct frozen *frozen, struct error *err) {
	const struct msg_volume_create *m = j->body;
	struct volume have;
	int r = pool_ready(j, m->from.pool_id, &from->pool, err);
	if (r == 0)
		r = volume_hold(from->pool, m->from.id, m->snapshots ? LOCK_EX : LOCK_SH, &from->lock, &have, err);
	if (r < 0) {
		error_in_field(err, "from");
		return r;
	}
	from->id = m->from.id;
	from->snapshot = m->from.snapshot;
	from->block = volume_is_block(&have);
	int64_t size = have.spec.size;
	bool foreign = have.spec.mount.type != NULL;
	fields_free(&volume_table, &have);
	if (foreign && m->linked)
		return error_set(err, ERROR_UNSUPPORTED, "what a volume mounts cannot be shared with a copy: ask for a full one");
	if (from->block != volume_is_block(&m->volume))
		return error_field(err, "volume.spec.kind", "must be that of the volume that is copied");
	if (from->block && m->volume.spec.size < size)
		return error_field(err, "volume.spec.size", "must be at least %lld, that of the volume that is copied",
				   (long long)size);
	if (from->snapshot)
		return 0;
	_cleanup_(strv_free_ptr) char **users = volume_users(j->agent, from->id, NULL);
	return freeze_users(j, users, frozen, err);
}

/* A volume's lock, and its record as it is under that. */
int volume_hold(const struct pool_entry *e, const char *id, int how, int *lock, struct volume *out, struct error *err) {
	int r = volume_record_load(e, id, out, err); /* no lock is made for what is not there */
	if (r < 0)
		return r;
	fields_free(&volume_table, out);
	r = volume_lock(e, id, how, lock, err);
	return r < 0 ? r : volume_record_load(e, id, out, err);
}

/* Where it can be found on the host while it is open; NULL: it is a device. */
static char *volume_place(const struct pool_entry *e, const struct volume *v) {
	return volume_is_block(v)	? NULL
	       : v->spec.mount.type ? storage_foreign_path(&e->ref, v->id)
				    : storage_volume_path(&e->ref, v->id);
}

int work_volume_create(struct job *j, struct error *err) {
	const struct msg_volume_create *m = j->body;
	const struct pool_entry *e = NULL;
	struct volume_source from = {.lock = -1};
	struct frozen frozen = {0};
	_cleanup_(volume_unlock) int pool = -1, lock = -1;
	if (!m->volume.id || instance_id_check(m->volume.id, err) < 0)
		return error_field(err, "volume.id", "is required: 64 hexadecimal digits");
	int r = pool_use(j, m->pool_id, &e, &pool, err);
	if (r == 0)
		r = volume_check_new(e, &m->volume, err);
	if (r == 0 && m->from.id && m->volume.spec.mount.type)
		r = error_field(err, "volume.spec.mount", "does not go with a copy, which has content of its own");
	if (r == 0 && m->from.id)
		r = open_source(j, &from, &frozen, err);
	if (r == 0)
		r = volume_lock(e, m->volume.id, LOCK_EX, &lock, err);
	if (r == 0)
		r = volume_make(j, e, &m->volume, make, &from, err);
	volume_source_close(j->agent, &from);
	frozen_thaw(&frozen);
	if (r < 0)
		return e ? pool_failed(j, e, r, err) : r;
	struct msg_volume_usage reply = {.path = volume_place(e, &m->volume)};
	r = job_answer(j, &reply, NULL, 0, err);
	fields_free(&msg_volume_usage_table, &reply);
	return r;
}

/* --- delete --- */

static int delete_locked(const struct job *j, const struct pool_entry *e, const char *id, bool block, struct error *err) {
	int r = volume_check_unused(j->agent, id, "removed", err);
	if (r == 0)
		r = checkpoints_drop(j->agent, id, err);
	if (r == 0)
		r = volume_close(e, id, block, err);
	if (r == 0)
		r = rename_record(e, id, true, err);
	fault_point("volume.renamed");
	return r < 0 ? r : volume_undo(e, id, err);
}

int work_volume_delete(struct job *j, struct error *err) {
	const struct msg_volume_ref *m = j->body;
	const struct pool_entry *e;
	_cleanup_(volume_unlock) int pool = -1, lock = -1;
	_cleanup_(error_free) struct error why = ERROR_INIT;
	struct volume have;
	if (!m->id || !m->pool_id)
		return error_field(err, m->id ? "pool_id" : "id", "is required");
	int r = pool_use(j, m->pool_id, &e, &pool, err);
	if (r == 0)
		r = volume_lock(e, m->id, LOCK_EX, &lock, err);
	if (r < 0)
		return r;
	r = volume_record_load(e, m->id, &have, &why);
	bool block = r == 0 && volume_is_block(&have);
	if (r == 0) {
		fields_free(&volume_table, &have);
		r = delete_locked(j, e, m->id, block, err);
	} else if (r == -ERROR_NOT_FOUND) {
		volume_locks_remove(e, m->id);
		r = 0;
	} else {
		r = r == -ERROR_CONFLICT ? volume_undo(e, m->id, err) : error_move(err, &why);
	}
	return r < 0 ? pool_failed(j, e, r, err) : job_answer(j, NULL, NULL, 0, err);
}

/* --- resize, usage, list --- */

static int check_size(const struct job *j, const struct pool_entry *e, const struct volume *v, int64_t size,
		      struct error *err) {
	struct pool_capabilities can = pool_can(e);
	bool block = volume_is_block(v), smaller = size < v->spec.size && (block || size);
	if (block && (size < 1 << 20 || size % 512))
		return error_field(err, "size", "of a block volume must be at least 1MiB, and a multiple of 512");
	if (!block && size && !can.quotas)
		return error_set(err, ERROR_UNSUPPORTED, "the pool %s (driver %s) cannot limit the size of a file-system "
				 "volume", e->pool.spec.name, e->driver->name);
	if (smaller && !can.shrink)
		return error_set(err, ERROR_UNSUPPORTED, "volumes of the pool %s (driver %s) cannot become smaller",
				 e->pool.spec.name, e->driver->name);
	/* where file systems cannot grow while they are mounted, disks can all the same */
	bool online = block ? e->driver->can.grow_online : can.grow_online;
	bool offline = smaller ? block : !online;
	return offline ? volume_check_unused(j->agent, v->id, "resized", err) : 0;
}

static int resize_locked(const struct job *j, const struct pool_entry *e, struct volume *v, int64_t size,
			 struct error *err) {
	_cleanup_(free_ptr) char *path = record_file(e, v->id, false);
	struct storage_volume driver = volume_for_driver(v);
	int r = checkpoints_drop(j->agent, v->id, err);
	if (r == 0)
		r = e->driver->volume_resize(&e->ref, &driver, size, err);
	fault_point("volume.resized");
	if (r == 0 && driver.block)
		r = volume_device_resized(e, v->id, err);
	if (r < 0)
		return r;
	v->spec.size = size;
	r = object_save(&volume_table, path, v, err);
	if (r == 0 && driver.block)
		machine_volume_resized(j->agent, v->id, size);
	return r;
}

int work_volume_resize(struct job *j, struct error *err) {
	const struct msg_volume_resize *m = j->body;
	const struct pool_entry *e;
	struct volume v = {0};
	_cleanup_(volume_unlock) int pool = -1, lock = -1, busy = -1;
	int r = pool_use(j, m->pool_id, &e, &pool, err);
	if (r == 0)
		r = volume_hold(e, m->id, LOCK_EX, &lock, &v, err);
	if (r < 0)
		return r;
	r = check_size(j, e, &v, m->size, err);
	if (r == 0)
		r = volume_busy_lock(e, m->id, &busy, err);
	if (r == 0)
		r = resize_locked(j, e, &v, m->size, err);
	fields_free(&volume_table, &v);
	return r < 0 ? pool_failed(j, e, r, err) : job_answer(j, NULL, NULL, 0, err);
}

/* Is it an instance's root, or a volume? And where is that? */
static int kind_of(const struct job *j, const struct pool_entry *e, const char *id, bool *block, char **path, struct error *err) {
	_cleanup_(free_ptr) char *instance = instance_path(j->agent, id, NULL);
	struct volume v;
	*block = fs_exists(instance) && root_recorded_block(j->agent, id);
	if (fs_exists(instance))
		return 0;
	int r = volume_record_load(e, id, &v, err);
	if (r < 0)
		return r;
	*block = volume_is_block(&v);
	*path = volume_place(e, &v);
	fields_free(&volume_table, &v);
	return 0;
}

int work_volume_usage(struct job *j, struct error *err) {
	const struct msg_volume_ref *m = j->body;
	const struct pool_entry *e;
	struct msg_volume_usage reply = {0};
	_cleanup_(volume_unlock) int lock = -1;
	bool block = false;
	if (!m->id || !m->pool_id)
		return error_field(err, m->id ? "pool_id" : "id", "is required");
	int r = pool_ready(j, m->pool_id, &e, err);
	if (r == 0)
		r = kind_of(j, e, m->id, &block, &reply.path, err);
	if (r < 0)
		return r;
	r = volume_lock(e, m->id, LOCK_SH, &lock, err);
	if (r == 0)
		r = e->driver->volume_usage(&e->ref, m->id, block, &reply.size, &reply.used, err);
	if (r == 0 && e->driver->snapshot_list)
		r = e->driver->snapshot_list(&e->ref, m->id, block, &reply.snapshots, err);
	r = r < 0 ? pool_failed(j, e, r, err) : job_answer(j, &reply, NULL, 0, err);
	fields_free(&msg_volume_usage_table, &reply);
	return r;
}

int work_volume_list(struct job *j, struct error *err) {
	const struct msg_object *m = j->body;
	const struct pool_entry *e;
	_cleanup_(strv_free_ptr) char **ids = NULL, **whole = NULL;
	int r = pool_ready(j, m->id, &e, err);
	if (r < 0)
		return r;
	r = e->driver->volume_list(&e->ref, &ids, err);
	if (r < 0)
		return pool_failed(j, e, r, err);
	for (size_t i = 0; ids && ids[i]; i++) {
		_cleanup_(free_ptr) char *unfinished = record_file(e, ids[i], true);
		if (!fs_exists(unfinished) && !volume_is_left(e, ids[i]))
			strv_add(&whole, ids[i]);
	}
	struct msg_volumes reply = {.ids = whole};
	return job_answer(j, &reply, NULL, 0, err);
}
