/* The content store: whole or not at all, resumed, shared between threads, collected. */
#include "base/fs.h"
#include "base/str.h"
#include "image/content.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define HELLO "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"

struct place {
	char dir[64];
	struct content *c;
};

static void reopen(struct place *p) {
	struct error err = ERROR_INIT;
	content_close(p->c);
	assert_int_equal(content_open(p->dir, &p->c, &err), 0);
}

static int begin(void **state) {
	struct place *p = NEW(struct place);
	strcpy(p->dir, "/tmp/wabe-content-XXXXXX");
	if (!mkdtemp(p->dir) || rmdir(p->dir) < 0)
		return -1;
	reopen(p);
	*state = p;
	return 0;
}

static int end(void **state) {
	struct place *p = *state;
	content_close(p->c);
	int r = fs_remove_tree(p->dir);
	free(p);
	return r;
}

static bool exists(const struct place *p, const char *fmt, const char *name) {
	_cleanup_(free_ptr) char *rest = str_format(fmt, name);
	_cleanup_(free_ptr) char *path = str_format("%s/%s", p->dir, rest);
	return fs_exists(path);
}

static void test_put_and_read(void **state) {
	struct place *p = *state;
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(free_ptr) char *digest = NULL;
	assert_int_equal(content_put(p->c, "hello", 5, &digest, &err), 0);
	assert_string_equal(digest, HELLO);
	assert_int_equal(content_put(p->c, "hello", 5, NULL, &err), 0);
	assert_true(content_has(p->c, HELLO));
	reopen(p);
	_cleanup_(buf_free) struct buf b = BUF_INIT;
	assert_int_equal(content_read(p->c, HELLO, &b, &err), 0);
	assert_string_equal(buf_str(&b), "hello");
	uint64_t size;
	_cleanup_(close_fd) int fd = content_blob(p->c, HELLO, &size, &err);
	assert_true(fd >= 0);
	assert_int_equal(size, 5);
	struct stat st;
	assert_int_equal(stat(p->dir, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	struct content *second;
	assert_int_equal(content_open(p->dir, &second, &err), -ERROR_BUSY);
}

static void test_bad_digests(void **state) {
	struct place *p = *state;
	_cleanup_(error_free) struct error err = ERROR_INIT;
	static const char *const bad[] = {
		"",	 "sha256:", "sha256:../../../etc/passwd",
		"hello", HELLO "0", "sha256:2CF24DBA5FB0A30E26E83B2AC5B9E29E1B161E5C1FA7425E73043362938B9824"};
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_false(content_has(p->c, bad[i]));
		assert_int_equal(content_blob(p->c, bad[i], NULL, &err), -ERROR_INVALID);
	}
	assert_int_equal(content_blob(p->c, "sha512:00", NULL, &err), -ERROR_UNSUPPORTED);
	assert_int_equal(content_blob(p->c, HELLO, NULL, &err), -ERROR_NOT_FOUND);
}

static void test_resume(void **state) {
	struct place *p = *state;
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct ingest *i;
	assert_int_equal(content_ingest(p->c, HELLO, &i, &err), 0);
	assert_int_equal(ingest_write(i, "hel", 3, &err), 0);
	assert_false(content_has(p->c, HELLO));
	ingest_abort(i);
	reopen(p);
	assert_int_equal(content_ingest(p->c, HELLO, &i, &err), 0);
	assert_int_equal(ingest_offset(i), 3);
	assert_int_equal(ingest_write(i, "lo", 2, &err), 0);
	_cleanup_(free_ptr) char *digest = NULL;
	assert_int_equal(ingest_commit(i, &digest, &err), 0);
	assert_string_equal(digest, HELLO);
	assert_true(content_has(p->c, HELLO));
	assert_false(exists(p, "ingest/%s", HELLO + 7));
	assert_int_equal(content_ingest(p->c, HELLO, &i, &err), 0);
	assert_null(i);
}

static void test_restart(void **state) {
	struct place *p = *state;
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct ingest *i;
	assert_int_equal(content_ingest(p->c, HELLO, &i, &err), 0);
	assert_int_equal(ingest_write(i, "wrong and longer", 16, &err), 0);
	ingest_restart(i);
	assert_int_equal(ingest_offset(i), 0);
	assert_int_equal(ingest_write(i, "hello", 5, &err), 0);
	assert_int_equal(ingest_commit(i, NULL, &err), 0);
}

static void test_corrupt(void **state) {
	struct place *p = *state;
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct ingest *i;
	assert_int_equal(content_ingest(p->c, HELLO, &i, &err), 0);
	assert_int_equal(ingest_write(i, "jello", 5, &err), 0);
	assert_int_equal(ingest_commit(i, NULL, &err), -ERROR_CORRUPT);
	assert_false(content_has(p->c, HELLO));
	assert_false(exists(p, "ingest/%s", HELLO + 7));
	/* broken on disk: reading says so and makes room for a new one */
	assert_int_equal(content_put(p->c, "hello", 5, NULL, &err), 0);
	_cleanup_(free_ptr) char *path = str_format("%s/blobs/sha256/%s", p->dir, HELLO + 7);
	assert_int_equal(fs_replace(path, "jello", 5, 0600), 0);
	_cleanup_(buf_free) struct buf b = BUF_INIT;
	assert_int_equal(content_read(p->c, HELLO, &b, &err), -ERROR_CORRUPT);
	assert_false(content_has(p->c, HELLO));
}

static void test_unknown_digest(void **state) {
	struct place *p = *state;
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct ingest *i;
	_cleanup_(free_ptr) char *digest = NULL;
	assert_int_equal(content_ingest(p->c, NULL, &i, &err), 0);
	assert_int_equal(ingest_write(i, "hello", 5, &err), 0);
	assert_int_equal(ingest_commit(i, &digest, &err), 0);
	assert_string_equal(digest, HELLO);
	/* what is left of one by a crash goes at the next start */
	_cleanup_(free_ptr) char *left = str_format("%s/ingest/tmp-left", p->dir);
	assert_int_equal(fs_replace(left, "x", 1, 0600), 0);
	reopen(p);
	assert_false(fs_exists(left));
}

static void test_no_space(void **state) {
	struct place *p = *state;
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct rlimit old, small;
	struct ingest *i;
	static char block[8192];
	assert_int_equal(content_ingest(p->c, HELLO, &i, &err), 0);
	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &old);
	small = old;
	small.rlim_cur = 4096;
	setrlimit(RLIMIT_FSIZE, &small);
	int r = ingest_write(i, block, sizeof block, &err);
	ingest_abort(i);
	setrlimit(RLIMIT_FSIZE, &old);
	assert_true(r < 0);
	assert_false(content_has(p->c, HELLO));
	assert_false(exists(p, "ingest/%s", HELLO + 7));
}

