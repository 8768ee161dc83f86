/* Machines that move from one daemon to another: both sides of it. */
#pragma once

#include "core/instances.h"
#include "model/migration.h"

/* --- the daemon that is to have it --- */

/* A ticket, good once and for a minute; free it with migration_ticket_table. */
int migration_offer(struct core *c, const char *project, const struct migration_offer *o, struct migration_ticket *out, struct error *err);
/* Makes the machine, which waits for its connections for half a minute. DENIED: no such ticket, or not its secret. */
int migration_arrive(struct core *c, const char *project, const char *ticket, const struct migration_arrival *a, struct error *err);
/* One of its connections may come; then the stream, which is taken over in any case. */
int migration_expects(struct core *c, const char *ticket, const struct migration_channel *ch, struct error *err);
void migration_connect(struct core *c, const char *ticket, const char *channel, int fd);

/* --- the daemon that has it --- */

/* A task: done when the machine runs there, and is removed here, or kept, stopped. While it is told to be cancelled or fails, the
 * guest goes on here. */
int instance_migrate(struct core *c, const char *project, const char *name, const struct migration_request *r, char **task,
		     struct error *err);
