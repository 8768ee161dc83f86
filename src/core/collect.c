/* What no image needs, nor an instance whose image was removed, goes: blobs of the content store and unpacked layers. What is just
 * on its way to being needed stays: whoever adds an image takes a hold first, and whatever is added or found there while anybody
 * has one is not removed before the last is given back. The collection has a hold of its own, so that an image
 * which comes and is filed in the midst of it is safe as well. */
#include "core/core-priv.h"

#include "base/log.h"
#include "base/str.h"

void images_hold(struct core *c) {
	content_hold(c->content);
	WITH_LOCK(c);
	c->layer_holds++;
}

void images_release(struct core *c) {
	content_release(c->content);
	WITH_LOCK(c);
	if (--c->layer_holds == 0) {
		map_free(c->layers_held);
		c->layers_held = map_new(NULL);
	}
}

void layer_note(struct core *c, const char *diff_id) {
	if (c->layer_holds)
		map_set(c->layers_held, diff_id, c);
}

void image_keep(struct core *c, const struct image *image) {
	content_has(c->content, image->id);
	content_has(c->content, image->digest);
	for (char **d = image->index_blobs; d && *d; d++)
		content_has(c->content, *d);
	for (size_t i = 0; i < image->layers.n; i++)
		content_has(c->content, image->layers.items[i].digest);
}

struct needed {
	struct map *digests, *diff_ids;
};

static struct needed needed_now(struct core *c) {
	WITH_LOCK(c);
	struct needed n = {map_new(NULL), map_new(NULL)};
	const struct image *m;
	for (struct image_walk w = {0}; image_next(c, &w, &m);) {
		map_set(n.digests, m->id, c);
		if (m->digest)
			map_set(n.digests, m->digest, c);
		for (char **d = m->index_blobs; d && *d; d++)
			map_set(n.digests, *d, c);
		for (size_t k = 0; k < m->layers.n; k++) {
			map_set(n.digests, m->layers.items[k].digest, c);
			map_set(n.diff_ids, m->layers.items[k].diff_id, c);
		}
	}
	return n;
}

static bool is_needed(const char *digest, void *arg) {
	return map_get(arg, digest) != NULL;
}

/* Who needs one of them now waits until it is gone, and unpacks it again. */
static char **take_unneeded_layers(struct core *c, const struct map *needed) {
	WITH_LOCK(c);
	char **gone = NULL;
	const char *diff_id;
	for (size_t i = 0; map_next(c->layers, &i, &diff_id, NULL);)
		if (!map_get(needed, diff_id) && !map_get(c->layers_held, diff_id))
			strv_add(&gone, diff_id);
	for (char **d = gone; d && *d; d++) {
		map_remove(c->layers, *d);
		map_set(c->unpacking, *d, c);
	}
	return gone;
}

static void delete_layer(struct core *c, const char *diff_id) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct msg_layer body = {.diff_id = (char *)diff_id};
	if (agent_call(c, "layer-delete", &body, NULL, &err) < 0)
		log_warn("removing layer %.19s: %s", diff_id, error_text(&err));
	WITH_LOCK(c);
	map_remove(c->unpacking, diff_id);
	pthread_cond_broadcast(&c->changed);
}

int images_collect(struct core *c, uint64_t *freed, struct error *err) {
	images_hold(c);
	struct needed n = needed_now(c);
	int r = content_collect(c->content, is_needed, n.digests, freed, err);
	_cleanup_(strv_free_ptr) char **gone = take_unneeded_layers(c, n.diff_ids);
	for (char **d = gone; d && *d; d++)
		delete_layer(c, *d);
	templates_collect(c, n.digests);
	images_release(c);
	map_free(n.digests);
	map_free(n.diff_ids);
	return r;
}
