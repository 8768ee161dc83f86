/* What the drivers of pools share. Private to driver/storage.
 *
 * Paths here are below a pool's own directory or its source, which root alone can write and search; names in them are
 * checked ids, snapshot names and what wabe made up. What strangers fill (a volume's tree) is walked beneath
 * descriptors only (storage_tree_walk). */
#pragma once

#include "base/fs.h"
#include "base/map.h"
#include "base/str.h"
#include "driver/storage/storage.h"

#include <sys/stat.h>

extern const struct storage_driver storage_dir, storage_btrfs, storage_tmpfs, storage_lvm_thin, storage_nfs, storage_iscsi, storage_nvme_tcp, storage_rbd, storage_zfs;

/* WABE_FAULT=worker:NAME kills the process here: for tests. */
void storage_fault(const char *name);

/* --- mounts (storage-mount.c) --- */

/* Mounts a new file system on the directory `target` (made if need be); what is mounted there already stays. options:
 * NAME=VALUE, or NAME alone where the value is empty. MOUNT_ATTR_* of attrs beside nodev. */
int storage_mount(const char *type, const char *source, const struct pairs *options, uint64_t attrs, const char *target,
		  struct error *err);
/* The mount behind the descriptor goes on target, private. */
int storage_mount_attach(int mount, const char *target, struct error *err);
/* A directory of a pool once more, read-only. */
int storage_mount_read_only(const char *dir, const char *target, struct error *err);
/* Takes away what is mounted on target, and target; nothing there is fine. BUSY: in use. */
int storage_unmount(const char *target, struct error *err);
bool storage_is_mounted(const char *target);
/* Whether the file system at path can be mounted with other ids (mount_setattr(2), MOUNT_ATTR_IDMAP): tried, where it is
 * not one that always can. */
bool storage_can_idmap(const char *path);
/* p->dir/mnt/ID or p->dir/mnt/ID@SNAPSHOT: where a volume is mounted when it needs to be. */
char *storage_mount_point(const struct storage_pool *p, const char *id, const char *snapshot);
/* Of the pool's own mounts of unfinished work, and thaws what a killed process left frozen. */
int storage_mount_recover(const struct storage_pool *p, struct error *err);
/* The pool's options that are for mounting, shown in `items`, with room for a few more. */
#define POOL_OPTIONS_MAX 40
struct pairs storage_mount_options(const struct storage_pool *p, struct pair items[POOL_OPTIONS_MAX]);

/* Stops writing to the file system that is mounted at a path; a guard thaws it should this process be killed. */
struct storage_frozen {
	int fd, pipe;
	pid_t guard;
};
#define STORAGE_FROZEN_INIT ((struct storage_frozen){-1, -1, 0})
int storage_freeze(const char *mount, struct storage_frozen *f, struct error *err);
void storage_thaw(struct storage_frozen *f);

/* A loop device on a file, gone with its last user. Gives the descriptor that holds it, and its path in *device. */
int storage_loop_attach(const char *file, bool read_only, char **device, struct error *err);
/* What the loop device is on; NULL: it is none, or on nothing. */
char *storage_loop_file(dev_t dev);
/* One that nobody uses any more lets go of its file, some seconds are waited for that: udev may be looking at it, and a file
 * that is open cannot be removed from an NFS server. */
void storage_loop_wait(dev_t dev, const char *file);
/* The loop device of the mount has the size of its file again. */
int storage_loop_grow(const char *mount, struct error *err);

/* --- devices, modules, programs (storage-device.c) --- */

/* UNSUPPORTED, with what to do about it. */
int storage_load_module(const char *module, const char *what, struct error *err);
int storage_need_fs(const char *type, const char *module, struct error *err);
int storage_need_program(const char *program, const char *package, struct error *err);
/* What lies on a device as far as blkid knows (NULL: nothing), and its label (may be NULL). */
int storage_signature(const char *device, char **type, char **label, struct error *err);

/* UNAVAILABLE: nobody answers there within some seconds. */
int storage_ask(const char *server, const char *port, struct error *err);
/* "ADDRESS", "ADDRESS:PORT", "[IPv6]:PORT". */
int storage_portal(const char *text, const char *port, char **host, char **out, struct error *err);

/* --- ext4 on a device or a file (storage-ext4.c) --- */

