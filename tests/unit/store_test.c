/* One set of cases for both back ends of the store, and what SQLite alone has: disks, crashes, versions. */
#include "base/buf.h"
#include "base/fs.h"
#include "base/str.h"
#include "base/time.h"
#include "store/store-priv.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- every fdatasync and fsync of SQLite comes through here: counted, and held up where a test wants it ---- */

static atomic_int syncs, held;
static sem_t entered, release;

static void sync_seen(void) {
	atomic_fetch_add(&syncs, 1);
	if (atomic_exchange(&held, 0)) {
		sem_post(&entered);
		sem_wait(&release);
	}
}

__attribute__((visibility("default"))) int fdatasync(int fd) {
	sync_seen();
	return (int)syscall(SYS_fdatasync, fd);
}

__attribute__((visibility("default"))) int fsync(int fd) {
	sync_seen();
	return (int)syscall(SYS_fsync, fd);
}

/* ---- a store for each test ---- */

struct fixture {
	bool disk;
	char *dir, *path;
	struct store *store;
};

static struct store *open_or_fail(const char *path) {
	struct error err = ERROR_INIT;
	struct store *s = NULL;

	if (store_open_sqlite(path, &s, &err))
		fail_msg("%s", error_text(&err));
	return s;
}

static int setup(void **state, bool disk) {
	struct fixture *f = NEW(struct fixture);
	char dir[] = "/tmp/wabe-store-XXXXXX";

	f->disk = disk;
	if (disk) {
		assert_non_null(mkdtemp(dir));
		f->dir = str_copy(dir);
		f->path = str_format("%s/store.db", dir);
		f->store = open_or_fail(f->path);
	} else {
		assert_int_equal(store_open_memory(&f->store, NULL), 0);
	}
	*state = f;
	return 0;
}

static int setup_memory(void **state) {
	return setup(state, false);
}

static int setup_sqlite(void **state) {
	return setup(state, true);
}

static int teardown(void **state) {
	struct fixture *f = *state;

	store_close(f->store);
	if (f->dir) {
		umount2(f->dir, MNT_DETACH); /* where a test has mounted something and failed */
		fs_remove_tree(f->dir);
	}
	free(f->dir);
	free(f->path);
	free(f);
	return 0;
}

static void reopen(struct fixture *f) {
	if (!f->disk)
		return;
	store_close(f->store);
	f->store = open_or_fail(f->path);
}

static int64_t put(struct store *s, const char *key, const char *value) {
	struct error err = ERROR_INIT;
	int64_t revision = 0;

	if (store_put(s, key, value, STORE_ANY, &revision, &err))
		fail_msg("%s", error_text(&err));
	return revision;
}

static void assert_value(struct store *s, const char *key, const char *value) {
	struct error err = ERROR_INIT;
	struct store_item i;
	int r = store_get(s, key, &i, &err);

	if (value) {
		assert_int_equal(r, 0);
		assert_string_equal(i.value, value);
		store_item_free(&i);
	} else {
		assert_int_equal(r, -ERROR_NOT_FOUND);
	}
	error_free(&err);
}

#define assert_kind(call, wanted)                                                        \
	do {                                                                             \
		struct error err = ERROR_INIT;                                           \
		assert_int_equal((call), -(wanted));                                     \
		assert_int_equal(err.kind, (wanted));                                    \
		assert_non_null(err.message);                                            \
		error_free(&err);                                                        \
	} while (0)

/* ---- both back ends ---- */

