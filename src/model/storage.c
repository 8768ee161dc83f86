/* The tables of pools, volumes and snapshots. */
#include "model/storage.h"

#include "base/str.h"
#include "model/instance.h"

#define NAMES(...) (const char *const[]){__VA_ARGS__, NULL}
#define TABLE(var_, name_, struct_, fields_, doc_, ...) \
	const struct field_table var_ = {name_, doc_, sizeof(struct_), fields_, ARRAY_SIZE(fields_), ##__VA_ARGS__}

#define NAME_FIELD(struct_, flags_)                                                                                  \
	FIELD(struct_, name, FIELD_STRING, .flags = FIELD_REQUIRED | (flags_), .max = 128, .check = instance_name_check, \
	      .doc = "Its name")
#define DESCRIPTION_FIELD(struct_)                                                                          \
	FIELD(struct_, description, FIELD_STRING, .check = text_check, .flag = "description", .placeholder = "TEXT", \
	      .doc = "What it is for")
#define LABELS_FIELD(struct_) \
	FIELD(struct_, labels, FIELD_PAIRS, .flag = "label,l", .placeholder = "KEY=VALUE", .doc = "Labels")

/* They become options of mount(8) and the like: never another option behind a comma, never one that looks like a flag. */
static int option_check(const char *key, struct error *err) {
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyz0123456789_-.";
	if (!*key || *key == '-' || key[strspn(key, allowed)])
		return error_set(err, ERROR_INVALID, "is not the name of an option");
	return 0;
}

static int pool_spec_validate(const void *object, struct error *err) {
	const struct pool_spec *s = object;
	static const char *const need_source[] = {"lvm-thin", "zfs", "nfs", "iscsi", "rbd", "nvme-tcp"};
	for (size_t i = 0; i < ARRAY_SIZE(need_source); i++)
		if (str_same(s->driver, need_source[i]) && !s->source)
			return error_field(err, "source", "is required by the driver %s", s->driver);
	bool servers = str_same(s->driver, "iscsi") || str_same(s->driver, "nvme-tcp") || str_same(s->driver, "rbd");
	if (servers != (s->servers != NULL))
		return error_field(err, "servers", servers ? "is required by the driver %s" : "is not for the driver %s",
				   s->driver);
	for (size_t i = 0; i < s->options.n; i++)
		if (strchr(s->options.items[i].value, ',') || text_check(s->options.items[i].value, NULL) < 0)
			return error_field(err, "options", "the value of %s has a comma or control characters",
					   s->options.items[i].key);
	return 0;
}

static const struct field pool_spec_fields[] = {
	NAME_FIELD(struct pool_spec, FIELD_IMMUTABLE),
	FIELD(struct pool_spec, driver, FIELD_ENUM, .flags = FIELD_IMMUTABLE, .def = "dir",
	      .values = NAMES("dir", "btrfs", "lvm-thin", "zfs", "nfs", "iscsi", "rbd", "nvme-tcp", "tmpfs"),
	      .flag = "driver,d", .placeholder = "DRIVER",
	      .doc = "dir, btrfs, lvm-thin, zfs, nfs, iscsi, rbd, nvme-tcp or tmpfs"),
	DESCRIPTION_FIELD(struct pool_spec),
	LABELS_FIELD(struct pool_spec),
	FIELD(struct pool_spec, source, FIELD_STRING, .flags = FIELD_IMMUTABLE, .max = 1024, .check = text_check,
	      .flag = "source", .placeholder = "WHERE",
	      .doc = "Directory, device, VG/THINPOOL, SERVER:/EXPORT, IQN, NQN or pool"),
	FIELD(struct pool_spec, servers, FIELD_STRINGS, .flags = FIELD_IMMUTABLE, .max = 16, .check = text_check,
	      .flag = "server", .placeholder = "ADDRESS[:PORT]", .doc = "iscsi, nvme-tcp: portals; rbd: monitors"),
	FIELD(struct pool_spec, user, FIELD_STRING, .max = 256, .check = text_check, .flag = "user", .placeholder = "NAME",
	      .doc = "iscsi, rbd: who wabe is there"),
	FIELD(struct pool_spec, secret, FIELD_STRING, .flags = FIELD_SECRET, .max = 4096, .check = text_check,
	      .doc = "Its key; never shown"),
	FIELD(struct pool_spec, size, FIELD_SIZE, .flag = "size", .placeholder = "BYTES",
	      .doc = "btrfs: of the loop file; tmpfs: the most it may hold"),
	FIELD(struct pool_spec, options, FIELD_PAIRS, .max = 32, .check = option_check, .flag = "option,o",
	      .placeholder = "KEY=VALUE", .doc = "Mount options and the like"),
};
TABLE(pool_spec_table, "pool_spec", struct pool_spec, pool_spec_fields, "What is wanted of a pool", pool_spec_validate);

#define CAN(member_, doc_) FIELD(struct pool_capabilities, member_, FIELD_BOOL, .def = "false", .doc = doc_)
static const struct field capability_fields[] = {
	CAN(filesystems, "File-system volumes"),
	CAN(blocks, "Block volumes"),
	CAN(snapshots, "Snapshots"),
	CAN(instant_snapshots, "Snapshots take no time"),
	CAN(linked_clones, "Clones share what they have in common"),
	CAN(restore_older, "Snapshots can be gone back to past newer ones, which stay"),
	CAN(quotas, "The size of a file-system volume is enforced"),
	CAN(grow_online, "Volumes grow while in use"),
	CAN(shrink, "Volumes can become smaller"),
	CAN(send, "Snapshots move to a pool of the same kind as differences"),
	CAN(shared, "Several hosts may use it at once"),
	CAN(persistent, "It outlives the host's running"),
	CAN(full_safe, "When it is full, writers hear just that (ENOSPC), and file systems go on"),
};
TABLE(pool_capabilities_table, "pool_capabilities", struct pool_capabilities, capability_fields, "What a pool can do");

static const struct field pool_status_fields[] = {
	FIELD(struct pool_status, state, FIELD_ENUM, .def = "unavailable",
	      .values = NAMES("ready", "unavailable", "failed"), .doc = "Whether it can be used"),
	FIELD(struct pool_status, error, FIELD_STRING, .max = 65536, .doc = "Why it cannot"),
	FIELD(struct pool_status, total, FIELD_SIZE, .def = "0", .doc = "Bytes; 0: not known"),
	FIELD(struct pool_status, used, FIELD_SIZE, .def = "0", .doc = "Bytes"),
	FIELD(struct pool_status, capabilities, FIELD_OBJECT, .sub = &pool_capabilities_table, .doc = "What it can do"),
};
TABLE(pool_status_table, "pool_status", struct pool_status, pool_status_fields, "What a pool is");

#define ID_FIELD(struct_)                                                                                     \
	FIELD(struct_, id, FIELD_STRING, .flags = FIELD_READONLY | FIELD_REQUIRED, .check = instance_id_check, \
	      .doc = "64 hexadecimal digits")
#define CREATED_FIELD(struct_) FIELD(struct_, created_at, FIELD_TIME, .flags = FIELD_READONLY, .doc = "When it was made")

static const struct field pool_fields[] = {
	ID_FIELD(struct pool),
	CREATED_FIELD(struct pool),
	FIELD(struct pool, spec, FIELD_OBJECT, .sub = &pool_spec_table, .doc = "What is wanted"),
	FIELD(struct pool, status, FIELD_OBJECT, .flags = FIELD_READONLY, .sub = &pool_status_table, .doc = "What is"),
};
TABLE(pool_table, "pool", struct pool, pool_fields, "Where volumes live");

#define KEEP(member_, doc_, flag_)                                                                                    \
	FIELD(struct snapshot_schedule, member_, FIELD_INT, .flags = FIELD_LIVE, .max = 1000, .def = "0", .flag = flag_, \
	      .placeholder = "N", .doc = doc_)
static const struct field schedule_fields[] = {
	KEEP(hourly, "Hourly snapshots kept", "keep-hourly"),
	KEEP(daily, "Daily snapshots kept", "keep-daily"),
	KEEP(weekly, "Weekly snapshots kept", "keep-weekly"),
	KEEP(monthly, "Monthly snapshots kept", "keep-monthly"),
};
TABLE(snapshot_schedule_table, "snapshot_schedule", struct snapshot_schedule, schedule_fields,
      "Snapshots that are taken by themselves; all 0: none");

/* One option of mount(8): never two, never one that looks like a flag. */
static int mount_word_check(const char *word, struct error *err) {
	if (!*word || *word == '-' || strchr(word, ',') || text_check(word, NULL) < 0)
		return error_set(err, ERROR_INVALID, "is not a mount option");
	return 0;
}

static int volume_mount_validate(const void *object, struct error *err) {
	const struct volume_mount_spec *m = object;
	if (!m->type)
		return m->device || m->options ? error_field(err, "type", "is required with device or options") : 0;
	if (str_same(m->type, "tmpfs"))
		return 0;
	if (!m->device)
		return error_field(err, "device", "is required by a mount of type %s", m->type);
	if (str_same(m->type, "bind") && path_check(m->device, err) < 0) {
		error_in_field(err, "device");
		return -ERROR_INVALID;
	}
	if (str_starts(m->type, "nfs") && !strstr(m->device, ":/"))
		return error_field(err, "device", "must be written SERVER:/PATH");
	if (str_same(m->type, "cifs") && !str_starts(m->device, "//"))
		return error_field(err, "device", "must be written //SERVER/SHARE");
	return 0;
}

static const struct field volume_mount_fields[] = {
	FIELD(struct volume_mount_spec, type, FIELD_ENUM, .values = NAMES("bind", "tmpfs", "nfs", "nfs4", "cifs"),
	      .flag = "mount-type", .placeholder = "TYPE", .doc = "bind, tmpfs, nfs, nfs4 or cifs"),
	FIELD(struct volume_mount_spec, device, FIELD_STRING, .max = 1024, .check = text_check, .flag = "mount-device",
	      .placeholder = "WHAT", .doc = "A directory of the host, SERVER:/PATH, //SERVER/SHARE"),
	FIELD(struct volume_mount_spec, options, FIELD_STRINGS, .max = 64, .check = mount_word_check, .flag = "mount-option",
	      .placeholder = "OPTION", .doc = "Options of the mount"),
};
const struct field_table volume_mount_spec_table = {
	"volume_mount", "What a volume mounts", sizeof(struct volume_mount_spec), volume_mount_fields,
	ARRAY_SIZE(volume_mount_fields), volume_mount_validate,
};

static int mode_validate(const struct volume_spec *s, struct error *err) {
	return s->mode & ~INT64_C(07777) ? error_field(err, "mode", "must be permissions, at most 07777") : 0;
}

static int volume_spec_validate(const void *object, struct error *err) {
	const struct volume_spec *s = object;
	if (str_same(s->kind, "block") && s->size < 1 << 20)
		return error_field(err, "size", "of a block volume must be at least 1MiB");
	if (str_same(s->kind, "block") && s->size % 512)
		return error_field(err, "size", "of a block volume must be a multiple of 512");
	if (s->mount.type && (str_same(s->kind, "block") || s->size))
		return error_field(err, "mount", "does not go with a size, nor with a block volume");
	return mode_validate(s, err);
}

static const struct field volume_spec_fields[] = {
	NAME_FIELD(struct volume_spec, FIELD_LIVE),
	FIELD(struct volume_spec, pool, FIELD_STRING, .flags = FIELD_IMMUTABLE, .def = "local", .max = 128,
	      .check = instance_name_check, .flag = "pool", .placeholder = "NAME", .doc = "Name of its pool"),
	FIELD(struct volume_spec, kind, FIELD_ENUM, .flags = FIELD_IMMUTABLE, .def = "filesystem",
	      .values = NAMES("filesystem", "block"), .flag = "kind", .placeholder = "KIND", .doc = "filesystem or block"),
	DESCRIPTION_FIELD(struct volume_spec),
	LABELS_FIELD(struct volume_spec),
	FIELD(struct volume_spec, size, FIELD_SIZE, .flags = FIELD_LIVE, .def = "0", .flag = "size,s", .placeholder = "BYTES",
	      .doc = "Of a block volume; quota of a file system, 0: none"),
	FIELD(struct volume_spec, uid, FIELD_INT, .flags = FIELD_IMMUTABLE, .max = 65535, .def = "0", .flag = "uid",
	      .placeholder = "ID", .doc = "Owner of a new file system's root, as instances see it"),
	FIELD(struct volume_spec, gid, FIELD_INT, .flags = FIELD_IMMUTABLE, .max = 65535, .def = "0", .flag = "gid",
	      .placeholder = "ID", .doc = "Its group"),
	FIELD(struct volume_spec, mode, FIELD_INT, .flags = FIELD_IMMUTABLE, .max = 4095, .def = "493",
	      .doc = "Its permissions, as a number: 493 is 0755"),
	FIELD(struct volume_spec, mount, FIELD_OBJECT, .flags = FIELD_IMMUTABLE, .sub = &volume_mount_spec_table,
	      .doc = "What it mounts instead of having content of its own"),
	FIELD(struct volume_spec, schedule, FIELD_OBJECT, .flags = FIELD_LIVE, .sub = &snapshot_schedule_table,
	      .doc = "Snapshots by themselves"),
	FIELD(struct volume_spec, annotations, FIELD_PAIRS, .flags = FIELD_IMMUTABLE, .max = 64,
	      .doc = "What dialects keep with it"),
};
TABLE(volume_spec_table, "volume_spec", struct volume_spec, volume_spec_fields, "What is wanted of a volume",
      volume_spec_validate);

static const struct field volume_fields[] = {
	ID_FIELD(struct volume),
	FIELD(struct volume, project, FIELD_STRING, .flags = FIELD_READONLY, .def = "default", .max = 128,
	      .check = instance_name_check, .doc = "Whose it is"),
	CREATED_FIELD(struct volume),
	FIELD(struct volume, spec, FIELD_OBJECT, .sub = &volume_spec_table, .doc = "What is wanted"),
	FIELD(struct volume, used, FIELD_SIZE, .flags = FIELD_READONLY, .def = "0", .doc = "Bytes; 0: not known"),
	FIELD(struct volume, transient, FIELD_BOOL, .flags = FIELD_READONLY,
	      .doc = "Part of an operation that is under way: gone after it"),
	FIELD(struct volume, path, FIELD_STRING, .flags = FIELD_READONLY, .doc = "Where the host has it, or mounts it for its users"),
};
TABLE(volume_table, "volume", struct volume, volume_fields, "A piece of storage");

static const struct field snapshot_fields[] = {
	NAME_FIELD(struct snapshot, 0),
	DESCRIPTION_FIELD(struct snapshot),
	CREATED_FIELD(struct snapshot),
	FIELD(struct snapshot, parent, FIELD_STRING, .flags = FIELD_READONLY, .max = 128, .check = instance_name_check,
	      .doc = "The snapshot before it"),
	FIELD(struct snapshot, memory, FIELD_BOOL, .flags = FIELD_READONLY, .doc = "With the memory of a machine that ran"),
	FIELD(struct snapshot, scheduled, FIELD_BOOL, .flags = FIELD_READONLY, .doc = "Taken by the schedule"),
	FIELD(struct snapshot, kept_as, FIELD_ENUM, .flags = FIELD_READONLY,
	      .values = NAMES("hourly", "daily", "weekly", "monthly"), .doc = "What the schedule keeps it for"),
};
TABLE(snapshot_table, "snapshot", struct snapshot, snapshot_fields, "A point in time");
