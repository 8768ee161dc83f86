/* Capabilities and seccomp: programs are interpreted and compared with what libseccomp writes for the same
 * rules, and tried in a child. */
#include "driver/container/confine.h"

#include "base/fs.h"
#include "base/proc.h"
#include "base/str.h"

#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#define BIT(cap) (UINT64_C(1) << (cap))

static void expect(int r, struct error *err) {
	if (r < 0)
		fail_msg("%s", error_text(err));
}

static void test_names(UNUSED void **state) {
	assert_int_equal(cap_from_name("CAP_CHOWN"), 1);
	assert_int_equal(cap_from_name("chown"), 1);
	assert_int_equal(cap_from_name("SYS_ADMIN"), BIT(CAP_SYS_ADMIN));
	assert_int_equal(cap_from_name("cap_checkpoint_restore"), BIT(CAP_CHECKPOINT_RESTORE));
	assert_int_equal(cap_from_name("CAP_"), 0);
	assert_int_equal(cap_from_name(""), 0);
	assert_string_equal(cap_name(CAP_NET_RAW), "CAP_NET_RAW");
	assert_null(cap_name(63));
	assert_null(cap_name(-1));
	assert_int_equal(__builtin_popcountll(cap_default()), 14);
	assert_true(cap_all() & BIT(CAP_CHECKPOINT_RESTORE));
	assert_int_equal(cap_bounding() & ~cap_all(), 0);
}

static void test_compute(UNUSED void **state) {
	char *all[] = {"ALL", NULL}, *net[] = {"net_admin", NULL}, *chown[] = {"CAP_CHOWN", NULL}, *bad[] = {"CAP_NONE", NULL};
	_cleanup_(error_free) struct error err = ERROR_INIT;
	uint64_t set;
	expect(cap_compute(cap_default(), net, chown, &set, &err), &err);
	assert_int_equal(set, (cap_default() | BIT(CAP_NET_ADMIN)) & ~BIT(CAP_CHOWN));
	expect(cap_compute(cap_default(), net, all, &set, &err), &err);
	assert_int_equal(set, BIT(CAP_NET_ADMIN));
	expect(cap_compute(cap_default(), all, chown, &set, &err), &err);
	assert_int_equal(set, cap_all() & ~BIT(CAP_CHOWN));
	expect(cap_compute(cap_default(), NULL, NULL, &set, &err), &err);
	assert_int_equal(set, cap_default());
	assert_int_equal(cap_compute(0, bad, NULL, &set, &err), -ERROR_INVALID);
	assert_non_null(strstr(error_text(&err), "CAP_NONE"));
}

/* --- a small interpreter of seccomp's classic BPF --- */

static bool jump(uint16_t op, uint32_t a, uint32_t k) {
	return op == BPF_JEQ ? a == k : op == BPF_JGT ? a > k : op == BPF_JGE ? a >= k : (a & k) != 0;
}

static uint32_t interpret(const struct sock_fprog *prog, const struct seccomp_data *data) {
	uint32_t a = 0;
	for (size_t pc = 0; pc < prog->len; pc++) {
		const struct sock_filter *f = &prog->filter[pc];
		switch (BPF_CLASS(f->code)) {
		case BPF_LD:
			memcpy(&a, (const char *)data + f->k, 4);
			break;
		case BPF_ALU:
			a &= f->k;
			break;
		case BPF_JMP:
			if (BPF_OP(f->code) == BPF_JA)
				pc += f->k;
			else
				pc += jump(BPF_OP(f->code), a, f->k) ? f->jt : f->jf;
			break;
		case BPF_RET:
			return f->k;
		default:
			fail_msg("instruction %#x", f->code);
		}
	}
	fail_msg("the program runs off its end");
	return 0;
}

/* --- the same rules through libseccomp --- */

