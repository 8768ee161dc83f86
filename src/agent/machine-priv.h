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
int machine_add_disk(struct machine_start *m, const char *path, bool read_only, const char *serial, struct error *err);
/* guest.c: the same for one whose root is an image's layers upon which `root` has been changed. c has what every machine's has;
 * gets mounts and files. */
#define GUEST_DIR "/guest" /* of QEMU's container: what virtiofsd serves; its root is in there */
bool guest_is(const struct msg_instance_create *r);
int guest_build(const struct job *j, const struct msg_instance_create *r, const char *root, const struct volume_mounts *volumes,
		struct machine_start *m, struct container_config *c, struct error *err);

/* --- media.c --- */

/* Into the directory of an instance: of the job's descriptors those from the first on. */
int media_take(const struct job *j, const char *instance_dir, const media *list, size_t first, struct error *err);
#define MEDIUM_NONE (-1000)
/* A descriptor; MEDIUM_NONE: it has none of that name. */
int media_open(const struct agent *a, const struct msg_instance_create *r, const char *name, struct error *err);
int work_media(struct job *j, struct error *err);

/* Its interfaces are there: joined to those that QEMU opens. */
int machine_link(const struct msg_instance_create *r, const struct container_state *c, struct error *err);

/* For a request to a machine that runs: its lock, record and monitor. CONFLICT: it is a container. */
struct qmp;
int machine_open(const struct job *j, int *lock, struct msg_instance_create *r, struct qmp **q, struct error *err);
int work_machine_display(struct job *j, struct error *err);

/* --- machine-exec.c: further processes inside --- */

/* One in a machine of a container's image, as container_exec has it: *pid is a process that stands for it here. With the lock held,
 * which is given back meanwhile. */
int machine_exec(const struct job *j, const struct msg_instance_create *r, const struct run_state *run,
		 const struct msg_exec_start *m, int *lock, struct container_stdio *io, pid_t *pid, struct error *err);
/* Unplugs the ports of processes that have ended, or all of them: before the machine's devices are written down. */
int machine_ports_sweep(struct qmp *q, bool all, struct error *err);

/* --- machine-guest.c: the agent in a guest that has its own system --- */

/* UNAVAILABLE at once where none has opened the channel. Others wait as long as it is open. */
struct guest;
struct guest_result;
int machine_guest_open(const struct agent *a, const char *id, int64_t deadline, struct guest **out, struct error *err);
/* As machine_exec, which calls it. */
int machine_guest_exec(const struct job *j, const struct msg_exec_start *m, int *lock, struct container_stdio *io, pid_t *pid,
		       struct error *err);
/* A command of the guest's, to its end. */
int machine_guest_run(const struct agent *a, const char *id, char *const *argv, struct guest_result *out, struct error *err);
/* Whether the agent does it; where there is none nothing happens. */
bool machine_guest_freeze(const struct agent *a, const char *id);
void machine_guest_thaw(const struct agent *a, const char *id);
bool machine_guest_shutdown(const struct agent *a, const char *id);

/* --- machine-files.c: copies by the agent in a guest, with its own tar. They answer --- */

int machine_file_stat(struct job *j, const struct msg_archive *m, struct error *err);
int machine_file_get(struct job *j, const struct msg_archive *m, struct error *err);
int machine_file_put(struct job *j, const struct msg_archive *m, struct error *err);

/* --- machine-inside.c --- */

/* What runs inside, as the guest tells it. */
int machine_processes(const struct agent *a, const struct msg_instance_create *r, struct msg_processes *out, struct error *err);
int work_machine_inside(struct job *j, struct error *err);
int work_machine_password(struct job *j, struct error *err);
/* Is it the tap device beside an interface of a machine's? */
bool machine_is_tap(const char *interface);

/* One command by QMP. */
int machine_call(const struct agent *a, const char *id, const char *name, json_t **ret, struct error *err);
/* Asks the guest to power down, its agent or by the power button; it need not. */
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
