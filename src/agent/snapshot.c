/* Snapshots of volumes and of the roots of instances. While one is taken, whoever writes is held still. */
#include "agent/machine-priv.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"

#include <sys/file.h>
#include <unistd.h>

/* What a request is about: open for it, with the locks that it needs. */
struct subject {
	const struct pool_entry *pool;
	bool block;
	int pool_lock, lock, instance;
};
#define SUBJECT_INIT ((struct subject){.pool_lock = -1, .lock = -1, .instance = -1})

static void subject_close(struct subject *s) {
	volume_unlock(&s->lock);
	volume_unlock(&s->pool_lock);
	instance_unlock(&s->instance);
}

/* Is that instance's root in that pool? */
static int check_root(const struct job *j, const struct msg_snapshot *m, bool *block, struct error *err) {
	_cleanup_(record_free) struct msg_instance_create r = {0};
	int result = record_load(j->agent, m->id, &r, err);
	if (result == 0 && !str_same(root_pool_id(&r.instance), m->pool_id))
		result = error_field(err, "pool_id", "is not that of the root of instance %.12s", m->id);
	*block = result == 0 && root_is_block(&r);
	return result;
}

/* The volume's lock is not made for what is not there. */
static int subject_open(const struct job *j, int how, struct subject *s, struct error *err) {
	const struct msg_snapshot *m = j->body;
	struct volume v;
	int r = pool_use(j, m->pool_id, &s->pool, &s->pool_lock, err);
	if (r < 0)
		return r;
	if (!s->pool->driver->snapshot_create || !pool_can(s->pool).snapshots)
		return error_set(err, ERROR_UNSUPPORTED, "the pool %s (driver %s) has no snapshots",
				 s->pool->pool.spec.name, s->pool->driver->name);
	r = m->instance ? check_root(j, m, &s->block, err) : volume_record_load(s->pool, m->id, &v, err);
	if (r < 0)
		return r;
	if (!m->instance) {
		bool foreign = v.spec.mount.type != NULL;
		s->block = volume_is_block(&v);
		fields_free(&volume_table, &v);
		if (foreign)
			return error_set(err, ERROR_UNSUPPORTED, "what a volume mounts has no snapshots");
	}
	return volume_lock(s->pool, m->id, how, &s->lock, err);
}

/* --- create --- */

/* On disk what has been written so far. For a volume in use, which is open. */
static int sync_volume(const struct subject *s, const char *id, struct error *err) {
	struct storage_handle h = {0};
	int r = volume_open(s->pool, id, s->block, NULL, &h, err);
	if (r == 0)
		r = volume_sync(s->pool, id, s->block, h.path, err);
	storage_handle_free(&h);
	return r;
}

static int take_snapshot(const struct job *j, const struct subject *s, bool used, struct error *err) {
	const struct msg_snapshot *m = j->body;
	_cleanup_(volume_unlock) int busy = -1;
	int r = used ? sync_volume(s, m->id, err) : 0;
	fault_point("snapshot.synced");
	if (r == 0)
		r = volume_busy_lock(s->pool, m->id, &busy, err);
	if (r == 0)
		r = s->pool->driver->snapshot_create(&s->pool->ref, m->id, s->block, m->name, err);
	fault_point("snapshot.taken");
	return r == 0 && m->instance ? board_keep(j->agent, m->id, m->name, err) : r;
}

static int remove_snapshot(const struct job *j, const struct subject *s, struct error *err) {
	const struct msg_snapshot *m = j->body;
	const struct storage_driver *d = s->pool->driver;
	int r = d->volume_close(&s->pool->ref, m->id, s->block, m->name, err);
	if (r == 0)
		r = d->snapshot_remove(&s->pool->ref, m->id, s->block, m->name, err);
	fault_point("snapshot.removed");
	return r;
}

