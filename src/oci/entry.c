/* Where the program wabe begins: container_protect_self's usual way, before the C library has started.
 *
 * Executing the program again would start glibc twice, and on a virtual machine one start takes half a
 * millisecond, because each of its two dozen CPUID instructions leaves the machine. So `wabe oci run` executes
 * itself from a read-only mount right here. Whatever goes wrong is left to container_protect_self, which tries again
 * and says why. Nothing of the C library works yet, not even its stack protector. Only for static programs
 * (a dynamic one begins in the linker), on the processors named below. */
#include <fcntl.h>
#include <linux/mount.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

/* The entry hands the stack to oci_entry and goes on to the C library's, with all as it was. */
#if defined(__x86_64__)
__asm__(".globl wabe_entry\nwabe_entry: mov %rsp, %rdi\npush %rdx\nsub $8, %rsp\ncall oci_entry\n"
	"add $8, %rsp\npop %rdx\njmp _start\n");

static inline long call(long nr, long a, const void *b, const void *c, const void *d, long e) {
	long result;
	register const void *r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	__asm__ volatile("syscall" : "=a"(result) : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8) : "rcx", "r11", "memory");
	return result;
}
#elif defined(__aarch64__)
__asm__(".globl wabe_entry\nwabe_entry: stp x0, x30, [sp, #-16]!\nadd x0, sp, #16\nbl oci_entry\n"
	"ldp x0, x30, [sp], #16\nb _start\n");

static inline long call(long nr, long a, const void *b, const void *c, const void *d, long e) {
	register long x8 __asm__("x8") = nr;
	register long x0 __asm__("x0") = a;
	register const void *x1 __asm__("x1") = b;
	register const void *x2 __asm__("x2") = c;
	register const void *x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
	return x0;
}
#endif

static inline bool is(const char *a, const char *b) {
	while (*a && *a == *b) {
		a++;
		b++;
	}
	return *a == *b;
}

/* Those that start processes in containers; a word that only looks like one costs a little time. */
static inline bool enters_containers(char *const *argv) {
	if (!argv[0] || !argv[1] || !is(argv[1], "oci"))
		return false;
	for (argv += 2; *argv; argv++)
		if (is(*argv, "run") || is(*argv, "create") || is(*argv, "exec"))
			return true;
	return false;
}

__attribute__((used, no_stack_protector)) void oci_entry(char **stack) {
	char **argv = stack + 1, **env = argv + (long)stack[0] + 1;
	const char *self = "/proc/self/exe";
	struct statfs fs;
	if (!enters_containers(argv) || call(SYS_statfs, (long)self, &fs, NULL, NULL, 0) < 0 || (fs.f_flags & ST_RDONLY))
		return;
	long tree = call(SYS_open_tree, AT_FDCWD, self, (void *)OPEN_TREE_CLONE, NULL, 0);
	if (tree < 0)
		return;
	/* stays open over the exec: container_protect_self takes it, for its end is slow */
	struct mount_attr readonly;
	readonly.attr_set = MOUNT_ATTR_RDONLY;
	readonly.attr_clr = readonly.propagation = readonly.userns_fd = 0;
	if (call(SYS_mount_setattr, tree, "", (void *)AT_EMPTY_PATH, &readonly, sizeof readonly) == 0)
		call(SYS_execveat, tree, "", argv, env, AT_EMPTY_PATH);
	call(SYS_close, tree, NULL, NULL, NULL, 0);
}
