/* Field tables: JSON into a struct, and merge patches. Limits are checked afterwards, by field-validate.c;
 * the size of the whole was bounded when the text was read. */
#include "model/field-priv.h"

#include "base/str.h"

#include <math.h>
#include <strings.h>

static int parse_object(const struct field_table *t, const json_t *json, unsigned flags, void *object,
			struct error *err);

static int wrong_type(const struct field *f, const char *wanted, struct error *err) {
	return error_field(err, f->name, "must be %s", wanted);
}

/* A string without "\0" inside, or NULL. */
static const char *plain_string(const json_t *json) {
	const char *s = json_string_value(json);
	return s && strlen(s) == json_string_length(json) ? s : NULL;
}

/* A number of whole units (seconds, CPUs) as nano units. */
static int parse_nano(const struct field *f, const json_t *json, int64_t *out, struct error *err) {
	double v = json_number_value(json) * 1e9;
	if (!(fabs(v) < 9.2e18))
		return error_field(err, f->name, "is too large");
	*out = llround(v);
	return 0;
}

static int parse_number(const struct field *f, const json_t *json, int64_t *out, struct error *err) {
	static const char *const wanted[] = {
		[FIELD_INT] = "a whole number",
		[FIELD_SIZE] = "a number of bytes, or a text such as \"512MiB\"",
		[FIELD_DURATION] = "a text such as \"1m30s\", or a number of seconds",
		[FIELD_CPUS] = "a number such as 1.5",
		[FIELD_TIME] = "a time such as \"2026-11-22T23:09:46Z\"",
	};
	bool nano = f->type == FIELD_DURATION || f->type == FIELD_CPUS;
	if (nano && json_is_number(json))
		return parse_nano(f, json, out, err);
	if (f->type != FIELD_TIME && json_is_integer(json)) {
		*out = json_integer_value(json);
		return 0;
	}
	if (f->type != FIELD_INT && plain_string(json))
		return field_number_from_text(f, plain_string(json), out, err);
	return wrong_type(f, wanted[f->type], err);
}

static int parse_strings(const struct field *f, const json_t *json, char ***out, struct error *err) {
	if (!json_is_array(json))
		return wrong_type(f, "a list of texts", err);
	size_t n = json_array_size(json);
	if (n > (size_t)field_max(f))
		return error_field(err, f->name, "at most %zu items are allowed", (size_t)field_max(f));
	if (!n)
		return 0;
	*out = alloc_array(n + 1, sizeof **out);
	for (size_t i = 0; i < n; i++) {
		const char *s = plain_string(json_array_get(json, i));
		if (!s)
			return wrong_type(f, "a list of texts", err);
		(*out)[i] = str_copy(s);
	}
	return 0;
}

/* Merges into what is there; null removes. */
static int merge_pairs(const struct field *f, const json_t *json, struct pairs *out, struct error *err) {
	if (!json_is_object(json))
		return wrong_type(f, "an object of texts", err);
	if (json_object_size(json) > (size_t)field_max(f))
		return error_field(err, f->name, "at most %zu items are allowed", (size_t)field_max(f));
	const char *key;
	json_t *value;
	json_object_foreach((json_t *)json, key, value) {
		if (!json_is_null(value) && !plain_string(value))
			return wrong_type(f, "an object of texts", err);
		pairs_set(out, key, json_is_null(value) ? NULL : plain_string(value));
	}
	return 0;
}

static int parse_list(const struct field *f, const json_t *json, unsigned flags, struct field_list *l,
		      struct error *err) {
	if (!json_is_array(json))
		return wrong_type(f, "a list of objects", err);
	size_t n = json_array_size(json);
	if (n > (size_t)field_max(f))
		return error_field(err, f->name, "at most %zu items are allowed", (size_t)field_max(f));
	if (n)
		l->items = alloc_array(n, f->sub->size);
	for (size_t i = 0; i < n; i++) {
		void *item = list_item(f, l, l->n++);
		fields_init(f->sub, item);
		int r = parse_object(f->sub, json_array_get(json, i), flags, item, err);
		if (r < 0) {
			_cleanup_(free_ptr) char *where = str_format("%s[%zu]", f->name, i);
			error_in_field(err, where);
			return r;
		}
	}
	return 0;
}

static int parse_string(const struct field *f, const json_t *json, char **out, struct error *err) {
	if (!plain_string(json))
		return wrong_type(f, "a text", err);
	*out = str_copy(plain_string(json));
	return 0;
}

static int parse_bool(const struct field *f, const json_t *json, bool *out, struct error *err) {
	if (!json_is_boolean(json))
		return wrong_type(f, "true or false", err);
	*out = json_is_true(json);
	return 0;
}

