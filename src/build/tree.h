/* Files from archives of strangers: a build context, a part of an image, an archive to be unpacked. The tree is held in
 * memory, the contents of its files in one file without a name: nothing that an archive says is ever a path of this host, and
 * nothing is left behind when the process ends. */
#pragma once

#include "base/buf.h"
#include "base/error.h"
#include "base/map.h"

#include <sys/stat.h>

struct tree_node {
	struct tree_node *parent;
	char *name;
	mode_t mode; /* with its type */
	uint32_t uid, gid;
	int64_t mtime; /* seconds */
	int64_t mtime_rest; /* nanoseconds, where whoever made it knew them */
	uint64_t offset, size; /* of a file's content */
	uint32_t major, minor;
	char *link;	     /* of a symbolic link */
	struct map *children; /* of a directory: name → node; NULL: none */
	void *capability;    /* security.capability as it stands in archives; NULL */
	size_t capability_len;
	char *digest; /* of the content; "sha256:…" */
};

struct tree;

/* spool: an empty file that is read and written, taken over. */
struct tree *tree_new(int spool);
void tree_free(struct tree *t);
DEFINE_CLEANUP(tree_free_ptr, struct tree *, tree_free);
struct tree_node *tree_root(struct tree *t);
size_t tree_count(const struct tree *t);
uint64_t tree_bytes(const struct tree *t); /* of contents */

/* Adds what a tar (plain or compressed with gzip, bzip2, xz, zstd) from fd holds, below the directory `at` ("" is the top).
 * keep_owner: with its owners, else everything is root's. INVALID: no archive, or one that leads out of itself; TOO_LARGE;
 * CORRUPT; NO_SPACE. What came before the error stays. */
int tree_read(struct tree *t, int fd, const char *at, bool keep_owner, struct error *err);
/* The same from a file of a tree: from may be t. 0, and *is false, if that is no such archive. */
int tree_unpack_node(struct tree *t, const struct tree *from, const struct tree_node *file, const char *at, bool *is,
		     struct error *err);
/* A file made of what is read from fd. */
int tree_add_file(struct tree *t, const char *path, mode_t mode, int64_t mtime, int fd, struct error *err);
void tree_remove(struct tree *t, struct tree_node *n);

/* An entry that comes in another way than in an archive. */
struct tree_entry {
	const char *path; /* relative */
	mode_t mode;	  /* with its type */
	uint32_t uid, gid, major, minor;
	int64_t mtime, mtime_rest;
	const char *link; /* of a symbolic link */
	const char *hard; /* the path of an earlier entry, which this one is a further name of; else NULL */
	const void *capability;
	size_t capability_len;
};
/* Adds it, a file without content; one that was there goes. INVALID: it leads out of the tree; TOO_LARGE. *out NULL: it is left
 * out, as sockets are. */
int tree_add(struct tree *t, const struct tree_entry *e, struct tree_node **out, struct error *err);
/* The content of such a file, of which at most size bytes count; several files may be filled at a time. The file stays until
 * tree_fill_end, which is called in any case. */
struct tree_filling;
struct tree_filling *tree_fill_begin(struct tree *t, struct tree_node *file, uint64_t size, struct error *err);
int tree_fill(struct tree_filling *f, const void *data, size_t n, struct error *err);
void tree_fill_end(struct tree_filling *f);

/* What is at the path: links, also the last, and ".." are resolved inside the tree. NULL: nothing, or links without end. */
struct tree_node *tree_find(struct tree *t, const char *path);
/* The path of a node from the top, without a slash before it; free it. */
char *tree_path(const struct tree_node *n);
/* A directory's entries by name, NULL-terminated; free the array. */
struct tree_node **tree_list(const struct tree_node *dir);

int tree_content(const struct tree *t, const struct tree_node *file, size_t max, struct buf *out, struct error *err);
/* Reads at most n bytes of the file at `offset`. Bytes, 0 at the end, -errno. */
ssize_t tree_pread(const struct tree *t, const struct tree_node *file, uint64_t offset, void *data, size_t n);
