/* build: archives of strangers as trees in memory. */
#include "base/fs.h"
#include "base/str.h"
#include "build/tree.h"

#include <archive.h>
#include <archive_entry.h>
#include <setjmp.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

struct item {
	const char *name;
	char type; /* f d l h */
	const char *content;
};

static int spool(void) {
	int fd = memfd_create("spool", MFD_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static int tar_of(const struct item *items, int (*filter)(struct archive *a)) {
	int fd = spool();
	struct archive *a = archive_write_new();
	archive_write_set_format_pax_restricted(a);
	if (filter)
		assert_int_equal(filter(a), ARCHIVE_OK);
	assert_int_equal(archive_write_open_fd(a, fd), ARCHIVE_OK);
	for (; items->name; items++) {
		struct archive_entry *e = archive_entry_new();
		archive_entry_set_pathname(e, items->name);
		archive_entry_set_mode(e, items->type == 'd' ? S_IFDIR | 0750 : items->type == 'l' ? S_IFLNK | 0777 : S_IFREG | 0640);
		archive_entry_set_uid(e, 7);
		archive_entry_set_gid(e, 8);
		archive_entry_set_mtime(e, 1000, 0);
		if (items->type == 'l')
			archive_entry_set_symlink(e, items->content);
		if (items->type == 'h')
			archive_entry_set_hardlink(e, items->content);
		if (items->type == 'f')
			archive_entry_set_size(e, (la_int64_t)strlen(items->content));
		assert_int_equal(archive_write_header(a, e), ARCHIVE_OK);
		if (items->type == 'f')
			archive_write_data(a, items->content, strlen(items->content));
		archive_entry_free(e);
	}
	archive_write_free(a);
	lseek(fd, 0, SEEK_SET);
	return fd;
}

static struct tree *tree_of(const struct item *items) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(close_fd) int fd = tar_of(items, NULL);
	struct tree *t = tree_new(spool());
	if (tree_read(t, fd, "", false, &err) < 0)
		fail_msg("%s", error_text(&err));
	return t;
}

static void content_is(struct tree *t, const char *path, const char *wanted) {
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	struct tree_node *n = tree_find(t, path);
	if (!n)
		fail_msg("%s is not there", path);
	assert_int_equal(tree_content(t, n, 1000, &text, NULL), 0);
	assert_string_equal(buf_str(&text), wanted);
}

static void test_files_and_links(UNUSED void **state) {
	static const struct item items[] = {
		{"./", 'd', NULL},	  {"./a", 'f', "content of a"}, {"d/sub/b", 'f', "b"}, {"d/up", 'l', "../a"},
		{"abs", 'l', "/d/sub"},	  {"loop", 'l', "loop"},	{"out", 'l', "../../../etc/passwd"},
		{"d/dots", 'l', "./../d/sub/../sub/b"}, {"twin", 'h', "d/sub/b"}, {"chain", 'l', "abs"}, {NULL},
	};
	_cleanup_(tree_free_ptr) struct tree *t = tree_of(items);
	content_is(t, "a", "content of a");
	content_is(t, "/d/sub/b", "b");
	content_is(t, "d/up", "content of a");
	content_is(t, "abs/b", "b");
	content_is(t, "chain/b", "b");
	content_is(t, "d/dots", "b");
	content_is(t, "twin", "b");
	content_is(t, "../../a", "content of a");
	assert_null(tree_find(t, "loop"));
	assert_null(tree_find(t, "out"));
	assert_null(tree_find(t, "a/b"));
	assert_ptr_equal(tree_find(t, ""), tree_root(t));
	assert_int_equal(tree_find(t, "d/sub/b")->mode, S_IFREG | 0640);
	assert_int_equal(tree_find(t, "d/sub/b")->uid, 0);
	_cleanup_(free_ptr) char *path = tree_path(tree_find(t, "abs/b"));
	assert_string_equal(path, "d/sub/b");
	_cleanup_(free_ptr) struct tree_node **list = tree_list(tree_find(t, "d"));
	assert_string_equal(list[0]->name, "dots");
	assert_string_equal(list[1]->name, "sub");
	assert_null(list[3]);
	struct tree_node *a = tree_find(t, "a"), *b = tree_find(t, "twin");
	assert_string_equal(tree_find(t, "d/sub/b")->digest, b->digest);
	assert_string_not_equal(a->digest, b->digest);
	tree_remove(t, a);
	assert_null(tree_find(t, "d/up"));
}

static void test_later_entries_win(UNUSED void **state) {
	static const struct item items[] = {
		{"x", 'f', "file"}, {"x/y", 'f', "below"}, {"l", 'l', "/x"}, {"l/z", 'f', "own"}, {"two", 'f', "1"}, {"two", 'f', "22"},
		{"dir/in", 'f', "in"}, {"dir", 'f', "no directory"}, {NULL},
	};
	_cleanup_(tree_free_ptr) struct tree *t = tree_of(items);
	content_is(t, "x/y", "below");
	content_is(t, "l/z", "own");
	assert_null(tree_find(t, "x/z"));
	content_is(t, "two", "22");
	content_is(t, "dir", "no directory");
}

static void test_hostile(UNUSED void **state) {
	static const struct item bad[][3] = {
		{{"../x", 'f', ""}, {NULL}},
		{{"a/../../x", 'f', ""}, {NULL}},
		{{"a", 'h', "/etc/passwd"}, {NULL}},
		{{"a", 'h', "a"}, {NULL}},
		{{"d", 'd', NULL}, {"a", 'h', "d"}, {NULL}},
		{{".", 'f', "x"}, {NULL}},
	};
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		_cleanup_(close_fd) int fd = tar_of(bad[i], NULL);
		_cleanup_(tree_free_ptr) struct tree *t = tree_new(spool());
		if (tree_read(t, fd, "", false, NULL) != -ERROR_INVALID)
			fail_msg("number %zu was taken", i);
	}
}

