/* model: repositories of git as Docker's clients write them. */
#include "base/str.h"
#include "model/git.h"

#include <setjmp.h>
#include <stdio.h>

#include <cmocka.h>

#define COMMIT "0123456789abcdef0123456789abcdef01234567"

static void same_text(const char *got, const char *wanted) {
	if (!str_same(got, wanted))
		fail_msg("got %s, wanted %s", got ? got : "nothing", wanted ? wanted : "nothing");
}

static void test_accepted(UNUSED void **state) {
	static const struct {
		const char *text, *url, *ref, *directory, *authorization;
	} rows[] = {
		{"https://host/x.git", "https://host/x.git", NULL, NULL, NULL},
		{"https://host:8443/a/b.git#", "https://host:8443/a/b.git", NULL, NULL, NULL},
		{"https://host/x.git#main", "https://host/x.git", "main", NULL, NULL},
		{"https://host/x.git#main:", "https://host/x.git", "main", NULL, NULL},
		{"https://host/x.git#:dir", "https://host/x.git", NULL, "dir", NULL},
		{"https://host/x.git#v1.2:/a/./b//", "https://host/x.git", "v1.2", "a/b", NULL},
		{"http://[::1]:80/x.git#refs/pull/7/head:a b", "http://[::1]:80/x.git", "refs/pull/7/head", "a b", NULL},
		{"git://host/x#" COMMIT, "git://host/x", COMMIT, NULL, NULL},
		{"ssh://git@host:22/~me/x.git#feature/y", "ssh://git@host:22/~me/x.git", "feature/y", NULL, NULL},
		{"git@host.example:a/b.git#main:c", "git@host.example:a/b.git", "main", "c", NULL},
		{"github.com/a/b#main", "https://github.com/a/b", "main", NULL, NULL},
		{"https://user:pass@host/x.git", "https://host/x.git", NULL, NULL, "Basic dXNlcjpwYXNz"},
		{"https://token@host/x.git#y", "https://host/x.git", "y", NULL, "Basic dG9rZW46"},
		{"https://us%3aer:p%40ss%@host/x.git", "https://host/x.git", NULL, NULL, "Basic dXM6ZXI6cEBzcyU="},
		{"https://u:%40f%00%4@host/x.git", "https://host/x.git", NULL, NULL, "Basic dTpAZiUwMCU0"},
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(error_free) struct error err = ERROR_INIT;
		_cleanup_(git_source_free) struct git_source s;
		if (git_source_parse(rows[i].text, &s, &err) < 0)
			fail_msg("%s: %s", rows[i].text, error_text(&err));
		same_text(s.url, rows[i].url);
		same_text(s.ref, rows[i].ref);
		same_text(s.directory, rows[i].directory);
		same_text(s.authorization, rows[i].authorization);
		if (s.authorization)
			assert_int_equal(git_authorization_check(s.authorization, NULL), 0);
		_cleanup_(free_ptr) char *printed = git_source_print(&s);
		_cleanup_(git_source_free) struct git_source again;
		assert_int_equal(git_source_parse(printed, &again, NULL), 0);
		same_text(again.url, s.url);
		same_text(again.ref, s.ref);
		same_text(again.directory, s.directory);
	}
}

static void test_refused(UNUSED void **state) {
	static const struct {
		const char *text, *why;
	} rows[] = {
		{"ext::sh -c touch% /x", "not the URL of a git repository"},
		{"ext::https://host/x.git", "not the URL of a git repository"},
		{"file:///etc/x.git", "not the URL of a git repository"},
		{"/etc/x.git", "not the URL of a git repository"},
		{"--upload-pack=x", "not the URL of a git repository"},
		{"ssh://-oProxyCommand=x/y", "not the URL of a git repository"},
		{"ssh://-oProxyCommand=x@host/y", "not the URL of a git repository"},
		{"git@-oProxyCommand=x:y", "not the URL of a git repository"},
		{"-x@host:y", "not the URL of a git repository"},
		{"git@host:-y", "not the URL of a git repository"},
		{"git@host::y", "not the URL of a git repository"},
		{"https:///x.git", "not the URL of a git repository"},
		{"https://host", "not the URL of a git repository"},
		{"https://ho st/x.git", "not the URL of a git repository"},
		{"https://host/x\n.git", "not the URL of a git repository"},
		{"git://host:1/x\r\ny", "not the URL of a git repository"},
		{"https://host/x.git#--upload-pack=x", "invalid refspec: --upload-pack=x"},
		{"https://host/x.git#a..b", "invalid refspec: a..b"},
		{"https://host/x.git#+a", NULL},
		{"https://host/x.git#a b", "invalid refspec"},
		{"https://host/x.git#a^{}", "invalid refspec"},
		{"https://host/x.git#@{u}", "invalid refspec"},
		{"https://host/x.git#/a", "invalid refspec"},
		{"https://host/x.git#a.lock", "invalid refspec"},
		{"https://host/x.git#main:..", "not a directory beneath the repository"},
		{"https://host/x.git#main:../..", "not a directory beneath the repository"},
		{"https://host/x.git#main:a/../b", "not a directory beneath the repository"},
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(error_free) struct error err = ERROR_INIT;
		_cleanup_(git_source_free) struct git_source s;
		int r = git_source_parse(rows[i].text, &s, &err);
		if (rows[i].why ? r == 0 || !strstr(error_text(&err), rows[i].why) : r < 0)
			fail_msg("%s: %s", rows[i].text, r < 0 ? error_text(&err) : "accepted");
	}
}

