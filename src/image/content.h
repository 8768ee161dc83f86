/* The content store: blobs by digest, in a directory of control's own. A blob is there whole or not at
 * all; an interrupted download leaves a partial file that the next one goes on from. Thread-safe.
 *
 *   DIR/blobs/sha256/<hex>      DIR/ingest/<hex> */
#pragma once

#include "base/buf.h"
#include "base/error.h"

struct content;

int content_open(const char *dir, struct content **out, struct error *err);
void content_close(struct content *c);

bool content_has(struct content *c, const char *digest);
/* A read-only descriptor of the blob; *size may be NULL. NOT_FOUND. */
int content_blob(struct content *c, const char *digest, uint64_t *size, struct error *err);
/* The whole of a small blob (manifest, config), its digest checked: at most 8 MiB. CORRUPT. */
int content_read(struct content *c, const char *digest, struct buf *out, struct error *err);

/* Writing. digest NULL: not known before (it is computed). Waits when another thread is writing the same
 * digest; then, if the blob is there, *out is NULL and nothing is to be done. */
struct ingest;
int content_ingest(struct content *c, const char *digest, struct ingest **out, struct error *err);
uint64_t ingest_offset(const struct ingest *i); /* bytes that are there already from an earlier try */
void ingest_restart(struct ingest *i);          /* drops them (the server does not do ranges) */
int ingest_write(struct ingest *i, const void *data, size_t n, struct error *err);
/* Checks the digest, makes it visible and durable. digest_out: "sha256:…", free it; may be NULL. Frees i.
 * CORRUPT (the partial file is dropped). */
int ingest_commit(struct ingest *i, char **digest_out, struct error *err);
/* Frees i; the partial file stays for the next try if the digest was known. */
void ingest_abort(struct ingest *i);
int content_put(struct content *c, const void *data, size_t n, char **digest, struct error *err);

/* Removes blobs for which keep says no, and partial files older than a day; gives the bytes freed.
 * Blobs ingested after the call began are kept. */
int content_collect(struct content *c, bool (*keep)(const char *digest, void *arg), void *arg, uint64_t *freed, struct error *err);
