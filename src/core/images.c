/* The images that are known, their names, and what may go when they go. */
#include "core/core-priv.h"

#include "base/log.h"
#include "base/str.h"

#include <inttypes.h>

static int failed(struct error *err, enum error_kind kind) {
	return err && err->kind ? -(int)err->kind : -(int)kind;
}

struct image_snap *image_snap_ref(struct image_snap *s) {
	__atomic_add_fetch(&s->refs, 1, __ATOMIC_RELAXED);
	return s;
}

void image_snap_unref(struct image_snap *s) {
	if (!s || __atomic_sub_fetch(&s->refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	fields_free(&image_table, &s->image);
	free(s->json);
	free(s);
}

static char *image_json(const struct image *i) {
	_cleanup_(json_free_ptr) json_t *json = fields_print(&image_table, i);
	return json_print(json);
}

/* A copy of image with other names. */
static struct image_snap *image_snap_new(const struct image *image, char *const *names) {
	struct image_snap *s = NEW(struct image_snap);
	struct image named = *image;
	named.names = (char **)names;
	s->refs = 1;
	fields_copy(&image_table, &named, &s->image);
	s->json = image_json(&s->image);
	s->json_len = strlen(s->json);
	return s;
}

int image_name_full(const char *text, char **full, struct error *err) {
	struct image_ref ref;
	int r = image_ref_parse(text, &ref, err);
	if (r < 0)
		return r;
	*full = image_ref_print(&ref);
	image_ref_free(&ref);
	return 0;
}

static char *image_key(const char *project, const char *id) {
	return str_format("images/%s/%s", project, id);
}

static char *ref_key(const char *project, const char *name) {
	return str_format("refs/%s/%s", project, name);
}

/* ---- finding ---- */

/* By the digest of its manifest, as in name@sha256:…. */
static struct image_entry *find_by_digest(struct core *c, const char *digest) {
	void *value;
	for (size_t i = 0; map_next(c->images, &i, NULL, &value);)
		if (str_same(((struct image_entry *)value)->snap->image.digest, digest))
			return value;
	return NULL;
}

static struct image_entry *find_by_name(struct core *c, const char *name) {
	struct image_ref ref;
	if (image_ref_parse(name, &ref, NULL) < 0)
		return NULL;
	_cleanup_(free_ptr) char *full = image_ref_print(&ref);
	struct image_entry *found = map_get(c->refs, full);
	if (!found && ref.digest)
		found = find_by_digest(c, ref.digest);
	image_ref_free(&ref);
	return found;
}

static struct image_entry *find_by_id(struct core *c, const char *name, struct error *err) {
	const char *digits = str_starts(name, "sha256:") ? name + strlen("sha256:") : name;
	size_t n = strlen(digits);
	if (n < 4 || n > 64 || strspn(digits, "0123456789abcdef") != n)
		return NULL;
	struct image_entry *found = NULL;
	void *value;
	for (size_t i = 0; map_next(c->images, &i, NULL, &value);) {
		struct image_entry *e = value;
		if (!str_starts(e->snap->image.id + strlen("sha256:"), digits))
			continue;
		if (found) {
			error_set(err, ERROR_INVALID, "%s is the beginning of two image ids, %s and %s", name,
				  found->snap->image.id, e->snap->image.id);
			return NULL;
		}
		found = e;
	}
	return found;
}

/* Also says whether it was an id: *by_id may be NULL. */
static struct image_entry *find(struct core *c, const char *name, bool *by_id, struct error *err) {
	struct error ambiguous = ERROR_INIT;
	struct image_entry *e = find_by_name(c, name);
	if (by_id)
		*by_id = !e;
	if (!e)
		e = find_by_id(c, name, &ambiguous);
	if (ambiguous.kind)
		error_move(err, &ambiguous);
	else if (!e)
		error_set(err, ERROR_NOT_FOUND, "no image is called %.256s: pull, load or import it first", name);
	return e;
}

struct image_entry *image_find(struct core *c, const char *name, struct error *err) {
	return find(c, name, NULL, err);
}

int image_get(struct core *c, const char *project, const char *name, struct image_snap **out, struct error *err) {
	WITH_LOCK(c);
	int r = core_project_check(c, project, err);
	if (r < 0)
		return r;
	struct image_entry *e = image_find(c, name, err);
	if (!e)
		return failed(err, ERROR_NOT_FOUND);
	*out = image_snap_ref(e->snap);
	return 0;
}

static bool repository_is(const char *full, const char *wanted) {
	struct image_ref ref, have;
	if (image_ref_parse(wanted, &ref, NULL) < 0)
		return false;
	bool same = false;
	if (image_ref_parse(full, &have, NULL) == 0) {
		same = str_same(ref.registry, have.registry) && str_same(ref.repository, have.repository);
		image_ref_free(&have);
	}
	image_ref_free(&ref);
	return same;
}

static bool name_fits(const struct image *i, const char *wanted) {
	const char *last = strrchr(wanted, '/');
	bool has_tag = strchr(last ? last : wanted, ':') || strchr(wanted, '@');
	_cleanup_(free_ptr) char *full = NULL;
	if (has_tag)
		return image_name_full(wanted, &full, NULL) == 0 && strv_has(i->names, full);
	for (char **n = i->names; n && *n; n++)
		if (repository_is(*n, wanted))
			return true;
	return false;
}

int image_list(struct core *c, const char *project, const char *name, bool dangling_only, char **json, size_t *len,
	       struct error *err) {
	WITH_LOCK(c);
	int r = core_project_check(c, project, err);
	if (r < 0)
		return r;
	struct buf text = BUF_INIT;
	buf_addf(&text, "{\"revision\":%" PRId64 ",\"images\":[", c->events.revision);
	void *value;
	for (size_t i = 0, n = 0; map_next(c->images, &i, NULL, &value);) {
		const struct image_snap *s = ((struct image_entry *)value)->snap;
		if ((name && !name_fits(&s->image, name)) || (dangling_only && strv_len(s->image.names)))
			continue;
		if (n++)
			buf_addc(&text, ',');
		buf_add(&text, s->json, s->json_len);
	}
	buf_adds(&text, "]}");
	*len = text.len;
	*json = buf_steal(&text);
	return 0;
}

/* ---- loading ---- */

static int load_images(struct core *c, struct error *err) {
	_cleanup_(store_items_free) struct store_items list = {0};
	int r = store_list(c->store, "images/", &list, err);
	for (size_t i = 0; r == 0 && i < list.n; i++) {
		_cleanup_(json_free_ptr) json_t *json = json_parse(list.items[i].value, strlen(list.items[i].value), err);
		struct image one;
		if (!json || fields_parse(&image_table, json, FIELDS_TRUSTED, &one, err) < 0)
			return error_wrap(err, "reading %s", list.items[i].key);
		struct image_entry *e = NEW(struct image_entry);
		e->snap = image_snap_new(&one, NULL);
		map_set(c->images, one.id, e);
		fields_free(&image_table, &one);
	}
	return r;
}

/* Needs the lock. Replaces the names of e. */
static void set_names(struct image_entry *e, char *const *names) {
	struct image_snap *old = e->snap;
	e->snap = image_snap_new(&old->image, names);
	image_snap_unref(old);
}

static void add_name(struct image_entry *e, const char *name) {
	_cleanup_(strv_free_ptr) char **names = strv_copy(e->snap->image.names);
	if (!strv_has(names, name))
		strv_add(&names, name);
	set_names(e, names);
}

static void remove_name(struct image_entry *e, const char *name) {
	_cleanup_(strv_free_ptr) char **names = NULL;
	for (char **n = e->snap->image.names; n && *n; n++)
		if (!str_same(*n, name))
			strv_add(&names, *n);
	set_names(e, names);
}

/* The key is refs/<project>/<name>. */
static const char *name_of_key(const char *key) {
	const char *slash = strchr(key + strlen("refs/"), '/');
	return slash ? slash + 1 : "";
}

int images_load(struct core *c, struct error *err) {
	_cleanup_(store_items_free) struct store_items list = {0};
	int r = load_images(c, err);
	if (r == 0)
		r = store_list(c->store, "refs/", &list, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < list.n; i++) {
		struct image_entry *e = map_get(c->images, list.items[i].value);
		const char *name = name_of_key(list.items[i].key);
		if (!e) {
			log_warn("the name %s is that of no image", name);
			continue;
		}
		add_name(e, name);
		map_set(c->refs, name, e);
	}
	return 0;
}

/* ---- adding ---- */

#define NAMES_MAX 64

static int store_image(struct core *c, const char *project, const struct image *image, struct error *err) {
	size_t n = strv_len(image->names);
	if (n > NAMES_MAX)
		return error_set(err, ERROR_TOO_LARGE, "an image with %zu names: at most %d at once", n, NAMES_MAX);
	_cleanup_(strv_free_ptr) char **keys = NULL;
	struct store_op ops[NAMES_MAX + 1];
	struct image nameless = *image;
	nameless.names = NULL;
	_cleanup_(free_ptr) char *json = image_json(&nameless);
	_cleanup_(free_ptr) char *key = image_key(project, image->id);
	ops[0] = (struct store_op){STORE_PUT, key, json, STORE_ANY};
	for (size_t i = 0; i < n; i++) {
		strv_take(&keys, ref_key(project, image->names[i]));
		ops[i + 1] = (struct store_op){STORE_PUT, keys[i], image->id, STORE_ANY};
	}
	return events_txn(c, ops, n + 1, err);
}

/* Needs the lock. */
static void take_names(struct core *c, struct image_entry *e, char *const *names) {
	for (char *const *n = names; n && *n; n++) {
		struct image_entry *other = map_get(c->refs, *n);
		if (other && other != e)
			remove_name(other, *n);
		map_set(c->refs, *n, e);
		add_name(e, *n);
	}
}

int image_store(struct core *c, const char *project, const struct image *image, struct image_snap **out,
		struct error *err) {
	pthread_mutex_lock(&c->images_write);
	int r = store_image(c, project, image, err);
	if (r == 0) {
		WITH_LOCK(c);
		struct image_entry *e = map_get(c->images, image->id);
		if (!e) {
			e = NEW(struct image_entry);
			e->snap = image_snap_new(image, NULL);
			map_set(c->images, image->id, e);
		}
		take_names(c, e, image->names);
		if (out)
			*out = image_snap_ref(e->snap);
	}
	pthread_mutex_unlock(&c->images_write);
	return r;
}

int image_tag(struct core *c, const char *project, const char *image, const char *name, struct image_snap **out,
	      struct error *err) {
	_cleanup_(image_snap_unref_ptr) struct image_snap *snap = NULL;
	_cleanup_(free_ptr) char *full = NULL;
	int r = image_get(c, project, image, &snap, err);
	if (r == 0)
		r = image_name_full(name, &full, err);
	if (r < 0)
		return r;
	char *names[] = {full, NULL};
	struct image named = snap->image;
	named.names = names;
	r = image_store(c, project, &named, out, err);
	if (r == 0) {
		WITH_LOCK(c);
		event_add(c, "image", "tag", project, named.id, full, NULL);
	}
	return r;
}

/* ---- removing ---- */

/* Needs the lock. */
static const struct instance *user_of(struct core *c, const char *image_id) {
	void *value;
	for (size_t i = 0; map_next(c->by_id, &i, NULL, &value);) {
		struct entry *e = value;
		if (str_same(e->snap->instance.image_id, image_id))
			return &e->snap->instance;
	}
	return NULL;
}

struct removal {
	char *id;
	char **names; /* that go */
	bool image;   /* goes too */
};

static void removal_free(struct removal *r) {
	free(r->id);
	strv_free(r->names);
}

/* Needs the lock. */
static int plan_removal(struct core *c, const char *name, bool force, struct removal *out, struct error *err) {
	bool by_id;
	struct image_entry *e = find(c, name, &by_id, err);
	if (!e)
		return failed(err, ERROR_NOT_FOUND);
	const struct image *i = &e->snap->image;
	size_t n = strv_len(i->names);
	_cleanup_(free_ptr) char *full = NULL;
	if (!by_id && image_name_full(name, &full, NULL) == 0 && !strv_has(i->names, full))
		by_id = true; /* named by its digest */
	const struct instance *user = user_of(c, i->id);
	bool last = by_id || n <= 1;
	if (by_id && n > 1 && !force)
		return error_set(err, ERROR_CONFLICT, "image %.19s has %zu names: remove them one by one, or all by force", i->id, n);
	if (last && user && !force)
		return error_set(err, ERROR_CONFLICT, "image %s is used by instance %s: remove that first", name, user->spec.name);
	out->id = str_copy(i->id);
	out->image = last && !user;
	if (by_id)
		out->names = strv_copy(i->names);
	else
		strv_add(&out->names, full);
	return 0;
}

static int store_removal(struct core *c, const char *project, const struct removal *m, struct error *err) {
	size_t n = strv_len(m->names), count = 0;
	_cleanup_(strv_free_ptr) char **keys = NULL;
	_cleanup_(free_ptr) char *key = image_key(project, m->id);
	_cleanup_(free_ptr) struct store_op *ops = alloc_array(n + 1, sizeof *ops);
	for (size_t i = 0; i < n; i++) {
		strv_take(&keys, ref_key(project, m->names[i]));
		ops[count++] = (struct store_op){STORE_DELETE, keys[i], NULL, STORE_ANY};
	}
	if (m->image)
		ops[count++] = (struct store_op){STORE_DELETE, key, NULL, STORE_ANY};
	return count ? events_txn(c, ops, count, err) : 0;
}

/* Needs the lock. */
static void apply_removal(struct core *c, const char *project, const struct removal *m) {
	struct image_entry *e = map_get(c->images, m->id);
	for (char **n = m->names; n && *n; n++) {
		map_take(c->refs, *n);
		remove_name(e, *n);
		event_add(c, "image", "untag", project, m->id, *n, NULL);
	}
	if (!m->image)
		return;
	event_add(c, "image", "delete", project, m->id, m->names ? m->names[0] : m->id, NULL);
	map_take(c->images, m->id);
	image_snap_unref(e->snap);
	free(e);
}

/* Checks and takes out in one go, so that no instance comes to use the image in between; the store follows,
 * and a failure there puts it back. */
static int remove_one(struct core *c, const char *project, const char *name, bool force, struct removal *m,
		      struct error *err) {
	pthread_mutex_lock(&c->images_write);
	core_lock(c);
	int r = plan_removal(c, name, force, m, err);
	_cleanup_(image_snap_unref_ptr) struct image_snap *snap = NULL;
	if (r == 0) {
		snap = image_snap_ref(((struct image_entry *)map_get(c->images, m->id))->snap);
		apply_removal(c, project, m);
	}
	core_unlock(c);
	if (r == 0) {
		r = store_removal(c, project, m, err);
		if (r < 0) {
			WITH_LOCK(c);
			struct image_entry *e = map_get(c->images, m->id);
			if (!e) {
				e = NEW(struct image_entry);
				e->snap = image_snap_new(&snap->image, NULL);
				map_set(c->images, m->id, e);
			}
			take_names(c, e, m->names);
		}
	}
	pthread_mutex_unlock(&c->images_write);
	return r;
}

int image_delete(struct core *c, const char *project, const char *name, bool force, char ***untagged, char ***deleted,
		 struct error *err) {
	_cleanup_(removal_free) struct removal m = {0};
	int r = core_project_check(c, project, err);
	if (r == 0)
		r = remove_one(c, project, name, force, &m, err);
	if (r < 0)
		return r;
	*untagged = TAKE_PTR(m.names);
	*deleted = NULL;
	if (!m.image)
		return 0;
	strv_add(deleted, m.id);
	_cleanup_(error_free) struct error later = ERROR_INIT;
	if (images_collect(c, NULL, &later) < 0)
		log_info("what image %.19s leaves behind goes later: %s", m.id, error_text(&later));
	return 0;
}

static char **prunable(struct core *c, bool all) {
	WITH_LOCK(c);
	char **ids = NULL;
	const char *id;
	void *value;
	for (size_t i = 0; map_next(c->images, &i, &id, &value);) {
		struct image_entry *e = value;
		if ((all || strv_len(e->snap->image.names) == 0) && !user_of(c, id))
			strv_add(&ids, id);
	}
	return ids;
}

int image_prune(struct core *c, const char *project, bool all, char ***deleted, uint64_t *freed, struct error *err) {
	int r = core_project_check(c, project, err);
	if (r < 0)
		return r;
	_cleanup_(strv_free_ptr) char **ids = prunable(c, all);
	*deleted = NULL;
	for (char **id = ids; id && *id; id++) {
		_cleanup_(removal_free) struct removal m = {0};
		if (remove_one(c, project, *id, all, &m, NULL) == 0 && m.image)
			strv_add(deleted, *id);
	}
	r = images_collect(c, freed, err);
	if (r < 0) {
		strv_free(*deleted);
		*deleted = NULL;
	}
	return r;
}
