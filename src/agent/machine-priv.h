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
	int state_fd; /* of saved memory, which goes on; -1 */
	bool other;   /* its guest does not know yet who it is */
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
/* Continues one that a killed worker has left halted, unless its memory has been saved for its end: then it ends. paused: by a
 * user. */
void machine_recover(const struct agent *a, const char *id, int64_t run, bool paused);

/* --- saved memory (memory.c) ---
 * A directory with "memory" (the guest's, as large as it is, with holes), "state" (the rest that QEMU has said) and "machine.json":
 * of an instance memory/<snapshot>/, and resume/, which the next start goes on from while the instance is suspended, and only then.
 * saving/ is one that is being made, dropped/ one that is being removed: never of use after a crash. */

struct saved_memory { /* machine.json */
	char **shape; /* of the machine */
	char **macs;  /* of its network cards */
	char *board;  /* its version */
	int64_t size; /* of the memory */
	int64_t run;  /* in which it was saved; 0: in none of this machine's */
	bool other;   /* another machine's: it is to learn who it is */
};
int saved_load(const char *dir, struct saved_memory *out, struct error *err);
int saved_save(const char *dir, const struct saved_memory *s, struct error *err);
void saved_free(struct saved_memory *s);
char *machine_uuid(const char *digits); /* of 32 hexadecimal digits or more; free it */
#define GENERATION_FILE "generation" /* of an instance: an UUID */
/* A directory becomes `to`, whole and on disk. */
int memory_settle(const char *dir, const char *to, struct error *err);
/* QEMU tells how its migrations end, which memory_await waits for. */
int memory_events(struct qmp *q, int64_t deadline, struct error *err);
int memory_await(struct qmp *q, int64_t deadline, bool *completed, struct error *err);

/* A machine whose memory is being saved: locked, and halted once that is done. */
struct memory_saver {
	const struct agent *agent;
	const char *id;
	struct msg_instance_create record;
	struct run_state run;
	struct qmp *q;
	int lock, memory, state;
	bool halted;
	char *dir; /* saving/ */
};
#define MEMORY_SAVER_INIT ((struct memory_saver){.lock = -1, .memory = -1, .state = -1})
/* Writes all of it into saving/, while the guest runs as far as that can be, and halts it. disk: with a snapshot or copy of its disk,
 * which takes in no volume: it may write to none. CONFLICT, UNSUPPORTED: it is no machine, does not run, has what cannot be saved. */
int memory_save(const struct agent *a, const char *id, bool disk, struct memory_saver *s, struct error *err);
/* The guest goes on, unless a user has paused it. */
int memory_cont(struct memory_saver *s, struct error *err);
/* What has been saved is on disk as `to`, replacing what is there. */
int memory_keep(struct memory_saver *s, const char *to, struct error *err);
/* The guest goes on if it is halted; what was not kept goes. */
void memory_saver_free(struct memory_saver *s);
char *memory_path(const struct agent *a, const char *id, const char *snapshot); /* NULL: resume/ */
/* The same memory once more, of the same or of another machine, as `to`. NOT_FOUND: there is none. */
int memory_share(const char *from, const char *to, bool other, struct error *err);
/* A directory of saved memory goes, by way of dropped/. */
int memory_drop(const struct agent *a, const char *id, const char *dir, struct error *err);
void memory_tidy(const struct agent *a, const char *id); /* what a crash has left in saving/ and dropped/ */
/* Whether resume/ is the memory of that run. */
bool memory_is_of(const struct agent *a, const char *id, int64_t run);
/* For a new instance in `dir`: the memory of the source that m names. s: halted or held meanwhile, if it is its present state. */
int memory_take(const struct agent *a, const struct msg_instance_create *m, const char *dir, struct memory_saver *s, struct error *err);
/* A start: what the machine is is written down in its run directory; a suspended one gets its memory. */
int memory_prepare(const struct job *j, const struct msg_instance_create *r, struct machine_start *m, struct error *err);
/* The new QEMU reads the state, and waits for memory_go: from then on the memory is used up. */
int memory_load(const struct agent *a, const char *id, const struct machine_start *m, struct error *err);
int memory_go(const struct agent *a, const char *id, struct error *err);
int work_machine_suspend(struct job *j, struct error *err);

/* --- who a clone is (machine-identity.c) --- */

/* Its guest takes itself for another machine, with those addresses: it is to learn better, by a worker of each start or recovery. */
int identity_wanted(const struct agent *a, const char *id, char *const *macs, struct error *err);
bool identity_is_wanted(const struct agent *a, const char *id);
void identity_drop(const struct agent *a, const char *id);
int work_machine_identity(struct job *j, struct error *err);
extern const struct handler job_machine_identity;
