/* How names and images go: what stands against it, and what goes along. References are the names that people gave and
 * the digests by which repositories know the image; those of a repository go with its last name. */
#include "core/core-priv.h"

#include "base/log.h"
#include "base/str.h"
#include "base/time.h"

#define TRUNCATED 12 /* digits of an id that people are shown */

/* One step: references of one image, and perhaps the image. */
struct removal {
	char *id, *parent;
	char **names, **digests; /* that go */
	bool image;              /* goes too */
	bool orphan;             /* instances that do not run keep what they need of it */
};

static void removal_free(struct removal *m) {
	free(m->id);
	free(m->parent);
	strv_free(m->names);
	strv_free(m->digests);
	*m = (struct removal){0};
}

void image_removal_free(struct image_removal *m) {
	strv_free(m->untagged);
	strv_free(m->digests);
	strv_free(m->deleted);
	free(m->image);
	free(m->instance);
	*m = (struct image_removal){0};
}

#define PRUNED (1U << 8) /* beside image_remove_flags: all references, but not what anybody has */

/* ---- what stands against it; all of these need the lock ---- */

/* Who mounts the image needs all of it, whether or not it runs. */
static bool mounts_image(const struct instance *i, const char *image_id) {
	for (size_t k = 0; k < i->images.n; k++)
		if (str_same(i->images.items[k].image_id, image_id))
			return true;
	return false;
}

/* An instance that has the image; one that is up (or mounts it, which counts as much) before others. */
static const struct instance *user_of(struct core *c, const char *image_id, bool *up) {
	const struct instance *user = NULL;
	void *value;
	*up = false;
	for (size_t i = 0; !*up && map_next(c->by_id, &i, NULL, &value);) {
		const struct instance *one = &((struct entry *)value)->snap->instance;
		bool mounts = mounts_image(one, image_id);
		if (!mounts && !str_same(one->image_id, image_id))
			continue;
		user = one;
		*up = mounts || state_is_up(one->status.state);
	}
	return user;
}

static bool has_children(struct core *c, const char *image_id) {
	void *value;
	for (size_t i = 0; map_next(c->images, &i, NULL, &value);)
		if (str_same(((struct image_entry *)value)->snap->image.parent, image_id))
			return true;
	return false;
}

/* Whether all references are of one repository, with at most one tag among them. */
static bool one_repository(const struct image *i) {
	const char *tag = NULL, *first = i->names ? i->names[0] : i->digests ? i->digests[0] : NULL;
	for (char **n = i->names; n && *n; n++) {
		if (!image_ref_same_repository(*n, first) || (tag && !strchr(*n, '@')))
			return false;
		tag = strchr(*n, '@') ? tag : *n;
	}
	for (char **d = i->digests; d && *d; d++)
		if (!image_ref_same_repository(*d, first))
			return false;
	return first != NULL;
}

static int refuse(struct image_removal *out, enum image_conflict why, const struct image *i, const struct instance *user,
		  struct error *err) {
	const char *id = i->id + strlen("sha256:");
	out->conflict = why;
	out->image = str_copy(i->id);
	out->instance = user ? str_copy(user->id) : NULL;
	switch (why) {
	case IMAGE_HAS_CHILDREN:
		return error_set(err, ERROR_CONFLICT, "image %.*s has images that are built upon it: remove those first", TRUNCATED, id);
	case IMAGE_HAS_NAMES:
		return error_set(err, ERROR_CONFLICT, "image %.*s has %zu names: remove them one by one, or all by force", TRUNCATED, id,
				 strv_len(i->names));
	default:
		return error_set(err, ERROR_CONFLICT, "image %.*s is used by instance %s: remove that first", TRUNCATED, id,
				 user->spec.name);
	}
}

/* ---- planning; needs the lock ---- */

