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
	int *usb_fds;
	char **pci_groups;
	char **names; /* text that those point to */
	int *pass;
	size_t n_pass;
	int state_fd; /* of saved memory, which goes on; -1 */
	bool takes_checkpoints; /* what is kept, before its guest runs */
	bool other;   /* its guest does not know yet who it is */
	struct receiver *receiver; /* of a machine that comes from another daemon; NULL */
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
#define GUEST_DIR "/guest" /* of QEMU's container: what virtiofsd serves; its root is in there */
bool guest_is(const struct msg_instance_create *r);
int guest_build(const struct job *j, const struct msg_instance_create *r, const char *root, const struct volume_mounts *volumes,
		struct machine_start *m, struct container_config *c, struct error *err);

/* machine-firmware.c: variables of its UEFI, state of its TPM, where it has them. */
int machine_firmware(const struct agent *a, const struct msg_instance_create *r, struct machine_start *m, struct container_config *c,
		     struct error *err);

/* machine-board.c: the same, as it is with a snapshot (an older copy of that name is replaced), put back, and in the directory of a
 * new instance (snapshot NULL: as it is now). Nothing where there is nothing. */
int board_keep(const struct agent *a, const char *id, const char *snapshot, struct error *err);
int board_drop(const struct agent *a, const char *id, const char *snapshot, struct error *err);
int board_restore(const struct agent *a, const char *id, const char *snapshot, struct error *err);
int board_clone(const struct agent *a, const char *id, const char *snapshot, const char *dir, struct error *err);

/* machine-usb.c: opens the host's devices that are wanted. NOT_FOUND; CONFLICT: another machine has it. */
int machine_usb_open(struct machine_start *m, struct error *err);
int work_machine_usb(struct job *j, struct error *err);

/* machine-vsock.c: its socket to the host, where it is to have one. UNSUPPORTED: the host has none; CONFLICT: the number is another's. */
int machine_vsock_open(const struct agent *a, const struct msg_instance_create *r, struct machine_start *m, struct error *err);

/* machine-pci.c: the host's devices that are wanted get vfio-pci as their driver. UNSUPPORTED: there is no IOMMU; CONFLICT: the host, or another
 * machine, uses what belongs to their groups. What was begun is given back by whoever puts the run away, as all of it. */
int machine_pci_take(const struct agent *a, const char *id, struct machine_start *m, struct error *err);
void machine_pci_give_back(const struct agent *a, const char *id);

int work_machine_tree(struct job *j, struct error *err); /* machine-tree.c */

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

/* Processors, memory and limits as in spec; on failure as they were. back: what a cut-off change has brought goes, and processors that
 * cannot go stay, with the time that the spec gives them. */
int machine_update(const struct agent *a, const struct msg_instance_create *old, const struct instance_spec *spec, bool back,
		   const struct run_state *run, struct error *err);
/* machine-pin.c: its processors' threads run where the spec says; those of which it says nothing anywhere. INVALID: they cannot. */
int machine_pin(const struct agent *a, const struct msg_instance_create *r, const struct run_state *run, struct error *err);
/* One that a crash has cut off is undone, as far as it can be. */
void machine_size_recover(const struct agent *a, const struct msg_instance_create *r, const struct run_state *run);
int machine_disk_attach(const struct agent *a, const struct msg_instance_create *r, const struct volume_mount *v, bool read_only,
			struct error *err);
int machine_disk_detach(const struct agent *a, const char *instance, const char *volume, struct error *err);
int machine_disk_resized(const struct agent *a, const char *instance, const char *volume, int64_t size, struct error *err);
/* Tells all machines that run with it; needs no instance's lock. */
void machine_volume_resized(const struct agent *a, const char *volume, int64_t size);
/* Whether it has got or lost a device, processors or memory since its start. */
#define CHANGED_FILE "changed" /* in the run directory */
bool machine_is_changed(const struct agent *a, const char *id);
void machine_mark_changed(const struct agent *a, const char *id);
/* Cards that are not of the record's nics go; those that are missing come: their interfaces are there. */
int machine_nics_remove(const struct agent *a, const struct msg_instance_create *r, struct error *err);
int machine_nics_add(const struct agent *a, const struct msg_instance_create *r, const struct container_state *c, struct error *err);
/* The job's descriptors, named by the list, into the drives; those that r has already stay. */
int machine_media_change(const struct job *j, const struct msg_instance_create *r, const media *list, struct error *err);

