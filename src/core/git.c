/* See git.h. */
#include "core/git.h"

#include "core/core-priv.h"

#include "base/str.h"

/* There is no other progress. */
static void on_progress(UNUSED const json_t *body, void *arg) {
	const struct git_caller *by = arg;
	by->agent_listens(by->arg);
}

static int ask(struct core *c, const char *request, const struct msg_git *body, const struct git_caller *by, int *fd, char **commit,
	       struct error *err) {
	struct msg_git_commit reply = {0};
	struct wire_call call = {
		.body = body,
		.fds = &by->agent,
		.nfds = by->agent >= 0,
		.reply = &reply,
		.reply_fds = fd,
		.reply_fds_max = fd ? 1 : 0,
		.on_progress = by->agent_listens ? on_progress : NULL,
		.arg = (void *)by,
		.cancel_fd = by->cancel_fd,
	};
	int r = agent_call_as(c, request, &call, err);
	if (r == 0)
		*commit = TAKE_PTR(reply.commit);
	fields_free(&msg_git_commit_table, &reply);
	return r;
}

static struct msg_git message(const struct git_source *s, bool keep) {
	return (struct msg_git){.url = s->url, .authorization = s->authorization, .ref = s->ref, .directory = s->directory, .keep = keep};
}

int git_resolve(struct core *c, const struct git_source *s, const struct git_caller *by, char **commit, struct error *err) {
	const struct msg_git body = message(s, false);
	return ask(c, "git-resolve", &body, by, NULL, commit, err);
}

int git_fetch(struct core *c, const struct git_source *s, bool keep, const struct git_caller *by, char **commit, int *fd,
	      struct error *err) {
	const struct msg_git body = message(s, keep);
	return ask(c, "git-fetch", &body, by, fd, commit, err);
}
