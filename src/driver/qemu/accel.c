/* Whether hardware runs guests here. A device /dev/kvm may be there and only translate, or run 32-bit code alone: so a guest
 * of a few instructions goes the way that every system's start goes, from real mode by protected mode into long mode, and
 * computes something there. */
#include "driver/qemu/machine.h"

#include "base/str.h"
#include "base/time.h"

#include <fcntl.h>
#include <linux/kvm.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEVICE "/dev/kvm"
#define CPU_LIMIT_US 100000
#define WALL_LIMIT_MS 2000 /* a host that is busy is not one that cannot */

/* Why not; as the child's exit status. */
enum answer { ANSWER_YES, ANSWER_VERSION, ANSWER_VM, ANSWER_PROCESSOR, ANSWER_RUN, ANSWER_LONG, ANSWERS };
static const char *const reasons[ANSWERS] = {
	[ANSWER_VERSION] = DEVICE " speaks another version of its interface",
	[ANSWER_VM] = DEVICE " makes no machines",
	[ANSWER_PROCESSOR] = DEVICE " makes no processor that a system could start on",
	[ANSWER_RUN] = DEVICE " does not run a guest's code",
	[ANSWER_LONG] = DEVICE " does not run 64-bit code as a processor does",
};

#if defined(__x86_64__)

#define MEMORY 0x10000
#define CODE 0x8000
#define PORT 0x2f0
#define RUNS_MAX 16

/* From the processor's state after a reset, but for the place. Ends in an "out" of what cpuid's leaf 0 and a sum of 64-bit
 * arithmetic give: PORT gets 'K' when all is as it should be. Tables are the caller's: pages of 2 MiB. */
__asm__(".pushsection .rodata\n"
	".code16\n"
	"accel_code:\n"
	"	cli\n"
	"	xorw %ax, %ax\n"
	"	movw %ax, %ds\n"
	"	lgdtl 0x8000 + (accel_gdt_at - accel_code)\n"
	"	movl %cr0, %eax\n"
	"	orl $1, %eax\n"
	"	movl %eax, %cr0\n"
	"	ljmpl $8, $0x8000 + (accel_protected - accel_code)\n"
	".code32\n"
	"accel_protected:\n"
	"	movw $16, %ax\n"
	"	movw %ax, %ds\n"
	"	movw %ax, %ss\n"
	"	movl $0x7000, %esp\n"
	"	movl %cr4, %eax\n"
	"	orl $0x20, %eax\n" /* PAE */
	"	movl %eax, %cr4\n"
	"	movl $0x1000, %eax\n"
	"	movl %eax, %cr3\n"
	"	movl $0xc0000080, %ecx\n" /* EFER */
	"	rdmsr\n"
	"	orl $0x100, %eax\n" /* LME */
	"	wrmsr\n"
	"	movl %cr0, %eax\n"
	"	orl $0x80000000, %eax\n" /* PG */
	"	movl %eax, %cr0\n"
	"	ljmpl $24, $0x8000 + (accel_long - accel_code)\n"
	".code64\n"
	"accel_long:\n"
	"	movl $0xc0000080, %ecx\n"
	"	rdmsr\n"
	"	testl $0x400, %eax\n" /* LMA */
	"	jz accel_bad\n"
	"	movl $0x80000001, %eax\n"
	"	cpuid\n"
	"	testl $0x20000000, %edx\n" /* long mode, says cpuid */
	"	jz accel_bad\n"
	"	movabsq $0x123456789abcdef0, %r8\n"
	"	movq %r8, 0x6000\n"
	"	pushq %r8\n"
	"	popq %r9\n"
	"	addq 0x6000, %r9\n"
	"	rolq $4, %r9\n"
	"	movabsq $0x468acf13579bde02, %r10\n"
	"	cmpq %r10, %r9\n"
	"	jne accel_bad\n"
	"	movl $1, %eax\n"
	"	movd %eax, %xmm0\n"
	"	movb $'K', %al\n"
	"	jmp accel_say\n"
	"accel_bad:\n"
	"	movb $'-', %al\n"
	"accel_say:\n"
	"	movw $0x2f0, %dx\n"
	"	outb %al, %dx\n"
	"	hlt\n"
	".balign 8\n"
	"accel_gdt:\n"
	"	.quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00af9b000000ffff\n"
	"accel_gdt_at:\n"
	"	.word 31\n"
	"	.long 0x8000 + (accel_gdt - accel_code)\n"
	"accel_code_end:\n"
	".popsection\n");
extern const uint8_t accel_code[], accel_code_end[];

static void fill_memory(uint8_t *memory) {
	memcpy(memory + CODE, accel_code, (size_t)(accel_code_end - accel_code));
	*(uint64_t *)(memory + 0x1000) = 0x2003;
	*(uint64_t *)(memory + 0x2000) = 0x3003;
	*(uint64_t *)(memory + 0x3000) = 0x83;
}

