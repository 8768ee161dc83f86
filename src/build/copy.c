/* COPY and ADD: the files become a tar as it shall lie at the destination, which the agent unpacks upon the image. */
#include "build/build-priv.h"

#include "base/str.h"
#include "build/ignore.h"
#include "core/instances.h"
#include "core/volumes.h"
#include "image/hash.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <unistd.h>

#define PIECE ((size_t)256 << 10)

struct copy {
	struct stage *s;
	const struct instruction *i;
	const char *command; /* "COPY", "ADD" */
	char **words;	     /* expanded; the destination last */
	char *chown;
	struct copy_sources from;
	char *path; /* absolute */
	bool to_dir;
	char *chmod; /* NULL: as they are */
	uint32_t uid, gid;
	bool keep_owners;
};

static void copy_free(struct copy *c) {
	strv_free(c->words);
	free(c->chown);
	free(c->chmod);
	free(c->path);
	copy_sources_free(&c->from);
}

/* ---- the digest of what is copied ---- */

static void hash_text(struct hash *h, const char *text) {
	hash_add(h, text, strlen(text) + 1);
}

/* Names, modes and contents; not times. The owners are the instruction's, but for archives that are unpacked. */
static void hash_node(struct hash *h, const struct ignore *excludes, const struct tree_node *n, const char *path) {
	char head[96];
	if (*path == '/' && ignore_fits(excludes, path + 1))
		return;
	snprintf(head, sizeof head, "%o %llu %u:%u", n->mode, (unsigned long long)n->size, n->major, n->minor);
	hash_text(h, path);
	hash_text(h, head);
	hash_text(h, n->link ? n->link : "");
	hash_text(h, n->digest ? n->digest : "");
	hash_add(h, n->capability, n->capability_len);
	if (!S_ISDIR(n->mode))
		return;
	_cleanup_(free_ptr) struct tree_node **list = tree_list(n);
	for (size_t i = 0; list[i]; i++) {
		_cleanup_(free_ptr) char *below = str_format("%s/%s", path, list[i]->name);
		hash_node(h, excludes, list[i], below);
	}
}

/* Of the directories that come along, their modes. */
static void hash_parents(struct hash *h, const struct copy_source *one) {
	const struct tree_node *n = one->node->parent;
	for (const char *p = one->path; n && (p = strchr(p, '/')); p++, n = n->parent) {
		char mode[16];
		snprintf(mode, sizeof mode, "%o", n->mode);
		hash_text(h, mode);
	}
}

/* With what is left out of it. */
static void hash_repository(struct hash *h, const struct repository *r, const struct ignore *excludes) {
	hash_text(h, "git");
	hash_text(h, r->commit);
	hash_text(h, r->source.directory ? r->source.directory : "");
	hash_text(h, r->keep ? r->source.url : ""); /* which .git says */
	for (size_t i = 0; i < excludes->n; i++) {
		hash_text(h, excludes->lines[i].except ? "!" : "");
		hash_text(h, excludes->lines[i].pattern);
	}
}

static bool is_directory_source(const struct copy_source *one) {
	return one->repository || S_ISDIR(one->node->mode);
}

char *copy_sources_digest(const struct copy_sources *from) {
	_cleanup_(hash_free_ptr) struct hash *h = hash_new();
	for (size_t i = 0; i < from->n; i++) {
		const struct copy_source *one = &from->items[i];
		if (one->repository) {
			hash_repository(h, one->repository, &from->excludes);
			continue;
		}
		_cleanup_(free_ptr) char *path = one->path ? str_format("/%s", one->path) : NULL;
		if (one->path)
			hash_parents(h, one);
		hash_node(h, &from->excludes, one->node, path ? path : S_ISDIR(one->node->mode) ? "" : one->name);
	}
	_cleanup_(free_ptr) char *digest = hash_digest(h);
	const char *sort = from->n != 1 ? "multi" : is_directory_source(&from->items[0]) ? "dir" : "file";
	return str_format("%s:%s", sort, digest + strlen("sha256:"));
}

/* ---- the tar ---- */

struct writer {
	const struct copy *c;
	struct archive *a;
	struct map *parents; /* paths of directories that are written */
	int fd;
	char *piece;
	struct error err;
	int result;
};

