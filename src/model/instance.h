/* The instance: the one thing that runs. Its spec is what is wanted, its status what is. */
#pragma once

#include "model/machine.h"
#include "model/network.h"
#include "model/storage.h"

struct restart_policy {
	char *policy;        /* no | on-failure | always | unless-stopped */
	int64_t max_retries; /* for on-failure; 0: without end */
};

struct health_check {
	char **command; /* ["CMD", …], ["CMD-SHELL", text], ["NONE"] as in an OCI/Docker image config */
	int64_t interval, timeout, start_period; /* ns; 0: 30 s, 30 s, 0 */
	int64_t start_interval;                  /* ns, instead of interval within start_period; 0: as interval */
	int64_t retries;                         /* 0: 3 */
};

struct ulimit {
	char *name; /* nofile, nproc … */
	int64_t soft, hard; /* -1: unlimited */
};

struct device {
	char *path;        /* on the host */
	char *target;      /* inside; NULL: the same */
	char *permissions; /* of "rwm"; NULL: rwm */
};

struct mount {
	char *type;        /* bind | tmpfs | volume | image: its files, to read */
	char *source;      /* absolute path on the host for bind; name for volume; reference for image */
	char *target;      /* absolute path inside */
	bool read_only;
	bool recursive;    /* bind: what is mounted below comes along; default true */
	char *propagation; /* private | rprivate | slave | rslave | shared | rshared */
	char *subpath;     /* beneath source */
	int64_t size;      /* tmpfs, bytes; 0: half the memory */
	char *mode;        /* tmpfs, octal text; NULL: 1777 */
	int64_t uid, gid;  /* tmpfs: whose it is */
	int64_t inodes;    /* tmpfs: most files; 0: by its size */
	bool create;       /* bind: a source that is not there is made, a directory; else there is no instance */
	bool anonymous;    /* volume: it was made for this mount, and goes with the instance */
	char **options;    /* nosuid, nodev, noexec … */
};

/* A secret or config, put inside as a file of its own in memory: neither on the instance's disk nor in its image. */
struct instance_file {
	char *kind;    /* secret | config | socket: at which an operation of control's own listens, see kept_lend_socket */
	char *source;  /* its name or id */
	char *target;  /* absolute path inside; NULL: /run/secrets/NAME, /NAME */
	int64_t uid, gid;
	char *mode;    /* octal text; NULL: 0444 */
	int64_t size;  /* bytes, when the agent gets it */
};
typedef FIELD_LIST_OF(struct instance_file) instance_files;

/* Whose it is, when a workload's controller has made it. */
struct instance_owner {
	char *workload;     /* id; NULL: nobody's */
	char *run;          /* 25 characters, this one's alone: also the end of its name */
	int64_t slot;       /* from 1 on: which of the workload's instances it is */
	int64_t generation; /* of the template that it was made from */
	int64_t attempt;    /* how many of this generation in the slot have ended before it, in a row */
};

struct io_throttle {
	char *device; /* path of a block device on the host */
	int64_t rate; /* bytes or operations a second */
};
typedef FIELD_LIST_OF(struct io_throttle) io_throttles;
struct io_weight {
	char *device;
	int64_t weight; /* 10…1000 */
};

struct hugepage_limit {
	char *size; /* "2MB" */
	int64_t limit;
};

struct limits {
	int64_t cpus; /* nano CPUs of quota; 0: unlimited */
	int64_t cpu_shares, cpu_quota, cpu_period; /* as in the Docker API: shares 2…262144, microseconds */
	char *cpuset_cpus, *cpuset_mems;
	int64_t memory, memory_swap, memory_reservation; /* bytes; swap is memory plus swap, -1 unlimited */
	int64_t pids;      /* 0, -1: unlimited */
	int64_t io_weight; /* 10…1000, 0: default */
	FIELD_LIST_OF(struct io_weight) io_weights; /* of single devices */
	io_throttles io_read_bps, io_write_bps, io_read_iops, io_write_iops;
	FIELD_LIST_OF(struct hugepage_limit) hugepages;
	int64_t shm_size; /* of /dev/shm, bytes; default 64 MiB */
};

struct log_config {
	char *driver;     /* file | none */
	int64_t max_size; /* bytes before rotation; default 10 MiB; 0: never */
	int64_t max_files; /* kept, the current one counted; default 5 */
};

struct instance_spec {
	char *name;  /* a new one is made up where none is given */
	char *kind;  /* container | machine */
	char *image; /* reference as given; "scratch": a machine with an empty disk */
	struct pairs labels;
	struct pairs annotations; /* notes of whoever made it: kept, never looked at by wabe itself */

	/* the process; NULL/empty: the image's */
	char **entrypoint, **command;
	char **env; /* KEY=VALUE, or KEY alone to remove one of the image's */
	char *workdir, *user; /* user[:group], names or numbers */
	char **groups; /* further groups */
	bool tty, stdin_open, stdin_once;
	bool init; /* a first process that reaps */
	char *hostname, *domainname;
	char *stop_signal;
	int64_t stop_timeout; /* ns; default 10 s */
	bool auto_remove;
	struct restart_policy restart;
	struct health_check health;

