/* COPY --chmod: "755", "u=rwX,go=rX". */
#include "build/build-priv.h"

#include "base/str.h"

static bool is_octal(const char *text) {
	uint64_t mode;
	return *text && !text[strspn(text, "01234567")] && str_to_u64(text, 8, &mode) == 0 && mode <= 07777;
}

/* The bits of "rwxXst" for all three; x by X where it is a directory or anybody has it. */
static mode_t bits_of(const char *p, size_t n, mode_t mode) {
	mode_t bits = 0;
	for (size_t i = 0; i < n; i++)
		bits |= p[i] == 'r' ? 0444 : p[i] == 'w' ? 0222 : p[i] == 'x' ? 0111 : p[i] == 's' ? 06000 : p[i] == 't' ? 01000
		      : S_ISDIR(mode) || mode & 0111 ? 0111 : 0; /* X */
	return bits;
}

/* One of "ugoa…" followed by "=", "+" or "-" with their bits, perhaps several. NULL: it is none. */
static const char *apply_clause(const char *p, mode_t *mode) {
	size_t n = strspn(p, "ugoa");
	mode_t who = n ? 0 : 07777;
	for (size_t i = 0; i < n; i++)
		who |= p[i] == 'u' ? 04700 : p[i] == 'g' ? 02070 : p[i] == 'o' ? 01007 : 07777;
	p += n;
	if (!*p || !strchr("=+-", *p))
		return NULL;
	while (*p && strchr("=+-", *p)) {
		char sign = *p++;
		size_t len = strspn(p, "rwxXst");
		mode_t bits = bits_of(p, len, *mode) & who;
		mode_t kept = sign == '+' ? *mode : *mode & ~(sign == '=' ? who : bits);
		*mode = sign == '-' ? kept : kept | bits;
		p += len;
	}
	return p;
}

static bool apply(const char *text, mode_t *mode) {
	const char *p = text;
	while (p && *p) {
		p = apply_clause(p, mode);
		if (p && *p && (*p != ',' || !*++p))
			return false;
	}
	return p && *text;
}

bool chmod_is_valid(const char *text) {
	mode_t mode = 0;
	return is_octal(text) || apply(text, &mode);
}

mode_t chmod_apply(const char *text, mode_t mode) {
	uint64_t octal;
	mode_t changed = mode;
	if (is_octal(text) && str_to_u64(text, 8, &octal) == 0)
		return (mode & S_IFMT) | (mode_t)octal;
	return apply(text, &changed) ? changed : mode;
}
