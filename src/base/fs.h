/* Files and directories. Paths inside a tree that strangers fill are opened beneath it (fs_open_beneath),
 * never joined as strings. All return 0 or a descriptor, or -errno. */
#pragma once

#include "base/buf.h"
#include "base/util.h"

/* Whole small files. max is the largest size that is read (-EFBIG past it). */
int fs_read(const char *path, size_t max, struct buf *out);
int fs_read_at(int dirfd, const char *path, size_t max, struct buf *out);
int fs_read_fd(int fd, size_t max, struct buf *out);
/* One write() to an existing file: for /proc, /sys and cgroup files. */
int fs_write_value(const char *path, const char *value);
int fs_write_value_at(int dirfd, const char *path, const char *value);
/* Replaces path as a whole: temporary file beside it, fsync, rename, fsync of the directory. */
int fs_replace(const char *path, const void *data, size_t n, mode_t mode);
int fs_replace_at(int dirfd, const char *path, const void *data, size_t n, mode_t mode);

int fs_write_all(int fd, const void *data, size_t n); /* blocking descriptor */
/* Up to n bytes, fewer only at the end of the file. Gives how many, or -errno. */
ssize_t fs_read_full(int fd, void *to, size_t n);
/* Copies until end of file, with copy_file_range/splice where they can. *copied may be NULL. */
int fs_copy(int from, int to, uint64_t *copied);
/* All of a file in an empty one: what they have in common is shared where the file system can, else copied; holes stay. */
int fs_clone(int from, int to);

int fs_mkdir_p(const char *path, mode_t mode);
int fs_fsync_dir(const char *path);
/* Removes a tree, without following links or crossing mounts; a missing path is no error. */
int fs_remove_tree(const char *path);
int fs_remove_tree_at(int dirfd, const char *name);
bool fs_exists(const char *path);

/* openat2: `path` is looked up beneath root; RESOLVE_IN_ROOT treats root as "/" (absolute paths, absolute
 * links and ".." stay inside). With RESOLVE_NO_MAGICLINKS always. */
int fs_open_in_root(int root, const char *path, int flags, mode_t mode);
/* The same with RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS: a path that leaves the tree fails with -EXDEV, one
 * that meets a link with -ELOOP. */
int fs_open_beneath(int root, const char *path, int flags, mode_t mode);
/* The same with RESOLVE_BENEATH: links are followed as long as they stay in the tree, else -EXDEV, as for "..". */
int fs_open_within(int root, const char *path, int flags);
/* The entry `name` (no slash) of a directory: not a link (-ELOOP; with O_PATH the link itself), not onto another
 * mount (-EXDEV). */
int fs_open_entry(int dir, const char *name, int flags);
/* The names in the directory behind a descriptor (O_PATH is enough), sorted as bytes; strv_free them. */
int fs_names(int dir, char ***names);
/* mkdir -p inside root, links resolved as in fs_open_in_root; gives an O_PATH descriptor of the last. */
int fs_mkdir_in_root(int root, const char *path, mode_t mode);

/* "/proc/self/fd/N" in a buffer of the caller's. */
#define FD_PATH_MAX 32
const char *fd_path(int fd, char out[FD_PATH_MAX]);
int fd_set_cloexec(int fd, bool on);
int fd_set_nonblock(int fd, bool on);

/* Unix sockets. Stream unless said otherwise, close-on-exec. */
int sock_listen_unix(const char *path, mode_t mode); /* replaces a dead socket; -EADDRINUSE for a live one */
int sock_connect_unix(const char *path);
int sock_connect_now(const char *path); /* without waiting, the descriptor too: -EAGAIN when too many wait there */
/* Sends data with descriptors attached to its first byte; blocks until all is sent. */
int sock_send_fds(int sock, const void *data, size_t n, const int *fds, size_t nfds);
/* One recvmsg: at most max bytes and nmax descriptors (close-on-exec); what does not fit is closed.
 * Gives the number of bytes, 0 at the end. */
ssize_t sock_recv_fds(int sock, void *data, size_t max, int *fds, size_t nmax, size_t *nfds);
