/* Copies of volumes and roots, in one pool or from one to another: clones, streams between pools of one driver, or
 * everything read and written again and then compared. And moves: a copy with its snapshots. */
#include "agent/storage-priv.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/str.h"
#include "base/time.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#define PROGRESS_EVERY (200 * NS_PER_MS)

void volume_source_close(const struct agent *a, struct volume_source *from) {
	volume_unlock(&from->lock);
	if (from->opened)
		volume_close_unused(a, from->pool, from->id, from->block, from->snapshot, NULL);
	from->opened = false;
}

int volume_clone(struct volume_source *from, const struct pool_entry *e, const struct storage_volume *v,
		 struct error *err) {
	_cleanup_(volume_unlock) int busy = -1;
	if (from->pool != e)
		return error_set(err, ERROR_UNSUPPORTED, "a linked copy lies in the same pool as what it is of: ask for a full "
				 "one");
	if (!e->driver->clone || !pool_can(e).linked_clones)
		return error_set(err, ERROR_UNSUPPORTED, "the pool %s (driver %s) cannot make linked copies: ask for a full one",
				 e->pool.spec.name, e->driver->name);
	int r = volume_busy_lock(e, from->id, &busy, err);
	if (r == 0)
		r = e->driver->clone(&e->ref, from->id, from->snapshot, v, err);
	fault_point("copy.cloned");
	return r;
}

/* --- a stream --- */

static pid_t start_sender(const struct volume_source *from, const char *since, int out, int in) {
	pid_t parent = getpid(), pid = fork();
	if (pid != 0)
		return pid;
	struct error err = ERROR_INIT;
	close(in);
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if (getppid() != parent)
		_exit(1);
	const struct pool_entry *e = from->pool;
	int r = e->driver->send(&e->ref, from->id, from->block, from->snapshot, since, out, &err);
	if (r < 0)
		log_error("sending %.12s: %s", from->id, error_text(&err));
	_exit(r < 0 ? 1 : 0);
}

static bool can_stream(const struct volume_source *from, const struct pool_entry *to) {
	return from->pool != to && from->pool->driver == to->driver && to->driver->send &&
	       to->driver->receive && pool_can(from->pool).send && pool_can(to).send;
}

/* The snapshot, whole or what differs since another one. */
static int stream(const struct volume_source *from, const char *since, const struct pool_entry *to,
		  const struct storage_volume *v, struct error *err) {
	int ends[2];
	if (pipe2(ends, O_CLOEXEC) < 0)
		return error_errno(err, errno, "cannot make a pipe");
	pid_t pid = start_sender(from, since, ends[1], ends[0]);
	close_fd(&ends[1]);
	int r = pid < 0 ? error_errno(err, errno, "cannot start the sender") : 0;
	if (r == 0)
		r = to->driver->receive(&to->ref, v, from->snapshot, ends[0], err);
	close_fd(&ends[0]);
	int status = pid > 0 ? proc_wait(pid) : 0;
	fault_point("copy.received");
	if (r == 0 && status != 0)
		r = error_set(err, ERROR_INTERNAL, "the pool %s could not send %.12s: see the log",
			      from->pool->pool.spec.name, from->id);
	return r;
}

/* Without the snapshot itself, which the stream brings along. */
static int stream_content(const struct volume_source *from, const char *since, const struct pool_entry *to,
			  const struct storage_volume *v, struct error *err) {
	int r = stream(from, since, to, v, err);
	return r < 0 ? r : to->driver->snapshot_remove(&to->ref, v->id, v->block, from->snapshot, err);
}

/* --- reading and writing --- */

struct progress {
	const struct job *job;
	int64_t next;
};

static void on_progress(void *arg, int64_t done, int64_t total) {
	struct progress *p = arg;
	int64_t now = time_mono_ns();
	fault_point("copy.progress");
	if (now < p->next && done != total)
		return;
	p->next = now + PROGRESS_EVERY;
	job_progress(p->job, "copying", done, total);
}

static int copy_content(const struct job *j, const char *from, const char *to, bool block, bool again, struct error *err) {
	struct progress p = {.job = j};
	struct storage_copy c = {.progress = j->sock >= 0 ? on_progress : NULL, .arg = &p, .again = again};
	int r = block ? storage_copy_block(from, to, &c, err) : storage_copy_tree(from, to, 0, &c, err);
	fault_point("copy.written");
	if (r == 0 && !block && (r = sync_dir_fs(to)) < 0)
		r = error_errno(err, r, "cannot write back %s", to);
	return r;
}

