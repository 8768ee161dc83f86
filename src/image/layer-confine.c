/* The confined child: what is taken from it, in this order, before it reads the first byte.
 *
 *   file system   a mount namespace whose only mount is a clone of root's own (no /proc, nothing below
 *                 other mounts). Where root lies in another mount namespace it cannot be cloned: then
 *                 chroot, which holds because no descriptor of the outside and no CAP_SYS_CHROOT remain
 *   descriptors   0 the archive, 1 the reports, 2 standard error for the last words of abort()
 *   limits        no core, bounded memory and descriptors
 *   capabilities  those that writing files of any owner needs. Not SYS_ADMIN: the parent marks
 *                 directories opaque
 *   system calls  an allow-list without sockets, processes, mounts, signals to others
 *
 * A report is one fixed header and at most REPORT_TEXT_MAX bytes of text. */
#include "image/layer-confine.h"

#include "base/fs.h"
#include "base/json.h"
#include "base/proc.h"

#include <fcntl.h>
#include <iconv.h>
#include <linux/capability.h>
#include <linux/mount.h>
#include <locale.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/fsuid.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define REPORT_TEXT_MAX ((uint32_t)8192)
#define MEMORY_MAX ((rlim_t)2 << 30)
#define FILES_MAX ((rlim_t)4096)

#ifdef __SANITIZE_ADDRESS__
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

enum report_type { REPORT_PROGRESS = 1, REPORT_OPAQUE, REPORT_FAILED, REPORT_DONE };

struct report {
	uint32_t type;
	uint32_t kind;			   /* FAILED */
	uint32_t text_len;		   /* OPAQUE, FAILED */
	uint64_t value;			   /* PROGRESS: done; DONE: size */
	uint64_t total;			   /* PROGRESS */
	uint8_t digest[LAYER_DIGEST_SIZE]; /* DONE */
};

/* ---- the child ---- */

static int send_report(int fd, struct report r, const char *text) {
	_cleanup_(buf_free) struct buf b = BUF_INIT;
	size_t n = text ? strlen(text) : 0;
	r.text_len = (uint32_t)MIN(n, (size_t)REPORT_TEXT_MAX);
	buf_add(&b, &r, sizeof r);
	buf_add(&b, text, r.text_len);
	return fs_write_all(fd, b.data, b.len);
}

int confined_progress(struct confined *self, uint64_t done, uint64_t total) {
	return send_report(self->report, (struct report){.type = REPORT_PROGRESS, .value = done, .total = total}, NULL);
}

int confined_opaque(struct confined *self, const char *path) {
	return send_report(self->report, (struct report){.type = REPORT_OPAQUE}, path);
}

