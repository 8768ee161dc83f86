/* Which device nodes a group may use: by writing rules in v1, by a small BPF program in v2. */
#include "driver/container/cgroup-priv.h"

#include "base/str.h"

#include <fcntl.h>
#include <inttypes.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

static char *number_or_star(int64_t n) {
	return n < 0 ? str_copy("*") : str_format("%" PRId64, n);
}

static bool catches_all(const struct cgroup_device_rule *r) {
	return r->type == 'a' && r->major < 0 && r->minor < 0 && strlen(r->access) == 3;
}

/* Rules before the last one for all devices have no effect. */
static size_t first_that_counts(const struct cgroup_device_rule *rules, size_t n) {
	for (size_t i = n; i-- > 0;)
		if (catches_all(&rules[i]))
			return i;
	return 0;
}

/* v1 knows no "a" with numbers: such a rule is one for each of b and c. */
static int write_rule(int file, const struct cgroup_device_rule *r, char type) {
	_cleanup_(free_ptr) char *major = number_or_star(r->major), *minor = number_or_star(r->minor);
	_cleanup_(free_ptr) char *text =
		type == 'a' ? str_copy("a") : str_format("%c %s:%s %s", type, major, minor, r->access);
	return RETRY_EINTR(write(file, text, strlen(text))) < 0 ? -errno : 0;
}

json_t *cgroup_devices_print(const struct cgroup_device_rule *rules, size_t n) {
	json_t *list = json_array();
	for (size_t i = 0; i < n; i++) {
		const struct cgroup_device_rule *r = &rules[i];
		_cleanup_(free_ptr) char *text = str_format("%c%c %" PRId64 ":%" PRId64 " %s", r->allow ? '+' : '-', r->type, r->major,
							    r->minor, r->access);
		json_array_append_new(list, json_string(text));
	}
	return list;
}

int cgroup_devices_parse(const json_t *list, struct cgroup_device_rule **rules, size_t *n) {
	*rules = alloc_array(json_array_size(list) + 1, sizeof **rules);
	for (*n = 0; *n < json_array_size(list); ++*n) {
		struct cgroup_device_rule *r = &(*rules)[*n];
		const char *text = json_string_value(json_array_get(list, *n));
		char sign;
		if (!text || sscanf(text, "%c%c %" SCNd64 ":%" SCNd64 " %3[rwm]", &sign, &r->type, &r->major, &r->minor, r->access) != 5)
			return -EINVAL;
		r->allow = sign == '+';
	}
	return 0;
}

int cgroup_v1_device(int dir, const struct cgroup_device_rule *rule, struct error *err) {
	const char *name = rule->allow ? "devices.allow" : "devices.deny";
	_cleanup_(close_fd) int file = openat(dir, name, O_WRONLY | O_CLOEXEC);
	int r = file < 0 ? -errno : write_rule(file, rule, rule->type);
	return r < 0 ? error_errno(err, r, "cannot set a device rule of the control group (%s)", name) : 0;
}

int cgroup_v1_devices(int dir, const struct cgroup_device_rule *rules, size_t n, struct error *err) {
	_cleanup_(close_fd) int allow = openat(dir, "devices.allow", O_WRONLY | O_CLOEXEC);
	_cleanup_(close_fd) int deny = openat(dir, "devices.deny", O_WRONLY | O_CLOEXEC);
	if (allow < 0 || deny < 0)
		return error_errno(err, errno, "cannot open the device rules of the control group");
	for (size_t i = first_that_counts(rules, n); i < n; i++) {
		const struct cgroup_device_rule *r = &rules[i];
		bool both = r->type == 'a' && !catches_all(r);
		int file = r->allow ? allow : deny, failed = write_rule(file, r, both ? 'b' : r->type);
		if (failed == 0 && both)
			failed = write_rule(file, r, 'c');
		if (failed < 0)
			return error_errno(err, failed, "cannot set a device rule of the control group");
	}
	return 0;
}

struct program {
	struct bpf_insn *items;
	size_t n;
};

static void emit(struct program *p, struct bpf_insn insn) {
	p->items = alloc_resize(p->items, p->n + 1, sizeof *p->items);
	p->items[p->n++] = insn;
}

enum { TYPE = BPF_REG_2, ACCESS = BPF_REG_3, MAJOR = BPF_REG_4, MINOR = BPF_REG_5 };

#define INSN(c, dst, src, o, i) ((struct bpf_insn){.code = (c), .dst_reg = (dst), .src_reg = (src), .off = (o), .imm = (i)})
#define LOAD(dst, field) INSN(BPF_LDX | BPF_MEM | BPF_W, dst, BPF_REG_1, offsetof(struct bpf_cgroup_dev_ctx, field), 0)
/* A test that leads past the rule; its distance is filled in when the rule is complete. */
#define UNLESS(reg, value) INSN(BPF_JMP32 | BPF_JNE | BPF_K, reg, 0, 0, value)

static void emit_return(struct program *p, bool allow) {
	emit(p, INSN(BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, allow));
	emit(p, INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0));
}