static uint32_t to_libseccomp(const json_t *rule) {
	const char *name = json_get_str(rule, "action");
	if (strcmp(name, "SCMP_ACT_ALLOW") == 0)
		return SCMP_ACT_ALLOW;
	if (strcmp(name, "SCMP_ACT_KILL_PROCESS") == 0)
		return SCMP_ACT_KILL_PROCESS;
	const json_t *number = json_object_get(rule, "errnoRet");
	return SCMP_ACT_ERRNO(number ? (uint32_t)json_integer_value(number) : EPERM);
}

static void add_to_libseccomp(scmp_filter_ctx ctx, const json_t *rule) {
	static const char *const ops[] = {"", "NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"};
	struct scmp_arg_cmp args[6];
	unsigned n = 0;
	size_t i;
	json_t *item;
	json_array_foreach(json_object_get(rule, "args"), i, item) {
		args[n] = (struct scmp_arg_cmp){.arg = (unsigned)json_get_int(item, "index"),
						.datum_a = (uint64_t)json_get_int(item, "value"),
						.datum_b = (uint64_t)json_get_int(item, "valueTwo")};
		for (size_t k = 1; k < ARRAY_SIZE(ops); k++)
			if (strcmp(json_get_str(item, "op") + strlen("SCMP_CMP_"), ops[k]) == 0)
				args[n].op = (enum scmp_compare)k;
		n++;
	}
	json_array_foreach(json_object_get(rule, "names"), i, item) {
		int nr = seccomp_syscall_resolve_name(json_string_value(item));
		if (nr != __NR_SCMP_ERROR)
			assert_int_equal(seccomp_rule_add_array(ctx, to_libseccomp(rule), nr, n, args), 0);
	}
}

static void compile_with_libseccomp(const json_t *profile, const uint32_t *arches, size_t n_arches, struct sock_fprog *out) {
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	for (size_t i = 0; i < n_arches; i++)
		assert_true(seccomp_arch_exist(ctx, arches[i]) == 0 || seccomp_arch_add(ctx, arches[i]) == 0);
	size_t i;
	json_t *rule;
	json_array_foreach(json_object_get(profile, "syscalls"), i, rule)
		add_to_libseccomp(ctx, rule);
	int fd = memfd_create("bpf", MFD_CLOEXEC);
	assert_int_equal(seccomp_export_bpf(ctx, fd), 0);
	seccomp_release(ctx);
	off_t n = lseek(fd, 0, SEEK_END);
	out->filter = alloc_zero((size_t)n);
	out->len = (unsigned short)((size_t)n / sizeof *out->filter);
	assert_int_equal(pread(fd, out->filter, (size_t)n, 0), n);
	close(fd);
}

static const uint64_t interesting[] = {0, 1, 2, 3, 5, 8, 9, 10, 16, 39, 40, 41, 64, 100, 0x11, 0x20000, 0x20008, 0x7e020000,
				       0x10000000, 0x80000000, 0xfffffffe, 0xffffffff, 0x100000000, 0x100000028,
				       0x100000000 | 0x28, 0xffffffff00000000, UINT64_MAX};

static void compare_one(const struct sock_fprog *a, const struct sock_fprog *b, const struct seccomp_data *d) {
	uint32_t ours = interpret(a, d), theirs = interpret(b, d);
	if (ours == theirs)
		return;
	/* ours says "no such call" for all that the profile cannot know */
	if (ours == (SECCOMP_RET_ERRNO | ENOSYS) && theirs == (SECCOMP_RET_ERRNO | EPERM) && (d->nr & 0x3fffffff) >= 440)
		return;
	/* libseccomp 2.5.4 does not know the calls of Linux 6.5 and later */
	if (ours == SECCOMP_RET_ALLOW && ((d->nr & 0x3fffffff) >= 451 || d->nr == 335))
		return;
	fail_msg("arch %#x, call %#x, arguments %#llx %#llx %#llx: %#x, libseccomp has %#x", d->arch, d->nr, d->args[0], d->args[1],
		 d->args[2], ours, theirs);
}

