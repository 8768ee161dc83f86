/* Tables of the messages about pools, volumes and snapshots. */
#include "wire/storage-messages.h"

#include "model/image.h"
#include "model/instance.h"

#define TABLE(var_, name_, struct_, fields_, doc_) \
	const struct field_table var_ = {name_, doc_, sizeof(struct_), fields_, ARRAY_SIZE(fields_)}
#define ID_FIELD(struct_, member_, flags_, doc_) \
	FIELD(struct_, member_, FIELD_STRING, .flags = flags_, .check = instance_id_check, .doc = doc_)
#define SNAPSHOT_FIELD(struct_, member_, flags_) \
	FIELD(struct_, member_, FIELD_STRING, .flags = flags_, .max = 128, .check = instance_name_check, .doc = "Of a snapshot")

static const struct field pool_state_fields[] = {
	ID_FIELD(struct msg_pool_state, id, FIELD_REQUIRED, "Of the pool"),
	FIELD(struct msg_pool_state, status, FIELD_OBJECT, .sub = &pool_status_table, .doc = "What it is"),
};
TABLE(msg_pool_state_table, "msg_pool_state", struct msg_pool_state, pool_state_fields, "State of a pool");

static const struct field pool_states_fields[] = {
	FIELD(struct msg_pool_states, pools, FIELD_LIST, .max = 1024, .sub = &msg_pool_state_table, .doc = "All of the agent's"),
};
TABLE(msg_pool_states_table, "msg_pool_states", struct msg_pool_states, pool_states_fields, "All pools");

static const struct field ref_fields[] = {
	ID_FIELD(struct msg_volume_ref, pool_id, 0, "Of its pool"),
	ID_FIELD(struct msg_volume_ref, id, 0, "Of the volume"),
	SNAPSHOT_FIELD(struct msg_volume_ref, snapshot, 0),
};
TABLE(msg_volume_ref_table, "msg_volume_ref", struct msg_volume_ref, ref_fields, "A volume, or a snapshot of it");

static const struct field create_fields[] = {
	ID_FIELD(struct msg_volume_create, pool_id, FIELD_REQUIRED, "Where it is made"),
	FIELD(struct msg_volume_create, volume, FIELD_OBJECT, .sub = &volume_table, .doc = "The new volume"),
	FIELD(struct msg_volume_create, from, FIELD_OBJECT, .sub = &msg_volume_ref_table, .doc = "What it is a copy of"),
	FIELD(struct msg_volume_create, linked, FIELD_BOOL, .doc = "Sharing what is common"),
	FIELD(struct msg_volume_create, snapshots, FIELD_STRINGS, .max = 4096, .check = instance_name_check,
	      .doc = "Those that come along, the oldest first"),
};
TABLE(msg_volume_create_table, "msg_volume_create", struct msg_volume_create, create_fields, "A new volume");

static const struct field disk_move_fields[] = {
	ID_FIELD(struct msg_disk_move, id, FIELD_REQUIRED, "Of the machine"),
	ID_FIELD(struct msg_disk_move, pool_id, FIELD_REQUIRED, "Where it moves"),
	ID_FIELD(struct msg_disk_move, from, FIELD_REQUIRED, "Where it is"),
	FIELD(struct msg_disk_move, volume, FIELD_OBJECT, .sub = &volume_table, .doc = "As it is to be there"),
	FIELD(struct msg_disk_move, snapshots, FIELD_STRINGS, .max = 4096, .check = instance_name_check,
	      .doc = "Those that come along, the oldest first"),
	FIELD(struct msg_disk_move, settle, FIELD_BOOL, .doc = "Only what was cut off"),
};
TABLE(msg_disk_move_table, "msg_disk_move", struct msg_disk_move, disk_move_fields, "A disk that moves while it is used");

static const struct field machine_export_fields[] = {
	ID_FIELD(struct msg_machine_export, id, FIELD_REQUIRED, "Of the machine"),
	FIELD(struct msg_machine_export, disk, FIELD_STRING, .max = 128, .check = instance_name_check, .doc = "root, or a volume"),
	FIELD(struct msg_machine_export, since, FIELD_STRING, .max = 128, .check = instance_name_check, .doc = "A checkpoint"),
	FIELD(struct msg_machine_export, checkpoint, FIELD_STRING, .max = 128, .check = instance_name_check, .doc = "A new checkpoint"),
};
TABLE(msg_machine_export_table, "msg_machine_export", struct msg_machine_export, machine_export_fields, "Disks of a machine that runs");

static const struct field checkpoints_fields[] = {
	FIELD(struct msg_checkpoints, checkpoints, FIELD_STRINGS, .max = 4096, .check = text_check, .doc = "Names"),
};
TABLE(msg_checkpoints_table, "msg_checkpoints", struct msg_checkpoints, checkpoints_fields, "Checkpoints of a machine's disks");