static int32_t access_bits(const char *access) {
	int32_t bits = 0;
	for (; *access; access++)
		bits |= *access == 'r' ? BPF_DEVCG_ACC_READ : *access == 'w' ? BPF_DEVCG_ACC_WRITE : BPF_DEVCG_ACC_MKNOD;
	return bits;
}

#define ALL_ACCESS (BPF_DEVCG_ACC_READ | BPF_DEVCG_ACC_WRITE | BPF_DEVCG_ACC_MKNOD)

/* ACCESS holds what has been asked for and not been allowed yet. */
static void emit_rule(struct program *p, const struct cgroup_device_rule *r) {
	size_t start = p->n;
	int32_t bits = access_bits(r->access);
	if (r->type != 'a')
		emit(p, UNLESS(TYPE, r->type == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR));
	if (r->major >= 0)
		emit(p, UNLESS(MAJOR, (int32_t)r->major));
	if (r->minor >= 0)
		emit(p, UNLESS(MINOR, (int32_t)r->minor));
	if (r->allow) {
		emit(p, INSN(BPF_ALU | BPF_AND | BPF_K, ACCESS, 0, 0, ~bits));
		if (bits != ALL_ACCESS)
			emit(p, UNLESS(ACCESS, 0));
		emit_return(p, true);
	} else {
		if (bits != ALL_ACCESS) {
			emit(p, INSN(BPF_JMP32 | BPF_JSET | BPF_K, ACCESS, 0, 1, bits));
			emit(p, INSN(BPF_JMP | BPF_JA, 0, 0, 2, 0));
		}
		emit_return(p, false);
	}
	for (size_t i = start; i < p->n; i++)
		if (p->items[i].code == (BPF_JMP32 | BPF_JNE | BPF_K))
			p->items[i].off = (int16_t)(p->n - i - 1);
}

/* The last rule that matches decides, for each kind of access alone; so they are asked from the end. Where
 * none matches the access is allowed, as in a fresh group. */
static void build(struct program *p, const struct cgroup_device_rule *rules, size_t n) {
	emit(p, LOAD(TYPE, access_type));
	emit(p, INSN(BPF_ALU | BPF_MOV | BPF_X, ACCESS, TYPE, 0, 0));
	emit(p, INSN(BPF_ALU | BPF_RSH | BPF_K, ACCESS, 0, 0, 16));
	emit(p, INSN(BPF_ALU | BPF_AND | BPF_K, TYPE, 0, 0, 0xffff));
	emit(p, LOAD(MAJOR, major));
	emit(p, LOAD(MINOR, minor));
	size_t first = first_that_counts(rules, n);
	for (size_t i = n; i-- > first;)
		emit_rule(p, &rules[i]);
	if (!n || !catches_all(&rules[first]))
		emit_return(p, true);
}

static int bpf(int command, union bpf_attr *attr) {
	return (int)syscall(SYS_bpf, command, attr, sizeof *attr);
}

static int load(const struct program *p) {
	union bpf_attr attr = {
		.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE,
		.insns = (uintptr_t)p->items,
		.insn_cnt = (uint32_t)p->n,
		.license = (uintptr_t) "GPL",
		.prog_name = "wabe_devices",
	};
	int fd = bpf(BPF_PROG_LOAD, &attr);
	return fd < 0 ? -errno : fd;
}

/* Takes away programs that were attached to the group before the new one. */
static void detach_old(int dir, const uint32_t *ids, uint32_t n) {
	for (uint32_t i = 0; i < n; i++) {
		union bpf_attr get = {.prog_id = ids[i]};
		_cleanup_(close_fd) int old = bpf(BPF_PROG_GET_FD_BY_ID, &get);
		union bpf_attr detach = {.target_fd = (uint32_t)dir, .attach_bpf_fd = (uint32_t)old,
					 .attach_type = BPF_CGROUP_DEVICE};
		if (old >= 0)
			bpf(BPF_PROG_DETACH, &detach);
	}
}

int cgroup_v2_devices(int dir, const struct cgroup_device_rule *rules, size_t n, struct error *err) {
	struct program p = {0};
	build(&p, rules, n);
	_cleanup_(close_fd) int program = load(&p);
	free(p.items);
	if (program < 0)
		return error_errno(err, program, "cannot load the device filter of the control group");
	uint32_t ids[64];
	union bpf_attr query = {.query = {.target_fd = (uint32_t)dir, .attach_type = BPF_CGROUP_DEVICE,
					  .prog_ids = (uintptr_t)ids, .prog_cnt = ARRAY_SIZE(ids)}};
	uint32_t before = bpf(BPF_PROG_QUERY, &query) == 0 ? query.query.prog_cnt : 0;
	union bpf_attr attach = {.target_fd = (uint32_t)dir, .attach_bpf_fd = (uint32_t)program,
				 .attach_type = BPF_CGROUP_DEVICE, .attach_flags = BPF_F_ALLOW_MULTI};
	if (bpf(BPF_PROG_ATTACH, &attach) < 0)
		return error_errno(err, errno, "cannot attach the device filter of the control group");
	detach_old(dir, ids, before);
	return 0;
}
