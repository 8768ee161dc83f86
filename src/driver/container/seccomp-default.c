/* wabe's default seccomp profile: what Docker's allows, as a table. A container that has a capability may make
 * the system calls that are of no use, or too dangerous, without it. */
#include "driver/container/seccomp-priv.h"

#include "base/str.h"

#include <linux/capability.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/socket.h>

/* Allowed to all. */
static const char always[] =
	"_llseek _newselect accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir "
	"chmod chown chown32 clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime "
	"clock_gettime64 clock_nanosleep clock_nanosleep_time64 close close_range connect copy_file_range "
	"creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 "
	"epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 "
	"fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 "
	"fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat "
	"fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64 "
	"futex_wait futex_waitv futex_wake futimesat get_robust_list get_thread_area getcpu getcwd "
	"getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 "
	"getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresgid32 "
	"getresuid getresuid32 getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday "
	"getuid getuid32 getxattr getxattrat inotify_add_watch inotify_init inotify_init1 "
	"inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup "
	"io_submit ioctl ioprio_get ioprio_set ipc kill landlock_add_rule landlock_create_ruleset "
	"landlock_restrict_self lchown lchown32 lgetxattr link linkat listen listmount listxattr "
	"listxattrat llistxattr lremovexattr lseek lsetxattr lstat lstat64 madvise map_shadow_stack "
	"membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall "
	"mmap mmap2 mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 "
	"mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync "
	"munlock munlockall munmap name_to_handle_at nanosleep newfstatat open openat openat2 pause "
	"pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll "
	"ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease process_vm_readv "
	"process_vm_writev pselect6 pselect6_time64 ptrace pwrite64 pwritev pwritev2 read readahead "
	"readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages "
	"removexattr removexattrat rename renameat renameat2 restart_syscall riscv_hwprobe rmdir rseq "
	"rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend "
	"rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max "
	"sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler "
	"sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr "
	"sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop "
	"semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto set_robust_list "
	"set_thread_area set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 "
	"setgroups setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid setresgid32 "
	"setresuid setresuid32 setreuid setreuid32 setrlimit setsid setsockopt setuid setuid32 setxattr "
	"setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 sigprocmask "
	"sigreturn socketcall socketpair splice stat stat64 statfs statfs64 statmount statx symlink "
	"symlinkat sync sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete "
	"timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create "
	"timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill truncate "
	"truncate64 ugetrlimit umask uname unlink unlinkat uretprobe utime utimensat utimensat_time64 "
	"utimes vfork vmsplice wait4 waitid waitpid write writev";

#if defined(__x86_64__)
static const char of_arch[] = "arch_prctl modify_ldt";
#define SUB_ARCHES "SCMP_ARCH_X86", "SCMP_ARCH_X32"
#elif defined(__aarch64__)
static const char of_arch[] = "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls";
#define SUB_ARCHES "SCMP_ARCH_ARM"
#elif defined(__riscv)
static const char of_arch[] = "riscv_flush_icache";
#define SUB_ARCHES
#else
#error "name the system calls of this architecture alone, and what other ones its kernel runs"
#endif

static const struct {
	int cap;
	const char *names;
} with_capability[] = {
	{CAP_DAC_READ_SEARCH, "open_by_handle_at"},
	{CAP_SYS_ADMIN, "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr "
			"lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open "
			"quotactl quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare"},
	{CAP_SYS_BOOT, "reboot"},
	{CAP_SYS_CHROOT, "chroot"},
	{CAP_SYS_MODULE, "delete_module finit_module init_module"},
	{CAP_SYS_PACCT, "acct"},
	{CAP_SYS_PTRACE, "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace"},
	{CAP_SYS_RAWIO, "ioperm iopl"},
	{CAP_SYS_TIME, "clock_settime clock_settime64 settimeofday stime"},
	{CAP_SYS_TTY_CONFIG, "vhangup"},
	{CAP_SYS_NICE, "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"},
	{CAP_SYSLOG, "syslog"},
	{CAP_BPF, "bpf"},
	{CAP_PERFMON, "perf_event_open"},
};

/* Allowed for these values of the first argument only. clone may make no name space. */
static const struct {
	const char *name, *op;
	int64_t value;
} with_argument[] = {
	{"socket", "SCMP_CMP_NE", AF_VSOCK},
	{"personality", "SCMP_CMP_EQ", 0},
	{"personality", "SCMP_CMP_EQ", 0x0008 /* PER_LINUX32 */},
	{"personality", "SCMP_CMP_EQ", 0x20000 /* UNAME26 */},
	{"personality", "SCMP_CMP_EQ", 0x20008},
	{"personality", "SCMP_CMP_EQ", 0xffffffff /* only ask */},
	{"clone", "SCMP_CMP_MASKED_EQ",
	 CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWCGROUP},
};

static json_t *add_rule(json_t *list, const char *names, const char *action) {
	json_t *rule = json_object(), *array = json_array();
	for (struct str rest = str_view(names); rest.len;) {
		struct str name = str_cut(&rest, ' ');
		json_array_append_new(array, json_stringn(name.p, name.len));
	}
	json_object_set_new(rule, "names", array);
	json_set_str(rule, "action", action);
	json_array_append_new(list, rule);
	return rule;
}

static void add_argument_rules(json_t *list, bool admin) {
	for (size_t i = 0; i < ARRAY_SIZE(with_argument); i++) {
		if (admin && strcmp(with_argument[i].name, "clone") == 0)
			continue;
		json_t *rule = add_rule(list, with_argument[i].name, "SCMP_ACT_ALLOW"), *arg = json_object();
		json_set_int(arg, "index", 0);
		json_set_int(arg, "value", with_argument[i].value);
		json_set_int(arg, "valueTwo", 0);
		json_set_str(arg, "op", with_argument[i].op);
		json_object_set_new(rule, "args", json_pack("[o]", arg));
	}
}

json_t *seccomp_default_profile(uint64_t caps) {
	static const char *const sub_arches[] = {SUB_ARCHES};
	bool admin = caps & UINT64_C(1) << CAP_SYS_ADMIN;
	json_t *profile = json_object(), *arches = json_array(), *list = json_array();
	json_set_str(profile, "defaultAction", "SCMP_ACT_ERRNO");
	json_set_int(profile, "defaultErrnoRet", EPERM);
	for (size_t i = 0; i < ARRAY_SIZE(sub_arches); i++)
		json_array_append_new(arches, json_string(sub_arches[i]));
	json_object_set_new(profile, "architectures", arches);
	json_object_set_new(profile, "syscalls", list);
	add_rule(list, always, "SCMP_ACT_ALLOW");
	add_rule(list, of_arch, "SCMP_ACT_ALLOW");
	for (size_t i = 0; i < ARRAY_SIZE(with_capability); i++)
		if (caps & UINT64_C(1) << with_capability[i].cap)
			add_rule(list, with_capability[i].names, "SCMP_ACT_ALLOW");
	add_argument_rules(list, admin);
	/* flags are out of a filter's sight there: programs fall back to clone */
	if (!admin)
		json_set_int(add_rule(list, "clone3", "SCMP_ACT_ERRNO"), "errnoRet", ENOSYS);
	return profile;
}
