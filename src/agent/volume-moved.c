/* A volume that moves while it is used is in two pools for a while, and at each instant exactly one of them has it. A volume's new
 * pool has a mark that names the old one, volumes/.moved-<id>, and then its record gets its final name: that step decides. A root
 * is in the pool that its instance's record names. What the old pool still has is removed next; whoever finds it after a crash
 * does that. */
#include "agent/storage-priv.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"

#include <dirent.h>
#include <sys/file.h>
#include <unistd.h>

#define MARK ".moved-"

static char *mark_file(const struct pool_entry *e, const char *id) {
	return str_format("%s/volumes/" MARK "%s", e->dir, id);
}

static bool is_instance(const struct agent *a, const char *id) {
	_cleanup_(free_ptr) char *dir = instance_path(a, id, NULL);
	return fs_exists(dir);
}

/* The pool that this one has it from, with something of it left there; NULL. */
static const struct pool_entry *left_in(const struct pool_entry *e, const char *id) {
	_cleanup_(free_ptr) char *path = mark_file(e, id);
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	if (fs_read(path, INSTANCE_ID_LEN, &text) < 0 || !volume_is_whole(e, id))
		return NULL;
	return pool_get(e->agent, buf_str(&text));
}

static const struct pool_entry *moved_to(const struct pool_entry *from, const char *id) {
	void *value;
	for (size_t at = 0; map_next(from->agent->pools, &at, NULL, &value);)
		if (value != from && left_in(value, id) == from)
			return value;
	return NULL;
}

bool volume_is_left(const struct pool_entry *e, const char *id) {
	return moved_to(e, id) != NULL;
}

const char *volume_pool_now(const struct agent *a, const char *pool_id, const char *id) {
	const struct pool_entry *named = pool_get(a, pool_id), *to = named ? moved_to(named, id) : NULL;
	void *value;
	if (to)
		return to->pool.id;
	if (named && volume_is_whole(named, id))
		return pool_id;
	for (size_t at = 0; map_next(a->pools, &at, NULL, &value);)
		if (volume_is_whole(value, id))
			return ((const struct pool_entry *)value)->pool.id;
	return pool_id;
}

/* --- the step --- */

bool volume_has_moved(const struct agent *a, const struct pool_entry *to, const char *id) {
	return is_instance(a, id) ? root_is_here(to, id) : volume_is_whole(to, id);
}

static int root_moved(const struct pool_entry *from, const struct pool_entry *to, const char *id, struct msg_instance_create *r,
		      struct error *err) {
	_cleanup_(volume_unlock) int lock = -1; /* else who tidies takes what is begun here for what came to nothing */
	struct volume v;
	int result = volume_lock(from, id, LOCK_SH, &lock, err);
	if (result == 0)
		result = volume_unfinished(to, id, &v, err);
	if (result < 0)
		return result;
	result = volume_begin(from, &v, err); /* by which it will be found when it is left over */
	fields_free(&volume_table, &v);
	if (result < 0)
		return result;
	fault_point("moved.marked");
	char *was = r->instance.pool_id;
	r->instance.pool_id = str_copy(to->pool.id);
	result = record_save(from->agent, r, err);
	if (result < 0) {
		free(r->instance.pool_id);
		r->instance.pool_id = was;
		return result;
	}
	free(was);
	return 0;
}

int volume_moved(const struct pool_entry *from, const struct pool_entry *to, const char *id, struct msg_instance_create *r,
		 struct error *err) {
	if (is_instance(from->agent, id))
		return root_moved(from, to, id, r, err);
	_cleanup_(free_ptr) char *path = mark_file(to, id);
	int result = file_replace(path, from->pool.id, strlen(from->pool.id), 0600);
	if (result < 0)
		return error_errno(err, result, "cannot write %s", path);
	fault_point("moved.marked");
	return volume_finish(to, id, err);
}

/* --- what is left --- */

/* Nobody reads it any more: who did so has the lock. */
static int clear_old(const struct pool_entry *from, const char *id, struct error *err) {
	_cleanup_(volume_unlock) int lock = -1;
	int r = volume_lock(from, id, LOCK_EX, &lock, err);
	if (r == 0)
		r = volume_clear(from, id, err);
	fault_point("moved.cleared");
	return r;
}

int volume_moved_finish(const struct pool_entry *from, const struct pool_entry *to, const char *id, struct error *err) {
	_cleanup_(free_ptr) char *mark = mark_file(to, id);
	int r = clear_old(from, id, err);
	if (r < 0)
		return r;
	if (is_instance(to->agent, id))
		return volume_clear(to, id, err); /* the record alone */
	unlink(mark);
	return 0;
}

/* Those of `to` whose rest is in e, or the other way round. */
static void tidy_one(const struct job *j, const struct pool_entry *e, const struct pool_entry *to, const char *id) {
	const struct pool_entry *from = left_in(to, id), *ready;
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(volume_unlock) int lock = -1;
	_cleanup_(free_ptr) char *mark = mark_file(to, id);
	if ((from != e && to != e) || volume_try_lock(to, id, &lock) < 0)
		return; /* whoever moves it is at work */
	from = left_in(to, id);
	if (!from && !volume_is_whole(to, id))
		unlink(mark); /* of one that came to nothing */
	if (!from || pool_ready(j, (from == e ? to : from)->pool.id, &ready, NULL) < 0)
		return;
	if (volume_moved_finish(from, to, id, &err) < 0)
		log_warn("what is left of volume %.12s in the pool %s: %s", id, from->pool.spec.name, error_text(&err));
}

void volumes_moved_tidy(const struct job *j, const struct pool_entry *e) {
	void *value;
	for (size_t at = 0; map_next(j->agent->pools, &at, NULL, &value);) {
		const struct pool_entry *to = value;
		_cleanup_(free_ptr) char *dir = pool_path(to, "volumes");
		DIR *d = opendir(dir);
		for (struct dirent *entry; d && (entry = readdir(d));) {
			const char *id = entry->d_name + strlen(MARK);
			if (str_starts(entry->d_name, MARK) && instance_id_check(id, NULL) == 0)
				tidy_one(j, e, to, id);
		}
		if (d)
			closedir(d);
	}
}
