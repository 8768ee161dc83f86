/* The headers of VMDK: one sparse file with its descriptor in it (monolithicSparse, streamOptimized). */
#include "image/disk-priv.h"

#include "base/str.h"

#include <stdio.h>

#define SECTOR UINT64_C(512)
#define DESCRIPTOR_MAX (UINT64_C(128) * SECTOR)
#define AT_END UINT64_MAX /* the tables are told by a footer */

/* "key=value", with or without quotes and spaces; in the line alone. */
static bool value_is(const char *line, const char *key, const char *value) {
	size_t n = strlen(key);
	if (strncasecmp(line, key, n) != 0)
		return false;
	line += n + strspn(line + n, " \t");
	if (*line != '=')
		return false;
	line += 1 + strspn(line + 1, " \t\"");
	return strncasecmp(line, value, strlen(value)) == 0;
}

static int check_line(const char *line, bool *typed, unsigned *extents, struct error *err) {
	static const char *const access[] = {"RW ", "RDONLY ", "NOACCESS "};
	line += strspn(line, " \t");
	if (str_starts(line, "parentFileNameHint") || (str_starts(line, "parentCID") && !value_is(line, "parentCID", "ffffffff")))
		return disk_foreign("the parent of a VMDK", err);
	if (str_starts(line, "createType")) {
		*typed = value_is(line, "createType", "monolithicSparse") || value_is(line, "createType", "streamOptimized");
		if (!*typed)
			return disk_foreign("the extents of a VMDK", err);
	}
	for (size_t i = 0; i < ARRAY_SIZE(access); i++)
		*extents += str_starts(line, access[i]);
	return 0;
}

static int check_descriptor(const struct disk_file *f, uint64_t at, uint64_t size, struct error *err) {
	if (size == 0 || size > DESCRIPTOR_MAX)
		return error_set(err, ERROR_CORRUPT, "the VMDK has a descriptor of %llu bytes", (unsigned long long)size);
	_cleanup_(free_ptr) char *text = alloc_zero(size + 1);
	int r = disk_read(f, at, text, size, err);
	bool typed = false;
	unsigned extents = 0;
	char *rest = text;
	for (char *line; r == 0 && (line = strsep(&rest, "\r\n"));)
		r = check_line(line, &typed, &extents, err);
	if (r < 0)
		return r;
	if (!typed || extents != 1)
		return error_set(err, ERROR_INVALID, "the VMDK has %u extents%s: only one sparse file that has all is taken", extents,
				 typed ? "" : " and no type");
	return 0;
}

int vmdk_inspect(const struct disk_file *f, int64_t *size, struct error *err) {
	uint8_t h[SECTOR], footer[SECTOR];
	int r = disk_read(f, 0, h, MIN(f->size, sizeof h), err);
	if (r < 0)
		return r;
	if (memcmp(h, "KDMV", 4) != 0)
		return disk_foreign("the extents of a VMDK", err);
	if (f->size < SECTOR)
		return error_set(err, ERROR_CORRUPT, "the disk image is cut off");
	uint64_t capacity = LE64(h + 12), at = LE64(h + 28), n = LE64(h + 36);
	if (capacity == 0 || capacity > (uint64_t)DISK_SIZE_MAX / SECTOR)
		return error_set(err, ERROR_INVALID, "the VMDK is of a disk of %llu sectors", (unsigned long long)capacity);
	if (at == 0 || at > f->size / SECTOR || n > DESCRIPTOR_MAX / SECTOR)
		return error_set(err, ERROR_INVALID, "the VMDK has no descriptor: it is one part of a disk");
	if (LE64(h + 56) == AT_END) {
		if (f->size < 3 * SECTOR)
			return error_set(err, ERROR_CORRUPT, "the disk image is cut off");
		r = disk_read(f, f->size - 2 * SECTOR, footer, sizeof footer, err);
		if (r == 0 && (memcmp(footer, "KDMV", 4) != 0 || LE64(footer + 12) != capacity || LE64(footer + 28) != at))
			r = error_set(err, ERROR_CORRUPT, "the VMDK is cut off, or its footer is not that of its header");
	}
	*size = (int64_t)(capacity * SECTOR);
	return r < 0 ? r : check_descriptor(f, at * SECTOR, n * SECTOR, err);
}
