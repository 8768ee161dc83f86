/* The headers of Microsoft's two formats: VHD (which QEMU calls vpc) and VHDX. */
#include "image/disk-priv.h"

#define FOOTER 512
#define REGIONS_AT (UINT64_C(192) << 10)
#define TABLE_MAX ((size_t)64 << 10)
#define ENTRIES_MAX 2047

/* ---- VHD ---- */

static bool sum_is_right(const uint8_t footer[FOOTER]) {
	uint32_t sum = 0;
	for (size_t i = 0; i < FOOTER; i++)
		sum += i >= 64 && i < 68 ? 0 : footer[i];
	return BE32(footer + 64) == ~sum;
}

int vpc_inspect(const struct disk_file *f, int64_t *size, struct error *err) {
	uint8_t h[FOOTER];
	if (f->size < FOOTER)
		return error_set(err, ERROR_INVALID, "it is no VHD");
	int r = disk_read(f, f->size - FOOTER, h, sizeof h, err);
	if (r < 0)
		return r;
	if (memcmp(h, "conectix", 8) != 0)
		return error_set(err, ERROR_CORRUPT, "it is no VHD, or it is cut off: the footer is missing");
	if (!sum_is_right(h))
		return error_set(err, ERROR_CORRUPT, "the checksum of the VHD's footer is wrong");
	uint32_t type = BE32(h + 60);
	if (type == 4)
		return disk_foreign("the parent of a differencing VHD", err);
	if (type != 2 && type != 3)
		return error_set(err, ERROR_UNSUPPORTED, "the VHD is of type %u, neither fixed nor dynamic", type);
	*size = (int64_t)BE64(h + 48);
	if (type == 2)
		return *size >= 0 ? disk_holds(f, "content", 0, (uint64_t)*size + FOOTER, 1, err) : 0;
	uint8_t first[8], dynamic[1024];
	r = disk_read(f, 0, first, sizeof first, err);
	if (r == 0)
		r = disk_read(f, BE64(h + 16), dynamic, sizeof dynamic, err);
	if (r == 0 && (memcmp(first, "conectix", 8) != 0 || memcmp(dynamic, "cxsparse", 8) != 0))
		r = error_set(err, ERROR_CORRUPT, "the VHD has no header");
	return r < 0 ? r : disk_holds(f, "table of blocks", BE64(dynamic + 16), BE32(dynamic + 28), 4, err);
}

/* ---- VHDX ---- */

static const uint8_t metadata_region[16] = {0x06, 0xa2, 0x7c, 0x8b, 0x90, 0x47, 0x9a, 0x4b,
					    0xb8, 0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e};
static const uint8_t file_parameters[16] = {0x37, 0x67, 0xa1, 0xca, 0x36, 0xfa, 0x43, 0x4d,
					    0xb3, 0xb6, 0x33, 0xf0, 0xaa, 0x44, 0xe7, 0x6b};
static const uint8_t disk_size[16] = {0x24, 0x42, 0xa5, 0x2f, 0x1b, 0xcd, 0x76, 0x48,
				      0xb2, 0x11, 0x5d, 0xbe, 0xd8, 0x3b, 0xf4, 0xb8};

/* The entry of 32 bytes that begins with the id, in a table of n of them at the offset; NULL. */
static const uint8_t *find_entry(const uint8_t *table, size_t offset, size_t n, const uint8_t id[16]) {
	for (size_t i = 0; i < MIN(n, (size_t)ENTRIES_MAX); i++)
		if (memcmp(table + offset + i * 32, id, 16) == 0)
			return table + offset + i * 32;
	return NULL;
}

static int find_metadata(const struct disk_file *f, uint8_t *table, uint64_t *at, struct error *err) {
	int r = disk_read(f, REGIONS_AT, table, TABLE_MAX, err);
	if (r < 0)
		return r;
	const uint8_t *e = memcmp(table, "regi", 4) == 0 ? find_entry(table, 16, LE32(table + 8), metadata_region) : NULL;
	if (!e)
		return error_set(err, ERROR_CORRUPT, "the VHDX has no metadata");
	*at = LE64(e + 16);
	return 0;
}

/* A value of the metadata: n bytes. */
static int read_item(const struct disk_file *f, const uint8_t *table, uint64_t at, const uint8_t id[16], uint8_t *to, size_t n,
		     struct error *err) {
	const uint8_t *e = find_entry(table, 32, LE16(table + 10), id);
	if (!e || LE32(e + 20) < n)
		return error_set(err, ERROR_CORRUPT, "the VHDX does not say what disk it is of");
	return disk_read(f, at + LE32(e + 16), to, n, err);
}

int vhdx_inspect(const struct disk_file *f, int64_t *size, struct error *err) {
	_cleanup_(free_ptr) uint8_t *table = alloc_zero(TABLE_MAX + 32);
	uint8_t parameters[8], bytes[8];
	uint64_t at = 0;
	int r = find_metadata(f, table, &at, err);
	if (r == 0)
		r = disk_read(f, at, table, TABLE_MAX, err);
	if (r == 0 && memcmp(table, "metadata", 8) != 0)
		r = error_set(err, ERROR_CORRUPT, "the VHDX has no metadata");
	if (r == 0)
		r = read_item(f, table, at, file_parameters, parameters, sizeof parameters, err);
	if (r == 0 && LE32(parameters + 4) & 2)
		r = disk_foreign("the parent of a differencing VHDX", err);
	if (r == 0)
		r = read_item(f, table, at, disk_size, bytes, sizeof bytes, err);
	if (r == 0)
		*size = (int64_t)LE64(bytes);
	return r;
}
