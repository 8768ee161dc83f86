/* How commands for nft are written. */
#include "driver/network/firewall-priv.h"

#include "base/str.h"
#include "driver/network/network.h"

#include <openssl/sha.h>
#include <stdio.h>

/* Linux lets no packet with the address ::1 leave the loopback interface: a port is refused there, so that who tries
 * 127.0.0.1 next does it at once. */
const struct family families[2] = {
	{"ip", AF_INET, "ipv4_addr", "", "\t\toifname @bridges ip saddr 127.0.0.0/8 masquerade\n", "192.0.0.8"},
	{"ip6", AF_INET6, "ipv6_addr", "\t\tip6 daddr ::1 accept\n", "", "100:0:0:1::1"},
};

void script_line(struct script *c, const char *what, const char *family, const char *fmt, ...) {
	va_list ap;
	buf_addf(c->out, "%s %s wabe_%s ", what, family, c->s->tag);
	va_start(ap, fmt);
	buf_vaddf(c->out, fmt, ap);
	va_end(ap);
	buf_addc(c->out, '\n');
}

void script_element(struct script *c, const char *family, const char *set, const char *fmt, ...) {
	va_list ap;
	va_start(ap, fmt);
	_cleanup_(free_ptr) char *element = str_vformat(fmt, ap);
	va_end(ap);
	if (!c->removing || !c->present) /* what is not there cannot be taken out: so it is put in first */
		script_line(c, "add element", family, "%s { %s }", set, element);
	if (c->removing)
		script_line(c, "delete element", family, "%s { %s }", set, element);
}

bool script_chain(struct script *c, const char *family, const char *chain) {
	_cleanup_(free_ptr) char *key = str_format("%s %s", family, chain);
	if (c->seen && map_get(c->seen, key))
		return false;
	script_line(c, "add chain", family, "%s", chain);
	if (c->seen)
		map_set(c->seen, key, c);
	else
		script_line(c, "flush chain", family, "%s", chain);
	return true;
}

bool network_filters(const struct network *n) {
	const struct network_driver *d = network_driver_find(n->spec.driver ? n->spec.driver : "bridge");
	return d && d->rules;
}

const struct network *script_network(const struct firewall_state *s, const char *id) {
	for (size_t i = 0; i < s->n_networks; i++)
		if (str_same(s->networks[i]->id, id))
			return network_filters(s->networks[i]) ? s->networks[i] : NULL;
	return NULL;
}

const char *ip_of(const char *text, int af, char out[46]) {
	struct ip ip;
	if (!text || ip_parse(text, &ip) < 0 || ip.family != af)
		return NULL;
	ip_format(&ip, out);
	return out;
}

const char *ip_link_local(const char *mac, char out[46]) {
	unsigned b[6];
	struct ip ip = {.family = AF_INET6, .bytes = {0xfe, 0x80}};
	if (sscanf(mac, "%2x:%2x:%2x:%2x:%2x:%2x", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5]) != 6)
		return NULL;
	const unsigned id[8] = {b[0] ^ 2, b[1], b[2], 0xff, 0xfe, b[3], b[4], b[5]};
	for (size_t i = 0; i < 8; i++)
		ip.bytes[8 + i] = (uint8_t)id[i];
	ip_format(&ip, out);
	return out;
}

void hashed_name(const char *prefix, const char *text, char out[HASHED_NAME_MAX]) {
	uint8_t digest[SHA256_DIGEST_LENGTH];
	char hex[33];
	SHA256((const uint8_t *)text, strlen(text), digest);
	hex_encode(digest, 16, hex);
	snprintf(out, HASHED_NAME_MAX, "%s%s", prefix, hex);
}
