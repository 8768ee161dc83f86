/* What the first process of a machine whose root is a container image's (src/guest) is told: the container that it shall run.
 * A file of JSON that the agent writes beside that root, in the directory that the guest sees by virtiofs:
 *
 *   config   this, read once at the guest's start
 *   root/    the root, with the files and volumes that are mounted into it
 *   exit     written by the guest before it powers off: the status of the process, in decimal, and a newline */
#pragma once

#include "model/field.h"

#define GUEST_TAG "guest" /* of that directory */
#define GUEST_VERSION 1
#define GUEST_CONFIG_MAX ((size_t)16 << 20)

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
	FIELD_LIST_OF(struct guest_disk) disks;
	FIELD_LIST_OF(struct guest_nic) nics;
};

extern const struct field_table guest_config_table;