static void test_compressed_and_damaged(UNUSED void **state) {
	static const struct item items[] = {{"a", 'f', "content"}, {NULL}};
	static int (*const filters[])(struct archive *a) = {archive_write_add_filter_gzip, archive_write_add_filter_bzip2,
							    archive_write_add_filter_xz, archive_write_add_filter_zstd, NULL};
	for (size_t i = 0; i < ARRAY_SIZE(filters); i++) {
		_cleanup_(close_fd) int fd = tar_of(items, filters[i]);
		_cleanup_(tree_free_ptr) struct tree *t = tree_new(spool()), *cut = tree_new(spool());
		assert_int_equal(tree_read(t, fd, "below", true, NULL), 0);
		content_is(t, "below/a", "content");
		assert_int_equal(tree_find(t, "below/a")->uid, 7);
		assert_int_equal(ftruncate(fd, filters[i] ? lseek(fd, 0, SEEK_END) - 10 : 515), 0);
		lseek(fd, 0, SEEK_SET);
		assert_int_equal(tree_read(cut, fd, "", true, NULL), -ERROR_INVALID);
	}
	_cleanup_(close_fd) int empty = spool();
	_cleanup_(tree_free_ptr) struct tree *t = tree_new(spool());
	assert_int_equal(tree_read(t, empty, "", true, NULL), 0);
	assert_int_equal(tree_count(t), 0);
}

static void test_archives_inside(UNUSED void **state) {
	static const struct item items[] = {{"in/a", 'f', "inner"}, {NULL}};
	_cleanup_(close_fd) int fd = tar_of(items, archive_write_add_filter_gzip);
	_cleanup_(tree_free_ptr) struct tree *t = tree_new(spool()), *out = tree_new(spool());
	bool is;
	assert_int_equal(tree_add_file(t, "x.tgz", 0644, 5, fd, NULL), 0);
	assert_int_equal(tree_find(t, "x.tgz")->mtime, 5);
	assert_int_equal(tree_unpack_node(out, t, tree_find(t, "x.tgz"), "", &is, NULL), 0);
	assert_true(is);
	content_is(out, "in/a", "inner");
	_cleanup_(close_fd) int text = spool();
	assert_int_equal(fs_write_all(text, "just text, and no archive at all", 32), 0);
	lseek(text, 0, SEEK_SET);
	assert_int_equal(tree_add_file(t, "text", 0644, 5, text, NULL), 0);
	assert_int_equal(tree_unpack_node(out, t, tree_find(t, "text"), "", &is, NULL), 0);
	assert_false(is);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_files_and_links),	       cmocka_unit_test(test_later_entries_win),
		cmocka_unit_test(test_hostile),		       cmocka_unit_test(test_compressed_and_damaged),
		cmocka_unit_test(test_archives_inside),
	};
	return cmocka_run_group_tests_name("build_tree", tests, NULL, NULL);
}
