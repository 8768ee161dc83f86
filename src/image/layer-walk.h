/* Looking at trees that a hostile container may change meanwhile: everything beneath descriptors.
 * Private to the image room. */
#pragma once

#include "base/error.h"

#include <sys/stat.h>

/* Longest path inside a tree or archive, and how deep xattr values may be. */
#define TREE_PATH_MAX 4096
#define TREE_XATTR_MAX ((size_t)64 << 10)

/* openat2 with root as "/" (links and ".." resolve inside), never through a magic link, never onto
 * another mount than root's. A descriptor or -errno. */
int tree_open_in(int root, const char *path, int flags, mode_t mode);
/* Opens what an O_PATH descriptor stands for, which cannot be anything else by then. */
int tree_reopen(int path_fd, int flags);

/* Is this on /proc, /sys or the like, as a running container has mounted them? The host's root must not read
 * or write there for it. */
bool tree_is_kernel_interface(int fd);

/* A character device 0:0, as overlayfs marks what was deleted. */
bool tree_is_whiteout(const struct stat *st);
/* Is the directory behind this descriptor (O_PATH is enough) marked opaque? */
bool tree_is_opaque(int dir);

/* security.capability between what a container sees and what its files carry on disk: version 2 there,
 * version 3 with the owner of its user namespace here (uid_base 0: the same). Each rewrites the value in
 * place (room for TREE_CAP_MAX bytes) and gives its new length, or -EINVAL for one that is of no use. */
#define TREE_CAP_MAX 24
ssize_t tree_cap_shift(uint8_t value[TREE_CAP_MAX], size_t len, uint32_t uid_base);
ssize_t tree_cap_unshift(uint8_t value[TREE_CAP_MAX], size_t len, uint32_t uid_base);

/* Owners: ids 0..65535 are uid_base.. on disk; what has no counterpart becomes 65534. uid_base 0 changes
 * nothing. */
uint32_t tree_id_shift(uint64_t id, uint32_t uid_base);
uint32_t tree_id_unshift(uint32_t id, uint32_t uid_base);
