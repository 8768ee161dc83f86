/* Storage in the agent: pools, volumes in them, the roots of instances, and who uses what.
 *
 * On disk, STATE/agent/pools/<id>/:
 *   pool.json              the record; ".tmp-pool.json" while the pool is being made or removed
 *   volumes/<id>.json      a record for each volume; ".tmp-<id>.json" while it is being made or removed. The root of an
 *                          instance is a volume without one: the instance's record stands for it
 *   open/<id>[@snapshot]   the driver may have it open
 *   locks/<id>             flock: shared by who reads or begins to use a volume, exclusive by who changes or removes it
 *   locks/<id>.busy        flock: exclusive, for the time of one call to the driver
 *   data/                  the driver's own
 * The pool's directory itself is locked too: shared by who makes or removes something in the pool, exclusive by
 * recovery and by who removes the pool. What lives on in an instance that runs is not locked but noted in its run's
 * state (struct run_volume), so that it outlives every worker.
 *
 * Whoever takes several locks takes the instance's first, then the pool's, the volume's, its ".busy". */
#pragma once

#include "agent/agent-priv.h"
#include "driver/storage/storage.h"

#include <sys/stat.h>

/* --- pools (pool.c in the agent, pool-work.c in workers) --- */

struct pool_entry {
	struct agent *agent;
	struct pool pool; /* status.state NULL: nobody has looked yet */
	char *dir, *data;
	const struct storage_driver *driver;
	struct storage_pool ref; /* for the driver */
	bool creating, removing; /* by a worker that has not finished */
	struct loop_source *timer; /* until the next try to activate it */
	int64_t backoff;
};

/* Finds the pools that there are, makes sure of "local", starts a worker for each. */
int pools_load(struct agent *a, struct error *err);
void pools_free(struct agent *a);
struct pool_entry *pool_get(const struct agent *a, const char *id);
/* A worker reports {"pool": {"id", "status"?: …, "reload"?: true, "gone"?: true, "again"?: true}}. */
void pool_reported(struct agent *a, const json_t *pool);
void pool_worker_ended(struct child *c); /* of a job with a pool_id */
/* Requests wait for pools on this host to be there, but not for those of servers. */
bool pool_is_awaited(const struct agent *a, const struct job *j);
char *pool_path(const struct pool_entry *e, const char *name);
struct pool_capabilities pool_can(const struct pool_entry *e);

int do_pool_create(struct job *j, struct error *err);
int do_pool_delete(struct job *j, struct error *err);
int do_pool_status(struct job *j, struct error *err);
int do_pool_list(struct job *j, struct error *err);
int work_pool_create(struct job *j, struct error *err);
int work_pool_delete(struct job *j, struct error *err);
int work_pool_status(struct job *j, struct error *err);
int work_pool(struct job *j, struct error *err);       /* activates and recovers it */
int work_pools_down(struct job *j, struct error *err); /* at a shutdown */
extern const struct handler job_pool, job_pools_down;

/* The record, secret included. */
int pool_record_load(const struct agent *a, const char *id, const char *file, struct pool *out, struct error *err);
int pool_record_save(const struct pool_entry *e, const char *file, struct error *err);

/* The pool, ready to be used: NOT_FOUND, UNAVAILABLE with the reason. One at which nobody has looked yet is activated
 * here and now. */
int pool_ready(const struct job *j, const char *id, const struct pool_entry **out, struct error *err);
/* The same, and the pool's lock, shared: for who makes or removes something in it. */
int pool_use(const struct job *j, const char *id, const struct pool_entry **out, int *lock, struct error *err);
/* What failed may say that the pool's server is away: the agent learns of it. Gives r. */
int pool_failed(const struct job *j, const struct pool_entry *e, int r, const struct error *err);
/* What killed workers have left in a pool that is ready. With its exclusive lock where nobody else has it. */
void pool_tidy(const struct job *j, const struct pool_entry *e);
void pools_tidy(const struct job *j);

/* --- locks (volume-use.c) --- */

