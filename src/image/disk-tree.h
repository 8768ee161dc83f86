/* The files of the Linux system that is on a disk, read without the kernel's file systems: the partition table by us, ext2, ext3
 * and ext4 by libext2fs, in a child that is confined as those that unpack layers are. Nothing is written to the disk. */
#pragma once

#include "base/error.h"

/* disk: a device or file that nobody writes. dir: an empty directory; `tree.tar` in it is the result, to be taken for what a stranger
 * made. What the kernel shows at its start (/dev, /proc, /run, /sys) is left empty. Of extended attributes user.* and file capabilities
 * are kept. NOT_FOUND: no Linux system on it; UNSUPPORTED: on what is not read here, named; CONFLICT: the file system was not put away
 * cleanly; CORRUPT. To be called as root from a process with one thread. */
int disk_tree(int disk, int dir, struct error *err);

/* ---- for disk-tree's own files, and tests ---- */
#define DISK_PARTS_MAX 160
struct disk_part {
	uint64_t at, size; /* bytes */
};
/* The whole disk first, then its partitions (MBR with logical ones, GPT), as far as they lie on it. Gives how many, or an error. */
int disk_parts(int disk, struct disk_part out[DISK_PARTS_MAX], struct error *err);