static const struct field resize_fields[] = {
	ID_FIELD(struct msg_volume_resize, pool_id, FIELD_REQUIRED, "Of its pool"),
	ID_FIELD(struct msg_volume_resize, id, FIELD_REQUIRED, "Of the volume"),
	FIELD(struct msg_volume_resize, size, FIELD_SIZE, .def = "0", .doc = "Its new size; 0: no quota"),
};
TABLE(msg_volume_resize_table, "msg_volume_resize", struct msg_volume_resize, resize_fields, "A new size");

static const struct field usage_fields[] = {
	FIELD(struct msg_volume_usage, path, FIELD_STRING, .check = path_check, .doc = "Where the host has it while it is open"),
	FIELD(struct msg_volume_usage, size, FIELD_SIZE, .def = "0", .doc = "Its size; 0: not known"),
	FIELD(struct msg_volume_usage, used, FIELD_SIZE, .def = "0", .doc = "What it takes; 0: not known"),
	FIELD(struct msg_volume_usage, snapshots, FIELD_LIST, .max = 4096, .sub = &snapshot_table, .doc = "Its snapshots"),
};
TABLE(msg_volume_usage_table, "msg_volume_usage", struct msg_volume_usage, usage_fields, "What a volume takes");

static const struct field volumes_fields[] = {
	FIELD(struct msg_volumes, ids, FIELD_STRINGS, .max = 65536, .check = instance_id_check, .doc = "All in the pool"),
};
TABLE(msg_volumes_table, "msg_volumes", struct msg_volumes, volumes_fields, "Volumes of a pool");

static const struct field data_fields[] = {
	ID_FIELD(struct msg_volume_data, pool_id, FIELD_REQUIRED, "Of its pool"),
	FIELD(struct msg_volume_data, volume, FIELD_OBJECT, .sub = &volume_table, .doc = "The volume"),
	SNAPSHOT_FIELD(struct msg_volume_data, snapshot, 0),
	FIELD(struct msg_volume_data, format, FIELD_ENUM, .flags = FIELD_REQUIRED,
	      .values = (const char *const[]){"tar", "raw", "qcow2", NULL}, .doc = "Of the data"),
};
TABLE(msg_volume_data_table, "msg_volume_data", struct msg_volume_data, data_fields, "Content of a volume");

#define FORMAT_FIELD(struct_, member_, flags_, doc_)                                                                     \
	FIELD(struct_, member_, FIELD_ENUM, .flags = flags_, .doc = doc_,                                                  \
	      .values = (const char *const[]){"qcow2", "raw", "vmdk", "vdi", "vpc", "vhdx", "vmdk-stream", NULL})

static const struct field disk_fields[] = {
	FORMAT_FIELD(struct msg_disk, format, FIELD_REQUIRED, "Of the disk image"),
	FIELD(struct msg_disk, size, FIELD_SIZE, .def = "0", .doc = "Of the disk"),
	FORMAT_FIELD(struct msg_disk, to, 0, "Wanted"),
};
TABLE(msg_disk_table, "msg_disk", struct msg_disk, disk_fields, "A disk image");

static const struct field template_fields[] = {
	ID_FIELD(struct msg_template, pool_id, FIELD_REQUIRED, "Where it is made"),
	FIELD(struct msg_template, digest, FIELD_STRING, .flags = FIELD_REQUIRED, .check = digest_check, .doc = "Of the disk image"),
	FORMAT_FIELD(struct msg_template, format, FIELD_REQUIRED, "Of the disk image"),
	FIELD(struct msg_template, size, FIELD_SIZE, .def = "0", .max = (int64_t)1 << 60, .doc = "Of the disk"),
};
TABLE(msg_template_table, "msg_template", struct msg_template, template_fields, "A volume that machines' disks begin as");

static const struct field snapshot_fields[] = {
	ID_FIELD(struct msg_snapshot, pool_id, FIELD_REQUIRED, "Of the pool"),
	ID_FIELD(struct msg_snapshot, id, FIELD_REQUIRED, "Of the volume or instance"),
	SNAPSHOT_FIELD(struct msg_snapshot, name, FIELD_REQUIRED),
	FIELD(struct msg_snapshot, instance, FIELD_BOOL, .doc = "Of an instance's root"),
	FIELD(struct msg_snapshot, memory, FIELD_BOOL, .doc = "With the memory of a machine"),
};
TABLE(msg_snapshot_table, "msg_snapshot", struct msg_snapshot, snapshot_fields, "A snapshot");

static const struct field attach_fields[] = {
	ID_FIELD(struct msg_volume_attach, id, FIELD_REQUIRED, "Of the instance"),
	ID_FIELD(struct msg_volume_attach, pool_id, 0, "Of the volume's pool"),
	ID_FIELD(struct msg_volume_attach, volume_id, 0, "Of the volume"),
	FIELD(struct msg_volume_attach, target, FIELD_STRING, .flags = FIELD_REQUIRED, .check = path_check, .doc = "Inside"),
	FIELD(struct msg_volume_attach, subpath, FIELD_STRING, .check = text_check, .doc = "Only this path of the volume"),
	FIELD(struct msg_volume_attach, read_only, FIELD_BOOL, .doc = "Cannot be written through it"),
};
TABLE(msg_volume_attach_table, "msg_volume_attach", struct msg_volume_attach, attach_fields, "A volume for an instance");
