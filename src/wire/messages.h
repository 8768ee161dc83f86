/* The bodies of the messages between control and agent, and their tables. See messages.c for the list of
 * requests with their documentation. Nouns and descriptors only: never an argv or a path that the agent
 * would follow on the host unchecked. */
#pragma once

#include "model/image.h"
#include "model/inside.h"
#include "model/instance.h"
#include "model/migration.h"
#include "wire/network-messages.h"
#include "wire/storage-messages.h"
#include "wire/wire.h"

struct msg_empty {
	char nothing;
};

struct msg_hello { /* reply of "hello" */
	char *version;
	int64_t cgroup_version; /* 1, 2 */
	char *kernel, *architecture;
	int64_t cpus, memory;
	char *cpu_list, *node_list; /* processors and memory nodes that are on line: "0-3,7" */
	bool userns, idmapped_mounts, overlay_idmap, swap_limit;
	char *engine, *engine_reason; /* what runs machines: kvm | tcg, and why not kvm */
	char *directory; /* STATE/agent: where files that people may look for lie */
};

struct msg_id {
	char *id; /* of an instance */
};

/* What a machine gets besides its disk: "kernel", "initrd", "seed" (a medium for cloud-init), "cdrom0" …, "floppy0"; a file each, that
 * comes along in the order of the list. The agent keeps them with the instance, so that it can be started again without control. */
#define MEDIA_MAX 8
struct msg_medium {
	char *name;
};
typedef FIELD_LIST_OF(struct msg_medium) media;
struct msg_instance_media { /* "instance-media": these instead of those that it has; it need not run */
	char *id;
	media media;
};

struct msg_machine_input {
	char *id;
	struct machine_input input;
};

/* "instance-create": makes directories, uid range and the agent's own record. Idempotent for the same id. The descriptors: what is
 * in its files, where it has any, then its media. */
struct msg_instance_create {
	struct instance instance;
	struct image_config config;
	char **layers; /* diff_ids, lowest first; all unpacked before. A machine without: its root is a disk */
	char *disk;    /* that begins as this template (digest of the disk image, made before); NULL: empty */
	struct msg_volume_ref root; /* its root begins as a copy of this root of another instance; id NULL: empty */
	bool linked;   /* that copy shares what is common */
	bool memory;   /* and goes on with that one's memory, at its first start: of a machine that runs or is suspended, or of a snapshot
			* with memory */
	media media;
};

struct msg_instance_state { /* reply of most instance requests */
	char *id;
	int64_t uid_base;
	struct instance_status status;
};

struct msg_instance_states { /* reply of "instance-list" */
	FIELD_LIST_OF(struct msg_instance_state) instances;
};

struct msg_instance_stop {
	char *id;
	char *signal;    /* NULL: the instance's own */
	int64_t timeout; /* ns until SIGKILL; negative: the instance's own */
};

struct msg_instance_kill {
	char *id, *signal;
};

struct msg_instance_delete {
	char *id;
	bool force; /* kills it first */
	bool unstarted; /* only if it has never been started: CONFLICT */
};

struct msg_instance_update { /* the whole new spec; limits apply at once, ports at once if it runs */
	char *id;
	struct instance_spec spec;
	ports ports; /* as in struct instance */
	FIELD_LIST_OF(struct volume_use) volumes;
	bool back;   /* to what it was: processors that a machine does not let go stay until its next start */
};

/* "attach": reply carries one descriptor that speaks shim/protocol.h. */
struct msg_attach {
	char *id;
	char *exec_id; /* NULL: the instance's first process */
	bool stdin_, stdout_, stderr_; /* JSON names: stdin, stdout, stderr */
};

struct msg_exec_start { /* reply: msg_exec_started with the attached stream's descriptor unless detach */
	char *id, *exec_id; /* exec_id: 64 hexadecimal digits */
	char **command, **env;
	char *user, *workdir;
	bool tty, stdin_open, privileged, detach;
	int64_t rows, columns; /* 0: not set */
};
struct msg_exec_started {
	int64_t pid;
};
struct msg_exec { /* "exec-state", "exec-delete" */
	char *id, *exec_id;
};
struct msg_exec_state {
	bool running;
	int64_t pid, exit_code;
};

struct nic_counters { /* as the instance sees them */
	char *name;
	int64_t rx_bytes, rx_packets, rx_errors, rx_dropped, tx_bytes, tx_packets, tx_errors, tx_dropped;
};

struct msg_stats {
	int64_t time; /* ns */
	int64_t cpu_ns, cpu_user_ns, cpu_system_ns, throttled_ns, throttled_periods, periods;
	int64_t memory, memory_max, memory_limit, memory_cache, memory_failures, swap;
	int64_t pids, pids_limit;
	int64_t read_bytes, write_bytes, read_ops, write_ops;
	int64_t online_cpus, system_cpu_ns;
	FIELD_LIST_OF(struct nic_counters) interfaces; /* of its own network: not of the host's */
};

struct msg_machine_password {
	char *id;
	struct inside_password change;
};

/* A machine that moves to another daemon. Descriptors of both: what the agents say to each other, memory, its disks (migration_channels).
 * "machine-migrate": reply when it runs there, with progress; any failure but UNAVAILABLE: it goes on here. UNAVAILABLE: as long as
 * its status has moves_to the other daemon is to be asked. "machine-receive": reply when it runs here. post_copy: a part of its memory
 * may come later (`arriving` in its status); the source's progress is final from then on. */
