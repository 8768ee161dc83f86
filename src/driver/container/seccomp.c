/* Reads seccomp profiles in the OCI format (config-linux.md#seccomp) and in Docker's, whose parts depend on
 * capabilities, architecture and kernel. libseccomp is asked for the numbers of system calls alone. */
#include "driver/container/seccomp-priv.h"

#include "base/str.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stdio.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#define SYSCALLS_MAX 4096

/* System calls that are younger than Debian 12's libseccomp; their numbers are the same on all
 * architectures but mips and alpha. */
static const struct {
	const char *name;
	int nr;
} young[] = {
	{"cachestat", 451},         {"fchmodat2", 452},        {"map_shadow_stack", 453}, {"futex_wake", 454},
	{"futex_wait", 455},        {"futex_requeue", 456},    {"statmount", 457},        {"listmount", 458},
	{"lsm_get_self_attr", 459}, {"lsm_set_self_attr", 460}, {"lsm_list_modules", 461}, {"mseal", 462},
	{"setxattrat", 463},        {"getxattrat", 464},       {"listxattrat", 465},      {"removexattrat", 466},
	{"open_tree_attr", 467},    {"file_getattr", 468},     {"file_setattr", 469},
};

static int young_number(uint32_t token, const char *name) {
	if (strcmp(name, "uretprobe") == 0 && token == SCMP_ARCH_X86_64)
		return 335;
	for (size_t i = 0; i < ARRAY_SIZE(young); i++)
		if (strcmp(young[i].name, name) == 0)
			return token == SCMP_ARCH_X32 ? young[i].nr | 0x40000000 : young[i].nr;
	return __NR_SCMP_ERROR;
}

/* i386 has its sockets both as calls of their own and through socketcall; libseccomp gives a number of
 * -100 - N for socketcall's N. The own numbers in the order of N, 0 where there is none. */
static const int i386_sockets[] = {0,   359, 361, 362, 363, 0,   367, 368, 360, 0,
				   0,   369, 371, 373, 366, 365, 370, 372, 364, 337 /* recvmmsg */, 345 /* sendmmsg */};
/* The same for ipc: -200 - N. */
static const int i386_ipc[] = {0, 0, 393, 394, 0, 0, 0, 0, 0, 0, 0, 400, 401, 399, 402, 0, 0, 0, 0, 0, 0, 397, 398, 395, 396};

#define I386_SOCKETCALL 102
#define I386_IPC 117

static void add_i386(struct seccomp_table *t, struct seccomp_arch *a, int nr, uint32_t rule) {
	bool ipc = nr <= -200;
	int call = ipc ? -200 - nr : -100 - nr;
	const int *own = ipc ? i386_ipc : i386_sockets;
	size_t n = ipc ? ARRAY_SIZE(i386_ipc) : ARRAY_SIZE(i386_sockets);
	if (call <= 0 || (size_t)call >= n)
		return;
	if (own[call])
		seccomp_table_add(a, (uint32_t)own[call], rule);
	const struct seccomp_rule *direct = &t->rules[rule];
	struct seccomp_rule through = {.action = direct->action, .n = 1,
				       .conditions = {{.op = COMPARE_EQ, .value = (uint64_t)call}}};
	for (size_t i = 0; i < direct->n; i++)
		if (direct->conditions[i].index != 0)
			through.conditions[through.n++] = direct->conditions[i];
	seccomp_table_add(a, ipc ? I386_IPC : I386_SOCKETCALL, seccomp_table_rule(t, &through));
}

static void add_name(struct seccomp_table *t, struct seccomp_arch *a, const char *name, uint32_t rule) {
	int nr = seccomp_syscall_resolve_name_arch(a->token, name);
	if (nr == __NR_SCMP_ERROR)
		nr = young_number(a->token, name);
	if (nr >= 0)
		seccomp_table_add(a, (uint32_t)nr, rule);
	else if (a->token == SCMP_ARCH_X86 && nr > -300 && nr < -100)
		add_i386(t, a, nr, rule);
}

static int read_errno(const json_t *o, const char *key, uint32_t *out, struct error *err) {
	const json_t *v = json_object_get(o, key);
	if (!v || json_is_null(v))
		return 0;
	if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > 4095)
		return error_field(err, key, "must be an error number");
	*out = (uint32_t)json_integer_value(v);
	return 0;
}

