/* ext2, ext3 and ext4 by libext2fs, for disk-tree.c: in its confined child, one file system at a time. */
#pragma once

#include "image/disk-tree.h"

int ext_open(int disk, const struct disk_part *part, void **fs, struct error *err);
void ext_close(void *fs);
bool ext_has(void *fs, const char *path); /* absolute; links are followed */
int ext_tree(void *fs, int out, struct error *err);
