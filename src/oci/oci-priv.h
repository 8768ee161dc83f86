/* What the files of `wabe oci` share. */
#pragma once

#include "base/error.h"
#include "base/json.h"
#include "driver/container/container.h"

#include <getopt.h>

#define OCI_VERSION "1.1.0"

struct oci {
	char *root;       /* directory of the states */
	bool systemd_cgroup, json_log;
	int log_fd;       /* -1: standard error */
	const char *name; /* argv[0] */
};

struct oci_command {
	const char *name, *usage, *help;
	int (*run)(struct oci *o, int argc, char **argv, struct error *err); /* exit status, or negative */
};
extern const struct oci_command oci_commands[];

/* Logs to --log (and, as runc does, errors to standard error as well). */
void oci_log(struct oci *o, const char *level, const char *fmt, ...) PRINTF(3, 4);
int oci_usage(struct oci *o, const char *command, struct error *err);

/* spec.c: a bundle's config.json into a container_config. */
int spec_load(struct oci *o, const char *bundle, const char *id, struct container_config *out, struct error *err);
int spec_process(struct oci *o, const json_t *process, struct container_process *out, struct error *err);
/* spec-mounts.c */
int spec_mounts(const json_t *mounts, struct container_config *out, struct error *err);
int spec_id_maps(const json_t *list, struct id_map **out, size_t *n, struct error *err);
unsigned long spec_propagation(const char *name); /* 0 when unknown */

/* state.c: one directory a container, with state.json. */
struct record {
	struct container_state state;
	char *bundle, *status; /* created, or started */
	int64_t created;
	int lock; /* exclusive on the directory while held */
};
int record_make(struct oci *o, const char *id, struct record *r, struct error *err); /* EXISTS */
int record_load(struct oci *o, const char *id, struct record *r, struct error *err);
int record_save(struct oci *o, struct record *r, struct error *err);
int record_remove(struct oci *o, const char *id, struct error *err);
void record_free(struct record *r);
const char *record_status(const struct record *r); /* created, running, paused, stopped */
int id_check(const char *id, struct error *err);

/* terminal.c: passing a terminal on, or standing between it and ours. */
int console_send(const char *socket, int master, struct error *err);
int terminal_relay(int master, int pidfd);

int oci_create(struct oci *o, int argc, char **argv, struct error *err);
int oci_run(struct oci *o, int argc, char **argv, struct error *err);
int oci_start(struct oci *o, int argc, char **argv, struct error *err);
int oci_exec(struct oci *o, int argc, char **argv, struct error *err);
int oci_state(struct oci *o, int argc, char **argv, struct error *err);
int oci_kill(struct oci *o, int argc, char **argv, struct error *err);
int oci_delete(struct oci *o, int argc, char **argv, struct error *err);
int oci_list(struct oci *o, int argc, char **argv, struct error *err);
int oci_ps(struct oci *o, int argc, char **argv, struct error *err);
int oci_pause(struct oci *o, int argc, char **argv, struct error *err);
int oci_resume(struct oci *o, int argc, char **argv, struct error *err);
int oci_update(struct oci *o, int argc, char **argv, struct error *err);
int oci_features(struct oci *o, int argc, char **argv, struct error *err);
int oci_spec(struct oci *o, int argc, char **argv, struct error *err);

/* What create and run do with a container whose first process may have to go again. */
int oci_delete_record(struct oci *o, struct record *r, struct error *err);
/* Follows a child: passes signals on, gives its exit status. The signals have to be blocked before the child
 * can end. */
void oci_block_signals(void);
int oci_wait(pid_t pid, int pidfd, int master);
/* Whether descriptors 3 to 2 + n are the caller's, so that none of ours is passed on in their place. */
int oci_check_preserved(int n, struct error *err);
int oci_write_pid(const char *path, pid_t pid, struct error *err);
