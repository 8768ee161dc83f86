/* Writing a tar: ustar headers, pax records where those do not suffice; the same tree gives the same bytes.
 * Private to the image room. */
#pragma once

#include "base/buf.h"
#include "base/error.h"

#include <time.h>

struct tar_xattr {
	char *name;
	void *value;
	size_t len;
};

struct tar_entry {
	char type;	  /* '0' file '1' hard link '2' symbolic link '3' char '4' block '5' directory '6' fifo */
	const char *path; /* a directory's without slash at its end */
	const char *link; /* types 1 and 2 */
	uint32_t mode, uid, gid, major, minor;
	uint64_t size; /* type 0: what follows by tar_file */
	struct timespec mtime;
	const struct tar_xattr *xattrs; /* sorted by name */
	size_t n_xattrs;
};

struct tar_writer {
	int fd; /* -1: to nowhere */
	char *chunk;
	size_t len;
	/* gets every byte; NULL: nobody wants to know */
	void (*tap)(void *arg, const void *data, size_t n);
	void *tap_arg;
};

void tar_open(struct tar_writer *w, int fd); /* w: zeroed, but for tap */
void tar_close(struct tar_writer *w); /* frees; does not write */
int tar_add(struct tar_writer *w, const struct tar_entry *e, struct error *err);
/* The content of the entry just added, size bytes from fd: one that has shrunk is filled with zeros. */
int tar_file(struct tar_writer *w, int fd, uint64_t size, struct error *err);
/* The same piece by piece: size bytes in all, then tar_pad of that size. */
int tar_bytes(struct tar_writer *w, const void *data, size_t n, struct error *err);
int tar_pad(struct tar_writer *w, uint64_t size, struct error *err);
/* The end of the archive. */
int tar_finish(struct tar_writer *w, struct error *err);
