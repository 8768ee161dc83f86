/* What the first process of a machine whose root is a container image's (src/guest) is told: the container that it shall run.
 * A file of JSON that the agent writes beside that root, in the directory that the guest sees by virtiofs:
 *
 *   config   this, read once at the guest's start
 *   root/    the root, with the files and volumes that are mounted into it
 *   exit     written by the guest before it powers off: the status of the process, in decimal, and a newline
 *
 * What the process reads comes over a port with the name GUEST_INPUT: SHIM_STDIN and SHIM_RESIZE frames of shim/protocol.h, an empty
 * SHIM_STDIN being the end. The guest says hello when it has opened it. What the process writes goes to the console.
 *
 * A further process (wabe exec) has a virtio port of its own, plugged in for it, whose name begins with GUEST_PORT. Frames of
 * shim/protocol.h go over it, and those of enum guest_frame. The guest says hello, the host what to run, the guest that it does
 * (SHIM_READY) or why it cannot; then SHIM_STDIN and SHIM_RESIZE one way, SHIM_STDOUT, SHIM_STDERR and last SHIM_EXIT the other
 * way. A port that the host closes is the process's end. */
#pragma once

#include "model/field.h"

#define GUEST_TAG "guest" /* of that directory */
#define GUEST_VERSION 2
#define GUEST_CONFIG_MAX ((size_t)32 << 20)
#define GUEST_FILE_MAX (16 << 20) /* bytes of base64 */
#define GUEST_PORT "io.wabe.exec."
#define GUEST_INPUT "io.wabe.input"
#define GUEST_RUN_MAX ((size_t)4 << 20)

enum guest_frame {
	GUEST_RUN = 32,    /* to the guest: a guest_run as JSON, at most GUEST_RUN_MAX */
	GUEST_FAILED = 33, /* from the guest: {"kind", "message"} of an error, at most SHIM_FRAME_MAX */
	GUEST_HELLO = 34,  /* from the guest: it has opened the port. A second one is another guest's: it has been started anew */
};

struct guest_nic {
	char *interface, *mac;
	char **addresses; /* "10.84.0.5/20" */
	char **gateways;  /* at most one of each family */
	int64_t mtu;      /* 0: the usual one */
};
struct guest_disk { /* a block volume */
	char *serial, *target;
	bool read_only;
};
struct guest_mount { /* as the kernel takes them: tmpfs alone */
	char *type, *target, *data;
	int64_t flags; /* MS_* */
};
struct guest_file { /* in memory: secrets and configs */
	char *target, *data; /* base64 */
	int64_t uid, gid, mode;
};
struct guest_rlimit {
	char *type; /* RLIMIT_NOFILE */
	int64_t soft, hard; /* -1: unlimited */
};
struct guest_config {
	int64_t version; /* GUEST_VERSION: another one is refused */
	char *id;
	/* the process; args and env are whole, user and groups are looked up inside the root */
	char **args, **env;
	char *workdir, *user;
	char **groups;
	bool tty, stdin_open, init, no_new_privileges;
	FIELD_LIST_OF(struct guest_rlimit) rlimits;
	char *stop_signal; /* that a power-down becomes; NULL: SIGTERM */
	char *hostname, *domainname;
	struct pairs sysctls;
	int64_t shm_size; /* bytes */
	bool read_only;
	FIELD_LIST_OF(struct guest_mount) mounts;
	FIELD_LIST_OF(struct guest_file) files;
	FIELD_LIST_OF(struct guest_disk) disks;
	FIELD_LIST_OF(struct guest_nic) nics;
};

struct guest_run {
	char **command, **env; /* env: besides the container's */
	char *user, *workdir;  /* NULL: the container's */
	bool tty, stdin_open;
	int64_t rows, columns; /* 0: unknown */
};

extern const struct field_table guest_config_table, guest_run_table;
