/* Versioned objects with watch. Keys are paths ("instances/default/ID"), values are texts. Every write
 * gets the next revision of the whole store; a transaction's writes share one.
 *
 * Two back ends with one behaviour (tests/unit/store_test.c runs on both): sqlite (embedded) and memory.
 * Usable from several threads at once; concurrent writers share one fsync. An acknowledged write is on disk. */
#pragma once

#include "base/error.h"

struct store;

struct store_item {
	char *key, *value;
	int64_t created, revision; /* revisions of the first and the last write */
};
struct store_items {
	struct store_item *items;
	size_t n;
	int64_t revision; /* of the store when the list was read */
};

enum store_op_kind { STORE_PUT, STORE_DELETE, STORE_CHECK };

/* One step of a transaction. expect: STORE_ANY, STORE_ABSENT, or the revision that the key must have. */
#define STORE_ANY INT64_C(-1)
#define STORE_ABSENT INT64_C(0)
struct store_op {
	enum store_op_kind kind;
	const char *key, *value;
	int64_t expect;
};

struct store_change {
	int64_t revision;
	char *key, *value; /* value NULL: deleted */
};

int store_open_memory(struct store **out, struct error *err);
/* Creates or opens the file; migrates an older schema; refuses a newer one (unsupported). */
int store_open_sqlite(const char *path, struct store **out, struct error *err);
void store_close(struct store *s);

/* NOT_FOUND when there is none. */
int store_get(struct store *s, const char *key, struct store_item *out, struct error *err);
/* All keys that start with prefix, in key order. */
int store_list(struct store *s, const char *prefix, struct store_items *out, struct error *err);
/* All or nothing; CONFLICT names the key whose expectation failed. *revision may be NULL. Keys are 1…512
 * bytes without control characters, values at most 1 MiB, at most 128 operations. */
int store_txn(struct store *s, const struct store_op *ops, size_t n, int64_t *revision, struct error *err);
int store_put(struct store *s, const char *key, const char *value, int64_t expect, int64_t *revision, struct error *err);
int store_delete(struct store *s, const char *key, int64_t expect, struct error *err);
int64_t store_revision(struct store *s);

/* Watching: a cursor from a revision on. from: the first revision wanted (store_revision() + 1: from now).
 * CONFLICT when history before it has been compacted: list again and watch from there. */
struct store_watch;
int store_watch(struct store *s, const char *prefix, int64_t from, struct store_watch **out, struct error *err);
/* The next change; waits up to timeout_ns (0: not, -1: without end). 1 with *out filled, 0 when none came,
 * negative: as store_watch. */
int store_watch_next(struct store_watch *w, int64_t timeout_ns, struct store_change *out, struct error *err);
/* A descriptor that is readable while changes may wait: for an event loop. */
int store_watch_fd(struct store_watch *w);
void store_watch_close(struct store_watch *w);

/* Keeps the last `keep` revisions of history (10,000 by default, done by itself as writes come). */
int store_compact(struct store *s, int64_t keep, struct error *err);

void store_item_free(struct store_item *i);
void store_items_free(struct store_items *l);
void store_change_free(struct store_change *c);
