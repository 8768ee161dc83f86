/* Writes the BPF program of a seccomp profile.
 *
 * For each architecture the numbers of system calls are cut into runs that are treated alike, and the run
 * of a number is found by binary search: some 350 instructions for all of x86-64, i386 and x32 in Docker's
 * profile, of which a call passes about ten. libseccomp's program is a list of a thousand, and takes
 * milliseconds to make. */
#include "driver/container/seccomp-priv.h"

#include <endian.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <seccomp.h>

#define X32_BIT 0x40000000U
#define BLOCK_RUNS 128

uint32_t seccomp_table_rule(struct seccomp_table *t, const struct seccomp_rule *rule) {
	t->rules = alloc_resize(t->rules, t->n_rules + 1, sizeof *t->rules);
	t->rules[t->n_rules] = *rule;
	return (uint32_t)t->n_rules++;
}

void seccomp_table_add(struct seccomp_arch *a, uint32_t nr, uint32_t rule) {
	if (a->n == a->room) {
		a->room = MAX(2 * a->room, (size_t)512);
		a->entries = alloc_resize(a->entries, a->room, sizeof *a->entries);
	}
	a->entries[a->n++] = (struct seccomp_entry){nr, rule};
}

void seccomp_table_free(struct seccomp_table *t) {
	for (size_t i = 0; i < t->n; i++)
		free(t->arches[i].entries);
	free(t->arches);
	free(t->rules);
	*t = (struct seccomp_table){0};
}

struct program {
	struct sock_filter *items;
	size_t n, room;
};

static void emit(struct program *p, uint16_t code, uint32_t k, uint8_t jt, uint8_t jf) {
	if (p->n == p->room) {
		p->room = MAX(2 * p->room, (size_t)512);
		p->items = alloc_resize(p->items, p->room, sizeof *p->items);
	}
	p->items[p->n++] = (struct sock_filter){code, jt, jf, k};
}

/* From start up to the next run's start. Without entries the action holds; with entries their rules do. */
struct run {
	uint32_t start, action;
	const struct seccomp_entry *entries;
	size_t n;
};

struct runs {
	struct run *items;
	size_t n, room;
};

static void runs_add(struct runs *r, struct run run) {
	struct run *last = r->n ? &r->items[r->n - 1] : NULL;
	if (last && last->start == run.start) {
		*last = run; /* nothing lies between */
		last = r->n > 1 ? last - 1 : NULL;
		r->n--;
	}
	if (last && !last->n && !run.n && last->action == run.action)
		return;
	if (r->n == r->room) {
		r->room = MAX(2 * r->room, (size_t)128);
		r->items = alloc_resize(r->items, r->room, sizeof *r->items);
	}
	r->items[r->n++] = run;
}

static int by_number(const void *a, const void *b) {
	const struct seccomp_entry *x = a, *y = b;
	return x->nr != y->nr ? (x->nr > y->nr) - (x->nr < y->nr) : (x->rule > y->rule) - (x->rule < y->rule);
}

/* The n entries at e are of one call. A rule without conditions rules alone, as with libseccomp. */
static struct run run_of(const struct seccomp_table *t, const struct seccomp_entry *e, size_t n) {
	for (size_t i = 0; i < n; i++)
		if (t->rules[e[i].rule].n == 0)
			return (struct run){.start = e->nr, .action = t->rules[e[i].rule].action};
	return (struct run){.start = e->nr, .entries = e, .n = n};
}

/* Runs for the numbers from base on. */
static void add_arch(struct runs *r, const struct seccomp_table *t, struct seccomp_arch *a, uint32_t base) {
	if (a->n)
		qsort(a->entries, a->n, sizeof *a->entries, by_number);
	runs_add(r, (struct run){.start = base, .action = t->default_action});
	for (size_t i = 0, n; i < a->n; i += n) {
		for (n = 1; i + n < a->n && a->entries[i + n].nr == a->entries[i].nr;)
			n++;
		runs_add(r, run_of(t, &a->entries[i], n));
		runs_add(r, (struct run){.start = a->entries[i].nr + 1, .action = t->default_action});
	}
	if (t->unknown_is_enosys && a->n)
		runs_add(r, (struct run){.start = a->entries[a->n - 1].nr + 1, .action = SECCOMP_RET_ERRNO | ENOSYS});
}

#define LOAD (BPF_LD | BPF_W | BPF_ABS)

static uint32_t argument_word(uint32_t index, bool high) {
	bool second = high == (BYTE_ORDER == LITTLE_ENDIAN);
	return (uint32_t)offsetof(struct seccomp_data, args) + 8 * index + (second ? 4 : 0);
}

