/* base: buffers, strings, maps, times, errors, files, programs. */
#include "base/buf.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/loop.h"
#include "base/map.h"
#include "base/proc.h"
#include "base/str.h"
#include "base/time.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* As jansson lays it out, from compact text and from its own. */
static void test_json_text_indent(UNUSED void **state) {
	static const char *const values[] = {
		"[]", "{}", "\"\"", "-1.5", "null", "[1]", "[[],{},[{}],\"a]\\\\\",true]", "{\"a\":{\"b\":[1,2,{\"c\":\"\\\"},x\"}]},\"d\":false}",
		"[[[[[[[[[[[[[[[[[[[[1],2]]]]]]]]]]]]]]]]]],\"\"]",
	};
	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		_cleanup_(json_free_ptr) json_t *value = json_loads(values[i], JSON_DECODE_ANY, NULL);
		_cleanup_(free_ptr) char *expected = json_dumps(value, JSON_INDENT(2) | JSON_ENCODE_ANY);
		_cleanup_(buf_free) struct buf once = BUF_INIT, twice = BUF_INIT;
		json_text_indent(str_view(values[i]), &once);
		assert_string_equal(buf_str(&once), expected);
		json_text_indent(str_view(expected), &twice);
		assert_string_equal(buf_str(&twice), expected);
	}
}

static void test_json_text_member(UNUSED void **state) {
	static const char text[] = " {\"x\" : \"a\\\"}\" , \"list\":[1,{\"list\":2}] ,\"n\":12}";
	struct str value;
	assert_true(json_text_member(str_view(text), "x", &value) && str_is(value, "\"a\\\"}\""));
	assert_true(json_text_member(str_view(text), "list", &value) && str_is(value, "[1,{\"list\":2}]"));
	assert_true(json_text_member(str_view(text), "n", &value) && str_is(value, "12"));
	assert_false(json_text_member(str_view(text), "y", &value));
	/* cut off anywhere, nothing behind the end is read */
	for (size_t n = 0; n < sizeof text; n++) {
		_cleanup_(free_ptr) char *cut = malloc(n ? n : 1);
		_cleanup_(buf_free) struct buf out = BUF_INIT;
		memcpy(cut, text, n);
		json_text_member((struct str){cut, n}, "n", &value);
		json_text_indent((struct str){cut, n}, &out);
	}
}

static void test_buf(UNUSED void **state) {
	_cleanup_(buf_free) struct buf b = BUF_INIT_MAX(300);
	assert_string_equal(buf_str(&b), "");
	buf_addf(&b, "%d-%s", 42, "x");
	buf_addc(&b, '!');
	assert_string_equal(buf_str(&b), "42-x!");
	buf_consume(&b, 3);
	assert_string_equal(buf_str(&b), "x!");
	for (int i = 0; i < 298; i++)
		buf_addc(&b, 'a');
	assert_false(buf_overflowed(&b));
	buf_addc(&b, 'b');
	assert_true(buf_overflowed(&b));
	assert_int_equal(b.len, 300);
	_cleanup_(buf_free) struct buf big = BUF_INIT;
	buf_addf(&big, "%0500d", 7);
	assert_int_equal(big.len, 500);
}

static void test_sizes(UNUSED void **state) {
	static const struct {
		const char *text;
		int64_t value; /* negative: the error */
	} rows[] = {
		{"0", 0},         {"64", 64},           {"512k", 524288},     {"1.5g", 1610612736},
		{"10MiB", 10485760}, {"10MB", 10485760}, {"1b", 1},           {"", -EINVAL},
		{"-1", -EINVAL},  {"1x", -EINVAL},      {"1mm", -EINVAL},     {"k", -EINVAL},
		{"99999999999t", -ERANGE}, {"9223372036854775807", INT64_MAX}, {" 1", -EINVAL},
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		int64_t v = -1;
		int r = str_to_size(rows[i].text, &v);
		assert_int_equal(rows[i].value < 0 ? r : v, rows[i].value);
	}
	char *s = size_to_str(512 << 20);
	assert_string_equal(s, "512MiB");
	free(s);
}

