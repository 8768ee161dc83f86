/* Helpers over jansson. */
#include "base/json.h"

#include "base/str.h"

#define JSON_TEXT_MAX ((size_t)64 << 20)

json_t *json_parse(const char *text, size_t n, struct error *err) {
	if (n > JSON_TEXT_MAX) {
		error_set(err, ERROR_TOO_LARGE, "JSON text of %zu bytes is over the limit of %zu", n, JSON_TEXT_MAX);
		return NULL;
	}
	json_error_t e;
	json_t *v = json_loadb(text, n, JSON_REJECT_DUPLICATES, &e);
	if (!v)
		error_set(err, ERROR_INVALID, "not valid JSON at line %d, column %d: %s", e.line, e.column, e.text);
	return v;
}

char *json_print(const json_t *value) {
	char *s = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
	if (!s)
		abort(); /* memory, or a value that our own code built wrongly */
	return s;
}

const char *json_get_str(const json_t *object, const char *key) {
	return json_string_value(json_object_get(object, key));
}

int64_t json_get_int(const json_t *object, const char *key) {
	return json_integer_value(json_object_get(object, key));
}

bool json_get_bool(const json_t *object, const char *key) {
	return json_is_true(json_object_get(object, key));
}

char **json_get_strv(const json_t *object, const char *key) {
	char **v = NULL;
	size_t i;
	json_t *item;
	json_array_foreach(json_object_get(object, key), i, item)
		if (json_is_string(item))
			strv_add(&v, json_string_value(item));
	return v;
}

static json_t *repaired(const char *s) {
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	while (*s) {
		_cleanup_(json_free_ptr) json_t *character = NULL;
		size_t most = strnlen(s, 4), n = 0;
		while (!character && n < most)
			character = json_stringn(s, ++n);
		if (character)
			buf_add(&text, s, n);
		else
			buf_adds(&text, "\xef\xbf\xbd");
		s += character ? n : 1;
	}
	return json_string_nocheck(buf_str(&text));
}

json_t *json_from_str(const char *value) {
	json_t *valid = json_string(value);
	return valid ? valid : repaired(value);
}

void json_set_str(json_t *object, const char *key, const char *value) {
	if (value)
		json_object_set_new(object, key, json_from_str(value));
}

void json_set_int(json_t *object, const char *key, int64_t value) {
	json_object_set_new(object, key, json_integer(value));
}

void json_set_bool(json_t *object, const char *key, bool value) {
	json_object_set_new(object, key, json_boolean(value));
}

json_t *json_from_strv(char *const *v) {
	json_t *a = json_array();
	for (size_t i = 0; v && v[i]; i++)
		json_array_append_new(a, json_from_str(v[i]));
	return a;
}
