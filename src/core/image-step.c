/* Images that are built step by step: each one a config, a layer more, or both, on top of the one before. */
#include "core/core-priv.h"

#include "base/str.h"
#include "image/archive.h"

#include <unistd.h>

/* What a step stands on: a reference to its base, and the layers below. */
struct ground {
	struct image_snap *base; /* NULL: nothing */
	char **diff_ids;	 /* NULL-terminated, borrowed strings */
};

static void ground_free(struct ground *g) {
	image_snap_unref(g->base);
	free(g->diff_ids);
}

/* Under a hold: the base's blobs and layers stay until its end. */
static int ground_find(struct core *c, const char *project, const char *base, struct ground *g, struct error *err) {
	int r = base ? image_get(c, project, base, &g->base, err) : 0;
	if (r == 0 && g->base)
		r = image_need_oci(&g->base->image, err);
	if (r < 0)
		return r;
	size_t n = g->base ? g->base->image.layers.n : 0;
	g->diff_ids = alloc_array(n + 1, sizeof *g->diff_ids);
	for (size_t i = 0; i < n; i++)
		g->diff_ids[i] = g->base->image.layers.items[i].diff_id;
	if (g->base)
		image_keep(c, &g->base->image);
	return 0;
}

/* What the layer comes from: a tar, another image, or (-1, NULL) there is none. */
struct layer_source {
	int fd;
	const struct image_layer *layer;
};

static int file_step(struct core *c, const char *project, const struct image_step *s, const struct ground *g,
		     struct layer_source from, struct image_snap **out, struct error *err) {
	struct image image;
	struct build_options o = {
		.base = g->base ? &g->base->image : NULL,
		.config = s->config,
		.architecture = s->architecture,
		.variant = s->variant,
		.os = s->os,
		.comment = s->comment,
		.author = s->author,
		.created_by = s->created_by,
		.compression = "none",
		.history = s->history,
		.layer = from.layer,
	};
	int r = image_from_tar(c->content, from.fd, &o, &image, err);
	if (r < 0)
		return r;
	if (g->base)
		image.parent = str_copy(g->base->image.id);
	if (from.fd >= 0 || from.layer)
		r = layers_ensure(c, &image, err); /* it is there already, as a rule: whoever sent the tar has filed it */
	if (r == 0)
		r = image_store(c, project, &image, out, err);
	fields_free(&image_table, &image);
	return r;
}

int image_step_config(struct core *c, const char *project, const struct image_step *s, struct image_snap **out,
		      struct error *err) {
	_cleanup_(ground_free) struct ground g = {0};
	images_hold(c);
	int r = ground_find(c, project, s->base, &g, err);
	if (r == 0)
		r = file_step(c, project, s, &g, (struct layer_source){-1, NULL}, out, err);
	images_release(c);
	return r;
}

int image_step_borrowed(struct core *c, const char *project, const struct image_step *s, const char *from, ssize_t layer,
			struct image_snap **out, struct error *err) {
	_cleanup_(ground_free) struct ground g = {0}, other = {0};
	struct layer_source source = {-1, NULL};
	images_hold(c);
	int r = ground_find(c, project, s->base, &g, err);
	if (r == 0)
		r = ground_find(c, project, from, &other, err);
	if (r == 0 && layer >= 0 && (size_t)layer >= other.base->image.layers.n)
		r = error_set(err, ERROR_INVALID, "image %s has no layer %zd", from, layer);
	if (r == 0 && layer >= 0)
		source.layer = &other.base->image.layers.items[layer];
	if (r == 0)
		r = file_step(c, project, s, &g, source, out, err);
	images_release(c);
	return r;
}

int image_step_files(struct core *c, const char *project, const struct image_step *s, const struct image_place *to, int fd,
		     struct image_snap **out, struct error *err) {
	_cleanup_(ground_free) struct ground g = {0};
	_cleanup_(close_fd) int layer = -1;
	images_hold(c);
	int r = ground_find(c, project, s->base, &g, err);
	if (r == 0 && g.base)
		r = layers_ensure(c, &g.base->image, err);
	struct msg_tree body = {.layers = g.diff_ids, .path = (char *)to->path, .uid = to->uid, .gid = to->gid};
	if (r == 0)
		r = agent_call_fd(c, "layer-make", &body, fd, NULL, &layer, err);
	if (r == 0)
		r = stream_expected(layer, err);
	if (r == 0)
		r = file_step(c, project, s, &g, (struct layer_source){layer, NULL}, out, err);
	images_release(c);
	return r;
}

