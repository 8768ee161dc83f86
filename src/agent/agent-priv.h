/* What the files of the agent share. Two sorts of code live here:
 *
 *   in the agent itself: one thread, one event loop, nothing that blocks. It keeps a cache of each
 *   instance's status, watches shims, and starts workers.
 *
 *   in workers: forked children of the agent, straight blocking code, one operation each. The truth that
 *   they read and change is on disk, under the instance's lock; they report to the agent what they changed
 *   before they answer, so that the next request sees it. */
#pragma once

#include "agent/agent.h"
#include "base/loop.h"
#include "base/map.h"
#include "base/time.h"
#include "driver/container/container.h"
#include "driver/qemu/machine.h"
#include "wire/messages.h"

#include <sys/resource.h>
#include <sys/types.h>

#define UID_RANGE 65536u

struct peer;
struct health;

struct agent {
	struct agent_options options;
	char *dir;       /* STATE/agent */
	char *instances; /* STATE/agent/instances */
	char *layers;    /* STATE/agent/layers */
	char *base;      /* STATE/agent/base: the layer above those of every image */
	char *tmp;       /* STATE/agent/tmp */
	char *shims;     /* RUN/shim */
	char *networks;  /* STATE/agent/networks */
	char *firewall;  /* STATE/agent/firewall */
	char *resolvers; /* RUN/networks */
	char tag[9];     /* of everything of this daemon's on the host's network */
	char *pool_dirs; /* STATE/agent/pools */
	char *storage;   /* STATE/agent/storage: of the pool "local" */
	char *cgroup;    /* "wabe/<hash of the state directory>" */
	char *shim;      /* program */
	uint32_t uid_pool;
	struct accel accel; /* what runs machines here */
	struct loop *loop;
	int listen_fd;
	struct loop_source *on_listen;
	struct rlimit nofile; /* as it was; what workers start has it */
	bool serving;
	struct map *insts; /* id → struct inst */
	struct child *children;
	size_t n_children, n_recovering;
	struct peer *peers;
	size_t n_peers;
	bool stopping;     /* a shutdown runs: nothing is started any more */
	struct peer *stopping_for;
	size_t n_stopping;
	enum agent_end end;
	struct map *nets;  /* id → struct net; what more there is of networks: network-priv.h */
	struct net_watch *net_watch;
	bool networks_down; /* the shutdown has got to them */
	bool recovered;    /* recovery of instances has begun: networks are up, as far as can be */
	struct map *pools; /* id → struct pool_entry: storage-priv.h */
};

/* --- the cache: one for each instance (instance.c) --- */

struct inst {
	struct agent *agent;
	char id[INSTANCE_ID_LEN + 1];
	uint32_t uid_base;
	bool creating; /* its first worker has not finished */
	bool recover;  /* to be brought in order once networks are up */
	nics nics;     /* of its record: whose addresses are taken */
	ports ports;   /* likewise; taken while it runs */
	struct instance_status status;
	struct child *shim;
	int early_fd;        /* socket of clients that attached before the start; -1 */
	bool early_clients;
	struct loop_source *restart_timer, *recover_timer;
	int64_t backoff;     /* ns until the next restart */
	struct health *health;
	struct machine_watch *machine; /* of a machine that runs */
};

struct inst *inst_get(const struct agent *a, const char *id);
struct inst *inst_add(struct agent *a, const char *id, uint32_t uid_base);
void inst_remove(struct inst *i);
void inst_drop_early(struct inst *i); /* closes the socket of early clients: they see an end */
void inst_cancel_restart(struct inst *i);
void inst_set_nics(struct inst *i, const nics *list); /* copies */
void inst_set_ports(struct inst *i, const ports *list);
/* The shim has ended, or a worker has died half-way: a worker brings the instance in order. */
void inst_recover(struct agent *a, const char *id);
void inst_recover_all(struct agent *a); /* those that run */
void inst_recover_later(struct inst *i); /* an end that could not be saved: the disk may have room in a while */
void inst_free(void *i);
void cleanup_start(struct agent *a); /* a worker removes what other workers have left over */
/* Starts what recovery or a restart policy wants, after `delay` ns. */
void inst_restart_later(struct inst *i, int64_t delay);
/* A restart that was due, and cancelled for the sake of a worker that then failed, is due again. */
void inst_check_restart(struct inst *i);
/* The first host id for a new instance's range of UID_RANGE: one that no instance and no user of /etc/subuid
 * has, or, when it shares name spaces with another instance, that one's. */
