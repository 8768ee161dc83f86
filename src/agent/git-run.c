/* git, and ssh under it, on what a stranger's server says: as control's user, without a capability, in a tree that holds the host's
 * programs to read and one directory to write, with the host's network and nothing else of it: no credentials, no configuration, no
 * processes, no sockets. It runs as the first process of a name space, so nothing that it begins outlives it. */
#include "agent/agent-priv.h"

#include "base/fs.h"
#include "base/proc.h"
#include "base/str.h"
#include "driver/container/confine.h"
#include "model/git.h"

#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FILE_MAX ((rlim_t)16 << 30)
#define MEMORY_MAX ((uint64_t)8 << 30)
#define PROCESSES_MAX 2048 /* of the user in all: those of control, too */
#define LISTING_MAX ((size_t)64 << 20)
#define HOST_FILE_MAX ((size_t)1 << 20)
#define MESSAGE_MAX ((size_t)600)
#define NOBODY 65534
#define TREE "/work/tree"

/* ---- the tree around it ---- */

static int attach(int mount, const char *target, uint64_t more) {
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_NOSUID | more};
	if (mount < 0 || mount_setattr(mount, "", AT_EMPTY_PATH, &attr, sizeof attr) < 0)
		return -1;
	return move_mount(mount, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH);
}

static int attach_path(const char *path, uint64_t more) {
	_cleanup_(close_fd) int mount = open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	return attach(mount, path + 1, more);
}

static int attach_device(const char *path) {
	_cleanup_(close_fd) int place = open(path + 1, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	return place < 0 ? -1 : attach_path(path, MOUNT_ATTR_NOEXEC);
}

static int write_file(const char *path, const char *text, size_t n) {
	_cleanup_(close_fd) int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	return fd < 0 || fs_write_all(fd, text, n) < 0 ? -1 : 0;
}

/* What finding names of hosts needs; one that is not there is done without. */
static int copy_files(void) {
	static const char *const files[] = {"/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf"};
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		_cleanup_(buf_free) struct buf text = BUF_INIT;
		if (fs_read(files[i], HOST_FILE_MAX, &text) == 0 && write_file(files[i] + 1, buf_str(&text), text.len) < 0)
			return -1;
	}
	return 0;
}

static int make_directories(void) {
	static const char *const dirs[] = {"usr", "etc", "etc/ssl", "etc/ssl/certs", "dev", "home", "work"};
	static const char *const links[][2] = {{"usr/bin", "bin"}, {"usr/lib", "lib"}, {"usr/lib64", "lib64"}};
	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++)
		if (mkdir(dirs[i], 0755) < 0)
			return -1;
	for (size_t i = 0; i < ARRAY_SIZE(links); i++)
		if (symlink(links[i][0], links[i][1]) < 0)
			return -1;
	return 0;
}

