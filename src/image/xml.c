/* XML documents as trees, by expat. */
#include "image/xml.h"

#include "base/buf.h"
#include "base/str.h"

#include <ctype.h>
#include <expat.h>
#include <limits.h>
#include <strings.h>

#define DEPTH_MAX 32
#define ELEMENTS_MAX 20000
#define ATTRIBUTES_MAX 64
#define TEXT_MAX ((size_t)64 << 10) /* of one element: what goes beyond is left out */
#define SEPARATOR '\n' /* in no name */

struct reader {
	XML_Parser parser;
	struct xml *root, *at;
	struct buf text; /* of `at` up to here */
	size_t depth, elements;
	const char *refused; /* why it went no further */
};

static void refuse(struct reader *r, const char *why) {
	if (!r->refused)
		r->refused = why;
	XML_StopParser(r->parser, XML_FALSE);
}

static const char *local_name(const char *name) {
	const char *end = strchr(name, SEPARATOR);
	return end ? end + 1 : name;
}

/* What has been read of the text belongs to the element that is open. */
static void text_done(struct reader *r) {
	if (!r->at || !r->text.len)
		return;
	_cleanup_(free_ptr) char *before = r->at->text;
	size_t n = strlen(before);
	r->at->text = str_format("%s%.*s", before, n < TEXT_MAX ? (int)(TEXT_MAX - n) : 0, buf_str(&r->text));
	buf_truncate(&r->text, 0);
}

static struct xml *element_new(const char *name, const char **attributes) {
	struct xml *x = NEW(struct xml);
	const char *local = local_name(name);
	x->space = local == name ? str_copy("") : str_copyn(name, (size_t)(local - name - 1));
	x->name = str_copy(local);
	x->text = str_copy("");
	for (size_t i = 0; attributes[i] && i < 2 * ATTRIBUTES_MAX; i += 2)
		pairs_set(&x->attributes, local_name(attributes[i]), attributes[i + 1]);
	return x;
}

static void on_start(void *arg, const char *name, const char **attributes) {
	struct reader *r = arg;
	if (r->refused)
		return;
	if (r->depth++ >= DEPTH_MAX || r->elements++ >= ELEMENTS_MAX)
		return refuse(r, "it has too many elements, or too many within each other");
	text_done(r);
	struct xml *x = element_new(name, attributes);
	x->parent = r->at;
	if (!r->at)
		r->root = x;
	else if (r->at->last)
		r->at->last->next = x;
	else
		r->at->first = x;
	if (r->at)
		r->at->last = x;
	r->at = x;
}

static void trim(char *text) {
	char *from = text + strspn(text, " \t\r\n");
	size_t n = strlen(from);
	while (n && isspace((unsigned char)from[n - 1]))
		n--;
	memmove(text, from, n);
	text[n] = '\0';
}

static void on_end(void *arg, UNUSED const char *name) {
	struct reader *r = arg;
	if (r->refused)
		return;
	text_done(r);
	trim(r->at->text);
	r->at = r->at->parent;
	r->depth--;
}

static void on_text(void *arg, const char *text, int n) {
	struct reader *r = arg;
	if (!r->refused && r->at)
		buf_add(&r->text, text, (size_t)n);
}

static void on_doctype(void *arg, UNUSED const char *name, UNUSED const char *system, UNUSED const char *public, UNUSED int internal) {
	refuse(arg, "it has a document type (DOCTYPE), with which entities are made");
}

static int read_all(struct reader *r, const char *text, size_t n, struct error *err) {
	XML_SetUserData(r->parser, r);
	XML_SetElementHandler(r->parser, on_start, on_end);
	XML_SetCharacterDataHandler(r->parser, on_text);
	XML_SetStartDoctypeDeclHandler(r->parser, on_doctype);
	if (n > INT_MAX)
		return error_set(err, ERROR_TOO_LARGE, "it has %zu bytes", n);
	enum XML_Status status = XML_Parse(r->parser, text, (int)n, XML_TRUE);
	unsigned long line = XML_GetCurrentLineNumber(r->parser);
	if (r->refused)
		return error_set(err, ERROR_INVALID, "line %lu: %s", line, r->refused);
	if (status != XML_STATUS_OK)
		return error_set(err, ERROR_INVALID, "line %lu: %s", line, XML_ErrorString(XML_GetErrorCode(r->parser)));
	return 0;
}

struct xml *xml_parse(const char *text, size_t n, struct error *err) {
	struct reader r = {.parser = XML_ParserCreateNS(NULL, SEPARATOR), .text = BUF_INIT_MAX(TEXT_MAX)};
	if (!r.parser)
		abort(); /* memory */
	int result = read_all(&r, text, n, err);
	XML_ParserFree(r.parser);
	buf_free(&r.text);
	if (result == 0)
		return r.root;
	xml_free(r.root);
	return NULL;
}

/* No deeper than what was read. */
void xml_free(struct xml *x) {
	while (x) {
		struct xml *next = x->next;
		xml_free(x->first);
		pairs_free(&x->attributes);
		free(x->space);
		free(x->name);
		free(x->text);
		free(x);
		x = next;
	}
}

bool xml_is(const struct xml *x, const char *name) {
	return strcasecmp(x->name, name) == 0;
}

struct xml *xml_child(const struct xml *x, const char *name) {
	for (struct xml *c = x ? x->first : NULL; c; c = c->next)
		if (xml_is(c, name))
			return c;
	return NULL;
}

const char *xml_text(const struct xml *x, const char *child) {
	const struct xml *c = xml_child(x, child);
	return c && *c->text ? c->text : NULL;
}

const char *xml_attribute(const struct xml *x, const char *name) {
	for (size_t i = 0; i < x->attributes.n; i++)
		if (strcasecmp(x->attributes.items[i].key, name) == 0)
			return x->attributes.items[i].value;
	return NULL;
}

void xml_escape(struct buf *out, const char *text) {
	static const char special[] = "&<>\"";
	static const char *const written[] = {"&amp;", "&lt;", "&gt;", "&quot;"};
	for (; *text; text++) {
		const char *s = strchr(special, *text);
		if (s)
			buf_adds(out, written[s - special]);
		else
			buf_addc(out, *text);
	}
}
