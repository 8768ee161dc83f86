/* Verbs that only machines have. */
#pragma once

#include "core/instances.h"
#include "model/inside.h"

/* A stream that speaks RFB (RFC 6143) to a machine's screen, without a password: whoever may call this may use it. CONFLICT: it is
 * a container, does not run, or has no graphics card. */
int machine_display(struct core *c, const char *project, const char *name, int *fd, struct error *err);
/* A picture of it: a stream with a PNG. */
int machine_screen(struct core *c, const char *project, const char *name, int *fd, struct error *err);
/* Keys and pointer; back when all is done. CONFLICT: it is a container, or does not run. */
int machine_input(struct core *c, const char *project, const char *name, const struct machine_input *in, struct error *err);

/* What its guest tells of itself; free it with inside_table. UNAVAILABLE: no agent answers in it. */
int machine_inside(struct core *c, const char *project, const char *name, struct inside *out, struct error *err);
int machine_set_password(struct core *c, const char *project, const char *name, const struct inside_password *p, struct error *err);
