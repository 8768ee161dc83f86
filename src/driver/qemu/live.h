/* Changes of a machine that runs, over QMP (qmp.h). What QEMU does not do, or the guest does not do within some seconds, is an error,
 * and then all is as it was. The deadline (monotonic ns) is QEMU's own for each answer; for a guest's there is LIVE_WAIT besides. */
#pragma once

#include "driver/qemu/machine.h"
#include "driver/qemu/qmp.h"

#define LIVE_WAIT (15 * NS_PER_SEC)

/* So many processors: those above what it was started with are plugged in, and unplugged by the guest's leave; those that it was
 * started with stay. INVALID: there is no room for so many; UNSUPPORTED: the translator unplugs none. */
int live_cpus(struct qmp *q, int64_t n, int64_t deadline, struct error *err);
/* So much memory: above what it was started with by virtio-mem, below by the balloon. INVALID: more than its memory_max; CONFLICT:
 * the guest does not take or give it. */
int live_memory(struct qmp *q, int64_t bytes, int64_t deadline, struct error *err);

/* A disk (its fd stays the caller's) or a network card, whose tap device is there. CONFLICT: no place is free; UNSUPPORTED: the
 * bus takes none while the machine runs. One that is there already is fine. */
int live_disk_add(struct qmp *q, const struct machine_spec *spec, const struct machine_disk *d, int64_t deadline, struct error *err);
int live_nic_add(struct qmp *q, const struct machine_spec *spec, const struct machine_nic *n, int64_t deadline, struct error *err);
/* Its nodes alone, without a device. */
int live_nodes_add(struct qmp *q, const struct machine_disk *d, int64_t deadline, struct error *err);
/* What is not there is fine. CONFLICT: the guest does not let go of it. */
int live_disk_remove(struct qmp *q, const char *id, int64_t deadline, struct error *err);
int live_nic_remove(struct qmp *q, const char *id, int64_t deadline, struct error *err);
/* The device of that id is there: 1, 0, negative. */
int live_has(struct qmp *q, const char *id, int64_t deadline, struct error *err);
/* All ids that begin with this. */
int live_list(struct qmp *q, const char *prefix, int64_t deadline, char ***ids, struct error *err);
/* A disk moves to another file while the guest writes (live-move.c): a mirror copies all of it and then writes both, and with the
 * processors halted the disk is put upon the new one. A file has one of two places, of which the disk uses one. */
struct live_copy {
	bool ready; /* both are the same, and stay so */
	bool over;
	int64_t done, total;
};
/* The place that the disk does not use; static text. */
int live_move_place(struct qmp *q, const char *id, int64_t deadline, const char **place, struct error *err);
/* d: with the new fd, to write. */
int live_move_begin(struct qmp *q, const struct machine_disk *d, const char *place, int64_t deadline, struct error *err);
/* CONFLICT: there is no such copy; NO_SPACE, INTERNAL: it has failed. */
int live_move_look(struct qmp *q, const char *id, int64_t deadline, struct live_copy *out, struct error *err);
/* The processors are halted, the copy is ready: the disk lies upon it, or as before. */
int live_move_switch(struct qmp *q, const char *id, bool read_only, const char *place, int64_t deadline, struct error *err);
/* Puts the disk upon a place without further ado. */
int live_move_put(struct qmp *q, const char *id, bool read_only, const char *place, int64_t deadline, struct error *err);
/* Whatever was begun ends, and the place is empty again, unless the disk uses it. */
int live_move_end(struct qmp *q, const char *id, const char *place, int64_t deadline, bool *used, struct error *err);
/* The other place is empty. */
int live_move_drop_other(struct qmp *q, const char *id, const char *place, int64_t deadline, struct error *err);
/* CONFLICT: a disk is being copied. */
int live_jobs_none(struct qmp *q, int64_t deadline, struct error *err);

/* Copies of disks of one moment (live-backup.c), each a qcow2 image in the file behind fd (empty, the caller's); the guest goes on. */
int live_backup_prepare(struct qmp *q, const char *id, int fd, int64_t deadline, struct error *err);
/* Of all that have been prepared. since (NULL: all of it): what has been written since that checkpoint, which stays. checkpoint
 * (NULL: none): one of this moment. */
int live_backup_begin(struct qmp *q, const char *const *ids, const char *since, const char *checkpoint, int64_t deadline, struct error *err);
int live_backup_look(struct qmp *q, const char *id, int64_t deadline, struct live_copy *out, struct error *err);
/* After its end, and to give it up: QEMU has nothing of it any more. None is fine. */
int live_backup_end(struct qmp *q, const char *id, int64_t deadline, struct error *err);
/* Checkpoints (live-checkpoints.c) end with QEMU, unless they are saved into a file (empty, fd stays the caller's): of a disk that is not
 * written to any more. Loaded, before it is written to, they are the disk's again, all or none; the file stays as it is. */
int live_checkpoints(struct qmp *q, const char *id, int64_t deadline, char ***names, struct error *err);
int live_checkpoint_remove(struct qmp *q, const char *id, const char *name, int64_t deadline, struct error *err);
int live_checkpoints_save(struct qmp *q, const char *id, char *const *names, int fd, int64_t deadline, struct error *err);
int live_checkpoints_load(struct qmp *q, const char *id, int fd, int64_t deadline, struct error *err);
/* A guest that powers down leaves QEMU halted ("shutdown"), until it is told to quit. */
int live_end_waits(struct qmp *q, int64_t deadline, struct error *err);
/* The file or device behind it has this size now: the guest is told. */
int live_disk_resize(struct qmp *q, const char *id, int64_t size, int64_t deadline, struct error *err);
/* Another medium in a drive; fd -1: none. CONFLICT: the guest has locked the drive. NOT_FOUND: there is no such drive. */
int live_medium(struct qmp *q, const char *id, int fd, int64_t deadline, struct error *err);