static int write_failed(struct writer *w) {
	const char *why = archive_error_string(w->a);
	return error_set(&w->err, ERROR_UNAVAILABLE, "handing over files: %s", why ? why : "unknown reason");
}

static int write_content(struct writer *w, const struct tree *t, const struct tree_node *n) {
	for (uint64_t at = 0; at < n->size;) {
		ssize_t got = tree_pread(t, n, at, w->piece, PIECE);
		if (got < 0)
			return error_errno(&w->err, (int)got, "reading %s", n->name);
		if (archive_write_data(w->a, w->piece, (size_t)got) != got)
			return write_failed(w);
		at += (uint64_t)got;
	}
	return 0;
}

/* own: with the owner and mode that it came with. */
static int write_node(struct writer *w, const struct tree *t, const struct tree_node *n, const char *path, bool own) {
	struct archive_entry *e = archive_entry_new();
	mode_t mode = w->c->chmod && !own && !S_ISLNK(n->mode) ? chmod_apply(w->c->chmod, n->mode) : n->mode;
	archive_entry_set_pathname(e, path);
	archive_entry_set_mode(e, mode);
	archive_entry_set_uid(e, own ? n->uid : w->c->uid);
	archive_entry_set_gid(e, own ? n->gid : w->c->gid);
	archive_entry_set_mtime(e, n->mtime, 0);
	if (n->link)
		archive_entry_set_symlink(e, n->link);
	if (n->capability)
		archive_entry_xattr_add_entry(e, "security.capability", n->capability, n->capability_len);
	if (S_ISREG(n->mode))
		archive_entry_set_size(e, (la_int64_t)n->size);
	if (S_ISCHR(n->mode) || S_ISBLK(n->mode)) {
		archive_entry_set_rdevmajor(e, n->major);
		archive_entry_set_rdevminor(e, n->minor);
	}
	int r = archive_write_header(w->a, e);
	archive_entry_free(e);
	if (r != ARCHIVE_OK && r != ARCHIVE_WARN)
		return write_failed(w);
	return S_ISREG(n->mode) ? write_content(w, t, n) : 0;
}

/* What is in a directory, below path ("" is the destination itself). */
static int write_below(struct writer *w, const struct tree *t, const struct tree_node *dir, const char *path, bool own) {
	_cleanup_(free_ptr) struct tree_node **list = tree_list(dir);
	int r = 0;
	for (size_t i = 0; r == 0 && list[i]; i++) {
		_cleanup_(free_ptr) char *below = str_format("%s%s%s", path, *path ? "/" : "", list[i]->name);
		if (!own && ignore_fits(&w->c->from.excludes, below))
			continue;
		r = write_node(w, t, list[i], below, own);
		if (r == 0 && S_ISDIR(list[i]->mode))
			r = write_below(w, t, list[i], below, own);
	}
	return r;
}

static int write_unpacked(struct writer *w, const struct copy_source *one, bool *is) {
	int spool = core_spool(w->c->s->b->core, &w->err);
	if (spool < 0)
		return spool;
	_cleanup_(tree_free_ptr) struct tree *t = tree_new(spool);
	int r = tree_unpack_node(t, one->tree, one->node, "", is, &w->err);
	return r == 0 && *is ? write_below(w, t, tree_root(t), "", true) : r;
}

/* The directories on the way, but for those that have come already; dir: what the path's part before `end` means. */
static int write_parents(struct writer *w, const struct copy_source *one, const struct tree_node *dir, const char *end) {
	_cleanup_(free_ptr) char *path = str_copyn(one->path, (size_t)(end - one->path));
	const char *slash = strrchr(path, '/');
	if (map_get(w->parents, path))
		return 0;
	map_set(w->parents, path, w);
	int r = slash ? write_parents(w, one, dir->parent, one->path + (slash - path)) : 0;
	return r < 0 ? r : write_node(w, one->tree, dir, path, false);
}

static int write_with_parents(struct writer *w, const struct copy_source *one) {
	const char *slash = strrchr(one->path, '/');
	int r = slash ? write_parents(w, one, one->node->parent, slash) : 0;
	if (r == 0)
		r = write_node(w, one->tree, one->node, one->path, false);
	return r == 0 && S_ISDIR(one->node->mode) ? write_below(w, one->tree, one->node, one->path, false) : r;
}

