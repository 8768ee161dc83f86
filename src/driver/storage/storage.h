/* Pools and what lies in them: each kind a driver behind one table. A volume is a directory tree (kind filesystem) or
 * a block device or file (kind block); an instance's root is a file-system volume whose id is the instance's. Ids and snapshot names have been
 * checked, and are the only names that reach a disk. Blocking, for a single-threaded caller; the caller holds the
 * locks (one writer for a volume at a time).
 *
 * Crash-only: create, clone and receive build under a temporary name and take effect by one step, remove takes the name away
 * first; recover finishes or undoes what a crash left. Everything is idempotent: making what is there and
 * removing what is gone is fine.
 *
 * What is mounted is mounted below p->dir/mnt, in the mount name space of the caller, nodev. */
#pragma once

#include "base/error.h"
#include "model/storage.h"

struct storage_pool {
	const struct storage_driver *driver;
	const struct pool *pool;
	const char *dir; /* STATE/agent/pools/<id>/data: the driver's own directory, root only: loop file, mount points, temporary files */
	/* The caller puts records of its own on disk, on the same file system: what is made or removed goes there with them. */
	bool unsynced;
};

struct storage_volume {
	const char *id;
	bool block;
	int64_t size;       /* as in volume_spec; 0 for a file system where it lies on a device or in a file of its own (lvm-thin,
			     * rbd, iscsi, nvme-tcp, nfs): the pool's option "volume-size", or 10 GiB, or a whole device */
	uint32_t uid, gid;  /* of a new file system's root directory, as on disk */
	mode_t mode;
};

/* Where the data can be reached while it is open. */
struct storage_handle {
	char *path; /* a directory, or a block device or raw file */
	bool mounted; /* storage_close has to undo something; may be shared by several users, see there */
};

struct storage_copy { /* progress and cancelling of what takes long */
	void (*progress)(void *arg, int64_t done, int64_t total);
	void *arg;
	bool again; /* `to` holds another state of the same: of blocks only those that differ are written, a tree is emptied first */
};

struct storage_driver {
	const char *name;
	struct pool_capabilities can; /* at most; usage() may take away what this one cannot (status.capabilities) */
	int (*probe)(struct error *err); /* UNSUPPORTED: what is missing (kernel, program), how to get it */
	/* First use: makes what is needed, refuses (CONFLICT) a source that holds something else. */
	int (*create)(const struct storage_pool *p, struct error *err);
	/* Mounts, logs in, checks. UNAVAILABLE when a server does not answer, within 10 s; one that answers, but does
	 * not go on, within half a minute. */
	int (*activate)(const struct storage_pool *p, struct error *err);
	int (*deactivate)(const struct storage_pool *p, struct error *err);
	/* Only what wabe has made; the pool is empty. */
	int (*remove)(const struct storage_pool *p, struct error *err);
	int (*status)(const struct storage_pool *p, struct pool_status *out, struct error *err);

	/* What follows is for a pool that is active. */
	int (*volume_create)(const struct storage_pool *p, const struct storage_volume *v, struct error *err);
	/* With its snapshots. BUSY: it is in use. CONFLICT: linked clones need it (zfs). */
	int (*volume_remove)(const struct storage_pool *p, const char *id, bool block, struct error *err);
	/* size is the new one. CONFLICT: smaller than what it has or holds; UNSUPPORTED: not here, or not while it is in use. */
	int (*volume_resize)(const struct storage_pool *p, const struct storage_volume *v, int64_t size, struct error *err);
	int (*volume_usage)(const struct storage_pool *p, const char *id, bool block, int64_t *size, int64_t *used, struct error *err);
	int (*volume_list)(const struct storage_pool *p, char ***ids, struct error *err);
	/* A volume, or a snapshot of it (read-only), to be used: mapped, mounted below p->dir if need be. */
	int (*volume_open)(const struct storage_pool *p, const char *id, bool block, const char *snapshot,
			   struct storage_handle *out, struct error *err);
	/* Where volume_open will have it, without opening it; NULL: where file systems are mounted. Free what it gives. */
	char *(*volume_path)(const struct storage_pool *p, const char *id);
	/* Undoes volume_open once nobody uses it any more (the caller counts). */
	int (*volume_close)(const struct storage_pool *p, const char *id, bool block, const char *snapshot, struct error *err);

