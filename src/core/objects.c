/* Nouns with an id and a name: in memory, in the store, as text. */
#include "core/core-priv.h"

#include "base/str.h"

#include <inttypes.h>

static const char *member(const void *noun, size_t offset) {
	return *(char *const *)((const char *)noun + offset);
}

/* ---- snapshots ---- */

struct object_snap *object_snap_new(const struct field_table *t, const void *noun) {
	struct object_snap *s = NEW(struct object_snap);
	*s = (struct object_snap){.refs = 1, .table = t, .noun = alloc_zero(t->size)};
	fields_copy(t, noun, s->noun);
	_cleanup_(json_free_ptr) json_t *json = fields_print(t, noun);
	s->json = json_print(json);
	s->json_len = strlen(s->json);
	return s;
}

struct object_snap *object_snap_ref(struct object_snap *s) {
	__atomic_add_fetch(&s->refs, 1, __ATOMIC_RELAXED);
	return s;
}

void object_snap_unref(struct object_snap *s) {
	if (!s || __atomic_sub_fetch(&s->refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	fields_free(s->table, s->noun);
	free(s->noun);
	free(s->json);
	free(s);
}

void object_snaps_free(struct object_snap **all) {
	for (struct object_snap **s = all; s && *s; s++)
		object_snap_unref(*s);
	free(all);
}

/* ---- in memory ---- */

void objects_init(struct objects *all, const struct object_kind *kind, void (*drop_more)(void *more)) {
	*all = (struct objects){.kind = kind, .by_id = map_new(NULL), .by_name = map_new(NULL), .drop_more = drop_more};
}

static void object_free(const struct objects *all, struct object *o) {
	object_snap_unref(o->snap);
	if (all->drop_more && o->more)
		all->drop_more(o->more);
	free(o);
}

void objects_free(struct objects *all) {
	void *value;
	for (size_t i = 0; map_next(all->by_id, &i, NULL, &value);)
		object_free(all, value);
	map_free(all->by_id);
	map_free(all->by_name);
}

const char *object_id(const struct object *o) {
	return member(o->snap->noun, 0);
}

const char *object_name(const struct objects *all, const struct object *o) {
	return member(o->snap->noun, all->kind->name);
}

static char *object_key(const struct objects *all, const void *noun) {
	return name_key(member(noun, all->kind->project), member(noun, all->kind->name));
}

static struct object *insert(struct objects *all, const void *noun) {
	struct object *o = NEW(struct object);
	o->snap = object_snap_new(all->kind->table, noun);
	_cleanup_(free_ptr) char *key = object_key(all, noun);
	map_set(all->by_id, object_id(o), o);
	map_set(all->by_name, key, o);
	return o;
}

struct object *object_add(struct objects *all, const void *noun, struct error *err) {
	_cleanup_(free_ptr) char *key = object_key(all, noun);
	if (map_get(all->by_name, key)) {
		error_set(err, ERROR_EXISTS, "there is a %s called %s already: remove it first, or choose another name",
			  all->kind->noun, member(noun, all->kind->name));
		error_in_field(err, "name");
		return NULL;
	}
	struct object *o = insert(all, noun);
	o->creating = true;
	return o;
}

void object_set(struct core *c, struct object *o, const void *noun) {
	struct object_snap *old = o->snap;
	o->snap = object_snap_new(old->table, noun);
	object_snap_unref(old);
	c->generation++;
}

void object_take_out(struct core *c, struct objects *all, struct object *o) {
	_cleanup_(free_ptr) char *key = object_key(all, o->snap->noun);
	map_take(all->by_id, object_id(o));
	map_take(all->by_name, key);
	object_free(all, o);
	c->generation++;
}

static bool visible(const struct objects *all, const struct object *o, const char *project) {
	return o && !o->creating && str_same(member(o->snap->noun, all->kind->project), project);
}

/* NULL also when two fit. */
static struct object *find_by_prefix(const struct objects *all, const char *project, const char *prefix) {
	struct object *found = NULL;
	void *value;
	for (size_t i = 0; map_next(all->by_id, &i, NULL, &value);) {
		if (!visible(all, value, project) || !str_starts(object_id(value), prefix))
			continue;
		if (found)
			return NULL;
		found = value;
	}
	return found;
}

struct object *object_find(struct core *c, struct objects *all, const char *project, const char *name,
			   struct error *err) {
	if (core_project_check(c, project, err) < 0)
		return NULL;
	_cleanup_(free_ptr) char *key = name_key(project, name);
	struct object *o = map_get(all->by_id, name); /* whatever others are called */
	if (!visible(all, o, project))
		o = map_get(all->by_name, key);
	if (visible(all, o, project))
		return o;
	o = is_id_prefix(name) ? find_by_prefix(all, project, name) : NULL;
	if (!o)
		error_set(err, ERROR_NOT_FOUND, "no %s is called %.128s", all->kind->noun, name);
	return o;
}

int object_get(struct core *c, struct objects *all, const char *project, const char *name, struct object_snap **out,
	       struct error *err) {
	WITH_LOCK(c);
	struct object *o = object_find(c, all, project, name, err);
	if (!o)
		return -ERROR_NOT_FOUND;
	*out = object_snap_ref(o->snap);
	return 0;
}

int object_list(struct core *c, struct objects *all, const char *project, char **json, size_t *len,
		struct error *err) {
	WITH_LOCK(c);
	int r = core_project_check(c, project, err);
	if (r < 0)
		return r;
	struct buf text = BUF_INIT;
	buf_addf(&text, "{\"revision\":%" PRId64 ",\"%s\":[", c->events.revision, all->kind->list);
	void *value;
	for (size_t i = 0, n = 0; map_next(all->by_id, &i, NULL, &value);) {
		const struct object *o = value;
		if (!visible(all, o, project))
			continue;
		if (n++)
			buf_addc(&text, ',');
		buf_add(&text, o->snap->json, o->snap->json_len);
	}
	buf_adds(&text, "]}");
	*len = text.len;
	*json = buf_steal(&text);
	return 0;
}

int object_snaps(struct core *c, struct objects *all, const char *project, struct object_snap ***out, struct error *err) {
	WITH_LOCK(c);
	int r = core_project_check(c, project, err);
	if (r < 0)
		return r;
	struct object_snap **snaps = alloc_array(map_count(all->by_id) + 1, sizeof *snaps);
	void *value;
	for (size_t i = 0, n = 0; map_next(all->by_id, &i, NULL, &value);)
		if (visible(all, value, project))
			snaps[n++] = object_snap_ref(((const struct object *)value)->snap);
	*out = snaps;
	return 0;
}

/* ---- the store ---- */

static int compare_created(const void *a, const void *b) {
	const struct store_item *x = a, *y = b;
	return x->created < y->created ? -1 : x->created > y->created;
}

int objects_load(struct core *c, struct objects *all, void (*on_load)(struct core *c, struct object *o),
		 struct error *err) {
	_cleanup_(store_items_free) struct store_items list = {0};
	_cleanup_(free_ptr) char *prefix = str_format("%s/", all->kind->keys);
	_cleanup_(free_ptr) void *noun = alloc_zero(all->kind->table->size);
	int r = store_list(c->store, prefix, &list, err);
	if (r < 0)
		return r;
	if (list.n)
		qsort(list.items, list.n, sizeof *list.items, compare_created);
	for (size_t i = 0; i < list.n; i++) {
		_cleanup_(json_free_ptr) json_t *json = json_parse(list.items[i].value, strlen(list.items[i].value), err);
		if (!json || fields_parse(all->kind->table, json, FIELDS_TRUSTED, noun, err) < 0)
			return error_wrap(err, "reading %s", list.items[i].key);
		struct object *o = insert(all, noun);
		fields_free(all->kind->table, noun);
		if (on_load)
			on_load(c, o);
	}
	return 0;
}

static void store_keys(const struct objects *all, const struct object_snap *s, char **key, char **name) {
	const char *project = member(s->noun, all->kind->project);
	*key = str_format("%s/%s/%s", all->kind->keys, project, member(s->noun, 0));
	*name = str_format("%s/%s/%s", all->kind->names, project, member(s->noun, all->kind->name));
}

int object_store(struct core *c, struct objects *all, const struct object_snap *s, bool is_new, struct error *err) {
	_cleanup_(free_ptr) char *key = NULL, *name = NULL;
	store_keys(all, s, &key, &name);
	struct store_op ops[] = {{STORE_PUT, key, s->json, is_new ? STORE_ABSENT : STORE_ANY},
				 {STORE_PUT, name, member(s->noun, 0), STORE_ABSENT}};
	return events_txn(c, ops, is_new ? 2 : 1, err);
}

int object_unstore(struct core *c, struct objects *all, const struct object_snap *s, struct error *err) {
	_cleanup_(free_ptr) char *key = NULL, *name = NULL;
	store_keys(all, s, &key, &name);
	struct store_op ops[] = {{STORE_DELETE, key, NULL, STORE_ANY}, {STORE_DELETE, name, NULL, STORE_ANY}};
	return events_txn(c, ops, ARRAY_SIZE(ops), err);
}