/* --- machine-move.c: a disk of one that runs moves into another pool --- */

int work_machine_disk_move(struct job *j, struct error *err);
/* Brings what a crash has cut off to its end, unless whoever does it is at work. alive: QEMU runs. run is changed, and saved. */
void machine_move_recover(const struct job *j, struct msg_instance_create *r, struct run_state *run, bool alive);
/* CONFLICT while that disk moves (id NULL: any disk does). */
int machine_move_check(const struct run_state *run, const char *id, struct error *err);

/* --- machine-export.c: copies of the disks of one that runs --- */

int work_machine_export(struct job *j, struct error *err);
int work_machine_checkpoints(struct job *j, struct error *err);
/* One that was cut off leaves QEMU. */
void machine_export_recover(const struct agent *a, const char *id);
/* The checkpoint of one that has not come to its end: free it; NULL. */
char *machine_export_unfinished(const struct agent *a, const char *id);

/* --- machine-checkpoints.c: those of a machine's disks, over its stops --- */

/* A disk of a run: the root's, or one of its volumes'. The list ends with id NULL; it points into both. */
struct run_disk {
	char *id; /* QEMU's */
	const char *volume, *pool;
	bool root;
};
struct run_disk *run_disks(const struct msg_instance_create *r, const struct run_state *run);
void run_disks_free(struct run_disk *disks);
DEFINE_CLEANUP(run_disks_free_ptr, struct run_disk *, run_disks_free);

/* Before a disk is changed by anybody but a machine that has checked that. */
int checkpoints_drop(const struct agent *a, const char *volume, struct error *err);
/* The instance `by` is about to write to a block volume: others that run with it do not know what has changed. takes: it is a machine
 * that starts, which takes over what is kept. */
int checkpoints_written(const struct agent *a, const char *volume, const char *by, bool takes, struct error *err);
/* CONFLICT: others have written to the volume (called name) in this run. */
int checkpoints_check(const struct agent *a, const char *id, const char *volume, const char *name, struct error *err);
/* A run begins: what the run directory says of the one before counts no more. */
void machine_forget_run(const struct agent *a, const char *id);
bool checkpoints_kept(const struct agent *a, const struct msg_instance_create *r, const struct run_state *run);
/* QEMU, whose guest does not run yet, takes over what is kept. */
int checkpoints_load(const struct agent *a, const struct msg_instance_create *record, const struct run_state *run, struct error *err);
/* From now on the machine's end waits for them. */
struct qmp;
int checkpoints_hold(const struct agent *a, const char *id, struct qmp *q, struct error *err);
bool checkpoints_wait(const struct agent *a, const char *id);
/* Whether the machine has ended but for its QEMU. */
bool checkpoints_saved(const struct agent *a, const char *id);
/* Of a guest that is halted for good: what QEMU has is kept. A disk's that cannot be kept are lost. */
int checkpoints_save(const struct agent *a, const struct msg_instance_create *record, const struct run_state *run, struct qmp *q,
		     struct error *err);
/* The same with the lock taken, and QEMU ends: once the guest has powered down, or (now) whatever it does. */
int checkpoints_end(const struct agent *a, const char *id, bool now, struct error *err);
int work_machine_end(struct job *j, struct error *err);
/* Of one disk: what is kept, into QEMU (what cannot be read is as if it were not there); what QEMU has, into a file without a name (as it was, -1:
 * there are none); that takes its place (-1: nothing does), by who knows that nobody else uses the disk. */
bool checkpoints_kept_of(const struct agent *a, const char *volume);
void checkpoints_take(const struct agent *a, struct qmp *q, const struct run_disk *d);
int checkpoints_write(const struct agent *a, struct qmp *q, const struct run_disk *d, int *fd, struct error *err);
int checkpoints_settle(const struct agent *a, const char *volume, int fd, struct error *err);

