/* Objects in the store and in memory, and the names by which verbs keep out of each other's way. */
#include "core/core-priv.h"

#include "base/str.h"

#include <inttypes.h>

struct nouns {
	const struct noun_kind *kind;
	struct map *by_id;   /* of struct noun, referenced */
	struct map *by_name; /* the same, "project/name" */
};

static void drop(void *o) {
	noun_unref(o);
}

struct nouns *nouns_new(const struct noun_kind *kind) {
	struct nouns *o = NEW(struct nouns);
	*o = (struct nouns){kind, map_new(drop), map_new(NULL)};
	return o;
}

void nouns_free(struct nouns *o) {
	if (!o)
		return;
	map_free(o->by_name);
	map_free(o->by_id);
	free(o);
}

/* The table goes before the noun, so that an object can free itself. */
struct stored {
	struct noun state;
	const struct field_table *table;
};

static struct noun *noun_new(const struct noun_kind *k, const void *noun) {
	struct stored *s = NEW(struct stored);
	s->table = k->table;
	s->state.refs = 1;
	s->state.of = alloc_zero(k->table->size);
	fields_copy(k->table, noun, s->state.of);
	_cleanup_(json_free_ptr) json_t *json = fields_print(k->table, noun);
	s->state.json = json_print(json);
	s->state.json_len = strlen(s->state.json);
	return &s->state;
}

struct noun *noun_ref(struct noun *o) {
	__atomic_add_fetch(&o->refs, 1, __ATOMIC_RELAXED);
	return o;
}

