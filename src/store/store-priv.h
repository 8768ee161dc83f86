/* Between store.c and its back ends. Nobody else includes this but the tests. */
#pragma once

#include "store/store.h"

#include <pthread.h>

#define STORE_KEY_MAX ((size_t)512)
#define STORE_VALUE_MAX ((size_t)2 << 20)
#define STORE_TXN_MAX ((size_t)128)
#define STORE_KEEP INT64_C(10000)

/* A back end keeps items and, where it has a disk, the history. store.c calls begin … commit/rollback,
 * trim and close from one thread at a time; get, list and replay from any thread, also meanwhile, and they
 * see only what has been committed. */
struct store_backend {
	int (*begin)(struct store *s, struct error *err);
	/* Revisions of the key as the open transaction sees it; both 0 when it is absent. */
	int (*find)(struct store *s, const char *key, int64_t *created, int64_t *revision, struct error *err);
	/* Sets the key, or removes it (value NULL). index: of the change within its revision. */
	int (*write)(struct store *s, const char *key, const char *value, int64_t created, int64_t revision,
		     size_t index, struct error *err);
	/* Drops history below `floor`, within the open transaction. */
	int (*trim)(struct store *s, int64_t floor, struct error *err);
	int (*commit)(struct store *s, int64_t revision, int64_t floor, struct error *err);
	void (*rollback)(struct store *s);

	int (*get)(struct store *s, const char *key, struct store_item *out, struct error *err);
	int (*list)(struct store *s, const char *prefix, struct store_items *out, struct error *err);
	/* NULL where the latest changes in memory are all that there is. Gives the changes from revision `from` on to add(), whole revisions, about `max` of them, and in
	 * *next the first revision not given. CONFLICT when they are gone. */
	int (*replay)(struct store *s, int64_t from, size_t max,
		      void (*add)(void *arg, int64_t revision, const char *key, const char *value), void *arg,
		      int64_t *next, struct error *err);
	void (*close)(struct store *s);
};

/* The latest changes in memory, so that watchers who keep up never touch the disk. */
struct store_recent {
	struct store_change *ring;
	size_t first, n, cap;
	size_t bytes, max_bytes;
	int64_t floor; /* everything from this revision on is here */
};

struct store_job;

struct store {
	const struct store_backend *backend;
	void *state;       /* the back end's own */
	pthread_mutex_t lock;
	pthread_cond_t turn; /* a batch has ended */
	bool leading;      /* somebody commits just now */
	struct store_job *queue, **queue_end;
	size_t queued;
	uint64_t commits;
	int64_t revision;  /* committed */
	int64_t floor;     /* the oldest revision that replay can give */
	struct store_recent recent;
	struct store_watch *watches;
};

/* Takes over `state`, from which `revision` and `floor` were read. max_recent: bytes. */
struct store *store_new(const struct store_backend *backend, void *state, int64_t revision, int64_t floor,
			size_t max_recent);

void store_recent_add(struct store_recent *r, int64_t revision, const char *key, const char *value);
/* Drops revisions below floor, and more while there are too many bytes. */
void store_recent_trim(struct store_recent *r, int64_t floor);
void store_recent_free(struct store_recent *r);

int store_error_compacted(struct error *err, int64_t from, int64_t floor);
void store_items_add(struct store_items *l, const char *key, const char *value, int64_t created, int64_t revision);

/* watch.c, with the store locked: tells watchers of one change; and, after all changes up to the store's
 * revision, moves those along whom none has concerned. */
void store_watch_notify(struct store *s, const char *key);
void store_watch_settle(struct store *s);

/* For tests: batches committed so far; callers that wait for the next one. */
uint64_t store_commits(struct store *s);
size_t store_queued(struct store *s);
struct sqlite3 *store_sqlite_writer(struct store *s); /* its writing connection */
