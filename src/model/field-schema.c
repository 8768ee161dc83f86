/* Field tables: as schemas of an OpenAPI 3.1 document. */
#include "model/field-priv.h"

#include "base/str.h"

#include <stdio.h>

static json_t *reference(const struct field_table *t) {
	return json_pack("{s:o}", "$ref", json_sprintf("#/components/schemas/%s", t->name));
}

static json_t *type_of(const char *type) {
	return json_pack("{s:s}", "type", type);
}

/* A number or its text form. */
static json_t *number_or_text(const char *number) {
	return json_pack("{s:[s,s]}", "type", number, "string");
}

static void add_length(json_t *o, const struct field *f, const char *min, const char *max) {
	if (f->min)
		json_set_int(o, min, f->min);
	json_set_int(o, max, field_max(f));
}

static json_t *string_schema(const struct field *f) {
	json_t *o = type_of("string");
	add_length(o, f, "minLength", "maxLength");
	return o;
}

static json_t *enum_schema(const struct field *f) {
	return json_pack("{s:s,s:o}", "type", "string", "enum", json_from_strv((char *const *)f->values));
}

static json_t *int_schema(const struct field *f) {
	json_t *o = json_pack("{s:s,s:s}", "type", "integer", "format", "int64");
	json_set_int(o, "minimum", f->min);
	if (f->max)
		json_set_int(o, "maximum", f->max);
	return o;
}

static json_t *array_schema(const struct field *f, json_t *items) {
	json_t *o = json_pack("{s:s,s:o}", "type", "array", "items", items);
	add_length(o, f, "minItems", "maxItems");
	return o;
}

static json_t *type_schema(const struct field *f) {
	switch (f->type) {
	case FIELD_STRING:
		return string_schema(f);
	case FIELD_ENUM:
		return enum_schema(f);
	case FIELD_BOOL:
		return type_of("boolean");
	case FIELD_INT:
		return int_schema(f);
	case FIELD_SIZE:
		return number_or_text("integer");
	case FIELD_DURATION:
	case FIELD_CPUS:
		return number_or_text("number");
	case FIELD_TIME:
		return json_pack("{s:s,s:s}", "type", "string", "format", "date-time");
	case FIELD_STRINGS:
		return array_schema(f, type_of("string"));
	case FIELD_PAIRS:
		return json_pack("{s:s,s:{s:s}}", "type", "object", "additionalProperties", "type", "string");
	case FIELD_OBJECT:
		return reference(f->sub);
	case FIELD_LIST:
		return array_schema(f, reference(f->sub));
	case FIELD_JSON:
		break;
	}
	return json_object();
}

static json_t *default_value(const struct field *f) {
	int64_t number;
	if (f->type == FIELD_BOOL)
		return json_boolean(strcmp(f->def, "true") == 0);
	if (field_is_number(f) && f->type != FIELD_DURATION && field_number_from_text(f, f->def, &number, NULL) == 0)
		return f->type == FIELD_CPUS ? json_real((double)number / 1e9) : json_integer(number);
	return json_string(f->def);
}

static json_t *field_schema(const struct field *f) {
	json_t *o = type_schema(f);
	json_set_str(o, "description", f->doc);
	if (f->def)
		json_object_set_new(o, "default", default_value(f));
	if (f->flags & FIELD_READONLY)
		json_set_bool(o, "readOnly", true);
	if (f->flags & FIELD_SECRET)
		json_set_bool(o, "writeOnly", true);
	return o;
}

void fields_schema(const struct field_table *t, json_t *schemas) {
	if (json_object_get(schemas, t->name))
		return;
	json_t *properties = json_object(), *required = json_array();
	json_t *schema = json_pack("{s:s,s:s,s:o}", "type", "object", "description", t->doc, "properties", properties);
	json_object_set_new(schemas, t->name, schema);
	for_each_field(f, t) {
		json_object_set_new(properties, f->name, field_schema(f));
		if (f->flags & FIELD_REQUIRED)
			json_array_append_new(required, json_string(f->name));
		if (f->sub)
			fields_schema(f->sub, schemas);
	}
	if (json_array_size(required))
		json_object_set(schema, "required", required);
	json_decref(required);
	json_set_bool(schema, "additionalProperties", false);
}
