/* The root of an instance: a volume of the instance's id in the instance's pool. Upon the layers of an image it is a file
 * system with what has been changed: in it lie "upper" and "work" of the overlay, with the owners that the instance itself
 * sees, so that another instance can have a copy as it is. A machine without layers has a disk: a block volume that begins
 * as its image's template (template.c) or empty. */
#include "agent/machine-priv.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define DISK_SIZE ((int64_t)10 << 30) /* of an empty one, where none is told */
#define DISK_MIN ((int64_t)1 << 20)

const char *root_pool_id(const struct instance *i) {
	return i->pool_id ? i->pool_id : POOL_LOCAL_ID;
}

bool root_is_block(const struct msg_instance_create *r) {
	return str_same(r->instance.spec.kind, "machine") && !strv_len(r->layers);
}

bool root_is_here(const struct pool_entry *e, const char *id) {
	_cleanup_(record_free) struct msg_instance_create r = {0};
	_cleanup_(free_ptr) char *dir = instance_path(e->agent, id, NULL);
	if (!fs_exists(dir))
		return false;
	return record_load(e->agent, id, &r, NULL) < 0 || str_same(root_pool_id(&r.instance), e->pool.id);
}

bool root_recorded_block(const struct agent *a, const char *id) {
	_cleanup_(record_free) struct msg_instance_create r = {0};
	return record_load(a, id, &r, NULL) == 0 && root_is_block(&r);
}

/* --- making --- */

static int make_part(const char *root, const char *name, mode_t mode, struct error *err) {
	_cleanup_(free_ptr) char *path = str_format("%s/%s", root, name);
	if ((mkdir(path, mode) < 0 && errno != EEXIST) || chmod(path, mode) < 0)
		return error_errno(err, errno, "cannot make %s", path);
	return 0;
}

/* The two directories; what an overlay had under work when it was copied is of no use. */
static int make_parts(const struct pool_entry *e, const char *id, bool copied, struct error *err) {
	struct storage_handle h = {0};
	int r = volume_open(e, id, false, NULL, &h, err);
	if (r < 0)
		return r;
	_cleanup_(free_ptr) char *work = str_format("%s/work", h.path);
	if (copied && (r = fs_remove_tree(work)) < 0)
		r = error_errno(err, r, "cannot empty %s", work);
	if (r == 0)
		r = make_part(h.path, "upper", 0755, err);
	if (r == 0)
		r = make_part(h.path, "work", 0700, err);
	/* the local pool's go to disk with the instance's record */
	if (r == 0 && !str_same(e->pool.id, POOL_LOCAL_ID) && (r = sync_dir_fs(h.path)) < 0)
		r = error_errno(err, r, "cannot write back %s", h.path);
	storage_handle_free(&h);
	return r;
}

static int check_size(const struct pool_entry *e, int64_t size, struct error *err) {
	if (!size || pool_can(e).quotas)
		return 0;
	error_set(err, ERROR_UNSUPPORTED, "the pool %s (driver %s) cannot limit the size of a root", e->pool.spec.name,
		  e->driver->name);
	error_in_field(err, "spec.root_size");
	return -ERROR_UNSUPPORTED;
}

/* The local pool lies beside the instances' records, whose way to the disk is that of roots too. */
static struct storage_pool ref_for_root(const struct pool_entry *e) {
	struct storage_pool ref = e->ref;
	ref.unsynced = str_same(e->pool.id, POOL_LOCAL_ID);
	return ref;
}

static struct storage_volume root_volume(const struct msg_instance_create *m) {
	bool block = root_is_block(m);
	int64_t size = m->instance.spec.root_size;
	return (struct storage_volume){.id = m->instance.id, .block = block, .size = size || !block ? size : DISK_SIZE, .mode = 0700};
}

/* A source that is an instance's root: held still if it is the present state that is copied. Its volume's lock keeps
 * snapshots of it from going away. */
static int open_source(const struct job *j, const struct msg_instance_create *m, bool held, struct volume_source *from,
		       struct frozen *frozen, struct error *err) {
	_cleanup_(record_free) struct msg_instance_create r = {0};
	char *ids[] = {m->root.id, NULL};
	int result = record_load(j->agent, m->root.id, &r, err);
	if (result == 0 && m->root.pool_id && !str_same(root_pool_id(&r.instance), m->root.pool_id))
		result = error_field(err, "pool_id", "is not that of the root of instance %.12s", m->root.id);
	if (result == 0 && !strv_same(r.layers, m->layers))
		result = error_set(err, ERROR_CONFLICT, "the root of instance %.12s changes another image", m->root.id);
	if (result == 0)
		result = pool_ready(j, root_pool_id(&r.instance), &from->pool, err);
	if (result == 0 && root_is_block(&r) != root_is_block(m))
		result = error_set(err, ERROR_CONFLICT, "the root of instance %.12s is %s disk", m->root.id, root_is_block(m) ? "no" : "a");
	if (result < 0) {
		error_in_field(err, "root");
		return result;
	}
	from->id = m->root.id;
	from->block = root_is_block(m);
	from->snapshot = m->root.snapshot;
	result = held ? 0 : freeze_users(j, ids, frozen, err);
	if (result == 0 && !held && !frozen->n)
		result = error_set(err, ERROR_NOT_FOUND, "the agent has no instance %s", m->root.id);
	if (result == 0)
		result = volume_lock(from->pool, from->id, LOCK_SH, &from->lock, err);
	if (result == 0 && from->snapshot)
		frozen_thaw(frozen);
	return result;
}

