/* The state of a machine as QEMU writes it (docs/devel/migration.rst), taken apart: the guest's memory goes into a file of its
 * own, page by page at its place, so that the next QEMU maps it instead of reading it; what is left of the stream it reads. */
#pragma once

#include "base/error.h"

struct memory_sink {
	const char *block; /* QEMU's name for the guest's memory: machine_memory_block */
	int64_t size;      /* of it: a multiple of the page's, 4096 */
	int memory;        /* a new file: made as large, with holes where nothing but zeros is */
	int state;         /* a new file: the rest of the stream */
};
/* After each part of the stream: how much of the memory has come so far, pages that came again among it. */
typedef void memory_part(uint64_t bytes, void *arg);
/* Reads `in` to its end. A page that comes again replaces what was there: the guest may run meanwhile. UNSUPPORTED: what is in the
 * stream is of another kind than is known here. CORRUPT: it is cut off, or wrong. */
int memory_split(int in, const struct memory_sink *to, memory_part *part, void *arg, struct error *err);