static int write_source(struct writer *w, const struct copy_source *one) {
	bool unpacked = false;
	if (one->path)
		return write_with_parents(w, one);
	int r = one->unpack ? write_unpacked(w, one, &unpacked) : 0;
	if (r < 0 || unpacked)
		return r;
	if (S_ISDIR(one->node->mode))
		return write_below(w, one->tree, one->node, "", w->c->keep_owners);
	const char *slash = strrchr(w->c->path, '/');
	return write_node(w, one->tree, one->node, w->c->to_dir ? one->name : slash + 1, w->c->keep_owners);
}

static void *write_all(void *arg) {
	struct writer *w = arg;
	w->a = archive_write_new();
	w->piece = alloc_zero(PIECE);
	w->parents = map_new(NULL);
	archive_write_set_format_pax_restricted(w->a);
	archive_write_set_bytes_in_last_block(w->a, 1);
	w->result = archive_write_open_fd(w->a, w->fd) == ARCHIVE_OK ? 0 : write_failed(w);
	for (size_t i = 0; w->result == 0 && i < w->c->from.n; i++)
		w->result = write_source(w, &w->c->from.items[i]);
	if (w->result == 0 && archive_write_close(w->a) != ARCHIVE_OK)
		w->result = write_failed(w);
	if (w->result < 0)
		archive_write_fail(w->a); /* without an end mark: whoever reads it sees that */
	archive_write_free(w->a);
	free(w->piece);
	map_free(w->parents);
	close_fd(&w->fd);
	return NULL;
}

/* The tar is written by a thread while somebody reads it. */
static int hand_over(struct copy *c, int (*read_it)(int fd, void *arg, struct error *err), void *arg, struct error *err) {
	int pipe[2];
	pthread_t thread;
	if (pipe2(pipe, O_CLOEXEC) < 0)
		return error_errno(err, errno, "making a pipe");
	struct writer w = {.c = c, .fd = pipe[1]};
	int failed = pthread_create(&thread, NULL, write_all, &w);
	if (failed) {
		close(pipe[0]);
		close(pipe[1]);
		return error_errno(err, failed, "starting a thread");
	}
	struct error why = ERROR_INIT;
	int r = read_it(pipe[0], arg, &why);
	close(pipe[0]); /* one that is not read to its end ends the writer */
	pthread_join(thread, NULL);
	if (r < 0 && w.result < 0 && w.err.kind != ERROR_UNAVAILABLE) {
		error_free(&why);
		return error_move(err, &w.err); /* the agent's own was the consequence */
	}
	error_free(&w.err);
	return r < 0 ? error_move(err, &why) : 0;
}

struct to_image {
	struct stage *s;
	const struct image_step *step;
	const struct image_place *to;
	struct image_snap **out;
};

static int read_into_image(int fd, void *arg, struct error *err) {
	struct to_image *x = arg;
	return image_step_files(x->s->b->core, x->s->b->o->project, x->step, x->to, fd, x->out, err);
}

static int hand_to_image(struct copy *c, const struct image_step *step, const struct image_place *to, struct image_snap **out,
			 struct error *err) {
	return hand_over(c, read_into_image, &(struct to_image){c->s, step, to, out}, err);
}

struct to_volume {
	struct stage *s;
	struct volume_spec *spec;
	bool stays;
	struct noun *out;
};

static int read_into_volume(int fd, void *arg, struct error *err) {
	struct to_volume *x = arg;
	const struct build_request *o = x->s->b->o;
	return x->stays ? volume_import(x->s->b->core, o->project, x->spec, "tar", fd, &x->out, err)
			: volume_import_passing(x->s->b->core, o->project, x->spec, "tar", fd, &x->out, err);
}

static int hand_to_volume(struct to_volume *x, const struct copy_sources *from, struct error *err) {
	struct copy c = {.s = x->s, .from = *from, .path = (char *)"/", .to_dir = true, .keep_owners = true};
	return hand_over(&c, read_into_volume, x, err);
}