/* --- machine-idle.c: disks of one that does not run; its lock is the caller's --- */

struct idle {
	const struct job *job;
	struct qmp *q; /* of a QEMU without a machine, as if it were the machine's */
	pid_t pid;
	struct idle_disk *disks;
	size_t n;
};
int idle_open(const struct job *j, struct idle *x, struct error *err);
/* With what is kept of its checkpoints. disk stays the caller's. CONFLICT: an instance runs with it. */
int idle_add(struct idle *x, const struct run_disk *disk, struct error *err);
/* Their checkpoints, as they are now, are written, and then take the place of those that are kept. */
int idle_keep(const struct idle *x, struct error *err);
int idle_settle(const struct idle *x, struct error *err);
void idle_end(struct idle *x);
/* qemu-img.c: QEMU without a machine, confined as qemu-img is. */
int qemu_none_start(struct qmp **q, pid_t *pid, struct error *err);
void qemu_none_end(struct qmp **q, pid_t *pid);

extern const struct handler job_machine_end;

/* For a request to a machine that runs: its lock, record and monitor. CONFLICT: it is a container. */
struct qmp;
int machine_open(const struct job *j, int *lock, struct msg_instance_create *r, struct qmp **q, struct error *err);
int work_machine_display(struct job *j, struct error *err);
int work_machine_screen(struct job *j, struct error *err);
int work_machine_input(struct job *j, struct error *err);

/* --- machine-exec.c: further processes inside --- */

/* One in a machine of a container's image, as container_exec has it: *pid is a process that stands for it here. With the lock held,
 * which is given back meanwhile. */
int machine_exec(const struct job *j, const struct msg_instance_create *r, const struct run_state *run,
		 const struct msg_exec_start *m, int *lock, struct container_stdio *io, pid_t *pid, struct error *err);

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

/* QEMU's monitor, which one at a time has. */
int machine_monitor(const struct agent *a, const char *id, int64_t deadline, struct qmp **q, struct error *err);
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
/* Continues one that a killed worker has left halted, unless its memory has been saved for its end, or runs elsewhere: then it
 * ends. What is begun of a migration is undone, or left for machine-settle. *r is kept up to date. */
void machine_recover(const struct agent *a, struct msg_instance_create *r, const struct run_state *run);

/* --- saved memory (memory.c) ---
 * A directory with "memory" (the guest's, as large as it is, with holes), "state" (the rest that QEMU has said) and "machine.json":
 * of an instance memory/<snapshot>/, and resume/, which the next start goes on from while the instance is suspended, and only then.
 * saving/ is one that is being made, dropped/ one that is being removed: never of use after a crash. */

struct saved_memory { /* machine.json */
	char **shape; /* of the machine */
	char **macs;  /* of its network cards */
	char *board;  /* its version */
	char *generation; /* NULL: the machine's own */
	int64_t size; /* of the memory */
	int64_t run;  /* in which it was saved; 0: in none of this machine's */
	bool other;   /* another machine's: it is to learn who it is */
};
int saved_load(const char *dir, struct saved_memory *out, struct error *err);
int saved_save(const char *dir, const struct saved_memory *s, struct error *err);
void saved_free(struct saved_memory *s);
json_t *saved_print(const struct saved_memory *s);
int saved_parse(const json_t *json, struct saved_memory *out, struct error *err); /* of a stranger */
/* The first place in which a machine is not what it was. */
bool shapes_differ(char *const *was, char *const *is, const char **a, const char **b);
bool board_is_name(const char *text);
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
/* Its first steps: locked, it runs, can be saved, and s->q is its monitor; and what it is. */
int memory_open(struct memory_saver *s, bool disk, struct error *err);
/* A guest whose memory QEMU cannot tell while it runs is halted. */
int memory_halt(struct memory_saver *s, struct error *err);
int memory_describe(const struct memory_saver *s, struct saved_memory *out, struct error *err);
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