static void test_put_get_delete(void **state) {
	struct fixture *f = *state;
	struct store *s = f->store;
	struct store_item i;

	assert_int_equal(store_revision(s), 0);
	assert_value(s, "a", NULL);
	assert_int_equal(put(s, "a", "1"), 1);
	assert_int_equal(put(s, "b", ""), 2);
	assert_int_equal(put(s, "a", "2"), 3);
	assert_int_equal(store_revision(s), 3);
	assert_int_equal(store_get(s, "a", &i, NULL), 0);
	assert_string_equal(i.key, "a");
	assert_string_equal(i.value, "2");
	assert_int_equal(i.created, 1);
	assert_int_equal(i.revision, 3);
	store_item_free(&i);
	assert_value(s, "b", "");
	assert_int_equal(store_delete(s, "a", STORE_ANY, NULL), 0);
	assert_value(s, "a", NULL);
	assert_int_equal(store_revision(s), 4);
	/* what is not there needs no delete, and no revision */
	assert_int_equal(store_delete(s, "a", STORE_ANY, NULL), 0);
	assert_int_equal(store_revision(s), 4);
	/* a key that comes again is a new one */
	assert_int_equal(put(s, "a", "3"), 5);
	assert_int_equal(store_get(s, "a", &i, NULL), 0);
	assert_int_equal(i.created, 5);
	store_item_free(&i);
	reopen(f);
	assert_value(f->store, "a", "3");
	assert_int_equal(store_revision(f->store), 5);
}

static void test_expectations(void **state) {
	struct fixture *f = *state;
	struct store *s = f->store;
	struct error err = ERROR_INIT;
	int64_t revision;

	assert_int_equal(store_put(s, "a", "1", STORE_ABSENT, &revision, NULL), 0);
	assert_kind(store_put(s, "a", "2", STORE_ABSENT, NULL, &err), ERROR_CONFLICT);
	assert_kind(store_put(s, "a", "2", revision + 1, NULL, &err), ERROR_CONFLICT);
	assert_kind(store_delete(s, "a", revision + 1, &err), ERROR_CONFLICT);
	assert_kind(store_delete(s, "b", 1, &err), ERROR_CONFLICT);
	assert_kind(store_put(s, "b", "x", 7, NULL, &err), ERROR_CONFLICT);
	assert_value(s, "a", "1");
	assert_int_equal(store_revision(s), revision);
	assert_int_equal(store_put(s, "a", "2", revision, &revision, NULL), 0);
	assert_int_equal(revision, 2);
	assert_int_equal(store_delete(s, "a", revision, NULL), 0);
	/* the message names the key */
	assert_int_equal(store_put(s, "instances/x", "1", 9, NULL, &err), -ERROR_CONFLICT);
	assert_non_null(strstr(err.message, "instances/x"));
	error_free(&err);
}

static void test_transactions(void **state) {
	struct fixture *f = *state;
	struct store *s = f->store;
	int64_t revision = 0;
	const struct store_op make[] = {
		{STORE_PUT, "i/1", "one", STORE_ABSENT},
		{STORE_PUT, "n/one", "1", STORE_ABSENT},
	};
	const struct store_op clash[] = {
		{STORE_PUT, "i/2", "two", STORE_ABSENT},
		{STORE_PUT, "n/one", "2", STORE_ABSENT},
	};
	const struct store_op rename[] = {
		{STORE_CHECK, "i/1", NULL, 1},
		{STORE_PUT, "i/1", "uno", STORE_ANY},
		{STORE_DELETE, "n/one", NULL, 1},
		{STORE_PUT, "n/uno", "1", STORE_ABSENT},
	};
	const struct store_op check[] = {{STORE_CHECK, "i/1", NULL, 2}, {STORE_CHECK, "i/2", NULL, STORE_ABSENT}};
	struct store_item i;

	assert_int_equal(store_txn(s, make, 2, &revision, NULL), 0);
	assert_int_equal(revision, 1);
	assert_kind(store_txn(s, clash, 2, NULL, &err), ERROR_CONFLICT);
	assert_value(s, "i/2", NULL);
	assert_value(s, "n/one", "1");
	assert_int_equal(store_txn(s, rename, 4, &revision, NULL), 0);
	assert_int_equal(revision, 2);
	assert_value(s, "n/one", NULL);
	assert_int_equal(store_get(s, "n/uno", &i, NULL), 0);
	assert_int_equal(i.revision, 2);
	store_item_free(&i);
	/* one that only checks takes no revision */
	assert_int_equal(store_txn(s, check, 2, &revision, NULL), 0);
	assert_int_equal(revision, 2);
	assert_kind(store_txn(s, rename, 4, NULL, &err), ERROR_CONFLICT);
}