/* Into a volume that is there: an empty one, or (again) with an earlier state of the same. */
static int copy_into(const struct job *j, struct volume_source *from, const struct pool_entry *to,
		     const struct storage_volume *v, bool again, struct error *err) {
	struct storage_handle source = {0}, target = {0};
	int r = volume_open(from->pool, from->id, from->block, from->snapshot, &source, err);
	from->opened = true;
	if (r == 0 && from->block && !from->snapshot)
		r = volume_sync(from->pool, from->id, true, source.path, err);
	if (r == 0)
		r = volume_open(to, v->id, v->block, NULL, &target, err);
	if (r == 0)
		r = copy_content(j, source.path, target.path, v->block, again, err);
	if (target.path) {
		_cleanup_(error_free) struct error why = ERROR_INIT;
		if (volume_close(to, v->id, v->block, &why) < 0)
			log_warn("pool %s: %s", to->pool.spec.name, error_text(&why));
	}
	storage_handle_free(&source);
	storage_handle_free(&target);
	return r;
}

int volume_copy(const struct job *j, struct volume_source *from, const struct pool_entry *to,
		const struct storage_volume *v, struct error *err) {
	if (from->snapshot && can_stream(from, to))
		return stream_content(from, NULL, to, v, err);
	int r = to->driver->volume_create(&to->ref, v, err);
	fault_point("copy.created");
	return r < 0 ? r : copy_into(j, from, to, v, false, err);
}

/* --- moves --- */

static int stream_all(struct volume_source *from, char *const *snapshots, const struct pool_entry *to,
		      const struct storage_volume *v, struct error *err) {
	const char *since = NULL;
	int r = 0;
	for (size_t i = 0; r == 0 && snapshots[i]; i++) {
		from->snapshot = snapshots[i];
		r = stream(from, since, to, v, err);
		since = snapshots[i];
	}
	if (r == 0)
		r = volume_snapshot_moving(from->pool, from->id, from->block, err);
	from->snapshot = SNAPSHOT_MOVING;
	if (r == 0)
		r = stream_content(from, since, to, v, err);
	_cleanup_(error_free) struct error why = ERROR_INIT;
	if (volume_snapshot_close(from->pool, from->id, from->block, SNAPSHOT_MOVING, &why) < 0)
		log_warn("pool %s: %s", from->pool->pool.spec.name, error_text(&why)); /* its mark stays */
	from->snapshot = NULL;
	return r;
}

/* One state after the other into the same volume, with a snapshot of each. */
static int copy_one(const struct job *j, struct volume_source *from, const char *snapshot, const struct pool_entry *to,
		    const struct storage_volume *v, bool again, struct error *err) {
	from->snapshot = snapshot;
	int r = copy_into(j, from, to, v, again, err);
	if (r == 0)
		r = volume_snapshot_close(from->pool, from->id, from->block, snapshot, err);
	if (r == 0 && snapshot)
		r = to->driver->snapshot_create(&to->ref, v->id, v->block, snapshot, err);
	fault_point("move.copied");
	return r;
}

static int check_snapshots(char *const *snapshots, const struct pool_entry *to, struct error *err) {
	if (!strv_len(snapshots) || (to->driver->snapshot_create && pool_can(to).snapshots))
		return 0;
	return error_set(err, ERROR_UNSUPPORTED, "the pool %s (driver %s) has no snapshots, and the volume has %zu: remove "
			 "them first, or copy the volume", to->pool.spec.name, to->driver->name, strv_len(snapshots));
}

int volume_move_snapshots(const struct job *j, struct volume_source *from, char *const *snapshots, const struct pool_entry *to,
			  const struct storage_volume *v, struct error *err) {
	int r = check_snapshots(snapshots, to, err);
	if (r == 0)
		r = to->driver->volume_create(&to->ref, v, err);
	fault_point("copy.created");
	for (size_t i = 0; r == 0 && snapshots && snapshots[i]; i++)
		r = copy_one(j, from, snapshots[i], to, v, i > 0, err);
	from->snapshot = NULL;
	return r;
}

int volume_move(const struct job *j, struct volume_source *from, char *const *snapshots, const struct pool_entry *to,
		const struct storage_volume *v, struct error *err) {
	int r = check_snapshots(snapshots, to, err);
	if (r < 0)
		return r;
	if (can_stream(from, to))
		return stream_all(from, snapshots, to, v, err);
	r = volume_move_snapshots(j, from, snapshots, to, v, err);
	return r < 0 ? r : copy_one(j, from, NULL, to, v, true, err);
}