int image_step_instance(struct core *c, const char *project, const struct image_step *s, const char *instance,
			struct image_snap **out, struct error *err) {
	_cleanup_(ground_free) struct ground g = {0};
	_cleanup_(close_fd) int layer = -1;
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL;
	images_hold(c);
	int r = instance_get(c, project, instance, &snap, err);
	if (r == 0)
		r = ground_find(c, project, s->base, &g, err);
	if (r == 0 && (!g.base || !str_same(g.base->image.id, snap->instance.image_id)))
		r = error_set(err, ERROR_CONFLICT, "instance %s is of another image", instance);
	struct msg_export body = {.id = snap ? snap->instance.id : NULL, .take = true};
	if (r == 0)
		r = agent_call_fd(c, "instance-commit", &body, -1, NULL, &layer, err);
	if (r == 0)
		r = stream_expected(layer, err);
	if (r == 0)
		r = file_step(c, project, s, &g, (struct layer_source){layer, NULL}, out, err);
	images_release(c);
	return r;
}

static int ask_tree(struct core *c, const char *project, const char *request, const char *image, const char *path,
		    struct msg_file *out, int *fd, struct error *err) {
	_cleanup_(ground_free) struct ground g = {0};
	images_hold(c);
	int r = ground_find(c, project, image, &g, err);
	if (r == 0 && g.base)
		r = layers_ensure(c, &g.base->image, err);
	struct msg_tree body = {.layers = g.diff_ids, .path = (char *)path, .follow = true};
	if (r == 0)
		r = agent_call_fd(c, request, &body, -1, out, fd, err);
	images_release(c);
	return r;
}

int image_tree(struct core *c, const char *project, const char *image, const char *path, struct msg_file *out, int *fd,
	       struct error *err) {
	int r = ask_tree(c, project, "tree-get", image, path, out, fd, err);
	return r < 0 ? r : stream_expected(*fd, err);
}

int image_tree_stat(struct core *c, const char *project, const char *image, const char *path, struct msg_file *out,
		    struct error *err) {
	return ask_tree(c, project, "tree-stat", image, path, out, NULL, err);
}

void image_children(struct core *c, const char *parent, void (*fn)(struct image_snap *child, void *arg), void *arg) {
	WITH_LOCK(c);
	void *value;
	for (size_t i = 0; map_next(c->images, &i, NULL, &value);) {
		struct image_snap *s = ((struct image_entry *)value)->snap;
		if (str_same(s->image.parent, parent))
			fn(s, arg);
	}
}

/* ---- squash ---- */

static bool is_built_upon(const struct image *image, const struct image *base) {
	for (size_t i = 0; i < base->layers.n; i++)
		if (i >= image->layers.n || !str_same(image->layers.items[i].diff_id, base->layers.items[i].diff_id))
			return false;
	return true;
}

static int squash(struct core *c, const char *project, const struct image *image, const struct image *base, int spool,
		  struct image_snap **out, struct error *err) {
	struct image made;
	_cleanup_(free_ptr) char *comment = str_format("merge %s to %s", image->id, base ? base->id : "");
	struct build_options o = {.base = base, .squashed = image, .comment = comment, .compression = "none"};
	int r = layers_merge(c->content, image, base ? base->layers.n : 0, spool, err);
	if (r == 0 && lseek(spool, 0, SEEK_SET) < 0)
		r = error_errno(err, errno, "reading the merged layers");
	if (r == 0)
		r = image_from_tar(c->content, spool, &o, &made, err);
	if (r < 0)
		return r;
	r = layers_ensure(c, &made, err);
	if (r == 0)
		r = image_store(c, project, &made, out, err);
	fields_free(&image_table, &made);
	return r;
}

int image_squash(struct core *c, const char *project, const char *image, const char *base, struct image_snap **out,
		 struct error *err) {
	_cleanup_(ground_free) struct ground g = {0}, below = {0};
	_cleanup_(close_fd) int spool = core_spool(c, err);
	if (spool < 0)
		return spool;
	images_hold(c);
	int r = ground_find(c, project, image, &g, err);
	if (r == 0)
		r = ground_find(c, project, base, &below, err);
	if (r == 0 && below.base && !is_built_upon(&g.base->image, &below.base->image))
		r = error_set(err, ERROR_INVALID, "image %s was not built upon %s", image, base);
	if (r == 0)
		r = squash(c, project, &g.base->image, below.base ? &below.base->image : NULL, spool, out, err);
	images_release(c);
	return r;
}
