/* What the readers of disk images' headers share. Not for others. */
#pragma once

#include "image/disk.h"

#include "base/util.h"

struct disk_file {
	int fd;
	uint64_t size;
};

/* Exactly n bytes from there; CORRUPT where the file ends before. */
int disk_read(const struct disk_file *f, uint64_t at, void *to, size_t n, struct error *err);
/* That many items of that many bytes lie inside the file; CORRUPT names what. */
int disk_holds(const struct disk_file *f, const char *what, uint64_t at, uint64_t n, uint64_t item, struct error *err);
int disk_foreign(const char *what, struct error *err); /* refused: it needs another file */

int vmdk_inspect(const struct disk_file *f, int64_t *size, struct error *err);
int vhdx_inspect(const struct disk_file *f, int64_t *size, struct error *err);
int vpc_inspect(const struct disk_file *f, int64_t *size, struct error *err);

static inline uint64_t get_le(const uint8_t *p, size_t n) {
	uint64_t v = 0;
	while (n--)
		v = v << 8 | p[n];
	return v;
}

static inline uint64_t get_be(const uint8_t *p, size_t n) {
	uint64_t v = 0;
	for (size_t i = 0; i < n; i++)
		v = v << 8 | p[i];
	return v;
}

#define LE16(p) ((uint16_t)get_le(p, 2))
#define LE32(p) ((uint32_t)get_le(p, 4))
#define LE64(p) get_le(p, 8)
#define BE16(p) ((uint16_t)get_be(p, 2))
#define BE32(p) ((uint32_t)get_be(p, 4))
#define BE64(p) get_be(p, 8)