/* BUSY past the deadline. */
int volume_lock(const struct pool_entry *e, const char *id, int how, int *lock, struct error *err);
/* Exclusively, if anybody has ever made that lock: for what nobody can find any more. Needs no room on a full disk. */
int volume_lock_present(const struct pool_entry *e, const char *id, int *lock, struct error *err);
int volume_busy_lock(const struct pool_entry *e, const char *id, int *lock, struct error *err);
int volume_try_lock(const struct pool_entry *e, const char *id, int *lock); /* exclusively, at once; -EBUSY */
void volume_unlock(int *lock);
/* When it is no more. */
void volume_locks_remove(const struct pool_entry *e, const char *id);

/* --- opening (volume-use.c) --- */

/* For who is noted in a run's state, or holds the volume's lock. */
int volume_open(const struct pool_entry *e, const char *id, bool block, const char *snapshot, struct storage_handle *out,
		struct error *err);
bool volume_recorded_block(const struct pool_entry *e, const char *id); /* also false: it is not there */
/* The same for a block volume, as a device whatever the driver has: free it. */
int volume_open_device(const struct pool_entry *e, const char *id, char **device, struct error *err);
/* What has been written to an open volume so far is where the driver finds it. path: of its handle. */
int volume_sync(const struct pool_entry *e, const char *id, bool block, const char *path, struct error *err);
/* An open block volume has another size now. */
int volume_device_resized(const struct pool_entry *e, const char *id, struct error *err);
/* For who holds its lock exclusively. */
int volume_close(const struct pool_entry *e, const char *id, bool block, struct error *err);
int volume_snapshot_close(const struct pool_entry *e, const char *id, bool block, const char *snapshot, struct error *err);
/* A volume as it is now, while it moves: no name that a user could give. It is gone when it is closed, also by recovery. */
#define SNAPSHOT_MOVING "_moving"
int volume_snapshot_moving(const struct pool_entry *e, const char *id, bool block, struct error *err);
/* Closes it unless somebody else uses it. except: the instance whose run does not count; NULL. */
void volume_close_unused(const struct agent *a, const struct pool_entry *e, const char *id, bool block,
			 const char *snapshot, const char *except);
/* The instances that run with it; free them. */
char **volume_users(const struct agent *a, const char *id, const char *except);
/* Some run's disk is on its way into this pool: that run's end, or recovery, sees to what there is. */
bool volume_is_coming(const struct pool_entry *e, const char *id);
/* CONFLICT that names them, if there are any. */
int volume_check_unused(const struct agent *a, const char *id, const char *what, struct error *err);
/* Closes what is marked as open and used by nobody. */
void volumes_close_stale(const struct agent *a, const struct pool_entry *e);
void volumes_unlock_gone(const struct agent *a, const struct pool_entry *e);

/* --- volumes (volume.c, volume-copy.c, volume-data.c) --- */

int volume_record_load(const struct pool_entry *e, const char *id, struct volume *out, struct error *err);
/* A volume's lock, and its record as it is under that; no lock is made for a volume that is not there. */
int volume_hold(const struct pool_entry *e, const char *id, int how, int *lock, struct volume *out, struct error *err);
bool volume_is_block(const struct volume *v);
struct storage_volume volume_for_driver(const struct volume *v);
/* The record under its temporary name; the volume is made next, then volume_finish. */
int volume_begin(const struct pool_entry *e, const struct volume *v, struct error *err);
int volume_finish(const struct pool_entry *e, const char *id, struct error *err);
/* Its record under the temporary name. */
int volume_unfinished(const struct pool_entry *e, const char *id, struct volume *out, struct error *err);
bool volume_is_whole(const struct pool_entry *e, const char *id);
/* Whatever there is of it goes, also what has been cut off. Nothing is fine. */
int volume_clear(const struct pool_entry *e, const char *id, struct error *err);
/* The root of an instance that has it in this pool, or whose record cannot be read. */
bool root_is_here(const struct pool_entry *e, const char *id);
/* What volume_begin began goes away again. */
int volume_undo(const struct pool_entry *e, const char *id, struct error *err);
void volumes_undo_stale(const struct job *j, const struct pool_entry *e);
/* All of it, with the volume's lock held; make does what lies between volume_begin and volume_finish. What is there and
 * whole already is fine. */
typedef int volume_maker(const struct job *j, const struct pool_entry *e, const struct storage_volume *v, void *arg,
			 struct error *err);
int volume_make(const struct job *j, const struct pool_entry *e, const struct volume *wanted, volume_maker *make,
		void *arg, struct error *err);
