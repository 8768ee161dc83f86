/* The embedded back end: one SQLite file with a write-ahead log. One connection writes, a few read; a
 * commit is one fsync of the log, and readers see it only afterwards.
 *
 * The history of each key and value is a table of its own, whose row number is the revision and the place
 * within it, so that it needs no index. It is cut at its lower end as writes come; pages that get free are
 * used again, and given back to the file system where there are many. */
#include "store/store-priv.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

#define APPLICATION_ID 0x77616265 /* "wabe" */
#define READERS_MAX 4
#define INDEX_BITS 7 /* of STORE_TXN_MAX changes in one revision */
#define RECENT_BYTES ((size_t)512 << 10)
#define FREE_PAGES_KEPT 512
#define LOG_RESERVED ((off_t)3 << 20) /* what wal_autocheckpoint lets it grow to, and a large transaction */

/* Each brings the schema from the version that is its index to the next. Never edit one: add one. */
static const char *const migrations[] = {
	"CREATE TABLE items (key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL, created INTEGER NOT NULL,"
	" revision INTEGER NOT NULL);"
	"CREATE TABLE history (id INTEGER PRIMARY KEY, key TEXT NOT NULL, value TEXT);"
	"CREATE TABLE state (id INTEGER PRIMARY KEY CHECK (id = 0), revision INTEGER NOT NULL,"
	" floor INTEGER NOT NULL);"
	"INSERT INTO state VALUES (0, 0, 1);",
};
#define SCHEMA_VERSION ((int)ARRAY_SIZE(migrations))

enum write_statement { W_FIND, W_PUT, W_DELETE, W_HISTORY, W_TRIM, W_STATE, W_FREE, W_STATEMENTS };
static const char *const write_texts[W_STATEMENTS] = {
	[W_FIND] = "SELECT created, revision FROM items WHERE key = ?1",
	[W_PUT] = ("INSERT INTO items (key, value, created, revision) VALUES (?1, ?2, ?3, ?4)"
		   " ON CONFLICT (key) DO UPDATE SET value = excluded.value, revision = excluded.revision"),
	[W_DELETE] = "DELETE FROM items WHERE key = ?1",
	[W_HISTORY] = "INSERT INTO history (id, key, value) VALUES (?1, ?2, ?3)",
	[W_TRIM] = "DELETE FROM history WHERE id < ?1",
	[W_STATE] = "UPDATE state SET revision = ?1, floor = ?2",
	[W_FREE] = "PRAGMA freelist_count",
};

enum read_statement { R_STATE, R_GET, R_LIST, R_HISTORY, R_STATEMENTS };
static const char *const read_texts[R_STATEMENTS] = {
	[R_STATE] = "SELECT revision, floor FROM state",
	[R_GET] = "SELECT key, value, created, revision FROM items WHERE key = ?1",
	[R_LIST] = "SELECT key, value, created, revision FROM items WHERE key >= ?1 AND key < ?2 ORDER BY key",
	[R_HISTORY] = "SELECT id, key, value FROM history WHERE id >= ?1 ORDER BY id",
};

struct reader {
	sqlite3 *db;
	sqlite3_stmt *statements[R_STATEMENTS];
	struct reader *next;
};

struct sqlite {
	char *path;
	int lock_fd;
	sqlite3 *db; /* writes */
	sqlite3_stmt *statements[W_STATEMENTS];
	pthread_mutex_t lock; /* of the readers */
	pthread_cond_t returned;
	struct reader *idle;
	size_t readers;
};

/* ---- errors and statements ---- */

static int sqlite_error(struct error *err, const struct sqlite *q, sqlite3 *db, int code) {
	const char *text = db ? sqlite3_errmsg(db) : sqlite3_errstr(code);
	int system = db ? sqlite3_system_errno(db) : 0;

	switch (code & 0xff) {
	case SQLITE_FULL:
		return error_set(err, ERROR_NO_SPACE, "no space is left for %s: make room on its file system", q->path);
	case SQLITE_IOERR:
		if (system == ENOSPC || system == EDQUOT)
			return error_set(err, ERROR_NO_SPACE, "no space is left for %s: make room on its file system",
					 q->path);
		return error_set(err, ERROR_INTERNAL, "cannot read or write %s: %s%s%s", q->path, text,
				 system ? ": " : "", system ? strerrordesc_np(system) : "");
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return error_set(err, ERROR_CORRUPT,
				 "%s is damaged (%s): stop wabe, move it and its -wal file away, and put a backup in its "
				 "place, or what `sqlite3 FILE .recover` gets out of it",
				 q->path, text);
	case SQLITE_CANTOPEN:
	case SQLITE_PERM:
	case SQLITE_READONLY:
		return error_set(err, ERROR_DENIED, "cannot open %s for writing: %s", q->path, text);
	case SQLITE_BUSY:
		return error_set(err, ERROR_BUSY, "%s is locked by another program", q->path);
	default:
		return error_set(err, ERROR_INTERNAL, "%s: %s", q->path, text);
	}
}

