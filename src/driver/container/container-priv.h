/* What the files of the container driver share. Parent: the caller of container_create or container_exec,
 * in the host's namespaces with all power. Child: the first process (or one of exec), inside. */
#pragma once

#include "driver/container/confine.h"
#include "driver/container/container.h"

#include <signal.h>

struct user_ids;

/* container-sync.c: the channel between parent and child, a SOCK_SEQPACKET pair. A closed peer shows as
 * -ECONNRESET: each side gives up when the other has gone. */
enum sync_type {
	SYNC_PID = 1, /* value: the child's pid, from the one that cloned it */
	SYNC_CGROUP,  /* the control groups are made */
	SYNC_MAPPED,  /* uid and gid maps are written */
	SYNC_MOUNT,   /* descriptor of a detached mount for mounts[value], none: to make itself; -1: the root */
	SYNC_SECCOMP, /* value: flags; data: the filter */
	SYNC_HOOKS,   /* from the child: everything is mounted; from the parent: the hooks have run */
	SYNC_READY,   /* from the child: it waits at the gate; descriptor: the terminal's master */
	SYNC_ERROR,   /* value: errno; data: one byte of kind, message */
	SYNC_RELEASE, /* from the parent: from here on, live without me; and the answer */
};
struct sync_message {
	enum sync_type type;
	int value, fd;
	char *data;
	size_t n;
};
int sync_pair(int fds[2]);
int sync_send(int sock, enum sync_type type, int value, const void *data, size_t n, int fd);
int sync_recv(int sock, struct sync_message *m);
void sync_message_free(struct sync_message *m);
/* Sends *err, or writes it to the pipe of the gate; never returns. */
void sync_fail(int sock, struct error *err) __attribute__((noreturn));
/* The error in a SYNC_ERROR message. */
int sync_error(const struct sync_message *m, struct error *err);
/* *err packed as in a SYNC_ERROR message, for the pipe of the gate. */
void sync_pack_error(const struct error *err, struct buf *out);
int sync_unpack_error(int errnum, const char *data, size_t n, struct error *err);

#define MOUNT_OWN (-2)
/* The child's end of things. */
struct child {
	const struct container_config *c; /* NULL for exec */
	const struct container_process *process;
	int sync, root;
	int *mounts;      /* what the parent has sent, by index; -1; MOUNT_OWN */
	bool has_cgroup, mapped, hooks_ran, released, has_filter, wants_filter, sets_rlimits;
	struct sock_fprog filter;
	unsigned filter_flags;
	int gate_in, gate_hold, result; /* gate_hold: our own writing end, so that the gate never ends */
	int master, slave;
	int preserve_fds;
	int null_file, null_dir; /* mounts that mask, once there are any */
};
/* Takes messages until the flag that `type` sets (or mount number `index`) is there; ends the process when
 * the parent has gone. */
void child_await(struct child *k, enum sync_type type, int index);

/* container-root.c: detached mounts, made by the parent. Descriptor, or negative. */
int root_mount(const struct container_config *c, int userns, struct error *err);
/* The overlay of kernels that take no detached mounts as layers (before 6.15): in a mount namespace of its own. */
int root_overlay_compat(const struct container_config *c, int userns, struct error *err);
/* A user namespace with the maps alone. */
int userns_open(const struct id_map *uids, size_t n_uids, const struct id_map *gids, size_t n_gids, struct error *err);
int userns_write_maps(pid_t pid, const struct id_map *uids, size_t n_uids, const struct id_map *gids, size_t n_gids,
		      struct error *err);
/* The maps of a namespace that was joined. */
int userns_read_maps(pid_t pid, struct container_config *c, struct error *err);
/* Files are made as the container's root, with all capabilities of the caller's, or no longer so. -1 and errno. */
int act_as_container_root(const struct container_config *c, bool on);
bool config_new_namespace(const struct container_config *c, int flag);
const struct container_namespace *config_namespace(const struct container_config *c, int flag);
/* The host's id of an id inside; -1 when it is not mapped. */
int64_t id_to_host(const struct id_map *maps, size_t n, uint32_t inside);
bool mount_is_cgroup(const struct container_mount *m);
/* The parent makes this mount (binds, what a user namespace may not mount, and what it can make meanwhile). */
bool mount_is_parents(const struct container_config *c, const struct container_mount *m);
int parent_mount(const struct container_config *c, const struct container_mount *m, int userns, struct error *err);

/* container-mount.c: in the child, before and after pivot_root. */
int child_mounts(struct child *k, struct error *err);
int child_files(struct child *k, struct error *err); /* once everything else is mounted */
int child_pivot(struct child *k, struct error *err);
int child_finish_root(struct child *k, struct error *err);
/* fsopen … fsmount with comma-separated options; a detached mount. */
int fs_mount_new(const char *type, const char *source, const char *options, uint64_t attrs, struct error *err);
uint64_t mount_attrs(unsigned long ms_flags);
/* What a mount goes on, made if need be; whether it may. */
int mount_open_target(int root, const char *path, bool directory, struct error *err);
int mount_check_target(const struct container_mount *m, int target, struct error *err);
/* Attaches a detached mount at what target is open on. */
int mount_attach(int mount, int target);
int mount_change(int mount, bool recursive, uint64_t set, uint64_t clear, uint64_t propagation);