static void test_invalid(void **state) {
	struct fixture *f = *state;
	struct store *s = f->store;
	_cleanup_(buf_free) struct buf key = BUF_INIT, value = BUF_INIT;
	const struct store_op twice[] = {{STORE_PUT, "a", "1", STORE_ANY}, {STORE_DELETE, "a", NULL, STORE_ANY}};
	struct store_op many[STORE_TXN_MAX + 1];
	struct store_item i;

	for (size_t n = 0; n < STORE_KEY_MAX; n++)
		buf_addc(&key, 'k');
	assert_int_equal(put(s, key.data, "x"), 1);
	assert_value(s, key.data, "x");
	buf_addc(&key, 'k');
	assert_kind(store_put(s, key.data, "x", STORE_ANY, NULL, &err), ERROR_INVALID);
	assert_kind(store_put(s, "", "x", STORE_ANY, NULL, &err), ERROR_INVALID);
	assert_kind(store_put(s, "a\nb", "x", STORE_ANY, NULL, &err), ERROR_INVALID);
	assert_kind(store_put(s, "a\x7f", "x", STORE_ANY, NULL, &err), ERROR_INVALID);
	assert_kind(store_put(s, "a", NULL, STORE_ANY, NULL, &err), ERROR_INVALID);
	assert_kind(store_put(s, "a", "x", -2, NULL, &err), ERROR_INVALID);
	assert_kind(store_get(s, "", &i, &err), ERROR_INVALID);
	for (size_t n = 0; n < STORE_VALUE_MAX; n++)
		buf_addc(&value, 'v');
	assert_int_equal(put(s, "big", value.data), 2);
	assert_value(s, "big", value.data);
	buf_addc(&value, 'v');
	assert_kind(store_put(s, "a", value.data, STORE_ANY, NULL, &err), ERROR_TOO_LARGE);
	assert_kind(store_txn(s, twice, 2, NULL, &err), ERROR_INVALID);
	assert_kind(store_txn(s, twice, 0, NULL, &err), ERROR_INVALID);
	for (size_t n = 0; n < ARRAY_SIZE(many); n++)
		many[n] = (struct store_op){STORE_PUT, str_format("m/%03zu", n), "x", STORE_ABSENT};
	assert_kind(store_txn(s, many, STORE_TXN_MAX + 1, NULL, &err), ERROR_INVALID);
	assert_int_equal(store_txn(s, many, STORE_TXN_MAX, NULL, NULL), 0);
	assert_int_equal(store_revision(s), 3);
	for (size_t n = 0; n < ARRAY_SIZE(many); n++)
		free((char *)many[n].key);
}

static void assert_list(struct store *s, const char *prefix, const char *keys) {
	_cleanup_(buf_free) struct buf b = BUF_INIT;
	struct store_items l;

	assert_int_equal(store_list(s, prefix, &l, NULL), 0);
	assert_int_equal(l.revision, store_revision(s));
	for (size_t i = 0; i < l.n; i++)
		buf_addf(&b, "%s ", l.items[i].key);
	assert_string_equal(buf_str(&b), keys);
	store_items_free(&l);
}

static void test_list(void **state) {
	struct fixture *f = *state;
	struct store *s = f->store;

	assert_list(s, "", "");
	put(s, "i/b", "2");
	put(s, "i/a", "1");
	put(s, "j", "3");
	put(s, "i", "0");
	put(s, "i/\xc3\xa4", "4");
	put(s, "i0", "5");
	put(s, "\xff\xff", "6");
	put(s, "\xff", "7");
	assert_list(s, "", "i i/a i/b i/\xc3\xa4 i0 j \xff \xff\xff ");
	assert_list(s, "i/", "i/a i/b i/\xc3\xa4 ");
	assert_list(s, "i/b", "i/b ");
	assert_list(s, "i/c", "");
	assert_list(s, "\xff", "\xff \xff\xff ");
	reopen(f);
	assert_list(f->store, "i/", "i/a i/b i/\xc3\xa4 ");
}