int uid_base_for(const struct agent *a, const struct instance_spec *spec, uint32_t *base, struct error *err);
/* Stops a running instance for a shutdown; shutdown_done, when all are, puts pools away, shutdown_finish answers and ends
 * the agent. */
int shutdown_one(struct inst *i, int64_t timeout);
void shutdown_done(struct agent *a);
void shutdown_finish(struct agent *a);

/* --- workers (worker.c) --- */

/* One operation. In a worker, everything but body and answer is read-only. */
struct job {
	struct agent *agent;
	const struct handler *handler;
	void *body;            /* of handler's request table; NULL for the agent's own jobs */
	int fds[WIRE_FDS_MAX]; /* that came with the request */
	size_t nfds;
	struct peer *peer;     /* in the agent only */
	int sock;              /* to answer on; -1: nobody waits */
	int report;            /* to the agent */
	char id[INSTANCE_ID_LEN + 1];
	char exec_id[INSTANCE_ID_LEN + 1];
	char pool_id[INSTANCE_ID_LEN + 1]; /* of jobs about a pool itself */
	int listen_fd;         /* start: a listening socket that is there already; -1 */
	bool early_clients;
	uint32_t uid_base;     /* create: the range; recover: unused */
};

enum child_kind { CHILD_WORKER, CHILD_SHIM, CHILD_EXEC };

/* A process that is watched: a worker, or a shim that a worker has become or that was found. */
struct child {
	struct agent *agent;
	struct child *next;
	enum child_kind kind;
	pid_t pid;
	int pidfd, report;
	struct loop_source *on_end, *on_report;
	const struct handler *handler;
	struct peer *peer; /* kept open to see a hang-up; NULL */
	char id[INSTANCE_ID_LEN + 1], exec_id[INSTANCE_ID_LEN + 1], pool_id[INSTANCE_ID_LEN + 1];
	bool recovering; /* part of the agent's own start */
	bool stopping;   /* part of a shutdown */
	bool reaped;     /* a shim whose instance has been put away already */
};

/* Forks a worker for j; *j's descriptors stay the caller's. */
int worker_start(struct agent *a, const struct job *j, struct error *err);
/* In a process of a worker's that deals with strangers: no capability from here on, whatever it executes. Not 0: it failed. */
int worker_drop_powers(void);
int worker_drop_bounds(void); /* the part of it that comes before a change of the user */
/* Watches a shim that runs already. */
struct child *child_watch(struct agent *a, enum child_kind kind, pid_t pid, int pidfd, const char *id,
			  const char *exec_id);
void child_cancel(struct child *c);
void children_free(struct agent *a);

/* In a worker: tells the agent and waits until it knows. `extra` is consumed, may be NULL. Keys: action (of
 * an event), status, exit_code, shim (this worker turns into it), shim_pid and shim_start (of one that was found),
 * exec (this worker turns into an exec's shim), execs (found ones), restart, at_once, oom, not_started, unsaved, gone,
 * health, machine (it is one, and runs), other (whose guest takes itself for another one), healthy, answered, nics (those of the record, or its ports, have changed); of networks: see network-priv.h, of
 * pools: storage-priv.h. */
void job_report(const struct job *j, const char *action, const struct instance_status *status, json_t *extra);
int job_answer(const struct job *j, const void *reply, const int *fds, size_t nfds, struct error *err);
void job_progress(const struct job *j, const char *message, int64_t done, int64_t total);
void job_final(const struct job *j, const char *message); /* the same, and it cannot be called off any more */
/* Answers with the state of the instance. */
int job_answer_state(const struct job *j, const struct instance *i, struct error *err);

