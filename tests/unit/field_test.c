/* model: field tables. */
#include "base/str.h"
#include "model/field.h"
#include "model/image.h"
#include "model/task.h"
#include "model/cluster.h"
#include "model/workload.h"

#include <setjmp.h>
#include <stdio.h>

#include <cmocka.h>

struct part {
	char *name;
	int64_t weight;
};
struct thing {
	char *text, *mode, *secret, *fixed;
	bool on, off;
	int64_t count, size, wait, cpus, at;
	char **words;
	struct pairs labels;
	struct part part;
	FIELD_LIST_OF(struct part) parts;
	json_t *any;
};

static int parse_part(const char *text, void *to, struct error *err) {
	struct part *p = to;
	if (!*text)
		return error_set(err, ERROR_INVALID, "is empty");
	p->name = str_copy(text);
	return 0;
}

static const struct field part_fields[] = {
	FIELD(struct part, name, FIELD_STRING, .flags = FIELD_REQUIRED, .check = text_check, .doc = "d"),
	FIELD(struct part, weight, FIELD_INT, .max = 10, .def = "3", .flags = FIELD_LIVE, .flag = "weight,w",
	      .doc = "d"),
};
static const struct field_table part_table = {"part", "d", sizeof(struct part), part_fields, ARRAY_SIZE(part_fields)};

static const struct field thing_fields[] = {
	FIELD(struct thing, text, FIELD_STRING, .min = 2, .max = 5, .flag = "text", .doc = "d"),
	FIELD(struct thing, mode, FIELD_ENUM, .def = "a", .values = (const char *const[]){"a", "b", NULL}, .doc = "d"),
	FIELD(struct thing, secret, FIELD_STRING, .flags = FIELD_SECRET, .doc = "d"),
	FIELD(struct thing, fixed, FIELD_STRING, .flags = FIELD_IMMUTABLE, .doc = "d"),
	FIELD(struct thing, on, FIELD_BOOL, .def = "true", .flag = "on", .doc = "d"),
	FIELD(struct thing, off, FIELD_BOOL, .flags = FIELD_READONLY, .doc = "d"),
	FIELD(struct thing, count, FIELD_INT, .min = -2, .max = 7, .doc = "d"),
	FIELD(struct thing, size, FIELD_SIZE, .flag = "size,s", .doc = "d"),
	FIELD(struct thing, wait, FIELD_DURATION, .min = -1000000000, .doc = "d"),
	FIELD(struct thing, cpus, FIELD_CPUS, .max = 1000000000000, .flag = "cpus", .doc = "d"),
	FIELD(struct thing, at, FIELD_TIME, .doc = "d"),
	FIELD(struct thing, words, FIELD_STRINGS, .max = 3, .flag = "word", .doc = "d"),
	FIELD(struct thing, labels, FIELD_PAIRS, .max = 3, .flags = FIELD_LIVE, .flag = "label", .doc = "d"),
	FIELD(struct thing, part, FIELD_OBJECT, .sub = &part_table, .doc = "d"),
	FIELD(struct thing, parts, FIELD_LIST, .max = 2, .sub = &part_table, .flag = "part", .parse = parse_part,
	      .doc = "d"),
	FIELD(struct thing, any, FIELD_JSON, .doc = "d"),
};

static int thing_validate(const void *object, struct error *err) {
	const struct thing *t = object;
	return t->count == 5 ? error_field(err, "count", "five is right out") : 0;
}

static const struct field_table thing_table = {
	"thing", "d", sizeof(struct thing), thing_fields, ARRAY_SIZE(thing_fields), thing_validate,
};

static json_t *json(const char *text) {
	json_t *v = json_parse(text, strlen(text), NULL);
	assert_non_null(v);
	return v;
}

static int parse(const char *text, unsigned flags, struct thing *t, struct error *err) {
	_cleanup_(json_free_ptr) json_t *v = json(text);
	return fields_parse(&thing_table, v, flags, t, err);
}

static void assert_prints(const struct thing *t, const char *text) {
	_cleanup_(json_free_ptr) json_t *v = fields_print(&thing_table, t);
	_cleanup_(free_ptr) char *printed = json_print(v);
	assert_string_equal(printed, text);
}

