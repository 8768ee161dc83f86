/* Instructions of a Dockerfile that change an image's configuration. */
#pragma once

#include "model/image.h"

/* Each text: an instruction, or several on lines of their own: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD,
 * STOPSIGNAL, USER, VOLUME, WORKDIR. */
int docker_changes(char *const *changes, struct image_config *c, struct error *err);
