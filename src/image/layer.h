/* Layers on disk: a layer's tar becomes a directory that overlayfs can stack, and back. Runs in workers of
 * the agent. */
#pragma once

#include "base/error.h"
#include "base/json.h"

/* Unpacks a layer blob (plain, gzip or zstd by media_type, or found by its magic when NULL) into the empty
 * directory behind target. Runs the parser in a child of its own that is confined to that directory
 * (pivot_root, few capabilities, seccomp allow-list): call it as root from a single-threaded process. The digest of
 * the uncompressed tar must be diff_id, else CORRUPT. Whiteouts become 0:0 character devices, opaque
 * directories get trusted.overlay.opaque; owners, modes, times, xattrs (not trusted.*), file capabilities,
 * hard links, device nodes, sparse files are kept. Nothing is written outside target whatever the archive
 * says; an archive that tries gets an error. *size: bytes of file content. */
int layer_unpack(int blob, const char *media_type, const char *diff_id, int target, uint64_t *size,
		 void (*progress)(uint64_t done, uint64_t total, void *arg), void *arg, struct error *err);

/* Unpacks any tar (for cp and import) into the directory `path` inside root, looked up beneath it; owners
 * are shifted by uid_base (the directory is seen unmapped from the host). Confined in the same way. */
struct unpack_options {
	uint32_t uid_base;
	bool keep_owner, no_overwrite_dir;
};
int tree_unpack(int tar, int root, const char *path, const struct unpack_options *o, struct error *err);

/* Writes the tree at path inside root as a tar: names start with `as`. Owners are shifted back by uid_base. */
int tree_pack(int root, const char *path, const char *as, uint32_t uid_base, int out, struct error *err);

/* Writes an overlay upper directory as an OCI layer tar (whiteouts, opaque markers), owners shifted back. */
int layer_pack(int upper, uint32_t uid_base, int out, struct error *err);

/* What an upper directory changes over its lower ones (lowest first): calls fn for each path, in order.
 * kind: 'A', 'C' or 'D'. */
int layer_changes(int upper, const int *lowers, size_t n_lowers, void (*fn)(char kind, const char *path, void *arg), void *arg, struct error *err);