static int set_cpuid(int kvm, int cpu) {
	enum { ENTRIES = 256 };
	struct kvm_cpuid2 *all = alloc_zero(sizeof *all + ENTRIES * sizeof all->entries[0]);
	all->nent = ENTRIES;
	int r = ioctl(kvm, KVM_GET_SUPPORTED_CPUID, all) < 0 ? -1 : ioctl(cpu, KVM_SET_CPUID2, all);
	free(all);
	return r;
}

static int set_start(int cpu) {
	struct kvm_sregs special;
	struct kvm_regs regs = {.rip = CODE, .rflags = 2};
	if (ioctl(cpu, KVM_GET_SREGS, &special) < 0)
		return -1;
	special.cs.base = 0;
	special.cs.selector = 0;
	return ioctl(cpu, KVM_SET_SREGS, &special) < 0 ? -1 : ioctl(cpu, KVM_SET_REGS, &regs);
}

/* Gives what comes out of the port. */
static enum answer run_guest(int cpu, size_t size) {
	struct kvm_run *run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, cpu, 0);
	if (run == MAP_FAILED)
		return ANSWER_PROCESSOR;
	for (int i = 0; i < RUNS_MAX; i++) {
		if (RETRY_EINTR(ioctl(cpu, KVM_RUN, NULL)) < 0)
			return ANSWER_RUN;
		if (run->exit_reason == KVM_EXIT_IO && run->io.direction == KVM_EXIT_IO_OUT && run->io.port == PORT)
			return *((const uint8_t *)run + run->io.data_offset) == 'K' ? ANSWER_YES : ANSWER_LONG;
		if (run->exit_reason != KVM_EXIT_INTR)
			return ANSWER_LONG; /* an internal error, a triple fault … */
	}
	return ANSWER_RUN;
}

static enum answer try_kvm(int kvm) {
	if (ioctl(kvm, KVM_GET_API_VERSION, 0) != KVM_API_VERSION)
		return ANSWER_VERSION;
	int vm = ioctl(kvm, KVM_CREATE_VM, 0), size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	uint8_t *memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (vm < 0 || size <= 0 || memory == MAP_FAILED)
		return ANSWER_VM;
	struct kvm_userspace_memory_region region = {.memory_size = MEMORY, .userspace_addr = (uint64_t)memory};
	ioctl(vm, KVM_SET_TSS_ADDR, 0xfffbd000); /* Intel's processors want a place for it */
	if (ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) < 0)
		return ANSWER_VM;
	fill_memory(memory);
	int cpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	if (cpu < 0 || set_cpuid(kvm, cpu) < 0 || set_start(cpu) < 0)
		return ANSWER_PROCESSOR;
	return run_guest(cpu, (size_t)size);
}

#else

static enum answer try_kvm(int kvm) {
	(void)kvm;
	return ANSWER_PROCESSOR;
}

#endif

__attribute__((noreturn)) static void child(pid_t parent, int kvm) {
	struct itimerval limit = {.it_value.tv_usec = CPU_LIMIT_US};
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	signal(SIGPROF, SIG_DFL);
	if (getppid() != parent || setitimer(ITIMER_PROF, &limit, NULL) < 0)
		_exit(ANSWER_RUN);
	_exit((int)try_kvm(kvm));
}

/* Its status, once it has ended or has been ended. */
static const char *await(pid_t pid) {
	int status;
	_cleanup_(close_fd) int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct pollfd p = {pidfd, POLLIN, 0};
	if (pidfd < 0 || RETRY_EINTR(poll(&p, 1, WALL_LIMIT_MS)) <= 0)
		kill(pid, SIGKILL);
	if (RETRY_EINTR(waitpid(pid, &status, 0)) < 0)
		return reasons[ANSWER_RUN];
	if (WIFSIGNALED(status))
		return DEVICE " takes far too long for a guest's code";
	return WEXITSTATUS(status) < ANSWERS ? reasons[WEXITSTATUS(status)] : reasons[ANSWER_RUN];
}

void accel_probe(struct accel *out) {
	_cleanup_(close_fd) int kvm = open(DEVICE, O_RDWR | O_CLOEXEC);
	if (kvm < 0) {
		bool missing = errno == ENOENT || errno == ENXIO || errno == ENODEV;
		*out = (struct accel){false, missing ? "this host has no " DEVICE : DEVICE " cannot be opened"};
		return;
	}
	pid_t parent = getpid(), pid = fork();
	if (pid == 0)
		child(parent, kvm);
	const char *why = pid < 0 ? "no process could be started to try " DEVICE : await(pid);
	*out = (struct accel){why == NULL, why};
}

int accel_choose(const struct machine_spec *spec, const struct accel *host, bool *kvm, struct error *err) {
	*kvm = host->kvm && !str_same(spec->accel, "tcg");
	if (!str_same(spec->accel, "kvm") || host->kvm)
		return 0;
	error_set(err, ERROR_UNSUPPORTED, "KVM does not work here: %s", host->why ? host->why : "it has not been tried");
	error_in_field(err, "spec.machine.accel");
	return -ERROR_UNSUPPORTED;
}