static void test_passwords_stay_secret(UNUSED void **state) {
	static const char *const bad[] = {"https://me:hidden@host", "https://me:hidden@/x.git", "https://me:hidden@host/x.git#a..b"};
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		_cleanup_(error_free) struct error err = ERROR_INIT;
		_cleanup_(git_source_free) struct git_source s;
		assert_true(git_source_parse(bad[i], &s, &err) < 0);
		assert_null(strstr(error_text(&err), "hidden"));
	}
}

static void test_which_words(UNUSED void **state) {
	static const char *const yes[] = {"https://h/x.git", "http://h/x.git#a:b", "git://h/x", "ssh://h/x", "git@h:x", "me@h:x.git"};
	static const char *const no[] = {"https://h/x", "https://h/x.git/y", "https://h/x.git?y", "x.git", "a:b", "./git@h", "x@y", "git@h"};
	for (size_t i = 0; i < ARRAY_SIZE(yes); i++)
		assert_true(git_source_is(yes[i]));
	for (size_t i = 0; i < ARRAY_SIZE(no); i++)
		assert_false(git_source_is(no[i]));
	assert_true(git_is_commit(COMMIT));
	assert_false(git_is_commit("0123456"));
	assert_false(git_is_commit("0123456789ABCDEF0123456789abcdef01234567"));
	assert_int_equal(git_authorization_check("Basic YTpi", NULL), 0);
	assert_true(git_authorization_check("Basic YTpi\r\nX: y", NULL) < 0);
}

#define A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define C "cccccccccccccccccccccccccccccccccccccccc"
#define D "dddddddddddddddddddddddddddddddddddddddd"

static void test_listings(UNUSED void **state) {
	static const char listing[] = A "\tHEAD\n" B "\trefs/heads/both\n" A "\trefs/heads/main\n" C "\trefs/pull/7/head\n" C
				      "\trefs/tags/both\n" D "\trefs/tags/v1\n" B "\trefs/tags/v1^{}\n" D
				      "\trefs/heads/x/main\nshort\trefs/heads/bad\n" A;
	static const struct {
		const char *ref, *name, *commit;
	} rows[] = {
		{NULL, "HEAD", A},
		{"HEAD", "HEAD", A},
		{"main", "refs/heads/main", A},
		{"both", "refs/heads/both", B},
		{"tags/both", "refs/tags/both", C},
		{"refs/tags/both", "refs/tags/both", C},
		{"heads/both", "refs/heads/both", B},
		{"pull/7/head", "refs/pull/7/head", C},
		{"v1", "refs/tags/v1", B},
		{"bad", NULL, NULL},
		{"none", NULL, NULL},
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(free_ptr) char *name = NULL, *commit = NULL;
		_cleanup_(error_free) struct error err = ERROR_INIT;
		int r = git_listed_ref(listing, rows[i].ref, &name, &commit, &err);
		assert_int_equal(r, rows[i].name ? 0 : -ERROR_NOT_FOUND);
		same_text(name, rows[i].name);
		same_text(commit, rows[i].commit);
	}
	_cleanup_(error_free) struct error err = ERROR_INIT;
	char *name, *commit;
	assert_int_equal(git_listed_ref("", NULL, &name, &commit, &err), -ERROR_NOT_FOUND);
	same_text(error_text(&err), "repository does not contain ref HEAD");
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_accepted),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_passwords_stay_secret),
		cmocka_unit_test(test_which_words),
		cmocka_unit_test(test_listings),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
