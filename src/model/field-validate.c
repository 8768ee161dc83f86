/* Field tables: limits, required fields and checks; and the consistency of a table itself. */
#include "model/field-priv.h"

#include "base/str.h"

#include <inttypes.h>

static int validate_string(const struct field *f, const char *s, struct error *err) {
	size_t n = strlen(s);
	if ((int64_t)n < f->min)
		return error_field(err, f->name, n ? "is too short" : "must not be empty");
	if ((int64_t)n > field_max(f))
		return error_field(err, f->name, "is %zu bytes long, at most %" PRId64 " are allowed", n, field_max(f));
	int r = f->check ? f->check(s, err) : 0;
	if (r < 0)
		error_in_field(err, f->name);
	return r;
}

static int validate_enum(const struct field *f, const char *s, struct error *err) {
	for (const char *const *v = f->values; *v; v++)
		if (strcmp(*v, s) == 0)
			return 0;
	_cleanup_(free_ptr) char *shown = text_shown(s), *values = strv_join((char *const *)f->values, ", ");
	return error_field(err, f->name, "\"%s\" is not one of %s", shown, values);
}

/* A number as the field's kind is written. */
static char *shown_number(const struct field *f, int64_t v) {
	switch (v < 0 ? FIELD_INT : f->type) {
	case FIELD_SIZE:
		return size_to_str(v);
	case FIELD_DURATION:
		return duration_to_str(v);
	case FIELD_CPUS:
		return str_format("%g", (double)v / 1e9);
	default:
		return str_format("%" PRId64, v);
	}
}

static int validate_number(const struct field *f, int64_t v, struct error *err) {
	if (v >= f->min && v <= field_max(f))
		return 0;
	_cleanup_(free_ptr) char *limit = shown_number(f, v < f->min ? f->min : field_max(f));
	return error_field(err, f->name, "must be at %s %s", v < f->min ? "least" : "most", limit);
}

static int validate_count(const struct field *f, size_t n, struct error *err) {
	if ((int64_t)n < f->min)
		return error_field(err, f->name, "needs at least %" PRId64 " items", f->min);
	if ((int64_t)n > field_max(f))
		return error_field(err, f->name, "at most %" PRId64 " items are allowed", field_max(f));
	return 0;
}

static int validate_strings(const struct field *f, char *const *v, struct error *err) {
	int r = validate_count(f, strv_len(v), err);
	for (size_t i = 0; r == 0 && v && v[i]; i++) {
		if (strlen(v[i]) > FIELD_ITEM_MAX)
			r = error_set(err, ERROR_INVALID, "is over the limit of %zu bytes", FIELD_ITEM_MAX);
		else if (f->check)
			r = f->check(v[i], err);
		if (r < 0) {
			_cleanup_(free_ptr) char *where = str_format("%s[%zu]", f->name, i);
			error_in_field(err, where);
		}
	}
	return r;
}

static int validate_pairs(const struct field *f, const struct pairs *p, struct error *err) {
	int r = validate_count(f, p->n, err);
	if (r < 0)
		return r;
	for (size_t i = 0; r == 0 && i < p->n; i++) {
		const char *key = p->items[i].key;
		if (!*key)
			r = error_set(err, ERROR_INVALID, "has an empty key");
		else if (strlen(key) > FIELD_STRING_MAX || strlen(p->items[i].value) > FIELD_ITEM_MAX)
			r = error_set(err, ERROR_INVALID, "has a key or a value that is too long");
		else
			r = text_check(key, err);
		if (r == 0 && f->check)
			r = f->check(key, err);
	}
	if (r < 0)
		error_in_field(err, f->name);
	return r;
}

static int validate_list(const struct field *f, const struct field_list *l, struct error *err) {
	int r = validate_count(f, l->n, err);
	for (size_t i = 0; r == 0 && i < l->n; i++) {
		r = fields_validate(f->sub, list_item(f, l, i), err);
		if (r < 0) {
			_cleanup_(free_ptr) char *where = str_format("%s[%zu]", f->name, i);
			error_in_field(err, where);
		}
	}
	return r;
}

static bool is_missing(const struct field *f, union member m) {
	switch (f->type) {
	case FIELD_STRING:
	case FIELD_ENUM:
		return !*m.string || !**m.string;
	case FIELD_STRINGS:
		return !strv_len(*m.strings);
	case FIELD_PAIRS:
		return !m.pairs->n;
	case FIELD_LIST:
		return !m.list->n;
	default:
		return false;
	}
}

