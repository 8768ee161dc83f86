/* Headers of disk images: what is taken, and what is refused and why. */
#include "base/fs.h"
#include "base/str.h"
#include "image/artifact.h"
#include "image/disk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#define CLUSTER 512

struct file {
	uint8_t bytes[16384];
	size_t n;
};

static void put_be(uint8_t *to, uint64_t v, size_t n) {
	while (n--) {
		to[n] = (uint8_t)v;
		v >>= 8;
	}
}

static void put_le(uint8_t *to, uint64_t v, size_t n) {
	for (size_t i = 0; i < n; i++, v >>= 8)
		to[i] = (uint8_t)v;
}

/* 0, or the kind of error; *why is what it said. */
static int look(const struct file *f, const char *format, struct disk_info *is, char why[256]) {
	_cleanup_(close_fd) int fd = memfd_create("disk", MFD_CLOEXEC);
	struct error err = ERROR_INIT;
	assert_int_equal(fs_write_all(fd, f->bytes, f->n), 0);
	int r = disk_inspect(fd, format, is, &err);
	strncpy(why, r < 0 ? error_text(&err) : "", 255);
	why[255] = '\0';
	error_free(&err);
	return r;
}

static void refused(const struct file *f, const char *format, enum error_kind kind, const char *text) {
	struct disk_info is;
	char why[256];
	assert_int_equal(look(f, format, &is, why), -(int)kind);
	if (!strstr(why, text))
		fail_msg("\"%s\" is not in \"%s\"", text, why);
}

static void taken(const struct file *f, const char *format, int64_t size) {
	struct disk_info is;
	char why[256];
	if (look(f, format, &is, why) < 0)
		fail_msg("%s: %s", format, why);
	assert_int_equal(is.virtual_size, size);
	assert_string_equal(is.format, format);
}

static struct file qcow2(void) {
	struct file f = {.n = 8 * CLUSTER};
	uint8_t *h = f.bytes;
	memcpy(h, "QFI\xfb", 4);
	put_be(h + 4, 3, 4);
	put_be(h + 20, 9, 4);           /* clusters of 512 bytes */
	put_be(h + 24, 1 << 20, 8);     /* size */
	put_be(h + 36, 32, 4);          /* entries of the first table */
	put_be(h + 40, 3 * CLUSTER, 8); /* where it is */
	put_be(h + 48, CLUSTER, 8);     /* reference counts */
	put_be(h + 56, 1, 4);
	put_be(h + 100, 104, 4);        /* length of the header */
	return f;
}

static void qcow2_headers(void **) {
	const struct {
		size_t at, n;
		uint64_t value;
		enum error_kind kind;
		const char *text;
	} bad[] = {
		{4, 4, 1, ERROR_UNSUPPORTED, "version 1"},
		{8, 8, 200, ERROR_INVALID, "a backing file"},
		{16, 4, 8, ERROR_INVALID, "a backing file"},
		{20, 4, 8, ERROR_CORRUPT, "2^8 bytes"},
		{20, 4, 40, ERROR_CORRUPT, "2^40 bytes"},
		{24, 8, UINT64_C(1) << 60, ERROR_INVALID, "at most"},
		{24, 8, UINT64_MAX, ERROR_INVALID, "at most"},
		{24, 8, 0, ERROR_INVALID, "not empty"},
		{32, 4, 2, ERROR_UNSUPPORTED, "encrypted"},
		{36, 4, UINT32_MAX, ERROR_CORRUPT, "entries"},
		{40, 8, UINT64_MAX - 7, ERROR_CORRUPT, "cut off"},
		{48, 8, 1 << 20, ERROR_CORRUPT, "cut off"},
		{56, 4, UINT32_MAX, ERROR_CORRUPT, "cut off"},
		{72, 8, 4, ERROR_INVALID, "a data file"},
		{72, 8, 2, ERROR_CORRUPT, "corrupt"},
		{72, 8, 1 << 7, ERROR_UNSUPPORTED, "features"},
		{100, 4, 8, ERROR_CORRUPT, "a header of 8 bytes"},
		{100, 4, UINT32_MAX, ERROR_CORRUPT, "a header of"},
		{104, 4, 0x44415441, ERROR_INVALID, "a data file"},
	};
	struct file f = qcow2();
	taken(&f, "qcow2", 1 << 20);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		f = qcow2();
		put_be(f.bytes + bad[i].at, bad[i].value, bad[i].n);
		refused(&f, "qcow2", bad[i].kind, bad[i].text);
	}
	f = qcow2();
	put_be(f.bytes + 104, 0x6803f857, 4); /* names of features: a length past the cluster ends the walk */
	put_be(f.bytes + 108, UINT32_MAX, 4);
	taken(&f, "qcow2", 1 << 20);
	f.n = 3 * CLUSTER;
	refused(&f, "qcow2", ERROR_CORRUPT, "cut off");
	refused(&f, "vmdk", ERROR_INVALID, "no vmdk image but looks like qcow2");
}