/* Jump distances that mean "the condition holds" and "it does not" until the rule is complete. */
enum { HOLDS = 254, FAILS = 255 };

static void emit_equal(struct program *p, const struct seccomp_condition *c, bool wide, bool wanted) {
	bool masked = c->op == COMPARE_MASKED_EQ;
	uint64_t value = masked ? c->value_two : c->value, mask = masked ? c->value : UINT64_MAX;
	uint8_t yes = wanted ? HOLDS : FAILS, no = wanted ? FAILS : HOLDS;
	if (wide) {
		emit(p, LOAD, argument_word(c->index, true), 0, 0);
		if (masked)
			emit(p, BPF_ALU | BPF_AND | BPF_K, (uint32_t)(mask >> 32), 0, 0);
		emit(p, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(value >> 32), 0, no);
	}
	emit(p, LOAD, argument_word(c->index, false), 0, 0);
	if (masked)
		emit(p, BPF_ALU | BPF_AND | BPF_K, (uint32_t)mask, 0, 0);
	emit(p, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)value, yes, no);
}

/* code: BPF_JGT or BPF_JGE; wanted false turns it into <= or <. */
static void emit_order(struct program *p, const struct seccomp_condition *c, bool wide, uint16_t code, bool wanted) {
	uint8_t yes = wanted ? HOLDS : FAILS, no = wanted ? FAILS : HOLDS;
	if (wide) {
		emit(p, LOAD, argument_word(c->index, true), 0, 0);
		emit(p, BPF_JMP | BPF_JGT | BPF_K, (uint32_t)(c->value >> 32), yes, 0);
		emit(p, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(c->value >> 32), 0, no);
	}
	emit(p, LOAD, argument_word(c->index, false), 0, 0);
	emit(p, BPF_JMP | code | BPF_K, (uint32_t)c->value, yes, no);
}

static void emit_condition(struct program *p, const struct seccomp_condition *c, bool wide) {
	size_t start = p->n;
	if (c->op == COMPARE_EQ || c->op == COMPARE_NE || c->op == COMPARE_MASKED_EQ)
		emit_equal(p, c, wide, c->op != COMPARE_NE);
	else
		emit_order(p, c, wide, c->op == COMPARE_GT || c->op == COMPARE_LE ? BPF_JGT : BPF_JGE,
			   c->op == COMPARE_GT || c->op == COMPARE_GE);
	for (size_t i = start; i < p->n; i++) {
		struct sock_filter *f = &p->items[i];
		if (f->jt == HOLDS)
			f->jt = (uint8_t)(p->n - i - 1);
		if (f->jf == HOLDS)
			f->jf = (uint8_t)(p->n - i - 1);
	}
}

/* At most seven conditions of six instructions: every jump fits. */
static void emit_rule(struct program *p, const struct seccomp_rule *rule, bool wide) {
	size_t start = p->n;
	for (size_t i = 0; i < rule->n; i++)
		emit_condition(p, &rule->conditions[i], wide);
	emit(p, BPF_RET | BPF_K, rule->action, 0, 0);
	for (size_t i = start; i < p->n; i++) {
		struct sock_filter *f = &p->items[i];
		if (f->jt == FAILS)
			f->jt = (uint8_t)(p->n - i - 1);
		if (f->jf == FAILS)
			f->jf = (uint8_t)(p->n - i - 1);
	}
}

static bool is_wide(uint32_t nr, uint32_t audit) {
	return (audit & __AUDIT_ARCH_64BIT) && !(audit == AUDIT_ARCH_X86_64 && nr >= X32_BIT);
}

static void emit_leaf(struct program *p, const struct seccomp_table *t, const struct run *run, uint32_t audit) {
	for (size_t i = 0; i < run->n; i++)
		emit_rule(p, &t->rules[run->entries[i].rule], is_wide(run->start, audit));
	emit(p, BPF_RET | BPF_K, run->n ? t->default_action : run->action, 0, 0);
}

/* A tree whose jumps all fit into eight bits; its leaves share the instructions that return. */
struct block {
	struct leaf_jump {
		size_t at;
		bool taken; /* the jump when the comparison holds, or the other */
		uint32_t action;
	} jumps[2 * BLOCK_RUNS];
	size_t n;
	bool too_far;
};

static void set_jump(struct program *p, struct block *b, size_t at, bool taken, size_t to) {
	size_t distance = to - at - 1;
	b->too_far = b->too_far || distance > 255;
	*(taken ? &p->items[at].jt : &p->items[at].jf) = (uint8_t)distance;
}