/* The reference that name means; NULL: it is an id, or a digest that no repository is known for. */
static char *reference_of(const struct image *i, const char *name, bool by_id) {
	_cleanup_(free_ptr) char *full = NULL;
	if (by_id || image_name_full(name, &full, NULL) < 0)
		return NULL;
	return strv_has(i->names, full) || strv_has(i->digests, full) ? TAKE_PTR(full) : NULL;
}

/* The name goes, and the digests of its repository with the last one. */
static void plan_name(const struct image *i, const char *full, bool hold, struct removal *m) {
	bool last = true, none = !hold && strv_len(i->names) == 1;
	if (strv_has(i->names, full))
		strv_add(&m->names, full);
	for (char **n = i->names; n && *n; n++)
		last &= str_same(*n, full) || strchr(*n, '@') || !image_ref_same_repository(*n, full);
	for (char **d = i->digests; d && *d; d++)
		if (str_same(*d, full) || (none && m->names) ||
		    (last && !strchr(full, '@') && image_ref_same_repository(*d, full)))
			strv_add(&m->digests, *d);
}

static bool nothing_left(const struct image *i, const struct removal *m) {
	return strv_len(m->names) == strv_len(i->names) && strv_len(m->digests) == strv_len(i->digests);
}

static int plan(struct core *c, const char *name, unsigned flags, struct removal *m, struct image_removal *out, struct error *err) {
	bool by_id, up;
	struct image_entry *e = image_find_how(c, name, &by_id, err);
	if (!e)
		return err && err->kind ? -(int)err->kind : -ERROR_NOT_FOUND;
	const struct image *i = &e->snap->image;
	const struct instance *user = user_of(c, i->id, &up);
	bool children = has_children(c, i->id), single = one_repository(i), force = flags & (IMAGE_FORCE | PRUNED);
	_cleanup_(free_ptr) char *full = reference_of(i, name, by_id);
	if (full && single && user && !force)
		return refuse(out, IMAGE_NAME_IN_USE, i, user, err);
	if (!full && children)
		return refuse(out, IMAGE_HAS_CHILDREN, i, NULL, err);
	if (!full && user && (up || !(flags & IMAGE_FORCE)))
		return refuse(out, up ? IMAGE_RUNS : IMAGE_IN_USE, i, user, err);
	if (!full && !single && strv_len(i->names) + strv_len(i->digests) > 0 && !force)
		return refuse(out, IMAGE_HAS_NAMES, i, NULL, err);
	m->id = str_copy(i->id);
	m->parent = copy_or_null(i->parent);
	if (full) {
		plan_name(i, full, flags & IMAGE_DIGESTS_HOLD, m);
	} else {
		m->names = strv_copy(i->names);
		m->digests = strv_copy(i->digests);
	}
	m->image = nothing_left(i, m) && !children && (!user || (!up && (flags & IMAGE_FORCE)));
	m->orphan = m->image && user;
	return 0;
}

/* An image that only those above it held: no reference, no child, no user. */
static bool plan_parent(struct core *c, const char *id, struct removal *m) {
	const struct image_entry *e = map_get(c->images, id);
	bool up;
	if (!e || e->snap->image.names || e->snap->image.digests || has_children(c, id) || user_of(c, id, &up))
		return false;
	*m = (struct removal){.id = str_copy(id), .parent = copy_or_null(e->snap->image.parent), .image = true};
	return true;
}

/* ---- doing ---- */

/* Needs the lock. */
static void forget_digests(struct image_entry *e, char *const *gone) {
	struct image left = e->snap->image;
	_cleanup_(strv_free_ptr) char **digests = NULL;
	for (char **d = left.digests; d && *d; d++)
		if (!strv_has(gone, *d))
			strv_add(&digests, *d);
	left.digests = digests;
	struct image_snap *old = e->snap;
	e->snap = image_snap_new(&left, left.names);
	image_snap_unref(old);
}

