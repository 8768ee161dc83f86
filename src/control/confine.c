/* The confinement of control. Tests call these functions in a child and try to get out. */
#include "control/confine.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <netinet/in.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- ids and capabilities ---- */

static int drop_capabilities(struct error *err) {
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct none[2] = {0};
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
		return error_errno(err, errno, "clearing ambient capabilities");
	if (syscall(SYS_capset, &header, none) < 0)
		return error_errno(err, errno, "dropping capabilities");
	return 0;
}

/* Before the ids change: it needs CAP_SETPCAP. */
static int empty_bounding_set(struct error *err) {
	for (int cap = 0; cap < 64; cap++)
		if (prctl(PR_CAPBSET_READ, cap, 0, 0, 0) == 1 && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
			return error_errno(err, errno, "dropping capability %d from the bounding set", cap);
	return 0;
}

int confine_user(uid_t uid, gid_t gid, struct error *err) {
	pid_t parent = getppid();
	int r = empty_bounding_set(err);
	if (r < 0)
		return r;
	if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
		return error_errno(err, errno, "becoming user %u, group %u", uid, gid);
	r = drop_capabilities(err);
	if (r < 0)
		return r;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return error_errno(err, errno, "giving up new privileges");
	/* a change of ids forgets it, so it comes last */
	if (prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0) < 0)
		return error_errno(err, errno, "asking to end with the parent");
	return getppid() == parent ? 0 : error_set(err, ERROR_CANCELLED, "the parent has ended");
}

/* ---- Landlock: struct and flags newer than Debian 12's headers ---- */

struct ruleset_attr {
	uint64_t handled_access_fs, handled_access_net, scoped;
};
#define ACCESS_TRUNCATE (UINT64_C(1) << 14)  /* ABI 3 */
#define ACCESS_IOCTL_DEV (UINT64_C(1) << 15) /* ABI 5 */
#define SCOPE_ABSTRACT_UNIX_SOCKET UINT64_C(1)
#define SCOPE_SIGNAL UINT64_C(2) /* ABI 6 */

#define ACCESS_READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define ACCESS_CHANGE                                                                                              \
	(LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |          \
	 LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG)
#define ACCESS_FILE (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | ACCESS_TRUNCATE)

static uint64_t access_known(int abi) {
	uint64_t known = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1;
	if (abi >= 2)
		known |= LANDLOCK_ACCESS_FS_REFER;
	if (abi >= 3)
		known |= ACCESS_TRUNCATE;
	if (abi >= 5)
		known |= ACCESS_IOCTL_DEV;
	return known;
}

static int add_path(int ruleset, const struct confine_path *p, uint64_t known, struct error *err) {
	_cleanup_(close_fd) int fd = open(p->path, O_PATH | O_CLOEXEC);
	if (fd < 0 && (errno == ENOENT || errno == EACCES))
		return 0;
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0)
		return error_errno(err, errno, "opening %s", p->path);
	uint64_t access = ACCESS_READ;
	if (p->write)
		access |= ACCESS_CHANGE | ACCESS_TRUNCATE | LANDLOCK_ACCESS_FS_REFER;
	if (!S_ISDIR(st.st_mode))
		access &= ACCESS_FILE;
	struct landlock_path_beneath_attr rule = {.allowed_access = access & known, .parent_fd = fd};
	if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0)
		return error_errno(err, errno, "allowing %s", p->path);
	return 0;
}

int confine_files(const struct confine_path *paths, size_t n, struct error *err) {
	int abi = (int)syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	if (abi < 1)
		return error_set(err, ERROR_UNSUPPORTED, "this kernel has no Landlock");
	struct ruleset_attr attr = {.handled_access_fs = access_known(abi)};
	if (abi >= 6)
		attr.scoped = SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL;
	size_t size = abi >= 6 ? sizeof attr : sizeof attr.handled_access_fs;
	_cleanup_(close_fd) int ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, size, 0);
	if (ruleset < 0)
		return error_errno(err, errno, "making a Landlock rule set");
	for (size_t i = 0; i < n; i++) {
		int r = add_path(ruleset, &paths[i], attr.handled_access_fs, err);
		if (r < 0)
			return r;
	}
	if (syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
		return error_errno(err, errno, "restricting by Landlock");
	return 0;
}

/* ---- seccomp ---- */

