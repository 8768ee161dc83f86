/* Field tables: one table for each noun says how its struct is parsed, printed, checked, patched, given on
 * a command line and described in OpenAPI. A field is added in one place, its table.
 *
 * The struct's members by type:
 *   FIELD_STRING, FIELD_ENUM  char *          NULL: not given
 *   FIELD_BOOL                bool
 *   FIELD_INT                 int64_t
 *   FIELD_SIZE                int64_t         bytes; JSON number or "512MiB"; printed as a number
 *   FIELD_DURATION            int64_t         nanoseconds; JSON "1m30s" or a number of seconds; printed as text
 *   FIELD_CPUS                int64_t         nano CPUs; JSON number 1.5 or "1.5"; printed as a number
 *   FIELD_TIME                int64_t         nanoseconds since the epoch, 0: never; printed as RFC 3339
 *   FIELD_STRINGS             char **         NULL-terminated
 *   FIELD_PAIRS               struct pairs    JSON object of strings, in order
 *   FIELD_OBJECT              a struct, by value, described by .sub
 *   FIELD_LIST                FIELD_LIST_OF(struct x), described by .sub
 *   FIELD_JSON                json_t *        anything (a seccomp profile)
 * Members that are absent have the zero value, or .def where the table gives one. */
#pragma once

#include "base/buf.h"
#include "base/error.h"
#include "base/json.h"

enum field_type {
	FIELD_STRING,
	FIELD_ENUM,
	FIELD_BOOL,
	FIELD_INT,
	FIELD_SIZE,
	FIELD_DURATION,
	FIELD_CPUS,
	FIELD_TIME,
	FIELD_STRINGS,
	FIELD_PAIRS,
	FIELD_OBJECT,
	FIELD_LIST,
	FIELD_JSON,
};

enum field_flags {
	FIELD_REQUIRED = 1 << 0,  /* of strings, enums and lists: not NULL, not empty */
	FIELD_IMMUTABLE = 1 << 1, /* a patch that changes it is refused */
	FIELD_SECRET = 1 << 2,    /* never printed, described as writeOnly */
	FIELD_READONLY = 1 << 3,  /* set by wabe: refused in input from outside */
	FIELD_LIVE = 1 << 4,      /* may change while the instance runs */
	FIELD_ALIAS = 1 << 5,     /* a further flag for the member of another row ("-v" beside "--mount"): the row
				   * exists on the command line only, all else skips it */
};

struct pair {
	char *key, *value;
};
struct pairs {
	struct pair *items;
	size_t n;
};
#define FIELD_LIST_OF(type)  \
	struct {             \
		type *items; \
		size_t n;    \
	}

struct field_table;

struct field {
	const char *name; /* JSON name, snake_case */
	enum field_type type;
	size_t offset;
	unsigned flags;
	/* limits: of a number's value (max 0: INT64_MAX, of a duration 100 days), of a string's length (max 0:
	 * 4096), of a list's or of pairs' count (max 0: 1024; each string in them is at most 128 KiB) */
	int64_t min, max;
	const char *def;             /* the default, as text */
	const char *const *values;   /* FIELD_ENUM: NULL-terminated */
	const struct field_table *sub;
	/* a further check of a string, of each string of FIELD_STRINGS, or of each key of FIELD_PAIRS */
	int (*check)(const char *value, struct error *err);
	/* command line: "memory,m" is --memory and -m; NULL: none. A flag of a FIELD_LIST is parsed by .parse. */
	const char *flag;
	const char *placeholder; /* "BYTES" in help */
	/* fills a new list item (or, for other types, the struct that holds the member) from the text of a flag:
	 * "--mount type=bind,…" or "-v /a:/b:ro"; text is NULL for a FIELD_BOOL without one */
	int (*parse)(const char *text, void *to, struct error *err);
	const char *doc; /* one line: help, OpenAPI description, manual */
};

struct field_table {
	const char *name; /* "instance_limits": name of the OpenAPI schema */
	const char *doc;
	size_t size; /* of the struct */
	const struct field *fields;
	size_t n;
	/* checks that concern several fields; NULL: none */
	int (*validate)(const void *object, struct error *err);
};

