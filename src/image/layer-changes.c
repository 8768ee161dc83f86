/* layer_changes: an upper directory compared with the lower ones that it was stacked on, as overlayfs
 * merges them: per name the topmost layer decides, whiteouts and opaque directories hide what is below. */
#include "image/layer.h"

#include "base/fs.h"
#include "base/str.h"
#include "image/layer-walk.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

struct compare {
	const int *lowers; /* lowest first */
	size_t n;
	void (*fn)(char kind, const char *path, void *arg);
	void *arg;
};

/* A directory above the one at hand that is to be told before its first changed entry. */
struct ancestor {
	const struct ancestor *up;
	const char *path;
	bool *told;
};

/* Which lowers still show through at a directory. */
struct below {
	bool *shows;
	bool exists;
	struct stat st; /* of the topmost */
};

static void tell(const struct compare *c, const struct ancestor *a, char kind, const char *path) {
	if (a && !*a->told) {
		*a->told = true;
		tell(c, a->up, 'C', a->path);
	}
	c->fn(kind, path, c->arg);
}

/* What the lowers that show at a directory have under path, a name in it. out->shows is to be freed. */
static int look_below(const struct compare *c, const bool *shows, const char *path, struct below *out) {
	*out = (struct below){.shows = alloc_array(c->n + 1, sizeof *out->shows)};
	for (size_t i = c->n; i-- > 0;) {
		if (!shows[i])
			continue;
		_cleanup_(close_fd) int fd = fs_open_beneath(c->lowers[i], path + 1, O_PATH | O_NOFOLLOW, 0);
		struct stat st;
		if (fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP)
			continue;
		if (fd < 0 || fstat(fd, &st) < 0)
			return fd < 0 ? fd : -errno;
		if (tree_is_whiteout(&st) || (out->exists && !S_ISDIR(st.st_mode)))
			break;
		if (!out->exists)
			out->st = st;
		out->exists = true;
		if (!S_ISDIR(st.st_mode))
			break;
		out->shows[i] = true;
		if (tree_is_opaque(fd))
			break;
	}
	return 0;
}

static bool same_dir(const struct stat *a, const struct stat *b) {
	return S_ISDIR(a->st_mode) && S_ISDIR(b->st_mode) && a->st_mode == b->st_mode &&
	       a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* Both sorted; takes the strings of more. */
static void merge_names(char ***names, char ***more) {
	size_t n = strv_len(*names), m = strv_len(*more), kept = 0;
	char **all = alloc_array(n + m + 1, sizeof *all);
	for (size_t i = 0, j = 0; i < n || j < m;) {
		int order = i == n ? 1 : j == m ? -1 : strcmp((*names)[i], (*more)[j]);
		all[kept++] = order <= 0 ? (*names)[i] : (*more)[j];
		if (order == 0)
			free((*more)[j]);
		i += order <= 0;
		j += order >= 0;
	}
	free(TAKE_PTR(*more));
	free(*names);
	*names = all;
}

/* Adds the names that lowers have in a directory that hides them. */
static int add_hidden_names(const struct compare *c, const bool *shows, const char *path, char ***names) {
	for (size_t i = 0; i < c->n; i++) {
		if (!shows[i])
			continue;
		_cleanup_(close_fd) int fd = fs_open_beneath(c->lowers[i], path + 1, O_PATH | O_DIRECTORY, 0);
		char **more = NULL;
		int r = fd < 0 ? fd : fs_names(fd, &more);
		if (r < 0)
			return r;
		merge_names(names, &more);
	}
	return 0;
}

static int compare_dir(const struct compare *c, int dir, bool opaque, const struct below *below,
		       const struct ancestor *at, struct error *err);

static int compare_entry(const struct compare *c, int dir, const char *name, bool opaque, const bool *shows,
			 const struct ancestor *up, struct error *err) {
	_cleanup_(free_ptr) char *path = str_format("%s/%s", up->path[1] ? up->path : "", name);
	if (strlen(path) > TREE_PATH_MAX)
		return error_set(err, ERROR_INVALID, "a path of more than %d bytes cannot be compared: \"%.64s…\"",
				 TREE_PATH_MAX, path);
	struct below below;
	int r = look_below(c, shows, path, &below);
	_cleanup_(free_ptr) bool *below_shows = below.shows;
	if (r < 0)
		return error_errno(err, r, "cannot look at \"%s\" in the lower layers", path);
	_cleanup_(close_fd) int fd = fs_open_entry(dir, name, O_PATH);
	struct stat st;
	if (fd == -ENOENT || (fd >= 0 && fstat(fd, &st) == 0 && tree_is_whiteout(&st))) {
		if (below.exists && (fd >= 0 || opaque))
			tell(c, up, 'D', path);
		return 0;
	}
	if (fd < 0)
		return error_errno(err, fd, "cannot open \"%s\"", path);
	bool told = !below.exists || !same_dir(&st, &below.st);
	if (told)
		tell(c, up, below.exists ? 'C' : 'A', path);
	struct ancestor here = {.up = up, .path = path, .told = &told};
	return S_ISDIR(st.st_mode) ? compare_dir(c, fd, opaque || tree_is_opaque(fd), &below, &here, err) : 0;
}

static int compare_dir(const struct compare *c, int dir, bool opaque, const struct below *below,
		       const struct ancestor *at, struct error *err) {
	_cleanup_(strv_free_ptr) char **names = NULL;
	int r = fs_names(dir, &names);
	if (r == 0 && opaque)
		r = add_hidden_names(c, below->shows, at->path, &names);
	if (r < 0)
		return error_errno(err, r, "cannot list \"%s\"", at->path);
	for (char **name = names; name && *name; name++) {
		r = compare_entry(c, dir, *name, opaque, below->shows, at, err);
		if (r < 0)
			return r;
	}
	return 0;
}

int layer_changes(int upper, const int *lowers, size_t n_lowers, void (*fn)(char kind, const char *path, void *arg),
		  void *arg, struct error *err) {
	struct compare c = {.lowers = lowers, .n = n_lowers, .fn = fn, .arg = arg};
	_cleanup_(free_ptr) bool *shows = alloc_array(n_lowers + 1, sizeof *shows);
	for (size_t i = 0; i < n_lowers; i++)
		shows[i] = true;
	struct below below = {.shows = shows, .exists = true};
	bool told = true; /* "/" itself is never told */
	struct ancestor at = {.path = "/", .told = &told};
	int r = compare_dir(&c, upper, false, &below, &at, err);
	if (r < 0)
		error_wrap(err, "cannot compare with the lower layers");
	return r;
}