static void test_tables(UNUSED void **state) {
	const struct field_table *tables[] = {&thing_table, &instance_table, &image_table, &task_table, &event_table, &network_table,
					      &attachment_table, &rule_group_table, &balancer_table, &address_table, &workload_table, &cluster_table, &secret_table,
					      &config_table};
	for (size_t i = 0; i < ARRAY_SIZE(tables); i++) {
		_cleanup_(error_free) struct error err = ERROR_INIT;
		if (field_table_check(tables[i], &err) < 0)
			fail_msg("%s", error_text(&err));
	}
}

#define FULL                                                                                                                 \
	"{\"text\":\"abc\",\"mode\":\"b\",\"fixed\":\"f\",\"on\":false,\"count\":-2,\"size\":1024,\"wait\":\"1m30s\","       \
	"\"cpus\":1.5,\"at\":\"2026-11-22T23:09:46.500000000Z\",\"words\":[\"x\",\"\"],\"labels\":{\"k\":\"v\",\"l\":\"\"}," \
	"\"part\":{\"name\":\"p\",\"weight\":0},\"parts\":[{\"name\":\"q\",\"weight\":3}],\"any\":[1,{\"a\":null}]}"

static void test_parse_print(UNUSED void **state) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct thing t, u;
	if (parse(FULL, 0, &t, &err) < 0)
		fail_msg("%s: %s", err.field, error_text(&err));
	assert_int_equal(t.wait, 90000000000);
	assert_int_equal(t.cpus, 1500000000);
	assert_string_equal(pairs_get(&t.labels, "k"), "v");
	assert_prints(&t, FULL);
	fields_copy(&thing_table, &t, &u);
	assert_true(fields_equal(&thing_table, &t, &u));
	pairs_set(&u.labels, "k", NULL);
	assert_false(fields_equal(&thing_table, &t, &u));
	fields_free(&thing_table, &t);
	fields_free(&thing_table, &u);
}

static void test_forms(UNUSED void **state) {
	struct thing t;
	assert_int_equal(
		parse("{\"part\":{\"name\":\"p\"},\"secret\":\"s\",\"size\":\"2k\",\"wait\":1.5,\"cpus\":\"0.25\","
		      "\"text\":null,\"on\":null}",
		      0, &t, NULL),
		0);
	assert_int_equal(t.size, 2048);
	assert_int_equal(t.wait, 1500000000);
	assert_prints(&t, "{\"mode\":\"a\",\"on\":true,\"size\":2048,\"wait\":\"1s500ms\",\"cpus\":0.25,"
			  "\"part\":{\"name\":\"p\",\"weight\":3}}");
	fields_free(&thing_table, &t);
	assert_int_equal(parse("{\"part\":{\"name\":\"p\"},\"wait\":\"-1ns\",\"off\":true,\"future\":1}",
			       FIELDS_TRUSTED, &t, NULL),
			 0);
	assert_int_equal(t.wait, -1);
	assert_true(t.off);
	fields_free(&thing_table, &t);
}