static int execute(struct sqlite *q, sqlite3 *db, const char *text, struct error *err) {
	int code = sqlite3_exec(db, text, NULL, NULL, NULL);

	return code == SQLITE_OK ? 0 : sqlite_error(err, q, db, code);
}

static int prepare(struct sqlite *q, sqlite3 *db, const char *const *texts, sqlite3_stmt **out, size_t n,
		   struct error *err) {
	for (size_t i = 0; i < n; i++) {
		int code = sqlite3_prepare_v3(db, texts[i], -1, SQLITE_PREPARE_PERSISTENT, &out[i], NULL);
		if (code != SQLITE_OK)
			return sqlite_error(err, q, db, code);
	}
	return 0;
}

static void bind_text(sqlite3_stmt *st, int at, const char *text) {
	if (text)
		sqlite3_bind_text(st, at, text, -1, SQLITE_STATIC);
	else
		sqlite3_bind_null(st, at);
}

static const char *column_text(sqlite3_stmt *st, int at) {
	return (const char *)sqlite3_column_text(st, at);
}

/* Runs a statement that gives no rows. */
static int run(struct sqlite *q, sqlite3_stmt *st, struct error *err) {
	int code = sqlite3_step(st), r = 0;

	if (code != SQLITE_DONE)
		r = sqlite_error(err, q, sqlite3_db_handle(st), code);
	sqlite3_reset(st);
	return r;
}

/* ---- writing ---- */

static int sqlite_begin(struct store *s, struct error *err) {
	struct sqlite *q = s->state;

	return execute(q, q->db, "BEGIN IMMEDIATE", err);
}

static int sqlite_find(struct store *s, const char *key, int64_t *created, int64_t *revision, struct error *err) {
	struct sqlite *q = s->state;
	sqlite3_stmt *st = q->statements[W_FIND];
	int code, r = 0;

	*created = *revision = 0;
	bind_text(st, 1, key);
	code = sqlite3_step(st);
	if (code == SQLITE_ROW) {
		*created = sqlite3_column_int64(st, 0);
		*revision = sqlite3_column_int64(st, 1);
	} else if (code != SQLITE_DONE) {
		r = sqlite_error(err, q, q->db, code);
	}
	sqlite3_reset(st);
	return r;
}

static int sqlite_write(struct store *s, const char *key, const char *value, int64_t created, int64_t revision,
			size_t index, struct error *err) {
	struct sqlite *q = s->state;
	sqlite3_stmt *st = q->statements[value ? W_PUT : W_DELETE];
	int r;

	bind_text(st, 1, key);
	if (value) {
		bind_text(st, 2, value);
		sqlite3_bind_int64(st, 3, created);
		sqlite3_bind_int64(st, 4, revision);
	}
	r = run(q, st, err);
	if (r)
		return r;
	st = q->statements[W_HISTORY];
	sqlite3_bind_int64(st, 1, (revision << INDEX_BITS) | (int64_t)index);
	bind_text(st, 2, key);
	bind_text(st, 3, value);
	return run(q, st, err);
}

static int sqlite_trim(struct store *s, int64_t floor, struct error *err) {
	struct sqlite *q = s->state;

	sqlite3_bind_int64(q->statements[W_TRIM], 1, floor << INDEX_BITS);
	return run(q, q->statements[W_TRIM], err);
}

/* Gives some pages back to the file system where many are free. */
static int shrink(struct sqlite *q, struct error *err) {
	sqlite3_stmt *st = q->statements[W_FREE];
	int64_t pages = sqlite3_step(st) == SQLITE_ROW ? sqlite3_column_int64(st, 0) : 0;

	sqlite3_reset(st);
	return pages > FREE_PAGES_KEPT ? execute(q, q->db, "PRAGMA incremental_vacuum(32)", err) : 0;
}