static void test_durations(UNUSED void **state) {
	static const struct {
		const char *text;
		int64_t value;
	} rows[] = {
		{"90", 90 * NS_PER_SEC}, {"1.5s", 1500 * NS_PER_MS}, {"300ms", 300 * NS_PER_MS}, {"1h30m", 5400 * NS_PER_SEC},
		{"2d", 172800 * NS_PER_SEC}, {"", -EINVAL}, {"5x", -EINVAL}, {"1m30", -EINVAL}, {"-1s", -EINVAL}, {"0", 0},
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		int64_t v = -1;
		int r = str_to_duration(rows[i].text, &v);
		assert_int_equal(rows[i].value < 0 ? r : v, rows[i].value);
	}
	static const char *const texts[] = {"0s", "1h30m", "1s500ms", "1m1s", "1us", "2d"};
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		int64_t v;
		assert_int_equal(str_to_duration(texts[i], &v), 0);
		char *s = duration_to_str(v);
		assert_string_equal(s, texts[i]);
		free(s);
	}
}

static void test_numbers(UNUSED void **state) {
	int64_t i;
	uint64_t u;
	assert_int_equal(str_to_i64("-9223372036854775808", &i), 0);
	assert_true(i == INT64_MIN);
	assert_int_equal(str_to_i64("9223372036854775808", &i), -ERANGE);
	assert_int_equal(str_to_i64("1 ", &i), -EINVAL);
	assert_int_equal(str_to_i64("--1", &i), -EINVAL);
	assert_int_equal(str_to_u64("-1", 10, &u), -EINVAL);
	assert_int_equal(str_to_u64("0x1f", 0, &u), 0);
	assert_int_equal(u, 31);
}

static void test_vectors(UNUSED void **state) {
	char **v = NULL;
	strv_env_set(&v, "A=1");
	strv_env_set(&v, "B=2");
	strv_env_set(&v, "A=3");
	assert_int_equal(strv_len(v), 2);
	assert_string_equal(strv_env_get(v, "A"), "3");
	assert_null(strv_env_get(v, "C"));
	char *joined = strv_join(v, ",");
	assert_string_equal(joined, "A=3,B=2");
	char **again = strv_split(joined, ',');
	assert_true(strv_same(v, again));
	free(joined);
	strv_free(v);
	strv_free(again);
}

static void test_map(UNUSED void **state) {
	struct map *m = map_new(free);
	for (int i = 0; i < 1000; i++) {
		char key[16];
		snprintf(key, sizeof key, "k%d", i);
		map_set(m, key, str_copy(key));
	}
	for (int i = 0; i < 1000; i += 2) {
		char key[16];
		snprintf(key, sizeof key, "k%d", i);
		assert_true(map_remove(m, key));
		assert_false(map_remove(m, key));
	}
	map_set(m, "k1", str_copy("new"));
	assert_int_equal(map_count(m), 500);
	assert_string_equal(map_get(m, "k1"), "new");
	assert_null(map_get(m, "k2"));
	size_t seen = 0;
	const char *key;
	void *value;
	for (size_t i = 0; map_next(m, &i, &key, &value);)
		if (seen++ == 1)
			assert_string_equal(key, "k3");
	assert_int_equal(seen, 500);
	for (int i = 0; i < 100000; i++) { /* holes are reused */
		map_set(m, "churn", str_copy("x"));
		map_remove(m, "churn");
	}
	assert_int_equal(map_count(m), 500);
	map_free(m);
}

static void test_time(UNUSED void **state) {
	char text[TIME_TEXT_MAX];
	int64_t ns;
	assert_int_equal(time_parse("2026-11-22T23:09:46.5Z", &ns), 0);
	time_format(ns, text);
	assert_string_equal(text, "2026-11-22T23:09:46.500000000Z");
	assert_int_equal(time_parse("2026-11-23T00:09:46.5+01:00", &ns), 0);
	time_format(ns, text);
	assert_string_equal(text, "2026-11-22T23:09:46.500000000Z");
	assert_int_equal(time_parse("1136073600.25", &ns), 0);
	assert_true(ns == 1136073600250000000);
	assert_int_equal(time_parse("yesterday", &ns), -EINVAL);
	assert_int_equal(time_parse("2026-13-01T00:00:00Z", &ns), -EINVAL);
	assert_int_equal(time_parse("2026-11-22T23:09:46", &ns), -EINVAL);
}