static int detach_root(int root, int tree) {
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return -errno;
	if (tree < 0)
		return fchdir(root) < 0 || chroot(".") < 0 || chdir("/") < 0 ? -errno : 0;
	if (syscall(SYS_move_mount, tree, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return -errno;
	if (fchdir(tree) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0)
		return -errno;
	return chdir("/") < 0 ? -errno : 0;
}

static int enter_root(int root, struct error *err) {
	/* cloned before unshare: afterwards root's mount is one of another namespace */
	_cleanup_(close_fd) int tree =
		(int)syscall(SYS_open_tree, root, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (tree < 0 && errno != EINVAL)
		return error_errno(err, errno, "cannot clone the mount to unpack into");
	if (unshare(CLONE_NEWNS) < 0)
		return error_errno(err, errno, "cannot make a mount namespace");
	int r = detach_root(root, tree);
	return r < 0 ? error_errno(err, r, "cannot enter the directory to unpack into") : 0;
}

static int set_limit(__rlimit_resource_t what, rlim_t most) {
	struct rlimit l;
	if (getrlimit(what, &l) < 0)
		return -errno;
	l.rlim_max = MIN(l.rlim_max, most);
	l.rlim_cur = l.rlim_max;
	return setrlimit(what, &l) < 0 ? -errno : 0;
}

static int drop_capabilities(void) {
	static const unsigned keep[] = {CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID, CAP_MKNOD, CAP_SETFCAP};
	uint64_t kept = 0;
	for (size_t i = 0; i < ARRAY_SIZE(keep); i++)
		kept |= UINT64_C(1) << keep[i];
	for (unsigned c = 0; prctl(PR_CAPBSET_READ, c, 0, 0, 0) >= 0; c++)
		if (!(kept >> c & 1) && prctl(PR_CAPBSET_DROP, c, 0, 0, 0) < 0)
			return -errno;
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {
		{.effective = (uint32_t)kept, .permitted = (uint32_t)kept},
		{.effective = (uint32_t)(kept >> 32), .permitted = (uint32_t)(kept >> 32)},
	};
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 || syscall(SYS_capset, &header, data) < 0)
		return -errno;
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : 0;
}

static const int allowed_calls[] = {
	/* the archive, the reports, file contents */
	SCMP_SYS(read),
	SCMP_SYS(pread64),
	SCMP_SYS(write),
	SCMP_SYS(pwrite64),
	SCMP_SYS(lseek),
	SCMP_SYS(close),
	/* names and what they stand for */
	SCMP_SYS(openat),
	SCMP_SYS(openat2),
	SCMP_SYS(newfstatat),
	SCMP_SYS(fstat),
	SCMP_SYS(getdents64),
	SCMP_SYS(fcntl),
	SCMP_SYS(mkdirat),
	SCMP_SYS(mknodat),
	SCMP_SYS(symlinkat),
	SCMP_SYS(linkat),
	SCMP_SYS(unlinkat),
	/* their properties */
	SCMP_SYS(ftruncate),
	SCMP_SYS(fchown),
	SCMP_SYS(fchownat),
	SCMP_SYS(fchmod),
	SCMP_SYS(fsetxattr),
	SCMP_SYS(utimensat),
	/* memory, the two threads, the end */
	SCMP_SYS(brk),
	SCMP_SYS(munmap),
	SCMP_SYS(mremap),
	SCMP_SYS(madvise),
	SCMP_SYS(futex),
	SCMP_SYS(sched_yield),
	SCMP_SYS(set_robust_list),
	SCMP_SYS(rseq),
	SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(rt_sigreturn),
	SCMP_SYS(restart_syscall),
	SCMP_SYS(clock_gettime),
	SCMP_SYS(gettimeofday),
	SCMP_SYS(getrandom),
	SCMP_SYS(gettid),
	SCMP_SYS(getpid),
	SCMP_SYS(exit),
	SCMP_SYS(exit_group),
#if SANITIZED
	SCMP_SYS(sigaltstack),
	SCMP_SYS(rt_sigaction),
	SCMP_SYS(readlink),
	SCMP_SYS(open),
	SCMP_SYS(prctl),
	SCMP_SYS(getrlimit),
	SCMP_SYS(prlimit64),
	SCMP_SYS(sched_getaffinity),
	SCMP_SYS(tgkill),
#endif
};

/* Other calls fail with ENOSYS: a C library of tomorrow may try a newer call and fall back. abort() dies
 * without tgkill as well. */
static int filter_calls(void) {
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));
	if (!ctx)
		return -ENOMEM;
	int r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_TSYNC, 1);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(allowed_calls); i++)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, allowed_calls[i], 0);
	/* no code is mapped any more: a library or a converter of libc would come from the foreign root */
	struct scmp_arg_cmp not_exec = SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0);
	if (r == 0)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1, not_exec);
	if (r == 0)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1, not_exec);
	if (r == 0)
		r = seccomp_load(ctx);
	seccomp_release(ctx);
	return r;
}

/* Leaves 0 (the archive), 1 (reports) and 2. */
static int arrange_descriptors(int archive, int report) {
	_cleanup_(close_fd) int a = fcntl(archive, F_DUPFD_CLOEXEC, 10);
	_cleanup_(close_fd) int p = fcntl(report, F_DUPFD_CLOEXEC, 10);
	return a < 0 || p < 0 || dup2(a, STDIN_FILENO) < 0 || dup2(p, STDOUT_FILENO) < 0 ? -errno : 0;
}

static int reset_process(pid_t parent) {
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
		return -errno;
	if (getppid() != parent)
		return -ESRCH;
	for (int s = 1; s < NSIG; s++)
		signal(s, SIG_DFL);
	signal(SIGPIPE, SIG_IGN);
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setlocale(LC_ALL, "C"); /* libarchive would normalise the UTF-8 of names in another */
	iconv_t converter = iconv_open("ANSI_X3.4-1968", "UTF-8"); /* libc reads its tables here and now */
	if (converter != (iconv_t)-1)
		iconv_close(converter);
	umask(0);
	return 0;
}

static int child_work(struct confine_job *job, pid_t parent, int *report, struct confine_result *result,
		      struct error *err) {
	_cleanup_(close_fd) int root = fcntl(job->root, F_DUPFD_CLOEXEC, 10);
	if (root < 0)
		return error_errno(err, errno, "cannot take the directory to unpack into");
	int r = reset_process(parent);
	if (r == 0)
		r = arrange_descriptors(job->archive, *report);
	if (r < 0)
		return error_errno(err, r, "cannot set up the unpacking process");
	*report = STDOUT_FILENO;
	r = job->prepare(job, STDIN_FILENO, err);
	if (r < 0)
		return r;
	r = enter_root(root, err);
	if (r < 0)
		return r;
	r = close_range(STDERR_FILENO + 1, ~0U, 0) < 0 ? -errno : 0;
	root = -1;
	if (r == 0)
		r = set_limit(RLIMIT_CORE, 0);
	if (r == 0)
		r = set_limit(RLIMIT_NOFILE, FILES_MAX);
	if (r == 0 && !SANITIZED)
		r = set_limit(RLIMIT_AS, MEMORY_MAX);
	setfsgid(job->owner);
	setfsuid(job->owner); /* takes capabilities away, which the next step settles */
	if (r == 0)
		r = drop_capabilities();
	if (r < 0)
		return error_errno(err, r, "cannot confine the unpacking process");
	r = job->start(job, err);
	if (r < 0)
		return r;
	root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	r = root < 0 ? -errno : filter_calls();
	if (r < 0)
		return error_errno(err, r, "cannot confine the unpacking process");
	struct confined self = {.report = STDOUT_FILENO};
	return job->work(job, &self, root, result, err);
}