static void emit_tree(struct program *p, const struct seccomp_table *t, const struct run *runs, size_t n, uint32_t audit,
		      struct block *b) {
	if (n == 1) {
		emit_leaf(p, t, runs, audit);
		return;
	}
	size_t half = n / 2, at = p->n;
	emit(p, BPF_JMP | BPF_JGE | BPF_K, runs[half].start, 0, 0);
	for (int taken = 0; taken < 2; taken++) {
		const struct run *side = taken ? runs + half : runs;
		size_t side_n = taken ? n - half : half;
		if (side_n == 1 && !side->n) {
			b->jumps[b->n++] = (struct leaf_jump){at, taken, side->action};
			continue;
		}
		set_jump(p, b, at, taken, p->n);
		emit_tree(p, t, side, side_n, audit, b);
	}
}

static void emit_returns(struct program *p, struct block *b) {
	size_t first = p->n;
	for (size_t i = 0; i < b->n; i++) {
		size_t at = first;
		while (at < p->n && p->items[at].k != b->jumps[i].action)
			at++;
		if (at == p->n)
			emit(p, BPF_RET | BPF_K, b->jumps[i].action, 0, 0);
		set_jump(p, b, b->jumps[i].at, b->jumps[i].taken, at);
	}
}

/* Cut in halves, with a long jump, until what is left makes a block. */
static void emit_search(struct program *p, const struct seccomp_table *t, const struct run *runs, size_t n, uint32_t audit) {
	size_t start = p->n;
	struct block b = {.n = 0};
	if (n <= BLOCK_RUNS) {
		emit_tree(p, t, runs, n, audit, &b);
		emit_returns(p, &b);
	}
	if (n == 1 || (n <= BLOCK_RUNS && !b.too_far))
		return;
	size_t half = n / 2;
	p->n = start;
	emit(p, BPF_JMP | BPF_JGE | BPF_K, runs[half].start, 0, 1);
	emit(p, BPF_JMP | BPF_JA, 0, 0, 0);
	emit_search(p, t, runs, half, audit);
	p->items[start + 1].k = (uint32_t)(p->n - start - 2);
	emit_search(p, t, runs + half, n - half, audit);
}

static struct seccomp_arch *find(struct seccomp_table *t, uint32_t token) {
	for (size_t i = 0; i < t->n; i++)
		if (t->arches[i].token == token)
			return &t->arches[i];
	return NULL;
}

/* One architecture as the kernel reports it: x32 is a part of x86-64. */
static void emit_arch(struct program *p, struct seccomp_table *t, struct seccomp_arch *a) {
	struct runs runs = {0};
	add_arch(&runs, t, a, 0);
	if (a->token == SCMP_ARCH_X86_64) {
		struct seccomp_arch *x32 = find(t, SCMP_ARCH_X32);
		if (x32)
			add_arch(&runs, t, x32, X32_BIT);
		else
			runs_add(&runs, (struct run){.start = X32_BIT, .action = SECCOMP_RET_KILL_THREAD});
		/* what a tracer gives to have the call skipped */
		runs_add(&runs, (struct run){.start = UINT32_MAX, .action = t->default_action});
	}
	size_t at = p->n;
	emit(p, BPF_JMP | BPF_JEQ | BPF_K, a->token, 1, 0);
	emit(p, BPF_JMP | BPF_JA, 0, 0, 0);
	emit(p, LOAD, offsetof(struct seccomp_data, nr), 0, 0);
	emit_search(p, t, runs.items, runs.n, a->token);
	p->items[at + 1].k = (uint32_t)(p->n - at - 2);
	free(runs.items);
}

int seccomp_table_write(struct seccomp_table *t, struct sock_fprog *prog, struct error *err) {
	struct program p = {0};
	emit(&p, LOAD, offsetof(struct seccomp_data, arch), 0, 0);
	for (size_t i = 0; i < t->n; i++)
		if (t->arches[i].token != SCMP_ARCH_X32)
			emit_arch(&p, t, &t->arches[i]);
	emit(&p, BPF_RET | BPF_K, SECCOMP_RET_KILL_THREAD, 0, 0);
	if (p.n > BPF_MAXINSNS) {
		free(p.items);
		return error_set(err, ERROR_TOO_LARGE, "the seccomp profile makes %zu instructions, over the kernel's %d", p.n,
				 BPF_MAXINSNS);
	}
	*prog = (struct sock_fprog){.len = (unsigned short)p.n, .filter = p.items};
	return 0;
}
