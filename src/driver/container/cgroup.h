/* Control groups: one interface, two implementations (cgroup-v1.c, cgroup-v2.c). On a host whose
 * controllers sit in v1, a group is made in each hierarchy; freezing and killing use v2's cgroup.freeze and
 * cgroup.kill where the v2 tree is mounted, the freezer else. */
#pragma once

#include "base/error.h"
#include "base/json.h"

struct cgroup_device_rule {
	bool allow;
	char type;            /* a, b, c */
	int64_t major, minor; /* -1: any */
	char access[4];       /* of "rwm" */
};

struct cgroup_throttle {
	int64_t major, minor;
	uint64_t rate;
};

struct cgroup_hugepage {
	char *size; /* "2MB" */
	uint64_t limit;
};

/* Limits as in the OCI runtime specification (config-linux.md#control-groups); 0 means not set, -1
 * unlimited. */
struct cgroup_limits {
	int64_t memory, memory_swap, memory_reservation, memory_swappiness;
	bool has_swappiness, oom_kill_disable;
	uint64_t cpu_shares, cpu_period, cpu_idle;
	int64_t cpu_quota, cpu_burst, realtime_runtime;
	uint64_t realtime_period;
	char *cpus, *mems;
	int64_t pids;
	uint64_t io_weight; /* 10…1000 */
	struct cgroup_throttle *weights; /* of single devices, as rates */
	struct cgroup_throttle *read_bps, *write_bps, *read_iops, *write_iops;
	size_t n_weights, n_read_bps, n_write_bps, n_read_iops, n_write_iops;
	struct cgroup_hugepage *hugepages;
	size_t n_hugepages;
	json_t *unified; /* v2 file → value */
};

struct cgroup_config {
	char *path; /* beneath the root of each hierarchy: "wabe/<daemon>/<id>" */
	struct cgroup_limits limits;
	struct cgroup_device_rule *devices; /* in order; empty: everything is allowed */
	size_t n_devices;
};
void cgroup_config_free(struct cgroup_config *c);
void cgroup_limits_free(struct cgroup_limits *l);
/* From an OCI linux.resources object (NULL is an empty one). The rules of "devices" go to *devices when that
 * is not NULL. */
int cgroup_limits_from_oci(const json_t *resources, struct cgroup_limits *out, struct cgroup_device_rule **devices,
			   size_t *n_devices, struct error *err);

/* What was made, for later and for the state file. */
struct cgroup_state {
	char *path;
	int version;
	struct cgroup_device_rule *devices; /* as set; empty: everything is allowed */
	size_t n_devices;
};
json_t *cgroup_state_print(const struct cgroup_state *s);
int cgroup_state_parse(const json_t *json, struct cgroup_state *s, struct error *err);
void cgroup_state_free(struct cgroup_state *s);

int cgroup_version(void); /* 1 (controllers in v1, hybrid or not) or 2 */
/* Makes the group in every hierarchy and sets limits and device rules. EXISTS when a live one is there (an
 * empty one left over is taken). On failure nothing is left. */
int cgroup_create(const struct cgroup_config *c, struct cgroup_state *out, struct error *err);
/* The parts of cgroup_create, so that the first process can do its own meanwhile. cgroup_begin makes the group in the v2
 * tree, where it can be cloned into; cgroup_finish makes the others (until then out->version is 0) and sets the limits, after
 * which it can enter; cgroup_set_devices sets the rules. */
int cgroup_begin(const struct cgroup_config *c, struct cgroup_state *out, struct error *err);
int cgroup_finish(const struct cgroup_config *c, struct cgroup_state *s, struct error *err);
int cgroup_set_devices(const struct cgroup_config *c, struct cgroup_state *s, struct error *err);
/* Kills what is in a group that was made, or begun, and removes it. */
void cgroup_undo(struct cgroup_state *s);
/* A descriptor of the group in the v2 tree, for clone3's CLONE_INTO_CGROUP; -1 where no v2 tree is mounted.
 * It is one on hosts with controllers in v1 too.
 *
 * How to start a process in the group fast: clone3 with this descriptor, and in the child, which still has
 * one thread, the host's mounts and the host's user, cgroup_enter(s, 0), before it unshares the cgroup
 * name space. Moving another process (pid) takes a lock that waits for 5 to 15 ms. */
int cgroup_open_v2(const struct cgroup_state *s);
/* The same for a further process of a group in which pid is the first: where the group has handed its controllers on
 * to groups below, it takes no process itself, and this is the group of pid. */
int cgroup_open_v2_beside(const struct cgroup_state *s, pid_t pid);
/* Whether there is a v2 tree whose groups can be handed over. */
bool cgroup_can_delegate(void);
/* Hands the group in the v2 tree over: uid may make groups below it and move its processes between them. Limits
 * stay ours, and how many groups there may be is limited. */
int cgroup_delegate(const struct cgroup_state *s, uid_t uid, gid_t gid, struct error *err);
/* Moves a process in; 0 is the caller (which has one thread). */
int cgroup_enter(const struct cgroup_state *s, pid_t pid, struct error *err);
/* Changes the limits that are set in l; all or nothing as far as the kernel lets. */
int cgroup_update(const struct cgroup_state *s, const struct cgroup_limits *l, struct error *err);
/* Allows one more device, or takes an allowance away again; the state is the caller's to keep. */
int cgroup_set_device(struct cgroup_state *s, const struct cgroup_device_rule *rule, struct error *err);
int cgroup_freeze(const struct cgroup_state *s, bool freeze, struct error *err);
bool cgroup_is_frozen(const struct cgroup_state *s);
/* All processes of the group and the groups below. *pids malloc'd. */
int cgroup_pids(const struct cgroup_state *s, pid_t **pids, size_t *n, struct error *err);
/* Signals all; SIGKILL at once by cgroup.kill, or frozen so that no fork escapes; waits until it is empty
 * for SIGKILL. */
int cgroup_kill(const struct cgroup_state *s, int signo, struct error *err);
/* Removes the group and groups below; it must be empty (BUSY after one second). A missing one is fine. */
int cgroup_remove(const struct cgroup_state *s, struct error *err);

struct cgroup_stats {
	uint64_t cpu_ns, cpu_user_ns, cpu_system_ns, throttled_ns, throttled_periods, periods;
	/* memory_cache: of memory, what the kernel can take back at once (inactive file pages); a limit that is
	 * not set is UINT64_MAX */
	uint64_t memory, memory_max, memory_limit, memory_cache, memory_failures, swap;
	uint64_t pids, pids_limit;
	uint64_t read_bytes, write_bytes, read_ops, write_ops;
};
int cgroup_stats(const struct cgroup_state *s, struct cgroup_stats *out, struct error *err);
/* How many times the kernel's OOM killer has struck in the group. */
uint64_t cgroup_oom_kills(const struct cgroup_state *s);
/* What the container sees as /sys/fs/cgroup: mounts the group's directories at target, read-only unless
 * writable, in the caller's (new) mount name space, in which the host's /sys/fs/cgroup is still there: before
 * pivot_root. target may be "/proc/self/fd/N". unified: the v2 tree's group alone. */
int cgroup_mount(const struct cgroup_state *s, const char *target, bool unified, bool writable, struct error *err);
/* The same of a host with controllers in v1, attached nowhere; -EINVAL from kernels before 6.15, which cannot. */
int cgroup_tree_v1(const struct cgroup_state *s, bool writable);
