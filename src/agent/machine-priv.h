/* Machines in the agent: what of an instance's life is another for a machine than for a container. Everything else (records,
 * locks, shim, log, control group, networks, recovery) is the same, for a machine is a container whose first process is QEMU. */
#pragma once

#include "agent/storage-priv.h"
#include "driver/qemu/machine.h"

/* What a start opens and lends to QEMU. */
struct machine_start {
	struct machine_config config;
	struct machine_disk *disks;
	struct machine_nic *nics;
	char **names; /* text that those point to */
	int *pass;
	size_t n_pass;
	struct container_config inner; /* the container inside, of a machine whose root is an image's layers */
	struct machine_share share;
};
void machine_start_init(struct machine_start *m);
void machine_start_free(struct machine_start *m); /* closes what it has opened */

/* Fills c and m for a machine whose root is open at `root`, a block device or raw file. The caller has the instance's lock. */
int machine_build(const struct job *j, const struct msg_instance_create *r, const char *root, const struct volume_mounts *volumes,
		  struct machine_start *m, struct container_config *c, struct error *err);
/* Text that lives as long as the start does. */
const char *machine_keep(struct machine_start *m, char *text);
/* id is the machine's to keep (machine_keep). */
int machine_add_disk(struct machine_start *m, const char *id, const char *path, bool read_only, const char *serial, struct error *err);
/* guest.c: the same for one whose root is an image's layers upon which `root` has been changed. c has what every machine's has;
 * gets mounts and files. */
bool guest_is(const struct msg_instance_create *r);
int guest_build(const struct job *j, const struct msg_instance_create *r, const char *root, const struct volume_mounts *volumes,
		struct machine_start *m, struct container_config *c, struct error *err);

/* machine-firmware.c: variables of its UEFI, state of its TPM, where it has them. */
int machine_firmware(const struct agent *a, const struct msg_instance_create *r, struct machine_start *m, struct container_config *c,
		     struct error *err);

/* --- media.c --- */

/* Into the directory of an instance: of the job's descriptors those from the first on. */
int media_take(const struct job *j, const char *instance_dir, const media *list, size_t first, struct error *err);
#define MEDIUM_NONE (-1000)
/* A descriptor; MEDIUM_NONE: it has none of that name. */
int media_open(const struct agent *a, const struct msg_instance_create *r, const char *name, struct error *err);
int work_media(struct job *j, struct error *err);

/* Its interfaces are there: joined to those that QEMU opens. */
int machine_link(const struct msg_instance_create *r, const struct container_state *c, struct error *err);

/* What QEMU calls a card and its tap device, a volume's disk (NULL: the root's): free it. */
char *machine_nic_id(const struct nic *n);
char *machine_tap_name(const struct nic *n);
char *machine_disk_id(const char *volume);
/* Processors and memory that a machine's guest is to have; what its control group may use. */
void machine_size(const struct instance_spec *spec, int64_t *cpus, int64_t *memory);
int machine_limits(const struct agent *a, const struct msg_instance_create *r, struct cgroup_limits *out, struct error *err);

/* --- machine-live.c: of one that runs --- */

/* Processors, memory and limits as in spec; on failure as they were. */
int machine_update(const struct agent *a, const struct msg_instance_create *old, const struct instance_spec *spec,
		   const struct cgroup_state *group, struct error *err);
int machine_disk_attach(const struct agent *a, const struct msg_instance_create *r, const struct volume_mount *v, bool read_only,
			struct error *err);
int machine_disk_detach(const struct agent *a, const char *instance, const char *volume, struct error *err);
int machine_disk_resized(const struct agent *a, const char *instance, const char *volume, int64_t size, struct error *err);
/* Tells all machines that run with it; needs no instance's lock. */
void machine_volume_resized(const struct agent *a, const char *volume, int64_t size);
/* Cards that are not of the record's nics go; those that are missing come: their interfaces are there. */
int machine_nics_remove(const struct agent *a, const struct msg_instance_create *r, struct error *err);
int machine_nics_add(const struct agent *a, const struct msg_instance_create *r, const struct container_state *c, struct error *err);
/* The job's descriptors, named by the list, into the drives; those that r has already stay. */
int machine_media_change(const struct job *j, const struct msg_instance_create *r, const media *list, struct error *err);

/* For a request to a machine that runs: its lock, record and monitor. CONFLICT: it is a container. */
struct qmp;
int machine_open(const struct job *j, int *lock, struct msg_instance_create *r, struct qmp **q, struct error *err);
int work_machine_display(struct job *j, struct error *err);
int work_machine_screen(struct job *j, struct error *err);
int work_machine_input(struct job *j, struct error *err);

/* Asks the guest to power down; it need not. */
int machine_power_down(const struct agent *a, const char *id, struct error *err);
/* Halts or continues the processors. */
int machine_pause(const struct agent *a, const char *id, bool on, struct error *err);
/* The agent listens to its events, until its end. */
void machine_watch_start(struct inst *i);
void machine_watch_stop(struct inst *i);
/* A worker's: one that halted because a disk could not be written to goes on. */
int work_machine_resume(struct job *j, struct error *err);
extern const struct handler job_machine_resume;
/* Continues one that a killed worker has left halted. */
void machine_recover(const struct agent *a, const char *id);