static void assert_next(struct store_watch *w, int64_t revision, const char *key, const char *value) {
	struct error err = ERROR_INIT;
	struct store_change c;
	int r = store_watch_next(w, 10 * NS_PER_SEC, &c, &err);

	if (r != 1)
		fail_msg("%d: %s", r, error_text(&err));
	assert_int_equal(c.revision, revision);
	assert_string_equal(c.key, key);
	if (value)
		assert_string_equal(c.value, value);
	else
		assert_null(c.value);
	store_change_free(&c);
}

static void assert_no_next(struct store_watch *w) {
	struct store_change c;

	assert_int_equal(store_watch_next(w, 0, &c, NULL), 0);
}

static bool readable(struct store_watch *w) {
	struct pollfd p = {.fd = store_watch_fd(w), .events = POLLIN};

	return poll(&p, 1, 0) == 1;
}

static void test_watch(void **state) {
	struct fixture *f = *state;
	struct store *s = f->store;
	struct store_watch *all, *some, *later;
	struct store_change c;
	const struct store_op both[] = {{STORE_PUT, "b/2", "y", STORE_ANY}, {STORE_PUT, "a/2", "x", STORE_ANY},
					{STORE_DELETE, "a/1", NULL, STORE_ANY}};

	assert_int_equal(store_watch(s, "", 1, &all, NULL), 0);
	put(s, "a/1", "one");
	put(s, "b/1", "two");
	assert_int_equal(store_watch(s, "a/", 0, &some, NULL), 0);
	assert_int_equal(store_watch(s, "a/", store_revision(s) + 1, &later, NULL), 0);
	assert_true(readable(all) && readable(some));
	assert_false(readable(later));
	assert_int_equal(store_txn(s, both, 3, NULL, NULL), 0);
	assert_true(readable(later));
	assert_next(all, 1, "a/1", "one");
	assert_next(all, 2, "b/1", "two");
	assert_next(all, 3, "b/2", "y");
	assert_true(readable(all));
	assert_next(all, 3, "a/2", "x");
	assert_next(all, 3, "a/1", NULL);
	assert_no_next(all);
	assert_false(readable(all));
	assert_next(some, 1, "a/1", "one");
	assert_next(some, 3, "a/2", "x");
	assert_next(some, 3, "a/1", NULL);
	assert_next(later, 3, "a/2", "x");
	assert_next(later, 3, "a/1", NULL);
	assert_no_next(later);
	put(s, "b/1", "three");
	assert_false(readable(later));
	assert_int_equal(store_watch_next(later, NS_PER_MS, &c, NULL), 0);
	assert_kind(store_watch(s, "", store_revision(s) + 2, &(struct store_watch *){NULL}, &err), ERROR_CONFLICT);
	store_watch_close(some);
	put(s, "a/9", "nine");
	assert_next(later, 5, "a/9", "nine");
	assert_next(all, 4, "b/1", "three");
	store_watch_close(all); /* with one waiting */
	store_watch_close(later);
}

static void test_watch_replay(void **state) {
	struct fixture *f = *state;
	struct store_watch *w;

	for (int i = 1; i <= 300; i++) {
		_cleanup_(free_ptr) char *value = str_format("%d", i);
		put(f->store, i % 3 ? "x" : "y", value);
	}
	reopen(f);
	put(f->store, "y", "301");
	assert_int_equal(store_watch(f->store, "y", 10, &w, NULL), 0);
	for (int i = 12; i <= 300; i += 3) {
		_cleanup_(free_ptr) char *value = str_format("%d", i);
		assert_next(w, i, "y", value);
	}
	assert_next(w, 301, "y", "301");
	assert_no_next(w);
	put(f->store, "y", "302");
	assert_next(w, 302, "y", "302");
	store_watch_close(w);
}