/* Needs the lock. Gives the state that is left to be stored, NULL for none. */
static struct image_snap *apply(struct core *c, const char *project, const struct removal *m) {
	struct image_entry *e = map_get(c->images, m->id);
	for (char **n = m->names; n && *n; n++) {
		map_take(c->refs, *n);
		image_forget_name(e, *n);
		event_add(c, "image", "untag", project, m->id, *n, NULL);
	}
	forget_digests(e, m->digests);
	if (!m->image)
		return image_snap_ref(e->snap);
	event_add(c, "image", "delete", project, m->id, m->names ? m->names[0] : m->id, NULL);
	map_take(c->images, m->id);
	struct image_snap *left = m->orphan ? image_snap_ref(e->snap) : NULL;
	if (m->orphan) {
		orphan_add(c, e);
	} else {
		image_snap_unref(e->snap);
		free(e);
	}
	return left;
}

static int store_removal(struct core *c, const char *project, const struct removal *m, const struct image_snap *left,
			 struct error *err) {
	size_t n = strv_len(m->names), count = 0;
	_cleanup_(strv_free_ptr) char **keys = NULL;
	_cleanup_(free_ptr) char *key = image_key(project, m->id), *orphan = orphan_key(m->id), *json = NULL;
	_cleanup_(free_ptr) struct store_op *ops = alloc_array(n + 2, sizeof *ops);
	for (size_t i = 0; i < n; i++) {
		strv_take(&keys, image_ref_key(project, m->names[i]));
		ops[count++] = (struct store_op){STORE_DELETE, keys[i], NULL, STORE_ANY};
	}
	if (m->image) {
		ops[count++] = (struct store_op){STORE_DELETE, key, NULL, STORE_ANY};
		if (m->orphan)
			ops[count++] = (struct store_op){STORE_PUT, orphan, left->json, STORE_ANY};
	} else if (m->digests) {
		struct image nameless = left->image;
		nameless.names = NULL;
		json = image_json(&nameless);
		ops[count++] = (struct store_op){STORE_PUT, key, json, STORE_ANY};
	}
	return count ? events_txn(c, ops, count, err) : 0;
}

/* Needs the lock. As it was before, when the store did not follow. */
static void restore(struct core *c, const struct removal *m, struct image_snap *before) {
	struct image_entry *e = map_get(c->images, m->id);
	if (m->orphan)
		map_remove(c->orphans, m->id);
	if (!e) {
		e = NEW(struct image_entry);
		map_set(c->images, m->id, e);
	}
	image_snap_unref(e->snap);
	e->snap = image_snap_ref(before);
	for (char **n = m->names; n && *n; n++)
		map_set(c->refs, *n, e);
}

/* Checks and takes out in one go, so that no instance comes to use the image in between; the store follows, and a failure
 * there puts it back. parent: the id is that of an image which goes only if nothing holds it; m->id is NULL if something
 * does. */
static int remove_step(struct core *c, const char *project, const char *name, unsigned flags, bool parent,
		       struct removal *m, struct image_removal *out, struct error *err) {
	_cleanup_(image_snap_unref_ptr) struct image_snap *before = NULL, *left = NULL;
	pthread_mutex_lock(&c->images_write);
	core_lock(c);
	int r = parent ? 0 : plan(c, name, flags, m, out, err);
	if (parent)
		plan_parent(c, name, m);
	if (m->id) {
		before = image_snap_ref(((struct image_entry *)map_get(c->images, m->id))->snap);
		left = apply(c, project, m);
	}
	core_unlock(c);
	if (m->id) {
		r = store_removal(c, project, m, left, err);
		if (r < 0) {
			WITH_LOCK(c);
			restore(c, m, before);
		}
	}
	pthread_mutex_unlock(&c->images_write);
	return r;
}

static void note(struct image_removal *out, const struct removal *m) {
	for (char **n = m->names; n && *n; n++)
		strv_add(&out->untagged, *n);
	for (char **d = m->digests; d && *d; d++)
		if (!strv_has(m->names, *d))
			strv_add(&out->digests, *d);
	if (m->image)
		strv_add(&out->deleted, m->id);
}