/* --- requests (request.c) --- */

enum states {
	S_CREATED = 1,
	S_RUNNING = 2,
	S_PAUSED = 4,
	S_RESTARTING = 8,
	S_EXITED = 16,
	S_DEAD = 32,
	S_SUSPENDED = 64,
	S_UP = S_RUNNING | S_PAUSED,
	S_DOWN = S_CREATED | S_EXITED | S_DEAD | S_SUSPENDED,
	S_ANY = 127,
};

/* A row of what the agent does about a request. */
struct handler {
	const char *name; /* of the request; "-name": one of the agent's own jobs */
	int (*inline_)(struct job *j, struct error *err); /* in the agent; answers by peer_answer */
	int (*work)(struct job *j, struct error *err);    /* in a worker */
	unsigned states;  /* in which it is permitted; 0: the instance need not exist */
	size_t id;        /* offset of the id in the body; NO_ID: it is about no instance */
	bool freezes;     /* a worker that is killed may leave instances frozen */
	bool cancel;      /* a worker is killed when the peer hangs up */
	const struct wire_request *request;
};
#define NO_ID ((size_t)-1)

extern const struct handler job_recover, job_start, job_health, job_cleanup, job_stop, job_networks, job_networks_down,
	job_network, job_firewall;
/* Every request of the wire has a row. */
bool requests_complete(struct error *err);
/* Finds the handler, parses the body, checks state; runs or forks. The frame is consumed in any case. */
int request_dispatch(struct agent *a, struct peer *p, struct wire_frame *f, struct error *err);
unsigned state_bit(const char *state);

/* --- peers (peer.c) --- */

int peers_listen(struct agent *a, struct error *err);
void peers_serve(struct agent *a); /* from here on connections are taken */
void peers_free(struct agent *a);
int peer_fd(const struct peer *p);
/* Queues an answer; the peer is closed once it is out. fds stay the caller's. */
void peer_answer(struct peer *p, const struct handler *h, const void *reply, const int *fds, size_t nfds);
void peer_ok(struct peer *p); /* an empty ok */
void peer_error(struct peer *p, const struct error *err);
void peer_subscribe(struct peer *p);
/* A worker answers this peer: with watch, on_hangup is called on c when it goes away; else it is closed here. */
void peer_hand_over(struct peer *p, struct child *c, bool watch);
void peer_close(struct peer *p);
void event_emit(struct agent *a, const char *action, const char *id, const char *exec_id, int64_t exit_code,
		const struct instance_status *status);

/* --- health checks (health.c) --- */

void health_start(struct inst *i, const json_t *check);
void health_stop(struct inst *i);
void health_result(struct inst *i, bool ok);
void health_ended(struct inst *i); /* the worker of a check, whether it had a result or not */
int health_work(struct job *j, struct error *err);
#define HEALTH_FILE "health.json" /* of a run: a msg_health */

/* --- reports (instance.c) --- */

void report_handle(struct child *c, const json_t *report);
void shim_ended(struct child *c);

/* --- on disk (record.c), for workers and recovery --- */

/* One file, instances/<id>/record.json, in the shape of msg_instance_create. */
int record_load(const struct agent *a, const char *id, struct msg_instance_create *out, struct error *err);
int record_save(const struct agent *a, const struct msg_instance_create *r, struct error *err);
/* That it has ended. Of one that goes when it ends nobody asks for that after a power cut: it outlives processes alone. */
int record_save_end(const struct agent *a, const struct msg_instance_create *r, struct error *err);
/* Any object of a table as a file. Written: whole and on disk, or not at all. */
int object_load(const struct field_table *t, const char *path, void *out, struct error *err);
int object_save(const struct field_table *t, const char *path, const void *object, struct error *err);
/* Replaces a file that need not outlive the host's running, by its only writer. */
int file_replace(const char *path, const char *text, size_t n, mode_t mode);
void record_free(struct msg_instance_create *r);
int record_write(const char *path, const struct msg_instance_create *r, struct error *err);
/* The instance's lock, held by flock on its directory: LOCK_EX or LOCK_SH. BUSY past the deadline, NOT_FOUND
 * when the instance is gone. */
