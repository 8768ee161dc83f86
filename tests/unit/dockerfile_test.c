/* build: Dockerfiles, words with variables, patterns of paths. */
#include "base/str.h"
#include "build/dockerfile.h"
#include "build/ignore.h"
#include "build/words.h"

#include <setjmp.h>
#include <stdio.h>

#include <cmocka.h>

static struct dockerfile parsed(const char *text) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct dockerfile d;
	if (dockerfile_parse(text, strlen(text), &d, &err) < 0)
		fail_msg("%s\nin: %s", error_text(&err), text);
	return d;
}

static void refused(const char *text, const char *why) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct dockerfile d;
	if (dockerfile_parse(text, strlen(text), &d, &err) == 0)
		fail_msg("accepted: %s", text);
	assert_int_equal(d.n_stages, 0);
	if (!strstr(error_text(&err), why))
		fail_msg("\"%s\" is not in \"%s\"\nof: %s", why, error_text(&err), text);
}

/* The first instruction of the first stage. */
static struct instruction *first(struct dockerfile *d) {
	assert_true(d->n_stages > 0 && d->stages[0].n > 0);
	return &d->stages[0].items[0];
}

static void test_stages(UNUSED void **state) {
	struct dockerfile d = parsed("ARG V=1\nARG W\n# a comment\nFROM busybox:$V AS One\nRUN a\n\nFROM --platform=linux/arm64 one as two\n"
				     "COPY --from=one --chown=a:b --chmod=0644 x y /z/\n");
	assert_int_equal(d.n_meta, 2);
	assert_string_equal(d.meta[0].pairs.items[0].value, "1");
	assert_null(d.meta[1].pairs.items[0].value);
	assert_int_equal(d.n_stages, 2);
	assert_string_equal(d.stages[0].from.args[0], "busybox:$V");
	assert_string_equal(d.stages[0].from.stage, "one");
	assert_string_equal(d.stages[1].from.platform, "linux/arm64");
	assert_int_equal(d.stages[1].from.line, 7);
	const struct instruction *copy = &d.stages[1].items[0];
	assert_string_equal(copy->from, "one");
	assert_string_equal(copy->chown, "a:b");
	assert_string_equal(copy->chmod, "0644");
	assert_int_equal(strv_len(copy->args), 3);
	assert_int_equal(dockerfile_stage(&d, "ONE", 2), 0);
	assert_int_equal(dockerfile_stage(&d, "1", 2), 1);
	assert_int_equal(dockerfile_stage(&d, "1", 1), -1);
	assert_int_equal(dockerfile_stage(&d, "three", 2), -1);
	dockerfile_free(&d);
}

static void test_lines(UNUSED void **state) {
	static const struct {
		const char *text, *word, *whole;
	} rows[] = {
		{"FROM a\nRUN x && \\\n  y\n", "x &&   y", "RUN x &&   y"},
		{"FROM a\nrun x \\\n# in between\n\n  y", "x   y", "run x   y"},
		{"FROM a\r\nRUN x\r\n", "x", "RUN x"},
		{"FROM a\nRUN x \\  \n y", "x  y", "RUN x  y"},
		{"FROM a\nRUN x \\\\\nRUN y", "x \\\\", "RUN x \\\\"},
		{"# escape=`\nFROM a\nRUN x `\n y\\", "x  y\\", "RUN x  y\\"},
		{"#syntax=docker/dockerfile:1\n# escape = `\nFROM a\nRUN x `\n y", "x  y", "RUN x  y"},
		{"# no directive\n# escape=`\nFROM a\nRUN x `", "x `", "RUN x `"},
		{"\xef\xbb\xbf" "FROM a\nRUN x", "x", "RUN x"},
		{"FROM a\n   RUN   x  ", "x", "RUN   x"},
		{"FROM a\nRUN x \\", "x", "RUN x"},
		{"FROM a\nRUN cat <<EOF", "cat <<EOF", "RUN cat <<EOF"},
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct dockerfile d = parsed(rows[i].text);
		assert_string_equal(first(&d)->args[0], rows[i].word);
		assert_string_equal(first(&d)->text, rows[i].whole);
		dockerfile_free(&d);
	}
}

