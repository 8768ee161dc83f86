/* Images that were removed by force while instances which do not run had them. Nobody finds them by a name or an id, nor are
 * they listed; their blobs and layers stay for those instances, which can be started as before, and go with the last of them. */
#include "core/core-priv.h"

#include "base/log.h"
#include "base/str.h"

char *orphan_key(const char *id) {
	return str_format("orphans/%s", id);
}

static void entry_drop(void *value) {
	image_snap_unref(((struct image_entry *)value)->snap);
	free(value);
}

struct map *orphans_new(void) {
	return map_new(entry_drop);
}

struct image_entry *image_of_instance(struct core *c, const struct instance *i) {
	struct image_entry *e = i->image_id ? map_get(c->images, i->image_id) : NULL;
	return e || !i->image_id ? e : map_get(c->orphans, i->image_id);
}

bool image_next(struct core *c, struct image_walk *w, const struct image **image) {
	void *value;
	bool more = map_next(w->orphans ? c->orphans : c->images, &w->at, NULL, &value);
	if (!more && !w->orphans) {
		*w = (struct image_walk){.orphans = true};
		more = map_next(c->orphans, &w->at, NULL, &value);
	}
	if (more)
		*image = &((struct image_entry *)value)->snap->image;
	return more;
}

struct image_snap *instance_image(struct core *c, const struct instance *i) {
	WITH_LOCK(c);
	const struct image_entry *e = image_of_instance(c, i);
	return e ? image_snap_ref(e->snap) : NULL;
}

void orphan_add(struct core *c, struct image_entry *e) {
	map_set(c->orphans, e->snap->image.id, e);
}

int orphans_load(struct core *c, struct error *err) {
	return images_read(c, "orphans/", c->orphans, err);
}

/* Needs the lock. */
static bool is_used(struct core *c, const char *id) {
	void *value;
	for (size_t i = 0; map_next(c->by_id, &i, NULL, &value);)
		if (str_same(((struct entry *)value)->snap->instance.image_id, id))
			return true;
	return false;
}

static char **unused(struct core *c) {
	WITH_LOCK(c);
	char **ids = NULL;
	const char *id;
	for (size_t i = 0; map_next(c->orphans, &i, &id, NULL);)
		if (!is_used(c, id))
			strv_add(&ids, id);
	return ids;
}

/* Nobody can come to use one again: images are found for new instances among the others alone. */
static int drop(struct core *c, const char *id, struct error *err) {
	_cleanup_(free_ptr) char *key = orphan_key(id);
	struct store_op op = {STORE_DELETE, key, NULL, STORE_ANY};
	int r = events_txn(c, &op, 1, err);
	if (r < 0)
		return r;
	WITH_LOCK(c);
	map_remove(c->orphans, id);
	return 0;
}

void orphans_drop(struct core *c) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	pthread_mutex_lock(&c->images_write);
	_cleanup_(strv_free_ptr) char **gone = unused(c);
	int r = 0;
	for (char **id = gone; r == 0 && id && *id; id++)
		r = drop(c, *id, &err);
	pthread_mutex_unlock(&c->images_write);
	if (r == 0 && gone)
		r = images_collect(c, NULL, &err);
	if (r < 0)
		log_warn("what removed images leave behind goes later: %s", error_text(&err));
}