/* A row: FIELD(struct limits, memory, FIELD_SIZE, .min = 0, .flag = "memory,m", .doc = "…"). The member's C
 * type is not checked by the compiler; field_table_check does it as far as sizes go, and a unit test runs
 * it over every table. */
#define FIELD(type_, member_, kind_, ...) \
	{.name = #member_, .type = (kind_), .offset = offsetof(type_, member_), __VA_ARGS__}

/* A row whose JSON name is not the member's: a dialect's own spelling. */
#define FIELD_AS(json_, type_, member_, kind_, ...) \
	{.name = (json_), .type = (kind_), .offset = offsetof(type_, member_), __VA_ARGS__}

/* Sets every member to its default (zeroes the struct first). */
void fields_init(const struct field_table *t, void *object);
/* Frees what the members own and zeroes the struct. */
void fields_free(const struct field_table *t, void *object);

enum fields_parse_flags {
	FIELDS_TRUSTED = 1 << 0, /* from wabe's own disk or process: read-only fields are taken, unknown ones skipped */
	FIELDS_INTERNAL = 1 << 1, /* from control to the agent: read-only fields are taken, unknown ones are errors */
	FIELDS_FOREIGN = 1 << 2,  /* in another system's shape, whose servers skip what they do not know and take names in any case */
};
/* Fills object (defaults first) from a JSON object, checks limits, required fields and the table's
 * validate. Unknown fields are errors that name them. On failure object is empty. */
int fields_parse(const struct field_table *t, const json_t *json, unsigned flags, void *object, struct error *err);
/* JSON merge patch (RFC 7396): null resets to the default, objects (also FIELD_PAIRS) merge, lists are
 * replaced. The object is unchanged on failure. running: only FIELD_LIVE fields may change. */
int fields_patch(const struct field_table *t, const json_t *patch, bool running, void *object, struct error *err);
/* The object as JSON; members that have their zero value and no default, and strings that are NULL, are left
 * out, secrets always. */
json_t *fields_print(const struct field_table *t, const void *object);
/* The same with secrets: for wabe's own disk, and from control to the agent. */
json_t *fields_print_secrets(const struct field_table *t, const void *object);
/* All limits, required fields, checks. */
int fields_validate(const struct field_table *t, const void *object, struct error *err);
/* A deep copy into `to` (uninitialised memory). */
void fields_copy(const struct field_table *t, const void *from, void *to);
bool fields_equal(const struct field_table *t, const void *a, const void *b);

/* Sets one field from the text of a command-line flag: lists, strings and pairs ("key=value") grow by one
 * each time, scalars are replaced. For a FIELD_BOOL text NULL is true. */
int field_set_text(const struct field *f, void *object, const char *text, struct error *err);
/* A row by the name of its flag ("memory" or "m"), searched through FIELD_OBJECTs; *object is moved to the
 * struct that holds it (object may be NULL to only look). NULL when there is none. */
const struct field *fields_find_flag(const struct field_table *t, const char *flag, void **object);

/* Adds the table, and all it refers to, to "schemas" as OpenAPI 3.1 schema objects (JSON Schema 2020-12). */
void fields_schema(const struct field_table *t, json_t *schemas);

/* Consistency of a table itself (sizes, defaults that parse, docs, unique names): for tests. */
int field_table_check(const struct field_table *t, struct error *err);

/* Text from outside as it may stand in a message: without control characters, at most 80 bytes; free it. */
char *text_shown(const char *text);
/* A check for .check: no control characters. */
int text_check(const char *text, struct error *err);

/* Pairs that stand alone: zero is empty. */
const char *pairs_get(const struct pairs *p, const char *key);
void pairs_set(struct pairs *p, const char *key, const char *value); /* value NULL removes */
void pairs_add(struct pairs *to, const struct pairs *from); /* each of from is set */
void pairs_read(struct pairs *to, const json_t *object);    /* so is each member that is a string; NULL has none */
json_t *pairs_print(const struct pairs *p);                 /* an object of strings */
void pairs_free(struct pairs *p);                           /* leaves it empty */
