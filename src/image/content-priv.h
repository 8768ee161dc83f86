/* What content.c and ingest.c share: the store's inside, and SHA-256. Not for others. */
#pragma once

#include "base/map.h"
#include "image/content.h"
#include "image/hash.h"

#include <pthread.h>

struct content {
	int dir, blobs, ingest; /* directories */
	pthread_mutex_t lock;   /* over the members below, and over a blob's appearing and going */
	pthread_cond_t changed; /* an entry of busy went away */
	struct map *busy;       /* digests that a thread is writing */
	unsigned holds;
	struct map *held;       /* digests ingested or found present while holds > 0 */
};

/* *hex: the hexadecimal part of a digest, inside it. INVALID, UNSUPPORTED. */
int digest_hex(const char *digest, const char **hex, struct error *err);
/* Under the lock: notes that somebody counts on this blob from now on. */
void content_note(struct content *c, const char *hex);
