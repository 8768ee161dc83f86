/* Which format a disk image has, and the headers of the simple ones: raw, qcow2, VDI, ISO. */
#include "image/disk-priv.h"

#include "base/str.h"

#include <sys/stat.h>
#include <unistd.h>

#define SECTOR 512
#define QCOW2_L1_MAX ((uint64_t)32 << 20) /* bytes, as QEMU has it */
#define VDI_SIGNATURE 0xbeda107fU

int disk_read(const struct disk_file *f, uint64_t at, void *to, size_t n, struct error *err) {
	if (at > f->size || n > f->size - at)
		return error_set(err, ERROR_CORRUPT, "the disk image is cut off: it has %llu bytes",
				 (unsigned long long)f->size);
	for (size_t have = 0; have < n;) {
		ssize_t got = RETRY_EINTR(pread(f->fd, (char *)to + have, n - have, (off_t)(at + have)));
		if (got < 0)
			return error_errno(err, errno, "cannot read the disk image");
		if (got == 0)
			return error_set(err, ERROR_CORRUPT, "the disk image is cut off");
		have += (size_t)got;
	}
	return 0;
}

int disk_holds(const struct disk_file *f, const char *what, uint64_t at, uint64_t n, uint64_t item, struct error *err) {
	uint64_t bytes, end;
	if (!__builtin_mul_overflow(n, item, &bytes) && !__builtin_add_overflow(at, bytes, &end) && end <= f->size)
		return 0;
	return error_set(err, ERROR_CORRUPT, "the disk image is cut off: its %s should end behind its last byte", what);
}

int disk_foreign(const char *what, struct error *err) {
	return error_set(err, ERROR_INVALID, "the disk image needs another file (%s), which is never followed: make one that "
			 "stands alone first, as qemu-img convert does", what);
}

/* ---- recognising ---- */

static bool has(const void *head, size_t n, size_t at, const char *magic, size_t len) {
	return n >= len && at <= n - len && memcmp((const char *)head + at, magic, len) == 0;
}

/* A tar whose first file is an OVF descriptor. */
static bool is_ova(const char *head, size_t n) {
	size_t len = n >= SECTOR ? strnlen(head, 100) : 0;
	return has(head, n, 257, "ustar", 5) && len > 4 && strncasecmp(head + len - 4, ".ovf", 4) == 0;
}

const char *disk_recognise(const void *head, size_t n) {
	static const struct {
		size_t at;
		const char *magic;
		size_t len;
		const char *format;
	} known[] = {
		{0, "QFI\xfb", 4, "qcow2"},
		{0, "KDMV", 4, "vmdk"},
		{0, "COWD", 4, "vmdk"},
		{0, "# Disk DescriptorFile", 21, "vmdk"},
		{0x40, "\x7f\x10\xda\xbe", 4, "vdi"},
		{0, "vhdxfile", 8, "vhdx"},
		{0, "conectix", 8, "vpc"},
		{32769, "CD001", 5, "iso"},
		{0x202, "HdrS", 4, "kernel"},
		{510, "\x55\xaa", 2, "raw"},
	};
	if (is_ova(head, n))
		return "ova";
	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (has(head, n, known[i].at, known[i].magic, known[i].len))
			return known[i].format;
	return NULL;
}

bool disk_format_known(const char *format) {
	static const char *const formats[] = {"qcow2", "raw", "vmdk", "vdi", "vpc", "vhdx"};
	for (size_t i = 0; i < ARRAY_SIZE(formats); i++)
		if (str_same(format, formats[i]))
			return true;
	return false;
}

/* ---- qcow2 ---- */

/* Up to the one of type 0. */
static int qcow2_extensions(const struct disk_file *f, uint64_t at, uint64_t end, struct error *err) {
	while (at + 8 <= end) {
		uint8_t e[8];
		int r = disk_read(f, at, e, sizeof e, err);
		if (r < 0)
			return r;
		if (BE32(e) == 0)
			return 0;
		if (BE32(e) == 0x44415441)
			return disk_foreign("a data file", err);
		at += 8 + ((uint64_t)BE32(e + 4) + 7) / 8 * 8;
	}
	return 0;
}

