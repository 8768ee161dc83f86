/* Bodies of the messages about pools, volumes and snapshots. */
#pragma once

#include "model/storage.h"

/* Reply of "pool-create" (takes a struct pool; makes it, or takes it into use again: same id) and "pool-status". */
struct msg_pool_state {
	char *id;
	struct pool_status status;
};
struct msg_pool_states { /* reply of "pool-list" */
	FIELD_LIST_OF(struct msg_pool_state) pools;
};

/* Whose data: a volume's, or the root of an instance, which has the instance's id as its volume's. */
struct msg_volume_ref {
	char *pool_id, *id;
	char *snapshot; /* that snapshot of it; NULL: itself */
};

/* "volume-create". With `from`: a copy of that, `linked` (in the same pool, sharing what is common; UNSUPPORTED
 * where the pool cannot) or full, with progress messages; a volume of another pool is checked after the copy. The same id
 * again, complete: fine. */
struct msg_volume_create {
	char *pool_id;
	struct volume volume;
	struct msg_volume_ref from; /* id NULL: a new, empty one */
	bool linked;
	char **snapshots; /* of `from`, the oldest first: these come along (a move). UNSUPPORTED where the pool has none */
};

/* "machine-disk-move": a block volume that a machine runs with, or its root, into another pool, while it goes on; progress. Reply:
 * the pool in which it is now. Control going away ends it. settle: none is begun; one that was cut off is brought to an end. */
struct msg_disk_move {
	char *id;             /* of the machine */
	char *pool_id, *from; /* the new pool's, the old one's */
	struct volume volume; /* as it is to be there; a root: block, with the machine's id */
	char **snapshots;     /* as in msg_volume_create */
	bool settle;
};

/* "machine-export": reply a stream of the disks of a machine, all of one moment: a tar of qcow2 images, "root.qcow2" and
 * those of its volumes by name, or with `disk` that image alone. "machine-checkpoints": those that there are; with
 * `checkpoint` that one is removed. */
struct msg_machine_export {
	char *id;
	char *disk;       /* "root", or the name of a volume */
	char *since;      /* only what has been written since that checkpoint */
	char *checkpoint; /* becomes one of this moment, once all has been read */
};
struct msg_checkpoints {
	char **checkpoints; /* names */
};

struct msg_volume_resize {
	char *pool_id, *id;
	int64_t size; /* bytes; 0: no quota */
};

struct msg_volume_usage { /* reply of "volume-usage", and of "volume-create", which tells the path alone */
	char *path; /* on the host, while it is open; NULL: a device, or an instance's root */
	int64_t size, used; /* 0: not known */
	snapshots snapshots; /* as far as the driver knows them: names and times */
};

struct msg_volumes { /* reply of "volume-list": what the pool holds */
	char **ids; /* of volumes and of instances' roots */
};

/* "volume-export": reply a stream. "volume-import": the data comes along as a descriptor, into a new volume. */
struct msg_volume_data {
	char *pool_id;
	struct volume volume; /* export: id alone; import: the new one */
	char *snapshot;       /* export; NULL: as it is now */
	char *format;         /* tar (file systems) | raw | qcow2 (blocks) */
};

/* The disk image that comes along. "disk-check": CORRUPT where its own tables do not fit, or it is cut off. "disk-convert":
 * reply a stream of it in another format. */
struct msg_disk {
	char *format; /* qcow2 raw vmdk vdi vpc vhdx */
	int64_t size; /* disk-convert: of the disk, bytes */
	char *to;     /* disk-convert: one of those, or vmdk-stream (streamOptimized, as an OVA has it) */
};

/* "template-make": the disk image that comes along becomes a block volume of the pool, whose id is the digest's digits; progress.
 * There already: fine. */
struct msg_template {
	char *pool_id;
	char *digest; /* of the image; CORRUPT when it has another one */
	char *format;
	int64_t size; /* of the disk, bytes */
};

/* "snapshot-create", "snapshot-delete", "snapshot-restore": of a volume, or of an instance's root (owner_instance true:
 * id is the instance's; create: frozen meanwhile if it runs; restore: it must not run). Create and delete of what is
 * there, or gone: fine. */
struct msg_snapshot {
	char *pool_id, *id, *name;
	bool instance;
	bool memory; /* of a machine: with its memory, which runs and goes on (create); it is suspended afterwards (restore) */
};

/* "volume-attach" after instance-update with the spec that has it, "volume-detach" before the one that has it not: in an instance that runs.
 * The same again does nothing. */
struct msg_volume_attach {
	char *id; /* of the instance */
	char *pool_id, *volume_id; /* not for detach */
	char *target, *subpath;
	bool read_only;
};

extern const struct field_table msg_pool_state_table, msg_pool_states_table, msg_volume_ref_table,
	msg_volume_create_table, msg_disk_move_table, msg_machine_export_table, msg_checkpoints_table, msg_volume_resize_table, msg_volume_usage_table, msg_volumes_table,
	msg_volume_data_table, msg_disk_table, msg_template_table, msg_snapshot_table, msg_volume_attach_table;
