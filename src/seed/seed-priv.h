/* What the files of this room share. */
#pragma once

#include "seed/seed.h"

#include "base/buf.h"

/* JSON that is YAML too, whatever the strings in it hold; a newline behind it. Free it. */
char *yaml_print(const json_t *value);

/* Of a description in the version 2 of cloud-init's, and in OpenStack's network_data.json. */
json_t *network_v2(const struct seed *s);
json_t *network_openstack(const struct seed *s);

/* What a guest gets as user data: ours joined with the user's. NULL: neither gives any. */
int user_data_make(const struct seed *s, char **out, struct error *err);

/* An ISO 9660 image with Joliet and Rock Ridge of these files. */
int iso_write(const char *volume, const struct seed_file *files, int fd, struct error *err);
