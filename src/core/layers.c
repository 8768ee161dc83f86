/* Layers on their way from the content store into the agent, which unpacks each once: two at a time, and
 * those that several images wait for only by one of them. */
#include "core/core-priv.h"

#include "base/str.h"
#include "image/compress.h"

#include <unistd.h>

struct unpack_batch {
	struct core *core;
	pthread_mutex_t lock;
	pthread_cond_t done;
	size_t pending;
	struct error err; /* the first */
	const volatile bool *cancel;
	void (*progress)(const char *digest, int64_t done, int64_t total, void *arg);
	void *arg;
};

struct unpack_job {
	struct unpack_batch *batch;
	char *digest, *diff_id, *media_type;
};

static void layer_entry_free(void *p) {
	struct layer_entry *l = p;
	free(l->digest);
	free(l);
}

struct map *layers_new(void) {
	return map_new(layer_entry_free);
}

/* Needs the lock. */
static void layer_set(struct core *c, const char *diff_id, const char *digest, int64_t size) {
	struct layer_entry *l = NEW(struct layer_entry);
	*l = (struct layer_entry){str_copy(digest), size};
	map_set(c->layers, diff_id, l);
}

void layers_set(struct core *c, char *const *diff_ids) {
	map_free(c->layers);
	c->layers = layers_new();
	for (char *const *d = diff_ids; d && *d; d++)
		layer_set(c, *d, "", -1);
	const struct image *image;
	for (struct image_walk w = {0}; image_next(c, &w, &image);)
		for (size_t k = 0; k < image->layers.n; k++) {
			struct layer_entry *l = map_get(c->layers, image->layers.items[k].diff_id);
			if (l && image->layers.items[k].unpacked_size)
				l->size = image->layers.items[k].unpacked_size;
		}
}

/* Needs the lock. Whether the agent has it, and its size is known: the agent tells that of what it has. */
static bool is_there(struct core *c, const char *diff_id) {
	const struct layer_entry *l = map_get(c->layers, diff_id);
	return l && l->size >= 0;
}

/* true: this caller shall unpack it; false: it is there. */
static bool claim(struct core *c, const char *diff_id) {
	WITH_LOCK(c);
	while (map_get(c->unpacking, diff_id))
		pthread_cond_wait(&c->changed, &c->lock);
	if (is_there(c, diff_id)) {
		layer_note(c, diff_id);
		return false;
	}
	map_set(c->unpacking, diff_id, c);
	return true;
}

/* size -1: it is not there. */
static void unclaim(struct core *c, const struct unpack_job *j, int64_t size) {
	WITH_LOCK(c);
	map_remove(c->unpacking, j->diff_id);
	if (size >= 0) {
		layer_set(c, j->diff_id, map_get(c->layers, j->diff_id) ? "" : j->digest, size);
		layer_note(c, j->diff_id);
	}
	pthread_cond_broadcast(&c->changed);
}

static void on_unpacked(const json_t *body, void *arg) {
	const struct unpack_job *j = arg;
	int64_t total = json_get_int(body, "total");
	if (j->batch->progress && total)
		j->batch->progress(j->digest, json_get_int(body, "done"), total, j->batch->arg);
}

static int unpack(struct core *c, struct unpack_job *j, struct error *err) {
	if (!claim(c, j->diff_id))
		return 0;
	struct msg_layer body = {.diff_id = j->diff_id, .media_type = j->media_type};
	_cleanup_(close_fd) int blob = content_blob(c->content, j->digest, NULL, err);
	struct msg_layer_unpacked reply = {0};
	int r = blob < 0 ? blob : agent_call_watched(c, "layer-unpack", &body, blob, &reply, on_unpacked, j, err);
	unclaim(c, j, r == 0 ? reply.size : -1);
	return r < 0 ? error_wrap(err, "unpacking layer %.19s", j->diff_id) : 0;
}