static int read_action(const json_t *o, const char *key, const char *errno_key, uint32_t *out, struct error *err) {
	static const struct {
		const char *name;
		uint32_t action;
		bool has_errno;
	} actions[] = {
		{"SCMP_ACT_ALLOW", SECCOMP_RET_ALLOW, false},
		{"SCMP_ACT_ERRNO", SECCOMP_RET_ERRNO, true},
		{"SCMP_ACT_KILL", SECCOMP_RET_KILL_THREAD, false},
		{"SCMP_ACT_KILL_THREAD", SECCOMP_RET_KILL_THREAD, false},
		{"SCMP_ACT_KILL_PROCESS", SECCOMP_RET_KILL_PROCESS, false},
		{"SCMP_ACT_TRAP", SECCOMP_RET_TRAP, false},
		{"SCMP_ACT_TRACE", SECCOMP_RET_TRACE, true},
		{"SCMP_ACT_LOG", SECCOMP_RET_LOG, false},
	};
	const char *name = json_get_str(o, key);
	if (!name)
		return error_field(err, key, "is missing");
	if (strcmp(name, "SCMP_ACT_NOTIFY") == 0)
		return error_set(err, ERROR_UNSUPPORTED, "seccomp profiles with SCMP_ACT_NOTIFY are not supported");
	for (size_t i = 0; i < ARRAY_SIZE(actions); i++) {
		if (strcmp(name, actions[i].name) != 0)
			continue;
		uint32_t number = EPERM;
		int r = read_errno(o, errno_key, &number, err);
		*out = actions[i].action | (actions[i].has_errno ? number : 0);
		return r;
	}
	return error_field(err, key, "“%s” is not an action", name);
}

static int read_condition(const json_t *o, struct seccomp_condition *out, struct error *err) {
	static const char *const ops[] = {
		[COMPARE_NE] = "SCMP_CMP_NE", [COMPARE_LT] = "SCMP_CMP_LT", [COMPARE_LE] = "SCMP_CMP_LE",
		[COMPARE_EQ] = "SCMP_CMP_EQ", [COMPARE_GE] = "SCMP_CMP_GE", [COMPARE_GT] = "SCMP_CMP_GT",
		[COMPARE_MASKED_EQ] = "SCMP_CMP_MASKED_EQ",
	};
	const json_t *index = json_object_get(o, "index"), *value = json_object_get(o, "value");
	const char *op = json_get_str(o, "op");
	if (!json_is_integer(index) || json_integer_value(index) < 0 || json_integer_value(index) > 5)
		return error_field(err, "index", "must be the number of an argument, 0 to 5");
	if (!json_is_integer(value))
		return error_field(err, "value", "must be a whole number");
	*out = (struct seccomp_condition){.index = (uint32_t)json_integer_value(index),
					  .value = (uint64_t)json_integer_value(value),
					  .value_two = (uint64_t)json_get_int(o, "valueTwo")};
	for (size_t i = 0; op && i < ARRAY_SIZE(ops); i++) {
		if (strcmp(ops[i], op) == 0) {
			out->op = (enum seccomp_compare)i;
			return 0;
		}
	}
	return error_field(err, "op", "“%s” is not a comparison", op ? op : "");
}

/* One rule, or, where two conditions are about the same argument, one for each condition: then either is
 * enough, as in the other runtimes. */
static int read_rules(const json_t *o, struct seccomp_rule **out, size_t *n, struct error *err) {
	const json_t *list = json_object_get(o, "args");
	struct seccomp_rule whole = {0};
	unsigned seen = 0;
	bool twice = false;
	size_t i;
	json_t *item;
	int r = read_action(o, "action", "errnoRet", &whole.action, err);
	*out = alloc_array(json_array_size(list) + 1, sizeof **out);
	*n = 0;
	if (r < 0)
		return r;
	json_array_foreach(list, i, item) {
		struct seccomp_rule *alone = &(*out)[(*n)++];
		*alone = (struct seccomp_rule){.action = whole.action, .n = 1};
		r = read_condition(item, &alone->conditions[0], err);
		if (r < 0)
			return r;
		twice = twice || (seen & 1U << alone->conditions[0].index);
		seen |= 1U << alone->conditions[0].index;
		if (!twice)
			whole.conditions[whole.n++] = alone->conditions[0];
	}
	if (!twice) {
		(*out)[0] = whole;
		*n = 1;
	}
	return 0;
}