static const char *const calls[] = {
	/* memory and threads */
	"brk", "mmap", "munmap", "mremap", "mprotect", "madvise", "msync", "mlock", "munlock", "mincore", "membarrier",
	"futex", "set_robust_list", "get_robust_list", "rseq", "set_tid_address", "arch_prctl", "exit", "exit_group",
	"sched_yield", "sched_getaffinity", "getcpu", "gettid", "getpid", "getppid", "getuid", "geteuid", "getgid",
	"getegid", "getgroups", "getpgrp", "getrusage", "getrlimit", "sysinfo", "uname", "times", "getrandom",
	/* time and signals */
	"clock_gettime", "clock_getres", "clock_nanosleep", "nanosleep", "gettimeofday", "time", "rt_sigaction",
	"rt_sigprocmask", "rt_sigreturn", "rt_sigtimedwait", "rt_sigpending", "sigaltstack", "tgkill", "restart_syscall",
	/* files: which ones is Landlock's matter */
	"open", "openat", "openat2", "creat", "close", "close_range", "read", "write", "readv", "writev", "pread64", "pwrite64",
	"preadv", "pwritev", "preadv2", "pwritev2", "lseek", "fcntl", "dup", "dup2", "dup3", "flock", "fsync", "fdatasync",
	"sync_file_range", "ftruncate", "truncate", "fallocate", "fadvise64", "copy_file_range", "sendfile", "splice",
	"stat", "fstat", "lstat", "newfstatat", "statx", "statfs", "fstatfs", "access", "faccessat", "faccessat2",
	"getdents64", "getcwd", "readlink", "readlinkat", "rename", "renameat", "renameat2", "unlink", "unlinkat", "mkdir",
	"mkdirat", "rmdir", "link", "linkat", "chmod", "fchmod", "fchmodat", "utimensat", "umask", "memfd_create",
	"inotify_init1", "inotify_add_watch", "inotify_rm_watch",
	/* waiting */
	"poll", "ppoll", "select", "pselect6", "epoll_create1", "epoll_create", "epoll_ctl", "epoll_wait", "epoll_pwait",
	"epoll_pwait2", "eventfd2", "signalfd4", "timerfd_create", "timerfd_settime", "timerfd_gettime", "pipe", "pipe2",
	/* sockets: which families, see below */
	"socketpair", "connect", "bind", "listen", "accept", "accept4", "getsockname", "getpeername", "getsockopt", "setsockopt",
	"sendto", "sendmsg", "sendmmsg", "recvfrom", "recvmsg", "recvmmsg", "shutdown",
};

static int allow_all(scmp_filter_ctx f) {
	for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
		int call = seccomp_syscall_resolve_name(calls[i]);
		if (call < 0)
			continue; /* not on this architecture */
		int r = seccomp_rule_add(f, SCMP_ACT_ALLOW, call, 0);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Those whose arguments matter. clone3 stays out, for its flags cannot be seen: glibc then takes clone. */
static int allow_some(scmp_filter_ctx f) {
	static const unsigned families[] = {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK};
	/* what libraries ask; not TIOCSTI, which types at the terminal of who has started the daemon */
	static const unsigned requests[] = {TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, SIOCGIFINDEX, SIOCGIFNAME};
	int r = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1, SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(families); i++)
		r = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1, SCMP_A0(SCMP_CMP_EQ, families[i]));
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(requests); i++) /* the kernel looks at 32 bits */
		r = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1, SCMP_A1(SCMP_CMP_MASKED_EQ, UINT32_MAX, requests[i]));
	if (r == 0)
		r = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1, SCMP_A0(SCMP_CMP_EQ, PR_SET_NAME));
	if (r == 0) /* reading limits, setting none */
		r = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), 1, SCMP_A2(SCMP_CMP_EQ, 0));
	return r;
}

int confine_calls(struct error *err) {
	scmp_filter_ctx f = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));
	if (!f)
		return error_set(err, ERROR_INTERNAL, "making a seccomp filter failed");
	int r = seccomp_attr_set(f, SCMP_FLTATR_CTL_NNP, 0);
	if (r == 0)
		seccomp_attr_set(f, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a binary tree; an older library has none */
	if (r == 0)
		r = allow_all(f);
	if (r == 0)
		r = allow_some(f);
	if (r == 0)
		r = seccomp_load(f);
	seccomp_release(f);
	return r < 0 ? error_errno(err, -r, "installing a seccomp filter") : 0;
}