/* container-copy.c: what is in one directory into another, with owners, modes and times (copy_up). */
int copy_tree(int from, int to, struct error *err);

/* container-dev.c */
int dev_populate(const struct container_config *c, int dev, bool host_root, struct error *err);
bool dev_is_fresh(const struct container_config *c);
int dev_create_others(struct child *k, struct error *err);
int dev_bind_console(struct child *k, struct error *err);

/* container-tty.c: a new terminal of the devpts at /dev/pts beneath root. */
int tty_open(int root, const struct container_process *p, uint32_t uid, int *master, int *slave, struct error *err);
int tty_adopt(int slave);

/* container-create.c: leads a child up to the gate (c NULL: one of exec). */
int parent_await_ready(const struct container_config *c, pid_t pid, int sync, struct container_stdio *io, struct error *err);
#define EXEC_WAIT (10 * NS_PER_SEC)
/* Until fd can be read, or has ended; TIMEOUT after EXEC_WAIT: the container can stop a process that comes in. */
int parent_await_exec(int fd, int64_t deadline, struct error *err);

/* container-child.c: the first process, from its clone to its exec; never returns. */
void child_run(struct child *k) __attribute__((noreturn));
/* The end that the first process and those of exec share: waits at the gate, confines itself, executes. */
void child_finish(struct child *k, const struct user_ids *ids) __attribute__((noreturn));
/* What both need at their beginning: a session, standard descriptors; closes what is not meant for them. */
int child_take_stdio(struct child *k, const struct container_stdio *io, struct error *err);

/* container-users.c */
struct user_ids {
	uint32_t uid, gid;
	uint32_t *groups;
	size_t n_groups;
	char *home;
};
int users_resolve(int root, const struct container_process *p, struct user_ids *out, struct error *err);
void user_ids_free(struct user_ids *u);

/* container-process.c: the last steps of the child. */
int process_enter_cwd(const struct container_process *p, struct error *err);
/* Ids, groups, capabilities (CAP_SYS_ADMIN stays until process_confine where the filter needs it). */
int process_take_identity(const struct container_process *p, const struct user_ids *u, bool keep_admin, struct error *err);
int process_confine(const struct container_process *p, const struct sock_fprog *filter, unsigned flags, struct error *err);
/* Whether the command is there: most that are missing are found out before anything starts. */
int process_look_up(const struct container_process *p, struct error *err);
/* Only comes back on failure. */
int process_exec(const struct container_process *p, const char *home, struct error *err);
/* In the parent, on the child: what may need more power than the child has. */
int process_set_oom_score(const struct container_process *p, pid_t pid, struct error *err);
/* By the child on itself (pid 0) while it is still root; by the parent where the child is in a user namespace,
 * in which nobody may raise a limit. */
int process_set_rlimits(const struct container_process *p, pid_t pid, struct error *err);
int process_check(const struct container_process *p, struct error *err);

/* container-init.c: forks; comes back in the child alone, the caller stays as the one that reaps. */
int init_fork(struct error *err);

/* container-clone.c: a child of the caller in new and joined namespaces. */
struct clone_request {
	uint64_t flags;             /* CLONE_NEW* that are new */
	const struct container_namespace *joined;
	size_t n_joined;
	int pidfd;                  /* instead of joined: all namespaces of this process; -1 */
	int cgroup;                 /* CLONE_INTO_CGROUP; -1 */
	const struct cgroup_state *enter; /* where namespaces are joined, before that; NULL: none */
	const int *keep;            /* all that the child inherits, besides 0 to 2 + preserve_fds and its channel; -1: none */
	size_t n_keep;
	int preserve_fds;
};
/* As fork: 0 in the child, which has closed all but sync[1] and what it is to keep; in the parent its pid and *pidfd. */
pid_t clone_child(const struct clone_request *q, int sync[2], int *pidfd, struct error *err);
/* Closes all descriptors from `from` on but those in keep (any order, -1: none), which gets sorted. */
void close_all_but(unsigned from, int *keep, size_t n);
/* The numbers under which the process has descriptors from the caller: what is opened from here on gets higher ones. */
struct numbers {
	int *items;
	size_t n;
};
void numbers_occupy(const struct container_stdio *io, struct numbers *out);
void numbers_release(struct numbers *n);
/* All that the process inherits; free it. */
int *stdio_kept(const struct container_stdio *io, const int gate[2], int result, size_t *n);

/* container-hooks.c */
int hooks_run(const struct container_hook *hooks, size_t n, const char *state, struct error *err);
char *hooks_state(const char *id, const char *status, pid_t pid, const char *bundle, const struct pairs *annotations);
json_t *hooks_print(const struct container_hook *hooks, size_t n);

/* container-state.c */
int proc_start_time(pid_t pid, uint64_t *start);
/* pidfd of the first process; -ESRCH when it has ended or its pid belongs to another now. */
int state_open_pid(const struct container_state *s);
json_t *state_config_print(const struct container_config *c);
/* What state_config_print kept. */
int state_config_parse(const json_t *json, struct container_config *c, struct error *err);
