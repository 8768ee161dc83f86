/* A guest's process for tests and benches of migrations: goes round a region of memory at a given rate, and finds out for each page
 * whether it still is what was written there the last time. "memory-writer MIB-A-SECOND MIB FILE" keeps FILE up to date: pages
 * written, and pages found damaged. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#define PAGE 4096
#define WORDS (PAGE / sizeof(uint64_t))
#define TURN_NS 10000000L

static uint64_t next(uint64_t x) {
	x ^= x << 13;
	x ^= x >> 7;
	return x ^ x << 17;
}

static uint64_t seed(uint64_t page, uint64_t round) {
	return (page << 32 | round) * 0x9e3779b97f4a7c15u | 1;
}

static void write_page(uint64_t *at, uint64_t x) {
	for (size_t i = 0; i < WORDS; i++)
		at[i] = x = next(x);
}

static int is_damaged(const uint64_t *at, uint64_t x) {
	for (size_t i = 0; i < WORDS; i++)
		if (at[i] != (x = next(x)))
			return 1;
	return 0;
}

/* Never seen half written. */
static void tell(const char *path, unsigned long long written, unsigned long long damaged) {
	char fresh[4096];
	snprintf(fresh, sizeof fresh, "%s.new", path);
	FILE *f = fopen(fresh, "w");
	if (f) {
		fprintf(f, "%llu %llu\n", written, damaged);
		fclose(f);
		rename(fresh, path);
	}
}

int main(int argc, char **argv) {
	if (argc != 4)
		return 2;
	uint64_t per_turn = strtoull(argv[1], NULL, 10) * 256 / 100, pages = strtoull(argv[2], NULL, 10) * 256;
	uint64_t *region = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned long long written = 0, damaged = 0;
	struct timespec at;
	if (region == MAP_FAILED)
		return 1;
	clock_gettime(CLOCK_MONOTONIC, &at);
	for (uint64_t turn = 0;; turn++) {
		for (uint64_t i = 0; i < per_turn; i++, written++) {
			uint64_t page = written % pages, round = written / pages;
			uint64_t *p = region + page * WORDS;
			damaged += round && is_damaged(p, seed(page, round - 1));
			write_page(p, seed(page, round));
		}
		if (turn % 20 == 0)
			tell(argv[3], written, damaged);
		at.tv_nsec += TURN_NS;
		if (at.tv_nsec >= 1000000000L) {
			at.tv_sec++;
			at.tv_nsec -= 1000000000L;
		}
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
	}
}