static void test_forms(UNUSED void **state) {
	static const struct {
		const char *line;
		bool json;
		const char *joined; /* the words, with | between them */
	} rows[] = {
		{"CMD [\"a\", \"b c\"]", true, "a|b c"},
		{"CMD [ \"a\" ] rest", true, "a"},
		{"CMD a \"b c\" $d", false, "a \"b c\" $d"},
		{"CMD ['a']", false, "['a']"},
		{"CMD []", true, ""},
		{"ENTRYPOINT [\"/x\"]", true, "/x"},
		{"RUN [\"x\",\"\\u00e4\"]", true, "x|\xc3\xa4"},
		{"SHELL [\"/bin/bash\", \"-c\"]", true, "/bin/bash|-c"},
		{"VOLUME /a /b", false, "/a|/b"},
		{"VOLUME [\"/a b\"]", true, "/a b"},
		{"EXPOSE 80 443/udp", false, "80|443/udp"},
		{"COPY [\"a b\", \"/c\"]", true, "a b|/c"},
		{"WORKDIR /a b", false, "/a b"},
		{"USER  root ", false, "root"},
		{"MAINTAINER A B <a@b>", false, "A B <a@b>"},
		{"ONBUILD RUN x", false, "RUN x"},
		{"STOPSIGNAL 9", false, "9"},
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(free_ptr) char *text = str_format("FROM a\n%s", rows[i].line);
		struct dockerfile d = parsed(text);
		_cleanup_(free_ptr) char *joined = strv_join(first(&d)->args, "|");
		assert_string_equal(joined, rows[i].joined);
		assert_int_equal(first(&d)->json, rows[i].json);
		dockerfile_free(&d);
	}
}

static void test_pairs(UNUSED void **state) {
	static const struct {
		const char *line, *joined;
	} rows[] = {
		{"ENV a=b c=\"d e\" f='g h' i=j\\ k", "a>b c>\"d e\" f>'g h' i>j\\ k "},
		{"ENV name the rest of it", "name>the rest of it "},
		{"ENV a=", "a> "},
		{"ENV a=b=c", "a>b=c "},
		{"LABEL \"x y\"=z", "\"x y\">z "},
		{"ARG a b=c d=", "a b>c d> "},
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(free_ptr) char *text = str_format("FROM a\n%s", rows[i].line);
		struct dockerfile d = parsed(text);
		_cleanup_(buf_free) struct buf all = BUF_INIT;
		for (size_t k = 0; k < first(&d)->pairs.n; k++) {
			const struct pair *p = &first(&d)->pairs.items[k];
			buf_addf(&all, "%s%s%s ", p->key, p->value ? ">" : "", p->value ? p->value : "");
		}
		assert_string_equal(buf_str(&all), rows[i].joined);
		dockerfile_free(&d);
	}
}

static void test_healthcheck(UNUSED void **state) {
	struct dockerfile d = parsed("FROM a\nHEALTHCHECK --interval=5m --timeout=3s --retries=4 --start-period=1m30s --start-interval=2s CMD curl -f x || exit 1\n"
				     "HEALTHCHECK CMD [\"a\", \"b\"]\nHEALTHCHECK none\n");
	const struct health_check *h = &first(&d)->health;
	_cleanup_(free_ptr) char *joined = strv_join(h->command, "|");
	assert_string_equal(joined, "CMD-SHELL|curl -f x || exit 1");
	assert_int_equal(h->interval, 300000000000);
	assert_int_equal(h->timeout, 3000000000);
	assert_int_equal(h->start_period, 90000000000);
	assert_int_equal(h->start_interval, 2000000000);
	assert_int_equal(h->retries, 4);
	_cleanup_(free_ptr) char *second = strv_join(first(&d)[1].health.command, "|");
	assert_string_equal(second, "CMD|a|b");
	assert_string_equal(first(&d)[2].health.command[0], "NONE");
	dockerfile_free(&d);
}

