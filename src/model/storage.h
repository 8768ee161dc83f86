/* Storage: pools, volumes in them, snapshots of volumes and of instances. */
#pragma once

#include "model/field.h"

struct pool_spec {
	char *name;
	char *driver;   /* dir | btrfs | lvm-thin | zfs | nfs | iscsi | rbd | nvme-tcp | tmpfs */
	char *description;
	struct pairs labels;
	char *source;   /* dir: a directory (NULL: one of wabe's own); btrfs: a block device or a directory on btrfs (NULL: a
			 * loop file of wabe's own); lvm-thin: VG/THINPOOL; nfs: SERVER:/EXPORT; iscsi: target IQN; rbd: pool;
			 * nvme-tcp: subsystem NQN; zfs: POOL[/DATASET] */
	char **servers; /* iscsi, nvme-tcp: address:port of the portal; rbd: monitors */
	char *user;     /* iscsi (CHAP), rbd: who wabe is there */
	char *secret;   /* its key; never shown */
	int64_t size;   /* btrfs: of the loop file; tmpfs: the most it may hold */
	struct pairs options; /* mount options and the like, each driver's own */
};

/* What a driver can do; printed as a table. */
struct pool_capabilities {
	bool filesystems, blocks;   /* kinds of volume */
	bool snapshots, instant_snapshots, linked_clones;
	bool restore_older;         /* a snapshot can be gone back to while there are newer ones, which stay */
	bool quotas;                /* a file-system volume's size is enforced */
	bool grow_online, shrink;
	bool send;                  /* a snapshot moves to a pool of the same kind as a stream of differences */
	bool shared;                /* several hosts may use it at once */
	bool persistent;            /* outlives the host's running */
	bool full_safe;             /* a full pool gives writers ENOSPC; else EIO, and a file system that has to be opened anew */
};

struct pool_status {
	char *state; /* ready | unavailable | failed */
	char *error;
	int64_t total, used; /* bytes; 0: not known */
	struct pool_capabilities capabilities;
};

struct pool {
	char *id; /* 64 hexadecimal digits */
	int64_t created_at;
	struct pool_spec spec;
	struct pool_status status;
};

/* When snapshots are taken by themselves, and how many of each sort are kept; all 0: never. */
struct snapshot_schedule {
	int64_t hourly, daily, weekly, monthly;
};

/* What a volume mounts instead of having content of its own in its pool. */
struct volume_mount_spec {
	char *type;   /* bind | tmpfs | nfs | nfs4 | cifs; NULL: nothing */
	char *device; /* bind: a directory of the host; nfs: SERVER:/PATH; cifs: //SERVER/SHARE */
	char **options; /* as mount(8) has them, each one text */
};

struct volume_spec {
	char *name;  /* as an instance's */
	char *pool;  /* name */
	char *kind;  /* filesystem (default) | block */
	char *description;
	struct pairs labels;
	int64_t size; /* bytes: of a block volume (required), quota of a file system (0: none) */
	int64_t uid, gid, mode; /* of a new file system's root, as instances see it; default 0, 0, 0755 */
	struct volume_mount_spec mount;
	struct snapshot_schedule schedule;
	struct pairs annotations; /* what dialects keep with it; nobody else looks at it */
};

struct volume {
	char *id; /* 64 hexadecimal digits */
	char *project;
	int64_t created_at;
	struct volume_spec spec;
	int64_t used; /* bytes, when asked for; 0: not known */
	bool transient; /* part of an operation of control's: removed at control's start, should that have been cut off */
	char *path;   /* where it is, or is mounted while it is used, on the host; NULL: it is a device, or nobody has asked */
};

struct snapshot {
	char *name;        /* of one volume's or instance's, as an instance's name */
	char *description;
	int64_t created_at;
	char *parent;      /* name of the snapshot that was the newest, or that was restored last; NULL */
	bool memory;       /* of a machine: with its memory */
	bool scheduled;    /* made by the schedule, removed by it */
	char *kept_as;     /* scheduled: hourly | daily | weekly | monthly, the longest that it stands for */
};
typedef FIELD_LIST_OF(struct snapshot) snapshots;

/* The pool "local" in wabe's own directory, which is there without being made: SHA-256 of "wabe pool local". */
#define POOL_LOCAL_ID "a2b31879660c2d69b93d3c5857001a68640cf447e13d22022873246b52fe1f79"

extern const struct field_table pool_table, pool_spec_table, pool_status_table, pool_capabilities_table, volume_table,
	volume_spec_table, volume_mount_spec_table, snapshot_table, snapshot_schedule_table;
