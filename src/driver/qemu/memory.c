/* Taking a machine's state apart. The stream is of a QEMU that runs what guests do: each number in it is checked. Sections come
 * one after the other; that of the memory alone comes in several parts, and before all others. Of a part's records those of the
 * guest's memory are taken out, the others (the graphics card's, ROMs) stay in the stream. */
#include "driver/qemu/memory.h"

#include "base/fs.h"
#include "base/str.h"

#include <endian.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC 0x5145564dU
#define VERSION 3U
#define PAGE ((size_t)4096)
#define CHUNK ((size_t)1 << 20)
#define BLOCKS_MAX 256
#define SETTINGS_MAX ((uint32_t)4096)

enum section { SECTION_START = 1, SECTION_PART = 2, SECTION_END = 3, SECTION_FULL = 4, SECTION_SETTINGS = 7, SECTION_FOOTER = 0x7e };
enum record { ZERO = 0x02, SIZES = 0x04, DATA = 0x08, END = 0x10, SAME_BLOCK = 0x20 };
#define RECORD_MASK ((uint64_t)PAGE - 1)

struct split {
	int in;
	const struct memory_sink *to;
	uint8_t *chunk;     /* what has been read, from at to len */
	size_t at, len;
	uint8_t *kept;      /* of the stream that stays, not yet written */
	size_t n_kept;
	uint8_t *pages;     /* of the memory, one behind the other from `first` on, not yet written */
	size_t n_pages;
	uint64_t first;
	uint8_t *written;   /* a bit for each page that is in the file */
	uint64_t bytes;     /* of the memory that have come */
	memory_part *part;
	void *arg;
	bool found, ours;   /* the block has been told of; it is the one that records are of */
	struct error *err;
};

static int wrong(struct split *s, const char *what) {
	return error_set(s->err, ERROR_CORRUPT, "QEMU's state of the machine %s", what);
}

static int unknown(struct split *s, const char *what, unsigned number) {
	return error_set(s->err, ERROR_UNSUPPORTED, "QEMU's state of the machine has %s %#x, which wabe does not know", what, number);
}

/* --- in and out --- */

static int refill(struct split *s) {
	ssize_t n = RETRY_EINTR(read(s->in, s->chunk, CHUNK));
	if (n < 0)
		return error_errno(s->err, errno, "cannot read the machine's state");
	s->at = 0;
	s->len = (size_t)n;
	return n > 0 ? 1 : 0;
}

static int flush_kept(struct split *s) {
	int r = fs_write_all(s->to->state, s->kept, s->n_kept);
	s->n_kept = 0;
	return r < 0 ? error_errno(s->err, r, "cannot write the machine's state") : 0;
}

static int keep(struct split *s, const void *data, size_t n) {
	int r = s->n_kept + n > CHUNK ? flush_kept(s) : 0;
	if (r == 0) {
		memcpy(s->kept + s->n_kept, data, n);
		s->n_kept += n;
	}
	return r;
}

/* Exactly n bytes, at most a page. */
static int take(struct split *s, void *to, size_t n) {
	for (size_t done = 0; done < n;) {
		int r = s->at < s->len ? 1 : refill(s);
		if (r < 0)
			return r;
		if (r == 0)
			return wrong(s, "is cut off");
		size_t part = MIN(n - done, s->len - s->at);
		memcpy((uint8_t *)to + done, s->chunk + s->at, part);
		s->at += part;
		done += part;
	}
	return 0;
}

static int pass(struct split *s, void *to, size_t n) {
	int r = take(s, to, n);
	return r < 0 ? r : keep(s, to, n);
}

static int pass_u32(struct split *s, uint32_t *value) {
	int r = pass(s, value, sizeof *value);
	*value = be32toh(*value);
	return r;
}

/* --- the memory --- */

static int flush_pages(struct split *s) {
	size_t n = s->n_pages * PAGE;
	s->n_pages = 0;
	for (size_t done = 0; done < n;) {
		ssize_t w = RETRY_EINTR(pwrite(s->to->memory, s->pages + done, n - done, (off_t)(s->first + done)));
		if (w < 0)
			return error_errno(s->err, errno, "cannot write the machine's memory");
		done += (size_t)w;
	}
	return 0;
}