int instance_lock(const struct agent *a, const char *id, int how, int64_t deadline_ns, int *lock, struct error *err);
void instance_unlock(int *lock);
int lock_file(int fd, int how, int64_t deadline_ns); /* -EBUSY past the deadline */
/* Is fd still what path names? Else it was removed while we waited for its lock. */
bool lock_is_of(int fd, const char *path);
/* A directory to work in that is nobody else's: made if need be, locked for as long as *lock is open. What a
 * killed worker has left in it is still there. */
int dir_make_locked(const char *path, int *lock, struct error *err);
/* One below STATE/agent/tmp, which goes with place_close, or at the agent's next start. */
struct place {
	char *path;
	int lock, dir;
};
#define PLACE_INIT ((struct place){.lock = -1, .dir = -1})
int place_open(const struct agent *a, const char *what, struct place *p, struct error *err);
void place_close(struct place *p);
#define LOCK_WAIT (30 * NS_PER_SEC)
char *instance_path(const struct agent *a, const char *id, const char *name);
char *run_path(const struct agent *a, const char *id, const char *name);
char *exec_path(const struct agent *a, const char *id, const char *exec_id, const char *name);
char *layer_path(const struct agent *a, const char *diff_id, const char *name);
void status_set_state(struct instance_status *s, const char *state);
void status_set_error(struct instance_status *s, const char *text);

/* A volume that a run has at a target. */
struct run_volume {
	char *pool_id, *id, *target;
	bool block;
	dev_t dev; /* of what is mounted there; ino 0: nothing yet */
	ino_t ino;
	bool changing; /* it is being attached or detached live; after a crash: detached */
};

/* A disk that is on its way into another pool (machine-move.c). */
struct run_move {
	char *id;       /* the volume's; the instance's: its root. NULL: none moves */
	char *from, *to; /* ids of pools */
	char *place;    /* what QEMU calls the new one; NULL: it knows nothing yet */
};

/* RUN/shim/<id>/state.json: there from before the first step of a start until the run has been put away;
 * NOT_FOUND: it does not run. */
struct run_state {
	pid_t shim; /* or the worker that becomes it */
	uint64_t shim_start;
	int64_t started_at; /* names the run: the record has the same once the start has worked */
	bool created;       /* the container is complete */
	struct container_state container;
	FIELD_LIST_OF(struct run_volume) volumes; /* in use as long as this says so */
	struct run_move move;
};
int run_load(const struct agent *a, const char *id, struct run_state *out, struct error *err);
int run_save(const struct agent *a, const char *id, const struct run_state *s, struct error *err);
void run_free(struct run_state *s);
void run_move_free(struct run_move *m);
/* A descriptor of the shim, or -1 when it has ended. */
int run_pidfd(const struct run_state *s);
int pid_open(pid_t pid, uint64_t start); /* pidfd of exactly that process, or -1 */
uint64_t pid_start_time(pid_t pid);      /* 0: there is none */
/* The exit status that a shim left in `file`; false when there is none. */
bool exit_file_read(const char *file, int64_t *code, int64_t *when);

/* --- the work itself --- */

/* Puts away a run that has ended: cgroup, mounts, run directory, record; reports. With the lock held. Does
 * nothing when there is none. *r is the instance's record, kept up to date. kill: one that still runs is
 * killed first. NO_SPACE: the end stands in *r and is reported, but is not on disk; to be repeated. */
int instance_reap(const struct job *j, struct msg_instance_create *r, bool kill, struct error *err);
/* instance-files.c: what has come for spec.files into an instance's directory, and from there into its configuration. */
int files_take(const struct job *j, const char *dir, const instance_files *files, struct error *err);
int files_load(const struct agent *a, const struct msg_instance_create *r, struct container_config *c, struct error *err);
/* The sockets that have come with the request for its start. */
int files_lend(const struct job *j, struct container_config *c, struct error *err);
/* Fills c from a record: what `docker run` would give. Name spaces that are shared stay open in this process
 * until it ends. */