static void compare_arch(const struct sock_fprog *a, const struct sock_fprog *b, uint32_t arch, uint32_t from, uint32_t to) {
	for (uint32_t nr = from; nr < to; nr++)
		for (size_t i = 0; i < ARRAY_SIZE(interesting); i++) {
			struct seccomp_data d = {.nr = (int)nr, .arch = arch};
			d.args[0] = interesting[i];
			d.args[1] = interesting[(i * 7 + 3) % ARRAY_SIZE(interesting)];
			d.args[2] = interesting[(i * 5 + 1) % ARRAY_SIZE(interesting)];
			compare_one(a, b, &d);
		}
}

static void compare_all(const json_t *profile, uint64_t caps, const uint32_t *arches, size_t n) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct sock_fprog ours, theirs;
	unsigned flags;
	expect(seccomp_compile(profile, caps, &ours, &flags, &err), &err);
	compile_with_libseccomp(profile, arches, n, &theirs);
	print_message("# %u instructions, libseccomp %u\n", ours.len, theirs.len);
	compare_arch(&ours, &theirs, AUDIT_ARCH_X86_64, 0, 600);
	compare_arch(&ours, &theirs, AUDIT_ARCH_X86_64, 0x3fffff00, 0x40000300);
	compare_arch(&ours, &theirs, AUDIT_ARCH_I386, 0, 600);
	compare_arch(&ours, &theirs, AUDIT_ARCH_AARCH64, 0, 600);
	compare_arch(&ours, &theirs, AUDIT_ARCH_ARM, 0, 600);
	free(ours.filter);
	free(theirs.filter);
}

static void test_default_profile(UNUSED void **state) {
#ifdef __aarch64__
	static const uint32_t arches[] = {SCMP_ARCH_AARCH64, SCMP_ARCH_ARM};
#else
	static const uint32_t arches[] = {SCMP_ARCH_X86_64, SCMP_ARCH_X86, SCMP_ARCH_X32};
#endif
	const uint64_t sets[] = {cap_default(), 0, cap_all(), BIT(CAP_SYS_ADMIN), BIT(CAP_SYS_PTRACE) | BIT(CAP_SYS_TIME)};
	for (size_t i = 0; i < ARRAY_SIZE(sets); i++) {
		_cleanup_(json_free_ptr) json_t *profile = seccomp_default_profile(sets[i]);
		compare_all(profile, sets[i], arches, ARRAY_SIZE(arches));
	}
}

static void test_comparisons(UNUSED void **state) {
#ifdef __x86_64__
	static const char *const ops[] = {"NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"};
	static const uint32_t arches[] = {SCMP_ARCH_X86_64, SCMP_ARCH_X86};
	static const int64_t values[] = {0, 1, 40, 0xffffffff, 0x100000000, 0x100000028};
	for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
		for (size_t k = 0; k < ARRAY_SIZE(values); k++) {
			_cleanup_(free_ptr) char *op = str_format("SCMP_CMP_%s", ops[i]);
			_cleanup_(json_free_ptr) json_t *profile = json_pack(
				"{s:s,s:[s,s],s:[{s:[s,s,s],s:s},{s:[s],s:s,s:[{s:i,s:s,s:I,s:I},{s:i,s:s,s:I,s:i}]}]}", "defaultAction",
				"SCMP_ACT_ERRNO", "architectures", "SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "syscalls", "names", "read",
				"write", "futex_waitv", "action", "SCMP_ACT_ALLOW", "names", "ioctl", "action", "SCMP_ACT_ALLOW",
				"args", "index", 0, "op", op, "value", (json_int_t)values[k], "valueTwo",
				(json_int_t)(values[k] & 0x100000008), "index", 1, "op", "SCMP_CMP_GE", "value", (json_int_t)9,
				"valueTwo", 0);
			compare_all(profile, 0, arches, ARRAY_SIZE(arches));
		}
	}
#else
	skip();
#endif
}

