/* What the sources of COPY and ADD mean: files of the context, of a stage, of an image, of a URL. */
#include "build/build-priv.h"

#include "base/fs.h"
#include "base/str.h"
#include "build/ignore.h"
#include "core/instances.h"

#include <strings.h>
#include <sys/mman.h>
#include <unistd.h>

static void repository_free(struct repository *r) {
	if (!r)
		return;
	git_source_free(&r->source);
	free(r->commit);
	free(r);
}

static void source_clear(struct copy_source *s) {
	repository_free(s->repository);
	free(s->name);
	free(s->path);
}

void copy_sources_free(struct copy_sources *c) {
	for (size_t i = 0; i < c->n; i++)
		source_clear(&c->items[i]);
	for (size_t i = 0; i < c->n_own; i++)
		tree_free(c->own[i]);
	free(c->items);
	free(c->own);
	ignore_free(&c->excludes);
	*c = (struct copy_sources){0};
}

static void add_source(struct copy_sources *c, struct tree *t, struct tree_node *n, const char *name, bool unpack) {
	c->items = alloc_resize(c->items, c->n + 1, sizeof *c->items);
	c->items[c->n++] = (struct copy_source){.tree = t, .node = n, .name = str_copy(name), .unpack = unpack && S_ISREG(n->mode)};
}

static struct tree *own_tree(struct stage *s, struct copy_sources *c, struct error *err) {
	int spool = core_spool(s->b->core, err);
	if (spool < 0)
		return NULL;
	c->own = alloc_resize(c->own, c->n_own + 1, sizeof(*c->own));
	return c->own[c->n_own++] = tree_new(spool);
}

int copy_source_text(struct stage *s, const char *name, mode_t mode, const char *text, struct copy_sources *out, struct error *err) {
	struct tree *t = own_tree(s, out, err);
	_cleanup_(close_fd) int fd = t ? memfd_create("here", MFD_CLOEXEC) : -1;
	if (!t)
		return -ERROR_INTERNAL;
	int r = fd < 0 ? -errno : fs_write_all(fd, text, strlen(text));
	if (r < 0 || lseek(fd, 0, SEEK_SET) < 0)
		return error_errno(err, r < 0 ? r : errno, "keeping a here-document");
	r = tree_add_file(t, name, mode, 0, fd, err);
	if (r == 0)
		add_source(out, t, tree_find(t, name), name, false);
	return r;
}

static const struct heredoc *heredoc_of(const struct instruction *i, const char *word) {
	for (size_t k = 0; k < i->n_heredocs; k++)
		if (str_same(i->heredocs[k].word, word))
			return &i->heredocs[k];
	return NULL;
}

static int find_heredoc(struct stage *s, const struct heredoc *doc, struct copy_sources *out, struct error *err) {
	_cleanup_(free_ptr) char *text = NULL;
	int r = doc->expand ? stage_expand_text(s, doc->content, &text, err) : 0;
	return r < 0 ? r : copy_source_text(s, doc->name, S_IFREG | 0644, doc->expand ? text : doc->content, out, err);
}

static const char *last_part(const char *clean) {
	const char *slash = strrchr(clean, '/');
	return slash ? slash + 1 : clean;
}

static int not_there(const struct stage *s, const char *word, struct error *err) {
	_cleanup_(free_ptr) char *shown = text_shown(word);
	if (s->b->sink->event)
		return error_set(err, ERROR_INVALID, "failed to compute cache key: \"/%s\": not found", shown);
	return error_set(err, ERROR_INVALID, "file not found in build context or excluded by .dockerignore: stat %s: file does "
					     "not exist", shown);
}

/* ---- wildcards ---- */

struct wild {
	struct copy_sources *out;
	struct tree *tree;
	const char *pattern;
	bool unpack;
	size_t found;
};

/* Every entry whose whole path fits, in order of names. */
static int add_fitting(struct wild *w, const struct tree_node *dir, struct error *err) {
	_cleanup_(free_ptr) struct tree_node **list = tree_list(dir);
	int r = 0;
	for (size_t i = 0; r == 0 && list[i]; i++) {
		_cleanup_(free_ptr) char *path = tree_path(list[i]);
		int fits = path_match(w->pattern, path, false);
		if (fits < 0)
			return error_set(err, ERROR_INVALID, "syntax error in pattern %s", w->pattern);
		struct tree_node *real = fits && S_ISLNK(list[i]->mode) ? tree_find(w->tree, path) : list[i];
		if (fits && real) {
			add_source(w->out, w->tree, real, list[i]->name, w->unpack);
			w->found++;
		}
		if (S_ISDIR(list[i]->mode))
			r = add_fitting(w, list[i], err);
	}
	return r;
}

