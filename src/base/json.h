/* Helpers over jansson: bounded parsing, typed look-ups, compact printing. */
#pragma once

#include "base/buf.h"
#include "base/error.h"
#include "base/str.h"

#include <jansson.h>

/* Parses n bytes (at most 64 MiB) of outside JSON; depth is bounded by jansson (2048), duplicate keys are
 * refused. NULL and *err (kind invalid) on failure. */
json_t *json_parse(const char *text, size_t n, struct error *err);
/* Compact, keys in order of insertion; free it. */
char *json_print(const json_t *value);
/* Puts the value of one member of an object, as text, into *value: found without building any of it, in one pass.
 * False when there is none, or the text is no object. For text that is known to be JSON. */
bool json_text_member(struct str text, const char *key, struct str *value);
/* The same text indented by two, as JSON_INDENT(2) has it. For text that is known to be JSON. */
void json_text_indent(struct str text, struct buf *out);

/* NULL, 0 or false when absent or of another type. Strings live as long as the object. */
const char *json_get_str(const json_t *object, const char *key);
int64_t json_get_int(const json_t *object, const char *key);
bool json_get_bool(const json_t *object, const char *key);
char **json_get_strv(const json_t *object, const char *key); /* copies; NULL when absent */
/* A string; what is not UTF-8 in it (file names are any bytes) becomes U+FFFD, byte by byte. */
json_t *json_from_str(const char *value);
/* NULL sets nothing. */
void json_set_str(json_t *object, const char *key, const char *value);
void json_set_int(json_t *object, const char *key, int64_t value);
void json_set_bool(json_t *object, const char *key, bool value);
json_t *json_from_strv(char *const *v); /* an array, [] for NULL */

DEFINE_CLEANUP(json_free_ptr, json_t *, json_decref);
