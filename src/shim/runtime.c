/* The little of a C library that wabe-shim and wabe-machine call, so that they have two dozen pages instead of glibc's two
 * hundred: start, system calls under their usual names, and a few string functions. Not part of sanitizer
 * builds, which link the real one. */
#include <errno.h>
#include <fcntl.h>
#include <linux/auxvec.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define KEEP __attribute__((used, externally_visible))
#define SIGSET_SIZE 8

static int error_number;
KEEP uintptr_t __stack_chk_guard;

int *__errno_location(void) {
	return &error_number;
}

KEEP void __stack_chk_fail(void) {
	__builtin_trap();
}

#if defined(__x86_64__)
static long raw(long nr, long a, long b, long c, long d, long e, long f) {
	long result;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	__asm__ volatile("syscall" : "=a"(result) : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
	return result;
}
__asm__(".globl _start\n_start: xor %ebp, %ebp\nmov %rsp, %rdi\nand $-16, %rsp\ncall start\n");
#elif defined(__aarch64__)
static long raw(long nr, long a, long b, long c, long d, long e, long f) {
	register long x8 __asm__("x8") = nr;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;
	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
	return x0;
}
__asm__(".globl _start\n_start: mov x29, #0\nmov x0, sp\nbl start\n");
#endif

static long result_of(long r) {
	if (r >= 0 || r < -4095)
		return r;
	error_number = (int)-r;
	return -1;
}

#define CALL6(nr, a, b, c, d, e, f, ...) \
	result_of(raw(nr, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f)))
#define CALL(...) CALL6(__VA_ARGS__, 0, 0, 0, 0, 0, 0)

int main(int argc, char **argv);

/* Without the canary: it is not there yet. */
__attribute__((optimize("no-stack-protector"), used, noreturn)) static void start(long *stack) {
	int argc = (int)stack[0];
	char **argv = (char **)(stack + 1), **env = argv + argc + 1;
	while (*env)
		env++;
	for (unsigned long *aux = (unsigned long *)(env + 1); aux[0] != AT_NULL; aux += 2)
		if (aux[0] == AT_RANDOM)
			__stack_chk_guard = *(uintptr_t *)aux[1] & ~(uintptr_t)0xff;
	_exit(main(argc, argv));
}

void _exit(int status) {
	for (;;)
		raw(SYS_exit_group, status, 0, 0, 0, 0, 0);
}

ssize_t read(int fd, void *p, size_t n) {
	return CALL(SYS_read, fd, p, n);
}

ssize_t write(int fd, const void *p, size_t n) {
	return CALL(SYS_write, fd, p, n);
}

int open(const char *path, int flags, ...) {
	va_list ap;
	va_start(ap, flags);
	int mode = flags & O_CREAT ? va_arg(ap, int) : 0;
	va_end(ap);
	return (int)CALL(SYS_openat, AT_FDCWD, path, flags, mode);
}

int close(int fd) {
	return (int)CALL(SYS_close, fd);
}

int dup2(int from, int to) {
	return from == to ? to : (int)CALL(SYS_dup3, from, to, 0);
}

int pipe2(int ends[2], int flags) {
	return (int)CALL(SYS_pipe2, ends, flags);
}

int fcntl(int fd, int command, ...) {
	va_list ap;
	va_start(ap, command);
	long argument = va_arg(ap, long);
	va_end(ap);
	return (int)CALL(SYS_fcntl, fd, command, argument);
}

int ioctl(int fd, unsigned long request, ...) {
	va_list ap;
	va_start(ap, request);
	long argument = va_arg(ap, long);
	va_end(ap);
	return (int)CALL(SYS_ioctl, fd, request, argument);
}

int fstat(int fd, struct stat *st) {
	return (int)CALL(SYS_fstat, fd, st);
}

int ftruncate(int fd, off_t size) {
	return (int)CALL(SYS_ftruncate, fd, size);
}

