/* Files of git repositories. The real git talks to the stranger, in a process that is confined and nobody (git-run.c); here is who
 * waits for it, ends it when it takes too long or too much, and sends on what it has left in its directory. */
#include "agent/agent-priv.h"

#include "base/fs.h"
#include "base/proc.h"
#include "base/str.h"
#include "image/layer.h"
#include "model/git.h"

#include <fcntl.h>
#include <fts.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define PROGRAM "/usr/bin/git"
#define NOBODY 65534
#define FETCH_TIME (30 * 60 * NS_PER_SEC)
#define RESOLVE_TIME (2 * 60 * NS_PER_SEC)
#define AGENT_BACKLOG 16
#define SAID_MAX ((size_t)16384)
/* What it may leave on disk: as many files as a context may have. */
#define ENTRIES_MAX 2000000
#define BYTES_MAX ((int64_t)16 << 30)
#define LOOK_MS 500

/* ---- its limits ---- */

struct watched {
	const char *path;
	int64_t until;
	int64_t next_look; /* at its size */
	bool fetch;
};

static int check_size(const struct watched *w, struct error *err) {
	char *const paths[] = {(char *)w->path, NULL};
	FTS *walk = fts_open(paths, FTS_PHYSICAL | FTS_XDEV, NULL);
	int64_t entries = 0, bytes = 0;
	for (FTSENT *e; walk && entries <= ENTRIES_MAX && (e = fts_read(walk)); entries++)
		if (e->fts_info == FTS_D || e->fts_info == FTS_F)
			bytes += e->fts_statp->st_blocks * 512;
	if (walk)
		fts_close(walk);
	if (entries <= ENTRIES_MAX && bytes <= BYTES_MAX)
		return 0;
	return error_set(err, ERROR_TOO_LARGE, "the repository is too large: at most %d files and %lld GiB", ENTRIES_MAX,
			 (long long)(BYTES_MAX >> 30));
}

static int check(struct watched *w, struct error *err) {
	int64_t now = time_mono_ns();
	if (now >= w->until)
		return error_set(err, ERROR_TIMEOUT, "the repository's server is too slow: it took more than %d minutes",
				 (int)((w->fetch ? FETCH_TIME : RESOLVE_TIME) / NS_PER_SEC / 60));
	if (!w->fetch || now < w->next_look)
		return 0;
	int r = check_size(w, err);
	w->next_look = now + MAX(LOOK_MS * NS_PER_MS, 20 * (time_mono_ns() - now));
	return r;
}

/* Until it has ended, of itself; what it says is in *text. */
static int listen_to(const struct job *j, struct watched *w, int said, struct buf *text, struct error *err) {
	for (;;) {
		struct pollfd p[] = {{said, POLLIN, 0}, {j->sock, POLLRDHUP, 0}};
		if (RETRY_EINTR(poll(p, 2, LOOK_MS)) < 0)
			return error_errno(err, errno, "cannot wait for git");
		if (p[1].revents) /* the agent, which would see that, may be gone */
			return error_set(err, ERROR_CANCELLED, "nobody waits for the repository any more");
		if (p[0].revents) {
			char chunk[4096];
			ssize_t n = RETRY_EINTR(read(said, chunk, sizeof chunk));
			if (n <= 0)
				return 0;
			buf_add(text, chunk, (size_t)n);
		}
		int r = check(w, err);
		if (r < 0)
			return r;
	}
}

/* ---- one run of it ---- */

static int take_said(const struct buf *text, int status, char **commit, struct error *err) {
	struct str rest = str_view(buf_str(text)), kind = str_cut(&rest, '\n');
	_cleanup_(free_ptr) char *first = str_copyn(kind.p, kind.len), *why = str_copyn(rest.p, rest.len);
	if (status == 0 && git_is_commit(first)) {
		*commit = TAKE_PTR(first);
		return 0;
	}
	enum error_kind why_not = error_kind_from_name(first);
	if (status != 1 || why_not == ERROR_NONE || buf_overflowed(text))
		return error_set(err, ERROR_INTERNAL, "what fetches the repository ended with status %d", status);
	return error_set(err, why_not, "%s", why);
}