/* ---- with their directories ---- */

struct below {
	struct copy_sources *out;
	struct tree *tree;
	const char *pattern; /* "": what is at the top */
	size_t found;
};

static int add_below(struct below *w, const struct tree_node *dir, const char *at, struct error *err) {
	_cleanup_(free_ptr) struct tree_node **list = tree_list(dir);
	int r = 0;
	for (size_t i = 0; r == 0 && list[i]; i++) {
		_cleanup_(free_ptr) char *path = str_format("%s%s%s", at, *at ? "/" : "", list[i]->name);
		int fits = *w->pattern ? path_match(w->pattern, path, true) : 1;
		if (fits < 0)
			return error_set(err, ERROR_INVALID, "syntax error in pattern %s", w->pattern);
		if (fits) {
			add_source(w->out, w->tree, list[i], list[i]->name, false);
			w->out->items[w->out->n - 1].path = TAKE_PTR(path);
			w->found++;
		} else if (S_ISDIR(list[i]->mode)) {
			r = add_below(w, list[i], path, err);
		}
	}
	return r;
}

/* Directories before a part "." stay away. */
static int find_with_parents(const struct stage *s, struct tree *t, const char *word, struct copy_sources *out, struct error *err) {
	const char *pivot = strstr(word, "/./");
	_cleanup_(free_ptr) char *before = str_copyn(word, pivot ? (size_t)(pivot - word) : 0), *top = path_clean(before);
	_cleanup_(free_ptr) char *pattern = path_clean(pivot ? pivot + 3 : word);
	const struct tree_node *dir = tree_find(t, top);
	struct below w = {.out = out, .tree = t, .pattern = pattern};
	int r = dir && S_ISDIR(dir->mode) ? add_below(&w, dir, "", err) : not_there(s, top, err);
	return r == 0 && !w.found && !path_has_wildcard(pattern) && *pattern ? not_there(s, pattern, err) : r;
}

/* ---- one tree ---- */

static int find_in_tree(const struct stage *s, const struct instruction *i, struct tree *t, const char *word, bool unpack,
			struct copy_sources *out, struct error *err) {
	_cleanup_(free_ptr) char *clean = path_clean(word);
	if (i->parents)
		return find_with_parents(s, t, word, out, err);
	if (path_has_wildcard(word)) {
		struct wild w = {.out = out, .tree = t, .pattern = clean, .unpack = unpack};
		return add_fitting(&w, tree_root(t), err);
	}
	struct tree_node *n = tree_find(t, clean);
	if (!n)
		return not_there(s, clean, err);
	add_source(out, t, n, last_part(clean), unpack);
	return 0;
}

/* "../x" that leads above the top. */
static bool leads_above(const char *word) {
	int depth = 0;
	struct str rest = str_view(word);
	while (rest.len && depth >= 0) {
		struct str part = str_cut(&rest, '/');
		if (part.len && !str_is(part, "."))
			depth += str_is(part, "..") ? -1 : 1;
	}
	return depth < 0;
}

static int find_in_context(struct stage *s, const struct instruction *i, const char *word, struct copy_sources *out, struct error *err) {
	if (leads_above(word)) {
		_cleanup_(free_ptr) char *shown = text_shown(word);
		return error_set(err, ERROR_INVALID, "forbidden path outside the build context: %s ()", shown);
	}
	struct tree *context;
	int r = context_get(s->b, word, &context, err);
	if (r < 0)
		return r;
	if (!context)
		return error_set(err, ERROR_INVALID, "there is no build context: %s cannot be copied", word);
	return find_in_tree(s, i, context, word, i->kind == DOCKER_ADD && i->unpack >= 0, out, err);
}

/* ---- images ---- */

/* As much of the path as has no wildcard. */
static char *fixed_part(const char *clean) {
	size_t end = 0;
	if (!path_has_wildcard(clean))
		return str_copy(clean);
	for (size_t at = 0; clean[at]; at++) {
		if (clean[at] == '/')
			end = at;
		else if (strchr("*?[\\", clean[at]))
			break;
	}
	return str_copyn(clean, end);
}

