/* Partition tables: MBR, with logical partitions, and GPT (UEFI 2.10, chapter 5). What lies outside of the disk is passed over; a chain
 * of logical partitions has an end. */
#include "image/disk-priv.h"
#include "image/disk-tree.h"

#include <unistd.h>

#define SECTOR UINT64_C(512)
#define CHAIN_MAX 64
#define GPT_ENTRIES_MAX 128
#define ENTRY_MAX 4096

struct table {
	int disk;
	uint64_t size;
	struct disk_part *out;
	int n;
};

static int read_at(const struct table *t, uint64_t at, uint8_t *to, size_t n, struct error *err) {
	ssize_t got = RETRY_EINTR(pread(t->disk, to, n, (off_t)at));
	if (got == (ssize_t)n)
		return 0;
	return got < 0 ? error_errno(err, errno, "cannot read the disk") : error_set(err, ERROR_CORRUPT, "the disk is cut off in its partition table");
}

static void add(struct table *t, uint64_t first, uint64_t sectors) {
	uint64_t most = t->size / SECTOR;
	if (t->n < DISK_PARTS_MAX && sectors && first < most && sectors <= most - first)
		t->out[t->n++] = (struct disk_part){first * SECTOR, sectors * SECTOR};
}

static bool is_chain(uint8_t type) {
	return type == 0x05 || type == 0x0f || type == 0x85;
}

/* Each table of the chain has one partition, relative to itself, and the next table, relative to the first. */
static int add_logical(struct table *t, uint64_t base, struct error *err) {
	uint64_t at = base;
	for (int i = 0; i < CHAIN_MAX && at < t->size / SECTOR; i++) {
		uint8_t s[SECTOR];
		int r = read_at(t, at * SECTOR, s, sizeof s, err);
		if (r < 0 || s[510] != 0x55 || s[511] != 0xaa)
			return r;
		add(t, at + LE32(s + 446 + 8), LE32(s + 446 + 12));
		if (!is_chain(s[446 + 16 + 4]) || !LE32(s + 446 + 16 + 8))
			return 0;
		at = base + LE32(s + 446 + 16 + 8);
	}
	return 0;
}

static int add_gpt(struct table *t, struct error *err) {
	uint8_t h[SECTOR], e[ENTRY_MAX];
	int r = read_at(t, SECTOR, h, sizeof h, err);
	if (r < 0 || memcmp(h, "EFI PART", 8) != 0)
		return r;
	uint64_t at = LE64(h + 72), n = MIN(LE32(h + 80), GPT_ENTRIES_MAX), size = LE32(h + 84);
	if (size < 128 || size > ENTRY_MAX || at >= t->size / SECTOR)
		return error_set(err, ERROR_CORRUPT, "the disk's partition table (GPT) makes no sense");
	for (uint64_t i = 0; r == 0 && i < n; i++) {
		r = read_at(t, at * SECTOR + i * size, e, 128, err);
		uint64_t first = r == 0 ? LE64(e + 32) : 0, last = r == 0 ? LE64(e + 40) : 0;
		if (first && last >= first)
			add(t, first, last - first + 1);
	}
	return r;
}

int disk_parts(int disk, struct disk_part out[DISK_PARTS_MAX], struct error *err) {
	off_t end = lseek(disk, 0, SEEK_END);
	struct table t = {disk, end < 0 ? 0 : (uint64_t)end, out, 0};
	uint8_t s[SECTOR];
	if (end < 0)
		return error_errno(err, errno, "cannot read the disk");
	add(&t, 0, t.size / SECTOR);
	if (t.size < 2 * SECTOR)
		return t.n;
	int r = read_at(&t, 0, s, sizeof s, err);
	if (r < 0 || s[510] != 0x55 || s[511] != 0xaa)
		return r < 0 ? r : t.n;
	for (size_t i = 0; r == 0 && i < 4; i++) {
		const uint8_t *p = s + 446 + 16 * i;
		if (p[4] == 0xee)
			r = add_gpt(&t, err);
		else if (is_chain(p[4]))
			r = add_logical(&t, LE32(p + 8), err);
		else if (p[4])
			add(&t, LE32(p + 8), LE32(p + 12));
	}
	return r < 0 ? r : t.n;
}
