/* Disk images by their headers: what format, how large a disk, and whether it is all in this one file. Never more is read
 * than a bounded number of headers; the rest is for qemu-img, confined, with the format given. An image that names another
 * file (a backing file, a data file, a parent, extents) is refused, whoever would follow it.
 *
 * Facts: docs/interop/qcow2.txt of QEMU; VMware's Virtual Disk Format 1.1; the VDI structures of VirtualBox; Microsoft's
 * Virtual Hard Disk Image Format Specification 1.0 and [MS-VHDX]; ECMA-119. */
#pragma once

#include "base/error.h"

#define DISK_SIZE_MAX (INT64_C(64) << 40)
#define DISK_HEAD ((size_t)33 << 10) /* bytes at the beginning by which anything is recognised */

struct disk_info {
	const char *format;   /* static: qcow2 raw vmdk vdi vpc vhdx, iso */
	int64_t virtual_size; /* of the disk, bytes */
};

/* By its first bytes: a format, "ova" and "kernel" too; NULL: nothing that is known here. A raw disk is told by a boot sector. */
const char *disk_recognise(const void *head, size_t n);
/* Of the whole file, which is of that format or refused. INVALID: it is not, or it needs another file; CORRUPT: it is cut off
 * or its headers make no sense; UNSUPPORTED. */
int disk_inspect(int fd, const char *format, struct disk_info *out, struct error *err);
/* Formats of disks, as qemu-img calls them. */
bool disk_format_known(const char *format);
