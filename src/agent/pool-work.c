/* Pools in workers: making, taking into use, looking at, removing them, and bringing in order what a crash left.
 *
 * A pool is made under the record ".tmp-pool.json", which becomes "pool.json" when all is there, and removed the other
 * way round: whatever has only the former is undone at the agent's next start. */
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

/* --- telling the agent --- */

static void report(const struct job *j, const struct pool_entry *e, const struct pool_status *status, const char *key) {
	json_t *pool = json_object(), *extra = json_object();
	json_set_str(pool, "id", e->pool.id);
	if (status)
		json_object_set_new(pool, "status", fields_print(&pool_status_table, status));
	if (key)
		json_set_bool(pool, key, true);
	json_object_set_new(extra, "pool", pool);
	job_report(j, NULL, NULL, extra);
}

static void status_of_error(struct pool_status *out, const struct pool_entry *e, const struct error *why) {
	fields_free(&pool_status_table, out);
	out->state = str_copy(why->kind == ERROR_UNAVAILABLE || why->kind == ERROR_TIMEOUT ? "unavailable" : "failed");
	out->error = str_copy(error_text(why));
	out->capabilities = e->driver->can;
}

int pool_failed(const struct job *j, const struct pool_entry *e, int r, const struct error *err) {
	if (r != -ERROR_UNAVAILABLE || !err)
		return r;
	struct pool_status status = {0};
	status_of_error(&status, e, err);
	report(j, e, &status, NULL);
	fields_free(&pool_status_table, &status);
	return r;
}

/* --- locks --- */

static int lock_dir(const struct pool_entry *e, int how, int64_t deadline, int *lock, struct error *err) {
	_cleanup_(close_fd) int fd = open(e->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = fd < 0 ? -errno : lock_file(fd, how, deadline);
	if (r == -EBUSY)
		return error_set(err, ERROR_BUSY, "another operation in the pool %s goes on; try again when it is done",
				 e->pool.spec.name);
	if (r == -ENOENT || (r == 0 && !lock_is_of(fd, e->dir)))
		return error_set(err, ERROR_NOT_FOUND, "the pool %s has been removed", e->pool.spec.name);
	if (r < 0)
		return error_errno(err, r, "cannot lock %s", e->dir);
	*lock = TAKE_FD(fd);
	return 0;
}

/* --- activating --- */

/* One at a time: others wait for it and find it done. */
static int activate(const struct pool_entry *e, struct pool_status *out, struct error *err) {
	_cleanup_(volume_unlock) int lock = -1;
	int r = volume_busy_lock(e, "pool", &lock, err);
	if (r == 0)
		r = e->driver->probe ? e->driver->probe(err) : 0;
	if (r == 0)
		r = e->driver->activate(&e->ref, err);
	if (r == 0)
		r = e->driver->status(&e->ref, out, err);
	if (r == 0 && !out->state)
		out->state = str_copy("ready");
	return r;
}

/* Looks whether it can be used, whatever was known, and tells the agent. */
static int refresh(const struct job *j, const struct pool_entry *e, struct pool_status *out, const char *key,
		   struct error *err) {
	int r = activate(e, out, err);
	if (r < 0)
		status_of_error(out, e, err);
	report(j, e, out, key);
	return r;
}

int pool_ready(const struct job *j, const char *id, const struct pool_entry **out, struct error *err) {
	const struct pool_entry *e = pool_get(j->agent, id);
	if (!e || e->creating)
		return error_set(err, ERROR_NOT_FOUND, "the agent has no pool %s", id);
	const struct pool_status *s = &e->pool.status;
	*out = e;
	if (str_same(s->state, "ready"))
		return 0;
	if (s->state)
		return error_set(err, ERROR_UNAVAILABLE, "the pool %s is %s: %s", e->pool.spec.name, s->state,
				 s->error ? s->error : "no reason is known");
	struct pool_status status = {0};
	int r = refresh(j, e, &status, NULL, err);
	fields_free(&pool_status_table, &status);
	return r < 0 ? error_wrap(err, "the pool %s", e->pool.spec.name) : 0;
}

int pool_use(const struct job *j, const char *id, const struct pool_entry **out, int *lock, struct error *err) {
	int r = pool_ready(j, id, out, err);
	return r < 0 ? r : lock_dir(*out, LOCK_SH, LOCK_WAIT, lock, err);
}

/* --- making --- */

static int make_dirs(const struct pool_entry *e, struct error *err) {
	static const char *const names[] = {"volumes", "open", "locks", "data"};
	if (mkdir(e->dir, 0700) < 0 && errno != EEXIST)
		return error_errno(err, errno, "cannot make %s", e->dir);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		_cleanup_(free_ptr) char *path = pool_path(e, names[i]);
		if (mkdir(path, 0700) < 0 && errno != EEXIST)
			return error_errno(err, errno, "cannot make %s", path);
	}
	return 0;
}