static void test_errors(UNUSED void **state) {
	_cleanup_(error_free) struct error e = ERROR_INIT;
	assert_int_equal(error_errno(&e, ENOENT, "cannot open %s", "x"), -ERROR_NOT_FOUND);
	assert_string_equal(error_text(&e), "cannot open x: No such file or directory");
	assert_int_equal(error_wrap(&e, "start"), -ERROR_NOT_FOUND);
	assert_string_equal(error_text(&e), "start: cannot open x: No such file or directory");
	error_field(&e, "[3]", "bad");
	error_in_field(&e, "mounts");
	error_in_field(&e, "spec");
	assert_string_equal(e.field, "spec.mounts[3]");
	assert_int_equal(error_set(NULL, ERROR_BUSY, "x"), -ERROR_BUSY);
	for (int k = 0; k < ERROR_KINDS; k++)
		assert_int_equal(error_kind_from_name(error_kind_name((enum error_kind)k)), k);
}

static void test_files(UNUSED void **state) {
	char dir[] = "/tmp/wabe-base-XXXXXX";
	assert_non_null(mkdtemp(dir));
	int root = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(symlinkat("/etc", root, "out"), 0);
	int fd = fs_mkdir_in_root(root, "/a/b/../c", 0755);
	assert_true(fd >= 0);
	close(fd);
	char *path = str_format("%s/a/c", dir);
	assert_true(fs_exists(path));
	free(path);
	assert_int_equal(fs_open_in_root(root, "out/passwd", O_RDONLY, 0), -ENOENT);
	assert_int_equal(fs_open_beneath(root, "out/passwd", O_RDONLY, 0), -ELOOP);
	assert_int_equal(fs_open_beneath(root, "../x", O_RDONLY, 0), -EXDEV);
	assert_int_equal(symlinkat("../a/c", root, "a/in"), 0);
	fd = fs_open_within(root, "a/in", O_PATH);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(fs_open_within(root, "out/passwd", O_PATH), -EXDEV);
	assert_int_equal(fs_open_within(root, "a/in/../../..", O_PATH), -EXDEV);
	assert_int_equal(fs_replace_at(root, "f", "hello", 5, 0600), 0);
	_cleanup_(buf_free) struct buf b = BUF_INIT;
	assert_int_equal(fs_read_at(root, "f", 5, &b), 0);
	assert_string_equal(buf_str(&b), "hello");
	buf_truncate(&b, 0);
	assert_int_equal(fs_read_at(root, "f", 4, &b), -EFBIG);
	close(root);
	assert_int_equal(fs_remove_tree(dir), 0);
	assert_false(fs_exists(dir));
	assert_true(fs_exists("/etc/passwd"));
	assert_int_equal(fs_remove_tree(dir), 0);
}

