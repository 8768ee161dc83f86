#include "base/base64.h"

#include <errno.h>
#include <string.h>

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

ssize_t base64_size(const char *text) {
	size_t n = strlen(text), used = strspn(text, digits), padding = strspn(text + used, "=");
	if (n % 4 || padding > 2 || used + padding != n)
		return -EINVAL;
	return (ssize_t)(n / 4 * 3 - padding);
}

int base64_decode(const char *text, struct buf *out) {
	ssize_t n = base64_size(text);
	uint32_t bits = 0;
	size_t have = 0;
	if (n < 0)
		return (int)n;
	for (const char *p = text; *p && *p != '='; p++) {
		bits = bits << 6 | (uint32_t)(strchr(digits, *p) - digits);
		have += 6;
		if (have < 8)
			continue;
		have -= 8;
		buf_addc(out, (char)(bits >> have & 0xff));
	}
	return 0;
}

char *base64_encode(const void *data, size_t n) {
	const uint8_t *p = data;
	char *text = alloc_zero((n + 2) / 3 * 4 + 1), *to = text;
	for (size_t i = 0; i < n; i += 3) {
		uint32_t bits = (uint32_t)p[i] << 16 | (i + 1 < n ? (uint32_t)p[i + 1] << 8 : 0) | (i + 2 < n ? p[i + 2] : 0);
		*to++ = digits[bits >> 18 & 63];
		*to++ = digits[bits >> 12 & 63];
		*to++ = i + 1 < n ? digits[bits >> 6 & 63] : '=';
		*to++ = i + 2 < n ? digits[bits & 63] : '=';
	}
	return text;
}
