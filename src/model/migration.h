/* What is said when a machine moves from one daemon to another: a ticket that the daemon which is to have it gives out, and what
 * whoever has the ticket may tell it. */
#pragma once

#include "model/instance.h"
#include "model/storage.h"

struct migration_offer {
	char *name; /* of the machine there; NULL: its own */
};
struct migration_ticket {
	char *id, *secret; /* 64 hexadecimal digits each; good once, for a minute */
};
struct migration_disk { /* a volume that it writes to */
	char *id;
	struct volume_spec spec;
};
struct migration_arrival { /* the machine that comes, its disk's size in spec.root_size */
	char *secret;
	char *id;
	bool post_copy;
	FIELD_LIST_OF(struct migration_disk) disks; /* besides the root */
	struct instance_spec spec;
};
/* Its connections: what the two agents say to each other, the memory, the disk and each further one. */
#define MIGRATION_DISKS_MAX 8 /* further ones */
#define MIGRATION_CHANNELS_MIN 3
#define MIGRATION_CHANNELS (MIGRATION_CHANNELS_MIN + MIGRATION_DISKS_MAX)
extern const char *const migration_channels[MIGRATION_CHANNELS + 1];
struct migration_channel {
	char *secret, *channel;
};
/* What the daemon that has the machine is asked for. */
struct migration_request {
	char *to; /* where the other daemon's API is: unix:///DIR/wabe.sock */
	char *ticket, *secret;
	bool with_disks;
	bool keep;         /* the machine stays here, stopped */
	bool post_copy;    /* its guest goes on there once its memory was sent once, whatever it has changed meanwhile follows */
	int64_t downtime;  /* ns that the guest may be halted for the last of its memory */
	int64_t bandwidth; /* bytes a second; 0: all that there is */
};
/* The directory of a daemon's socket in a `to`, to be freed; NULL: INVALID. */
char *migration_directory(const char *to, struct error *err);

extern const struct field_table migration_offer_table, migration_ticket_table, migration_disk_table, migration_arrival_table,
	migration_channel_table,
	migration_request_table;