	/* confinement */
	char *userns; /* private (default) | host */
	bool privileged, no_new_privileges, read_only, unmask_paths;
	char **cap_add, **cap_drop; /* names with or without CAP_, or ALL */
	char *seccomp;              /* default | unconfined | a profile as JSON text */
	FIELD_LIST_OF(struct device) devices;
	char **device_rules; /* "c 1:3 mr" */
	struct pairs sysctls;
	FIELD_LIST_OF(struct ulimit) ulimits;
	int64_t oom_score_adj;
	struct limits limits;
	struct machine_spec machine; /* of kind machine */

	/* shared or private name spaces: private | host | instance:NAME-OR-ID */
	char *pid_mode, *ipc_mode, *uts_mode, *cgroup_mode;
	char *network; /* private (default) | none | host | instance:NAME-OR-ID */
	attachments networks; /* of private: empty is the network "default" */
	ports ports;          /* published */
	bool publish_all;     /* also those that it exposes, each on a free port of the host */
	char **expose;        /* "80/tcp": ports that it listens on, besides those that its image names */
	char **links;         /* "INSTANCE:ALIAS": its hosts file knows the other's address on a network of both by that name */
	char **dns, **dns_search, **dns_options, **extra_hosts; /* extra_hosts: name:address,
							      * name:host-gateway: the host's own */

	FIELD_LIST_OF(struct mount) mounts;
	instance_files files;
	char *pool;        /* name of the pool in which its root lives */
	int64_t root_size; /* most that its root may take, bytes; 0: no limit of its own */
	struct snapshot_schedule schedule; /* of its root */
	struct log_config log;
	struct instance_owner owner;
};

/* A volume that a mount of the spec means, as control has resolved it. */
struct volume_use {
	char *name; /* as the mount's source */
	char *volume_id, *pool_id;
	char *kind; /* filesystem | block */
};

/* An image that a mount of the spec means, likewise. */
struct image_use {
	char *name; /* as the mount's source */
	char *image_id;
	char **layers; /* diff_ids, lowest first */
};

struct instance_status {
	char *state; /* created | running | paused | restarting | exited | dead */
	int64_t pid; /* of the first process on the host, 0 when not running */
	int64_t exit_code;
	bool oom_killed;
	char *error; /* why the last start failed, or NULL */
	int64_t started_at, finished_at; /* ns since the epoch */
	int64_t restart_count;
	int64_t vsock_cid; /* while it runs and has one; else 0 */
	char *health; /* NULL (no check) | starting | healthy | unhealthy */
	bool stopped_by_user; /* keeps restart policies from bringing it back */
	char *moves_to;  /* the daemon that a machine is moving to, which alone knows how that ends once it was told to run it; NULL */
	bool moves_keep; /* it is to stay here, stopped */
	bool moves_on;   /* by post-copy: the other daemon was told to run it, and has the rest of its memory from here */
	bool moved;      /* it runs there now */
	bool arriving;   /* it runs here, while the rest of its memory comes from the daemon that had it */
};

struct instance {
	char *id;      /* 64 hexadecimal digits */
	char *project; /* "default" */
	int64_t created_at;
	bool transient; /* part of an operation of control's: removed at control's start, should that have been cut off */
	char *image_id; /* digest of the image's config */
	int64_t uid_base; /* first host id of its range of 65536; 0: shares the host's */
	char *pool_id;    /* of the root's pool */
	nics nics;        /* what control has made of spec.networks */
	ports ports;      /* and of spec.ports: each has its host port */
	char **exposed;   /* "80/tcp": the image's and spec.expose */
	FIELD_LIST_OF(struct volume_use) volumes;
	FIELD_LIST_OF(struct image_use) images;
	struct instance_spec spec;
	struct instance_status status;
};

/* Of kind machine; one that begins with an empty disk. */
bool instance_is_machine(const struct instance_spec *s);
bool instance_is_blank(const struct instance_spec *s);

extern const struct field_table instance_table, instance_spec_table, instance_status_table, limits_table,
	health_check_table, volume_use_table, image_use_table, mount_table, instance_file_table, instance_owner_table;

/* The exit status that an instance has whose start has failed so: as a shell would have it, or 128. */
static inline int64_t start_failure_code(enum error_kind kind) {
	return kind == ERROR_NO_COMMAND ? 127 : kind == ERROR_NO_EXEC ? 126 : 128;
}

#define INSTANCE_ID_LEN 64
/* [a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}, as Docker's names. */
int instance_name_check(const char *name, struct error *err);
int instance_id_check(const char *id, struct error *err);
/* Further checks for tables: an absolute path without ".." and control characters; KEY=VALUE or KEY; a signal. */
int path_check(const char *path, struct error *err);
int env_check(const char *entry, struct error *err);
int signal_check(const char *name, struct error *err);
/* "quiet_heron": a random name of two words; free it. */
char *instance_name_random(void);
/* "SIGTERM", "TERM", "15", "SIGRTMIN+3" → number, or 0. */
int signal_from_name(const char *name);
const char *signal_name(int signo); /* "SIGTERM"; NULL when unknown */
