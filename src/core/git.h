/* Files of git repositories: the agent has git fetch them, confined; nothing of it stays on this host. */
#pragma once

#include "core/core.h"
#include "model/git.h"

/* Which commit is meant; the server is asked, but for a commit's id. CANCELLED when cancel_fd is readable; NOT_FOUND; UNAVAILABLE
 * with git's own words; UNSUPPORTED where there is no git. Free *commit. */
int git_resolve(struct core *c, const struct git_source *s, int cancel_fd, char **commit, struct error *err);
/* The same, and *fd: a stream with a tar of its files and those of its submodules. keep: with .git, of a whole repository.
 * TOO_LARGE; TIMEOUT. */
int git_fetch(struct core *c, const struct git_source *s, bool keep, int cancel_fd, char **commit, int *fd, struct error *err);
