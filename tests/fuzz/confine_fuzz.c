/* What users write into seccomp profiles and OCI resources: whatever is accepted makes a program that the kernel
 * would take, all jumps inside and a return at each end. */
#include "driver/container/cgroup.h"
#include "driver/container/confine.h"

static void check(const struct sock_fprog *prog) {
	for (size_t i = 0; i < prog->len; i++) {
		const struct sock_filter *f = &prog->filter[i];
		size_t left = prog->len - i - 1;
		bool jump = BPF_CLASS(f->code) == BPF_JMP;
		if (jump && BPF_OP(f->code) == BPF_JA ? f->k >= left : jump && (f->jt >= left || f->jf >= left))
			abort();
	}
	if (BPF_CLASS(prog->filter[prog->len - 1].code) != BPF_RET)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	_cleanup_(json_free_ptr) json_t *json = json_parse((const char *)data, size, NULL);
	struct sock_fprog prog;
	unsigned flags;
	if (seccomp_compile(json, cap_default(), &prog, &flags, NULL) == 0)
		check(&prog);
	free(prog.filter);
	struct cgroup_config c = {0};
	if (cgroup_limits_from_oci(json, &c.limits, &c.devices, &c.n_devices, NULL) == 0)
		cgroup_config_free(&c);
	return 0;
}