/* Deeper than there are descriptors, and than a path can say. */
static void test_deep_tree(UNUSED void **state) {
	char top[] = "/tmp/wabe-base-test-XXXXXX";
	assert_non_null(mkdtemp(top));
	int fd = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (int i = 0; i < 5000; i++) {
		assert_int_equal(mkdirat(fd, ".deep-3", 0700), 0);
		int below = openat(fd, ".deep-3", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		assert_true(below >= 0);
		close(fd);
		fd = below;
	}
	close(fd);
	struct rlimit before, few = {.rlim_cur = 200};
	getrlimit(RLIMIT_NOFILE, &before);
	few.rlim_max = before.rlim_max;
	setrlimit(RLIMIT_NOFILE, &few);
	int r = fs_remove_tree(top);
	setrlimit(RLIMIT_NOFILE, &before);
	assert_int_equal(r, 0);
	assert_false(fs_exists(top));
}

static void test_descriptors(UNUSED void **state) {
	int pair[2], fds[2], got[1];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(pipe(fds), 0);
	assert_int_equal(sock_send_fds(pair[0], "hi", 2, fds, 2), 0);
	char text[8];
	size_t n;
	assert_int_equal(sock_recv_fds(pair[1], text, sizeof text, got, 1, &n), 2);
	assert_int_equal(n, 1);
	assert_int_equal(fcntl(got[0], F_GETFD), FD_CLOEXEC);
	close(got[0]);
	close(fds[0]);
	close(fds[1]);
	close(pair[0]);
	assert_int_equal(sock_recv_fds(pair[1], text, sizeof text, got, 1, &n), 0);
	close(pair[1]);
}

static void test_proc(UNUSED void **state) {
	_cleanup_(error_free) struct error e = ERROR_INIT;
	_cleanup_(buf_free) struct buf out = BUF_INIT_MAX(100000);
	struct proc cat = {.argv = (char *[]){"cat", NULL}, .input = "abc", .input_len = 3, .output = &out};
	assert_int_equal(proc_run_ok(&cat, &e), 0);
	assert_string_equal(buf_str(&out), "abc");
	struct proc fail = {.argv = (char *[]){"sh", "-c", "echo first >&2; echo why >&2; exit 3", NULL}};
	assert_true(proc_run_ok(&fail, &e) < 0);
	assert_string_equal(error_text(&e), "sh failed with status 3: why");
	struct proc slow = {.argv = (char *[]){"sleep", "100", NULL}, .deadline_ns = 20 * NS_PER_MS};
	assert_int_equal(proc_run(&slow, &e), -ERROR_TIMEOUT);
	struct proc missing = {.argv = (char *[]){"/no/such", NULL}};
	assert_int_equal(proc_run(&missing, &e), 0);
	assert_int_equal(missing.status, 127);
}

static void on_timer(void *arg) {
	loop_stop(arg);
}

static void on_readable(struct loop_source *s, UNUSED uint32_t events, void *arg) {
	++*(int *)arg;
	loop_remove(s);
}

static void test_loop(UNUSED void **state) {
	struct loop *l = loop_new();
	int fds[2], seen = 0;
	assert_int_equal(pipe(fds), 0);
	assert_int_equal(write(fds[1], "x", 1), 1);
	loop_add_fd(l, fds[0], EPOLLIN, on_readable, &seen);
	loop_add_timer(l, time_mono_ns() + 5 * NS_PER_MS, on_timer, l);
	assert_int_equal(loop_run(l), 0);
	assert_int_equal(seen, 1);
	loop_free(l);
	close(fds[0]);
	close(fds[1]);
}

static void test_json(UNUSED void **state) {
	_cleanup_(error_free) struct error e = ERROR_INIT;
	_cleanup_(buf_free) struct buf deep = BUF_INIT;
	for (int i = 0; i < 10000; i++)
		buf_addc(&deep, '[');
	assert_null(json_parse(buf_str(&deep), deep.len, &e));
	assert_int_equal(e.kind, ERROR_INVALID);
	assert_null(json_parse("{\"a\":1,\"a\":2}", 13, &e));
	json_t *v = json_parse("{\"a\":[\"x\"],\"n\":3}", 17, &e);
	assert_non_null(v);
	assert_int_equal(json_get_int(v, "n"), 3);
	assert_null(json_get_str(v, "n"));
	char **a = json_get_strv(v, "a");
	assert_int_equal(strv_len(a), 1);
	strv_free(a);
	json_decref(v);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_buf),
		cmocka_unit_test(test_json_text_indent),
		cmocka_unit_test(test_json_text_member),     cmocka_unit_test(test_sizes),  cmocka_unit_test(test_durations),
		cmocka_unit_test(test_numbers), cmocka_unit_test(test_vectors), cmocka_unit_test(test_map),
		cmocka_unit_test(test_time),    cmocka_unit_test(test_errors), cmocka_unit_test(test_files),
		cmocka_unit_test(test_descriptors), cmocka_unit_test(test_proc), cmocka_unit_test(test_loop),
		cmocka_unit_test(test_json),    cmocka_unit_test(test_deep_tree),
	};
	return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