#define THREADS 8

struct contest {
	struct content *c;
	const volatile bool *cancel;
	int wrote, r;
	struct ingest *got;
};

static void *compete(void *arg) {
	struct contest *t = arg;
	struct ingest *i;
	t->r = content_ingest(t->c, HELLO, &i, NULL);
	if (t->r < 0 || !i)
		return NULL;
	t->wrote = 1;
	ingest_restart(i);
	for (const char *s = "hello"; *s; s++)
		ingest_write(i, s, 1, NULL);
	t->r = ingest_commit(i, NULL, NULL);
	return NULL;
}

static void test_threads(void **state) {
	struct place *p = *state;
	struct contest contests[THREADS] = {0};
	pthread_t threads[THREADS];
	for (size_t k = 0; k < THREADS; k++) {
		contests[k].c = p->c;
		assert_int_equal(pthread_create(&threads[k], NULL, compete, &contests[k]), 0);
	}
	int wrote = 0;
	for (size_t k = 0; k < THREADS; k++) {
		pthread_join(threads[k], NULL);
		assert_int_equal(contests[k].r, 0);
		wrote += contests[k].wrote;
	}
	assert_int_equal(wrote, 1);
	assert_true(content_has(p->c, HELLO));
}

static void *wait_for_it(void *arg) {
	struct contest *t = arg;
	t->r = content_ingest_until(t->c, HELLO, t->cancel, &t->got, NULL);
	return NULL;
}

