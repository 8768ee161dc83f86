/* Inside of the control group code. Everything works on descriptors of a group's directories, so that the
 * implementation for v2 can be tried on plain files where a kernel has no controllers in v2. */
#pragma once

#include "driver/container/cgroup.h"

/* The hierarchies that wabe uses. On a v2 host only CGROUP_UNIFIED is mounted. */
enum cgroup_hierarchy {
	CGROUP_CPU,
	CGROUP_CPUACCT,
	CGROUP_MEMORY,
	CGROUP_PIDS,
	CGROUP_DEVICES,
	CGROUP_IO, /* blkio */
	CGROUP_CPUSET,
	CGROUP_HUGETLB,
	CGROUP_FREEZER,
	CGROUP_SYSTEMD, /* name=systemd */
	CGROUP_UNIFIED, /* the v2 tree */
	CGROUP_HIERARCHIES
};

/* Where they are mounted; found once a process. mount is NULL where there is none; two that are mounted
 * together have the same string. */
struct cgroup_host {
	int version;
	char *mount[CGROUP_HIERARCHIES];
};
const struct cgroup_host *cgroup_host(void);
const char *cgroup_hierarchy_name(enum cgroup_hierarchy h); /* "memory"; for messages and v1 mounts */
/* Fills a host from the text of a mountinfo file; for cgroup_host, and for tests. */
void cgroup_host_parse(const char *mountinfo, struct cgroup_host *out);

/* The directories of one group, opened when they are first asked for. */
struct cgroup_dirs {
	const char *path; /* of the group, the caller's */
	unsigned known;   /* bits: those that fd is right for */
	int fd[CGROUP_HIERARCHIES];
};
/* d's still; -1: it has none there. */
int cgroup_dir(struct cgroup_dirs *d, enum cgroup_hierarchy h);
void cgroup_dirs_close(struct cgroup_dirs *d);

/* Values to write, in order. One that the kernel refuses is tried again after the others, because some hold
 * only together (memory.limit_in_bytes and memory.memsw.limit_in_bytes, quota and burst). */
struct cgroup_value {
	int dir;
	char *file, *value, *old;
	bool done;
};
struct cgroup_values {
	struct cgroup_value *items;
	size_t n;
};
void cgroup_values_add(struct cgroup_values *v, int dir, const char *file, const char *fmt, ...) PRINTF(4, 5);
/* With undo, what was there before is read first and put back when a later one fails. */
int cgroup_values_write(struct cgroup_values *v, bool undo, struct error *err);
void cgroup_values_free(struct cgroup_values *v);

/* What has to be written for the limits; UNSUPPORTED names what the host lacks. */
int cgroup_v1_plan(const struct cgroup_limits *l, struct cgroup_dirs *d, struct cgroup_values *out, struct error *err);
int cgroup_v2_plan(const struct cgroup_limits *l, int dir, struct cgroup_values *out, struct error *err);
void cgroup_v1_stats(struct cgroup_dirs *d, struct cgroup_stats *out);
void cgroup_v2_stats(int dir, struct cgroup_stats *out);
/* The hierarchies of a v1 host that a group with these limits needs, as bits. */
unsigned cgroup_v1_needs(const struct cgroup_limits *l, bool devices);
/* Gives a new group in v1's cpuset the processors and memory nodes of its parents. root: the mount. */
int cgroup_v1_init_cpuset(int root, const char *path, struct error *err);
/* Turns on all controllers that root has for the group `path` below it. */
int cgroup_v2_enable(int root, const char *path, struct error *err);

json_t *cgroup_devices_print(const struct cgroup_device_rule *rules, size_t n);
/* -EINVAL */
int cgroup_devices_parse(const json_t *list, struct cgroup_device_rule **rules, size_t *n);
int cgroup_v1_device(int dir, const struct cgroup_device_rule *rule, struct error *err);
int cgroup_v1_devices(int dir, const struct cgroup_device_rule *rules, size_t n, struct error *err);
int cgroup_v2_devices(int dir, const struct cgroup_device_rule *rules, size_t n, struct error *err);

/* Reading small files of a group. The number of a file that holds one ("max" is UINT64_MAX), or after a key
 * at the start of a line; 0 when it is not there. */
uint64_t cgroup_read_number(int dir, const char *file);
uint64_t cgroup_read_key(int dir, const char *file, const char *key);
bool cgroup_has(int dir, const char *file);
int cgroup_unsupported(struct error *err, const char *what, const char *needs);