static bool has_file(const struct pool_entry *e, const char *name) {
	_cleanup_(free_ptr) char *path = pool_path(e, name);
	return fs_exists(path);
}

static int rename_record(const struct pool_entry *e, const char *from, const char *to, struct error *err) {
	_cleanup_(free_ptr) char *old = pool_path(e, from);
	_cleanup_(free_ptr) char *new = pool_path(e, to);
	int r = rename(old, new) < 0 ? -errno : fs_fsync_dir(e->dir);
	return r < 0 ? error_errno(err, r, "cannot rename %s", old) : 0;
}

/* Takes away what there is of it. backing: also what the driver made. */
static int undo(const struct pool_entry *e, bool backing, struct error *err) {
	int r = backing ? e->driver->deactivate(&e->ref, err) : 0;
	fault_point("pool.deactivated");
	if (r == 0 && backing)
		r = e->driver->remove(&e->ref, err);
	fault_point("pool.removed");
	if (r < 0)
		return error_wrap(err, "what is left of the pool %s", e->pool.spec.name);
	r = fs_remove_tree(e->dir);
	if (r == 0)
		r = fs_fsync_dir(e->agent->pool_dirs);
	return r < 0 ? error_errno(err, r, "cannot remove %s", e->dir) : 0;
}

static int create_steps(const struct job *j, const struct pool_entry *e, struct pool_status *status, struct error *err) {
	int r = e->driver->probe ? e->driver->probe(err) : 0;
	if (r == 0)
		r = pool_record_save(e, ".tmp-pool.json", err);
	if (r == 0)
		r = fs_fsync_dir(j->agent->pool_dirs);
	fault_point("pool.begun");
	if (r == 0)
		r = e->driver->create(&e->ref, err);
	if (r < 0) {
		undo(e, false, NULL);
		return r;
	}
	fault_point("pool.created");
	r = activate(e, status, err);
	fault_point("pool.activated");
	if (r == 0)
		r = rename_record(e, ".tmp-pool.json", "pool.json", err);
	if (r < 0)
		undo(e, true, NULL);
	return r;
}

static int answer_status(struct job *j, const struct pool_entry *e, const struct pool_status *s, struct error *err) {
	struct msg_pool_state reply = {e->pool.id, *s};
	return job_answer(j, &reply, NULL, 0, err);
}

static int create_new(struct job *j, const struct pool_entry *e, struct error *err) {
	_cleanup_(close_fd) int lock = -1;
	struct pool_status status = {0};
	int r = dir_make_locked(e->dir, &lock, err);
	if (r == 0 && has_file(e, ".tmp-pool.json")) /* of a worker that was killed */
		r = undo(e, true, err);
	if (r == 0 && !fs_exists(e->dir)) {
		close_fd(&lock);
		r = dir_make_locked(e->dir, &lock, err);
	}
	if (r == 0)
		r = make_dirs(e, err);
	if (r == 0)
		r = create_steps(j, e, &status, err);
	if (r == 0) {
		report(j, e, &status, "reload");
		fault_point("pool.reported");
		r = answer_status(j, e, &status, err);
	}
	fields_free(&pool_status_table, &status);
	return r;
}

/* The same again: what may change of it changes, and it is looked at. */
static int create_again(struct job *j, struct pool_entry *e, struct error *err) {
	const struct pool *m = j->body;
	struct pool_status status = {0};
	int r = 0;
	if (!str_same(e->pool.id, POOL_LOCAL_ID) && !fields_equal(&pool_spec_table, &e->pool.spec, &m->spec)) {
		fields_free(&pool_spec_table, &e->pool.spec); /* in this worker alone */
		fields_copy(&pool_spec_table, &m->spec, &e->pool.spec);
		r = pool_record_save(e, "pool.json", err);
	}
	if (r < 0)
		return r;
	_cleanup_(error_free) struct error why = ERROR_INIT;
	refresh(j, e, &status, "reload", &why); /* that it cannot be reached is its status, not a failure */
	r = answer_status(j, e, &status, err);
	fields_free(&pool_status_table, &status);
	return r;
}

int work_pool_create(struct job *j, struct error *err) {
	struct pool_entry *e = pool_get(j->agent, j->pool_id);
	return e->creating ? create_new(j, e, err) : create_again(j, e, err);
}

/* --- looking --- */

int work_pool_status(struct job *j, struct error *err) {
	const struct pool_entry *e = pool_get(j->agent, j->pool_id);
	struct pool_status status = {0};
	_cleanup_(error_free) struct error why = ERROR_INIT;
	refresh(j, e, &status, NULL, &why);
	int r = answer_status(j, e, &status, err);
	fields_free(&pool_status_table, &status);
	return r;
}