struct volume_mounts;
int config_build(const struct agent *a, const struct msg_instance_create *r, const char *root,
		 const struct volume_mounts *volumes, struct container_config *c, struct error *err);
/* The part of it that says what the root is made of; root: where its volume is open. */
void config_root(const struct agent *a, const struct msg_instance_create *r, const char *root, struct container_config *c);
void config_maps(const struct msg_instance_create *r, struct container_config *c); /* its user name space */
int process_args(const struct msg_instance_create *r, char ***args, struct error *err);
struct container_mount *config_add_mount(struct container_config *c);
/* An option of a mount, "nosuid", into its flags; -EINVAL. */
int config_mount_flag(const char *option, unsigned long *set, unsigned long *clear);
/* bind.c: a mount of type bind, and what is mounted beneath where that comes along. */
int config_bind(const struct agent *a, const struct mount *m, bool idmap, struct container_config *c, struct error *err);
/* Whether its first process is an init such as systemd, and what the container then gets besides. */
bool runs_system(const struct msg_instance_create *r);
void config_system(const struct msg_instance_create *r, struct container_config *c);
bool can_limit_swap(void); /* on this host */
int limits_to_cgroup(const struct limits *l, struct cgroup_limits *out, struct error *err);
char *config_hostname(const struct msg_instance_create *r);
/* Its /etc/hostname, hosts and resolv.conf; etc_refresh: those of a running one whose nics have changed, unless they
 * were edited inside. */
int config_files_write(const struct agent *a, const struct msg_instance_create *r, struct error *err);
void etc_refresh(const struct agent *a, const struct msg_instance_create *r, const nics *before);
char **env_merge(char *const *base, char *const *more);
const char *join_target(const char *mode); /* id of "instance:ID", or NULL */
/* The health check in effect: the instance's over the image's. */
const struct health_check *health_effective(const struct msg_instance_create *r);
bool health_wanted(const struct msg_instance_create *r);
json_t *health_print(const struct msg_instance_create *r); /* for the report; NULL: none */
bool restart_wanted(const struct msg_instance_create *r);
/* The caller's process for an exec, and the confinement that the instance's own has. */
int config_exec(const struct msg_instance_create *r, char *const *command, char *const *env, const char *user,
		const char *workdir, struct container_config *c, struct error *err);
/* Where another program of wabe's lies; free it. */
char *program_beside(const struct agent *a, const char *name);
/* Turns this worker into wabe-shim; only returns on failure. */
struct shim_start {
	const char *id;
	const char *dir; /* RUN/shim/<id>, or the exec's */
	const char *log; /* directory, NULL: none */
	int64_t log_max_size, log_max_files;
	pid_t pid;
	int listen_fd, in, out, err_, terminal; /* -1: none */
	bool exec, wait_attach, stdin_once;
	const int *held; /* sockets that it keeps open until its end: reserved ports */
	size_t n_held;
};
int shim_exec(const struct agent *a, const struct shim_start *s, struct error *err);
/* Pipes between a process and its shim, our ends in in[1], out[0], err[0]; -1 where there are none. Their files
 * belong to owner, for the process may open them again as /dev/stdout. */
struct stdio_pipes {
	int in[2], out[2], err[2];
};
#define STDIO_PIPES_INIT ((struct stdio_pipes){{-1, -1}, {-1, -1}, {-1, -1}})
int stdio_pipes_open(struct stdio_pipes *p, bool tty, bool input, uid_t owner, struct container_stdio *io,
		     struct error *err);