static void test_refused(UNUSED void **state) {
	static const struct {
		const char *text, *why;
	} rows[] = {
		{"", "file with no instructions"},
		{"# nothing\n\n", "file with no instructions"},
		{"ARG x\n", "no build stage in current context"},
		{"RUN x\n", "dockerfile parse error line 1: no build stage in current context"},
		{"FROM a\n\nFOO bar", "dockerfile parse error line 3: unknown instruction: FOO"},
		{"FROM a\nRUN x \\\n y\nBAR", "line 4: unknown instruction: BAR"},
		{"FROM", "FROM requires either one or three arguments"},
		{"FROM a b", "FROM requires either one or three arguments"},
		{"FROM a as 1x", "invalid name for build stage: \"1x\", name can't start with a number or contain symbols"},
		{"FROM --foo=x a", "line 1: unknown flag: foo"},
		{"FROM --platform a", "missing a value on flag: platform"},
		{"FROM a\nCOPY --from=a --from=b x y", "duplicate flag specified: from"},
		{"FROM a\nRUN", "RUN requires at least one argument"},
		{"FROM a\nCOPY x", "COPY requires at least two arguments, but only one was provided"},
		{"FROM a\nENV", "ENV requires at least one argument"},
		{"FROM a\nENV x", "ENV must have two arguments"},
		{"FROM a\nENV a=b c", "Syntax error - can't find = in \"c\". Must be of the form: name=value"},
		{"FROM a\nENV =b", "ENV names can not be blank"},
		{"FROM a\nARG", "ARG requires at least one argument"},
		{"FROM a\nUSER", "USER requires exactly one argument"},
		{"FROM a\nWORKDIR", "WORKDIR requires exactly one argument"},
		{"FROM a\nEXPOSE", "EXPOSE requires at least one argument"},
		{"FROM a\nVOLUME [\"\"]", "VOLUME specified can not be an empty string"},
		{"FROM a\nCMD [\"a\", 1]", "arrays must be comprised of strings only"},
		{"FROM a\nSHELL /bin/sh", "SHELL requires the arguments to be in JSON form"},
		{"FROM a\nHEALTHCHECK", "HEALTHCHECK requires at least one argument"},
		{"FROM a\nHEALTHCHECK FOO", "Unknown type \"FOO\" in HEALTHCHECK (try CMD)"},
		{"FROM a\nHEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"},
		{"FROM a\nHEALTHCHECK NONE x", "HEALTHCHECK NONE takes no arguments"},
		{"FROM a\nHEALTHCHECK --interval=5 CMD x", "invalid duration \"5\""},
		{"FROM a\nONBUILD", "ONBUILD requires at least one argument"},
		{"FROM a\nONBUILD ONBUILD RUN x", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"},
		{"FROM a\nONBUILD from x", "FROM isn't allowed as an ONBUILD trigger"},
		{"FROM a\nONBUILD FOO x", "unknown instruction: FOO"},
		{"FROM a\nCOPY --parents=maybe x y", "expecting boolean value for flag parents"},
		{"FROM a\nCOPY --link=maybe x y", "expecting boolean value for flag link"},
		{"FROM a\nRUN --security=insecure x", "--security=insecure is not granted"},
		{"FROM a\nRUN --network=eth0 x", "invalid network mode: eth0"},
		{"FROM a\nRUN --mount=type=cache", "RUN requires at least one argument"},
		{"# escape=x\nFROM a", "invalid escape token 'x'"},
		{"# escape=`\n# escape=`\nFROM a", "only one escape parser directive can be used"},
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		refused(rows[i].text, rows[i].why);
}

/* ---- here-documents ---- */

static void has_document(const char *text, const char *word, const char *content, bool expand, const char *next) {
	struct dockerfile d;
	struct error err = ERROR_INIT;
	assert_int_equal(dockerfile_parse(text, strlen(text), &d, &err), 0);
	const struct instruction *i = &d.stages[0].items[0];
	assert_int_equal(i->n_heredocs, content ? 1 : 0);
	if (content) {
		assert_string_equal(i->heredocs[0].word, word);
		assert_string_equal(i->heredocs[0].content, content);
		assert_int_equal(i->heredocs[0].expand, expand);
	}
	assert_int_equal(d.stages[0].n, next ? 2 : 1);
	if (next)
		assert_string_equal(d.stages[0].items[1].text, next);
	dockerfile_free(&d);
}

static void test_here_documents(UNUSED void **state) {
	has_document("FROM a\nRUN cat <<EOF > /x\n# no comment\n\n  b \\\nEOF\nUSER b\n", "<<EOF", "# no comment\n\n  b \\\n", true, "USER b");
	has_document("FROM a\nCOPY <<-'END' /x\n\tone\n\t\ttwo\n\tEND\nUSER b", "<<-'END'", "one\ntwo\n", false, "USER b");
	has_document("FROM a\nADD --chown=1 \\\n 3<<\"E\" /x\nE\n", "3<<\"E\"", "", false, NULL);
	has_document("FROM a\nRUN cat <<EOF\nUSER b\n", NULL, NULL, false, "USER b"); /* the shell says what it thinks of it */
	has_document("FROM a\nRUN echo \"<<EOF\" $((1<<2))\nUSER b\n# EOF", NULL, NULL, false, "USER b"); /* in quotes */
	has_document("FROM a\nRUN [\"cat\", \"<<EOF\"]\nUSER b\n", NULL, NULL, false, "USER b");
	has_document("FROM a\nCMD cat <<EOF\nUSER b\n", NULL, NULL, false, "USER b");
}

static void test_several_here_documents(UNUSED void **state) {
	static const char text[] = "FROM a\nCOPY <<a <<b /x/\none\na\ntwo\nb\n";
	struct dockerfile d;
	struct error err = ERROR_INIT;
	assert_int_equal(dockerfile_parse(text, strlen(text), &d, &err), 0);
	const struct instruction *i = &d.stages[0].items[0];
	assert_int_equal(i->n_heredocs, 2);
	assert_string_equal(i->heredocs[0].content, "one\n");
	assert_string_equal(i->heredocs[1].name, "b");
	assert_string_equal(i->heredocs[1].content, "two\n");
	dockerfile_free(&d);
}

static void test_flags(UNUSED void **state) {
	static const char text[] = "FROM a\nRUN --mount=type=cache,target=/a --mount=type=tmpfs,target=/b --network=none --security=sandbox x\n"
				   "COPY --link --chmod=600 x y\nADD --checksum=sha256:1 http://x y\n";
	struct dockerfile d;
	struct error err = ERROR_INIT;
	assert_int_equal(dockerfile_parse(text, strlen(text), &d, &err), 0);
	const struct instruction *i = d.stages[0].items;
	assert_string_equal(i[0].mounts[0], "type=cache,target=/a");
	assert_string_equal(i[0].mounts[1], "type=tmpfs,target=/b");
	assert_null(i[0].mounts[2]);
	assert_string_equal(i[0].network, "none");
	assert_string_equal(i[1].chmod, "600");
	assert_string_equal(i[2].checksum, "sha256:1");
	dockerfile_free(&d);
}

/* ---- words ---- */

static char *const env[] = {(char *)"a=1", (char *)"empty=", (char *)"two=x y", (char *)"p_1=q", (char *)"path=a/b/c.tar.gz", (char *)"stars=**x", NULL};

static void test_words(UNUSED void **state) {
	static const struct {
		const char *word, *out;
	} rows[] = {
		{"x", "x"},
		{"$a", "1"},
		{"${a}b", "1b"},
		{"$ab", ""},
		{"$p_1.", "q."},
		{"$nothing", ""},
		{"${nothing:-d}", "d"},
		{"${empty:-d}", "d"},
		{"${empty-d}", ""},
		{"${nothing-d}", "d"},
		{"${a:-d}", "1"},
		{"${a:+d}", "d"},
		{"${empty:+d}", ""},
		{"${empty+d}", "d"},
		{"${nothing+d}", ""},
		{"${a:?no}", "1"},
		{"${nothing:-$a}", "1"},
		{"${nothing:-${empty:-z}}", "z"},
		{"${nothing:-'}'}", "}"},
		{"'$a'", "$a"},
		{"\"$a\"", "1"},
		{"\"'$a'\"", "'1'"},
		{"\\$a", "$a"},
		{"\"\\$a\"", "$a"},
		{"\"a\\b\"", "a\\b"},
		{"a\\b", "ab"},
		{"a\\\\b", "a\\b"},
		{"a\\", "a"},
		{"$", "$"},
		{"$.", "$."},
		{"a b  c", "a b  c"},
		{"$two", "x y"},
		{"\"\"", ""},
		{"\xc3\xa4$a", "\xc3\xa4" "1"},
		{"${path#*/}", "b/c.tar.gz"},
		{"${path##*/}", "c.tar.gz"},
		{"${path%.*}", "a/b/c.tar"},
		{"${path%%.*}", "a/b/c"},
		{"${path%%x*}", "a/b/c.tar.gz"},
		{"${path#?}", "/b/c.tar.gz"},
		{"${path%}", "a/b/c.tar.gz"},
		{"${path/a/A}", "A/b/c.tar.gz"},
		{"${path//a/A}", "A/b/c.tAr.gz"},
		{"${path//[ab]/x}", "a/b/c.tar.gz"},
		{"${path/t*./}", "a/b/c.gz"},
		{"${path//./$a}", "a/b/c1tar1gz"},
		{"${path/${nothing:-b}/'}'}", "a/}/c.tar.gz"},
		{"${path%\\.*}", "a/b/c.tar"},
		{"${stars#\\*}", "*x"},
		{"${stars##\\**}", ""},
		{"${stars//\\*/s}", "ssx"},
		{"${nothing#x}", ""},
		{"${empty//x/y}", ""},
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(error_free) struct error err = ERROR_INIT;
		_cleanup_(free_ptr) char *out = NULL;
		if (word_expand(rows[i].word, '\\', env, &out, &err) < 0)
			fail_msg("%s", error_text(&err));
		assert_string_equal(out, rows[i].out);
	}
	_cleanup_(free_ptr) char *other = NULL;
	assert_int_equal(word_expand("a`$b\\", '`', env, &other, NULL), 0);
	assert_string_equal(other, "a$b\\");
}

static void test_split_words(UNUSED void **state) {
	static const struct {
		const char *word, *joined;
	} rows[] = {
		{"a b", "a|b"}, {"$two", "x|y"}, {"\"$two\"", "x y"}, {"'a b'c", "a bc"}, {"$empty", ""}, {"\"\"", ""}, {"a$two", "ax|y"},
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(strv_free_ptr) char **out = NULL;
		assert_int_equal(word_expand_split(rows[i].word, '\\', env, &out, NULL), 0);
		_cleanup_(free_ptr) char *joined = strv_join(out, "|");
		assert_string_equal(joined, rows[i].joined);
	}
}

static void test_bad_words(UNUSED void **state) {
	static const char *const rows[] = {"'a", "\"a", "${", "${}", "${a", "${a!b}", "${a:b}", "${nothing:?why}", "${nothing?}", "${a:-", "${a#", "${a%b", "${a/b}", "${a/b/c"};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(error_free) struct error err = ERROR_INIT;
		char *out = NULL;
		if (word_expand(rows[i], '\\', env, &out, &err) != -ERROR_INVALID)
			fail_msg("accepted: %s", rows[i]);
		assert_null(out);
		assert_non_null(strstr(error_text(&err), "failed to process"));
	}
	_cleanup_(buf_free) struct buf deep = BUF_INIT;
	for (size_t i = 0; i < 100000; i++)
		buf_adds(&deep, "${x:-");
	char *out = NULL;
	assert_int_equal(word_expand(buf_str(&deep), '\\', env, &out, NULL), -ERROR_INVALID);
	/* one that would take for ever */
	_cleanup_(buf_free) struct buf large = BUF_INIT;
	buf_adds(&large, "large=");
	for (size_t i = 0; i < 100000; i++)
		buf_addc(&large, 'a');
	char *const much[] = {large.data, NULL};
	assert_int_equal(word_expand("${large//*a*a*b/x}", '\\', much, &out, NULL), -ERROR_TOO_LARGE);
	assert_int_equal(word_expand("${large%%*a*a*b}", '\\', much, &out, NULL), -ERROR_TOO_LARGE);
}

/* ---- patterns ---- */

static void test_match(UNUSED void **state) {
	static const struct {
		const char *pattern, *path;
		int plain, deep;
	} rows[] = {
		{"abc", "abc", 1, 1},
		{"*", "abc", 1, 1},
		{"*c", "abc", 1, 1},
		{"a*", "a", 1, 1},
		{"a*", "ab/c", 0, 0},
		{"a*/b", "abc/b", 1, 1},
		{"a*b*c*d*e*/f", "axbxcxdxe/f", 1, 1},
		{"a*b*c*d*e*/f", "axbxcxdxexxx/fff", 0, 0},
		{"ab[c]", "abc", 1, 1},
		{"ab[b-d]", "abc", 1, 1},
		{"ab[e-g]", "abc", 0, 0},
		{"ab[^c]", "abc", 0, 0},
		{"ab[^e-g]", "abc", 1, 1},
		{"a\\*b", "a*b", 1, 1},
		{"a\\*b", "ab", 0, 0},
		{"a\\\\?", "a\\b", 1, 1},
		{"a\\?", "ab", 0, 0},
		{"a?b", "a/b", 0, 0},
		{"a[^a]b", "a/b", 0, 0},
		{"[\\]a]", "]", 1, 1},
		{"[x\\-]", "-", 1, 1},
		{"a[", "a", -EINVAL, -EINVAL},
		{"a[", "ab", -EINVAL, -EINVAL},
		{"[-]", "-", -EINVAL, -EINVAL},
		{"a\\", "a", -EINVAL, -EINVAL},
		{"*x", "xxx", 1, 1},
		{"**", "a/b", 0, 1},
		{"**/c", "c", 0, 1},
		{"**/c", "a/b/c", 0, 1},
		{"a/**/c", "a/c", 0, 1},
		{"a/**/c", "a/x/y/c", 0, 1},
		{"a/**", "a/x/y", 0, 1},
		{"**/*.go", "a/b.go", 1, 1},
		{"", "", 1, 1},
		{"", "a", 0, 0},
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		int plain = path_match(rows[i].pattern, rows[i].path, false), deep = path_match(rows[i].pattern, rows[i].path, true);
		if (plain != rows[i].plain || deep != rows[i].deep)
			fail_msg("%s against %s: %d, %d", rows[i].pattern, rows[i].path, plain, deep);
	}
	char slow[501];
	for (size_t i = 0; i < 500; i++)
		slow[i] = i % 2 ? '*' : 'a';
	slow[500] = '\0';
	char path[801];
	memset(path, 'a', 800);
	path[799] = 'b';
	path[800] = '\0';
	assert_int_equal(path_match(slow, path, true), 1);
	slow[499] = 'c';
	assert_int_equal(path_match(slow, path, true), 0);
}

static void test_ignore(UNUSED void **state) {
	static const char text[] = "# comment\n\n*.md\n!README.md\n  /build/  \nnode_modules\n**/*.o\n!keep/x.o\n../up\n[\n.git";
	static const struct {
		const char *path;
		bool ignored;
	} rows[] = {
		{"a.md", true},	    {"README.md", false}, {"sub/a.md", false}, {"build", true}, {"build/x", true},
		{"a/build", false}, {"node_modules/a/b", true}, {"x.o", true}, {"d/x.o", true}, {"keep/x.o", false},
		{"up", true},	    {".git/config", true}, {".gitignore", false},
	};
	struct ignore ig;
	ignore_parse(text, strlen(text), &ig);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (ignore_fits(&ig, rows[i].path) != rows[i].ignored)
			fail_msg("%s", rows[i].path);
	ignore_free(&ig);
}

static void test_clean(UNUSED void **state) {
	static const char *const rows[][2] = {
		{"/a/./b//../c/", "a/c"}, {"..", ""}, {"../../a", "a"}, {"", ""}, {"/", ""}, {"a/..", ""}, {"./a", "a"}, {"a/b/../..", ""},
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(free_ptr) char *clean = path_clean(rows[i][0]);
		assert_string_equal(clean, rows[i][1]);
	}
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stages),	    cmocka_unit_test(test_lines),	cmocka_unit_test(test_forms),
		cmocka_unit_test(test_pairs),	    cmocka_unit_test(test_healthcheck), cmocka_unit_test(test_refused),
		cmocka_unit_test(test_here_documents), cmocka_unit_test(test_several_here_documents), cmocka_unit_test(test_flags),
		cmocka_unit_test(test_words),	    cmocka_unit_test(test_split_words), cmocka_unit_test(test_bad_words),
		cmocka_unit_test(test_match),	    cmocka_unit_test(test_ignore),	cmocka_unit_test(test_clean),
	};
	return cmocka_run_group_tests_name("dockerfile", tests, NULL, NULL);
}
