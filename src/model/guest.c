/* The table of what a guest is told. Both sides are wabe's; the guest checks it all the same. */
#include "model/guest.h"

#define ADDRESSES_MAX 64

static const struct field nic_fields[] = {
	FIELD(struct guest_nic, interface, FIELD_STRING, .flags = FIELD_REQUIRED, .max = 15, .doc = "Its name inside"),
	FIELD(struct guest_nic, mac, FIELD_STRING, .flags = FIELD_REQUIRED, .max = 17, .doc = "By which it is found"),
	FIELD(struct guest_nic, addresses, FIELD_STRINGS, .max = ADDRESSES_MAX, .doc = "With their prefixes"),
	FIELD(struct guest_nic, gateways, FIELD_STRINGS, .max = 2, .doc = "Of its default routes"),
	FIELD(struct guest_nic, mtu, FIELD_INT, .max = 65535, .doc = "Largest packet; 0: the usual"),
};
static const struct field_table nic_table = {
	"guest_nic", "An interface of a guest", sizeof(struct guest_nic), nic_fields, ARRAY_SIZE(nic_fields), NULL,
};

static const struct field disk_fields[] = {
	FIELD(struct guest_disk, serial, FIELD_STRING, .flags = FIELD_REQUIRED, .doc = "By which it is found"),
	FIELD(struct guest_disk, target, FIELD_STRING, .flags = FIELD_REQUIRED, .doc = "Its node inside"),
	FIELD(struct guest_disk, read_only, FIELD_BOOL, .doc = "It is not written"),
};
static const struct field_table disk_table = {
	"guest_disk", "A block volume of a guest", sizeof(struct guest_disk), disk_fields, ARRAY_SIZE(disk_fields), NULL,
};

static const struct field mount_fields[] = {
	FIELD(struct guest_mount, type, FIELD_STRING, .flags = FIELD_REQUIRED, .doc = "Of the file system"),
	FIELD(struct guest_mount, target, FIELD_STRING, .flags = FIELD_REQUIRED, .doc = "Where it is mounted"),
	FIELD(struct guest_mount, data, FIELD_STRING, .doc = "Its options"),
	FIELD(struct guest_mount, flags, FIELD_INT, .doc = "MS_*"),
};
static const struct field_table guest_mount_table = {
	"guest_mount", "A mount of a guest", sizeof(struct guest_mount), mount_fields, ARRAY_SIZE(mount_fields), NULL,
};

static const struct field file_fields[] = {
	FIELD(struct guest_file, target, FIELD_STRING, .flags = FIELD_REQUIRED, .doc = "Where it lies"),
	FIELD(struct guest_file, data, FIELD_STRING, .max = GUEST_FILE_MAX, .doc = "What is in it, as base64"),
	FIELD(struct guest_file, uid, FIELD_INT, .max = UINT32_MAX, .doc = "Whose it is"),
	FIELD(struct guest_file, gid, FIELD_INT, .max = UINT32_MAX, .doc = "Its group"),
	FIELD(struct guest_file, mode, FIELD_INT, .max = 07777, .doc = "Its mode"),
};
static const struct field_table file_table = {
	"guest_file", "A file of a guest", sizeof(struct guest_file), file_fields, ARRAY_SIZE(file_fields), NULL,
};

static const struct field rlimit_fields[] = {
	FIELD(struct guest_rlimit, type, FIELD_STRING, .flags = FIELD_REQUIRED, .doc = "RLIMIT_*"),
	FIELD(struct guest_rlimit, soft, FIELD_INT, .min = -1, .doc = "The limit in effect"),
	FIELD(struct guest_rlimit, hard, FIELD_INT, .min = -1, .doc = "How far it may be raised"),
};
static const struct field_table rlimit_table = {
	"guest_rlimit", "A limit of processes of a guest", sizeof(struct guest_rlimit), rlimit_fields, ARRAY_SIZE(rlimit_fields), NULL,
};

