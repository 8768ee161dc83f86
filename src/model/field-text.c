/* Field tables: members from the text of a command line, and of defaults. */
#include "model/field-priv.h"

#include "base/str.h"
#include "base/time.h"

#include <math.h>

static int cpus_from_text(const char *text, int64_t *out) {
	if (strspn(text, "0123456789.") != strlen(text) || !*text)
		return -EINVAL;
	char *end;
	double v = strtod(text, &end);
	if (*end || v > 1e6)
		return *end ? -EINVAL : -ERANGE;
	*out = llround(v * 1e9);
	return 0;
}

static int number_from_text(enum field_type type, const char *text, int64_t *out) {
	bool negative = text[0] == '-';
	int r;
	switch (type) {
	case FIELD_SIZE:
		r = str_to_size(text + negative, out);
		break;
	case FIELD_DURATION:
		r = str_to_duration(text + negative, out);
		break;
	case FIELD_CPUS:
		return cpus_from_text(text, out);
	case FIELD_TIME:
		return time_parse(text, out);
	default:
		return str_to_i64(text, out);
	}
	if (r == 0 && negative)
		*out = -*out;
	return r;
}

int field_number_from_text(const struct field *f, const char *text, int64_t *out, struct error *err) {
	static const char *const examples[] = {
		[FIELD_INT] = "a number such as 5",        [FIELD_SIZE] = "a size such as 512MiB",
		[FIELD_DURATION] = "a time such as 1m30s", [FIELD_CPUS] = "a number of CPUs such as 1.5",
		[FIELD_TIME] = "a time such as 2026-11-22T23:09:46Z",
	};
	int r = number_from_text(f->type, text, out);
	if (r == 0)
		return 0;
	_cleanup_(free_ptr) char *shown = text_shown(text);
	if (r == -ERANGE)
		return error_field(err, f->name, "%s is too large", shown);
	return error_field(err, f->name, "\"%s\" is not %s", shown, examples[f->type]);
}

static int bool_from_text(const struct field *f, const char *text, bool *out, struct error *err) {
	if (!text || strcmp(text, "true") == 0 || strcmp(text, "1") == 0)
		*out = true;
	else if (strcmp(text, "false") == 0 || strcmp(text, "0") == 0)
		*out = false;
	else
		return error_field(err, f->name, "must be true or false");
	return 0;
}

int field_scalar_from_text(const struct field *f, void *object, const char *text, struct error *err) {
	union member m = field_member(f, object);
	if (f->type == FIELD_BOOL)
		return bool_from_text(f, text, m.boolean, err);
	if (!text)
		return error_field(err, f->name, "needs a value");
	if (field_is_number(f))
		return field_number_from_text(f, text, m.number, err);
	free(*m.string);
	*m.string = str_copy(text);
	return 0;
}

static int add_list_item(const struct field *f, struct field_list *l, const char *text, struct error *err) {
	if (!f->parse)
		return error_field(err, f->name, "cannot be given as text");
	if (l->n >= (size_t)field_max(f))
		return error_field(err, f->name, "at most %zu can be given", l->n);
	int r = f->parse(text, list_add(f, l), err);
	if (r == 0)
		return 0;
	list_drop_last(f, l);
	error_in_field(err, f->name);
	return r;
}

static int add_pair(const struct field *f, struct pairs *p, const char *text, struct error *err) {
	_cleanup_(free_ptr) char *key = str_copyn(text, strcspn(text, "="));
	if (!*key)
		return error_field(err, f->name, "must be written KEY=VALUE");
	const char *value = text + strlen(key);
	pairs_set(p, key, *value ? value + 1 : "");
	return 0;
}

static int set_json(const struct field *f, json_t **member, const char *text, struct error *err) {
	json_t *v = json_parse(text, strlen(text), err);
	if (!v) {
		error_in_field(err, f->name);
		return -ERROR_INVALID;
	}
	json_decref(*member);
	*member = v;
	return 0;
}

static int set_text(const struct field *f, void *object, const char *text, struct error *err) {
	union member m = field_member(f, object);
	if (!text && f->type != FIELD_BOOL)
		return error_field(err, f->name, "needs a value");
	if (f->type == FIELD_LIST)
		return add_list_item(f, m.list, text, err);
	if (f->parse) {
		int r = f->parse(text, object, err);
		if (r < 0 && err && !err->field)
			error_in_field(err, f->name);
		return r;
	}
	switch (f->type) {
	case FIELD_STRINGS:
		strv_add(m.strings, text);
		return 0;
	case FIELD_PAIRS:
		return add_pair(f, m.pairs, text, err);
	case FIELD_JSON:
		return set_json(f, m.json, text, err);
	case FIELD_OBJECT:
		return error_field(err, f->name, "cannot be given as text");
	default:
		return field_scalar_from_text(f, object, text, err);
	}
}

int field_set_text(const struct field *f, void *object, const char *text, struct error *err) {
	int r = set_text(f, object, text, err);
	if (r < 0 || f->flags & FIELD_ALIAS)
		return r;
	return field_validate(f, object, err);
}

/* Whether name is one of the comma-separated names of a row. */
static bool flag_is(const char *names, const char *name) {
	struct str rest = str_view(names);
	while (rest.len)
		if (str_is(str_cut(&rest, ','), name))
			return true;
	return false;
}

const struct field *fields_find_flag(const struct field_table *t, const char *flag, void **object) {
	void *here = object ? *object : NULL;
	for (const struct field *f = t->fields; f < t->fields + t->n; f++) {
		if (f->flag && flag_is(f->flag, flag))
			return f;
		if (f->type != FIELD_OBJECT || f->flags & FIELD_ALIAS)
			continue;
		void *inner = here ? field_member(f, here).any : NULL;
		const struct field *found = fields_find_flag(f->sub, flag, &inner);
		if (found) {
			if (object)
				*object = inner;
			return found;
		}
	}
	return NULL;
}
