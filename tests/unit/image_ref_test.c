/* model: image references and digests, by the examples of distribution/reference. */
#include "base/str.h"
#include "model/image.h"

#include <setjmp.h>
#include <stdio.h>

#include <cmocka.h>

#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define DIGEST "sha256:" HEX

static void test_accepted(UNUSED void **state) {
	static const struct {
		const char *text, *full, *familiar;
	} rows[] = {
		{"debian", "docker.io/library/debian:latest", "debian:latest"},
		{"debian:bookworm", "docker.io/library/debian:bookworm", "debian:bookworm"},
		{"library/debian", "docker.io/library/debian:latest", "debian:latest"},
		{"docker.io/debian", "docker.io/library/debian:latest", "debian:latest"},
		{"index.docker.io/debian:1", "docker.io/library/debian:1", "debian:1"},
		{"user/app", "docker.io/user/app:latest", "user/app:latest"},
		{"a/b/c/d", "docker.io/a/b/c/d:latest", "a/b/c/d:latest"},
		{"library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"},
		{"localhost/x", "localhost/x:latest", "localhost/x:latest"},
		{"localhost:5000/x:2", "localhost:5000/x:2", "localhost:5000/x:2"},
		{"127.0.0.1:5000/a/b", "127.0.0.1:5000/a/b:latest", "127.0.0.1:5000/a/b:latest"},
		{"[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"},
		{"[fe80::1]/x", "[fe80::1]/x:latest", "[fe80::1]/x:latest"},
		{"ghcr.io/a/b@" DIGEST, "ghcr.io/a/b@" DIGEST, "ghcr.io/a/b@" DIGEST},
		{"x:1@" DIGEST, "docker.io/library/x:1@" DIGEST, "x:1@" DIGEST},
		{"HOST/x", "HOST/x:latest", "HOST/x:latest"},
		{"host:5000", "docker.io/library/host:5000", "host:5000"},
		{"a.b_c__d-e---f", "docker.io/library/a.b_c__d-e---f:latest", "a.b_c__d-e---f:latest"},
		{"x:A_b.c-1", "docker.io/library/x:A_b.c-1", "x:A_b.c-1"},
		{"docker.io/a.b/c", "docker.io/a.b/c:latest", "docker.io/a.b/c:latest"},
		{"xn--n3h.com/my/name", "xn--n3h.com/my/name:latest", "xn--n3h.com/my/name:latest"},
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(error_free) struct error err = ERROR_INIT;
		struct image_ref ref;
		if (image_ref_parse(rows[i].text, &ref, &err) < 0)
			fail_msg("%s", error_text(&err));
		_cleanup_(free_ptr) char *full = image_ref_print(&ref), *familiar = image_ref_familiar(&ref);
		assert_string_equal(full, rows[i].full);
		assert_string_equal(familiar, rows[i].familiar);
		image_ref_free(&ref);
	}
}

static void refused(const char *text) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct image_ref ref;
	if (image_ref_parse(text, &ref, &err) != -ERROR_INVALID)
		fail_msg("accepted: %s", text);
	assert_null(ref.registry);
}

static void test_refused(UNUSED void **state) {
	static const char *const rows[] = {
		"",
		":",
		"@",
		":tag",
		"@" DIGEST,
		"/",
		"/x",
		"x/",
		"a//b",
		"host.io/",
		"x:",
		"x@",
		"x:-a",
		"x:.a",
		"x:a/b:",
		"X",
		"user/App",
		"docker.io/Debian",
		"docker.io/-x",
		"a_/b",
		"a___b",
		"a..b",
		"a.-b",
		"-a",
		"a-",
		".a",
		"a.",
		"-host.io/x",
		"host-.io/x",
		"host..io/x",
		"host.io:/x",
		"host.io:x/x",
		"host.io./x",
		"[::1/x",
		"[]/x",
		"x@sha256:00",
		"x@md5:" HEX,
		"x@sha256:" HEX "0",
		"x@" DIGEST "@" DIGEST,
		HEX,
		"a b",
		"x\n",
		"x:a b",
		"é",
		"../x",
		"a/../b",
		"http://x/y",
		"x:t:u",
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		refused(rows[i]);
}

static void test_lengths(UNUSED void **state) {
	char text[400];
	memset(text, 'a', sizeof text);
	text[256] = '\0';
	refused(text);
	text[255 - 8] = '\0'; /* library/ counts */
	struct image_ref ref;
	assert_int_equal(image_ref_parse(text, &ref, NULL), 0);
	image_ref_free(&ref);
	memcpy(text, "x:", 2);
	memset(text + 2, 't', 129);
	text[131] = '\0';
	refused(text);
	text[130] = '\0';
	assert_int_equal(image_ref_parse(text, &ref, NULL), 0);
	image_ref_free(&ref);
}

static void test_digests(UNUSED void **state) {
	assert_int_equal(digest_check(DIGEST, NULL), 0);
	static const char *const rows[] = {"", "sha256:", HEX, "sha256:" HEX "0", "SHA256:" HEX, "sha512:" HEX,
					   "sha256:0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef"};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_int_equal(digest_check(rows[i], NULL), -ERROR_INVALID);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_accepted), cmocka_unit_test(test_refused), cmocka_unit_test(test_lengths),
		cmocka_unit_test(test_digests),
	};
	return cmocka_run_group_tests_name("image-ref", tests, NULL, NULL);
}
