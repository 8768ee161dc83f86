/* IP addresses and subnets as numbers. */
#include "model/network.h"

#include "base/str.h"

#include <arpa/inet.h>

static unsigned bits_of(int family) {
	return family == AF_INET ? 32 : 128;
}

int ip_parse(const char *text, struct ip *out) {
	*out = (struct ip){.family = AF_INET};
	if (inet_pton(AF_INET, text, out->bytes) == 1)
		return 0;
	out->family = AF_INET6;
	return inet_pton(AF_INET6, text, out->bytes) == 1 ? 0 : -EINVAL;
}

/* Whether all bits from `prefix` on are zero. */
static bool host_bits_clear(const struct cidr *c) {
	for (unsigned bit = c->prefix; bit < bits_of(c->ip.family); bit++)
		if (c->ip.bytes[bit / 8] & 0x80 >> bit % 8)
			return false;
	return true;
}

static int parse_prefix(const char *text, unsigned max, unsigned *out) {
	unsigned n = 0;
	if (!*text || strlen(text) > 3 || text[strspn(text, "0123456789")])
		return -EINVAL;
	for (const char *p = text; *p; p++)
		n = n * 10 + (unsigned)(*p - '0');
	*out = n;
	return n <= max ? 0 : -EINVAL;
}

int cidr_parse(const char *text, struct cidr *out) {
	const char *slash = strchr(text, '/');
	*out = (struct cidr){0};
	if (!slash)
		return -EINVAL;
	_cleanup_(free_ptr) char *ip = str_copyn(text, (size_t)(slash - text));
	if (ip_parse(ip, &out->ip) < 0 || parse_prefix(slash + 1, bits_of(out->ip.family), &out->prefix) < 0)
		return -EINVAL;
	return host_bits_clear(out) ? 0 : -EINVAL;
}

void ip_format(const struct ip *ip, char out[46]) {
	inet_ntop(ip->family, ip->bytes, out, 46);
}

void cidr_format(const struct cidr *c, char out[50]) {
	ip_format(&c->ip, out);
	size_t n = strlen(out);
	snprintf(out + n, 50 - n, "/%u", c->prefix);
}

/* Whether the first `prefix` bits are the same. */
static bool same_start(const uint8_t *a, const uint8_t *b, unsigned prefix) {
	unsigned whole = prefix / 8, rest = prefix % 8;
	return memcmp(a, b, whole) == 0 && (rest == 0 || ((a[whole] ^ b[whole]) & (0xff00 >> rest & 0xff)) == 0);
}

bool cidr_contains(const struct cidr *c, const struct ip *ip) {
	return c->ip.family == ip->family && same_start(c->ip.bytes, ip->bytes, c->prefix);
}

bool cidr_overlap(const struct cidr *a, const struct cidr *b) {
	return a->ip.family == b->ip.family && same_start(a->ip.bytes, b->ip.bytes, MIN(a->prefix, b->prefix));
}

uint64_t cidr_size(const struct cidr *c) {
	unsigned host = bits_of(c->ip.family) - c->prefix;
	return host >= 64 ? UINT64_MAX : UINT64_C(1) << host;
}

bool cidr_nth(const struct cidr *c, uint64_t n, struct ip *out) {
	if (n >= cidr_size(c))
		return false;
	*out = c->ip;
	for (unsigned i = bits_of(c->ip.family) / 8; i-- > 0 && n; n >>= 8)
		out->bytes[i] = (uint8_t)(out->bytes[i] + (n & 0xff)); /* host bits are zero: nothing carries */
	return true;
}

const struct subnet *subnet_with(const subnets *list, const struct ip *ip, struct cidr *cidr) {
	for (size_t i = 0; i < list->n; i++)
		if (cidr_parse(list->items[i].cidr, cidr) == 0 && cidr_contains(cidr, ip))
			return &list->items[i];
	return NULL;
}