static bool test_page(const struct split *s, uint64_t page) {
	return s->written[page / 8] >> (page % 8) & 1;
}

/* Runs of pages become one write. */
static int put_page(struct split *s, uint64_t offset) {
	bool follows = s->n_pages && offset == s->first + s->n_pages * PAGE && s->n_pages < CHUNK / PAGE;
	int r = follows ? 0 : flush_pages(s);
	if (r < 0)
		return r;
	if (!s->n_pages)
		s->first = offset;
	s->bytes += PAGE;
	s->written[offset / PAGE / 8] |= (uint8_t)(1 << (offset / PAGE % 8));
	return take(s, s->pages + s->n_pages++ * PAGE, PAGE);
}

/* It is zero as it is, unless the guest has made it so after it had been written. */
static int put_zero(struct split *s, uint64_t offset) {
	if (!test_page(s, offset / PAGE))
		return 0;
	int r = flush_pages(s);
	if (r == 0 && fallocate(s->to->memory, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)PAGE) < 0)
		r = error_errno(s->err, errno, "cannot write the machine's memory");
	return r;
}

/* --- records --- */

static int take_name(struct split *s, uint8_t name[257]) {
	int r = take(s, name, 1);
	if (r == 0)
		r = take(s, name + 1, name[0]);
	return r;
}

static bool is_ours(const struct split *s, const uint8_t *name) {
	return name[0] == strlen(s->to->block) && memcmp(name + 1, s->to->block, name[0]) == 0;
}

/* The blocks of memory that there are, whose sizes are to make up what has been told. */
static int pass_sizes(struct split *s, uint64_t left) {
	for (int n = 0; left > 0; n++) {
		uint8_t name[257];
		uint64_t size;
		int r = take_name(s, name);
		if (r == 0)
			r = keep(s, name, 1U + name[0]);
		if (r == 0)
			r = pass(s, &size, sizeof size);
		if (r < 0)
			return r;
		size = be64toh(size);
		if (n == BLOCKS_MAX || size == 0 || size > left)
			return wrong(s, "tells sizes of memory that do not fit");
		left -= size;
		if (!is_ours(s, name))
			continue;
		if (size != (uint64_t)s->to->size)
			return wrong(s, "is of memory of another size");
		s->found = true;
	}
	return s->found ? 0 : error_set(s->err, ERROR_UNSUPPORTED, "the machine's memory is in pieces: it has no %s", s->to->block);
}

/* A page of ours is taken out, any other one stays. */
static int split_page(struct split *s, uint64_t head) {
	uint8_t name[257] = {0}, data[PAGE];
	uint64_t kind = head & RECORD_MASK, offset = head & ~RECORD_MASK, swapped = htobe64(head);
	bool named = !(kind & SAME_BLOCK), zero = kind & ZERO;
	int r = named ? take_name(s, name) : 0;
	if (named)
		s->ours = is_ours(s, name);
	if (r == 0 && s->ours) {
		if (!s->found || offset >= (uint64_t)s->to->size)
			return wrong(s, "has memory where there is none");
		r = zero ? take(s, data, 1) : put_page(s, offset);
		if (r == 0 && zero)
			r = data[0] ? unknown(s, "pages full of", data[0]) : put_zero(s, offset);
		return r;
	}
	if (r == 0)
		r = keep(s, &swapped, sizeof swapped);
	if (r == 0 && named)
		r = keep(s, name, 1U + name[0]);
	return r < 0 ? r : pass(s, data, zero ? 1 : PAGE);
}

static int split_records(struct split *s) {
	for (;;) {
		uint64_t head;
		int r = take(s, &head, sizeof head);
		if (r < 0)
			return r;
		uint64_t given = head;
		head = be64toh(head);
		uint64_t kind = head & RECORD_MASK;
		if (kind == ZERO || kind == DATA || kind == (ZERO | SAME_BLOCK) || kind == (DATA | SAME_BLOCK))
			r = split_page(s, head);
		else if (kind == SIZES || kind == END)
			r = keep(s, &given, sizeof given);
		else
			return unknown(s, "records of memory of kind", (unsigned)kind);
		if (r == 0 && kind == SIZES)
			r = pass_sizes(s, head & ~RECORD_MASK);
		if (r < 0 || kind == END)
			return r;
	}
}