/* Has QEMU end, killing it if need be; the run is not put away. */
int machine_quit(const struct memory_saver *s, struct error *err);

/* --- a machine that moves: machine-migrate.c where it is, machine-receive.c where it comes ---
 *
 * Both agents talk over a connection of their own, an object a line: the one that has the machine says what it is (saved_memory), the
 * other one {"ready":true} once its QEMU waits, and {"error":TEXT} whenever it gives up, which is its last word. When all of the
 * memory has been sent, {"go":true}: from then on the other one alone decides, by writing down that the machine runs there;
 * {"runs":true} follows.
 *
 * By post-copy that is said earlier, {"go":true,"rest":true}, with the guest halted and its disk whole there, before the switch: from the
 * answer on its QEMU sends what the guest needs first, and can never go on itself. The other side's record has `arriving` until all has
 * come; when one of the QEMUs dies meanwhile, the guest has ended there as by a power cut. */

int work_machine_migrate(struct job *j, struct error *err);
int work_machine_settle(struct job *j, struct error *err);
int work_machine_receive(struct job *j, struct error *err);
/* Of one that is arriving: looks whether all has come, which is put on record then; or it never will: it is killed. */
int work_machine_arrived(struct job *j, struct error *err);
int work_machine_lost(struct job *j, struct error *err);
extern const struct handler job_machine_arrived, job_machine_lost;
/* The same, of one that is locked, with its monitor. */
int arrival_look(const struct agent *a, struct msg_instance_create *r, const struct run_state *run, struct qmp *q, struct error *err);
bool receive_rest(const struct receiver *f); /* it runs before all of its memory has come */
/* Of machine_recover: with its monitor. */
int migrate_recover(const struct agent *a, struct msg_instance_create *r, const struct run_state *run, struct qmp *q, struct error *err);

/* start.c, for a machine that comes; receiver NULL: any start. */
struct receiver;
int start_instance(struct job *j, struct receiver *receiver, struct error *err);
/* In the order of the start. prepare: it is what comes, and QEMU will wait for it. load: it has come, and may run from here on; on
 * failure the other agent knows that it will not. gone: it runs. */
int receive_prepare(const struct agent *a, struct receiver *f, char *const *shape, struct machine_start *m, struct error *err);
int receive_load(const struct agent *a, const char *id, struct receiver *f, struct msg_instance_create *record, const struct run_state *run,
		 struct error *err);
void receive_gone(const struct agent *a, const char *id, struct receiver *f, const struct run_state *run);

/* machine-secure.c: of both sides. The key is for QEMU to read, in its own container; the object that has it is TLS_ID. */
#define TLS_ID "migration-tls"
#define MIGRATION_WAIT (60 * NS_PER_SEC) /* for the other side */
#define MIGRATION_LINE ((size_t)1 << 20)
struct lines;
int secure_begin(struct qmp *q, const struct msg_instance_create *r, const struct run_state *run, const char *secret, bool server,
		 struct error *err);
/* QEMU has no key and no settings of a migration any more, as far as it answers. */
void secure_end(struct qmp *q, const struct msg_instance_create *r, const struct run_state *run);
int migration_set(struct qmp *q, json_t *parameters, struct error *err); /* consumed */
int migration_capabilities(struct qmp *q, bool on, bool post_copy, struct error *err);
int migration_say(struct lines *to, json_t *message, struct error *err); /* consumed */
/* The other one's {"error":…} is the error. */
int migration_hear(struct lines *from, const char *word, struct error *err);
int migration_error(const json_t *message, struct error *err); /* 0: it is none */

/* --- who a clone is (machine-identity.c) --- */

/* Its guest takes itself for another machine, with those addresses: it is to learn better, by a worker of each start or recovery. */
int identity_wanted(const struct agent *a, const char *id, char *const *macs, struct error *err);
bool identity_is_wanted(const struct agent *a, const char *id);
void identity_drop(const struct agent *a, const char *id);
int work_machine_identity(struct job *j, struct error *err);
extern const struct handler job_machine_identity;
