/* Running containers: name spaces, mounts, confinement, exec. The agent calls it for instances and
 * `wabe oci` for OCI bundles; both fill the same struct container_config. Neither runc, crun nor liblxc is
 * underneath. Blocking, for single-threaded callers (a forked worker, or the oci command).
 *
 * The life of one container:
 *   container_create   makes cgroup, mounts and the first process, which waits just before its exec
 *   container_start    lets it exec; says whether the exec worked
 *   container_exec     a further process in the very same confinement
 *   container_destroy  kills what is left, removes cgroup and mounts: safe to call again, at any state
 * The caller of container_create is the parent of the first process. It may turn itself into the shim by
 * exec once container_start has returned. */
#pragma once

#include "base/error.h"
#include "base/json.h"
#include "base/str.h"
#include "driver/container/cgroup.h"
#include "model/field.h"

struct id_map {
	uint32_t inside, host, count;
};

struct container_namespace {
	int flag;   /* CLONE_NEWPID … */
	char *path; /* join this one; NULL: a new one */
};

struct container_mount {
	char *source, *target; /* target absolute, looked up inside the root */
	char *type;            /* bind, tmpfs, proc, sysfs, devpts, mqueue, cgroup, overlay … */
	unsigned long flags, clear_flags; /* MS_* */
	unsigned long propagation;        /* MS_PRIVATE | MS_REC …; 0: as it is */
	char *data;            /* options for the file system, comma-separated */
	char *subpath;         /* bind: beneath source, links followed as long as they stay there; NULL */
	bool recursive_readonly, idmap;
	bool idmap_optional; /* with idmap: where the file system cannot be, its owners are nobody's inside */
	bool copy_up; /* what is at the target is copied into it first: a directory that is empty */
	const struct container_config *root; /* what is mounted is the root of that config, instead of a source; NULL */
	char **lowers; /* what is mounted is an overlay of these (two at least, lowest first) to read, instead of a source; NULL */
	const char *within; /* a directory of the root in which the target is looked up as in a root; NULL: the root */
	struct id_map *uid_maps, *gid_maps; /* of the mount; NULL with idmap: the container's */
	size_t n_uid_maps, n_gid_maps;
};

/* A file in memory, read-only; see container-files.c. */
struct container_file {
	char *target; /* absolute, looked up inside the root */
	void *data;
	size_t size;
	uint32_t uid, gid; /* inside */
	mode_t mode;
	bool is_socket;
	int socket; /* not bound yet: it listens there, instead of data; stays the caller's */
};

struct container_device {
	char *path; /* inside */
	char type;  /* c, b, p */
	int64_t major, minor;
	mode_t mode;
	uint32_t uid, gid;
};

struct container_rlimit {
	char *type; /* RLIMIT_NOFILE */
	uint64_t soft, hard;
};

struct container_hook {
	char *path, **args, **env;
	int64_t timeout; /* seconds, 0: none */
};
enum container_hook_kind { HOOK_PRESTART, HOOK_CREATE_RUNTIME, HOOK_CREATE_CONTAINER, HOOK_START_CONTAINER, HOOK_POSTSTART, HOOK_POSTSTOP, HOOK_KINDS };

struct container_process {
	char **args, **env;
	char *cwd;
	char *user;                    /* "name[:group]" looked up inside the root; NULL: uid, gid as they are */
	uint32_t uid, gid, umask;
	bool has_umask;
	uint32_t *additional_gids;
	size_t n_additional_gids;
	char **groups;                 /* further groups by name or number, looked up inside the root */
	uint64_t cap_bounding, cap_effective, cap_permitted, cap_inheritable, cap_ambient; /* bits 1 << CAP_* */
	struct container_rlimit *rlimits;
	size_t n_rlimits;
	bool terminal, no_new_privileges;
	uint16_t rows, columns;
	int64_t oom_score_adj;
	bool has_oom_score_adj;
	char *apparmor_profile, *selinux_label; /* for the exec; UNSUPPORTED where the kernel lacks them */
};

struct container_config {
	char *id;
	/* The root: either rootfs, a directory that is ready, or an overlay of lowers (lowest first), upper and work
	 * (beside each other); all mounted idmapped by uid_maps when there is a user namespace. */
	char *rootfs;
	char **lowers;
	char *upper, *work;
	bool readonly_root;
	unsigned long root_propagation; /* MS_* */
	bool no_pivot;

	char *hostname, *domainname;
	struct container_namespace *namespaces;
	size_t n_namespaces;
	struct id_map *uid_maps, *gid_maps;
	size_t n_uid_maps, n_gid_maps;
	int64_t timens_monotonic, timens_boottime; /* offsets, ns */
	struct container_mount *mounts;
	size_t n_mounts;
	struct container_file *files;
	size_t n_files;
	struct container_device *devices;
	size_t n_devices;
	char **masked_paths, **readonly_paths;
	struct pairs sysctls;
	struct pairs annotations;
	struct cgroup_config cgroup;
	json_t *seccomp; /* OCI linux.seccomp object; NULL: unconfined */
	struct container_process process;
	bool init;       /* wabe's own first process, which forwards signals and reaps */
	struct { struct container_hook *items; size_t n; } hooks[HOOK_KINDS];
	char *bundle;    /* for hooks' state; NULL: none */
};
void container_config_init(struct container_config *c); /* zero, and defaults */
void container_config_free(struct container_config *c);
void container_process_free(struct container_process *p);
/* hooks in the shape of OCI's config.json; *items malloc'd */
void container_hooks_parse(const json_t *list, struct container_hook **items, size_t *n);

/* Standard descriptors of the first process; the terminal's master comes back instead when
 * process.terminal is set. All stay the caller's. */
