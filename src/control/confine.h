/* Giving up everything that control does not need. In this order: ids and capabilities, Landlock, seccomp. */
#pragma once

#include "base/error.h"

/* What may be opened beneath a path. */
struct confine_path {
	const char *path;
	bool write; /* and make and remove files and directories */
};

/* Becomes uid and gid without further groups, without capabilities (also in the bounding set), with
 * no_new_privs; not dumpable. Ends with its parent. Root only. */
int confine_user(uid_t uid, gid_t gid, struct error *err);
/* From here on only files beneath the paths can be opened; paths that do not exist are skipped (they stay
 * closed when they come later). Sockets of the abstract name space and signals to others are cut off where
 * the kernel can. On a kernel without Landlock: UNSUPPORTED. */
int confine_files(const struct confine_path *paths, size_t n, struct error *err);
/* From here on system calls that are not on the list fail with ENOSYS; no process can be made, only threads. */
int confine_calls(struct error *err);
