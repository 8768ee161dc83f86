/* Files of git repositories: the agent has git fetch them, confined; nothing of it stays on this host. */
#pragma once

#include "core/core.h"
#include "model/git.h"

struct git_caller {
	int cancel_fd; /* readable: give it up, CANCELLED */
	int agent;     /* a socket without a name, which git gets as that of an agent of ssh; -1: none */
	void (*agent_listens)(void *arg); /* connections come to it from now on */
	void *arg;
};
/* Which commit is meant; the server is asked, but for a commit's id. NOT_FOUND; UNAVAILABLE with git's own words; UNSUPPORTED where
 * there is no git. Free *commit. */
int git_resolve(struct core *c, const struct git_source *s, const struct git_caller *by, char **commit, struct error *err);
/* The same, and *fd: a stream with a tar of its files and those of its submodules. keep: with .git, of a whole repository.
 * TOO_LARGE; TIMEOUT. */
int git_fetch(struct core *c, const struct git_source *s, bool keep, const struct git_caller *by, char **commit, int *fd,
	      struct error *err);
