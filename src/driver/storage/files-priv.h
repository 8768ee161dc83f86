/* Pools that keep volumes as files and directories of a file system: dir, tmpfs, nfs, btrfs. Private to them.
 *
 * Below the pool's root (its source, or p->dir/root where the pool's own file system is mounted):
 *   wabe-pool                      whose it is: the pool's id
 *   volumes/ID/tree|subvolume|disk-subvolume|image|disk   the content, of one kind
 *   volumes/ID/snapshots/NAME      each of the content's kind
 *   volumes/ID/size                btrfs: the quota
 *   tmp-HOST/SALT/                 what is being made or taken away on that host
 * What is whole moves in and out of volumes/ by one rename. */
#pragma once

#include "driver/storage/storage-priv.h"

enum content_kind {
	CONTENT_NONE,
	CONTENT_TREE,      /* a directory */
	CONTENT_SUBVOLUME, /* of btrfs */
	CONTENT_DISK_SUBVOLUME, /* a block volume: the file "disk" in a subvolume */
	CONTENT_IMAGE,     /* a file with ext4 in it */
	CONTENT_DISK,      /* a file that is a block volume */
};

char *files_root(const struct storage_pool *p);
char *files_volume(const struct storage_pool *p, const char *id);
char *files_snapshot(const struct storage_pool *p, const char *id, const char *name);
/* What a volume is kept as (CONTENT_NONE: it is not there), and where. */
enum content_kind files_content(const struct storage_pool *p, const char *id, char **path);
/* The same; NOT_FOUND, or INVALID for a volume of the other kind. */
int files_find(const struct storage_pool *p, const char *id, bool block, enum content_kind *kind, char **path,
	       struct error *err);
/* Whether all of its file systems are ext4 in files: directories there would lack owners and attributes (nfs), or could not be
 * mounted with the ids of an instance (tmpfs before Linux 6.3). */
bool files_needs_images(const struct storage_pool *p);
/* The name of a kind's content in a volume's directory. */
const char *files_content_name(enum content_kind kind);
bool files_content_is_subvolume(enum content_kind kind);
/* What is opened of content at `path`. */
char *files_content_data(enum content_kind kind, const char *path);

/* Takes the root, a directory that is there, for this pool: refuses one of another pool, or with other things in it. */
int files_claim(const struct storage_pool *p, struct error *err);
/* nfs.c: UNAVAILABLE where the server does not answer. */
int nfs_ask(const struct storage_pool *p, struct error *err);
/* UNAVAILABLE: the root is not (or no longer) this pool's, or its server is away: asked first, since what waits for a
 * file system cannot be told to stop. */
int files_check(const struct storage_pool *p, struct error *err);
int files_release(const struct storage_pool *p, struct error *err);
int files_status(const struct storage_pool *p, struct pool_status *out, struct error *err);

/* Where something can be moved to be taken away: a removal must need no room on a full disk. */
int files_trash(const struct storage_pool *p, char **path, struct error *err);
/* A new directory for unfinished work; and what is in it is taken away, subvolumes too. */
int files_temporary(const struct storage_pool *p, char **path, struct error *err);
int files_discard(const char *path, struct error *err);
/* A whole copy or snapshot; linked: sharing extents, UNSUPPORTED where the file system cannot. */
int files_content_copy(enum content_kind kind, const char *from, const char *to, bool read_only, bool linked,
		       struct error *err);
/* on disk: the directory's entries */
int files_sync_dir(const char *path, struct error *err);
int files_rename(const char *from, const char *to, struct error *err);
int64_t files_size(const struct storage_pool *p, const char *id);
int files_set_size(const char *volume, int64_t size, struct error *err);
bool files_is_btrfs(const struct storage_pool *p);


/* A directory for a volume among the unfinished work; files_finish moves it among the volumes (r 0), and takes away what is
 * left. */
int files_begin(const struct storage_pool *p, char **temporary, char **volume, struct error *err);
int files_finish(const struct storage_pool *p, const char *id, const char *temporary, const char *volume, int r,
		 struct error *err);

int files_volume_create(const struct storage_pool *p, const struct storage_volume *v, struct error *err);
int files_volume_remove(const struct storage_pool *p, const char *id, bool block, struct error *err);
int files_volume_resize(const struct storage_pool *p, const struct storage_volume *v, int64_t size, struct error *err);
int files_volume_usage(const struct storage_pool *p, const char *id, bool block, int64_t *size, int64_t *used,
		       struct error *err);
int files_volume_list(const struct storage_pool *p, char ***ids, struct error *err);
int files_volume_open(const struct storage_pool *p, const char *id, bool block, const char *snapshot,
		      struct storage_handle *out, struct error *err);
char *files_volume_path(const struct storage_pool *p, const char *id);
int files_volume_close(const struct storage_pool *p, const char *id, bool block, const char *snapshot, struct error *err);
int files_snapshot_create(const struct storage_pool *p, const char *id, bool block, const char *name, struct error *err);
int files_snapshot_remove(const struct storage_pool *p, const char *id, bool block, const char *name, struct error *err);
int files_snapshot_restore(const struct storage_pool *p, const char *id, bool block, const char *name, struct error *err);
int files_snapshot_list(const struct storage_pool *p, const char *id, bool block, snapshots *out, struct error *err);
int files_clone(const struct storage_pool *p, const char *from, const char *snapshot, const struct storage_volume *to,
		struct error *err);
int files_recover(const struct storage_pool *p, struct error *err);

/* What all of them have in common in their tables. */
#define FILES_OPERATIONS                                                                                               \
	.volume_create = files_volume_create, .volume_remove = files_volume_remove, .volume_resize = files_volume_resize, \
	.volume_usage = files_volume_usage, .volume_list = files_volume_list, .volume_open = files_volume_open,           \
	.volume_path = files_volume_path, .volume_close = files_volume_close, .snapshot_create = files_snapshot_create,                                     \
	.snapshot_remove = files_snapshot_remove, .snapshot_restore = files_snapshot_restore,                             \
	.snapshot_list = files_snapshot_list, .clone = files_clone, .recover = files_recover

/* --- btrfs (btrfs-fs.c); paths of subvolumes --- */

bool btrfs_is_subvolume(const char *path);
int btrfs_make(const char *path, struct error *err);
int btrfs_snapshot(const char *from, const char *to, bool read_only, struct error *err);
/* With all that are nested in it. */
int btrfs_destroy(const char *path, struct error *err);
/* The most bytes that a subvolume may refer to; 0: no limit. Turns quotas on in the file system at first need. */
int btrfs_limit(const char *path, int64_t size, struct error *err);
/* -ENOENT: no quotas. */
int btrfs_referred(const char *path, int64_t *used);
/* Accounting of subvolumes that are gone. */
void btrfs_forget_gone(const char *root);
