/* OVF descriptors (DMTF DSP0243, versions 1 and 2), as VirtualBox, VMware and oVirt write them: one machine, its disks and its
 * hardware. What a machine here has no part for (floppies, ports, sound of a certain make, texts, licences) is passed over; a
 * section that says that it must be understood and is not known here is refused.
 *
 * CIM's numbers of resources: CIM_ResourceAllocationSettingData of the CIM schema 2.22 and later. */
#pragma once

#include "base/error.h"
#include "model/machine.h"

#define OVF_DISKS_MAX 16

struct ovf_disk {
	char *id, *file; /* file: its name in the package */
	char *format;    /* as disk_inspect names them; NULL: by its first bytes */
	int64_t capacity; /* of the disk, bytes; 0: not told */
};

struct ovf {
	char *name;  /* of the machine; NULL */
	char *notes; /* NULL */
	struct machine_hardware machine;
	char **files; /* all that belongs to it */
	struct ovf_disk disks[OVF_DISKS_MAX]; /* in order, that which is booted from first */
	size_t n;
};

/* INVALID, UNSUPPORTED; out is empty then. */
int ovf_parse(const char *text, size_t n, struct ovf *out, struct error *err);
void ovf_free(struct ovf *o);

/* A descriptor of version 1 of a machine whose disks are streamOptimized VMDKs, of so many bytes each; free it. */
char *ovf_print(const struct ovf *o, const uint64_t *sizes);