/* The machine's memory, and the disk of the same moment. */
static int take_with_memory(const struct job *j, struct subject *s, struct error *err) {
	const struct msg_snapshot *m = j->body;
	_cleanup_(memory_saver_free) struct memory_saver saver = MEMORY_SAVER_INIT;
	_cleanup_(free_ptr) char *to = memory_path(j->agent, m->id, m->name);
	int r = memory_save(j->agent, m->id, true, &saver, err);
	if (r == 0)
		r = subject_open(j, LOCK_SH, s, err);
	if (r == 0) /* of one that was cut off: another moment's */
		r = memory_drop(j->agent, m->id, to, err);
	if (r == 0)
		r = remove_snapshot(j, s, err);
	if (r == 0)
		r = take_snapshot(j, s, true, err);
	if (r == 0)
		r = memory_cont(&saver, err);
	return r < 0 ? r : memory_keep(&saver, to, err);
}

static int create_with_memory(struct job *j, struct error *err) {
	const struct msg_snapshot *m = j->body;
	_cleanup_(subject_close) struct subject s = SUBJECT_INIT;
	int r = take_with_memory(j, &s, err);
	if (s.pool) {
		volume_unlock(&s.lock);
		volume_close_unused(j->agent, s.pool, m->id, s.block, NULL, NULL);
	}
	if (r < 0)
		return s.pool ? pool_failed(j, s.pool, r, err) : r;
	return job_answer(j, NULL, NULL, 0, err);
}

int work_snapshot_create(struct job *j, struct error *err) {
	const struct msg_snapshot *m = j->body;
	if (m->memory)
		return m->instance ? create_with_memory(j, err) : error_field(err, "memory", "is a machine's: a volume has none");
	_cleanup_(subject_close) struct subject s = SUBJECT_INIT;
	_cleanup_(strv_free_ptr) char **users = NULL;
	struct frozen frozen = {0};
	if (m->instance)
		strv_add(&users, m->id);
	else
		users = volume_users(j->agent, m->id, NULL);
	int r = freeze_users(j, users, &frozen, err);
	bool used = users != NULL && frozen.n > 0;
	if (r == 0)
		r = subject_open(j, LOCK_SH, &s, err);
	if (r == 0)
		r = take_snapshot(j, &s, used, err);
	frozen_thaw(&frozen);
	if (s.pool && used) {
		volume_unlock(&s.lock);
		volume_close_unused(j->agent, s.pool, m->id, s.block, NULL, NULL);
	}
	if (r < 0)
		return s.pool ? pool_failed(j, s.pool, r, err) : r;
	return job_answer(j, NULL, NULL, 0, err);
}

/* --- delete --- */

/* Before its disk: memory without one is of no use. */
static int drop_memory(const struct job *j, struct subject *s, struct error *err) {
	const struct msg_snapshot *m = j->body;
	_cleanup_(free_ptr) char *dir = memory_path(j->agent, m->id, m->name);
	if (!fs_exists(dir))
		return 0;
	int r = instance_lock(j->agent, m->id, LOCK_EX, LOCK_WAIT, &s->instance, err);
	return r < 0 ? r : memory_drop(j->agent, m->id, dir, err);
}

int work_snapshot_delete(struct job *j, struct error *err) {
	const struct msg_snapshot *m = j->body;
	_cleanup_(subject_close) struct subject s = SUBJECT_INIT;
	_cleanup_(error_free) struct error why = ERROR_INIT;
	int r = m->instance ? drop_memory(j, &s, &why) : 0;
	if (r == 0)
		r = subject_open(j, LOCK_EX, &s, &why);
	if (r == -ERROR_NOT_FOUND && s.pool) /* it went with its volume */
		return job_answer(j, NULL, NULL, 0, err);
	if (r < 0)
		return error_move(err, &why);
	r = remove_snapshot(j, &s, err);
	if (r == 0 && m->instance)
		r = board_drop(j->agent, m->id, m->name, err);
	return r < 0 ? pool_failed(j, s.pool, r, err) : job_answer(j, NULL, NULL, 0, err);
}

/* --- restore --- */