static int sqlite_commit(struct store *s, int64_t revision, int64_t floor, struct error *err) {
	struct sqlite *q = s->state;
	int r;

	sqlite3_bind_int64(q->statements[W_STATE], 1, revision);
	sqlite3_bind_int64(q->statements[W_STATE], 2, floor);
	r = run(q, q->statements[W_STATE], err);
	if (!r)
		r = shrink(q, err);
	return r ? r : execute(q, q->db, "COMMIT", err);
}

static void sqlite_rollback(struct store *s) {
	struct sqlite *q = s->state;

	if (!sqlite3_get_autocommit(q->db)) /* some errors have rolled back already */
		sqlite3_exec(q->db, "ROLLBACK", NULL, NULL, NULL);
}

/* ---- readers ---- */

static void reader_free(struct reader *r) {
	for (size_t i = 0; i < R_STATEMENTS; i++)
		sqlite3_finalize(r->statements[i]);
	sqlite3_close(r->db);
	free(r);
}

static int reader_open(struct sqlite *q, struct reader **out, struct error *err) {
	struct reader *r = NEW(struct reader);
	int result = 0, code = sqlite3_open_v2(q->path, &r->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);

	if (code != SQLITE_OK)
		result = sqlite_error(err, q, r->db, code);
	if (!result)
		result = execute(q, r->db, "PRAGMA busy_timeout = 10000; PRAGMA cache_size = -128; PRAGMA mmap_size = 0;"
				 "PRAGMA query_only = 1", err);
	if (!result)
		result = prepare(q, r->db, read_texts, r->statements, R_STATEMENTS, err);
	if (result)
		reader_free(r);
	else
		*out = r;
	return result;
}

static int reader_take(struct sqlite *q, struct reader **out, struct error *err) {
	int r = 0;

	*out = NULL;
	pthread_mutex_lock(&q->lock);
	while (!q->idle && q->readers == READERS_MAX)
		pthread_cond_wait(&q->returned, &q->lock);
	if (q->idle) {
		*out = q->idle;
		q->idle = q->idle->next;
	} else {
		q->readers++;
	}
	pthread_mutex_unlock(&q->lock);
	if (!*out)
		r = reader_open(q, out, err);
	if (r) {
		pthread_mutex_lock(&q->lock);
		q->readers--;
		pthread_cond_signal(&q->returned);
		pthread_mutex_unlock(&q->lock);
	}
	return r;
}

/* One idle connection is kept; the others were for a moment of crowding. */
static void reader_give(struct sqlite *q, struct reader *r) {
	for (size_t i = 0; i < R_STATEMENTS; i++)
		sqlite3_reset(r->statements[i]);
	if (!sqlite3_get_autocommit(r->db))
		sqlite3_exec(r->db, "COMMIT", NULL, NULL, NULL);
	pthread_mutex_lock(&q->lock);
	if (!q->idle) {
		r->next = NULL;
		q->idle = TAKE_PTR(r);
	} else {
		q->readers--;
	}
	pthread_cond_signal(&q->returned);
	pthread_mutex_unlock(&q->lock);
	if (r)
		reader_free(r);
}

static int sqlite_get(struct store *s, const char *key, struct store_item *out, struct error *err) {
	struct sqlite *q = s->state;
	struct reader *reader;
	sqlite3_stmt *st;
	int code, r = reader_take(q, &reader, err);

	if (r)
		return r;
	st = reader->statements[R_GET];
	bind_text(st, 1, key);
	code = sqlite3_step(st);
	if (code == SQLITE_ROW)
		*out = (struct store_item){.key = str_copy(column_text(st, 0)), .value = str_copy(column_text(st, 1)),
					   .created = sqlite3_column_int64(st, 2),
					   .revision = sqlite3_column_int64(st, 3)};
	else if (code == SQLITE_DONE)
		r = error_set(err, ERROR_NOT_FOUND, "%s is not in the store", key);
	else
		r = sqlite_error(err, q, reader->db, code);
	reader_give(q, reader);
	return r;
}

static int read_state(struct sqlite *q, struct reader *reader, int64_t *revision, int64_t *floor, struct error *err) {
	sqlite3_stmt *st = reader->statements[R_STATE];
	int code = sqlite3_step(st), r = 0;

	if (code == SQLITE_ROW) {
		*revision = sqlite3_column_int64(st, 0);
		*floor = sqlite3_column_int64(st, 1);
	} else {
		r = sqlite_error(err, q, reader->db, code == SQLITE_DONE ? SQLITE_CORRUPT : code);
	}
	sqlite3_reset(st);
	return r;
}

