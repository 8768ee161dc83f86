/* Field tables: the life of a struct that a table describes (init, free, copy, compare). The other field-*.c
 * files turn it into and out of JSON and text. Knows no noun. */
#include "model/field-priv.h"

#include "base/str.h"

#include <stdio.h>

bool field_is_number(const struct field *f) {
	return f->type == FIELD_INT || f->type == FIELD_SIZE || f->type == FIELD_DURATION || f->type == FIELD_CPUS ||
	       f->type == FIELD_TIME;
}

int64_t field_max(const struct field *f) {
	if (f->max)
		return f->max;
	if (f->type == FIELD_DURATION)
		return FIELD_DURATION_MAX;
	if (field_is_number(f))
		return INT64_MAX;
	return f->type == FIELD_STRING || f->type == FIELD_ENUM ? FIELD_STRING_MAX : FIELD_COUNT_MAX;
}

void field_init(const struct field *f, void *object) {
	if (f->type == FIELD_OBJECT)
		fields_init(f->sub, field_member(f, object).any);
	else if (f->def)
		field_scalar_from_text(f, object, f->def, NULL);
}

void fields_init(const struct field_table *t, void *object) {
	memset(object, 0, t->size);
	for_each_field(f, t)
		field_init(f, object);
}

void pairs_free(struct pairs *p) {
	for (size_t i = 0; i < p->n; i++) {
		free(p->items[i].key);
		free(p->items[i].value);
	}
	free(p->items);
	*p = (struct pairs){0};
}

static void list_free(const struct field *f, struct field_list *l) {
	for (size_t i = 0; i < l->n; i++)
		fields_free(f->sub, list_item(f, l, i));
	free(l->items);
	*l = (struct field_list){0};
}

void field_free(const struct field *f, void *object) {
	union member m = field_member(f, object);
	switch (f->type) {
	case FIELD_STRING:
	case FIELD_ENUM:
		free(*m.string);
		*m.string = NULL;
		break;
	case FIELD_BOOL:
		*m.boolean = false;
		break;
	case FIELD_INT:
	case FIELD_SIZE:
	case FIELD_DURATION:
	case FIELD_CPUS:
	case FIELD_TIME:
		*m.number = 0;
		break;
	case FIELD_STRINGS:
		strv_free(*m.strings);
		*m.strings = NULL;
		break;
	case FIELD_PAIRS:
		pairs_free(m.pairs);
		break;
	case FIELD_OBJECT:
		fields_free(f->sub, m.any);
		break;
	case FIELD_LIST:
		list_free(f, m.list);
		break;
	case FIELD_JSON:
		json_decref(*m.json);
		*m.json = NULL;
		break;
	}
}

void fields_free(const struct field_table *t, void *object) {
	for_each_field(f, t)
		field_free(f, object);
	memset(object, 0, t->size);
}

void *list_add(const struct field *f, struct field_list *l) {
	l->items = alloc_resize(l->items, l->n + 1, f->sub->size);
	void *item = list_item(f, l, l->n++);
	fields_init(f->sub, item);
	return item;
}

void list_drop_last(const struct field *f, struct field_list *l) {
	fields_free(f->sub, list_item(f, l, --l->n));
}

void field_copy(const struct field *f, const void *from, void *to) {
	union member a = field_member(f, from), b = field_member(f, to);
	switch (f->type) {
	case FIELD_STRING:
	case FIELD_ENUM:
		*b.string = *a.string ? str_copy(*a.string) : NULL;
		break;
	case FIELD_BOOL:
		*b.boolean = *a.boolean;
		break;
	case FIELD_INT:
	case FIELD_SIZE:
	case FIELD_DURATION:
	case FIELD_CPUS:
	case FIELD_TIME:
		*b.number = *a.number;
		break;
	case FIELD_STRINGS:
		*b.strings = strv_copy(*a.strings);
		break;
	case FIELD_PAIRS:
		pairs_add(b.pairs, a.pairs);
		break;
	case FIELD_OBJECT:
		fields_copy(f->sub, a.any, b.any);
		break;
	case FIELD_LIST:
		for (size_t i = 0; i < a.list->n; i++) {
			b.list->items = alloc_resize(b.list->items, i + 1, f->sub->size);
			fields_copy(f->sub, list_item(f, a.list, i), list_item(f, b.list, i));
			b.list->n = i + 1;
		}
		break;
	case FIELD_JSON:
		*b.json = json_deep_copy(*a.json);
		break;
	}
}