static int qcow2_features(uint64_t features, struct error *err) {
	if (features & 4)
		return disk_foreign("a data file", err);
	if (features & 2)
		return error_set(err, ERROR_CORRUPT, "the qcow2 image says itself that it is corrupt: repair it with qemu-img check");
	if (features & ~UINT64_C(0x1f))
		return error_set(err, ERROR_UNSUPPORTED, "the qcow2 image has features that are not known here (%#llx)",
				 (unsigned long long)features);
	return 0;
}

static int qcow2_inspect(const struct disk_file *f, int64_t *size, struct error *err) {
	uint8_t h[104] = {0};
	int r = disk_read(f, 0, h, 72, err);
	if (r < 0)
		return r;
	uint32_t version = BE32(h + 4), bits = BE32(h + 20), l1_size = BE32(h + 36);
	if (version != 2 && version != 3)
		return error_set(err, ERROR_UNSUPPORTED, "the image is of version %u of qcow: only 2 and 3 are known", version);
	if (version == 3 && (r = disk_read(f, 72, h + 72, 32, err)) < 0)
		return r;
	if (BE64(h + 8) || BE32(h + 16))
		return disk_foreign("a backing file", err);
	if (BE32(h + 32))
		return error_set(err, ERROR_UNSUPPORTED, "the qcow2 image is encrypted");
	if (bits < 9 || bits > 21)
		return error_set(err, ERROR_CORRUPT, "the qcow2 image has clusters of 2^%u bytes", bits);
	uint64_t length = version == 3 ? BE32(h + 100) : 72;
	if (length < 72 || length > UINT64_C(1) << bits)
		return error_set(err, ERROR_CORRUPT, "the qcow2 image has a header of %llu bytes", (unsigned long long)length);
	r = version == 3 ? qcow2_features(BE64(h + 72), err) : 0;
	if (r == 0)
		r = qcow2_extensions(f, length, UINT64_C(1) << bits, err);
	if (r == 0 && l1_size > QCOW2_L1_MAX / 8)
		r = error_set(err, ERROR_CORRUPT, "the qcow2 image has a table of %u entries", l1_size);
	if (r == 0)
		r = disk_holds(f, "first table", BE64(h + 40), l1_size, 8, err);
	if (r == 0)
		r = disk_holds(f, "table of reference counts", BE64(h + 48), BE32(h + 56), UINT64_C(1) << bits, err);
	*size = (int64_t)BE64(h + 24);
	return r;
}

/* ---- VDI ---- */

static bool all_zero(const uint8_t *p, size_t n) {
	while (n && p[n - 1] == 0)
		n--;
	return n == 0;
}

static int vdi_inspect(const struct disk_file *f, int64_t *size, struct error *err) {
	uint8_t h[SECTOR];
	int r = disk_read(f, 0, h, sizeof h, err);
	if (r < 0)
		return r;
	if (LE32(h + 0x40) != VDI_SIGNATURE || LE32(h + 0x44) != 0x00010001)
		return error_set(err, ERROR_UNSUPPORTED, "the VDI image is not of version 1.1");
	if (!all_zero(h + 0x1a8, 16) || !all_zero(h + 0x1b8, 16) || LE32(h + 0x4c) > 2)
		return disk_foreign("the parent of a differencing image", err);
	if (!LE32(h + 0x178))
		return error_set(err, ERROR_CORRUPT, "the VDI image has blocks of 0 bytes");
	*size = (int64_t)LE64(h + 0x170);
	r = disk_holds(f, "table of blocks", LE32(h + 0x154), LE32(h + 0x180), 4, err);
	return r < 0 ? r : disk_holds(f, "last block", LE32(h + 0x158), LE32(h + 0x184), LE32(h + 0x178), err);
}

