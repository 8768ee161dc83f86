/* A small XML document as a tree. Read by expat, which fetches nothing; a document type, and with it every entity of its
 * own, is refused at its first byte, and depth and number of elements are limited. */
#pragma once

#include "base/error.h"
#include "model/field.h"

struct xml {
	char *space, *name; /* its name space ("": none) and local name */
	struct pairs attributes; /* by local name */
	char *text;         /* its own, without that of elements within, trimmed; never NULL */
	struct xml *parent, *first, *last, *next; /* elements within, and beside */
};

/* The root, to be freed; NULL with INVALID. */
struct xml *xml_parse(const char *text, size_t n, struct error *err);
void xml_free(struct xml *root);
DEFINE_CLEANUP(xml_free_ptr, struct xml *, xml_free);

/* Names without regard to case, as programs that write XML differ. */
bool xml_is(const struct xml *x, const char *name);
struct xml *xml_child(const struct xml *x, const char *name); /* the first; NULL */
const char *xml_text(const struct xml *x, const char *child); /* of that element within; NULL: there is none, or it is empty */
const char *xml_attribute(const struct xml *x, const char *name); /* NULL */

/* As text or attribute: escaped. */
struct buf;
void xml_escape(struct buf *out, const char *text);