/* --- at the agent's start, and when it comes back --- */

/* The pool "local" is made like any other, but its record is never read. */
static int make_local(const struct pool_entry *e, struct error *err) {
	int r = make_dirs(e, err);
	return r < 0 ? r : e->driver->create(&e->ref, err);
}

void pool_tidy(const struct job *j, const struct pool_entry *e) {
	_cleanup_(instance_unlock) int lock = -1;
	_cleanup_(error_free) struct error err = ERROR_INIT;
	bool alone = lock_dir(e, LOCK_EX, 0, &lock, NULL) == 0;
	if (alone && e->driver->recover && e->driver->recover(&e->ref, &err) < 0)
		log_warn("pool %s: %s", e->pool.spec.name, error_text(&err));
	volumes_moved_tidy(j, e);
	volumes_undo_stale(j, e);
	volumes_close_stale(j->agent, e);
	if (alone)
		volumes_unlock_gone(j->agent, e);
	fault_point("pool.tidied");
	if (!alone)
		report(j, e, NULL, "again");
}

void pools_tidy(const struct job *j) {
	void *value;
	for (size_t at = 0; map_next(j->agent->pools, &at, NULL, &value);)
		if (str_same(((struct pool_entry *)value)->pool.status.state, "ready"))
			pool_tidy(j, value);
}

int work_pool(struct job *j, struct error *err) {
	const struct pool_entry *e = pool_get(j->agent, j->pool_id);
	struct pool_status status = {0};
	if (e->creating)
		return undo(e, true, err);
	int r = str_same(e->pool.id, POOL_LOCAL_ID) ? make_local(e, err) : 0;
	if (r == 0)
		r = refresh(j, e, &status, NULL, err);
	fields_free(&pool_status_table, &status);
	if (r == 0)
		pool_tidy(j, e);
	return r;
}

/* --- removing --- */

/* An instance whose root is in it, or NULL. One whose record cannot be read may have its there. */
static char *root_in(const struct agent *a, const char *pool_id) {
	DIR *d = opendir(a->instances);
	char *found = NULL;
	for (struct dirent *e; d && !found && (e = readdir(d));) {
		_cleanup_(record_free) struct msg_instance_create r = {0};
		if (instance_id_check(e->d_name, NULL) < 0)
			continue;
		if (record_load(a, e->d_name, &r, NULL) < 0 || str_same(root_pool_id(&r.instance), pool_id))
			found = str_copy(e->d_name);
	}
	if (d)
		closedir(d);
	return found;
}

static int check_empty(const struct agent *a, const struct pool_entry *e, struct error *err) {
	_cleanup_(free_ptr) char *root = root_in(a, e->pool.id);
	_cleanup_(strv_free_ptr) char **ids = NULL;
	if (root)
		return error_set(err, ERROR_CONFLICT, "the pool %s holds the root of instance %.12s", e->pool.spec.name,
				 root);
	int r = e->driver->volume_list(&e->ref, &ids, err);
	if (r == 0 && ids && ids[0])
		r = error_set(err, ERROR_CONFLICT, "the pool %s holds %zu volumes, such as %.12s: remove them first",
			      e->pool.spec.name, strv_len(ids), ids[0]);
	return r;
}

int work_pool_delete(struct job *j, struct error *err) {
	const struct pool_entry *e = pool_get(j->agent, j->pool_id);
	_cleanup_(instance_unlock) int lock = -1;
	struct pool_status status = {0};
	int r = activate(e, &status, err); /* else nobody can tell what is in it */
	fields_free(&pool_status_table, &status);
	if (r == 0)
		r = lock_dir(e, LOCK_EX, LOCK_WAIT, &lock, err);
	if (r == 0)
		r = check_empty(j->agent, e, err);
	if (r == 0)
		r = rename_record(e, "pool.json", ".tmp-pool.json", err);
	fault_point("pool.renamed");
	if (r < 0)
		return r;
	r = undo(e, true, err);
	if (r < 0) {
		rename_record(e, ".tmp-pool.json", "pool.json", NULL);
		return r;
	}
	report(j, e, NULL, "gone");
	return job_answer(j, NULL, NULL, 0, err);
}

/* --- shutdown --- */

int work_pools_down(struct job *j, UNUSED struct error *err) {
	void *value;
	for (size_t at = 0; map_next(j->agent->pools, &at, NULL, &value);) {
		const struct pool_entry *e = value;
		_cleanup_(error_free) struct error why = ERROR_INIT;
		if (!e->pool.status.state || !e->driver->can.persistent)
			continue; /* what lives in memory is still there at the next start */
		volumes_close_stale(j->agent, e);
		if (e->driver->deactivate(&e->ref, &why) < 0)
			log_warn("pool %s: %s", e->pool.spec.name, error_text(&why));
	}
	return 0;
}