static uint32_t decide(const char *json, uint64_t caps, int nr, uint64_t first) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(json_free_ptr) json_t *profile = json_parse(json, strlen(json), &err);
	struct sock_fprog prog;
	unsigned flags;
	expect(profile ? seccomp_compile(profile, caps, &prog, &flags, &err) : -1, &err);
	struct seccomp_data d = {.nr = nr, .arch = seccomp_arch_native(), .args = {first}};
	uint32_t r = interpret(&prog, &d);
	free(prog.filter);
	return r;
}

static void test_docker_format(UNUSED void **state) {
	static const char json[] =
		"{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"defaultErrnoRet\":13,"
		"\"archMap\":[{\"architecture\":\"SCMP_ARCH_X86_64\",\"subArchitectures\":[\"SCMP_ARCH_X86\"]},"
		"{\"architecture\":\"SCMP_ARCH_AARCH64\",\"subArchitectures\":null}],"
		"\"syscalls\":[{\"names\":[\"read\",\"no_such_call\",\"futex_waitv\"],\"action\":\"SCMP_ACT_ALLOW\",\"comment\":\"\"},"
		"{\"names\":[\"mount\"],\"action\":\"SCMP_ACT_ALLOW\",\"includes\":{\"caps\":[\"CAP_SYS_ADMIN\"]}},"
		"{\"names\":[\"reboot\"],\"action\":\"SCMP_ACT_ALLOW\",\"excludes\":{\"caps\":[\"CAP_SYS_ADMIN\"]}},"
		"{\"names\":[\"ptrace\"],\"action\":\"SCMP_ACT_ALLOW\",\"includes\":{\"minKernel\":\"4.8\"}},"
		"{\"names\":[\"bpf\"],\"action\":\"SCMP_ACT_ALLOW\",\"includes\":{\"minKernel\":\"99.1\"}},"
		"{\"names\":[\"syslog\"],\"action\":\"SCMP_ACT_ALLOW\",\"includes\":{\"arches\":[\"s390x\"]}},"
		"{\"name\":\"chroot\",\"action\":\"SCMP_ACT_ERRNO\",\"errnoRet\":5}]}";
	uint64_t admin = BIT(CAP_SYS_ADMIN);
	assert_int_equal(decide(json, 0, SYS_read, 0), SECCOMP_RET_ALLOW);
	assert_int_equal(decide(json, 0, SYS_write, 0), SECCOMP_RET_ERRNO | 13);
	assert_int_equal(decide(json, 0, SYS_mount, 0), SECCOMP_RET_ERRNO | 13);
	assert_int_equal(decide(json, admin, SYS_mount, 0), SECCOMP_RET_ALLOW);
	assert_int_equal(decide(json, 0, SYS_reboot, 0), SECCOMP_RET_ALLOW);
	assert_int_equal(decide(json, admin, SYS_reboot, 0), SECCOMP_RET_ERRNO | 13);
	assert_int_equal(decide(json, 0, SYS_ptrace, 0), SECCOMP_RET_ALLOW);
	assert_int_equal(decide(json, 0, SYS_bpf, 0), SECCOMP_RET_ERRNO | 13);
	assert_int_equal(decide(json, 0, SYS_syslog, 0), SECCOMP_RET_ERRNO | 13);
	assert_int_equal(decide(json, 0, SYS_chroot, 0), SECCOMP_RET_ERRNO | 5);
	assert_int_equal(decide(json, 0, 449 /* futex_waitv */, 0), SECCOMP_RET_ALLOW);
	assert_int_equal(decide(json, 0, 450, 0), SECCOMP_RET_ERRNO | ENOSYS);
}