static void test_compaction(void **state) {
	struct fixture *f = *state;
	struct store_watch *slow, *idle, *w;
	struct store_change c;

	assert_int_equal(store_watch(f->store, "", 1, &slow, NULL), 0);
	assert_int_equal(store_watch(f->store, "nothing/", 1, &idle, NULL), 0);
	for (int i = 0; i < 1000; i++)
		put(f->store, "k", "v");
	assert_int_equal(store_compact(f->store, 10, NULL), 0);
	assert_kind(store_watch(f->store, "", 990, &w, &err), ERROR_CONFLICT);
	assert_kind(store_watch_next(slow, 0, &c, &err), ERROR_CONFLICT);
	assert_int_equal(store_watch(f->store, "", 991, &w, NULL), 0);
	assert_next(w, 991, "k", "v");
	store_watch_close(w);
	/* one that no change concerned has lost nothing */
	assert_no_next(idle);
	put(f->store, "nothing/1", "x");
	assert_int_equal(store_compact(f->store, 1, NULL), 0);
	assert_next(idle, 1001, "nothing/1", "x");
	assert_int_equal(store_compact(f->store, 0, NULL), 0);
	assert_int_equal(store_compact(f->store, 0, NULL), 0);
	store_watch_close(slow);
	store_watch_close(idle);
	assert_kind(store_compact(f->store, -1, &err), ERROR_INVALID);
	reopen(f);
	assert_kind(store_watch(f->store, "", 1000, &w, &err), ERROR_CONFLICT);
	assert_int_equal(store_watch(f->store, "", 1002, &w, NULL), 0);
	assert_no_next(w);
	store_watch_close(w);
	assert_value(f->store, "k", "v");
	assert_int_equal(put(f->store, "k", "w"), 1002);
}

/* ---- threads ---- */

#define THREADS 8
#define ROUNDS 100

struct worker {
	pthread_t thread;
	struct store *store;
	int number;
	int failures;
};

/* Counts up one shared number by compare and swap, and writes keys of its own. */
static void *count_up(void *arg) {
	struct worker *w = arg;

	for (int i = 0; i < ROUNDS;) {
		_cleanup_(free_ptr) char *own = str_format("own/%d", w->number), *value = NULL;
		struct store_item item;
		struct store_op ops[2];
		uint64_t n = 0;
		int r = store_get(w->store, "sum", &item, NULL);

		if (r || str_to_u64(item.value, 10, &n)) {
			w->failures++;
			return NULL;
		}
		value = str_format("%llu", (unsigned long long)n + 1);
		ops[0] = (struct store_op){STORE_PUT, "sum", value, item.revision};
		ops[1] = (struct store_op){STORE_PUT, own, value, STORE_ANY};
		store_item_free(&item);
		r = store_txn(w->store, ops, 2, NULL, NULL);
		if (!r)
			i++;
		else if (r != -ERROR_CONFLICT)
			w->failures++;
	}
	return NULL;
}

/* Sees every value of the sum, in order. */
static void *follow(void *arg) {
	struct worker *w = arg;
	struct store_watch *watch;
	struct store_change c;
	int64_t seen = 0;

	if (store_watch(w->store, "sum", 1, &watch, NULL)) {
		w->failures++;
		return NULL;
	}
	while (seen < THREADS * ROUNDS && store_watch_next(watch, 60 * NS_PER_SEC, &c, NULL) == 1) {
		_cleanup_(free_ptr) char *wanted = str_format("%lld", (long long)seen);
		if (strcmp(c.value, "0") && strcmp(c.value, wanted))
			w->failures++;
		store_change_free(&c);
		seen++;
	}
	w->failures += seen != THREADS * ROUNDS;
	store_watch_close(watch);
	return NULL;
}