/* The part of the image that a source means, at its place in a tree of its own. */
static int find_in_image(struct stage *s, const struct instruction *i, const char *image, const char *word, struct copy_sources *out,
			 struct error *err) {
	_cleanup_(free_ptr) char *clean = path_clean(word), *fixed = fixed_part(clean), *path = str_format("/%s", fixed);
	_cleanup_(close_fd) int fd = -1;
	struct msg_file file = {0};
	struct tree *t = own_tree(s, out, err);
	if (!t)
		return -ERROR_INTERNAL;
	struct error why = ERROR_INIT;
	int r = image_tree(s->b->core, s->b->o->project, image, path, &file, &fd, &why);
	fields_free(&msg_file_table, &file);
	if (r < 0 && (why.kind == ERROR_NOT_FOUND || why.errnum == ENOTDIR) && fixed[0]) {
		error_free(&why);
		return error_set(err, ERROR_INVALID, "stat %s: file does not exist", path);
	}
	if (r < 0)
		return error_move(err, &why);
	char *slash = strrchr(fixed, '/');
	if (slash)
		*slash = '\0';
	r = tree_read(t, fd, slash ? fixed : "", true, err);
	return r < 0 ? r : find_in_tree(s, i, t, word, false, out, err);
}

/* What --from means: a directory of the client's (*tree), else the image of a stage before this one, or any other. *image NULL:
 * nothing. */
static int from_what(struct stage *s, const char *from, char **image, struct tree **tree, struct error *err) {
	const struct build_named *named = named_find(s->b, from);
	if (named && !named->image)
		return named_tree(s->b, named, tree, err);
	from = named ? named->image : from;
	ssize_t stage = named ? -1 : dockerfile_stage(&s->b->file, from, s->index);
	if (stage >= 0) {
		const char *id = s->b->stages[stage].image;
		*image = id ? str_copy(id) : NULL;
		return 0;
	}
	uint64_t number;
	if (!named && str_to_u64(from, 10, &number) == 0)
		return error_set(err, ERROR_INVALID, "invalid from flag value %s: invalid stage index", from);
	_cleanup_(image_snap_unref_ptr) struct image_snap *snap = NULL;
	struct error why = ERROR_INIT;
	int r = from_image(s, from, s->b->o->platform, &snap, &why);
	if (r < 0) {
		error_move(err, &why);
		return error_wrap(err, "invalid from flag value %s", from);
	}
	*image = str_copy(snap->image.id);
	return 0;
}

/* ---- all ---- */

static bool is_url(const char *word) {
	return str_starts(word, "http://") || str_starts(word, "https://");
}

static int find_url(struct stage *s, const char *url, const char *checksum, bool unpack, struct copy_sources *out, struct error *err) {
	const struct fetching f = fetching_for(s);
	struct tree *t = own_tree(s, out, err);
	if (!t)
		return -ERROR_INTERNAL;
	int r = download(&f, url, t, err);
	_cleanup_(free_ptr) struct tree_node **list = tree_list(tree_root(t));
	if (r == 0 && checksum && !str_same(list[0]->digest, checksum))
		r = error_set(err, ERROR_INVALID, "digest mismatch of %s: %s, wanted %s", url, list[0]->digest ? list[0]->digest : "none", checksum);
	if (r == 0)
		add_source(out, t, list[0], list[0]->name, unpack);
	return r;
}

/* ---- repositories ---- */

/* Of a commit's id its beginning is enough. */
static int check_commit(const char *commit, const char *checksum, struct error *err) {
	size_t n = strspn(checksum, "0123456789abcdef");
	_cleanup_(free_ptr) char *shown = text_shown(checksum);
	if (n < 7 || checksum[n])
		return error_set(err, ERROR_INVALID, "invalid checksum %s: of a git repository it is the id of a commit", shown);
	if (!str_starts(commit, checksum))
		return error_set(err, ERROR_INVALID, "expected checksum to match %s, got %s", shown, commit);
	return 0;
}

