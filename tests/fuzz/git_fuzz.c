/* Repositories of git as people write them: what was accepted passes the checks of its members, and prints as what is accepted
 * again, the same. And what repositories say they have. */
#include "base/str.h"
#include "model/git.h"

static bool good(const struct git_source *s) {
	return git_url_check(s->url, NULL) == 0 && (!s->ref || git_ref_check(s->ref, NULL) == 0) &&
	       (!s->directory || git_directory_check(s->directory, NULL) == 0) &&
	       (!s->authorization || git_authorization_check(s->authorization, NULL) == 0);
}

static bool same(const struct git_source *a, const struct git_source *b) {
	return str_same(a->url, b->url) && str_same(a->ref, b->ref) && str_same(a->directory, b->directory) && !b->authorization;
}

static void pick(const char *listing, const char *ref) {
	char *name = NULL, *commit = NULL;
	if (git_listed_ref(listing, ref, &name, &commit, NULL) == 0 && !git_is_commit(commit))
		abort();
	free(name);
	free(commit);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	_cleanup_(free_ptr) char *text = str_copyn((const char *)data, size);
	_cleanup_(git_source_free) struct git_source s;
	git_source_is(text);
	pick(text, NULL);
	pick(text, "main");
	if (git_source_parse(text, &s, NULL) < 0)
		return 0;
	_cleanup_(free_ptr) char *printed = git_source_print(&s);
	_cleanup_(git_source_free) struct git_source again;
	if (!good(&s) || git_source_parse(printed, &again, NULL) < 0 || !same(&s, &again))
		abort();
	return 0;
}