static int add_rules(struct seccomp_table *t, const json_t *o, struct error *err) {
	_cleanup_(free_ptr) struct seccomp_rule *rules = NULL;
	size_t n;
	int r = read_rules(o, &rules, &n, err);
	if (r < 0)
		return r;
	const json_t *names = json_object_get(o, "names"), *name = json_object_get(o, "name");
	bool old = json_is_string(name); /* one name alone: the oldest profiles */
	size_t n_names = old ? 1 : json_array_size(names);
	if (!n_names)
		return error_field(err, "names", "is empty");
	for (size_t k = 0; k < n; k++) {
		uint32_t rule = seccomp_table_rule(t, &rules[k]);
		for (size_t i = 0; i < n_names; i++) {
			const char *text = json_string_value(old ? name : json_array_get(names, i));
			if (!text)
				return error_field(err, "names", "must be texts");
			for (size_t a = 0; a < t->n; a++)
				add_name(t, &t->arches[a], text, rule);
		}
	}
	return 0;
}

/* Go's name of the architecture that this program is for: profiles use it in includes and excludes. */
static const char *go_arch(void) {
	switch (seccomp_arch_native()) {
	case SCMP_ARCH_X86_64:
		return "amd64";
	case SCMP_ARCH_AARCH64:
		return "arm64";
	case SCMP_ARCH_S390X:
		return "s390x";
	case SCMP_ARCH_PPC64LE:
		return "ppc64le";
	default:
		return "riscv64";
	}
}

static bool has_text(const json_t *list, const char *text) {
	for (size_t i = 0; i < json_array_size(list); i++)
		if (str_same(json_string_value(json_array_get(list, i)), text))
			return true;
	return false;
}

static bool kernel_is_at_least(const char *wanted) {
	struct utsname u;
	unsigned major = 0, minor = 0, have_major = 0, have_minor = 0;
	if (sscanf(wanted, "%u.%u", &major, &minor) < 1 || uname(&u) < 0)
		return false;
	sscanf(u.release, "%u.%u", &have_major, &have_minor);
	return have_major != major ? have_major > major : have_minor >= minor;
}

/* Whether the rule is in effect here: all that it includes holds and nothing that it excludes does. */
static bool applies(const json_t *rule, uint64_t caps) {
	const json_t *in = json_object_get(rule, "includes"), *ex = json_object_get(rule, "excludes");
	const json_t *arches = json_object_get(in, "arches"), *list = json_object_get(in, "caps");
	const char *kernel = json_get_str(in, "minKernel");
	size_t i;
	json_t *item;
	if (has_text(json_object_get(ex, "arches"), go_arch()) || (json_array_size(arches) && !has_text(arches, go_arch())))
		return false;
	json_array_foreach(list, i, item)
		if (!json_is_string(item) || !(caps & cap_from_name(json_string_value(item))))
			return false;
	json_array_foreach(json_object_get(ex, "caps"), i, item)
		if (json_is_string(item) && (caps & cap_from_name(json_string_value(item))))
			return false;
	if (kernel && !kernel_is_at_least(kernel))
		return false;
	kernel = json_get_str(ex, "minKernel");
	return !kernel || !kernel_is_at_least(kernel);
}

static int add_arch(struct seccomp_table *t, const char *name, struct error *err) {
	char lower[32] = "";
	if (!name || !str_starts(name, "SCMP_ARCH_") || strlen(name) >= sizeof lower)
		return error_field(err, "architectures", "“%s” is not an architecture", name ? name : "");
	for (size_t i = 0; name[i + 10]; i++)
		lower[i] = (char)(name[i + 10] | (name[i + 10] >= 'A' && name[i + 10] <= 'Z' ? 0x20 : 0));
	uint32_t token = seccomp_arch_resolve_name(lower);
	if (!token)
		return error_field(err, "architectures", "“%s” is not an architecture", name);
	for (size_t i = 0; i < t->n; i++)
		if (t->arches[i].token == token)
			return 0;
	t->arches = alloc_resize(t->arches, t->n + 1, sizeof *t->arches);
	t->arches[t->n++] = (struct seccomp_arch){.token = token};
	return 0;
}

