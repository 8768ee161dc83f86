/* YAML is written as JSON, which it includes, but for a few characters that JSON lets stand and YAML does not. */
#include "seed/seed-priv.h"

/* How many bytes of p (of n) are a character that YAML does not take as it is, and which; 0: none. They are in strings alone, as
 * the rest of JSON is ASCII. https://yaml.org/spec/1.2.2/#51-character-set */
static size_t unprintable(const unsigned char *p, size_t n, unsigned *code) {
	if (*p == 0x7f) {
		*code = 0x7f;
		return 1;
	}
	if (n >= 2 && p[0] == 0xc2 && p[1] < 0xa0) { /* C1 controls */
		*code = p[1];
		return 2;
	}
	if (n < 3 || (p[0] != 0xe2 && p[0] != 0xef))
		return 0;
	*code = (unsigned)(p[0] & 0x0f) << 12 | (unsigned)(p[1] & 0x3f) << 6 | (p[2] & 0x3f);
	return *code == 0x2028 || *code == 0x2029 || *code == 0xfeff || *code == 0xfffe || *code == 0xffff ? 3 : 0;
}

char *yaml_print(const json_t *value) {
	_cleanup_(free_ptr) char *text = json_print(value);
	struct buf out = BUF_INIT;
	size_t left = strlen(text), width;
	unsigned code;
	for (const char *p = text; left; p += width, left -= width) {
		width = unprintable((const unsigned char *)p, left, &code);
		if (width)
			buf_addf(&out, "\\u%04x", code);
		else
			buf_addc(&out, *p);
		width = MAX(width, (size_t)1);
	}
	buf_addc(&out, '\n');
	return buf_steal(&out);
}
