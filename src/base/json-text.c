/* JSON that is only passed on: found and laid out as text, many times faster than through a tree. Nothing here
 * judges whether it is JSON; whatever it is, no byte outside of it is read. */
#include "base/json.h"

static bool is_space(char c) {
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* From the quote that opens a string to behind the one that ends it. */
static const char *string_end(const char *p, const char *end) {
	for (p++; p < end && *p != '"'; p++)
		if (*p == '\\')
			p++;
	return p < end ? p + 1 : end;
}

static const char *skip_spaces(const char *p, const char *end) {
	while (p < end && is_space(*p))
		p++;
	return p;
}

/* Behind the value that begins at p. */
static const char *value_end(const char *p, const char *end) {
	size_t depth = 0;
	while (p < end) {
		if (*p == '"') {
			p = string_end(p, end);
		} else if (*p == '[' || *p == '{') {
			depth++;
			p++;
		} else if (depth == 0 && (*p == ',' || *p == ']' || *p == '}' || is_space(*p))) {
			return p;
		} else {
			depth -= *p == ']' || *p == '}';
			p++;
		}
		if (depth == 0 && (p[-1] == '"' || p[-1] == ']' || p[-1] == '}'))
			return p;
	}
	return end;
}

bool json_text_member(struct str text, const char *key, struct str *value) {
	const char *end = text.p + text.len, *p = skip_spaces(text.p, end);
	if (p == end || *p != '{')
		return false;
	for (p = skip_spaces(p + 1, end); p < end && *p == '"'; p = skip_spaces(p + 1, end)) {
		struct str name = {p + 1, (size_t)(string_end(p, end) - p)};
		name.len = name.len < 2 ? 0 : name.len - 2;
		p = skip_spaces(string_end(p, end), end);
		if (p == end || *p != ':')
			return false;
		p = skip_spaces(p + 1, end);
		const char *behind = value_end(p, end);
		if (str_is(name, key)) {
			*value = (struct str){p, (size_t)(behind - p)};
			return true;
		}
		p = skip_spaces(behind, end);
		if (p == end || *p != ',')
			return false;
	}
	return false;
}

static void new_line(struct buf *out, size_t depth) {
	static const char spaces[] = "\n                                ";
	buf_add(out, spaces, MIN(1 + 2 * depth, sizeof spaces - 1));
	for (size_t i = sizeof spaces / 2 - 1; i < depth; i++)
		buf_add(out, "  ", 2);
}

void json_text_indent(struct str text, struct buf *out) {
	const char *end = text.p + text.len, *p = skip_spaces(text.p, end);
	size_t depth = 0;
	while (p < end) {
		const char *from = p;
		char c = *p;
		p = c == '"' ? string_end(p, end) : p + 1;
		bool opens = c == '[' || c == '{', closes = c == ']' || c == '}';
		if (opens || c == ',' || c == ':')
			p = skip_spaces(p, end);
		else if (!closes && c != '"')
			while (p < end && !strchr(",]}", *p) && !is_space(*p))
				p++;
		if (closes && depth > 0)
			new_line(out, --depth);
		buf_add(out, from, closes || opens || c == ',' || c == ':' ? 1 : (size_t)(p - from));
		if (opens && p < end && (*p == ']' || *p == '}'))
			buf_addc(out, *p++);
		else if (opens)
			new_line(out, ++depth);
		else if (c == ',')
			new_line(out, depth);
		else if (c == ':')
			buf_addc(out, ' ');
		p = skip_spaces(p, end);
	}
}