int field_validate(const struct field *f, const void *object, struct error *err) {
	union member m = field_member(f, object);
	if (f->flags & FIELD_REQUIRED && is_missing(f, m))
		return error_field(err, f->name, "is required");
	switch (f->type) {
	case FIELD_STRING:
		return *m.string ? validate_string(f, *m.string, err) : 0;
	case FIELD_ENUM:
		return *m.string ? validate_enum(f, *m.string, err) : 0;
	case FIELD_STRINGS:
		return validate_strings(f, *m.strings, err);
	case FIELD_PAIRS:
		return validate_pairs(f, m.pairs, err);
	case FIELD_LIST:
		return validate_list(f, m.list, err);
	case FIELD_OBJECT: {
		int r = fields_validate(f->sub, m.any, err);
		if (r < 0)
			error_in_field(err, f->name);
		return r;
	}
	case FIELD_BOOL:
	case FIELD_JSON:
		return 0;
	default:
		return validate_number(f, *m.number, err);
	}
}

int fields_validate(const struct field_table *t, const void *object, struct error *err) {
	for_each_field(f, t) {
		int r = field_validate(f, object, err);
		if (r < 0)
			return r;
	}
	return t->validate ? t->validate(object, err) : 0;
}

static size_t member_size(const struct field *f) {
	switch (f->type) {
	case FIELD_BOOL:
		return sizeof(bool);
	case FIELD_PAIRS:
		return sizeof(struct pairs);
	case FIELD_LIST:
		return sizeof(struct field_list);
	case FIELD_OBJECT:
		return f->sub->size;
	case FIELD_STRING:
	case FIELD_ENUM:
	case FIELD_STRINGS:
	case FIELD_JSON:
		return sizeof(void *);
	default:
		return sizeof(int64_t);
	}
}

static const char *row_fault(const struct field_table *t, const struct field *f) {
	bool has_sub = f->type == FIELD_OBJECT || f->type == FIELD_LIST;
	if (has_sub != !!f->sub)
		return "sub is for objects and lists";
	size_t size = member_size(f), align = MIN(size, sizeof(void *));
	if (f->offset + size > t->size || (f->type != FIELD_OBJECT && f->offset % align))
		return "the offset does not fit the type";
	if (!f->doc || !*f->doc)
		return "doc is missing";
	if ((f->type == FIELD_ENUM) != !!f->values)
		return "values are for enums";
	if (f->flags & FIELD_ALIAS && !f->flag)
		return "an alias needs a flag";
	if (f->flag && f->type == FIELD_LIST && !f->parse)
		return "a flag of a list needs parse";
	if (f->flags & FIELD_REQUIRED && (field_is_number(f) || f->type == FIELD_BOOL || f->type == FIELD_JSON))
		return "required is for strings, enums and lists";
	if (f->def && (has_sub || f->type == FIELD_STRINGS || f->type == FIELD_PAIRS || f->type == FIELD_JSON))
		return "def is for scalars";
	return NULL;
}

static const char *pair_fault(const struct field *a, const struct field *b) {
	if (strcmp(a->name, b->name) == 0)
		return "the name is there twice";
	if (a->flags & FIELD_ALIAS || b->flags & FIELD_ALIAS)
		return NULL;
	if (a->offset < b->offset + member_size(b) && b->offset < a->offset + member_size(a))
		return "two rows share memory";
	return NULL;
}

/* Each flag leads back to its own row: no name is used twice. */
static const char *flag_fault(const struct field_table *t, const struct field *f) {
	struct str rest = str_view(f->flag);
	while (rest.len) {
		struct str name = str_cut(&rest, ',');
		_cleanup_(free_ptr) char *text = str_copyn(name.p, name.len);
		if (fields_find_flag(t, text, NULL) != f)
			return "the flag is used twice";
	}
	return NULL;
}

static const char *table_fault(const struct field_table *t, const struct field *f) {
	const char *fault = row_fault(t, f);
	for (const struct field *other = t->fields; !fault && other < f; other++)
		fault = pair_fault(other, f);
	return fault ? fault : flag_fault(t, f);
}

int field_table_check(const struct field_table *t, struct error *err) {
	if (!t->name || !t->doc || !t->size)
		return error_set(err, ERROR_INTERNAL, "a table lacks its name, doc or size");
	for (const struct field *f = t->fields; f < t->fields + t->n; f++) {
		const char *fault = table_fault(t, f);
		if (fault)
			return error_set(err, ERROR_INTERNAL, "%s.%s: %s", t->name, f->name, fault);
		int r = f->sub ? field_table_check(f->sub, err) : 0;
		if (r < 0)
			return r;
	}
	_cleanup_(free_ptr) void *object = alloc_zero(t->size);
	int r = 0;
	for_each_field(f, t) {
		if (!f->def || r < 0)
			continue;
		r = field_scalar_from_text(f, object, f->def, err);
		if (r == 0)
			r = field_validate(f, object, err);
		if (r < 0)
			r = error_wrap(err, "the default of %s.%s", t->name, f->name);
	}
	fields_free(t, object);
	return r;
}
