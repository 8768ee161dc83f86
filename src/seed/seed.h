/* Media for cloud-init: what a machine's guest is told about itself at its first start, as files and as the ISO 9660 image that
 * cloud-init looks for. Pure: the same wish gives the same bytes, so that a medium can be made again at any time.
 * https://cloudinit.readthedocs.io/en/22.4.2/reference/datasources/nocloud.html, …/configdrive.html */
#pragma once

#include "base/error.h"
#include "base/json.h"
#include "model/machine.h"

/* One interface, as the guest shall configure it. */
struct seed_nic {
	const char *interface, *mac;
	char **addresses; /* "10.84.0.5/20", of both families; empty: by DHCP */
	char **gateways;  /* at most one of each family */
	char **dns, **search;
	int64_t mtu; /* 0: the usual one */
};
struct seed {
	const struct cloud_init *config;
	const char *id;       /* of the instance, 64 digits */
	const char *hostname; /* with its domain where it has one */
	const struct seed_nic *nics;
	size_t n_nics;
};

/* Whether anything shall be told. */
bool seed_wanted(const struct cloud_init *c);

struct seed_file {
	char *path; /* "meta-data", "openstack/latest/meta_data.json" */
	char *data;
};
#define SEED_FILES_MAX 5
/* The files of the medium, an entry without path behind the last; free with seed_files_free. INVALID with the field of
 * cloud_init that cannot be told in this way. Of the password only its yescrypt hash is in them. The instance-id is made of
 * everything else in them, so that cloud-init runs again when something has changed. */
int seed_files(const struct seed *s, struct seed_file out[SEED_FILES_MAX], struct error *err);
void seed_files_free(struct seed_file files[SEED_FILES_MAX]);
/* The medium, written to fd from where it stands. */
int seed_write(const struct seed *s, int fd, struct error *err);
