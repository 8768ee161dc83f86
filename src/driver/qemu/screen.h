/* What a person in front of a machine sees and does: its screen as a picture, its keys, its pointer. Over QMP (qmp.h). */
#pragma once

#include "base/buf.h"
#include "driver/qemu/qmp.h"
#include "model/machine.h"

#define SCREEN_MAX ((size_t)64 << 20) /* bytes of a picture */

/* Adds the picture, a PNG, to *png. CORRUPT: what QEMU has written is none. */
int screen_shot(struct qmp *q, int64_t deadline, struct buf *png, struct error *err);
/* Whether all of it can be done: INVALID with the field (keys, text). */
int screen_input_check(const struct machine_input *in, struct error *err);
/* Does it, in the order in which a person would; back when the last key is up. What cannot be done is refused before the first. */
int screen_input(struct qmp *q, const struct machine_input *in, int64_t deadline, struct error *err);