static void test_waiting(void **state) {
	struct place *p = *state;
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct ingest *first;
	volatile bool cancel = false;
	struct contest t = {.c = p->c, .cancel = &cancel};
	pthread_t thread;
	assert_int_equal(content_ingest(p->c, HELLO, &first, &err), 0);
	assert_int_equal(ingest_write(first, "he", 2, &err), 0);
	assert_int_equal(pthread_create(&thread, NULL, wait_for_it, &t), 0);
	__atomic_store_n(&cancel, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	assert_int_equal(t.r, -ERROR_CANCELLED);
	/* one that waits goes on where the first one gave up */
	cancel = false;
	assert_int_equal(pthread_create(&thread, NULL, wait_for_it, &t), 0);
	ingest_abort(first);
	pthread_join(thread, NULL);
	assert_int_equal(t.r, 0);
	assert_int_equal(ingest_offset(t.got), 2);
	ingest_abort(t.got);
}

struct keeper {
	struct content *c;
	const char *keep;
	char *late; /* ingested while the collection runs */
};

static bool keep(const char *digest, void *arg) {
	struct keeper *k = arg;
	if (!k->late)
		assert_int_equal(content_put(k->c, "late", 4, &k->late, NULL), 0);
	return strcmp(digest, k->keep) == 0;
}

static void test_collect(void **state) {
	struct place *p = *state;
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(free_ptr) char *dropped = NULL, *held = NULL;
	assert_int_equal(content_put(p->c, "hello", 5, NULL, &err), 0);
	assert_int_equal(content_put(p->c, "dropped", 7, &dropped, &err), 0);
	assert_int_equal(content_put(p->c, "held", 4, &held, &err), 0);
	struct ingest *i;
	char old_partial[] = "sha256:0000000000000000000000000000000000000000000000000000000000000000";
	assert_int_equal(content_ingest(p->c, old_partial, &i, &err), 0);
	assert_int_equal(ingest_write(i, "old", 3, &err), 0);
	ingest_abort(i);
	_cleanup_(free_ptr) char *partial = str_format("%s/ingest/%s", p->dir, old_partial + 7);
	struct timespec ancient[2] = {{1, 0}, {1, 0}};
	assert_int_equal(utimensat(AT_FDCWD, partial, ancient, 0), 0);
	struct keeper k = {.c = p->c, .keep = HELLO};
	uint64_t freed;
	content_hold(p->c);
	assert_true(content_has(p->c, held));
	assert_int_equal(content_collect(p->c, keep, &k, &freed, &err), 0);
	content_release(p->c);
	assert_int_equal(freed, 7 + 3);
	assert_true(content_has(p->c, HELLO));
	assert_true(content_has(p->c, k.late));
	assert_true(content_has(p->c, held));
	assert_false(content_has(p->c, dropped));
	assert_false(fs_exists(partial));
	assert_int_equal(content_collect(p->c, keep, &k, &freed, &err), 0);
	assert_int_equal(freed, 4 + 4);
	free(k.late);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_put_and_read, begin, end),
		cmocka_unit_test_setup_teardown(test_bad_digests, begin, end),
		cmocka_unit_test_setup_teardown(test_resume, begin, end),
		cmocka_unit_test_setup_teardown(test_restart, begin, end),
		cmocka_unit_test_setup_teardown(test_corrupt, begin, end),
		cmocka_unit_test_setup_teardown(test_unknown_digest, begin, end),
		cmocka_unit_test_setup_teardown(test_no_space, begin, end),
		cmocka_unit_test_setup_teardown(test_threads, begin, end),
		cmocka_unit_test_setup_teardown(test_waiting, begin, end),
		cmocka_unit_test_setup_teardown(test_collect, begin, end),
	};
	return cmocka_run_group_tests_name("content", tests, NULL, NULL);
}