/* ---- raw, ISO, floppies ---- */

static int raw_inspect(const struct disk_file *f, int64_t *size, struct error *err) {
	if (f->size == 0 || f->size % SECTOR)
		return error_set(err, ERROR_INVALID, "a raw disk has whole sectors of %d bytes, not %llu bytes: is it another format?",
				 SECTOR, (unsigned long long)f->size);
	*size = (int64_t)f->size;
	return 0;
}

static int iso_inspect(const struct disk_file *f, int64_t *size, struct error *err) {
	uint8_t d[SECTOR];
	int r = disk_read(f, 32768, d, sizeof d, err);
	if (r < 0)
		return r;
	if (memcmp(d + 1, "CD001", 5) != 0)
		return error_set(err, ERROR_INVALID, "it is no image of a CD or DVD (ISO 9660)");
	*size = 0;
	/* the primary descriptor tells how long it is */
	return d[0] == 1 ? disk_holds(f, "file system", 0, LE32(d + 80), LE16(d + 128), err) : 0;
}

/* The sizes that floppies for PCs have, by which the drive knows how they are formatted. */
static int floppy_inspect(const struct disk_file *f, int64_t *size, struct error *err) {
	static const uint64_t kib[] = {160, 180, 320, 360, 720, 1200, 1440, 2880};
	*size = (int64_t)f->size;
	for (size_t i = 0; i < ARRAY_SIZE(kib); i++)
		if (f->size == kib[i] << 10)
			return 0;
	return error_set(err, ERROR_INVALID, "a floppy has 160, 180, 320, 360, 720, 1200, 1440 or 2880 KiB, not %llu bytes",
			 (unsigned long long)f->size);
}

int disk_inspect(int fd, const char *format, struct disk_info *out, struct error *err) {
	static const struct {
		const char *format;
		int (*inspect)(const struct disk_file *f, int64_t *size, struct error *err);
	} readers[] = {
		{"qcow2", qcow2_inspect}, {"raw", raw_inspect}, {"vmdk", vmdk_inspect}, {"vdi", vdi_inspect},
		{"vpc", vpc_inspect}, {"vhdx", vhdx_inspect}, {"iso", iso_inspect},
		{"floppy", floppy_inspect},
	};
	uint8_t head[1024] = {0};
	struct stat st;
	if (fstat(fd, &st) < 0)
		return error_errno(err, errno, "cannot read the disk image");
	const struct disk_file f = {fd, (uint64_t)st.st_size};
	size_t i = 0;
	while (i < ARRAY_SIZE(readers) && !str_same(readers[i].format, format))
		i++;
	if (i == ARRAY_SIZE(readers))
		return error_set(err, ERROR_INVALID, "%s is no format of a disk", format);
	int r = disk_read(&f, 0, head, MIN(f.size, sizeof head), err);
	/* what has its mark at the beginning */
	const char *is = r == 0 ? disk_recognise(head, sizeof head) : NULL;
	bool marked = !str_same(format, "raw") && !str_same(format, "vpc") && !str_same(format, "iso") &&
		      !str_same(format, "floppy");
	if (r == 0 && marked && !str_same(is, format))
		r = error_set(err, ERROR_INVALID, "it is no %s image%s%s", format, is ? " but looks like " : "", is ? is : "");
	out->format = readers[i].format;
	if (r == 0)
		r = readers[i].inspect(&f, &out->virtual_size, err);
	if (r == 0 && !str_same(format, "iso") && (out->virtual_size <= 0 || out->virtual_size > DISK_SIZE_MAX))
		r = error_set(err, ERROR_INVALID, "the disk image is of a disk of %lld bytes: at most %lld, and not empty",
			      (long long)out->virtual_size, (long long)DISK_SIZE_MAX);
	return r;
}