static int find_repository(struct stage *s, const struct instruction *i, const char *word, const char *checksum, struct copy_sources *out,
			   struct error *err) {
	const struct fetching f = fetching_for(s);
	struct repository *repo = NEW(struct repository);
	int r = git_source_parse(word, &repo->source, err);
	if (r == 0)
		r = repository_commit(&f, &repo->source, &repo->commit, err);
	if (r == 0 && checksum)
		r = check_commit(repo->commit, checksum, err);
	if (r < 0) {
		repository_free(repo);
		return r;
	}
	repo->keep = i->keep_git && !repo->source.directory;
	out->items = alloc_resize(out->items, out->n + 1, sizeof *out->items);
	out->items[out->n++] = (struct copy_source){.repository = repo, .name = str_copy("")};
	return 0;
}

int copy_sources_fetch(struct stage *s, struct copy_sources *c, struct error *err) {
	const struct fetching f = fetching_for(s);
	int r = 0;
	for (size_t i = 0; r == 0 && i < c->n; i++) {
		struct repository *repo = c->items[i].repository;
		if (!repo || c->items[i].node)
			continue;
		struct tree *t = own_tree(s, c, err);
		if (!t)
			return -ERROR_INTERNAL;
		free(repo->source.ref);
		repo->source.ref = str_copy(repo->commit);
		r = repository_tree(&f, &repo->source, repo->keep, t, err);
		c->items[i].tree = t;
		c->items[i].node = tree_root(t);
	}
	return r;
}

/* ---- what is left out ---- */

static bool is_left_out(const struct copy_sources *c, const struct copy_source *one) {
	if (one->path)
		return ignore_fits(&c->excludes, one->path);
	return one->node && !S_ISDIR(one->node->mode) && ignore_fits(&c->excludes, one->name);
}

/* Files that are named and excluded by name are none; what is below directories is left out when they are read. */
static int take_excludes(struct stage *s, char *const *patterns, struct copy_sources *out, struct error *err) {
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	size_t n = 0;
	int r = 0;
	for (char *const *p = patterns; r == 0 && p && *p; p++) {
		_cleanup_(free_ptr) char *pattern = NULL;
		r = stage_expand(s, *p, &pattern, err);
		if (r == 0)
			buf_addf(&text, "%s\n", pattern);
	}
	if (r < 0 || !text.len)
		return r;
	ignore_parse(buf_str(&text), text.len, &out->excludes);
	for (size_t i = 0; i < out->n; i++)
		if (is_left_out(out, &out->items[i]))
			source_clear(&out->items[i]);
		else
			out->items[n++] = out->items[i];
	out->n = n;
	return 0;
}

int copy_sources_find(struct stage *s, const struct instruction *i, char *const *words, struct copy_sources *out,
		      struct error *err) {
	_cleanup_(free_ptr) char *image = NULL, *from = NULL, *checksum = NULL;
	struct tree *tree = NULL;
	bool add = i->kind == DOCKER_ADD;
	int r = i->from ? stage_expand(s, i->from, &from, err) : 0;
	if (r == 0 && i->checksum)
		r = stage_expand(s, i->checksum, &checksum, err);
	if (r == 0 && from)
		r = from_what(s, from, &image, &tree, err);
	for (size_t k = 0; r == 0 && words[k] && words[k + 1]; k++) {
		const struct heredoc *doc = i->args ? heredoc_of(i, i->args[k]) : NULL;
		if (doc)
			r = find_heredoc(s, doc, out, err);
		else if (tree)
			r = find_in_tree(s, i, tree, words[k], false, out, err);
		else if (from)
			r = find_in_image(s, i, image, words[k], out, err);
		else if (add && git_source_is(words[k]))
			r = find_repository(s, i, words[k], checksum, out, err);
		else if (checksum && !is_url(words[k]))
			r = error_set(err, ERROR_INVALID, "checksum can't be specified for %s: it is for sources that are downloaded", words[k]);
		else if (add && is_url(words[k]))
			r = find_url(s, words[k], checksum, i->unpack > 0, out, err);
		else
			r = find_in_context(s, i, words[k], out, err);
	}
	bool nothing_fits = !out->n && s->b->sink->event; /* BuildKit takes that */
	if (r == 0)
		r = take_excludes(s, i->excludes, out, err);
	if (r == 0 && !out->n && !nothing_fits)
		r = error_set(err, ERROR_INVALID, "no source files were specified");
	return r;
}