/* The member is replaced; an object's is filled in (whose defaults are there already). */
static int parse_member(const struct field *f, const json_t *json, unsigned flags, void *object, struct error *err) {
	union member m = field_member(f, object);
	if (f->type == FIELD_OBJECT) {
		int r = parse_object(f->sub, json, flags, m.any, err);
		if (r < 0)
			error_in_field(err, f->name);
		return r;
	}
	field_free(f, object);
	switch (f->type) {
	case FIELD_STRING:
	case FIELD_ENUM:
		return parse_string(f, json, m.string, err);
	case FIELD_BOOL:
		return parse_bool(f, json, m.boolean, err);
	case FIELD_STRINGS:
		return parse_strings(f, json, m.strings, err);
	case FIELD_PAIRS:
		return merge_pairs(f, json, m.pairs, err);
	case FIELD_LIST:
		return parse_list(f, json, flags, m.list, err);
	case FIELD_JSON:
		*m.json = json_deep_copy(json);
		return 0;
	default:
		return parse_number(f, json, m.number, err);
	}
}

static const struct field *find_field(const struct field_table *t, const char *name,
				      int (*compare)(const char *a, const char *b)) {
	for_each_field(f, t)
		if (compare(f->name, name) == 0)
			return f;
	return NULL;
}

/* Gives the row of a key of the input; NULL with *r = 0: to be skipped. */
static const struct field *accept_key(const struct field_table *t, const char *key, unsigned flags, int *r,
				      struct error *err) {
	const struct field *f = find_field(t, key, flags & FIELDS_FOREIGN ? strcasecmp : strcmp);
	*r = 0;
	if (flags & FIELDS_TRUSTED || (!f && flags & FIELDS_FOREIGN))
		return f;
	if (!f) {
		_cleanup_(free_ptr) char *shown = text_shown(key);
		*r = error_field(err, shown, "there is no field \"%s\" in %s", shown, t->name);
	} else if (f->flags & FIELD_READONLY && !(flags & FIELDS_INTERNAL)) {
		*r = error_field(err, f->name, "is set by wabe and cannot be given");
		return NULL;
	}
	return f;
}

static int parse_object(const struct field_table *t, const json_t *json, unsigned flags, void *object,
			struct error *err) {
	if (!json_is_object(json))
		return error_set(err, ERROR_INVALID, "must be an object");
	const char *key;
	json_t *value;
	json_object_foreach((json_t *)json, key, value) {
		int r;
		const struct field *f = accept_key(t, key, flags, &r, err);
		if (r < 0)
			return r;
		if (!f || json_is_null(value))
			continue;
		r = parse_member(f, value, flags, object, err);
		if (r < 0)
			return r;
	}
	return 0;
}

int fields_parse(const struct field_table *t, const json_t *json, unsigned flags, void *object, struct error *err) {
	fields_init(t, object);
	int r = parse_object(t, json, flags, object, err);
	if (r == 0)
		r = fields_validate(t, object, err);
	if (r < 0)
		fields_free(t, object);
	return r;
}

static int patch_object(const struct field_table *t, const json_t *patch, void *object, struct error *err);

static int patch_member(const struct field *f, const json_t *value, void *object, struct error *err) {
	union member m = field_member(f, object);
	if (json_is_null(value)) {
		field_free(f, object);
		field_init(f, object);
		return 0;
	}
	if (f->type == FIELD_PAIRS)
		return merge_pairs(f, value, m.pairs, err);
	if (f->type != FIELD_OBJECT)
		return parse_member(f, value, 0, object, err);
	int r = patch_object(f->sub, value, m.any, err);
	if (r < 0)
		error_in_field(err, f->name);
	return r;
}

static int patch_object(const struct field_table *t, const json_t *patch, void *object, struct error *err) {
	if (!json_is_object(patch))
		return error_set(err, ERROR_INVALID, "must be an object");
	const char *key;
	json_t *value;
	json_object_foreach((json_t *)patch, key, value) {
		int r;
		const struct field *f = accept_key(t, key, 0, &r, err);
		if (r == 0)
			r = patch_member(f, value, object, err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Refuses changes of immutable fields, and while running those of fields that are not live. */
static int check_changes(const struct field_table *t, const void *old, const void *new, bool running,
			 struct error *err) {
	for_each_field(f, t) {
		if (field_equal(f, old, new))
			continue;
		if (f->flags & FIELD_IMMUTABLE)
			return error_field(err, f->name, "cannot be changed");
		if (!running || f->flags & FIELD_LIVE)
			continue;
		if (f->type != FIELD_OBJECT) {
			int r = error_set(err, ERROR_CONFLICT,
					  "cannot be changed while the instance runs: stop it first");
			error_in_field(err, f->name);
			return r;
		}
		int r = check_changes(f->sub, field_member(f, old).any, field_member(f, new).any, running, err);
		if (r < 0) {
			error_in_field(err, f->name);
			return r;
		}
	}
	return 0;
}

int fields_patch(const struct field_table *t, const json_t *patch, bool running, void *object, struct error *err) {
	_cleanup_(free_ptr) void *changed = alloc_zero(t->size);
	fields_copy(t, object, changed);
	int r = patch_object(t, patch, changed, err);
	if (r == 0)
		r = fields_validate(t, changed, err);
	if (r == 0)
		r = check_changes(t, object, changed, running, err);
	if (r < 0) {
		fields_free(t, changed);
		return r;
	}
	fields_free(t, object);
	memcpy(object, changed, t->size);
	return 0;
}