/* Without a collection. */
static int remove_chain(struct core *c, const char *project, const char *name, unsigned flags, struct image_removal *out,
			struct error *err) {
	_cleanup_(removal_free) struct removal m = {0};
	int r = remove_step(c, project, name, flags, false, &m, out, err);
	if (r < 0)
		return r;
	note(out, &m);
	while (m.image && m.parent && !(flags & IMAGE_KEEP_PARENTS)) {
		_cleanup_(free_ptr) char *parent = TAKE_PTR(m.parent);
		removal_free(&m);
		if (remove_step(c, project, parent, PRUNED, true, &m, out, NULL) < 0)
			break;
		note(out, &m);
	}
	return 0;
}

int image_remove(struct core *c, const char *project, const char *name, unsigned flags, struct image_removal *out,
		 struct error *err) {
	*out = (struct image_removal){0};
	int r = core_project_check(c, project, err);
	if (r == 0)
		r = remove_chain(c, project, name, flags, out, err);
	if (r < 0 || !out->deleted)
		return r;
	_cleanup_(error_free) struct error later = ERROR_INIT;
	if (images_collect(c, NULL, &later) < 0)
		log_info("what image %.19s leaves behind goes later: %s", out->deleted[0], error_text(&later));
	return 0;
}

int image_delete(struct core *c, const char *project, const char *name, bool force, char ***untagged, char ***deleted,
		 struct error *err) {
	_cleanup_(image_removal_free) struct image_removal m = {0};
	int r = image_remove(c, project, name, force ? IMAGE_FORCE : 0, &m, err);
	if (r < 0)
		return r;
	*untagged = TAKE_PTR(m.untagged);
	*deleted = TAKE_PTR(m.deleted);
	return 0;
}

/* ---- pruning ---- */

static bool has_tag(const struct image *i) {
	for (char **n = i->names; n && *n; n++)
		if (!strchr(*n, '@'))
			return true;
	return false;
}

static char **prunable(struct core *c, const struct image_prune_options *o) {
	WITH_LOCK(c);
	char **ids = NULL;
	const char *id;
	void *value;
	bool up;
	for (size_t i = 0; map_next(c->images, &i, &id, &value);) {
		const struct image *image = &((struct image_entry *)value)->snap->image;
		bool wanted = (o->all || !has_tag(image)) && (!o->until || image->created_at <= o->until) &&
			      (!o->fits || o->fits(image, o->arg));
		if (wanted && !has_children(c, id) && !user_of(c, id, &up))
			strv_add(&ids, id);
	}
	return ids;
}

int image_prune_fitting(struct core *c, const char *project, const struct image_prune_options *o, struct image_removal *out,
			uint64_t *freed, struct error *err) {
	*out = (struct image_removal){0};
	int r = core_project_check(c, project, err);
	if (r < 0)
		return r;
	_cleanup_(strv_free_ptr) char **ids = prunable(c, o);
	for (char **id = ids; id && *id; id++) {
		_cleanup_(image_removal_free) struct image_removal one = {0};
		if (remove_chain(c, project, *id, PRUNED, &one, NULL) < 0)
			continue;
		for (char **u = one.untagged; u && *u; u++)
			strv_add(&out->untagged, *u);
		for (char **d = one.digests; d && *d; d++)
			strv_add(&out->digests, *d);
		for (char **d = one.deleted; d && *d; d++)
			strv_add(&out->deleted, *d);
	}
	r = images_collect(c, freed, err);
	if (r < 0)
		image_removal_free(out);
	return r;
}

int image_prune(struct core *c, const char *project, bool all, char ***deleted, uint64_t *freed, struct error *err) {
	_cleanup_(image_removal_free) struct image_removal m = {0};
	struct image_prune_options o = {.all = all};
	int r = image_prune_fitting(c, project, &o, &m, freed, err);
	*deleted = r < 0 ? NULL : TAKE_PTR(m.deleted);
	return r;
}
