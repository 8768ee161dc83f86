/* Where a git repository is and what of it is meant, as Docker's clients write it: URL[#[REF][:DIRECTORY]]. Pure data, no I/O.
 *
 * A URL is https://, http://, git:// or ssh://, or user@host:path. Nothing that passes these checks can be taken for an option
 * of git's or ssh's, for a path of a host, or for one of git's other transports. */
#pragma once

#include "base/error.h"

struct git_source {
	char *url;	     /* without a password */
	char *authorization; /* what the URL's user and password are in HTTP, "Basic …": a secret; NULL: there are none */
	char *ref;	     /* a branch, a tag, the name of any ref, or a commit; NULL: what HEAD is there */
	char *directory;     /* beneath the repository's top, "a/b"; NULL: all of it */
};

/* Whether a word is meant as a repository: http(s) with a path that ends in .git, or any of the other URLs. */
bool git_source_is(const char *text);
/* Also "github.com/…", which is one of https. INVALID, without the password of HTTP in the message. On failure *out is empty. */
int git_source_parse(const char *text, struct git_source *out, struct error *err);
void git_source_free(struct git_source *s);
bool git_source_is_ssh(const struct git_source *s);
/* As it is written, without a password. Free it. */
char *git_source_print(const struct git_source *s);

/* Of the members, for tables. INVALID. */
int git_url_check(const char *url, struct error *err);
int git_ref_check(const char *ref, struct error *err);
int git_directory_check(const char *directory, struct error *err);
int git_authorization_check(const char *value, struct error *err);
/* The whole id of a commit, of SHA-1 or SHA-256. */
bool git_is_commit(const char *ref);
int git_commit_check(const char *commit, struct error *err);

/* What `git ls-remote` has said of a repository, a stranger's text: the ref that a name means (NULL: HEAD), as git-checkout takes
 * it, and the commit that it has. NOT_FOUND. Free both. */
int git_listed_ref(const char *listing, const char *ref, char **name, char **commit, struct error *err);
