/* Verbs that only machines have. */
#pragma once

#include "core/instances.h"

/* A stream that speaks RFB (RFC 6143) to a machine's screen, without a password: whoever may call this may use it. CONFLICT: it is
 * a container, does not run, or has no graphics card. */
int machine_display(struct core *c, const char *project, const char *name, int *fd, struct error *err);
