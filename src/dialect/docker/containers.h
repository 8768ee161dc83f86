/* What the files about containers share: the bodies of requests, with their tables, and the parts of answers. */
#pragma once

#include "dialect/docker/docker-priv.h"

/* Where a container keeps what Docker gives back and a spec has no word for: the members "Config" and "HostConfig" of its
 * creation that are listed in container-create.c, as JSON. Docker's own annotations are the other keys. */
#define NOTE_PREFIX "docker."
#define NOTE_CONFIG NOTE_PREFIX "Config"
#define NOTE_HOST NOTE_PREFIX "HostConfig"
#define NOTE_NETWORK NOTE_PREFIX "NetworkMode" /* a plain text: every list shows it */

/* ---- bodies (container-dto.c) ---- */
struct docker_health {
	char **test;
	int64_t interval, timeout, start_period, start_interval, retries;
};

struct docker_config {
	char *hostname, *domainname, *user, *image, *workdir, *stop_signal, *mac;
	bool attach_stdin, attach_stdout, attach_stderr, tty, open_stdin, stdin_once, args_escaped, network_disabled;
	char **env, **command, **entrypoint, **on_build, **shell;
	struct pairs labels;
	json_t *exposed_ports, *volumes;
	int64_t stop_timeout; /* s; STOP_TIMEOUT_NONE: not given */
	struct docker_health health;
};
#define STOP_TIMEOUT_NONE INT64_C(-2147483648)

struct docker_throttle {
	char *path;
	int64_t rate;
};
struct docker_weight {
	char *path;
	int64_t weight;
};
struct docker_device {
	char *host, *target, *permissions;
};
struct docker_device_request {
	char *driver;
	char **ids;
	int64_t count;
	json_t *capabilities, *options;
};
struct docker_ulimit {
	char *name;
	int64_t soft, hard;
};
struct docker_restart {
	char *name;
	int64_t max_retries;
};

/* "Resources": of HostConfig, and alone the body of an update. */
struct docker_resources {
	int64_t cpu_shares, memory, nano_cpus, io_weight, cpu_period, cpu_quota, cpu_rt_period, cpu_rt_runtime;
	int64_t memory_reservation, memory_swap, swappiness, kernel_memory, kernel_memory_tcp, pids;
	int64_t cpu_count, cpu_percent, io_max_ops, io_max_bandwidth; /* of Windows */
	char *cgroup_parent, *cpuset_cpus, *cpuset_mems;
	bool oom_kill_disable;
	char **device_rules;
	FIELD_LIST_OF(struct docker_weight) weights;
	FIELD_LIST_OF(struct docker_throttle) read_bps;
	FIELD_LIST_OF(struct docker_throttle) write_bps;
	FIELD_LIST_OF(struct docker_throttle) read_iops;
	FIELD_LIST_OF(struct docker_throttle) write_iops;
	FIELD_LIST_OF(struct docker_device) devices;
	FIELD_LIST_OF(struct docker_device_request) device_requests;
	FIELD_LIST_OF(struct docker_ulimit) ulimits;
	struct docker_restart restart;
};
#define SWAPPINESS_NONE INT64_C(-1)

struct docker_log {
	char *type;
	struct pairs options;
};

struct docker_host {
	struct docker_resources resources;
	char *network_mode, *ipc_mode, *pid_mode, *uts_mode, *userns_mode, *cgroupns_mode, *cgroup, *runtime, *isolation;
	char *cidfile;
	bool auto_remove, privileged, read_only, init, publish_all;
	int64_t oom_score_adj, shm_size;
	char **cap_add, **cap_drop, **groups, **security;
	struct pairs storage, sysctls, annotations;
	struct docker_log log;
	json_t *masked, *read_only_paths, *console_size;
};
extern const struct field_table docker_config_table, docker_resources_table, docker_host_table;

/* Where Go takes a text for a list of one (Cmd, Entrypoint …), the body is made to hold the list. */
void docker_widen_lists(json_t *config, json_t *host);

/* ---- from a body to a spec (container-create.c, container-host.c) ---- */
/* What is decoded of one creation. */
struct docker_create {
	struct core *core;
	json_t *config, *host, *networking; /* as they came; host, networking: NULL */
	struct docker_config c;
	struct docker_host h;
	const struct image *image;
	json_t *warnings; /* an array */
};
/* Makes a body of an older version of the API say the same in DOCKER_API's (container-versions.c): config is the whole body,
 * *host and networking are parts of it or NULL. INVALID for what could not be had then. */
int docker_older_create(int api, json_t *config, json_t **host, const json_t *networking, struct error *err);
int docker_spec_config(struct docker_create *d, struct instance_spec *spec, struct error *err);
int docker_spec_host(struct docker_create *d, struct instance_spec *spec, struct error *err);
/* l is empty before; what dockerd would leave out with a warning is said in warnings. */
int docker_limits(struct core *c, const struct docker_resources *r, struct limits *l, json_t *warnings,
		  struct error *err);
int docker_restart_policy(const struct docker_restart *from, struct restart_policy *to, struct error *err);
/* The members of the creation that are kept as notes. */
void docker_keep_notes(const struct docker_create *d, struct instance_spec *spec);
void docker_create(struct http_request *req);

/* Whether a log's option tag can be had (log-details.c). */
int docker_log_tag_check(const char *tag, struct error *err);

/* ---- one container ---- */
void docker_name_taken(struct http_request *req, const char *before, const char *name);
bool docker_name_ok(const char *name);

/* ---- how it looks (container-state.c) ---- */
/* "created", "running" … as Docker calls it. */
const char *docker_state(const struct instance *i);
bool docker_runs(const struct instance *i); /* also paused, or about to be restarted */
/* "Up 5 minutes (healthy)" */
char *docker_status_text(const struct instance *i, int64_t now);
/* Program and arguments that run; NULL-terminated views into i and image (which may be NULL), free the array alone. */
const char **docker_argv(const struct instance *i, const struct image_config *image);
/* A note of the creation as an object; NULL: there is none. Free it. */
json_t *docker_note(const struct instance *i, const char *key);
char *docker_mode(const char *own); /* "instance:X" as "container:X"; free it */

/* ---- handlers ---- */
void docker_list(struct http_request *req);
/* The rows of a list of these, with their sizes. */
json_t *docker_container_rows(struct core *c, struct instance_snap *const *snaps, int api);
void docker_prune(struct http_request *req);
void docker_inspect(struct http_request *req);
void docker_update(struct http_request *req);
void docker_commit(struct http_request *req);
void docker_top(struct http_request *req);
json_t *docker_host_config(struct core *c, const struct instance *i, int api);
/* HostConfig.NetworkMode alone; free it. */
char *docker_network_mode(const struct instance *i);
json_t *docker_container_config(const struct instance *i, const struct image_config *image, int api);

/* A text, "" for NULL. */
static inline void set_text(json_t *object, const char *key, const char *value) {
	json_object_set_new(object, key, json_from_str(value ? value : ""));
}
