/* SHA-256 by OpenSSL, which uses the processor's instructions where there are any. */
#include "image/hash.h"

#include "base/str.h"

#include <openssl/evp.h>

struct hash {
	EVP_MD_CTX *ctx;
};

/* OpenSSL fails here for want of memory alone. */
static void must(int ok) {
	if (!ok)
		abort();
}

struct hash *hash_new(void) {
	struct hash *h = NEW(struct hash);
	h->ctx = EVP_MD_CTX_new();
	must(h->ctx != NULL);
	hash_reset(h);
	return h;
}

void hash_reset(struct hash *h) {
	must(EVP_DigestInit_ex(h->ctx, EVP_sha256(), NULL));
}

void hash_add(struct hash *h, const void *data, size_t n) {
	must(EVP_DigestUpdate(h->ctx, data, n));
}

char *hash_digest(struct hash *h) {
	uint8_t raw[EVP_MAX_MD_SIZE];
	unsigned n;
	must(EVP_DigestFinal_ex(h->ctx, raw, &n));
	hash_reset(h);
	char hex[2 * EVP_MAX_MD_SIZE + 1];
	hex_encode(raw, n, hex);
	return str_format("sha256:%s", hex);
}

void hash_free(struct hash *h) {
	if (!h)
		return;
	EVP_MD_CTX_free(h->ctx);
	free(h);
}