static const struct field config_fields[] = {
	FIELD(struct guest_config, version, FIELD_INT, .flags = FIELD_REQUIRED, .doc = "Of this format"),
	FIELD(struct guest_config, id, FIELD_STRING, .flags = FIELD_REQUIRED, .doc = "Of the instance"),
	FIELD(struct guest_config, args, FIELD_STRINGS, .max = 65536, .doc = "The command"),
	FIELD(struct guest_config, env, FIELD_STRINGS, .max = 65536, .doc = "Its environment"),
	FIELD(struct guest_config, workdir, FIELD_STRING, .doc = "Its working directory"),
	FIELD(struct guest_config, user, FIELD_STRING, .doc = "Its user, and group behind a colon"),
	FIELD(struct guest_config, groups, FIELD_STRINGS, .doc = "Further groups"),
	FIELD(struct guest_config, tty, FIELD_BOOL, .doc = "It has a terminal"),
	FIELD(struct guest_config, stdin_open, FIELD_BOOL, .doc = "It has an input"),
	FIELD(struct guest_config, init, FIELD_BOOL, .doc = "A first process that reaps"),
	FIELD(struct guest_config, no_new_privileges, FIELD_BOOL, .doc = "Programs give no further powers"),
	FIELD(struct guest_config, rlimits, FIELD_LIST, .sub = &rlimit_table, .doc = "Its limits"),
	FIELD(struct guest_config, stop_signal, FIELD_STRING, .doc = "That a power-down becomes"),
	FIELD(struct guest_config, hostname, FIELD_STRING, .doc = "Its host name"),
	FIELD(struct guest_config, domainname, FIELD_STRING, .doc = "Its NIS domain"),
	FIELD(struct guest_config, sysctls, FIELD_PAIRS, .doc = "Kernel settings"),
	FIELD(struct guest_config, shm_size, FIELD_INT, .doc = "Bytes of /dev/shm"),
	FIELD(struct guest_config, read_only, FIELD_BOOL, .doc = "The root is not written"),
	FIELD(struct guest_config, mounts, FIELD_LIST, .sub = &guest_mount_table, .doc = "Mounts in memory"),
	FIELD(struct guest_config, files, FIELD_LIST, .sub = &file_table, .doc = "Files in memory"),
	FIELD(struct guest_config, disks, FIELD_LIST, .max = 64, .sub = &disk_table, .doc = "Block volumes"),
	FIELD(struct guest_config, nics, FIELD_LIST, .max = 64, .sub = &nic_table, .doc = "Interfaces"),
};
const struct field_table guest_config_table = {
	"guest_config", "What a guest is told", sizeof(struct guest_config), config_fields, ARRAY_SIZE(config_fields), NULL,
};

static const struct field run_fields[] = {
	FIELD(struct guest_run, command, FIELD_STRINGS, .flags = FIELD_REQUIRED, .max = 65536, .doc = "What to run"),
	FIELD(struct guest_run, env, FIELD_STRINGS, .max = 65536, .doc = "Besides the container's"),
	FIELD(struct guest_run, user, FIELD_STRING, .doc = "As whom, not as the container's user"),
	FIELD(struct guest_run, workdir, FIELD_STRING, .doc = "Where, not in the container's directory"),
	FIELD(struct guest_run, tty, FIELD_BOOL, .doc = "It has a terminal"),
	FIELD(struct guest_run, stdin_open, FIELD_BOOL, .doc = "It has an input"),
	FIELD(struct guest_run, rows, FIELD_INT, .max = 65535, .doc = "Of the terminal"),
	FIELD(struct guest_run, columns, FIELD_INT, .max = 65535, .doc = "Of the terminal"),
};
const struct field_table guest_run_table = {
	"guest_run", "A further process of a guest", sizeof(struct guest_run), run_fields, ARRAY_SIZE(run_fields), NULL,
};