/* The first key behind all that start with prefix; behind every text at all (where none can be named)
 * there are blobs. */
static void bind_prefix_end(sqlite3_stmt *st, int at, const char *prefix) {
	size_t n = strlen(prefix);
	char *end;

	while (n && (unsigned char)prefix[n - 1] == 0xff)
		n--;
	if (!n) {
		sqlite3_bind_zeroblob(st, at, 0);
		return;
	}
	end = str_copyn(prefix, n);
	end[n - 1] = (char)((unsigned char)end[n - 1] + 1);
	sqlite3_bind_text(st, at, end, (int)n, free);
}

static int list_rows(struct sqlite *q, struct reader *reader, const char *prefix, struct store_items *out,
		     struct error *err) {
	sqlite3_stmt *st = reader->statements[R_LIST];
	int64_t floor;
	int code, r = execute(q, reader->db, "BEGIN", err);

	if (!r)
		r = read_state(q, reader, &out->revision, &floor, err);
	if (r)
		return r;
	bind_text(st, 1, prefix);
	bind_prefix_end(st, 2, prefix);
	while ((code = sqlite3_step(st)) == SQLITE_ROW)
		store_items_add(out, column_text(st, 0), column_text(st, 1), sqlite3_column_int64(st, 2),
				sqlite3_column_int64(st, 3));
	return code == SQLITE_DONE ? 0 : sqlite_error(err, q, reader->db, code);
}

static int sqlite_list(struct store *s, const char *prefix, struct store_items *out, struct error *err) {
	struct sqlite *q = s->state;
	struct reader *reader;
	int r = reader_take(q, &reader, err);

	if (r)
		return r;
	r = list_rows(q, reader, prefix, out, err);
	reader_give(q, reader);
	if (r)
		store_items_free(out);
	return r;
}

static int replay_rows(struct sqlite *q, struct reader *reader, int64_t from, size_t max,
		       void (*add)(void *arg, int64_t revision, const char *key, const char *value), void *arg,
		       int64_t *next, struct error *err) {
	sqlite3_stmt *st = reader->statements[R_HISTORY];
	int64_t revision, floor, seen = 0;
	int code, r = execute(q, reader->db, "BEGIN", err);

	if (!r)
		r = read_state(q, reader, &revision, &floor, err);
	if (r)
		return r;
	if (from < floor)
		return store_error_compacted(err, from, floor);
	*next = revision + 1;
	sqlite3_bind_int64(st, 1, from << INDEX_BITS);
	for (size_t n = 0; (code = sqlite3_step(st)) == SQLITE_ROW; n++) {
		int64_t row = sqlite3_column_int64(st, 0) >> INDEX_BITS;

		if (n >= max && row != seen) {
			*next = row;
			return 0;
		}
		seen = row;
		add(arg, row, column_text(st, 1), column_text(st, 2));
	}
	return code == SQLITE_DONE ? 0 : sqlite_error(err, q, reader->db, code);
}

static int sqlite_replay(struct store *s, int64_t from, size_t max,
			 void (*add)(void *arg, int64_t revision, const char *key, const char *value), void *arg,
			 int64_t *next, struct error *err) {
	struct sqlite *q = s->state;
	struct reader *reader;
	int r = reader_take(q, &reader, err);

	if (r)
		return r;
	r = replay_rows(q, reader, from, max, add, arg, next, err);
	reader_give(q, reader);
	return r;
}

/* ---- opening ---- */

static void sqlite_free(struct sqlite *q) {
	for (size_t i = 0; i < W_STATEMENTS; i++)
		sqlite3_finalize(q->statements[i]);
	if (q->idle)
		reader_free(q->idle);
	sqlite3_close(q->db);
	/* last: closing any descriptor of the file drops SQLite's own locks on it */
	close_fd(&q->lock_fd);
	pthread_cond_destroy(&q->returned);
	pthread_mutex_destroy(&q->lock);
	free(q->path);
	free(q);
}

static void sqlite_close(struct store *s) {
	sqlite_free(s->state);
}