int copy_to_volume(struct stage *s, const struct copy_sources *from, char **volume, struct error *err) {
	struct volume_spec spec;
	fields_init(&volume_spec_table, &spec);
	struct to_volume x = {.s = s, .spec = &spec};
	int r = hand_to_volume(&x, from, err);
	if (r == 0)
		*volume = str_copy(((const struct volume *)x.out->of)->spec.name);
	noun_unref(x.out);
	return r;
}

int copy_to_kept_volume(struct stage *s, const struct copy_sources *from, struct volume_spec *spec, struct error *err) {
	struct to_volume x = {.s = s, .spec = spec, .stays = true};
	int r = hand_to_volume(&x, from, err);
	noun_unref(x.out);
	return r;
}

/* ---- where to ---- */

/* Relative to the working directory; a slash at its end stays. */
static char *destination(const struct stage *s, const char *word) {
	bool dir = str_ends(word, "/") || str_same(word, ".") || str_ends(word, "/.");
	_cleanup_(free_ptr) char *joined = *word == '/' ? str_copy(word)
							 : str_format("%s/%s", s->config.workdir ? s->config.workdir : "", word);
	_cleanup_(free_ptr) char *clean = path_clean(joined);
	return str_format("/%s%s", clean, dir && *clean ? "/" : "");
}

static int is_directory(struct stage *s, const char *path, bool *is, struct error *err) {
	_cleanup_(free_ptr) char *inside = str_format("%s/.", path);
	struct msg_file file = {0};
	struct error why = ERROR_INIT;
	int r = image_tree_stat(s->b->core, s->b->o->project, s->image, inside, &file, &why);
	*is = r == 0;
	fields_free(&msg_file_table, &file);
	if (r == 0 || why.kind == ERROR_NOT_FOUND || why.errnum == ENOTDIR || why.errnum == -ENOTDIR) {
		error_free(&why);
		return 0;
	}
	return error_move(err, &why);
}

/* Whether the destination is a directory that the sources go into. */
static int find_place(struct copy *c, struct error *err) {
	bool dir_alone = c->from.n == 1 && S_ISDIR(c->from.items[0].node->mode);
	size_t n = strlen(c->path);
	c->to_dir = c->path[n - 1] == '/' || dir_alone || c->i->parents || (c->from.n == 1 && c->from.items[0].unpack);
	if (c->from.n > 1 && !c->to_dir)
		return error_set(err, ERROR_INVALID,
				 "When using %s with more than one source file, the destination must be a directory and end with a /",
				 c->command);
	if (c->from.n == 1 && c->from.items[0].unpack) {
		int spool = core_spool(c->s->b->core, err);
		if (spool < 0)
			return spool;
		bool is;
		_cleanup_(tree_free_ptr) struct tree *t = tree_new(spool);
		int r = tree_unpack_node(t, c->from.items[0].tree, c->from.items[0].node, "", &is, err);
		if (r < 0)
			return r;
		c->from.items[0].unpack = is;
		c->to_dir = is || c->path[n - 1] == '/';
	}
	return c->to_dir ? 0 : is_directory(c->s, c->path, &c->to_dir, err);
}

/* ---- the step ---- */

static int take_mode(struct copy *c, struct error *err) {
	int r = c->i->chmod ? stage_expand(c->s, c->i->chmod, &c->chmod, err) : 0;
	if (r == 0 && c->chmod && !chmod_is_valid(c->chmod))
		return error_set(err, ERROR_INVALID, "invalid chmod parameter: '%.32s'. it should be octal string and between 0 and 07777, or "
				 "symbolic as in u=rwX,go=rX", c->chmod);
	return r;
}

static int expand_words(struct copy *c, struct error *err) {
	int r = 0;
	for (char **a = c->i->args; r == 0 && *a; a++) {
		char *word = NULL;
		r = stage_expand(c->s, *a, &word, err);
		if (r == 0)
			strv_take(&c->words, word);
	}
	if (r == 0 && c->i->chown)
		r = stage_expand(c->s, c->i->chown, &c->chown, err);
	return r < 0 ? r : take_mode(c, err);
}