/* A socket listening in dir (made if need be). */
int shim_listen(const char *dir, struct error *err);
/* Connects to a shim's socket and asks to attach with bits of enum shim_attach; a descriptor for control. */
int shim_attach(const char *dir, unsigned want, struct error *err);
/* A stream for control to read whose broken end cannot be taken for its end: guard_finish is the good end,
 * anything else (a crash too) gives the reader ECONNRESET. */
int guard_open(int *reader, int *writer, struct error *err);
void guard_finish(int *writer);
/* Answers with the reading end of such a stream; the worker goes on to fill the other. */
int answer_stream(struct job *j, const void *reply, int *writer, struct error *err);
/* Answers with such a stream of all that a regular file holds. */
int answer_file(struct job *j, int file, struct error *err);
/* Of a path, without slashes at its end; "/" of the root. Free it. */
char *file_last_part(const char *path);
/* What is at path in a root; free it with its table. of: whose root, for messages. */
int file_look(int root, const char *path, const char *of, struct msg_file *out, struct error *err);

int layers_lock(const struct agent *a, int how, int *lock, struct error *err);
int layers_present(const struct agent *a, char *const *layers, struct error *err); /* all of them are there */
/* Files a directory as the unpacked layer that it is known to be; it is gone then. size: bytes of file content. What is not
 * on the file system of the layers stays where it is: -ERROR_UNSUPPORTED. */
int layer_file(const struct agent *a, const char *dir, const char *diff_id, uint64_t size, struct error *err);
int work_create(struct job *j, struct error *err);
int work_start(struct job *j, struct error *err);
int work_stop(struct job *j, struct error *err);
int work_kill(struct job *j, struct error *err);
int work_pause(struct job *j, struct error *err);
int work_unpause(struct job *j, struct error *err);
/* Kills and removes what is left of a container of which no state was kept. */
int cgroup_sweep(const struct agent *a, const char *id, struct error *err);
int work_delete(struct job *j, struct error *err);
int work_update(struct job *j, struct error *err);
int work_recover(struct job *j, struct error *err);
int work_cleanup(struct job *j, struct error *err);
int work_stats(struct job *j, struct error *err);
int work_top(struct job *j, struct error *err);
int work_health_log(struct job *j, struct error *err);
int work_logs(struct job *j, struct error *err);
int work_exec_start(struct job *j, struct error *err);
int work_exec_delete(struct job *j, struct error *err);
int work_archive_get(struct job *j, struct error *err);
int work_archive_put(struct job *j, struct error *err);
int work_archive_stat(struct job *j, struct error *err);
int work_diff(struct job *j, struct error *err);
int work_export(struct job *j, struct error *err);
int work_commit(struct job *j, struct error *err);
int work_layer_unpack(struct job *j, struct error *err);
int work_tree_get(struct job *j, struct error *err);
int work_tree_stat(struct job *j, struct error *err);
int work_layer_make(struct job *j, struct error *err);
int work_layer_list(struct job *j, struct error *err);
int work_layer_delete(struct job *j, struct error *err);
int work_bootstrap(struct job *j, struct error *err);
int work_git_resolve(struct job *j, struct error *err);
int work_git_fetch(struct job *j, struct error *err);

/* --- git in a confined process (git-run.c) --- */

struct git_task {
	const struct msg_git *repository;
	bool fetch;  /* the commit's files come into the directory `tree` of work; else it is only looked for */
	uid_t uid;   /* whom it runs as: control's */
	int work;    /* a directory of that user's, all that can be written */
	bool agent;  /* an agent of ssh listens in it, at "agent" */
	int said;    /* pipe: the commit's id, or an error's kind and, in the next line, its message */
	int parent;  /* pipe whose other end the worker has alone */
};
/* In a child that is the first process of a name space of its own: with what it has begun it ends with this. */
__attribute__((noreturn)) void git_run(const struct git_task *t);

/* --- faults for tests (fault.c) --- */

/* Kills at a named place when the agent was started with WABE_FAULT=WHO:NAME; WHO is worker (the process
 * that comes by), agent (the agent, this process goes on), or both; hold stops the worker, so that something else can be killed. */
void fault_point(const char *name);
void fault_init(void);
