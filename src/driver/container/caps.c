/* Names and sets of capabilities. */
#include "driver/container/confine.h"

#include "base/fs.h"
#include "base/str.h"

#include <linux/capability.h>
#include <strings.h>
#include <sys/prctl.h>

#define BIT(cap) (UINT64_C(1) << (cap))

static const char *const names[] = {
	[CAP_CHOWN] = "CAP_CHOWN",
	[CAP_DAC_OVERRIDE] = "CAP_DAC_OVERRIDE",
	[CAP_DAC_READ_SEARCH] = "CAP_DAC_READ_SEARCH",
	[CAP_FOWNER] = "CAP_FOWNER",
	[CAP_FSETID] = "CAP_FSETID",
	[CAP_KILL] = "CAP_KILL",
	[CAP_SETGID] = "CAP_SETGID",
	[CAP_SETUID] = "CAP_SETUID",
	[CAP_SETPCAP] = "CAP_SETPCAP",
	[CAP_LINUX_IMMUTABLE] = "CAP_LINUX_IMMUTABLE",
	[CAP_NET_BIND_SERVICE] = "CAP_NET_BIND_SERVICE",
	[CAP_NET_BROADCAST] = "CAP_NET_BROADCAST",
	[CAP_NET_ADMIN] = "CAP_NET_ADMIN",
	[CAP_NET_RAW] = "CAP_NET_RAW",
	[CAP_IPC_LOCK] = "CAP_IPC_LOCK",
	[CAP_IPC_OWNER] = "CAP_IPC_OWNER",
	[CAP_SYS_MODULE] = "CAP_SYS_MODULE",
	[CAP_SYS_RAWIO] = "CAP_SYS_RAWIO",
	[CAP_SYS_CHROOT] = "CAP_SYS_CHROOT",
	[CAP_SYS_PTRACE] = "CAP_SYS_PTRACE",
	[CAP_SYS_PACCT] = "CAP_SYS_PACCT",
	[CAP_SYS_ADMIN] = "CAP_SYS_ADMIN",
	[CAP_SYS_BOOT] = "CAP_SYS_BOOT",
	[CAP_SYS_NICE] = "CAP_SYS_NICE",
	[CAP_SYS_RESOURCE] = "CAP_SYS_RESOURCE",
	[CAP_SYS_TIME] = "CAP_SYS_TIME",
	[CAP_SYS_TTY_CONFIG] = "CAP_SYS_TTY_CONFIG",
	[CAP_MKNOD] = "CAP_MKNOD",
	[CAP_LEASE] = "CAP_LEASE",
	[CAP_AUDIT_WRITE] = "CAP_AUDIT_WRITE",
	[CAP_AUDIT_CONTROL] = "CAP_AUDIT_CONTROL",
	[CAP_SETFCAP] = "CAP_SETFCAP",
	[CAP_MAC_OVERRIDE] = "CAP_MAC_OVERRIDE",
	[CAP_MAC_ADMIN] = "CAP_MAC_ADMIN",
	[CAP_SYSLOG] = "CAP_SYSLOG",
	[CAP_WAKE_ALARM] = "CAP_WAKE_ALARM",
	[CAP_BLOCK_SUSPEND] = "CAP_BLOCK_SUSPEND",
	[CAP_AUDIT_READ] = "CAP_AUDIT_READ",
	[CAP_PERFMON] = "CAP_PERFMON",
	[CAP_BPF] = "CAP_BPF",
	[CAP_CHECKPOINT_RESTORE] = "CAP_CHECKPOINT_RESTORE",
};

uint64_t cap_from_name(const char *name) {
	size_t prefix = strncasecmp(name, "CAP_", 4) == 0 ? 0 : 4;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (strcasecmp(names[i] + prefix, name) == 0)
			return BIT(i);
	return 0;
}

const char *cap_name(int cap) {
	return cap >= 0 && (size_t)cap < ARRAY_SIZE(names) ? names[cap] : NULL;
}

/* The kernel's last, found by asking: no /proc is needed. */
uint64_t cap_all(void) {
	static uint64_t all;
	for (int cap = 0; !all; cap++)
		if (cap == 64 || prctl(PR_CAPBSET_READ, cap, 0, 0, 0) < 0)
			all = cap == 64 ? UINT64_MAX : BIT(cap) - 1;
	return all;
}

uint64_t cap_bounding(void) {
	uint64_t set = 0;
	for (int cap = 0; cap < 64 && (cap_all() & BIT(cap)); cap++)
		if (prctl(PR_CAPBSET_READ, cap, 0, 0, 0) == 1)
			set |= BIT(cap);
	return set;
}

uint64_t cap_default(void) {
	return BIT(CAP_CHOWN) | BIT(CAP_DAC_OVERRIDE) | BIT(CAP_FSETID) | BIT(CAP_FOWNER) | BIT(CAP_MKNOD) |
	       BIT(CAP_NET_RAW) | BIT(CAP_SETGID) | BIT(CAP_SETUID) | BIT(CAP_SETFCAP) | BIT(CAP_SETPCAP) |
	       BIT(CAP_NET_BIND_SERVICE) | BIT(CAP_SYS_CHROOT) | BIT(CAP_KILL) | BIT(CAP_AUDIT_WRITE);
}

static int set_of(char *const *list, uint64_t *out, struct error *err) {
	*out = 0;
	for (size_t i = 0; list && list[i]; i++) {
		bool all = strcasecmp(list[i], "ALL") == 0;
		uint64_t bit = all ? cap_all() : cap_from_name(list[i]);
		if (!bit)
			return error_set(err, ERROR_INVALID, "unknown capability: \"%s\"", list[i]);
		*out |= bit;
	}
	return 0;
}

static bool has_all(char *const *list) {
	for (size_t i = 0; list && list[i]; i++)
		if (strcasecmp(list[i], "ALL") == 0)
			return true;
	return false;
}

/* As Docker: dropping ALL starts from nothing and adds what is named; adding ALL takes away what is named. */
int cap_compute(uint64_t start, char *const *add, char *const *drop, uint64_t *out, struct error *err) {
	uint64_t added, dropped;
	int r = set_of(add, &added, err);
	if (r == 0)
		r = set_of(drop, &dropped, err);
	if (r < 0)
		return r;
	*out = has_all(drop) ? added : (start | added) & ~dropped;
	return 0;
}