int rename(const char *from, const char *to) {
	return (int)CALL(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

int chdir(const char *path) {
	return (int)CALL(SYS_chdir, path);
}

mode_t umask(mode_t mask) {
	return (mode_t)CALL(SYS_umask, mask);
}

void *mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset) {
	return (void *)CALL(SYS_mmap, at, n, protection, flags, fd, offset);
}

int munmap(void *at, size_t n) {
	return (int)CALL(SYS_munmap, at, n);
}

int epoll_create1(int flags) {
	return (int)CALL(SYS_epoll_create1, flags);
}

int epoll_ctl(int poller, int what, int fd, struct epoll_event *e) {
	return (int)CALL(SYS_epoll_ctl, poller, what, fd, e);
}

int epoll_wait(int poller, struct epoll_event *e, int n, int timeout) {
	return (int)CALL(SYS_epoll_pwait, poller, e, n, timeout, NULL, SIGSET_SIZE);
}

int socket(int domain, int type, int protocol) {
	return (int)CALL(SYS_socket, domain, type, protocol);
}

int bind(int fd, const struct sockaddr *address, socklen_t n) {
	return (int)CALL(SYS_bind, fd, address, n);
}

int listen(int fd, int backlog) {
	return (int)CALL(SYS_listen, fd, backlog);
}

int accept4(int fd, struct sockaddr *address, socklen_t *n, int flags) {
	return (int)CALL(SYS_accept4, fd, address, n, flags);
}

ssize_t sendmsg(int fd, const struct msghdr *m, int flags) {
	return CALL(SYS_sendmsg, fd, m, flags);
}

int signalfd(int fd, const sigset_t *set, int flags) {
	return (int)CALL(SYS_signalfd4, fd, set, SIGSET_SIZE, flags);
}

int sigemptyset(sigset_t *set) {
	*set = (sigset_t){0};
	return 0;
}

int sigaddset(sigset_t *set, int signo) {
	set->__val[0] |= 1UL << (signo - 1);
	return 0;
}

int sigprocmask(int how, const sigset_t *set, sigset_t *old) {
	return (int)CALL(SYS_rt_sigprocmask, how, set, old, SIGSET_SIZE);
}

/* For SIG_IGN and SIG_DFL alone: a handler would need a way back. */
sighandler_t signal(int signo, sighandler_t handler) {
	const struct {
		sighandler_t handler;
		unsigned long flags;
		void (*restorer)(void);
		unsigned long mask;
	} action = {.handler = handler};
	return CALL(SYS_rt_sigaction, signo, &action, NULL, SIGSET_SIZE) < 0 ? SIG_ERR : SIG_DFL;
}

int prctl(int option, ...) {
	va_list ap;
	va_start(ap, option);
	unsigned long argument = va_arg(ap, unsigned long);
	va_end(ap);
	return (int)CALL(SYS_prctl, option, argument);
}

pid_t fork(void) {
	return (pid_t)CALL(SYS_clone, SIGCHLD);
}

int execve(const char *path, char *const argv[], char *const env[]) {
	return (int)CALL(SYS_execve, path, argv, env);
}

int kill(pid_t pid, int signo) {
	return (int)CALL(SYS_kill, pid, signo);
}

int capset(void *header, const void *data);
int capset(void *header, const void *data) {
	return (int)CALL(SYS_capset, header, data);
}

int setitimer(__itimer_which_t which, const struct itimerval *value, struct itimerval *old) {
	return (int)CALL(SYS_setitimer, which, value, old);
}

pid_t setsid(void) {
	return (pid_t)CALL(SYS_setsid);
}

pid_t waitpid(pid_t pid, int *status, int flags) {
	return (pid_t)CALL(SYS_wait4, pid, status, flags, NULL);
}

int waitid(idtype_t type, id_t id, siginfo_t *info, int flags) {
	return (int)CALL(SYS_waitid, type, id, info, flags, NULL);
}

int clock_gettime(clockid_t clock, struct timespec *t) {
	return (int)CALL(SYS_clock_gettime, clock, t);
}

int close_range(unsigned first, unsigned last, int flags) {
	return (int)CALL(SYS_close_range, first, last, flags);
}

KEEP void *memcpy(void *to, const void *from, size_t n) {
	for (size_t i = 0; i < n; i++)
		((char *)to)[i] = ((const char *)from)[i];
	return to;
}

KEEP void *memset(void *p, int byte, size_t n) {
	for (size_t i = 0; i < n; i++)
		((char *)p)[i] = (char)byte;
	return p;
}

void *memchr(const void *p, int byte, size_t n) {
	for (size_t i = 0; i < n; i++)
		if (((const char *)p)[i] == (char)byte)
			return (char *)p + i;
	return NULL;
}

size_t strlen(const char *s) {
	size_t n = 0;
	while (s[n])
		n++;
	return n;
}

int strcmp(const char *a, const char *b) {
	while (*a && *a == *b) {
		a++;
		b++;
	}
	return (unsigned char)*a - (unsigned char)*b;
}