/* A disk is at least as large as what it begins as. */
static int check_disk_size(const struct volume_source *from, int64_t wanted, struct storage_volume *v, int64_t *size,
			   struct error *err) {
	int64_t used;
	_cleanup_(volume_unlock) int busy = -1;
	int r = volume_busy_lock(from->pool, from->id, &busy, err);
	if (r == 0)
		r = from->pool->driver->volume_usage(&from->pool->ref, from->id, true, size, &used, err);
	if (r < 0)
		return r;
	if (wanted && wanted < *size) {
		error_set(err, ERROR_INVALID, "%lld bytes are too few: the disk that it begins as has %lld", (long long)wanted,
			  (long long)*size);
		error_in_field(err, "spec.root_size");
		return -ERROR_INVALID;
	}
	v->size = MAX(wanted, *size);
	return 0;
}

/* A clone has the size of what it is of. */
static int copy_volume(const struct job *j, struct volume_source *from, const struct pool_entry *e, bool linked, int64_t wanted,
		       struct storage_volume *v, struct error *err) {
	int64_t size = 0;
	int r = from->block ? check_disk_size(from, wanted, v, &size, err) : 0;
	if (r < 0 || !linked)
		return r < 0 ? r : volume_copy(j, from, e, v, err);
	int64_t larger = v->size;
	v->size = from->block ? size : v->size;
	r = volume_clone(from, e, v, err);
	if (r == 0 && from->block && larger > size)
		r = e->driver->volume_resize(&e->ref, v, larger, err);
	return r;
}

static int copy(const struct job *j, const struct msg_instance_create *m, const struct pool_entry *e, bool held,
		struct error *err) {
	struct volume_source from = {.lock = -1};
	struct frozen frozen = {0};
	struct storage_volume v = root_volume(m);
	int r = open_source(j, m, held, &from, &frozen, err);
	if (r == 0)
		r = copy_volume(j, &from, e, m->linked, m->instance.spec.root_size, &v, err);
	volume_source_close(j->agent, &from);
	frozen_thaw(&frozen);
	return r;
}

/* A clone where the pool can make one. */
static int from_template(const struct job *j, const struct msg_instance_create *m, const struct pool_entry *e, struct error *err) {
	const char *id = strchr(m->disk, ':') + 1;
	struct volume_source from = {.pool = e, .id = id, .block = true, .lock = -1};
	struct storage_volume v = root_volume(m);
	struct volume have;
	int r = volume_hold(e, id, LOCK_SH, &from.lock, &have, err);
	if (r < 0)
		return error_wrap(err, "the disk of the image");
	fields_free(&volume_table, &have);
	bool linked = e->driver->clone && pool_can(e).linked_clones;
	r = copy_volume(j, &from, e, linked, m->instance.spec.root_size, &v, err);
	volume_source_close(j->agent, &from);
	return r;
}

static int make_root(const struct job *j, const struct msg_instance_create *m, const struct pool_entry *e, bool held,
		     struct error *err) {
	struct storage_pool ref = ref_for_root(e);
	struct storage_volume v = root_volume(m);
	if (m->root.id)
		return copy(j, m, e, held, err);
	return m->disk ? from_template(j, m, e, err) : e->driver->volume_create(&ref, &v, err);
}

int root_create(const struct job *j, const struct msg_instance_create *m, bool held, struct error *err) {
	const struct pool_entry *e;
	_cleanup_(volume_unlock) int pool = -1;
	bool block = root_is_block(m);
	int r = pool_use(j, root_pool_id(&m->instance), &e, &pool, err);
	if (r < 0)
		return r;
	if (block ? !pool_can(e).blocks : !pool_can(e).filesystems)
		return error_set(err, ERROR_UNSUPPORTED, "the pool %s (driver %s) has no %s volumes, which %s are", e->pool.spec.name,
				 e->driver->name, block ? "block" : "file-system", block ? "disks of machines" : "roots");
	r = block ? 0 : check_size(e, m->instance.spec.root_size, err);
	if (r == 0)
		r = make_root(j, m, e, held, err);
	fault_point("root.made");
	if (r == 0 && !block)
		r = make_parts(e, m->instance.id, m->root.id != NULL, err);
	fault_point("root.filled");
	volume_close_unused(j->agent, e, m->instance.id, block, NULL, m->instance.id);
	return r < 0 ? pool_failed(j, e, r, err) : 0;
}

/* --- using --- */