struct msg_machine_migrate {
	char *id, *to, *secret;
	bool keep, post_copy;
	int64_t downtime, bandwidth; /* as struct migration_request */
};
struct msg_machine_receive {
	char *id, *secret;
	bool post_copy;
};
struct msg_machine_settle { /* "machine-settle": ends a migration that was cut off, where that can be told */
	char *id;
	bool asked, there; /* the other daemon was asked; whether it runs there, or has run */
};

struct process_row {
	int64_t pid, parent; /* as the host sees them */
	char *user;          /* the id inside the instance */
	char *state, *command;
	int64_t memory, cpu_ns, started_at;
};
struct msg_processes {
	FIELD_LIST_OF(struct process_row) processes;
};

/* Reply of "instance-health": the last results of its checks, oldest first. */
#define HEALTH_RESULTS 5
#define HEALTH_OUTPUT 4096 /* bytes that are kept of one */
struct health_result {
	int64_t started_at, finished_at;
	int64_t exit_code; /* -1: it could not be run, or took too long */
	char *output;
};
struct msg_health {
	int64_t failures; /* in a row */
	FIELD_LIST_OF(struct health_result) results;
};

/* Streams that replies carry (archive-get, instance-diff, instance-export, instance-commit, bootstrap) are sockets to be read to
 * their end: a whole one ends with 0 bytes, a broken one (also when the agent's worker dies) with ECONNRESET. */

/* Files of an instance. "archive-get": reply msg_file and a pipe from which a tar of path is read.
 * "archive-put": a pipe or file with a tar comes along and is unpacked into the directory path.
 * "archive-stat": reply msg_file. */
struct msg_archive {
	char *id, *path;
	bool keep_owner;        /* put: owners from the archive; else the directory's */
	bool no_overwrite_dir;  /* put: a file never replaces a directory, nor the other way round */
};
struct msg_file {
	char *name, *link_target;
	int64_t size, mode, mtime; /* mode: st_mode; mtime: ns */
};

/* "instance-diff": the reply carries a stream of records: A (added), C (changed) or D (deleted), the path, a NUL.
 * Paths are any bytes. All of them are at most CHANGES_MAX bytes. */
#define CHANGES_MAX ((size_t)32 << 20)

/* "instance-export": reply a pipe with a tar of the whole root. "instance-commit": reply a pipe with a tar
 * of the changes as an OCI layer; frozen meanwhile if asked. take: of one that does not run: when the stream has ended,
 * its changes have become that layer on this host (if its pool lies where layers do), and its root is as its image's. */
struct msg_export {
	char *id;
	bool pause, take;
};

struct msg_layer {
	char *diff_id;
	char *media_type; /* "layer-unpack": of the blob, which comes as a descriptor */
};
struct msg_layer_unpacked {
	int64_t size; /* bytes of content */
};
/* The tree that layers make, one upon the other, without an instance. "tree-get": reply msg_file and a stream with a tar of
 * path; what is there is named by path's last part. "tree-stat": the same without the stream. "layer-make": the tar that comes
 * along, owners kept, is unpacked into the directory path, which is made (0755) where it is missing; reply: a stream with a tar
 * of what that changes, as an OCI layer. When the stream has ended, that layer is unpacked on this host. */
struct msg_tree {
	char **layers; /* diff_ids, lowest first; all unpacked */
	char *path;
	bool follow;      /* tree-get, tree-stat: a link at the end of path is followed */
	int64_t uid, gid; /* layer-make: of directories that are made on the way to path */
};

struct msg_layers { /* "layer-list" */
	char **diff_ids;
};

/* Reply: a pipe with a tar; progress messages on the way. kernel: of the files of a kernel's package and of those that it needs, and a
 * second descriptor, of wabe-init. */
struct msg_bootstrap {
	char *suite;   /* bookworm, bookworm … as in the host's sources */
	char *variant; /* minbase | system | kernel */
	char **include;
};

/* A git repository, which the agent's host fetches as nobody in particular (model/git.h). "git-resolve": which commit is meant.
 * "git-fetch": the same, and a stream with a tar of its files, with those of submodules. Those lie in the archive as files named
 * ".git", which say where the agent had the submodule's own. */
struct msg_git {
	char *url, *authorization, *ref, *directory; /* as in struct git_source */
	bool keep; /* with the directory .git; only of a whole repository */
};
struct msg_git_commit {
	char *commit;
};

struct msg_progress { /* body of every "progress" message */
	char *message;
	int64_t done, total;
	bool final; /* it cannot be called off any more */
};

struct msg_shutdown { /* stops every instance, then the agent itself ends */
	int64_t timeout;
};

struct msg_event { /* body of each further "ok" of "events", after a first, empty one */
	int64_t time;
	char *action; /* start die oom health restart pause unpause … */
	char *id, *exec_id;
	int64_t exit_code;
	struct instance_status status;
};

extern const struct field_table msg_machine_input_table, msg_instance_media_table, msg_empty_table, msg_hello_table, msg_id_table, msg_instance_create_table,
	msg_instance_state_table, msg_instance_states_table, msg_instance_stop_table, msg_instance_kill_table,
	msg_instance_delete_table, msg_instance_update_table, msg_attach_table, msg_exec_start_table,
	msg_machine_migrate_table, msg_machine_receive_table, msg_machine_settle_table, msg_machine_password_table, msg_exec_started_table, msg_exec_table, msg_exec_state_table, msg_stats_table, msg_processes_table, msg_health_table,
	msg_archive_table, msg_file_table, msg_export_table, msg_layer_table,
	msg_layer_unpacked_table, msg_tree_table, msg_layers_table, msg_bootstrap_table, msg_git_table, msg_git_commit_table, msg_progress_table, msg_shutdown_table,
	msg_event_table;
