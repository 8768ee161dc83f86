/* See git.h. */
#include "core/git.h"

#include "core/core-priv.h"

#include "base/str.h"

static int ask(struct core *c, const char *request, const struct git_source *s, bool keep, int cancel_fd, int *fd, char **commit,
	       struct error *err) {
	const struct msg_git body = {
		.url = s->url, .authorization = s->authorization, .ref = s->ref, .directory = s->directory, .keep = keep};
	struct msg_git_commit reply = {0};
	int r = agent_call_cancellable(c, request, &body, &reply, fd, cancel_fd, err);
	if (r == 0)
		*commit = TAKE_PTR(reply.commit);
	fields_free(&msg_git_commit_table, &reply);
	return r;
}

int git_resolve(struct core *c, const struct git_source *s, int cancel_fd, char **commit, struct error *err) {
	return ask(c, "git-resolve", s, false, cancel_fd, NULL, commit, err);
}

int git_fetch(struct core *c, const struct git_source *s, bool keep, int cancel_fd, char **commit, int *fd, struct error *err) {
	return ask(c, "git-fetch", s, keep, cancel_fd, fd, commit, err);
}