#define EXT4_SIZE_MIN (INT64_C(16) << 20)
/* Of a file system for which no size is given where it needs one: the pool's option "volume-size", or 10 GiB. */
int64_t storage_default_size(const struct storage_pool *p);
/* INVALID for a size that is too small for a file system. */
int storage_ext4_size_check(int64_t size, struct error *err);
/* A new file system whose root directory is as v says. */
int storage_ext4_make(const struct storage_pool *p, const char *device, const struct storage_volume *v, struct error *err);
/* Mounts what is on a device or in a file, repaired and grown to its size as need be; a read-only one is left as it is. */
int storage_ext4_mount(const char *device, const struct pairs *options, bool read_only, const char *target,
		       struct error *err);
/* Growing while it is mounted asks for CAP_SYS_RESOURCE, which not every host's root has. */
bool storage_ext4_grows_online(void);
int storage_ext4_grow(const char *mount, int64_t size, struct error *err);

/* --- trees (storage-tree.c) --- */

/* A walk over a tree that others fill, and may be changing: beneath descriptors, never through a link, never onto another
 * mount; as deep as it likes. Names come sorted as bytes; a directory's other entries before its directories. Each
 * function may be NULL. `path` is for messages. */
struct tree_visitor {
	int (*enter)(void *arg, int parent, const char *name, const struct stat *st, const char *path, struct error *err);
	int (*entry)(void *arg, int dir, const char *name, const struct stat *st, const char *path, struct error *err);
	/* Its entries are done; dir is still open. */
	int (*leave)(void *arg, int dir, const struct stat *st, const char *path, struct error *err);
	void *arg;
};
int storage_tree_walk(const char *root, const struct tree_visitor *v, struct error *err);

/* Has an entry with several links been met in this map of a walk? Notes that it has. */
bool storage_seen_before(struct map *seen, const struct stat *st);
/* All that is in it goes; the directory itself stays. */
int storage_tree_empty(const char *root, struct error *err);
/* Bytes that the files of a tree take on disk. */
int storage_tree_usage(const char *root, int64_t *used, struct error *err);

/* --- attributes (storage-attrs.c) --- */

/* How the owners of a tree move: ids below `from` stay (the host's root, where the tree is of a user name space). */
struct owner_shift {
	int64_t by;
	int64_t from; /* first id of the tree's range */
};
/* Looks at all owners of a tree, adds up what its files hold. INVALID: not all lie in one range of 65536 ids, or would leave
 * the ids that there are. */
int storage_owners_survey(const char *root, int64_t by, struct owner_shift *out, int64_t *bytes, struct error *err);
uint32_t storage_owner(const struct owner_shift *s, uint32_t id);

/* The extended attributes that are the content's: user.*, trusted.*, file capabilities and access lists. The owners in
 * the latter two shifted. "/proc/self/fd/N/name" is how a name in a directory is reached. */
struct xattr {
	char *name;
	uint8_t *value;
	size_t len;
};
typedef FIELD_LIST_OF(struct xattr) xattrs;
int storage_xattrs_read(int dir, const char *name, const struct owner_shift *s, xattrs *out);
int storage_xattrs_write(int dir, const char *name, const xattrs *x, size_t *failed);
void storage_xattrs_free(xattrs *x);

/* --- copies (storage-copy.c, storage-copy-tree.c, storage-verify.c) --- */

struct copying {
	const struct storage_copy *report;
	int64_t done, total;
	bool reflink_only; /* share extents or fail */
	bool no_reflink;   /* it was tried here and does not work */
};
/* The content of a regular file or block device into an empty file or a device of at least its size, sparsely. */
int storage_copy_content(int from, int to, int64_t size, struct copying *c);
/* A new regular file that is a copy of another, on disk when done. */
int storage_copy_file(const char *from, const char *to, bool reflink_only, struct error *err);
/* storage_copy_tree without the check. */
int storage_tree_copy(const char *from, const char *to, const struct owner_shift *s, struct copying *c, struct error *err);
int storage_tree_digest(const char *root, const struct owner_shift *s, char **digest, struct error *err);
int storage_digest_file(int fd, int64_t size, char **digest);
/* Can files in this directory share extents? */
bool storage_can_reflink(const char *dir);

/* SHA-256 over what has been added; blocks of zeros count as the holes that they may be. */
struct digest;
struct digest *digest_new(void);
void digest_add(struct digest *d, const void *data, size_t n);
void digest_adds(struct digest *d, const char *text); /* with its NUL */
int digest_add_content(struct digest *d, int fd, int64_t size);
char *digest_end(struct digest *d); /* hexadecimal, free it; d is gone */