static void test_threads(void **state) {
	struct fixture *f = *state;
	struct worker writers[THREADS], followers[2];
	_cleanup_(free_ptr) char *wanted = str_format("%d", THREADS * ROUNDS);

	put(f->store, "sum", "0");
	for (int i = 0; i < 2; i++) {
		followers[i] = (struct worker){.store = f->store};
		pthread_create(&followers[i].thread, NULL, follow, &followers[i]);
	}
	for (int i = 0; i < THREADS; i++) {
		writers[i] = (struct worker){.store = f->store, .number = i};
		pthread_create(&writers[i].thread, NULL, count_up, &writers[i]);
	}
	for (int i = 0; i < THREADS; i++) {
		pthread_join(writers[i].thread, NULL);
		assert_int_equal(writers[i].failures, 0);
	}
	for (int i = 0; i < 2; i++) {
		pthread_join(followers[i].thread, NULL);
		assert_int_equal(followers[i].failures, 0);
	}
	assert_value(f->store, "sum", wanted);
	assert_int_equal(store_revision(f->store), THREADS * ROUNDS + 1);
}

/* ---- SQLite alone ---- */

static void *put_one(void *arg) {
	struct worker *w = arg;
	_cleanup_(free_ptr) char *key = str_format("group/%d", w->number);

	w->failures = store_put(w->store, key, "x", STORE_ABSENT, NULL, NULL);
	return NULL;
}

static void test_group_commit(void **state) {
	struct fixture *f = *state;
	struct worker workers[THREADS + 1];
	uint64_t commits;
	int before;

	put(f->store, "first", "x"); /* the log exists now */
	commits = store_commits(f->store);
	before = atomic_load(&syncs);
	atomic_store(&held, 1);
	for (int i = 0; i <= THREADS; i++) {
		workers[i] = (struct worker){.store = f->store, .number = i};
		pthread_create(&workers[i].thread, NULL, put_one, &workers[i]);
		if (i == 0)
			sem_wait(&entered); /* the first one is inside its fsync */
	}
	while (store_queued(f->store) < THREADS)
		sched_yield();
	/* nothing that isn't on disk is seen; and no reader waits */
	assert_value(f->store, "group/0", NULL);
	assert_list(f->store, "group/", "");
	sem_post(&release);
	for (int i = 0; i <= THREADS; i++) {
		pthread_join(workers[i].thread, NULL);
		assert_int_equal(workers[i].failures, 0);
	}
	assert_int_equal(store_commits(f->store) - commits, 2);
	assert_int_equal(atomic_load(&syncs) - before, 2);
	print_message("# %d writes, %d syncs\n", THREADS + 1, atomic_load(&syncs) - before);
	put(f->store, "last", "x");
	assert_int_equal(atomic_load(&syncs) - before, 3);
}

static uint64_t disk_size(const char *path) {
	_cleanup_(free_ptr) char *wal = str_format("%s-wal", path);
	struct stat st;
	uint64_t size = stat(path, &st) ? 0 : (uint64_t)st.st_size;

	return stat(wal, &st) ? size : size + (uint64_t)st.st_size;
}

/* Kept short unless WABE_TEST_LONG asks for a million. */
static void test_growth(void **state) {
	struct fixture *f = *state;
	const char *longer = getenv("WABE_TEST_LONG");
	int n = longer && *longer ? 1000000 : 60000;
	uint64_t middle = 0, end;
	char value[400];

	memset(value, 'x', sizeof(value) - 1);
	value[sizeof(value) - 1] = 0;
	sqlite3_exec(store_sqlite_writer(f->store), "PRAGMA synchronous = OFF", NULL, NULL, NULL);
	int64_t began = time_mono_ns();
	for (int i = 0; i < n; i++) {
		if (i == n / 2)
			middle = disk_size(f->path);
		put(f->store, "instances/default/one", value);
	}
	end = disk_size(f->path);
	print_message("# after %d updates of one object, %.0f a second: %llu bytes at half time, %llu at the end\n", n,
		      n / ((double)(time_mono_ns() - began) / NS_PER_SEC), (unsigned long long)middle,
		      (unsigned long long)end);
	assert_true(end < 16 << 20);
	assert_true(end < middle + middle / 4);
	assert_int_equal(store_compact(f->store, 10, NULL), 0);
	for (int i = 0; i < 1000; i++)
		put(f->store, "instances/default/one", value);
	print_message("# after compaction: %llu bytes\n", (unsigned long long)disk_size(f->path));
	assert_true(disk_size(f->path) < middle);
}