static int make_tree(const struct git_task *t, gid_t gid) {
	struct mount_attr read_only = {.attr_set = MOUNT_ATTR_RDONLY};
	_cleanup_(free_ptr) char *user = str_format("git:x:%u:%u::/home:/usr/sbin/nologin\n", t->uid, gid);
	_cleanup_(close_fd) int work = open_tree(t->work, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
	if (unshare(CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID, "mode=755,size=8m") < 0 || chdir("/tmp") < 0 || make_directories() < 0)
		return -1;
	if (attach_path("/usr", MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV) < 0 ||
	    attach(work, "work", MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC) < 0 || attach_device("/dev/null") < 0 ||
	    attach_device("/dev/urandom") < 0)
		return -1;
	if (fs_exists("/etc/ssl/certs") && attach_path("/etc/ssl/certs", MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV) < 0)
		return -1;
	if (copy_files() < 0 || write_file("etc/passwd", user, strlen(user)) < 0)
		return -1;
	if (syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return -1;
	return mount_setattr(AT_FDCWD, "/", 0, &read_only, sizeof read_only);
}

/* ---- powers ---- */

static int become(uid_t uid, gid_t gid) {
	struct rlimit none = {0, 0}, file = {FILE_MAX, FILE_MAX}, processes = {PROCESSES_MAX, PROCESSES_MAX};
	if (setrlimit(RLIMIT_CORE, &none) < 0 || setrlimit(RLIMIT_FSIZE, &file) < 0 || setrlimit(RLIMIT_NPROC, &processes) < 0)
		return -1;
	if (worker_drop_bounds() < 0 || setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
		return -1;
	return worker_drop_powers();
}

/* The worker may have ended before we asked to end with it; a change of the user forgets that. */
static int end_with(int parent) {
	struct pollfd p = {parent, 0, 0};
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
		return -1;
	return poll(&p, 1, 0) != 0 ? -1 : 0;
}

static int confine(const struct git_task *t, struct error *err) {
	const struct passwd *user = getpwuid(t->uid);
	gid_t gid = user ? user->pw_gid : NOBODY;
	_cleanup_(json_free_ptr) json_t *profile = seccomp_default_profile(0);
	struct sock_fprog filter = {0};
	unsigned flags = 0;
	int r = seccomp_compile(profile, 0, &filter, &flags, err);
	if (r == 0 && (make_tree(t, gid) < 0 || become(t->uid, gid) < 0 || end_with(t->parent) < 0))
		r = error_errno(err, errno, "cannot confine git");
	if (r == 0)
		r = seccomp_install(&filter, flags, err);
	free(filter.filter);
	return r;
}

/* ---- running git ---- */

static void set_config(char ***env, size_t *n, const char *key, const char *value) {
	strv_take(env, str_format("GIT_CONFIG_KEY_%zu=%s", *n, key));
	strv_take(env, str_format("GIT_CONFIG_VALUE_%zu=%s", *n, value));
	++*n;
}

/* Whom the secret is for: the repository; on GitHub all of them, as with those that BuildKit is given. */
static char *header_key(const char *url) {
	const char *scope = str_starts(url, "https://github.com/") ? "https://github.com/" : url;
	return str_format("http.%s.extraHeader", scope);
}

static char **environment(const struct git_task *t) {
	const struct msg_git *m = t->repository;
	static const char *const fixed[] = {
		"PATH=/usr/bin", "HOME=/home", "LANG=C.UTF-8", "TMPDIR=/work", "GIT_TERMINAL_PROMPT=0", "GIT_CONFIG_NOSYSTEM=1",
		"GIT_CONFIG_GLOBAL=/dev/null", "GIT_ALLOW_PROTOCOL=https:http:git:ssh", "GIT_PROTOCOL_FROM_USER=0",
		"GIT_HTTP_LOW_SPEED_LIMIT=1", "GIT_HTTP_LOW_SPEED_TIME=60",
		"GIT_SSH_COMMAND=ssh -F none -o BatchMode=yes -o StrictHostKeyChecking=accept-new -o UserKnownHostsFile=/work/known_hosts "
		"-o GlobalKnownHostsFile=none -o ConnectTimeout=30",
	};
	static const char *const config[][2] = {
		{"core.hooksPath", "/dev/null"}, {"core.fsmonitor", "false"},	 {"core.bigFileThreshold", "64m"},
		{"gc.auto", "0"},		 {"maintenance.auto", "false"},	 {"init.defaultBranch", "main"},
		{"fetch.unpackLimit", "1"},	 {"fetch.writeCommitGraph", "false"},
	};
	static const char *const proxies[] = {"http_proxy", "https_proxy", "no_proxy"};
	char **env = NULL;
	size_t n = 0;
	for (size_t i = 0; i < ARRAY_SIZE(fixed); i++)
		strv_add(&env, fixed[i]);
	for (size_t i = 0; i < ARRAY_SIZE(proxies); i++)
		if (getenv(proxies[i]))
			strv_take(&env, str_format("%s=%s", proxies[i], getenv(proxies[i])));
	for (size_t i = 0; i < ARRAY_SIZE(config); i++)
		set_config(&env, &n, config[i][0], config[i][1]);
	if (t->agent)
		strv_add(&env, "SSH_AUTH_SOCK=/work/agent");
	if (m->authorization) {
		_cleanup_(free_ptr) char *key = header_key(m->url), *header = str_format("Authorization: %s", m->authorization);
		set_config(&env, &n, key, header);
	}
	strv_take(&env, str_format("GIT_CONFIG_COUNT=%zu", n));
	return env;
}

/* The end of what it has said, in a line. */
static char *last_words(const struct buf *text) {
	struct buf out = BUF_INIT;
	const char *p = buf_str(text);
	p += text->len > MESSAGE_MAX ? text->len - MESSAGE_MAX : 0;
	_cleanup_(strv_free_ptr) char **lines = strv_split(p, '\n');
	for (char **l = lines; *l; l++)
		if (**l)
			buf_addf(&out, "%s%s", out.len ? "; " : "", *l);
	for (size_t i = 0; i < out.len; i++)
		if ((unsigned char)out.data[i] < ' ' || out.data[i] == 0x7f)
			out.data[i] = '?';
	return buf_steal(&out);
}

struct git {
	const struct msg_git *repository;
	char **env;
};

/* One command, in TREE. out: what it prints; NULL: nothing of it. */
static int git(const struct git *g, struct buf *out, struct error *err, const char *const *words) {
	_cleanup_(buf_free) struct buf said = BUF_INIT;
	_cleanup_(strv_free_ptr) char **argv = NULL;
	strv_add(&argv, "/usr/bin/git");
	strv_add(&argv, "-C");
	strv_add(&argv, TREE);
	for (const char *const *w = words; *w; w++)
		strv_add(&argv, *w);
	struct proc p = {.argv = argv, .env = g->env, .output = out, .errors = &said, .memory_max = MEMORY_MAX};
	int r = proc_run(&p, err);
	if (r < 0 || p.status == 0)
		return r;
	_cleanup_(free_ptr) char *why = last_words(&said);
	return error_set(err, ERROR_UNAVAILABLE, "git %s: %s", words[0], *why ? why : "it gives no reason");
}
#define GIT(g, out, err, ...) git(g, out, err, (const char *const[]){__VA_ARGS__, NULL})

static int begin(const struct git *g, struct error *err) {
	if (mkdir(TREE, 0755) < 0)
		return error_errno(err, errno, "cannot make the repository's directory");
	int r = GIT(g, NULL, err, "init", "--quiet", "--template=");
	return r < 0 ? r : GIT(g, NULL, err, "remote", "add", "origin", g->repository->url);
}

/* Asks the server, but for a commit's id. *name: of the ref, or that id. */
static int resolve(const struct git *g, char **name, char **commit, struct error *err) {
	const char *ref = g->repository->ref;
	_cleanup_(buf_free) struct buf listing = BUF_INIT_MAX(LISTING_MAX);
	_cleanup_(free_ptr) char *peeled = str_format("%s^{}", ref ? ref : "HEAD");
	if (ref && git_is_commit(ref)) {
		*name = str_copy(ref);
		*commit = str_copy(ref);
		return 0;
	}
	int r = GIT(g, &listing, err, "ls-remote", "--quiet", "origin", ref ? ref : "HEAD", peeled);
	return r < 0 ? r : git_listed_ref(buf_str(&listing), ref, name, commit, err);
}

/* A server need not give a part of the history, nor a commit that no ref is at: then all. */
static int fetch_history(const struct git *g, const char *name, struct error *err) {
	bool tag = str_starts(name, "refs/tags/");
	_cleanup_(free_ptr) char *what = tag ? str_format("+%s:%s", name, name) : str_copy(name);
	if (GIT(g, NULL, NULL, "fetch", "--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules", "origin", what) == 0)
		return 0;
	if (!git_is_commit(name))
		return GIT(g, NULL, err, "fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "origin", what);
	return GIT(g, NULL, err, "fetch", "--quiet", "--no-recurse-submodules", "origin", "+refs/heads/*:refs/remotes/origin/*",
		   "+refs/tags/*:refs/tags/*");
}

static int fetched_commit(const struct git *g, const char *name, char **commit, struct error *err) {
	_cleanup_(buf_free) struct buf id = BUF_INIT_MAX(256);
	_cleanup_(free_ptr) char *what = str_format("%s^{commit}", git_is_commit(name) ? name : "FETCH_HEAD");
	if (GIT(g, &id, NULL, "rev-parse", "--verify", "--quiet", what) < 0)
		return error_set(err, ERROR_NOT_FOUND, "repository does not contain commit %s", name);
	*commit = str_copyn(buf_str(&id), strcspn(buf_str(&id), "\n"));
	return 0;
}

static int fetch_submodules(const struct git *g, struct error *err) {
	struct stat st;
	if (lstat(TREE "/.gitmodules", &st) < 0 || !S_ISREG(st.st_mode))
		return 0;
	if (GIT(g, NULL, NULL, "submodule", "--quiet", "update", "--init", "--recursive", "--depth=1") == 0)
		return 0;
	int r = GIT(g, NULL, err, "submodule", "--quiet", "deinit", "--all", "--force");
	if (r == 0 && (r = fs_remove_tree(TREE "/.git/modules")) < 0)
		return error_errno(err, r, "cannot begin anew with submodules");
	return r < 0 ? r : GIT(g, NULL, err, "submodule", "--quiet", "update", "--init", "--recursive");
}

static int fetch(const struct git *g, char **commit, struct error *err) {
	_cleanup_(free_ptr) char *name = NULL, *listed = NULL;
	int r = resolve(g, &name, &listed, err);
	if (r == 0)
		r = fetch_history(g, name, err);
	if (r == 0)
		r = fetched_commit(g, name, commit, err);
	if (r == 0)
		r = GIT(g, NULL, err, "checkout", "--quiet", "--detach", *commit, "--");
	return r < 0 ? r : fetch_submodules(g, err);
}

static int work(const struct git_task *t, char **commit, struct error *err) {
	_cleanup_(strv_free_ptr) char **env = environment(t);
	_cleanup_(free_ptr) char *name = NULL;
	const struct git g = {t->repository, env};
	int r = begin(&g, err);
	if (r == 0)
		r = t->fetch ? fetch(&g, commit, err) : resolve(&g, &name, commit, err);
	return r;
}

void git_run(const struct git_task *t) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(free_ptr) char *commit = NULL;
	int r = confine(t, &err);
	if (r == 0)
		r = work(t, &commit, &err);
	_cleanup_(free_ptr) char *text = r < 0 ? str_format("%s\n%s", error_kind_name(err.kind), error_text(&err)) : str_copy(commit);
	_exit(fs_write_all(t->said, text, strlen(text)) < 0 ? 2 : r < 0 ? 1 : 0);
}