/* --- sections --- */

static int pass_footer(struct split *s, uint32_t id) {
	uint8_t kind;
	uint32_t again;
	int r = pass(s, &kind, 1);
	if (r == 0)
		r = pass_u32(s, &again);
	return r == 0 && (kind != SECTION_FOOTER || again != id) ? wrong(s, "has a section without its end") : r;
}

static int begin_memory(struct split *s) {
	uint8_t name[257], versions[8];
	int r = take_name(s, name);
	if (r < 0)
		return r;
	if (name[0] != 3 || memcmp(name + 1, "ram", 3) != 0)
		return error_set(s->err, ERROR_UNSUPPORTED, "a device of the machine cannot be saved: %.*s", name[0], (const char *)name + 1);
	r = keep(s, name, 4);
	return r < 0 ? r : pass(s, versions, sizeof versions);
}

/* Its parts up to the last one. */
static int split_memory(struct split *s) {
	uint8_t kind;
	uint32_t id, first = 0;
	bool begun = false;
	for (;;) {
		int r = pass(s, &kind, 1);
		if (r < 0)
			return r;
		if (kind != (begun ? SECTION_PART : SECTION_START) && !(begun && kind == SECTION_END))
			return unknown(s, "a section of kind", kind);
		r = pass_u32(s, &id);
		if (r == 0 && !begun)
			r = begin_memory(s);
		if (r == 0 && begun && id != first)
			r = wrong(s, "has parts of another section");
		if (r == 0)
			r = split_records(s);
		if (r == 0)
			r = pass_footer(s, id);
		if (r < 0 || kind == SECTION_END)
			return r;
		if (s->part)
			s->part(s->bytes, s->arg);
		first = id;
		begun = true;
	}
}

/* The board's name. */
static int pass_head(struct split *s) {
	uint32_t magic, version, n;
	uint8_t kind, text[SETTINGS_MAX];
	int r = pass_u32(s, &magic);
	if (r == 0)
		r = pass_u32(s, &version);
	if (r == 0 && (magic != MAGIC || version != VERSION))
		return unknown(s, "version", version);
	if (r == 0)
		r = pass(s, &kind, 1);
	if (r == 0 && kind != SECTION_SETTINGS)
		return unknown(s, "a section of kind", kind);
	if (r == 0)
		r = pass_u32(s, &n);
	if (r == 0 && n > SETTINGS_MAX)
		return wrong(s, "has a name of a board without end");
	return r < 0 ? r : pass(s, text, n);
}

static int pass_rest(struct split *s) {
	int r = keep(s, s->chunk + s->at, s->len - s->at);
	while (r == 0 && (r = refill(s)) > 0)
		r = keep(s, s->chunk, s->len);
	return r;
}

static int split(struct split *s) {
	if (s->to->size <= 0 || s->to->size % (int64_t)PAGE || ftruncate(s->to->memory, s->to->size) < 0)
		return error_errno(s->err, errno, "cannot make a file of %lld bytes", (long long)s->to->size);
	int r = pass_head(s);
	if (r == 0)
		r = split_memory(s);
	if (r == 0)
		r = flush_pages(s);
	if (r == 0)
		r = pass_rest(s);
	return r < 0 ? r : flush_kept(s);
}

int memory_split(int in, const struct memory_sink *to, memory_part *part, void *arg, struct error *err) {
	struct split s = {
		.in = in,
		.to = to,
		.chunk = alloc_zero(CHUNK),
		.kept = alloc_zero(CHUNK),
		.pages = alloc_zero(CHUNK),
		.written = alloc_zero((size_t)to->size / PAGE / 8 + 1),
		.part = part,
		.arg = arg,
		.err = err,
	};
	int r = split(&s);
	free(s.chunk);
	free(s.kept);
	free(s.pages);
	free(s.written);
	return r;
}