void noun_unref(struct noun *o) {
	if (!o || __atomic_sub_fetch(&o->refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	fields_free(((struct stored *)o)->table, o->of);
	free(o->of);
	free(o->json);
	free(o);
}

void nouns_unref(struct noun **all) {
	for (struct noun **o = all; o && *o; o++)
		noun_unref(*o);
	free(all);
}

static const char *member(const void *noun, size_t offset) {
	return *(char *const *)((const char *)noun + offset);
}

static const char *project_of(const struct noun_kind *k, const void *noun) {
	return k->project == NO_PROJECT ? "" : member(noun, k->project);
}

static char *key_of(const struct noun_kind *k, const void *noun) {
	const char *project = project_of(k, noun);
	return str_format("%s/%s%s%s", k->prefix, project, *project ? "/" : "", member(noun, k->id));
}

static char *name_of(const struct noun_kind *k, const void *noun) {
	return name_key(project_of(k, noun), member(noun, k->name));
}

void noun_replace(struct nouns *o, const void *noun) {
	const struct noun_kind *k = o->kind;
	struct noun *old = map_get(o->by_id, member(noun, k->id)), *new = noun_new(k, noun);
	_cleanup_(free_ptr) char *name = name_of(k, noun);
	if (old) {
		_cleanup_(free_ptr) char *old_name = name_of(k, old->of);
		if (map_get(o->by_name, old_name) == old)
			map_take(o->by_name, old_name);
	}
	map_set(o->by_name, name, new);
	map_set(o->by_id, member(noun, k->id), new);
}

/* ---- the store ---- */

static int compare_created(const void *a, const void *b) {
	const struct store_item *x = a, *y = b;
	return x->created < y->created ? -1 : x->created > y->created;
}

int nouns_load(struct core *c, struct nouns *o, struct error *err) {
	_cleanup_(store_items_free) struct store_items list = {0};
	_cleanup_(free_ptr) char *prefix = str_format("%s/", o->kind->prefix);
	_cleanup_(free_ptr) void *noun = alloc_zero(o->kind->table->size);
	int r = store_list(c->store, prefix, &list, err);
	if (r == 0 && list.n)
		qsort(list.items, list.n, sizeof *list.items, compare_created);
	for (size_t i = 0; r == 0 && i < list.n; i++) {
		_cleanup_(json_free_ptr) json_t *json = json_parse(list.items[i].value, strlen(list.items[i].value), err);
		r = json ? fields_parse(o->kind->table, json, FIELDS_TRUSTED, noun, err) : -ERROR_CORRUPT;
		if (r < 0)
			return error_wrap(err, "reading %s", list.items[i].key);
		noun_replace(o, noun);
		fields_free(o->kind->table, noun);
	}
	return r;
}

/* `first` and then `more` in one transaction. */
static int txn(struct core *c, struct store_op first, const struct store_op *more, size_t n_more, struct error *err) {
	_cleanup_(free_ptr) struct store_op *ops = alloc_array(n_more + 1, sizeof *ops);
	ops[0] = first;
	if (n_more)
		memcpy(ops + 1, more, n_more * sizeof *ops);
	return events_txn(c, ops, n_more + 1, err);
}

static void publish(struct core *c, const struct noun_kind *k, const char *action, const void *noun) {
	const char *project = project_of(k, noun);
	event_add(c, k->noun, action, *project ? project : "default", member(noun, k->id), member(noun, k->name), NULL);
}

int noun_save(struct core *c, struct nouns *o, const void *noun, const char *action, const struct store_op *more,
		size_t n_more, struct noun **out, struct error *err) {
	_cleanup_(free_ptr) char *key = key_of(o->kind, noun);
	_cleanup_(json_free_ptr) json_t *json = fields_print_secrets(o->kind->table, noun);
	_cleanup_(free_ptr) char *text = json_print(json);
	int r = txn(c, (struct store_op){STORE_PUT, key, text, STORE_ANY}, more, n_more, err);
	if (r < 0)
		return r;
	WITH_LOCK(c);
	noun_replace(o, noun);
	publish(c, o->kind, action, noun);
	if (out)
		*out = noun_ref(map_get(o->by_id, member(noun, o->kind->id)));
	return 0;
}

int noun_delete(struct core *c, struct nouns *o, const void *noun, const struct store_op *more, size_t n_more,
		  struct error *err) {
	_cleanup_(free_ptr) char *key = key_of(o->kind, noun), *name = name_of(o->kind, noun), /* noun may be the object's own */
				 *id = str_copy(member(noun, o->kind->id));
	int r = txn(c, (struct store_op){STORE_DELETE, key, NULL, STORE_ANY}, more, n_more, err);
	if (r < 0)
		return r;
	WITH_LOCK(c);
	publish(c, o->kind, "delete", noun);
	struct noun *old = map_get(o->by_id, id);
	if (old && map_get(o->by_name, name) == old)
		map_take(o->by_name, name);
	map_remove(o->by_id, id);
	return 0;
}

/* ---- finding ---- */

static bool is_in(const struct noun_kind *k, const struct noun *x, const char *project) {
	return k->project == NO_PROJECT || str_same(member(x->of, k->project), project);
}

static struct noun *find_by_prefix(struct nouns *o, const char *project, const char *prefix, struct error *err) {
	struct noun *found = NULL, *x;
	for (size_t i = 0; (x = nouns_next(o, &i));) {
		if (!is_in(o->kind, x, project) || !str_starts(member(x->of, o->kind->id), prefix))
			continue;
		if (found) {
			error_set(err, ERROR_INVALID, "%s is the beginning of two ids, %.12s and %.12s", prefix,
				  member(found->of, o->kind->id), member(x->of, o->kind->id));
			return NULL;
		}
		found = x;
	}
	if (!found)
		error_set(err, ERROR_NOT_FOUND, "no %s is called %s", o->kind->noun, prefix);
	return found;
}

struct noun *noun_find(struct core *c, struct nouns *o, const char *project, const char *name, struct error *err) {
	if (o->kind->project != NO_PROJECT && core_project_check(c, project, err) < 0)
		return NULL;
	_cleanup_(free_ptr) char *key = name_key(o->kind->project == NO_PROJECT ? "" : project, name);
	struct noun *x = map_get(o->by_id, name); /* whatever others are called */
	if (x && is_in(o->kind, x, project))
		return x;
	x = map_get(o->by_name, key);
	if (x)
		return x;
	if (is_id_prefix(name))
		return find_by_prefix(o, project, name, err);
	error_set(err, ERROR_NOT_FOUND, "no %s is called %.128s", o->kind->noun, name);
	return NULL;
}

int noun_get(struct core *c, struct nouns *o, const char *project, const char *name, struct noun **out,
	       struct error *err) {
	struct error why = ERROR_INIT;
	WITH_LOCK(c);
	struct noun *x = noun_find(c, o, project, name, &why);
	if (!x)
		return error_move(err, &why);
	*out = noun_ref(x);
	return 0;
}

struct noun *noun_by_id(struct nouns *o, const char *id) {
	return map_get(o->by_id, id);
}

int noun_name_free(struct nouns *o, const char *project, const char *name, struct error *err) {
	_cleanup_(free_ptr) char *key = name_key(o->kind->project == NO_PROJECT ? "" : project, name);
	struct noun *other = map_get(o->by_name, key);
	if (!other)
		return 0;
	error_set(err, ERROR_EXISTS, "the name %s is taken by %s %.12s", name, o->kind->noun,
		  member(other->of, o->kind->id));
	error_in_field(err, "name");
	return -ERROR_EXISTS;
}

struct noun *nouns_next(const struct nouns *o, size_t *cursor) {
	void *value;
	return map_next(o->by_id, cursor, NULL, &value) ? value : NULL;
}

size_t nouns_count(const struct nouns *o) {
	return map_count(o->by_id);
}

static bool labels_fit(const struct pairs *labels, char *const *wanted) {
	for (; wanted && *wanted; wanted++)
		if (!label_fits(labels, *wanted))
			return false;
	return true;
}

int nouns_text(struct core *c, struct nouns *o, const char *project, char *const *labels, char **json, size_t *len,
		 struct error *err) {
	const struct noun_kind *k = o->kind;
	WITH_LOCK(c);
	int r = k->project == NO_PROJECT ? 0 : core_project_check(c, project, err);
	if (r < 0)
		return r;
	struct buf text = BUF_INIT;
	buf_addf(&text, "{\"revision\":%" PRId64 ",\"%s\":[", c->events.revision, k->prefix);
	struct noun *x;
	bool first = true;
	for (size_t i = 0; (x = nouns_next(o, &i));) {
		const struct pairs *have = (const struct pairs *)((const char *)x->of + k->labels);
		if (!is_in(k, x, project) || !labels_fit(have, labels))
			continue;
		if (!first)
			buf_addc(&text, ',');
		first = false;
		buf_add(&text, x->json, x->json_len);
	}
	buf_adds(&text, "]}");
	*len = text.len;
	*json = buf_steal(&text);
	return 0;
}

int nouns_all(struct core *c, struct nouns *o, const char *project, struct noun ***out, struct error *err) {
	WITH_LOCK(c);
	int r = o->kind->project == NO_PROJECT ? 0 : core_project_check(c, project, err);
	if (r < 0)
		return r;
	size_t n = 0;
	struct noun *x;
	*out = alloc_array(nouns_count(o) + 1, sizeof **out);
	for (size_t i = 0; (x = nouns_next(o, &i));)
		if (is_in(o->kind, x, project))
			(*out)[n++] = noun_ref(x);
	return 0;
}

/* ---- one verb at a time ---- */

void core_hold(struct core *c, const char *key) {
	WITH_LOCK(c);
	while (map_get(c->held, key))
		pthread_cond_wait(&c->changed, &c->lock);
	map_set(c->held, key, c);
}

void core_release(struct core *c, const char *key) {
	WITH_LOCK(c);
	map_remove(c->held, key);
	pthread_cond_broadcast(&c->changed);
}

struct held hold(struct core *c, const char *noun, const char *id) {
	struct held h = {c, str_format("%s/%s", noun, id)};
	core_hold(c, h.key);
	return h;
}

void held_release(struct held *h) {
	if (!h->key)
		return;
	core_release(h->core, h->key);
	free(h->key);
}