static void unpack_job(void *arg) {
	struct unpack_job *j = arg;
	struct unpack_batch *b = j->batch;
	_cleanup_(error_free) struct error err = ERROR_INIT;
	bool cancelled = b->cancel && *b->cancel;
	int r = cancelled ? error_set(&err, ERROR_CANCELLED, "cancelled") : unpack(b->core, j, &err);
	if (r == 0 && b->progress)
		b->progress(j->digest, 0, 0, b->arg);
	pthread_mutex_lock(&b->lock);
	if (r < 0 && !b->err.kind)
		error_move(&b->err, &err);
	if (--b->pending == 0)
		pthread_cond_signal(&b->done);
	pthread_mutex_unlock(&b->lock);
	free(j->digest);
	free(j->diff_id);
	free(j->media_type);
	free(j);
}

struct unpack_batch *unpack_begin(struct core *c, const volatile bool *cancel,
				  void (*progress)(const char *digest, int64_t done, int64_t total, void *arg), void *arg) {
	struct unpack_batch *b = NEW(struct unpack_batch);
	*b = (struct unpack_batch){.core = c, .cancel = cancel, .progress = progress, .arg = arg};
	pthread_mutex_init(&b->lock, NULL);
	pthread_cond_init(&b->done, NULL);
	return b;
}

void unpack_add(struct unpack_batch *b, const struct image_layer *layer) {
	struct unpack_job *j = NEW(struct unpack_job);
	*j = (struct unpack_job){
		.batch = b,
		.digest = str_copy(layer->digest),
		.diff_id = str_copy(layer->diff_id),
		.media_type = layer->media_type ? str_copy(layer->media_type) : NULL,
	};
	pthread_mutex_lock(&b->lock);
	b->pending++;
	pthread_mutex_unlock(&b->lock);
	crew_run(b->core->unpackers, unpack_job, j);
}

int unpack_end(struct unpack_batch *b, struct error *err) {
	pthread_mutex_lock(&b->lock);
	while (b->pending)
		pthread_cond_wait(&b->done, &b->lock);
	pthread_mutex_unlock(&b->lock);
	int r = b->err.kind ? error_move(err, &b->err) : 0;
	pthread_mutex_destroy(&b->lock);
	pthread_cond_destroy(&b->done);
	free(b);
	return r;
}

static bool all_there(struct core *c, const struct image *image) {
	WITH_LOCK(c);
	for (size_t i = 0; i < image->layers.n; i++) {
		const char *diff_id = image->layers.items[i].diff_id;
		if (!is_there(c, diff_id))
			return false;
		layer_note(c, diff_id);
	}
	return true;
}

/* ---- blobs of layers that are unpacked already ---- */

/* Needs the lock. Whether a filed image has the layer with this very blob. */
static bool is_filed(struct core *c, const struct image_layer *layer) {
	const struct image *image;
	for (struct image_walk w = {0}; image_next(c, &w, &image);)
		for (size_t k = 0; k < image->layers.n; k++)
			if (str_same(image->layers.items[k].digest, layer->digest) &&
			    str_same(image->layers.items[k].diff_id, layer->diff_id))
				return true;
	return false;
}

static int check_blob(struct core *c, const struct image_layer *layer, struct error *err) {
	core_lock(c);
	const struct layer_entry *l = map_get(c->layers, layer->diff_id);
	bool known = (l && str_same(l->digest, layer->digest)) || is_filed(c, layer);
	core_unlock(c);
	if (known || str_same(layer->digest, layer->diff_id))
		return 0;
	_cleanup_(free_ptr) char *real = NULL;
	int r = blob_diff_id(c->content, layer->digest, &real, err);
	if (r == 0 && !str_same(real, layer->diff_id))
		r = error_set(err, ERROR_CORRUPT, "its content is %s", real);
	return r < 0 ? error_wrap(err, "blob %s is not the layer %s", layer->digest, layer->diff_id) : 0;
}

int layers_check(struct core *c, const struct image *image, struct error *err) {
	if (!image_is_oci(image))
		return blobs_inspect(c, image, err);
	int r = 0;
	for (size_t i = 0; r == 0 && i < image->layers.n; i++)
		r = check_blob(c, &image->layers.items[i], err);
	return r;
}

int layers_ensure(struct core *c, const struct image *image, struct error *err) {
	if (!image_is_oci(image) || all_there(c, image))
		return 0;
	struct unpack_batch *b = unpack_begin(c, NULL, NULL, NULL);
	for (size_t i = 0; i < image->layers.n; i++)
		unpack_add(b, &image->layers.items[i]);
	return unpack_end(b, err);
}