static void test_refused(UNUSED void **state) {
	static const struct {
		const char *text, *field, *part_of_message;
	} rows[] = {
		{"{\"nothing\":1}", "nothing", "no field"},
		{"{\"part\":{}}", "part.name", "required"},
		{"{\"part\":{\"name\":\"\"}}", "part.name", "required"},
		{"{\"part\":[]}", "part", "object"},
		{"{\"part\":{\"name\":\"p\"},\"text\":\"a\"}", "text", "short"},
		{"{\"part\":{\"name\":\"p\"},\"text\":\"abcdef\"}", "text", "at most 5"},
		{"{\"part\":{\"name\":\"p\"},\"text\":5}", "text", "a text"},
		{"{\"part\":{\"name\":\"p\"},\"mode\":\"c\\u001b\"}", "mode", "\"c?\" is not one of a, b"},
		{"{\"part\":{\"name\":\"p\"},\"count\":8}", "count", "at most 7"},
		{"{\"part\":{\"name\":\"p\"},\"count\":-3}", "count", "at least -2"},
		{"{\"part\":{\"name\":\"p\"},\"count\":1.5}", "count", "whole"},
		{"{\"part\":{\"name\":\"p\"},\"count\":5}", "count", "right out"},
		{"{\"part\":{\"name\":\"p\"},\"size\":-1}", "size", "at least"},
		{"{\"part\":{\"name\":\"p\"},\"size\":\"1x\"}", "size", "not a size"},
		{"{\"part\":{\"name\":\"p\"},\"cpus\":1e300}", "cpus", "too large"},
		{"{\"part\":{\"name\":\"p\"},\"wait\":1e9}", "wait", "at most 100d"},
		{"{\"part\":{\"name\":\"p\"},\"at\":\"x\"}", "at", "not a time"},
		{"{\"part\":{\"name\":\"p\"},\"at\":\"9999-01-01T00:00:00Z\"}", "at", "not a time"},
		{"{\"part\":{\"name\":\"p\"},\"on\":1}", "on", "true or false"},
		{"{\"part\":{\"name\":\"p\"},\"off\":true}", "off", "set by wabe"},
		{"{\"part\":{\"name\":\"p\"},\"words\":[\"\",\"\",\"\",\"\"]}", "words", "at most 3"},
		{"{\"part\":{\"name\":\"p\"},\"words\":[1]}", "words", "list of texts"},
		{"{\"part\":{\"name\":\"p\"},\"labels\":{\"\":\"\"}}", "labels", "empty key"},
		{"{\"part\":{\"name\":\"p\"},\"labels\":{\"a\":1}}", "labels", "texts"},
		{"{\"part\":{\"name\":\"p\"},\"parts\":[{\"name\":\"a\"},{\"name\":\"a\\n\"}]}", "parts[1].name",
		 "control"},
		{"{\"part\":{\"name\":\"p\"},\"parts\":[{},{},{}]}", "parts", "at most 2"},
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(error_free) struct error err = ERROR_INIT;
		struct thing t;
		if (parse(rows[i].text, 0, &t, &err) != -ERROR_INVALID)
			fail_msg("accepted: %s", rows[i].text);
		assert_string_equal(err.field, rows[i].field);
		if (!strstr(error_text(&err), rows[i].part_of_message))
			fail_msg("%s gives: %s", rows[i].text, error_text(&err));
		struct thing empty = {0};
		assert_memory_equal(&t, &empty, sizeof t);
	}
}

static void test_deep(UNUSED void **state) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct thing t;
	_cleanup_(json_free_ptr) json_t *list = json("[]");
	assert_int_equal(fields_parse(&thing_table, list, 0, &t, &err), -ERROR_INVALID);
	_cleanup_(json_free_ptr) json_t *nul = json_pack("{s:o}", "text", json_stringn("ab\0c", 4));
	assert_int_equal(fields_parse(&thing_table, nul, 0, &t, &err), -ERROR_INVALID);
}

static int patch(const char *text, bool running, struct thing *t, struct error *err) {
	_cleanup_(json_free_ptr) json_t *v = json(text);
	return fields_patch(&thing_table, v, running, t, err);
}

static void test_patch(UNUSED void **state) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct thing t;
	assert_int_equal(parse(FULL, 0, &t, &err), 0);
	assert_int_equal(
		patch("{\"labels\":{\"k\":null,\"n\":\"1\"},\"words\":[\"z\"],\"part\":{\"weight\":9},\"mode\":null,"
		      "\"at\":null,\"any\":null,\"parts\":null,\"wait\":null,\"cpus\":null,\"on\":null}",
		      false, &t, &err),
		0);
#define PATCHED                                                                                                      \
	"{\"text\":\"abc\",\"mode\":\"a\",\"fixed\":\"f\",\"on\":true,\"count\":-2,\"size\":1024,\"words\":[\"z\"]," \
	"\"labels\":{\"l\":\"\",\"n\":\"1\"},\"part\":{\"name\":\"p\",\"weight\":9}}"
	assert_prints(&t, PATCHED);
	static const struct {
		const char *text;
		bool running;
		int result;
		const char *field;
	} rows[] = {
		{"{\"fixed\":\"g\"}", false, -ERROR_INVALID, "fixed"},
		{"{\"off\":true}", false, -ERROR_INVALID, "off"},
		{"{\"part\":{\"name\":null}}", false, -ERROR_INVALID, "part.name"},
		{"{\"part\":{\"name\":\"other\"}}", true, -ERROR_CONFLICT, "part.name"},
		{"{\"count\":5}", false, -ERROR_INVALID, "count"},
		{"{\"size\":5}", true, -ERROR_CONFLICT, "size"},
		{"{\"labels\":{\"a\":\"\",\"b\":\"\"}}", true, -ERROR_INVALID, "labels"},
		{"{\"nothing\":5}", true, -ERROR_INVALID, "nothing"},
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_int_equal(patch(rows[i].text, rows[i].running, &t, &err), rows[i].result);
		assert_string_equal(err.field, rows[i].field);
		assert_prints(&t, PATCHED);
	}
	assert_int_equal(patch("{\"fixed\":\"f\",\"size\":1024,\"labels\":{\"n\":\"2\"},\"part\":{\"weight\":1}}", true,
			       &t, &err),
			 0);
	assert_int_equal(t.part.weight, 1);
	fields_free(&thing_table, &t);
}