static int make_work(const struct place *p, uid_t uid, struct error *err) {
	int work = mkdirat(p->dir, "work", 0700) < 0 ? -1 : openat(p->dir, "work", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (work < 0 || fchown(work, uid, (gid_t)-1) < 0) {
		error_errno(err, errno, "cannot make %s/work", p->path);
		close_fd(&work);
	}
	return work;
}

/* The socket that came along gets its name where git has its directory; control answers at it. */
static int name_agent(const struct job *j, int work, uid_t uid, struct error *err) {
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	char dir[FD_PATH_MAX];
	if (!j->nfds)
		return 0;
	snprintf(at.sun_path, sizeof at.sun_path, "%s/agent", fd_path(work, dir));
	if (bind(j->fds[0], (struct sockaddr *)&at, sizeof at) < 0 || fchownat(work, "agent", uid, (gid_t)-1, AT_SYMLINK_NOFOLLOW) < 0 ||
	    listen(j->fds[0], AGENT_BACKLOG) < 0)
		return error_errno(err, errno, "cannot name the socket of an agent of ssh");
	job_progress(j, "the agent of ssh listens", 0, 0);
	return 0;
}

static int run(struct job *j, const struct place *p, bool fetch, char **commit, struct error *err) {
	uid_t uid = j->agent->options.uid ? j->agent->options.uid : NOBODY;
	_cleanup_(buf_free) struct buf text = BUF_INIT_MAX(SAID_MAX);
	_cleanup_(close_fd) int work = make_work(p, uid, err);
	int said[2], parent[2];
	if (work < 0 || name_agent(j, work, uid, err) < 0)
		return -ERROR_INTERNAL;
	if (pipe2(said, O_CLOEXEC) < 0 || pipe2(parent, O_CLOEXEC) < 0 || unshare(CLONE_NEWPID) < 0)
		return error_errno(err, errno, "cannot start git");
	const struct git_task t = {j->body, fetch, uid, work, j->nfds > 0, said[1], parent[0]};
	pid_t pid = fork();
	if (pid == 0) {
		close_fd(&parent[1]);
		git_run(&t);
	}
	close_fd(&said[1]);
	struct watched w = {p->path, time_mono_ns() + (fetch ? FETCH_TIME : RESOLVE_TIME), 0, fetch};
	int r = pid < 0 ? error_errno(err, errno, "cannot start git") : listen_to(j, &w, said[0], &text, err);
	if (r < 0 && pid > 0)
		kill(pid, SIGKILL);
	int status = pid > 0 ? proc_wait(pid) : 0; /* all that it has begun has ended then */
	close_fd(&said[0]);
	close_fd(&parent[0]);
	close_fd(&parent[1]);
	return r < 0 ? r : take_said(&text, status, commit, err);
}

/* ---- what it has fetched ---- */

/* The directory that is wanted; links lead to places in the repository alone. */
static int open_tree_of(const struct place *p, const struct msg_git *m, struct error *err) {
	_cleanup_(close_fd) int top = fs_open_beneath(p->dir, "work/tree", O_RDONLY | O_DIRECTORY, 0);
	if (top < 0)
		return error_errno(err, top, "cannot open the repository's files");
	int r = m->keep ? 0 : fs_remove_tree_at(top, ".git");
	if (r < 0)
		return error_errno(err, r, "cannot remove .git");
	int dir = fs_open_in_root(top, m->directory ? m->directory : ".", O_RDONLY | O_DIRECTORY, 0);
	if (dir < 0)
		return error_set(err, ERROR_INVALID, "the repository has no directory %s", m->directory ? m->directory : ".");
	return dir;
}

static int send_tree(struct job *j, const struct place *p, const struct msg_git_commit *reply, struct error *err) {
	_cleanup_(close_fd) int dir = open_tree_of(p, j->body, err);
	_cleanup_(close_fd) int writer = -1;
	int r = dir < 0 ? dir : answer_stream(j, reply, &writer, err);
	if (r == 0)
		r = tree_pack(dir, "/", ".", 0, writer, err);
	if (r == 0)
		guard_finish(&writer);
	return r;
}

static int work(struct job *j, bool fetch, struct error *err) {
	_cleanup_(place_close) struct place p = PLACE_INIT;
	_cleanup_(free_ptr) char *commit = NULL;
	if (access(PROGRAM, X_OK) < 0)
		return error_set(err, ERROR_UNSUPPORTED, "git repositories need git, which is not installed on this host (package git)");
	int r = place_open(j->agent, "git", &p, err);
	if (r == 0)
		r = run(j, &p, fetch, &commit, err);
	fault_point("git.done");
	const struct msg_git_commit reply = {.commit = commit};
	if (r == 0)
		r = fetch ? send_tree(j, &p, &reply, err) : job_answer(j, &reply, NULL, 0, err);
	return r;
}

int work_git_resolve(struct job *j, struct error *err) {
	return work(j, false, err);
}

int work_git_fetch(struct job *j, struct error *err) {
	return work(j, true, err);
}