struct acknowledged {
	int thread, n;
};

struct child_writer {
	struct store *store;
	int thread, pipe;
};

static void *write_and_report(void *arg) {
	struct child_writer *w = arg;

	for (int i = 1;; i++) {
		_cleanup_(free_ptr) char *key = str_format("k/%d", w->thread), *value = str_format("%d", i);
		struct acknowledged a = {w->thread, i};

		if (store_put(w->store, key, value, STORE_ANY, NULL, NULL))
			_exit(1);
		if (write(w->pipe, &a, sizeof(a)) != sizeof(a))
			_exit(1);
	}
}

static void child_run(const char *path, int pipe) {
	struct child_writer writers[4];
	pthread_t thread;
	struct store *s;

	if (store_open_sqlite(path, &s, NULL))
		_exit(2);
	for (int i = 0; i < 4; i++) {
		writers[i] = (struct child_writer){s, i, pipe};
		pthread_create(&thread, NULL, write_and_report, &writers[i]);
	}
	for (;;)
		pause();
}

static void kill_round(struct fixture *f, int acks) {
	int last[4] = {0}, fds[2], status, seen = 0;
	struct acknowledged a;
	pid_t pid;

	store_close(TAKE_PTR(f->store));
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	pid = fork();
	if (!pid)
		child_run(f->path, fds[1]);
	close(fds[1]);
	while (read(fds[0], &a, sizeof(a)) == sizeof(a)) {
		assert_in_range(a.thread, 0, 3);
		last[a.thread] = a.n;
		if (++seen == acks)
			kill(pid, SIGKILL);
	}
	close(fds[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	f->store = open_or_fail(f->path);
	for (int t = 0; t < 4; t++) {
		_cleanup_(free_ptr) char *key = str_format("k/%d", t);
		struct store_item i;
		uint64_t n = 0;

		if (!last[t])
			continue;
		assert_int_equal(store_get(f->store, key, &i, NULL), 0);
		assert_int_equal(str_to_u64(i.value, 10, &n), 0);
		/* the one on its way may have come through unacknowledged */
		assert_in_range(n, (uint64_t)last[t], (uint64_t)last[t] + 1);
		store_item_free(&i);
		assert_int_equal(store_delete(f->store, key, STORE_ANY, NULL), 0);
	}
}

static void test_kill(void **state) {
	for (int i = 0; i < 10; i++)
		kill_round(*state, 20 + 37 * i);
}

static void test_full_disk(void **state) {
	struct fixture *f = *state;
	_cleanup_(free_ptr) char *path = str_format("%s/small.db", f->dir);
	_cleanup_(buf_free) struct buf value = BUF_INIT;
	struct error err = ERROR_INIT;
	struct store *s;
	int r = 0, n = 0;

	if (mount("wabe-store-test", f->dir, "tmpfs", 0, "size=2m")) {
		print_message("# may not mount: %s\n", strerror(errno));
		skip();
	}
	s = open_or_fail(path);
	for (int i = 0; i < 32 << 10; i++)
		buf_addc(&value, 'v');
	put(s, "before", "x");
	while (!r && n < 1000) {
		_cleanup_(free_ptr) char *key = str_format("fill/%04d", n);
		r = store_put(s, key, value.data, STORE_ANY, NULL, &err);
		n += !r;
	}
	assert_int_equal(r, -ERROR_NO_SPACE);
	print_message("# %d writes, then: %s\n", n, error_text(&err));
	error_free(&err);
	/* reading goes on; so does writing, once there is room; and all that was acknowledged is there */
	assert_value(s, "before", "x");
	assert_int_equal(mount(NULL, f->dir, NULL, MS_REMOUNT, "size=32m"), 0);
	put(s, "after", "x");
	store_close(s);
	s = open_or_fail(path);
	assert_value(s, "after", "x");
	for (int i = 0; i < n; i++) {
		_cleanup_(free_ptr) char *key = str_format("fill/%04d", i);
		assert_value(s, key, value.data);
	}
	store_close(s);
	assert_int_equal(umount2(f->dir, 0), 0);
}

static void test_damaged(void **state) {
	struct fixture *f = *state;
	struct error err = ERROR_INIT;
	char junk[4096];
	struct store *s;

	store_close(TAKE_PTR(f->store));
	memset(junk, 0x5a, sizeof(junk));
	assert_int_equal(fs_replace(f->path, junk, sizeof(junk), 0600), 0);
	assert_int_equal(store_open_sqlite(f->path, &s, &err), -ERROR_CORRUPT);
	assert_non_null(strstr(err.message, f->path));
	assert_non_null(strstr(err.message, "backup"));
	print_message("# %s\n", err.message);
	error_free(&err);
}

/* Pages inside the file are overwritten; the header is whole. */
static void test_damaged_inside(void **state) {
	struct fixture *f = *state;
	_cleanup_(buf_free) struct buf file = BUF_INIT;
	struct error err = ERROR_INIT;
	struct store_items l;
	int r;

	for (int i = 0; i < 500; i++) {
		_cleanup_(free_ptr) char *key = str_format("k/%04d", i);
		put(f->store, key, "some text that fills the page a little");
	}
	store_close(TAKE_PTR(f->store));
	assert_int_equal(fs_read(f->path, 64 << 20, &file), 0);
	assert_true(file.len > 8 * 4096);
	memset(file.data + 4096, 0xee, file.len - 4096);
	assert_int_equal(fs_replace(f->path, file.data, file.len, 0600), 0);
	r = store_open_sqlite(f->path, &f->store, &err);
	if (!r)
		r = store_list(f->store, "", &l, &err);
	assert_int_equal(r, -ERROR_CORRUPT);
	error_free(&err);
}

static void damage_with(struct fixture *f, const char *sql) {
	sqlite3 *db;

	store_close(TAKE_PTR(f->store));
	assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
}

static void test_versions(void **state) {
	struct fixture *f = *state;
	struct store *s;

	put(f->store, "a", "x");
	damage_with(f, "PRAGMA user_version = 99");
	assert_kind(store_open_sqlite(f->path, &s, &err), ERROR_UNSUPPORTED);
	damage_with(f, "PRAGMA user_version = 1; PRAGMA application_id = 5");
	assert_kind(store_open_sqlite(f->path, &s, &err), ERROR_CORRUPT);
	damage_with(f, "PRAGMA application_id = 0x77616265");
	s = open_or_fail(f->path);
	assert_value(s, "a", "x");
	/* one process at a time */
	assert_kind(store_open_sqlite(f->path, &f->store, &err), ERROR_BUSY);
	store_close(s);
	assert_kind(store_open_sqlite("/proc/nowhere/store.db", &s, &err), ERROR_NOT_FOUND);
}

#define BOTH(test)                                                                              \
	{"memory: " #test, test, setup_memory, teardown, NULL}, {                               \
		"sqlite: " #test, test, setup_sqlite, teardown, NULL                            \
	}
#define SQLITE(test) \
	{ "sqlite: " #test, test, setup_sqlite, teardown, NULL }

/* An argument: only the tests of that name, which may hold * and ?. */
int main(int argc, char **argv) {
	const struct CMUnitTest tests[] = {
		BOTH(test_put_get_delete), BOTH(test_expectations), BOTH(test_transactions), BOTH(test_invalid),
		BOTH(test_list),           BOTH(test_watch),        BOTH(test_watch_replay), BOTH(test_compaction),
		BOTH(test_threads),        SQLITE(test_group_commit), SQLITE(test_growth),   SQLITE(test_kill),
		SQLITE(test_full_disk),    SQLITE(test_damaged),    SQLITE(test_damaged_inside), SQLITE(test_versions),
	};

	sem_init(&entered, 0, 0);
	sem_init(&release, 0, 0);
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