static int set(struct thing *t, const char *flag, const char *text, struct error *err) {
	void *object = t;
	const struct field *f = fields_find_flag(&thing_table, flag, &object);
	assert_non_null(f);
	return field_set_text(f, object, text, err);
}

static void test_flags(UNUSED void **state) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct thing t;
	fields_init(&thing_table, &t);
	assert_null(fields_find_flag(&thing_table, "weigh", NULL));
	assert_int_equal(set(&t, "w", "7", &err), 0);
	assert_int_equal(set(&t, "weight", "11", &err), -ERROR_INVALID);
	assert_int_equal(set(&t, "weight", "7", &err), 0);
	assert_int_equal(set(&t, "on", "false", &err), 0);
	assert_int_equal(set(&t, "on", NULL, &err), 0);
	assert_int_equal(set(&t, "text", NULL, &err), -ERROR_INVALID);
	assert_int_equal(set(&t, "s", "1k", &err), 0);
	assert_int_equal(set(&t, "cpus", "1.5", &err), 0);
	assert_int_equal(set(&t, "cpus", "1.5.5", &err), -ERROR_INVALID);
	assert_int_equal(set(&t, "word", "a", &err), 0);
	assert_int_equal(set(&t, "word", "b", &err), 0);
	assert_int_equal(set(&t, "label", "k=v=w", &err), 0);
	assert_int_equal(set(&t, "label", "alone", &err), 0);
	assert_int_equal(set(&t, "label", "=x", &err), -ERROR_INVALID);
	assert_int_equal(set(&t, "part", "one", &err), 0);
	assert_int_equal(set(&t, "part", "", &err), -ERROR_INVALID);
	assert_int_equal(set(&t, "part", "two", &err), 0);
	assert_int_equal(set(&t, "part", "three", &err), -ERROR_INVALID);
	assert_string_equal(err.field, "parts");
	assert_prints(&t, "{\"mode\":\"a\",\"on\":true,\"size\":1024,\"cpus\":1.5,\"words\":[\"a\",\"b\"],"
			  "\"labels\":{\"k\":\"v=w\",\"alone\":\"\"},\"part\":{\"weight\":7},"
			  "\"parts\":[{\"name\":\"one\",\"weight\":3},{\"name\":\"two\",\"weight\":3}]}");
	fields_free(&thing_table, &t);
}

static void test_schema(UNUSED void **state) {
	_cleanup_(json_free_ptr) json_t *schemas = json_object();
	fields_schema(&thing_table, schemas);
	fields_schema(&instance_table, schemas);
	_cleanup_(free_ptr) char *part = json_print(json_object_get(schemas, "part"));
	assert_string_equal(
		part, "{\"type\":\"object\",\"description\":\"d\",\"properties\":{\"name\":{\"type\":\"string\","
		      "\"maxLength\":4096,\"description\":\"d\"},\"weight\":{\"type\":\"integer\",\"format\":\"int64\","
		      "\"minimum\":0,\"maximum\":10,\"description\":\"d\",\"default\":3}},\"required\":[\"name\"],"
		      "\"additionalProperties\":false}");
	json_t *spec = json_object_get(json_object_get(schemas, "instance_spec"), "properties");
	assert_non_null(json_object_get(spec, "mounts"));
	assert_null(json_object_get(spec, "volume"));
	assert_non_null(json_object_get(schemas, "mount"));
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tables), cmocka_unit_test(test_parse_print), cmocka_unit_test(test_forms),
		cmocka_unit_test(test_refused), cmocka_unit_test(test_deep), cmocka_unit_test(test_patch),
		cmocka_unit_test(test_flags), cmocka_unit_test(test_schema),
	};
	return cmocka_run_group_tests_name("field", tests, NULL, NULL);
}