	/* NULL members: the pool cannot. A snapshot of a file system that the driver mounts is one at rest; other users of the
	 * volume are the caller's to freeze. To restore, the volume is closed; zfs goes back to its newest snapshot only
	 * (CONFLICT). */
	int (*snapshot_create)(const struct storage_pool *p, const char *id, bool block, const char *name, struct error *err);
	int (*snapshot_remove)(const struct storage_pool *p, const char *id, bool block, const char *name, struct error *err);
	int (*snapshot_restore)(const struct storage_pool *p, const char *id, bool block, const char *name, struct error *err);
	int (*snapshot_list)(const struct storage_pool *p, const char *id, bool block, snapshots *out, struct error *err);
	/* A new volume that shares what it has in common with a volume or its snapshot, with its owners as they are.
	 * UNSUPPORTED where only a full copy is possible (a dir pool that does not share extents: status says so). */
	int (*clone)(const struct storage_pool *p, const char *from, const char *snapshot, const struct storage_volume *to,
		     struct error *err);
	/* A snapshot as a stream, whole or since another one (`since` may be NULL), between pools of this driver. Receiving
	 * makes the volume if it is not there; its content is the snapshot's then. The stream is trusted. */
	int (*send)(const struct storage_pool *p, const char *id, bool block, const char *snapshot, const char *since, int fd,
		    struct error *err);
	int (*receive)(const struct storage_pool *p, const struct storage_volume *to, const char *snapshot, int fd, struct error *err);
	/* What a crash left of unfinished work; also thaws file systems. The caller lets nothing else be done in the pool
	 * meanwhile. */
	int (*recover)(const struct storage_pool *p, struct error *err);
};
extern const struct storage_driver *const storage_drivers[]; /* NULL-terminated */
const struct storage_driver *storage_driver_find(const char *name);

/* Copies the content of an open file-system or block volume into another, whatever their pools: whole trees with owners,
 * modes, times, links, holes, devices, and of the xattrs user.*, trusted.* (overlay's), file capabilities and access lists; blocks
 * sparsely. `to` is an empty directory, or a file or device of at least the size. Checked afterwards: a SHA-256 over all
 * content but times on both sides; CORRUPT when they differ, also because `from` was written to. shift: added to every owner (an
 * instance's root goes to another range of ids), also in access lists and capabilities. A tree whose owners lie from 65536 on
 * may hold things of the host's root, which stay its; INVALID for owners in more than one range of 65536 ids. */
int storage_copy_tree(const char *from, const char *to, int64_t shift, const struct storage_copy *c, struct error *err);
int storage_copy_block(const char *from, const char *to, const struct storage_copy *c, struct error *err);
/* Shifts the owners of a whole tree in place (after a clone), by the same rules. Not to be repeated after a crash: the clone
 * is made again. */
int storage_shift_owners(const char *dir, int64_t shift, struct error *err);
/* What a volume mounts instead of content of its own: on storage_foreign_path, below p->dir/mnt, nodev; mounted already is
 * fine. INVALID, in Docker's words: it cannot be mounted. UNAVAILABLE never: that is said of a pool. */
int storage_foreign_mount(const struct storage_pool *p, const char *id, const struct volume_mount_spec *m, char **path,
			  struct error *err);
int storage_foreign_unmount(const struct storage_pool *p, const char *id, struct error *err); /* nothing there is fine */
char *storage_foreign_path(const struct storage_pool *p, const char *id);
/* Where a file-system volume can be reached while it is open. */
char *storage_volume_path(const struct storage_pool *p, const char *id);
void storage_handle_free(struct storage_handle *h);