static _Noreturn void child_main(struct confine_job *job, pid_t parent, int report) {
	struct error err = ERROR_INIT;
	struct confine_result result = {0};
	int r = child_work(job, parent, &report, &result, &err);
	struct report last = {.type = REPORT_DONE, .value = result.size};
	memcpy(last.digest, result.digest, sizeof last.digest);
	if (r < 0)
		last = (struct report){.type = REPORT_FAILED, .kind = err.kind};
	_exit(send_report(report, last, r < 0 ? error_text(&err) : NULL) < 0);
}

/* ---- the parent ---- */

/* 1, 0 at the end, -errno. */
static int read_exactly(int fd, void *data, size_t n) {
	for (size_t have = 0; have < n;) {
		ssize_t r = RETRY_EINTR(read(fd, (char *)data + have, n - have));
		if (r < 0)
			return -errno;
		if (r == 0)
			return have ? -EPIPE : 0;
		have += (size_t)r;
	}
	return 1;
}

/* Names from an archive are part of messages: only what is printable UTF-8 goes on. */
static void make_printable(char *text) {
	json_t *valid = json_string(text);
	for (unsigned char *p = (unsigned char *)text; *p; p++)
		if (*p < 0x20 || *p == 0x7f || (*p >= 0x80 && !valid))
			*p = '?';
	json_decref(valid);
}

static int take_failure(const struct report *r, char *text, struct error *err) {
	if (r->kind == ERROR_NONE || r->kind >= ERROR_KINDS)
		return error_set(err, ERROR_INTERNAL, "the unpacking process sent a malformed report");
	make_printable(text);
	return error_set(err, r->kind, "%s", text);
}

/* One report. 1: go on; 0: done; negative: failed. */
static int take_report(struct confine_job *job, int fd, struct confine_result *result, struct error *err) {
	struct report r;
	_cleanup_(free_ptr) char *text = NULL;
	int z = read_exactly(fd, &r, sizeof r);
	if (z == 0)
		return error_set(err, ERROR_INTERNAL, "the unpacking process ended without a result");
	if (z > 0 && r.text_len <= REPORT_TEXT_MAX) {
		text = alloc_zero(r.text_len + 1);
		z = r.text_len ? read_exactly(fd, text, r.text_len) : 1;
	}
	if (z <= 0 || !text || strlen(text) != r.text_len)
		return error_set(err, ERROR_INTERNAL, "the unpacking process sent a malformed report");
	switch (r.type) {
	case REPORT_PROGRESS:
		if (job->progress)
			job->progress(r.total ? MIN(r.value, r.total) : r.value, r.total, job->arg);
		return 1;
	case REPORT_OPAQUE:
		z = job->opaque ? job->opaque(job, text, err) : error_set(err, ERROR_INTERNAL, "unexpected report");
		return z < 0 ? z : 1;
	case REPORT_FAILED:
		return take_failure(&r, text, err);
	case REPORT_DONE:
		result->size = r.value;
		memcpy(result->digest, r.digest, sizeof result->digest);
		return 0;
	default:
		return error_set(err, ERROR_INTERNAL, "the unpacking process sent a malformed report");
	}
}

int confine_run(struct confine_job *job, struct confine_result *result, struct error *err) {
	int pipe_fds[2];
	if (pipe2(pipe_fds, O_CLOEXEC) < 0)
		return error_errno(err, errno, "cannot make a pipe");
	_cleanup_(close_fd) int reports = pipe_fds[0];
	_cleanup_(close_fd) int report = pipe_fds[1];
	pid_t parent = getpid();
	pid_t pid = fork();
	if (pid < 0)
		return error_errno(err, errno, "cannot start the unpacking process");
	if (pid == 0)
		child_main(job, parent, report);
	close_fd(&report);
	int r;
	do
		r = take_report(job, reports, result, err);
	while (r > 0);
	if (r < 0)
		kill(pid, SIGKILL); /* it has ended, or is not to be trusted; not yet waited for, so it is ours */
	int status = proc_wait(pid);
	if (r < 0 && status > 128 && status != 128 + SIGKILL)
		return error_set(err, ERROR_INTERNAL, "the unpacking process died of signal %d", status - 128);
	return r;
}
