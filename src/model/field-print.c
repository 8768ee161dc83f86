/* Field tables: a struct as JSON. */
#include "model/field-priv.h"

#include "base/str.h"
#include "base/time.h"

static json_t *print_duration(int64_t ns) {
	_cleanup_(free_ptr) char *text = duration_to_str(ns < 0 ? -ns : ns);
	return json_sprintf("%s%s", ns < 0 ? "-" : "", text);
}

static json_t *print_time(int64_t ns) {
	char text[TIME_TEXT_MAX];
	time_format(ns, text);
	return json_string(text);
}

static json_t *print_number(const struct field *f, int64_t v) {
	switch (f->type) {
	case FIELD_DURATION:
		return print_duration(v);
	case FIELD_CPUS:
		return v % 1000000000 ? json_real((double)v / 1e9) : json_integer(v / 1000000000);
	case FIELD_TIME:
		return v ? print_time(v) : NULL;
	default:
		return json_integer(v);
	}
}

static json_t *print_all(const struct field_table *t, const void *object, bool secrets);

static json_t *print_list(const struct field *f, const struct field_list *l, bool secrets) {
	json_t *a = json_array();
	for (size_t i = 0; i < l->n; i++)
		json_array_append_new(a, print_all(f->sub, list_item(f, l, i), secrets));
	return a;
}

/* An object without members is left out. */
static json_t *print_object(const struct field *f, const void *object, bool secrets) {
	json_t *o = print_all(f->sub, object, secrets);
	if (json_object_size(o))
		return o;
	json_decref(o);
	return NULL;
}

static json_t *field_print(const struct field *f, const void *object, bool secrets) {
	union member m = field_member(f, object);
	switch (f->type) {
	case FIELD_STRING:
	case FIELD_ENUM:
		return *m.string ? json_from_str(*m.string) : NULL;
	case FIELD_BOOL:
		return *m.boolean || f->def ? json_boolean(*m.boolean) : NULL;
	case FIELD_STRINGS:
		return strv_len(*m.strings) ? json_from_strv(*m.strings) : NULL;
	case FIELD_PAIRS:
		return m.pairs->n ? pairs_print(m.pairs) : NULL;
	case FIELD_OBJECT:
		return print_object(f, m.any, secrets);
	case FIELD_LIST:
		return m.list->n ? print_list(f, m.list, secrets) : NULL;
	case FIELD_JSON:
		return json_deep_copy(*m.json);
	default:
		return *m.number || f->def ? print_number(f, *m.number) : NULL;
	}
}

static json_t *print_all(const struct field_table *t, const void *object, bool secrets) {
	json_t *o = json_object();
	for_each_field(f, t) {
		json_t *v = f->flags & FIELD_SECRET && !secrets ? NULL : field_print(f, object, secrets);
		if (v)
			json_object_set_new_nocheck(o, f->name, v);
	}
	return o;
}

json_t *fields_print(const struct field_table *t, const void *object) {
	return print_all(t, object, false);
}

json_t *fields_print_secrets(const struct field_table *t, const void *object) {
	return print_all(t, object, true);
}