int volume_check_new(const struct pool_entry *e, const struct volume *v, struct error *err);
/* What is copied: a volume, a root, or a snapshot of one. */
struct volume_source {
	const struct pool_entry *pool;
	const char *id, *snapshot;
	bool block;
	int lock;    /* the volume's, shared */
	bool opened; /* by volume_copy */
};
void volume_source_close(const struct agent *a, struct volume_source *from);
/* A linked copy: UNSUPPORTED where the pool cannot. */
int volume_clone(struct volume_source *from, const struct pool_entry *e, const struct storage_volume *v, struct error *err);
/* A full one, of a size and kind that fit, with progress. On failure something may be left, which the caller's own record
 * of what it does has removed. */
int volume_copy(const struct job *j, struct volume_source *from, const struct pool_entry *to,
		const struct storage_volume *v, struct error *err);

/* The same, with these of its snapshots, the oldest first; the source's lock is held exclusively. */
int volume_move(const struct job *j, struct volume_source *from, char *const *snapshots, const struct pool_entry *to,
		const struct storage_volume *v, struct error *err);
/* The new volume with those snapshots alone: what it is now is the caller's to write. */
int volume_move_snapshots(const struct job *j, struct volume_source *from, char *const *snapshots, const struct pool_entry *to,
			  const struct storage_volume *v, struct error *err);

/* --- a volume that has moved while it was used (volume-moved.c) ---
 * It is the new pool's from the moment on at which its record has its final name there (a root: at which the instance's record
 * names that pool). What is left in the old one goes afterwards. */

/* Whether the new pool has it for good. */
bool volume_has_moved(const struct agent *a, const struct pool_entry *to, const char *id);
/* It has from now on; a root's instance's record r is changed and saved. */
int volume_moved(const struct pool_entry *from, const struct pool_entry *to, const char *id, struct msg_instance_create *r,
		 struct error *err);
/* What is left in the old pool goes. `to`'s lock is the caller's. */
int volume_moved_finish(const struct pool_entry *from, const struct pool_entry *to, const char *id, struct error *err);
/* Whether what this pool has under that id is left over by such a move. */
bool volume_is_left(const struct pool_entry *e, const char *id);
/* The pool in which it is now, where a record made before a move may name the old one. */
const char *volume_pool_now(const struct agent *a, const char *pool_id, const char *id);
/* Finishes those from or to this pool that a crash has cut off. */
void volumes_moved_tidy(const struct job *j, const struct pool_entry *e);

int work_volume_create(struct job *j, struct error *err);
int work_volume_delete(struct job *j, struct error *err);
int work_volume_resize(struct job *j, struct error *err);
int work_volume_usage(struct job *j, struct error *err);
int work_volume_list(struct job *j, struct error *err);
int work_volume_export(struct job *j, struct error *err);
int work_volume_import(struct job *j, struct error *err);

/* A file to work with that goes away with this process or, at the latest, with the agent's next start. */
int open_spool(const struct agent *a, struct error *err);

/* --- disk images (qemu-img.c, template.c) --- */

/* From one format to another (as in msg_disk); confined. The raw one that is written is there and large enough. in is a file
 * of root's. progress: thousandths; NULL: none. */
int qemu_img_convert(int in, const char *in_format, int out, const char *out_format, void (*progress)(int done, void *arg),
		     void *arg, struct error *err);
/* CORRUPT where the image's tables do not fit, or it is cut off; formats without tables are whole. */
int qemu_img_check(int in, const char *format, struct error *err);
int work_disk_check(struct job *j, struct error *err);
int work_disk_convert(struct job *j, struct error *err);
int work_machine_disk(struct job *j, struct error *err);
int work_template_make(struct job *j, struct error *err);

/* --- instances that run, held still (freeze.c) --- */

struct frozen {
	const struct agent *agent;
	int *locks;
	struct run_state *runs;
	char **guests; /* ids of machines whose file systems their guests hold still */
	size_t n;
};
/* Locks and freezes the instances that run with a volume; what a crash leaves frozen, recovery thaws. */
int freeze_users(const struct job *j, char *const *ids, struct frozen *out, struct error *err);
void frozen_thaw(struct frozen *f);
int sync_dir_fs(const char *path); /* syncfs */