void fields_copy(const struct field_table *t, const void *from, void *to) {
	memset(to, 0, t->size);
	for_each_field(f, t)
		field_copy(f, from, to);
}

/* The order of keys counts: it is kept and printed. */
static bool pairs_equal(const struct pairs *a, const struct pairs *b) {
	if (a->n != b->n)
		return false;
	for (size_t i = 0; i < a->n; i++)
		if (strcmp(a->items[i].key, b->items[i].key) != 0 || strcmp(a->items[i].value, b->items[i].value) != 0)
			return false;
	return true;
}

static bool list_equal(const struct field *f, const struct field_list *a, const struct field_list *b) {
	if (a->n != b->n)
		return false;
	for (size_t i = 0; i < a->n; i++)
		if (!fields_equal(f->sub, list_item(f, a, i), list_item(f, b, i)))
			return false;
	return true;
}

bool field_equal(const struct field *f, const void *x, const void *y) {
	union member a = field_member(f, x), b = field_member(f, y);
	switch (f->type) {
	case FIELD_STRING:
	case FIELD_ENUM:
		return str_same(*a.string, *b.string);
	case FIELD_BOOL:
		return *a.boolean == *b.boolean;
	case FIELD_INT:
	case FIELD_SIZE:
	case FIELD_DURATION:
	case FIELD_CPUS:
	case FIELD_TIME:
		return *a.number == *b.number;
	case FIELD_STRINGS:
		return strv_same(*a.strings, *b.strings);
	case FIELD_PAIRS:
		return pairs_equal(a.pairs, b.pairs);
	case FIELD_OBJECT:
		return fields_equal(f->sub, a.any, b.any);
	case FIELD_LIST:
		return list_equal(f, a.list, b.list);
	case FIELD_JSON:
		return *a.json == *b.json || json_equal(*a.json, *b.json);
	}
	return false;
}

bool fields_equal(const struct field_table *t, const void *a, const void *b) {
	for_each_field(f, t)
		if (!field_equal(f, a, b))
			return false;
	return true;
}

const char *pairs_get(const struct pairs *p, const char *key) {
	for (size_t i = 0; i < p->n; i++)
		if (strcmp(p->items[i].key, key) == 0)
			return p->items[i].value;
	return NULL;
}

void pairs_set(struct pairs *p, const char *key, const char *value) {
	for (size_t i = 0; i < p->n; i++) {
		struct pair *item = &p->items[i];
		if (strcmp(item->key, key) != 0)
			continue;
		char *copy = value ? str_copy(value) : NULL; /* value may be the one that is replaced */
		free(item->value);
		item->value = copy;
		if (!value) {
			free(item->key);
			p->n--;
			memmove(item, item + 1, (p->n - i) * sizeof *item);
		}
		return;
	}
	if (!value)
		return;
	p->items = alloc_resize(p->items, p->n + 1, sizeof *p->items);
	p->items[p->n++] = (struct pair){str_copy(key), str_copy(value)};
}

void pairs_add(struct pairs *to, const struct pairs *from) {
	for (size_t i = 0; i < from->n; i++)
		pairs_set(to, from->items[i].key, from->items[i].value);
}

void pairs_read(struct pairs *to, const json_t *object) {
	const char *key;
	json_t *value;
	json_object_foreach((json_t *)object, key, value)
		if (json_is_string(value))
			pairs_set(to, key, json_string_value(value));
}

json_t *pairs_print(const struct pairs *p) {
	json_t *o = json_object();
	for (size_t i = 0; i < p->n; i++)
		json_set_str(o, p->items[i].key, p->items[i].value);
	return o;
}

char *text_shown(const char *text) {
	struct buf b = BUF_INIT;
	size_t n = strnlen(text, 80);
	while (text[n] && n && ((unsigned char)text[n] & 0xC0) == 0x80) /* not in the middle of a character */
		n--;
	for (size_t i = 0; i < n; i++)
		buf_addc(&b, (unsigned char)text[i] < ' ' || text[i] == 0x7f ? '?' : text[i]);
	if (text[n])
		buf_adds(&b, "…");
	return buf_steal(&b);
}

int text_check(const char *text, struct error *err) {
	for (; *text; text++)
		if ((unsigned char)*text < ' ' || *text == 0x7f)
			return error_set(err, ERROR_INVALID, "control characters are not allowed here");
	return 0;
}
