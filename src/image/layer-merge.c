/* Several layers as one. They are read from the highest down: what a higher one has, has removed or has put something else
 * in the place of is left out of the lower ones. */
#include "image/archive.h"

#include "base/map.h"
#include "base/str.h"

#include <archive.h>
#include <archive_entry.h>
#include <unistd.h>

#define PIECE ((size_t)256 << 10)

/* What higher layers say of a path. */
enum state { IS_DIRECTORY = 1, IS_OTHER, IS_GONE, IS_OPAQUE /* a directory without what lies below */ };

struct merge {
	struct archive *out;
	struct map *above; /* path → state, of the layers above this one */
	struct map *own;   /* of this one, until it is done */
	char *piece;
};

static enum state state_of(const struct map *m, const char *path) {
	return (enum state)(intptr_t)map_get(m, path);
}

static void set_state(struct map *m, const char *path, enum state s) {
	map_set(m, path, (void *)(intptr_t)s);
}

/* Without "./" before and "/" behind it. */
static char *plain_path(const char *name) {
	while (*name == '/' || (name[0] == '.' && name[1] == '/'))
		name++;
	size_t n = strlen(name);
	while (n && name[n - 1] == '/')
		n--;
	return n == 1 && *name == '.' ? str_copy("") : str_copyn(name, n);
}

/* A directory above it went away, or became something else. */
static bool is_under_gone(const struct merge *m, const char *path) {
	for (const char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
		_cleanup_(free_ptr) char *above = str_copyn(path, (size_t)(slash - path));
		enum state s = state_of(m->above, above);
		if (s && s != IS_DIRECTORY)
			return true;
	}
	return state_of(m->above, "") == IS_OPAQUE && *path;
}

static int failed(struct archive *a, struct error *err) {
	const char *why = archive_error_string(a);
	return error_set(err, ERROR_CORRUPT, "merging layers: %s", why ? why : "unknown reason");
}

static int write_marker(struct merge *m, const char *dir, const char *name, struct error *err) {
	struct archive_entry *e = archive_entry_new();
	_cleanup_(free_ptr) char *path = str_format("%s%s%s", dir, *dir ? "/" : "", name);
	archive_entry_set_pathname(e, path);
	archive_entry_set_mode(e, S_IFREG | 0600);
	archive_entry_set_size(e, 0);
	int r = archive_write_header(m->out, e);
	archive_entry_free(e);
	return r == ARCHIVE_OK ? 0 : failed(m->out, err);
}

/* "dir/.wh.name" */
static int take_whiteout(struct merge *m, const char *dir, const char *name, struct error *err) {
	_cleanup_(free_ptr) char *path = str_format("%s%s%s", dir, *dir ? "/" : "", name);
	_cleanup_(free_ptr) char *marker = str_format(".wh.%s", name);
	enum state above = state_of(m->above, path);
	if (above == IS_DIRECTORY) { /* made again since */
		set_state(m->own, path, IS_OPAQUE);
		return write_marker(m, path, ".wh..wh..opq", err);
	}
	if (above)
		return 0;
	set_state(m->own, path, IS_GONE);
	return write_marker(m, dir, marker, err);
}

static int take_marker(struct merge *m, const char *path, const char *name, struct error *err) {
	_cleanup_(free_ptr) char *dir = str_copyn(path, name > path ? (size_t)(name - path - 1) : 0);
	if (!str_same(name, ".wh..wh..opq"))
		return take_whiteout(m, dir, name + strlen(".wh."), err);
	enum state above = state_of(m->above, dir);
	if (above && above != IS_DIRECTORY)
		return 0;
	set_state(m->own, dir, IS_OPAQUE);
	return write_marker(m, dir, name, err);
}

static int copy_content(struct merge *m, struct archive *in, struct error *err) {
	for (;;) {
		la_ssize_t n = archive_read_data(in, m->piece, PIECE);
		if (n < 0)
			return failed(in, err);
		if (n == 0)
			return 0;
		if (archive_write_data(m->out, m->piece, (size_t)n) != n)
			return failed(m->out, err);
	}
}

/* A further name of a file that a higher layer has replaced has nothing to be a name of. */
static int check_link(const struct merge *m, const char *path, const char *target, struct error *err) {
	_cleanup_(free_ptr) char *plain = plain_path(target);
	if (!state_of(m->above, plain) && !is_under_gone(m, plain))
		return 0;
	return error_set(err, ERROR_UNSUPPORTED, "the layers cannot be merged: %s is a hard link to %s, which a higher layer has changed",
			 path, plain);
}

static int take_entry(struct merge *m, struct archive *in, struct archive_entry *e, struct error *err) {
	_cleanup_(free_ptr) char *path = plain_path(archive_entry_pathname(e) ? archive_entry_pathname(e) : "");
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path, *link = archive_entry_hardlink(e);
	if (is_under_gone(m, path))
		return 0;
	if (str_starts(name, ".wh."))
		return take_marker(m, path, name, err);
	if (state_of(m->above, path))
		return 0;
	int r = link ? check_link(m, path, link, err) : 0;
	if (r < 0)
		return r;
	if (!state_of(m->own, path))
		set_state(m->own, path, archive_entry_filetype(e) == AE_IFDIR && !link ? IS_DIRECTORY : IS_OTHER);
	if (archive_write_header(m->out, e) < ARCHIVE_WARN)
		return failed(m->out, err);
	return archive_entry_size(e) > 0 && !link ? copy_content(m, in, err) : 0;
}

static void reader_free(struct archive **a) {
	archive_read_free(*a);
}

static int merge_layer(struct merge *m, int blob, struct error *err) {
	_cleanup_(reader_free) struct archive *in = archive_read_new();
	struct archive_entry *e;
	archive_read_support_format_tar(in);
	archive_read_support_format_empty(in);
	archive_read_support_filter_gzip(in);
	archive_read_support_filter_zstd(in);
	if (archive_read_open_fd(in, blob, PIECE) != ARCHIVE_OK)
		return failed(in, err);
	for (;;) {
		int r = archive_read_next_header(in, &e);
		if (r == ARCHIVE_EOF)
			return 0;
		r = r < ARCHIVE_WARN ? failed(in, err) : take_entry(m, in, e, err);
		if (r < 0)
			return r;
	}
}

/* What this layer says counts for those below it. A directory that it makes opaque may be known above already. */
static void sink_down(struct merge *m) {
	const char *path;
	void *state;
	for (size_t i = 0; map_next(m->own, &i, &path, &state);)
		map_set(m->above, path, state);
	map_free(m->own);
	m->own = map_new(NULL);
}

int layers_merge(struct content *c, const struct image *image, size_t from, int out, struct error *err) {
	struct merge m = {.out = archive_write_new(), .above = map_new(NULL), .own = map_new(NULL), .piece = alloc_zero(PIECE)};
	archive_write_set_format_pax_restricted(m.out);
	archive_write_set_bytes_in_last_block(m.out, 1);
	int r = archive_write_open_fd(m.out, out) == ARCHIVE_OK ? 0 : failed(m.out, err);
	for (size_t i = image->layers.n; r == 0 && i-- > from;) {
		_cleanup_(close_fd) int blob = content_blob(c, image->layers.items[i].digest, NULL, err);
		r = blob < 0 ? blob : merge_layer(&m, blob, err);
		sink_down(&m);
	}
	if (r == 0 && archive_write_close(m.out) != ARCHIVE_OK)
		r = failed(m.out, err);
	archive_write_free(m.out);
	map_free(m.above);
	map_free(m.own);
	free(m.piece);
	return r;
}
