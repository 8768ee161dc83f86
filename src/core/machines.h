/* Verbs that only machines have. */
#pragma once

#include "core/instances.h"
#include "model/inside.h"

/* A stream that speaks RFB (RFC 6143) to a machine's screen, without a password: whoever may call this may use it. CONFLICT: it is
 * a container, does not run, or has no graphics card. */
int machine_display(struct core *c, const char *project, const char *name, int *fd, struct error *err);
/* A stream that speaks usbredir (its version 0.7) to one of the places that a machine has for USB devices of clients: what the caller says there
 * is plugged in, until the stream ends. CONFLICT: it has none, or none that is free. */
int machine_usb(struct core *c, const char *project, const char *name, int *fd, struct error *err);
/* A picture of it: a stream with a PNG. */
int machine_screen(struct core *c, const char *project, const char *name, int *fd, struct error *err);
/* Keys and pointer; back when all is done. CONFLICT: it is a container, or does not run. */
int machine_input(struct core *c, const char *project, const char *name, const struct machine_input *in, struct error *err);

/* Its disks, all of one moment, while it goes on: *fd a stream of a tar of qcow2 images, or with `disk` ("root", or a volume's name)
 * that image. since (NULL: all): what has been written since that checkpoint, an image upon the earlier one. checkpoint (NULL:
 * none): one of this moment, there once all has been read; it lasts as long as the machine runs. NOT_FOUND, EXISTS, CONFLICT. */
struct machine_export {
	const char *disk, *since, *checkpoint;
};
int machine_export(struct core *c, const char *project, const char *name, const struct machine_export *e, int *fd, struct error *err);
/* {"checkpoints":[NAME…]}; free it. */
int machine_checkpoints(struct core *c, const char *project, const char *name, char **json, struct error *err);
int machine_checkpoint_delete(struct core *c, const char *project, const char *name, const char *checkpoint, struct error *err);

/* What its guest tells of itself; free it with inside_table. UNAVAILABLE: no agent answers in it. */
int machine_inside(struct core *c, const char *project, const char *name, struct inside *out, struct error *err);
int machine_set_password(struct core *c, const char *project, const char *name, const struct inside_password *p, struct error *err);