/* --- snapshots (snapshot.c) --- */

int work_snapshot_create(struct job *j, struct error *err);
int work_snapshot_delete(struct job *j, struct error *err);
int work_snapshot_restore(struct job *j, struct error *err);

/* --- roots (root.c) --- */

const char *root_pool_id(const struct instance *i); /* "local" where none is given */
/* Whether it is a disk: that of a machine without layers. */
bool root_is_block(const struct msg_instance_create *r);
bool root_recorded_block(const struct agent *a, const char *id); /* also false: there is no such instance */
/* Makes the root volume of a new instance: empty, or as a copy of another's or of its image's disk. */
/* held: the source is the caller's, and does not write. */
int root_create(const struct job *j, const struct msg_instance_create *m, bool held, struct error *err);
/* *path: its directory; of a disk the device, or a raw file. Free it. */
int root_open(const struct job *j, const struct msg_instance_create *r, char **path, struct error *err);
/* A disk, opened to read. root_close in any case. */
int root_open_disk(const struct job *j, const struct msg_instance_create *r, struct error *err);
/* Once nothing of the instance's run is mounted from it any more; the instance's lock is held. */
void root_close(const struct job *j, const struct msg_instance_create *r);
/* For who looks into it without running it: its volume's lock keeps it open meanwhile. */
int root_hold(const struct job *j, const struct msg_instance_create *r, int *lock, char **path, struct error *err);
void root_release(const struct job *j, const struct msg_instance_create *r, int *lock);
/* Of an instance that is gone. record NULL: in whatever pool it is, of whatever kind. */
int root_remove(const struct job *j, const struct msg_instance_create *record, const char *id, struct error *err);
int root_resize(const struct job *j, const struct msg_instance_create *r, int64_t size, struct error *err);

/* --- volumes in instances (volume-mount.c, volume-attach.c) --- */

struct volume_mount {
	const char *pool_id, *id;
	bool block;
	const struct mount *mount; /* of the spec; NULL: attached live */
	const struct pool_entry *pool;
	struct storage_handle handle; /* of a file system */
	char *node;                   /* of a block volume: the device node for this instance */
	dev_t dev;
	bool fill;     /* empty and new: the image's content at the target is copied into it */
	int fill_lock; /* held while that goes on; -1 */
};
struct volume_mounts {
	struct volume_mount *items;
	size_t n;
};
/* The volumes that the spec mounts, as run->volumes: to be saved before they are opened. */
int volumes_plan(const struct agent *a, const struct msg_instance_create *r, struct run_state *run, struct error *err);
int volumes_open(const struct job *j, const struct msg_instance_create *r, struct run_state *run,
		 struct volume_mounts *out, struct error *err);
int volume_mount_open(const struct job *j, const struct instance *i, struct volume_mount *v, struct error *err);
/* What is mounted for it: known again by this when it is detached. */
int volume_mount_stat(const struct volume_mount *v, const char *subpath, struct stat *out);
unsigned long volume_mount_flags(const struct instance *i, bool read_only); /* MS_* */
/* A block volume's: where its node lies for an instance, how that is mounted, and the rule that lets it be used. */
char *volume_node(const struct agent *a, const char *instance, const char *volume);
unsigned long volume_node_flags(bool read_only);
struct cgroup_device_rule volume_device_rule(dev_t dev, bool read_only);
void volumes_filled(const struct volume_mounts *v); /* the container is made */
void volume_mount_free(struct volume_mount *v);
void volumes_free(struct volume_mounts *v);
void run_add_volume(struct run_state *run, const struct run_volume *v); /* copies */
/* The run ends: closes what nobody else uses. */
void volumes_release(const struct job *j, const struct run_state *run);
/* Brings to an end what a crash has cut off in an instance that runs on. */
void volumes_recover(const struct job *j, struct run_state *run);
int work_volume_attach(struct job *j, struct error *err);
int work_volume_detach(struct job *j, struct error *err);

/* --- loop devices (loop-device.c) --- */

/* The one on the file, made if need be. Free *device. */
int loop_attach(const char *file, char **device, struct error *err);
int loop_detach(const char *file, struct error *err); /* none is fine */
int loop_flush(const char *file, struct error *err); /* what was written to it is in the file */
int loop_resized(const char *file, struct error *err);
