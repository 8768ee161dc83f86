/* Walking trees that strangers fill: two descriptors at a time, however deep they are. */
#include "driver/storage/storage-priv.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define PATH_TEXT_MAX 4096

struct level {
	char **dirs; /* directories still to be entered, from next on */
	size_t next, path_len;
	struct stat st;
};

struct walk {
	const struct tree_visitor *v;
	int dir; /* of the last level */
	struct level *levels;
	size_t n, cap;
	struct buf path;
};

static void walk_free(struct walk *w) {
	close_fd(&w->dir);
	for (size_t i = 0; i < w->n; i++)
		strv_free(w->levels[i].dirs);
	free(w->levels);
	buf_free(&w->path);
}

static int failed(const struct walk *w, int errnum, struct error *err) {
	return error_errno(err, errnum, "cannot read %s", w->path.len ? buf_str(&w->path) : "the directory");
}

/* Goes through the directory w->dir: files at once, directories are noted. */
static int scan(struct walk *w, struct level *l, struct error *err) {
	_cleanup_(strv_free_ptr) char **names = NULL;
	int r = fs_names(w->dir, &names);
	if (r < 0)
		return failed(w, r, err);
	size_t dirs = 0;
	for (size_t i = 0; names && names[i]; i++) {
		struct stat st;
		if (fstatat(w->dir, names[i], &st, AT_SYMLINK_NOFOLLOW) < 0) {
			if (errno == ENOENT) /* gone meanwhile */
				continue;
			return failed(w, errno, err);
		}
		if (S_ISDIR(st.st_mode)) {
			char *keep = names[i];
			names[i] = names[dirs];
			names[dirs++] = keep;
			continue;
		}
		buf_addf(&w->path, "/%s", names[i]);
		r = w->v->entry ? w->v->entry(w->v->arg, w->dir, names[i], &st, buf_str(&w->path), err) : 0;
		buf_truncate(&w->path, l->path_len);
		if (r < 0)
			return r;
	}
	for (size_t i = dirs; names && names[i]; i++)
		free_ptr(&names[i]);
	if (names)
		names[dirs] = NULL;
	l->dirs = TAKE_PTR(names);
	return 0;
}

static int descend(struct walk *w, int parent, const char *name, struct error *err) {
	struct level l = {.path_len = w->path.len};
	if (fstat(w->dir, &l.st) < 0)
		return failed(w, errno, err);
	int r = w->v->enter ? w->v->enter(w->v->arg, parent, name, &l.st, buf_str(&w->path), err) : 0;
	if (r == 0)
		r = scan(w, &l, err);
	if (r < 0)
		return r;
	if (w->n == w->cap) {
		w->cap = w->cap ? 2 * w->cap : 32;
		w->levels = alloc_resize(w->levels, w->cap, sizeof *w->levels);
	}
	w->levels[w->n++] = l;
	return 0;
}

static int enter_next(struct walk *w, const char *name, struct error *err) {
	if (w->path.len + strlen(name) + 2 < PATH_TEXT_MAX)
		buf_addf(&w->path, "/%s", name);
	int sub = fs_open_entry(w->dir, name, O_RDONLY | O_DIRECTORY);
	if (sub == -ENOENT) { /* gone meanwhile */
		buf_truncate(&w->path, w->levels[w->n - 1].path_len);
		return 0;
	}
	if (sub < 0)
		return failed(w, sub, err);
	_cleanup_(close_fd) int parent = w->dir;
	w->dir = sub;
	return descend(w, parent, name, err);
}

/* Back to the directory above, which must still be the one that we came from. */
static int ascend(struct walk *w, struct error *err) {
	struct level *l = &w->levels[w->n - 1];
	int r = w->v->leave ? w->v->leave(w->v->arg, w->dir, &l->st, buf_str(&w->path), err) : 0;
	strv_free(l->dirs);
	w->n--;
	if (r < 0 || w->n == 0)
		return r;
	int up = openat(w->dir, "..", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;
	if (up < 0 || fstat(up, &st) < 0) {
		r = failed(w, errno, err);
		close_fd(&up);
		return r;
	}
	close_fd(&w->dir);
	w->dir = up;
	const struct stat *was = &w->levels[w->n - 1].st;
	if (st.st_ino != was->st_ino || st.st_dev != was->st_dev)
		return error_set(err, ERROR_CONFLICT, "%s was moved while it was read", buf_str(&w->path));
	buf_truncate(&w->path, w->levels[w->n - 1].path_len);
	return 0;
}

int storage_tree_walk(const char *root, const struct tree_visitor *v, struct error *err) {
	_cleanup_(walk_free) struct walk w = {.v = v, .dir = open(root, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)};
	if (w.dir < 0)
		return error_errno(err, errno, "cannot open the tree %s", root);
	int r = descend(&w, -1, NULL, err);
	while (r == 0 && w.n) {
		struct level *l = &w.levels[w.n - 1];
		r = l->dirs && l->dirs[l->next] ? enter_next(&w, l->dirs[l->next++], err) : ascend(&w, err);
	}
	return r;
}

int storage_tree_empty(const char *root, struct error *err) {
	_cleanup_(close_fd) int dir = open(root, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	_cleanup_(strv_free_ptr) char **names = NULL;
	int r = dir < 0 ? -errno : fs_names(dir, &names);
	for (size_t i = 0; r == 0 && names && names[i]; i++)
		r = fs_remove_tree_at(dir, names[i]);
	return r < 0 ? error_errno(err, r, "cannot empty %s", root) : 0;
}

struct usage {
	struct map *seen;
	int64_t used;
};

static void add_usage(struct usage *u, const struct stat *st) {
	u->used += (int64_t)st->st_blocks * 512;
}

static int usage_entry(void *arg, int dir, const char *name, const struct stat *st, const char *path, struct error *err) {
	struct usage *u = arg;
	(void)dir, (void)name, (void)path, (void)err;
	if (storage_seen_before(u->seen, st))
		return 0;
	add_usage(u, st);
	return 0;
}

static int usage_enter(void *arg, int parent, const char *name, const struct stat *st, const char *path,
		       struct error *err) {
	(void)parent, (void)name, (void)path, (void)err;
	add_usage(arg, st);
	return 0;
}

bool storage_seen_before(struct map *seen, const struct stat *st) {
	if (st->st_nlink < 2)
		return false;
	char key[48];
	snprintf(key, sizeof key, "%jx:%jx", (uintmax_t)st->st_dev, (uintmax_t)st->st_ino);
	if (map_get(seen, key))
		return true;
	map_set(seen, key, seen);
	return false;
}

int storage_tree_usage(const char *root, int64_t *used, struct error *err) {
	_cleanup_(map_free_ptr) struct map *seen = map_new(NULL);
	struct usage u = {.seen = seen};
	int r = storage_tree_walk(root, &(struct tree_visitor){usage_enter, usage_entry, NULL, &u}, err);
	*used = u.used;
	return r;
}
