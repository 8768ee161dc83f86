/* Layers on disk: a layer's tar becomes a directory that overlayfs can stack, and back. Runs in workers of
 * the agent. Nothing here syncs to disk: who relies on a result does that once, for all of it. */
#pragma once

#include "base/error.h"

/* Unpacks a layer blob (plain, gzip or zstd by media_type, or found by its magic when NULL) into the empty
 * directory behind target. A blob that is a regular file is read from its beginning, whatever its offset.
 * Runs the parser in a child of its own that is confined to that directory (pivot_root, few capabilities,
 * seccomp allow-list): call it as root from a single-threaded process; layers may be unpacked side by side
 * by several. The child dies with its caller.
 *
 * The digest of the uncompressed tar must be diff_id, else CORRUPT (as is damage). Whiteouts become 0:0
 * character devices, opaque directories get trusted.overlay.opaque (which overlayfs does not heed on a
 * layer's root); owners, modes, times, xattrs (not trusted.*, user.overlay.*), file capabilities, hard links,
 * device nodes, sparse files are kept, sockets left out. Nothing is written outside target whatever the
 * archive says; an archive that tries gets INVALID. After a failure target holds a part, which is the caller's
 * to remove. *size: bytes of file content. NO_SPACE, TOO_LARGE, UNSUPPORTED (media type). */
int layer_unpack(int blob, const char *media_type, const char *diff_id, int target, uint64_t *size,
		 void (*progress)(uint64_t done, uint64_t total, void *arg), void *arg, struct error *err);

/* Unpacks any tar (plain, gzip or zstd; for cp and import) into the directory `path` inside root, looked up
 * beneath it; confined in the same way. root may be that of a running container (/proc/PID/root). path may
 * lie on another mount of it (a volume), but below path no mount is crossed, and /proc, /sys and the like
 * are refused.
 *
 * Owners are shifted by uid_base (the directory is seen unmapped from the host): ids from 65536 on become
 * 65534, file capabilities those of the container's user namespace. uid_base 0 shifts nothing. Without
 * keep_owner everything belongs to the container's root. no_overwrite_dir: as docker cp, a directory is not
 * replaced by something else nor the other way round (CONFLICT), and the archive's "./" leaves path's own
 * owner and mode alone. Names that begin with .wh. are just names. */
struct unpack_options {
	uint32_t uid_base;
	bool keep_owner, no_overwrite_dir;
};
int tree_unpack(int tar, int root, const char *path, const struct unpack_options *o, struct error *err);

/* Writes the file or tree at path inside root (a link at its end is packed as a link) as a pax tar: names
 * start with `as` ("." or "": the tree's content as "./" and plain names; "./": these begin with "./" too). Owners are shifted back by uid_base,
 * what is outside of its 65536 ids becomes 65534. Mounts below path are packed as empty directories. The tree
 * may change meanwhile. Uses /proc. */
int tree_pack(int root, const char *path, const char *as, uint32_t uid_base, int out, struct error *err);

/* Writes an overlay upper directory as an OCI layer tar (whiteouts, opaque markers), owners shifted back. The
 * same tree gives the same bytes. *diff_id: its digest, free it; *size: bytes of file content; both may be NULL. UNSUPPORTED
 * for an overlay that was mounted with redirect_dir or metacopy and has used it: mount with both off. */
int layer_pack(int upper, uint32_t uid_base, int out, char **diff_id, uint64_t *size, struct error *err);

/* What an upper directory changes over its lower ones (lowest first): calls fn for each path ("/etc/x"), a
 * directory before what is in it, else in order of names. kind: 'A' added, 'C' changed (also: something in
 * it has), 'D' deleted. */
int layer_changes(int upper, const int *lowers, size_t n_lowers, void (*fn)(char kind, const char *path, void *arg),
		  void *arg, struct error *err);
