/* The cache: images that were built here by the same step upon the same image. What a step was stands in the last entry of an
 * image's history, with the digest of its files where it copies some; what it made of the config, in the config. */
#include "build/build-priv.h"

#include "base/json.h"
#include "base/str.h"

struct search {
	const struct image_config *config;
	struct image_snap **found; /* that have the config; the newest first */
	size_t n;
};

static void on_child(struct image_snap *child, void *arg) {
	struct search *s = arg;
	if (!fields_equal(&image_config_table, &child->image.config, s->config))
		return;
	s->found = alloc_resize(s->found, s->n + 1, sizeof(*s->found));
	s->found[s->n++] = image_snap_ref(child);
}

static int newest_first(const void *a, const void *b) {
	const struct image_snap *x = *(struct image_snap *const *)a, *y = *(struct image_snap *const *)b;
	return x->image.created_at > y->image.created_at ? -1 : x->image.created_at < y->image.created_at;
}

/* first: only if there is no step before it. */
static const char *last_step(const json_t *config, bool first) {
	const json_t *history = json_object_get(config, "history");
	size_t n = json_array_size(history);
	return n && (n == 1 || !first) ? json_get_str(json_array_get(history, n - 1), "created_by") : NULL;
}

static json_t *read_config(struct stage *s, const char *image) {
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	_cleanup_(image_snap_unref_ptr) struct image_snap *snap = NULL;
	if (image_get(s->b->core, s->b->o->project, image, &snap, NULL) < 0 ||
	    image_config_text(s->b->core, &snap->image, &text, NULL) < 0)
		return NULL;
	return json_parse(buf_str(&text), text.len, NULL);
}

static bool made_by(struct stage *s, const struct image_snap *snap, const char *created_by) {
	_cleanup_(json_free_ptr) json_t *config = read_config(s, snap->image.id);
	return config && str_same(last_step(config, !s->image), created_by);
}

/* Whether `image` is that one or was built upon it. */
static bool is_above(struct stage *s, const char *image, const char *id) {
	_cleanup_(free_ptr) char *at = str_copy(image);
	for (size_t depth = 0; depth < 1024; depth++) {
		_cleanup_(image_snap_unref_ptr) struct image_snap *snap = NULL;
		if (str_same(at, id))
			return true;
		if (image_get(s->b->core, s->b->o->project, at, &snap, NULL) < 0 || !snap->image.parent)
			return false;
		free(at);
		at = str_copy(snap->image.parent);
	}
	return false;
}

/* With --cache-from only what those images were built upon counts; for BuildKit's clients, that as well. */
static bool is_wanted(struct stage *s, const char *id) {
	char *const *from = s->b->sink->event ? NULL : s->b->o->cache_from;
	for (char *const *f = from; f && *f; f++) {
		_cleanup_(image_snap_unref_ptr) struct image_snap *snap = NULL;
		if (image_get(s->b->core, s->b->o->project, *f, &snap, NULL) == 0 && is_above(s, snap->image.id, id))
			return true;
	}
	return !from || !*from;
}

/* ---- images that came from elsewhere, whose steps are in their history alone ---- */

/* The entry of the other image's history that comes next, if all before it is ours. */
static const json_t *next_step(const json_t *ours, const json_t *theirs) {
	const json_t *mine = json_object_get(ours, "history"), *other = json_object_get(theirs, "history");
	const json_t *layers = json_object_get(json_object_get(ours, "rootfs"), "diff_ids"),
		     *below = json_object_get(json_object_get(theirs, "rootfs"), "diff_ids");
	size_t n = json_array_size(mine), n_layers = json_array_size(layers);
	if (n >= json_array_size(other) || n_layers > json_array_size(below))
		return NULL;
	for (size_t i = 0; i < n; i++)
		if (!json_equal(json_array_get(mine, i), json_array_get(other, i)))
			return NULL;
	for (size_t i = 0; i < n_layers; i++)
		if (!json_equal(json_array_get(layers, i), json_array_get(below, i)))
			return NULL;
	return json_array_get(other, n);
}

static char *borrow_from(struct stage *s, const char *name, const char *created_by) {
	_cleanup_(json_free_ptr) json_t *theirs = read_config(s, name), *ours = s->image ? read_config(s, s->image) : json_object();
	const json_t *entry = theirs && ours ? next_step(ours, theirs) : NULL;
	struct image_snap *snap;
	if (!entry || !str_same(json_get_str(entry, "created_by"), created_by))
		return NULL;
	const json_t *layers = json_object_get(json_object_get(ours, "rootfs"), "diff_ids");
	ssize_t layer = json_get_bool(entry, "empty_layer") ? -1 : (ssize_t)json_array_size(layers);
	struct image_step step = step_of(s, created_by);
	step.history = entry;
	if (image_step_borrowed(s->b->core, s->b->o->project, &step, name, layer, &snap, NULL) < 0)
		return NULL;
	char *id = str_copy(snap->image.id);
	image_snap_unref(snap);
	return id;
}

static char *borrow(struct stage *s, const char *created_by) {
	char *id = NULL;
	for (char *const *f = s->b->o->cache_from; !id && f && *f; f++)
		id = borrow_from(s, *f, created_by);
	return id;
}

char *cache_find(struct stage *s, const char *created_by, const struct image_config *config) {
	struct search search = {.config = config};
	char *id = NULL;
	image_children(s->b->core, s->image, on_child, &search);
	if (search.n)
		qsort(search.found, search.n, sizeof(*search.found), newest_first);
	for (size_t i = 0; i < search.n; i++) {
		struct image_snap *snap = search.found[i];
		if (!id && made_by(s, snap, created_by) && is_wanted(s, snap->image.id))
			id = str_copy(snap->image.id);
		image_snap_unref(snap);
	}
	free(search.found);
	return id ? id : borrow(s, created_by);
}
