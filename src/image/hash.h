/* SHA-256 as it goes along. */
#pragma once

#include "base/util.h"

struct hash;

struct hash *hash_new(void);
void hash_reset(struct hash *h);
void hash_add(struct hash *h, const void *data, size_t n);
/* "sha256:<hex>" of all that was added, free it; the hash is reset. */
char *hash_digest(struct hash *h);
void hash_free(struct hash *h);
DEFINE_CLEANUP(hash_free_ptr, struct hash *, hash_free);