int root_open(const struct job *j, const struct msg_instance_create *r, char **path, struct error *err) {
	const struct pool_entry *e;
	struct storage_handle h = {0};
	int result = pool_ready(j, root_pool_id(&r->instance), &e, err);
	if (result == 0)
		result = pool_failed(j, e, volume_open(e, r->instance.id, root_is_block(r), NULL, &h, err), err);
	if (result == 0)
		*path = TAKE_PTR(h.path);
	storage_handle_free(&h);
	return result;
}

int root_open_disk(const struct job *j, const struct msg_instance_create *r, struct error *err) {
	_cleanup_(free_ptr) char *path = NULL;
	int result = root_open(j, r, &path, err);
	int fd = result < 0 ? result : open(path, O_RDONLY | O_CLOEXEC);
	return result == 0 && fd < 0 ? error_errno(err, errno, "cannot open %s", path) : fd;
}

void root_close(const struct job *j, const struct msg_instance_create *r) {
	const struct pool_entry *e = pool_get(j->agent, root_pool_id(&r->instance));
	if (e && !e->creating)
		volume_close_unused(j->agent, e, r->instance.id, root_is_block(r), NULL, r->instance.id);
}

int root_hold(const struct job *j, const struct msg_instance_create *r, int *lock, char **path, struct error *err) {
	const struct pool_entry *e;
	int result = pool_ready(j, root_pool_id(&r->instance), &e, err);
	if (result == 0 && root_is_block(r))
		result = error_set(err, ERROR_UNSUPPORTED, "instance %.12s has a machine's disk, in which only its guest sees files",
				   r->instance.id);
	if (result == 0)
		result = volume_lock(e, r->instance.id, LOCK_SH, lock, err);
	return result < 0 ? result : root_open(j, r, path, err);
}

void root_release(const struct job *j, const struct msg_instance_create *r, int *lock) {
	const struct pool_entry *e = pool_get(j->agent, root_pool_id(&r->instance));
	if (*lock < 0 || !e)
		return;
	volume_unlock(lock);
	_cleanup_(free_ptr) char *run = run_path(j->agent, r->instance.id, "state.json");
	if (!fs_exists(run))
		volume_close_unused(j->agent, e, r->instance.id, root_is_block(r), NULL, r->instance.id);
}

/* --- the end --- */

static int remove_volume(const struct pool_entry *e, const char *id, bool block, struct error *err) {
	struct storage_pool ref = ref_for_root(e);
	int r = checkpoints_drop(e->agent, id, err);
	if (r == 0)
		r = volume_close(e, id, block, err);
	return r < 0 ? r : e->driver->volume_remove(&ref, id, block, err);
}

static int remove_from(const struct job *j, const struct pool_entry *e, const char *id, const struct msg_instance_create *record,
		       struct error *err) {
	_cleanup_(volume_unlock) int pool = -1, lock = -1;
	int r = pool_use(j, e->pool.id, &e, &pool, err);
	if (r == 0)
		r = volume_lock_present(e, id, &lock, err); /* nobody copies from a snapshot of it */
	if (r == 0 && (!record || !root_is_block(record)))
		r = remove_volume(e, id, false, err);
	if (r == 0 && (record ? root_is_block(record) : pool_can(e).blocks))
		r = remove_volume(e, id, true, err);
	fault_point("root.removed");
	if (r < 0)
		return pool_failed(j, e, r, err);
	volume_locks_remove(e, id);
	return 0;
}

int root_remove(const struct job *j, const struct msg_instance_create *record, const char *id, struct error *err) {
	const char *pool_id = record ? root_pool_id(&record->instance) : NULL;
	const struct pool_entry *e = pool_id ? pool_get(j->agent, pool_id) : NULL;
	if (e)
		return remove_from(j, e, id, record, err);
	if (pool_id)
		return error_set(err, ERROR_UNAVAILABLE, "the agent has no pool %s any more", pool_id);
	int r = 0;
	void *value;
	for (size_t at = 0; r == 0 && map_next(j->agent->pools, &at, NULL, &value);) {
		const struct pool_entry *one = value;
		struct volume v;
		if (volume_record_load(one, id, &v, NULL) == 0)
			fields_free(&volume_table, &v); /* somebody's volume: no root */
		else if (!one->creating)
			r = remove_from(j, one, id, NULL, err);
	}
	return r;
}

int root_resize(const struct job *j, const struct msg_instance_create *r, int64_t size, struct error *err) {
	const struct pool_entry *e;
	_cleanup_(volume_unlock) int pool = -1, busy = -1;
	struct storage_volume v = root_volume(r);
	if (v.block && size < DISK_MIN)
		return error_field(err, "root_size", "of a machine's disk must be at least 1MiB");
	int result = pool_use(j, root_pool_id(&r->instance), &e, &pool, err);
	if (result == 0 && !v.block)
		result = check_size(e, size, err);
	if (result == 0)
		result = volume_busy_lock(e, r->instance.id, &busy, err);
	if (result == 0)
		result = checkpoints_drop(j->agent, r->instance.id, err);
	if (result == 0)
		result = e->driver->volume_resize(&e->ref, &v, size, err);
	return result;
}