struct container_stdio {
	int in, out, err;   /* -1: /dev/null */
	int preserve_fds;   /* further descriptors 3 … 2 + n that are passed on (LISTEN_FDS) */
	int terminal_master; /* out */
	const int *pass;    /* the caller's descriptors that become 3 … instead; NULL: they are its own 3 … */
};

/* What is kept of a created container, as JSON on disk by the caller: enough for exec, kill, freeze,
 * update and destroy by any later process. */
struct container_state {
	char *id;
	pid_t pid;
	uint64_t pid_start; /* field 22 of /proc/PID/stat: tells a reused pid */
	json_t *config;     /* what exec needs of the config */
	struct cgroup_state cgroup;
	int gate[2];        /* numbers of descriptors in the first process: it waits at [0], reports at [1] */
	uint64_t gate_inodes[2]; /* of those pipes: afterwards the numbers may be descriptors of the container's own */
	int start_fd;       /* not saved, -1 after parsing: the other end of gate[0] */
	int result_fd;      /* not saved: the other end of gate[1] */
	int sync_fd;        /* not saved: while it is open, the first process dies with the caller */
	int pidfd;          /* not saved */
};
json_t *container_state_print(const struct container_state *s);
int container_state_parse(const json_t *json, struct container_state *s, struct error *err);
void container_state_free(struct container_state *s);
bool container_state_alive(const struct container_state *s);

/* Builds everything up to the exec; NO_COMMAND, NO_EXEC when the command is not there or cannot be executed.
 * On failure nothing is left behind. No mount becomes visible on the
 * host: the root lives in the mount namespace of the container alone, and goes with it. The upper directory
 * is the caller's, who made it with the mode that the container's "/" is to have; it belongs to root (INVALID when it
 * does not), for on disk everything has the owners that are seen inside.
 * The caller stays non-dumpable (PR_SET_DUMPABLE) afterwards. */
int container_create(const struct container_config *c, struct container_stdio *io, struct container_state *out, struct error *err);
/* The two halves of it, between which the caller can work while the first process does: *out is complete after the
 * first. A start that comes before the second is done waits for it. */
int container_begin(const struct container_config *c, const struct container_stdio *io, struct container_state *out,
		    struct error *err);
int container_await(const struct container_config *c, struct container_stdio *io, struct container_state *s, struct error *err);
/* Until here (or container_start) the first process dies with the caller; from here on it waits for a
 * start from any process. For callers that end before the start. */
void container_hand_over(struct container_state *s);
/* NO_COMMAND, NO_EXEC when the exec fails all the same (then the process has ended). Works on a parsed state too. */
int container_start(struct container_state *s, struct error *err);
/* A further process in the same name spaces, cgroup, seccomp filter, capabilities (those of p; a
 * privileged exec has all that the container's bounding set on this host allows). Gives its pid (a child of
 * the caller) once its exec has worked. */
int container_exec(const struct container_state *s, const struct container_process *p, bool privileged,
		   struct container_stdio *io, pid_t *pid, struct error *err);
/* A further bind mount in a running container (CONFLICT when it has ended), its target made if need be; and takes away
 * again what is mounted on target if that is `source` (as stat tells of it on the host), else nothing. */
struct stat;
int container_mount_add(const struct container_state *s, const struct container_mount *m, struct error *err);
int container_mount_remove(const struct container_state *s, const char *target, const struct stat *source,
			   struct error *err);
/* signo to the first process, or to all processes. NOT_FOUND when it has ended. */
int container_kill(const struct container_state *s, int signo, bool all, struct error *err);
int container_destroy(struct container_state *s, struct error *err);

/* Runs the hooks of one kind that the state keeps (poststart, poststop; also those of a config), with the
 * state as the OCI specification prints it (status: its word for what the container is) on their input. */
int container_run_hooks(const struct container_state *s, enum container_hook_kind kind, const char *status, struct error *err);

/* The root as a directory: that of the first process while it runs, else the overlay mounted again, visible
 * to nobody but the holder of the descriptor. Owners show as host ids. Descriptor or negative. */
int container_root_open(const struct container_state *s, struct error *err);
/* The same from a config, for a container that does not run. */
int container_root_mount(const struct container_config *c, struct error *err);

/* A program that starts processes in containers whose root is the host's root calls this first in main: it
 * executes itself again from a read-only mount (or a sealed copy), so that nobody in a container can write
 * to the program through /proc/PID/exe (CVE-2019-5736). Comes back at once where that is so already. */
int container_protect_self(struct error *err);
/* Closes the descriptor of that mount where it is still open, which takes the kernel a while (it waits for all
 * processors): done while a first process works, or before descriptors of the caller's are passed on. */
void container_close_self(void);
/* Where the program's file lies, also after container_protect_self, which hides it from /proc/self/exe; free it.
 * NULL when it cannot be read. */
char *container_program_path(void);

/* The default profile: capabilities, masked and read-only paths, mounts of /proc, /sys, /dev …, device
 * nodes and rules, seccomp; what `docker run` gives. Fills the empty parts of c. */
struct container_defaults {
	bool privileged, unmask_paths;
	int64_t shm_size;
	const char *seccomp;           /* default | unconfined | JSON text */
	char *const *cap_add, *const *cap_drop;
};
/* Adds the rules for what every container may use (null, zero, terminals …, and mknod of anything). */
void container_allow_standard_devices(struct container_config *c);
/* What of /proc and /sys no container sees, or only reads. */
void container_mask_paths(struct container_config *c);
int container_apply_defaults(struct container_config *c, const struct container_defaults *d, struct error *err);
