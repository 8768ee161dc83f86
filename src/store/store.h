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
/* Creates (mode 0600) or opens the file; migrates an older schema; refuses a newer one (unsupported), a
 * damaged file or another's (corrupt), one that a process has open (busy). */
int store_open_sqlite(const char *path, struct store **out, struct error *err);
/* When all its watches are closed and no call is under way. */
void store_close(struct store *s);

/* NOT_FOUND when there is none. */
int store_get(struct store *s, const char *key, struct store_item *out, struct error *err);
/* All keys that start with prefix, in key order. */
int store_list(struct store *s, const char *prefix, struct store_items *out, struct error *err);
/* All or nothing; CONFLICT names the key whose expectation failed. Expectations look at what was before the
 * transaction; no key is written twice in one. Deleting what is not there, when STORE_ANY is expected,
 * changes nothing and is no error. *revision (may be NULL) is that of the writes, or the store's when nothing
 * was changed. Keys are 1…512 bytes without control characters, values at most 2 MiB, at most 128 operations.
 * NO_SPACE leaves the store usable. */
int store_txn(struct store *s, const struct store_op *ops, size_t n, int64_t *revision, struct error *err);
int store_put(struct store *s, const char *key, const char *value, int64_t expect, int64_t *revision, struct error *err);
int store_delete(struct store *s, const char *key, int64_t expect, struct error *err);
int64_t store_revision(struct store *s);

/* Watching: a cursor from a revision on. from: the first revision wanted (store_revision() + 1: from now;
 * the revision of a list + 1: nothing is missed). CONFLICT when that history has been compacted, or when it
 * lies beyond the next revision: list again and watch from there. Each watch is used by one thread at a time. */
struct store_watch;
int store_watch(struct store *s, const char *prefix, int64_t from, struct store_watch **out, struct error *err);
/* The next change; waits up to timeout_ns (0: not, -1: without end). 1 with *out filled, 0 when none came,
 * negative: as store_watch. */
int store_watch_next(struct store_watch *w, int64_t timeout_ns, struct store_change *out, struct error *err);
/* A descriptor that is readable while changes may wait: for an event loop, which then calls store_watch_next
 * until it gives 0. Only poll it. */
int store_watch_fd(struct store_watch *w);
void store_watch_close(struct store_watch *w);

/* Drops all history but the last `keep` revisions, now. (Beyond 10,000 it goes by itself as writes come.) */
int store_compact(struct store *s, int64_t keep, struct error *err);

void store_item_free(struct store_item *i);
void store_items_free(struct store_items *l);
void store_change_free(struct store_change *c);
