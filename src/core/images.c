/* The images that are known, and their names. How they go is in image-remove.c. */
#include "core/core-priv.h"

#include "base/log.h"
#include "base/str.h"
#include "base/time.h"

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

char *image_json(const struct image *i) {
	_cleanup_(json_free_ptr) json_t *json = fields_print(&image_table, i);
	return json_print(json);
}

struct image_snap *image_snap_new(const struct image *image, char *const *names) {
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

char *image_key(const char *project, const char *id) {
	return str_format("images/%s/%s", project, id);
}

char *image_ref_key(const char *project, const char *name) {
	return str_format("refs/%s/%s", project, name);
}

/* ---- finding ---- */

static bool has_digest(const struct image *i, const char *digest) {
	for (char **d = i->digests; d && *d; d++)
		if (str_ends(*d, digest))
			return true;
	return str_same(i->digest, digest);
}

/* By the digest of its manifest or index, as in name@sha256:…. */
static struct image_entry *find_by_digest(struct core *c, const char *digest) {
	void *value;
	for (size_t i = 0; map_next(c->images, &i, NULL, &value);)
		if (has_digest(&((struct image_entry *)value)->snap->image, digest))
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

struct image_entry *image_find_how(struct core *c, const char *name, bool *by_id, struct error *err) {
	struct error ambiguous = ERROR_INIT;
	struct image_entry *e = name ? find_by_name(c, name) : NULL;
	if (by_id)
		*by_id = !e;
	if (!e && name)
		e = find_by_id(c, name, &ambiguous);
	if (ambiguous.kind)
		error_move(err, &ambiguous);
	else if (!e)
		error_set(err, ERROR_NOT_FOUND, "no image is called %.256s: pull, load or import it first", name ? name : "scratch");
	return e;
}

struct image_entry *image_find(struct core *c, const char *name, struct error *err) {
	return image_find_how(c, name, NULL, err);
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

static bool name_fits(const struct image *i, const char *wanted) {
	const char *last = strrchr(wanted, '/');
	bool has_tag = strchr(last ? last : wanted, ':') || strchr(wanted, '@');
	_cleanup_(free_ptr) char *full = NULL;
	if (image_name_full(wanted, &full, NULL) < 0)
		return false;
	for (char **n = i->names; n && *n; n++)
		if (has_tag ? str_same(*n, full) : image_ref_same_repository(*n, full))
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

int image_snaps(struct core *c, const char *project, struct image_snap ***out, struct error *err) {
	WITH_LOCK(c);
	int r = core_project_check(c, project, err);
	if (r < 0)
		return r;
	size_t n = 0;
	void *value;
	*out = alloc_array(map_count(c->images) + 1, sizeof **out);
	for (size_t i = 0; map_next(c->images, &i, NULL, &value);)
		(*out)[n++] = image_snap_ref(((struct image_entry *)value)->snap);
	return 0;
}

void image_snaps_free(struct image_snap **list) {
	for (size_t i = 0; list && list[i]; i++)
		image_snap_unref(list[i]);
	free(list);
}

int image_config_text(struct core *c, const struct image *image, struct buf *out, struct error *err) {
	return content_read(c->content, image->id, out, err);
}

/* ---- loading ---- */

int images_read(struct core *c, const char *prefix, struct map *into, struct error *err) {
	_cleanup_(store_items_free) struct store_items list = {0};
	int r = store_list(c->store, prefix, &list, err);
	for (size_t i = 0; r == 0 && i < list.n; i++) {
		_cleanup_(json_free_ptr) json_t *json = json_parse(list.items[i].value, strlen(list.items[i].value), err);
		struct image one;
		if (!json || fields_parse(&image_table, json, FIELDS_TRUSTED, &one, err) < 0)
			return error_wrap(err, "reading %s", list.items[i].key);
		struct image_entry *e = NEW(struct image_entry);
		e->snap = image_snap_new(&one, NULL);
		map_set(into, one.id, e);
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

void image_forget_name(struct image_entry *e, const char *name) {
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
	int r = images_read(c, "images/", c->images, err);
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

/* Needs the lock. */
static void fill_sizes(struct core *c, struct image *image) {
	for (size_t i = 0; i < image->layers.n; i++) {
		const struct layer_entry *l = map_get(c->layers, image->layers.items[i].diff_id);
		if (l && l->size >= 0)
			image->layers.items[i].unpacked_size = l->size;
	}
}

/* Is the index that was kept the one that this one came from as well? */
static bool same_index(const struct image *old, const struct image *new) {
	for (char **d = new->digests; old->index && d && *d; d++) {
		const char *at = strchr(*d, '@');
		if (at && str_same(at + 1, old->index))
			return true;
	}
	return false;
}

/* What is to be kept, without names: image, with what is known of it from before. *next is to be freed. */
static void next_state(struct core *c, const struct image *image, struct image *next) {
	WITH_LOCK(c);
	fields_copy(&image_table, image, next);
	strv_free(TAKE_PTR(next->names));
	fill_sizes(c, next);
	if (image->names)
		next->tagged_at = time_now_ns();
	const struct image_entry *e = map_get(c->images, image->id);
	if (!e)
		return;
	const struct image *old = &e->snap->image;
	for (char **d = old->digests; d && *d; d++)
		if (!strv_has(next->digests, *d))
			strv_add(&next->digests, *d);
	if (!next->parent)
		next->parent = copy_or_null(old->parent);
	if (!next->index && same_index(old, image)) {
		next->index = str_copy(old->index);
		next->index_blobs = strv_copy(old->index_blobs);
	}
	if (!image->names)
		next->tagged_at = old->tagged_at;
}

static int store_image(struct core *c, const char *project, const struct image *nameless, char *const *names,
		       struct error *err) {
	size_t n = strv_len(names);
	if (n > NAMES_MAX)
		return error_set(err, ERROR_TOO_LARGE, "an image with %zu names: at most %d at once", n, NAMES_MAX);
	_cleanup_(strv_free_ptr) char **keys = NULL;
	struct store_op ops[NAMES_MAX + 1];
	_cleanup_(free_ptr) char *json = image_json(nameless);
	_cleanup_(free_ptr) char *key = image_key(project, nameless->id);
	ops[0] = (struct store_op){STORE_PUT, key, json, STORE_ANY};
	for (size_t i = 0; i < n; i++) {
		strv_take(&keys, image_ref_key(project, names[i]));
		ops[i + 1] = (struct store_op){STORE_PUT, keys[i], nameless->id, STORE_ANY};
	}
	return events_txn(c, ops, n + 1, err);
}

/* Needs the lock. */
static void take_names(struct core *c, struct image_entry *e, char *const *names) {
	for (char *const *n = names; n && *n; n++) {
		struct image_entry *other = map_get(c->refs, *n);
		if (other && other != e)
			image_forget_name(other, *n);
		map_set(c->refs, *n, e);
		add_name(e, *n);
	}
}

/* Needs images_write. */
static int store_next(struct core *c, const char *project, const struct image *next, char *const *names,
		      struct image_snap **out, struct error *err) {
	int r = store_image(c, project, next, names, err);
	if (r < 0)
		return r;
	WITH_LOCK(c);
	struct image_entry *e = map_get(c->images, next->id);
	if (!e) {
		e = NEW(struct image_entry);
		e->snap = image_snap_new(next, NULL);
		map_set(c->images, next->id, e);
	} else {
		struct image_snap *old = e->snap;
		e->snap = image_snap_new(next, old->image.names);
		image_snap_unref(old);
	}
	take_names(c, e, names);
	if (out)
		*out = image_snap_ref(e->snap);
	return 0;
}

int image_store(struct core *c, const char *project, const struct image *image, struct image_snap **out,
		struct error *err) {
	struct image next;
	pthread_mutex_lock(&c->images_write);
	next_state(c, image, &next);
	int r = store_next(c, project, &next, image->names, out, err);
	pthread_mutex_unlock(&c->images_write);
	fields_free(&image_table, &next);
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