static struct file vmdk(const char *descriptor) {
	struct file f = {.n = 4096};
	memcpy(f.bytes, "KDMV", 4);
	put_le(f.bytes + 12, 128, 8);
	put_le(f.bytes + 28, 1, 8);
	put_le(f.bytes + 36, 2, 8);
	strcpy((char *)f.bytes + 512, descriptor);
	return f;
}

static void vmdk_descriptors(void **) {
	static const char good[] = "# Disk DescriptorFile\nparentCID=ffffffff\ncreateType=\"monolithicSparse\"\nRW 128 SPARSE \"x.vmdk\"\n";
	const struct {
		const char *text, *why;
	} bad[] = {
		{"createType=\"monolithicFlat\"\nRW 128 FLAT \"/etc/shadow\" 0\n", "extents"},
		{"createType=\"monolithicSparse\"\nRW 128 SPARSE \"a\"\nRW 128 SPARSE \"b\"\n", "2 extents"},
		{"parentCID=12345678\ncreateType=\"monolithicSparse\"\nRW 128 SPARSE \"a\"\n", "parent"},
		{"createType=\"streamOptimized\"\r\nparentFileNameHint=\"/x\"\r\nRW 128 SPARSE \"a\"\r\n", "parent"},
		{"RW 128 SPARSE \"a\"\n", "no type"},
		{"", "0 extents"},
	};
	struct file f = vmdk(good);
	taken(&f, "vmdk", 128 * 512);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		f = vmdk(bad[i].text);
		refused(&f, "vmdk", ERROR_INVALID, bad[i].why);
	}
	f = vmdk(good);
	put_le(f.bytes + 56, UINT64_MAX, 8); /* a footer is to follow */
	refused(&f, "vmdk", ERROR_CORRUPT, "footer");
	f = vmdk(good);
	put_le(f.bytes + 12, 0, 8);
	refused(&f, "vmdk", ERROR_INVALID, "0 sectors");
	f = (struct file){.n = 1024};
	strcpy((char *)f.bytes, "# Disk DescriptorFile\ncreateType=\"vmfs\"\n");
	refused(&f, "vmdk", ERROR_INVALID, "extents");
}

static void others(void **) {
	struct file f = {.n = 1024};
	taken(&f, "raw", 1024);
	f.n = 1000;
	refused(&f, "raw", ERROR_INVALID, "whole sectors");
	refused(&f, "vpc", ERROR_CORRUPT, "footer");
	refused(&f, "iso", ERROR_CORRUPT, "cut off");
	refused(&f, "vhdx", ERROR_INVALID, "no vhdx image");
	refused(&f, "luks", ERROR_INVALID, "no format");
	refused(&f, "floppy", ERROR_INVALID, "1440");
	f = (struct file){.n = 1024};
	put_le(f.bytes + 0x40, 0xbeda107f, 4);
	put_le(f.bytes + 0x44, 0x10001, 4);
	put_le(f.bytes + 0x4c, 1, 4);
	put_le(f.bytes + 0x170, 1 << 20, 8);
	put_le(f.bytes + 0x178, 1 << 20, 4);
	taken(&f, "vdi", 1 << 20);
	f.bytes[0x1a8] = 1;
	refused(&f, "vdi", ERROR_INVALID, "parent");
	f.bytes[0x1a8] = 0;
	put_le(f.bytes + 0x184, 1, 4);
	refused(&f, "vdi", ERROR_CORRUPT, "last block");
}

static void recognised(void **) {
	uint8_t head[DISK_HEAD] = {0};
	assert_null(disk_recognise(head, sizeof head));
	assert_null(disk_recognise(head, 0));
	memcpy(head + 510, "\x55\xaa", 2);
	assert_string_equal(disk_recognise(head, sizeof head), "raw");
	memcpy(head + 0x202, "HdrS", 4);
	assert_string_equal(disk_recognise(head, sizeof head), "kernel");
	memcpy(head + 32769, "CD001", 5); /* one that boots as a disk too */
	assert_string_equal(disk_recognise(head, sizeof head), "iso");
	assert_string_equal(disk_recognise("QFI\xfb", 4), "qcow2");
	assert_null(disk_recognise("QFI", 3));
	assert_string_equal(blob_type_of("vpc")->kind, "disk");
	assert_null(blob_type_of("ova"));
	assert_null(blob_type_find(NULL));
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(qcow2_headers),
		cmocka_unit_test(vmdk_descriptors),
		cmocka_unit_test(others),
		cmocka_unit_test(recognised),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