/* Its instance must not run, and does not start before this is over. */
static int hold_instance(struct job *j, struct subject *s, struct msg_instance_create *r, struct error *err) {
	const struct msg_snapshot *m = j->body;
	_cleanup_(run_free) struct run_state run = {0};
	int result = instance_lock(j->agent, m->id, LOCK_EX, LOCK_WAIT, &s->instance, err);
	if (result == 0)
		result = record_load(j->agent, m->id, r, err);
	if (result == 0)
		result = instance_reap(j, r, false, err);
	if (result == 0 && run_load(j->agent, m->id, &run, NULL) == 0)
		result = error_set(err, ERROR_CONFLICT, "instance %.12s runs: stop it before its root goes back to a snapshot",
				   m->id);
	return result;
}

static int set_state(const struct job *j, struct msg_instance_create *r, const char *state, struct error *err) {
	status_set_state(&r->instance.status, state);
	int result = record_save(j->agent, r, err);
	if (result == 0)
		job_report(j, "update", &r->instance.status, NULL);
	return result;
}

/* The memory that it would go on with does not fit the disk that comes; and a guest is to know that what it has given out as its
 * own, random numbers among it, it may give out again. */
static int begin_restore(const struct job *j, struct msg_instance_create *r, struct error *err) {
	const struct msg_snapshot *m = j->body;
	const struct agent *a = j->agent;
	_cleanup_(free_ptr) char *memory = memory_path(a, m->id, NULL), *kept = memory_path(a, m->id, m->name);
	_cleanup_(free_ptr) char *generation = instance_path(a, m->id, GENERATION_FILE), *digits = random_hex(16);
	_cleanup_(free_ptr) char *uuid = machine_uuid(digits);
	if (m->memory && !fs_exists(kept))
		return error_set(err, ERROR_NOT_FOUND, "the snapshot's memory is not there: it was cut off");
	int result = str_same(r->instance.status.state, "suspended") ? set_state(j, r, "exited", err) : 0;
	if (result == 0)
		result = memory_drop(a, m->id, memory, err);
	if (result == 0 && (result = file_replace(generation, uuid, strlen(uuid), 0600)) < 0)
		error_errno(err, result, "cannot write %s", generation);
	return result;
}

/* Its memory is that of the snapshot; it is to be started. */
static int restore_memory(const struct job *j, struct msg_instance_create *r, struct error *err) {
	const struct msg_snapshot *m = j->body;
	_cleanup_(free_ptr) char *from = memory_path(j->agent, m->id, m->name), *to = memory_path(j->agent, m->id, NULL);
	int result = memory_share(from, to, false, err);
	fault_point("restore.memory");
	return result < 0 ? result : set_state(j, r, "suspended", err);
}

int work_snapshot_restore(struct job *j, struct error *err) {
	const struct msg_snapshot *m = j->body;
	_cleanup_(subject_close) struct subject s = SUBJECT_INIT;
	_cleanup_(record_free) struct msg_instance_create record = {0};
	int r = m->instance ? hold_instance(j, &s, &record, err) : 0;
	bool machine = r == 0 && m->instance && instance_is_machine(&record.instance.spec);
	if (r == 0)
		r = subject_open(j, LOCK_EX, &s, err);
	if (r == 0 && machine)
		r = begin_restore(j, &record, err);
	if (r == 0 && !m->instance)
		r = volume_check_unused(j->agent, m->id, "restored", err);
	if (r == 0)
		r = checkpoints_drop(j->agent, m->id, err);
	if (r < 0)
		return r;
	const struct storage_driver *d = s.pool->driver;
	r = volume_close(s.pool, m->id, s.block, err);
	fault_point("restore.closed");
	if (r == 0)
		r = d->snapshot_restore(&s.pool->ref, m->id, s.block, m->name, err);
	fault_point("restore.done");
	if (r == 0 && machine)
		r = board_restore(j->agent, m->id, m->name, err);
	if (r == 0 && machine && m->memory)
		r = restore_memory(j, &record, err);
	return r < 0 ? pool_failed(j, s.pool, r, err) : job_answer(j, NULL, NULL, 0, err);
}