/* A second process would not see this one's changes in its memory. */
static int lock_file(struct sqlite *q, struct error *err) {
	q->lock_fd = open(q->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (q->lock_fd < 0)
		return error_errno(err, errno, "cannot open the store %s", q->path);
	if (flock(q->lock_fd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ? error_set(err, ERROR_BUSY, "the store %s is in use by another wabe", q->path)
					    : error_errno(err, errno, "cannot lock the store %s", q->path);
	return 0;
}

static int pragma(struct sqlite *q, const char *text, int64_t *out, struct error *err) {
	sqlite3_stmt *st = NULL;
	int code = sqlite3_prepare_v2(q->db, text, -1, &st, NULL);

	if (code == SQLITE_OK)
		code = sqlite3_step(st);
	*out = code == SQLITE_ROW ? sqlite3_column_int64(st, 0) : 0;
	sqlite3_finalize(st);
	return code == SQLITE_ROW ? 0 : sqlite_error(err, q, q->db, code == SQLITE_DONE ? SQLITE_CORRUPT : code);
}

static int migrate_one(struct sqlite *q, int version, struct error *err) {
	_cleanup_(free_ptr) char *text =
		str_format("BEGIN IMMEDIATE; %s PRAGMA application_id = %d; PRAGMA user_version = %d; COMMIT",
			   migrations[version], APPLICATION_ID, version + 1);

	return execute(q, q->db, text, err);
}

static int migrate(struct sqlite *q, struct error *err) {
	int64_t application, version, objects;
	int r = pragma(q, "PRAGMA application_id", &application, err);

	if (!r)
		r = pragma(q, "PRAGMA user_version", &version, err);
	if (!r)
		r = pragma(q, "SELECT count(*) FROM sqlite_schema", &objects, err);
	if (r)
		return r;
	if (application != APPLICATION_ID && (application || version || objects))
		return error_set(err, ERROR_CORRUPT, "%s is a database, but not a store of wabe: move it away", q->path);
	if (version > SCHEMA_VERSION)
		return error_set(err, ERROR_UNSUPPORTED,
				 "%s was written by a newer wabe (schema %lld, this one knows %d): install that version again",
				 q->path, (long long)version, SCHEMA_VERSION);
	for (int v = (int)version; v < SCHEMA_VERSION; v++) {
		r = migrate_one(q, v, err);
		if (r)
			return error_wrap(err, "cannot bring the schema from version %d to %d", v, v + 1);
	}
	return 0;
}

/* Room for the log is taken beforehand, so that on a full disk the objects can still be removed that fill it. */
static void reserve_log(const struct sqlite *q) {
	_cleanup_(free_ptr) char *path = str_format("%s-wal", q->path);
	_cleanup_(close_fd) int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 || fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, LOG_RESERVED) < 0)
		log_debug("no room is reserved in %s: %s", path, strerror(errno));
}

static int open_writer(struct sqlite *q, int64_t *revision, int64_t *floor, struct error *err) {
	int code, r = lock_file(q, err);

	if (r)
		return r;
	code = sqlite3_open_v2(q->path, &q->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
	if (code != SQLITE_OK)
		return sqlite_error(err, q, q->db, code);
	/* auto_vacuum first: it can be chosen only while the file is empty */
	r = execute(q, q->db, "PRAGMA busy_timeout = 10000; PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL;"
		    "PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 512; PRAGMA journal_size_limit = 4194304;"
		    "PRAGMA cache_size = -512; PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY", err);
	if (!r)
		r = migrate(q, err);
	if (!r)
		reserve_log(q);
	if (!r)
		r = prepare(q, q->db, write_texts, q->statements, W_STATEMENTS, err);
	if (!r)
		r = pragma(q, "SELECT revision FROM state", revision, err);
	return r ? r : pragma(q, "SELECT floor FROM state", floor, err);
}

static const struct store_backend sqlite_backend = {
	.begin = sqlite_begin,
	.find = sqlite_find,
	.write = sqlite_write,
	.trim = sqlite_trim,
	.commit = sqlite_commit,
	.rollback = sqlite_rollback,
	.get = sqlite_get,
	.list = sqlite_list,
	.replay = sqlite_replay,
	.close = sqlite_close,
};

struct sqlite3 *store_sqlite_writer(struct store *s) {
	struct sqlite *q = s->state;

	return q->db;
}

int store_open_sqlite(const char *path, struct store **out, struct error *err) {
	struct sqlite *q = NEW(struct sqlite);
	int64_t revision, floor;
	int r;

	q->path = str_copy(path);
	q->lock_fd = -1;
	pthread_mutex_init(&q->lock, NULL);
	pthread_cond_init(&q->returned, NULL);
	r = open_writer(q, &revision, &floor, err);
	if (r) {
		sqlite_free(q);
		return r;
	}
	*out = store_new(&sqlite_backend, q, revision, floor, RECENT_BYTES);
	return 0;
}
