/* Between reading a seccomp profile (seccomp.c) and writing its program (seccomp-filter.c). */
#pragma once

#include "driver/container/confine.h"

enum seccomp_compare { COMPARE_NE, COMPARE_LT, COMPARE_LE, COMPARE_EQ, COMPARE_GE, COMPARE_GT, COMPARE_MASKED_EQ };

struct seccomp_condition {
	uint32_t index;
	enum seccomp_compare op;
	uint64_t value, value_two; /* masked: mask and what is wanted */
};

#define SECCOMP_CONDITIONS 7 /* one for each argument and one for socketcall */

/* What to do with a system call when all conditions hold. */
struct seccomp_rule {
	uint32_t action; /* SECCOMP_RET_* with its data */
	struct seccomp_condition conditions[SECCOMP_CONDITIONS];
	size_t n;
};

/* Sorts by number, and for one number in the order of the profile. */
struct seccomp_entry {
	uint32_t nr, rule; /* rule: an index of the table's */
};

struct seccomp_arch {
	uint32_t token; /* SCMP_ARCH_* */
	struct seccomp_entry *entries;
	size_t n, room;
};

struct seccomp_table {
	uint32_t default_action;
	bool unknown_is_enosys; /* calls newer than all that the profile names fail as if they did not exist */
	struct seccomp_rule *rules;
	size_t n_rules;
	struct seccomp_arch *arches;
	size_t n;
};

uint32_t seccomp_table_rule(struct seccomp_table *t, const struct seccomp_rule *rule); /* gives its index */
void seccomp_table_add(struct seccomp_arch *a, uint32_t nr, uint32_t rule);
/* Writes the program; sorts the table's entries. */
int seccomp_table_write(struct seccomp_table *t, struct sock_fprog *prog, struct error *err);
void seccomp_table_free(struct seccomp_table *t);
