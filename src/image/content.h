/* The content store: blobs by digest, in a directory of control's own. A blob is there whole or not at
 * all; an interrupted download leaves a partial file that the next one goes on from. Thread-safe; one
 * process at a time (a second one gets BUSY).
 *
 *   DIR/blobs/sha256/<hex>      DIR/ingest/<hex> (known digest), tmp-<random> (not yet known) */
#pragma once

#include "base/buf.h"
#include "base/error.h"

struct content;

/* Makes the directories (0700) where they are missing and removes what an earlier process left unfinished
 * and nobody can go on with. */
int content_open(const char *dir, struct content **out, struct error *err);
void content_close(struct content *c); /* NULL is allowed */

bool content_has(struct content *c, const char *digest);
/* A read-only descriptor of the blob; *size may be NULL. NOT_FOUND. */
int content_blob(struct content *c, const char *digest, uint64_t *size, struct error *err);
/* The whole of a small blob (manifest, config), its digest checked: at most 8 MiB. CORRUPT: the blob is
 * dropped, so that the next pull fetches it again. */
#define CONTENT_READ_MAX ((size_t)8 << 20)
int content_read(struct content *c, const char *digest, struct buf *out, struct error *err);
/* Forgets a blob that was found to be corrupt (a layer fails its diff_id), for the same reason. */
void content_drop(struct content *c, const char *digest);

/* Writing. digest NULL: not known before (it is computed). Waits when another thread is writing the same
 * digest; then, if the blob is there, *out is NULL and nothing is to be done. *cancel (may be NULL) ends
 * the waiting with CANCELLED. */
struct ingest;
int content_ingest(struct content *c, const char *digest, struct ingest **out, struct error *err);
int content_ingest_until(struct content *c, const char *digest, const volatile bool *cancel, struct ingest **out,
			 struct error *err);
uint64_t ingest_offset(const struct ingest *i); /* bytes that are there already from an earlier try */
void ingest_restart(struct ingest *i);		/* drops them (the server does not do ranges) */
int ingest_write(struct ingest *i, const void *data, size_t n, struct error *err);
/* Checks the digest, makes it visible and durable. digest_out: "sha256:…", free it; may be NULL. Frees i.
 * CORRUPT (the partial file is dropped). */
int ingest_commit(struct ingest *i, char **digest_out, struct error *err);
/* Frees i (NULL is allowed); the partial file stays for the next try if the digest was known and the disk
 * is not full. */
void ingest_abort(struct ingest *i);
int content_put(struct content *c, const void *data, size_t n, char **digest, struct error *err);

/* Removes blobs for which keep says no, and partial files older than a day; gives the bytes freed (may be
 * NULL). Blobs ingested or found present after the call began, or under a hold, are kept. */
int content_collect(struct content *c, bool (*keep)(const char *digest, void *arg), void *arg, uint64_t *freed,
		    struct error *err);
/* Between hold and release no collection removes a blob that was ingested or found present meanwhile: take
 * a hold before a pull, load or build, and release it once the store refers to the image. Holds nest. */
void content_hold(struct content *c);
void content_release(struct content *c);

/* A flag that another thread may set; NULL is never set. */
static inline bool flag_is_set(const volatile bool *flag) {
	return flag && __atomic_load_n(flag, __ATOMIC_RELAXED);
}

/* "sha256:<hex>" of data, free it. */
char *digest_of(const void *data, size_t n);

DEFINE_CLEANUP(ingest_abort_ptr, struct ingest *, ingest_abort);
DEFINE_CLEANUP(content_release_ptr, struct content *, content_release);