static void test_oci_format(UNUSED void **state) {
	static const char json[] =
		"{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"getcwd\"],\"action\":\"SCMP_ACT_ERRNO\",\"errnoRet\":22},"
		"{\"names\":[\"ioctl\"],\"action\":\"SCMP_ACT_KILL_PROCESS\",\"args\":[{\"index\":0,\"value\":1,\"op\":\"SCMP_CMP_EQ\"},"
		"{\"index\":0,\"value\":7,\"op\":\"SCMP_CMP_EQ\"}]}]}";
	assert_int_equal(decide(json, 0, SYS_getcwd, 0), SECCOMP_RET_ERRNO | EINVAL);
	assert_int_equal(decide(json, 0, SYS_read, 0), SECCOMP_RET_ALLOW);
	assert_int_equal(decide(json, 0, 1000, 0), SECCOMP_RET_ALLOW);
	assert_int_equal(decide(json, 0, SYS_ioctl, 1), SECCOMP_RET_KILL_PROCESS); /* either of the two */
	assert_int_equal(decide(json, 0, SYS_ioctl, 7), SECCOMP_RET_KILL_PROCESS);
	assert_int_equal(decide(json, 0, SYS_ioctl, 2), SECCOMP_RET_ALLOW);
}

static void test_refused(UNUSED void **state) {
	static const char *const bad[] = {
		"[]", "{}", "{\"defaultAction\":\"SCMP_ACT_NO\"}", "{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"defaultErrnoRet\":5000}",
		"{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"architectures\":[\"SCMP_ARCH_Z80\"]}",
		"{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"flags\":[\"X\"]}",
		"{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[],\"action\":\"SCMP_ACT_ALLOW\"}]}",
		"{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"read\"]}]}",
		"{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"read\"],\"action\":\"SCMP_ACT_ALLOW\","
		"\"args\":[{\"index\":6,\"value\":1,\"op\":\"SCMP_CMP_EQ\"}]}]}",
		"{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"read\"],\"action\":\"SCMP_ACT_ALLOW\","
		"\"args\":[{\"index\":1,\"value\":1,\"op\":\"SCMP_CMP_XX\"}]}]}",
	};
	struct sock_fprog prog;
	unsigned flags;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		_cleanup_(error_free) struct error err = ERROR_INIT;
		_cleanup_(json_free_ptr) json_t *profile = json_parse(bad[i], strlen(bad[i]), &err);
		assert_int_equal(seccomp_compile(profile, 0, &prog, &flags, &err), -ERROR_INVALID);
		assert_null(prog.filter);
	}
	_cleanup_(json_free_ptr) json_t *notify = json_pack("{s:s}", "defaultAction", "SCMP_ACT_NOTIFY");
	assert_int_equal(seccomp_compile(notify, 0, &prog, &flags, NULL), -ERROR_UNSUPPORTED);
}

/* In a child: the kernel takes the default profile, and it does what it says. */
static int live(const struct sock_fprog *prog, unsigned flags) {
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || seccomp_install(prog, flags, NULL) < 0)
		return 1;
	if (unshare(CLONE_NEWUTS) == 0 || errno != EPERM)
		return 2;
	if (socket(AF_VSOCK, SOCK_STREAM, 0) >= 0 || errno != EPERM)
		return 3;
	if (syscall(SYS_clone3, NULL, 0) >= 0 || errno != ENOSYS)
		return 4;
	if (syscall(500) >= 0 || errno != ENOSYS)
		return 5;
	if (syscall(SYS_keyctl, 0, 0, 0, 0, 0) >= 0 || errno != EPERM)
		return 6;
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	pid_t pid = fork();
	if (pid == 0)
		_exit(0);
	return fd < 0 ? 7 : proc_wait(pid) != 0 ? 8 : 0;
}

static void test_live(UNUSED void **state) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(json_free_ptr) json_t *profile = seccomp_default_profile(cap_default());
	struct sock_fprog prog;
	unsigned flags;
	expect(seccomp_compile(profile, cap_default(), &prog, &flags, &err), &err);
	pid_t pid = fork();
	if (pid == 0)
		_exit(live(&prog, flags));
	assert_int_equal(proc_wait(pid), 0);
	free(prog.filter);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),         cmocka_unit_test(test_compute),    cmocka_unit_test(test_default_profile),
		cmocka_unit_test(test_comparisons),   cmocka_unit_test(test_docker_format), cmocka_unit_test(test_oci_format),
		cmocka_unit_test(test_refused),       cmocka_unit_test(test_live),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
