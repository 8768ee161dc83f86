#include "model/migration.h"

#include "base/str.h"

#define SECRET(struct_) \
	FIELD(struct_, secret, FIELD_STRING, .flags = FIELD_REQUIRED | FIELD_SECRET, .check = instance_id_check, .doc = "Of the ticket")
#define TABLE(name_, fields_, doc_) \
	const struct field_table name_##_table = {#name_, doc_, sizeof(struct name_), fields_, ARRAY_SIZE(fields_), NULL}

const char *const migration_channels[MIGRATION_CHANNELS + 1] = {"control", "memory", "disk", "disk1", "disk2", "disk3",
								   "disk4", "disk5", "disk6", "disk7", "disk8", NULL};

char *migration_directory(const char *to, struct error *err) {
	static const char scheme[] = "unix://", socket[] = "/wabe.sock";
	size_t n = strlen(to);
	bool is = str_starts(to, scheme) && to[sizeof scheme - 1] == '/' && str_ends(to, socket);
	if (is)
		return str_copyn(to + sizeof scheme - 1, n - (sizeof scheme - 1) - (sizeof socket - 1));
	error_set(err, ERROR_INVALID, "must be unix:///DIRECTORY/wabe.sock, the native API's socket of a daemon: \"%.200s\"", to);
	return NULL;
}

static int to_check(const char *to, struct error *err) {
	_cleanup_(free_ptr) char *dir = migration_directory(to, err);
	return dir ? 0 : -ERROR_INVALID;
}

static const struct field offer_fields[] = {
	FIELD(struct migration_offer, name, FIELD_STRING, .min = 1, .max = 128, .check = instance_name_check,
	      .doc = "Of the machine here; not given: its own"),
};
TABLE(migration_offer, offer_fields, "A machine that is to come");

static const struct field ticket_fields[] = {
	FIELD(struct migration_ticket, id, FIELD_STRING, .doc = "Of the ticket"),
	FIELD(struct migration_ticket, secret, FIELD_STRING, .doc = "Who has it may bring a machine, once, within a minute"),
};
TABLE(migration_ticket, ticket_fields, "Leave to bring one machine");

static const struct field disk_fields[] = {
	FIELD(struct migration_disk, id, FIELD_STRING, .flags = FIELD_REQUIRED, .check = instance_id_check, .doc = "Of the volume"),
	FIELD(struct migration_disk, spec, FIELD_OBJECT, .sub = &volume_spec_table, .doc = "What it is, with the size that it has"),
};
TABLE(migration_disk, disk_fields, "A further disk of the machine that comes");

static const struct field arrival_fields[] = {
	SECRET(struct migration_arrival),
	FIELD(struct migration_arrival, id, FIELD_STRING, .flags = FIELD_REQUIRED, .check = instance_id_check, .doc = "Of the machine"),
	FIELD(struct migration_arrival, post_copy, FIELD_BOOL, .doc = "Its guest goes on before all of its memory is there"),
	FIELD(struct migration_arrival, disks, FIELD_LIST, .sub = &migration_disk_table, .max = MIGRATION_DISKS_MAX,
	      .doc = "Its further disks, by the names by which it mounts them"),
	FIELD(struct migration_arrival, spec, FIELD_OBJECT, .sub = &instance_spec_table,
	      .doc = "What it is, with its addresses and its disk's size"),
};
TABLE(migration_arrival, arrival_fields, "The machine that comes");

static const struct field channel_fields[] = {
	SECRET(struct migration_channel),
	FIELD(struct migration_channel, channel, FIELD_ENUM, .flags = FIELD_REQUIRED, .values = migration_channels, .doc = "Which it is"),
};
TABLE(migration_channel, channel_fields, "One of its connections");

static const struct field request_fields[] = {
	FIELD(struct migration_request, to, FIELD_STRING, .flags = FIELD_REQUIRED, .max = 4096, .check = to_check,
	      .doc = "The other daemon's API: unix:///DIRECTORY/wabe.sock"),
	FIELD(struct migration_request, ticket, FIELD_STRING, .flags = FIELD_REQUIRED, .check = instance_id_check, .doc = "Which it has given"),
	SECRET(struct migration_request),
	FIELD(struct migration_request, with_disks, FIELD_BOOL, .doc = "Its disk is copied while the guest runs"),
	FIELD(struct migration_request, keep, FIELD_BOOL, .doc = "It stays here as well, stopped"),
	FIELD(struct migration_request, post_copy, FIELD_BOOL,
	      .doc = "Its guest goes on there once its memory was sent once; what it has changed meanwhile follows"),
	FIELD(struct migration_request, downtime, FIELD_DURATION, .def = "300ms",
	      .doc = "How long the guest may be halted for the last of its memory"),
	FIELD(struct migration_request, bandwidth, FIELD_SIZE, .def = "0", .doc = "Bytes a second for its memory; 0: all that there is"),
};
TABLE(migration_request, request_fields, "Where a machine moves");