static int read_arch_list(struct seccomp_table *t, const json_t *list, struct error *err) {
	size_t i;
	json_t *item;
	json_array_foreach(list, i, item) {
		int r = add_arch(t, json_string_value(item), err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* The native one is always there. Docker's archMap names what else the native kernel runs. */
static int read_arches(struct seccomp_table *t, const json_t *profile, struct error *err) {
	t->arches = NEW(struct seccomp_arch);
	t->arches[t->n++].token = seccomp_arch_native();
	size_t i;
	json_t *item;
	int r = read_arch_list(t, json_object_get(profile, "architectures"), err);
	json_array_foreach(json_object_get(profile, "archMap"), i, item) {
		const char *name = json_get_str(item, "architecture");
		struct seccomp_table one = {0};
		if (r == 0)
			r = add_arch(&one, name, err);
		if (r == 0 && one.arches[0].token == seccomp_arch_native())
			r = read_arch_list(t, json_object_get(item, "subArchitectures"), err);
		seccomp_table_free(&one);
	}
	return r;
}

static int read_flags(const json_t *profile, unsigned *out, struct error *err) {
	static const struct {
		const char *name;
		unsigned flag;
	} flags[] = {
		{"SECCOMP_FILTER_FLAG_TSYNC", SECCOMP_FILTER_FLAG_TSYNC},
		{"SECCOMP_FILTER_FLAG_LOG", SECCOMP_FILTER_FLAG_LOG},
		{"SECCOMP_FILTER_FLAG_SPEC_ALLOW", SECCOMP_FILTER_FLAG_SPEC_ALLOW},
	};
	const json_t *list = json_object_get(profile, "flags");
	*out = list ? 0 : SECCOMP_FILTER_FLAG_SPEC_ALLOW;
	for (size_t i = 0; i < json_array_size(list); i++) {
		const char *name = json_string_value(json_array_get(list, i));
		unsigned flag = 0;
		for (size_t k = 0; k < ARRAY_SIZE(flags); k++)
			if (str_same(name, flags[k].name))
				flag = flags[k].flag;
		if (!flag)
			return error_field(err, "flags", "“%s” is not a flag that wabe knows", name ? name : "");
		*out |= flag;
	}
	return 0;
}

static bool stops(uint32_t action) {
	uint32_t kind = action & SECCOMP_RET_ACTION_FULL;
	return kind == SECCOMP_RET_KILL_THREAD || kind == SECCOMP_RET_KILL_PROCESS || kind == SECCOMP_RET_TRAP ||
	       (kind == SECCOMP_RET_ERRNO && action != (SECCOMP_RET_ERRNO | ENOSYS));
}

static int read_profile(struct seccomp_table *t, const json_t *profile, uint64_t caps, struct error *err) {
	int r = read_action(profile, "defaultAction", "defaultErrnoRet", &t->default_action, err);
	if (r == 0)
		r = read_arches(t, profile, err);
	t->unknown_is_enosys = stops(t->default_action);
	const json_t *list = json_object_get(profile, "syscalls");
	if (r == 0 && json_array_size(list) > SYSCALLS_MAX)
		return error_set(err, ERROR_TOO_LARGE, "the seccomp profile has over %d rules", SYSCALLS_MAX);
	for (size_t i = 0; r == 0 && i < json_array_size(list); i++) {
		const json_t *rule = json_array_get(list, i);
		if (!applies(rule, caps))
			continue;
		r = add_rules(t, rule, err);
		if (r < 0) {
			_cleanup_(free_ptr) char *prefix = str_format("syscalls[%zu]", i);
			error_in_field(err, prefix);
		}
	}
	return r;
}

int seccomp_compile(const json_t *profile, uint64_t caps, struct sock_fprog *prog, unsigned *flags_out, struct error *err) {
	_cleanup_(seccomp_table_free) struct seccomp_table table = {0};
	*prog = (struct sock_fprog){0};
	if (!json_is_object(profile))
		return error_set(err, ERROR_INVALID, "a seccomp profile must be a JSON object");
	int r = read_flags(profile, flags_out, err);
	if (r == 0)
		r = read_profile(&table, profile, caps, err);
	return r == 0 ? seccomp_table_write(&table, prog, err) : r;
}

int seccomp_install(const struct sock_fprog *prog, unsigned flags, struct error *err) {
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, prog) == 0)
		return 0;
	return error_errno(err, errno, "cannot install the seccomp filter");
}