static char *describe(const struct copy *c) {
	_cleanup_(free_ptr) char *digest = copy_sources_digest(&c->from);
	_cleanup_(free_ptr) char *owner = c->chown && *c->chown ? str_format("--chown=%s ", c->chown) : str_copy("");
	_cleanup_(free_ptr) char *mode = c->chmod ? str_format("--chmod=%s ", c->chmod) : str_copy("");
	_cleanup_(free_ptr) char *text = str_format("%s %s%s%s%s%s in %s ", c->command, owner, mode, c->i->parents ? "--parents " : "",
						    c->i->unpack > 0 ? "--unpack " : c->i->unpack ? "--unpack=false " : "", digest, c->path);
	return step_comment(c->s, text);
}

/* Patterns that nothing fits. */
static int copy_nothing(struct copy *c, const char *created_by, struct error *err) {
	struct image_step step = step_of(c->s, created_by);
	struct image_snap *snap;
	int r = image_step_config(c->s->b->core, c->s->b->o->project, &step, &snap, err);
	if (r == 0)
		step_take(c->s, snap);
	return r;
}

static int copy_files(struct copy *c, const char *created_by, struct error *err) {
	if (!c->from.n)
		return copy_nothing(c, created_by, err);
	int r = copy_sources_fetch(c->s, &c->from, err);
	if (r == 0 && c->chown && *c->chown)
		r = owner_find(c->s, c->chown, &c->uid, &c->gid, err);
	if (r == 0)
		r = find_place(c, err);
	if (r < 0)
		return r;
	size_t n = strlen(c->path);
	while (n > 1 && c->path[n - 1] == '/')
		n--;
	const char *slash = strrchr(c->path, '/');
	_cleanup_(free_ptr) char *dir = str_copyn(c->path, c->to_dir ? n : MAX((size_t)(slash - c->path), (size_t)1));
	const struct image_place to = {.path = dir, .uid = c->uid, .gid = c->gid};
	struct image_step step = step_of(c->s, created_by);
	struct image_snap *snap;
	r = hand_to_image(c, &step, &to, &snap, err);
	if (r == 0)
		step_take(c->s, snap);
	return r;
}

int copy_step(struct stage *s, const struct instruction *i, struct error *err) {
	_cleanup_(copy_free) struct copy c = {.s = s, .i = i, .command = i->kind == DOCKER_ADD ? "ADD" : "COPY"};
	int r = expand_words(&c, err);
	if (r == 0)
		r = copy_sources_find(s, i, c.words, &c.from, err);
	if (r < 0)
		return error_wrap(err, "%s failed", c.command);
	c.path = destination(s, c.words[strv_len(c.words) - 1]);
	_cleanup_(free_ptr) char *created_by = describe(&c);
	return step_cached(s, created_by) ? 0 : copy_files(&c, created_by, err);
}

int copy_base(struct stage *s, struct tree *files, struct error *err) {
	struct copy_source all = {.tree = files, .node = tree_root(files), .name = (char *)""};
	struct copy c = {.s = s, .from = {.items = &all, .n = 1}, .path = (char *)"/", .to_dir = true, .keep_owners = true};
	_cleanup_(free_ptr) char *digest = copy_sources_digest(&c.from), *text = str_format("FROM %s ", digest);
	_cleanup_(free_ptr) char *created_by = step_comment(s, text);
	return step_cached(s, created_by) ? 0 : copy_files(&c, created_by, err);
}

/* WORKDIR is also a directory, made where it is missing. */
int workdir_step(struct stage *s, const char *path, struct error *err) {
	_cleanup_(free_ptr) char *text = str_format("WORKDIR %s", path);
	_cleanup_(free_ptr) char *created_by = step_comment(s, text);
	struct image_step step = step_of(s, created_by);
	struct image_snap *snap;
	bool there;
	if (step_cached(s, created_by))
		return 0;
	int r = is_directory(s, path, &there, err);
	if (r < 0)
		return r;
	if (there) {
		r = image_step_config(s->b->core, s->b->o->project, &step, &snap, err);
	} else {
		struct copy c = {.s = s};
		const struct image_place to = {.path = path};
		r = hand_to_image(&c, &step, &to, &snap, err);
	}
	if (r == 0)
		step_take(s, snap);
	return r;
}
