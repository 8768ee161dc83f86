/* Kernel images: what becomes of a package's files, and what is refused. A real kernel is tests/host/guest_test.py's. */
#include "image/kernel.h"

#include "base/fs.h"
#include "base/str.h"

#include <archive.h>
#include <archive_entry.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

static const char *const needed[] = {"virtio_pci", "virtiofs", "virtio_console", "virtio_net", "virtio_blk"};

struct package {
	struct archive *tar;
	int fd;
};

static void begin(struct package *p) {
	p->fd = memfd_create("package", MFD_CLOEXEC);
	p->tar = archive_write_new();
	archive_write_set_format_pax_restricted(p->tar);
	assert_int_equal(archive_write_open_fd(p->tar, p->fd), ARCHIVE_OK);
}

static void add(struct package *p, const char *path, const void *data, size_t n) {
	struct archive_entry *e = archive_entry_new();
	archive_entry_set_pathname(e, path);
	archive_entry_set_filetype(e, AE_IFREG);
	archive_entry_set_perm(e, 0644);
	archive_entry_set_size(e, (la_int64_t)n);
	assert_int_equal(archive_write_header(p->tar, e), ARCHIVE_OK);
	assert_int_equal(archive_write_data(p->tar, data, n), n);
	archive_entry_free(e);
}

static void add_module(struct package *p, const char *name, const char *depends, bool is_signed) {
	_cleanup_(free_ptr) char *path = str_format("./lib/modules/9/kernel/drivers/%s.ko", name);
	_cleanup_(buf_free) struct buf b = BUF_INIT;
	buf_addf(&b, "ELF of %s", name);
	buf_add(&b, "\0license=GPL\0depends=", 21);
	buf_adds(&b, depends);
	buf_addc(&b, '\0');
	if (is_signed)
		buf_add(&b, "signature\0\0\0\0\0\0\0\0\0\0\0\x09~Module signature appended~\n", 9 + 12 + 28);
	add(p, path, b.data, b.len);
}

/* One that a kernel has: each module needs "base-x", which needs "low". */
static void add_all(struct package *p) {
	for (size_t i = 0; i < ARRAY_SIZE(needed); i++)
		add_module(p, needed[i], "base-x", i % 2);
	add_module(p, "base_x", "low", true);
	add_module(p, "low", "", false);
	add_module(p, "unneeded", "", false);
}

static int make(struct package *p, struct kernel_files *k, struct error *err) {
	archive_write_free(p->tar);
	_cleanup_(close_fd) int init = memfd_create("init", MFD_CLOEXEC);
	assert_int_equal(fs_write_all(init, "program", 7), 0);
	lseek(init, 0, SEEK_SET);
	lseek(p->fd, 0, SEEK_SET);
	int r = kernel_make(p->fd, init, k, err);
	close(p->fd);
	return r;
}

static void an_image(UNUSED void **state) {
	struct package p;
	struct kernel_files k;
	struct error err = ERROR_INIT;
	_cleanup_(buf_free) struct buf kernel = BUF_INIT, list = BUF_INIT, low = BUF_INIT, base = BUF_INIT, init = BUF_INIT;
	begin(&p);
	add(&p, "./boot/vmlinuz-9", "no bzImage", 10);
	add(&p, "./etc/other", "x", 1);
	add_all(&p);
	if (make(&p, &k, &err) < 0)
		fail_msg("%s", error_text(&err));
	assert_string_equal(k.version, "9");
	assert_int_equal(fs_read_fd(k.kernel, 100, &kernel), 0);
	assert_string_equal(buf_str(&kernel), "no bzImage"); /* as it is */
	struct archive *a = archive_read_new();
	struct archive_entry *e;
	archive_read_support_format_cpio(a);
	assert_int_equal(archive_read_open_fd(a, k.initrd, 10240), ARCHIVE_OK);
	while (archive_read_next_header(a, &e) == ARCHIVE_OK) {
		const char *path = archive_entry_pathname(e);
		struct buf *to = str_same(path, "modules/list") ? &list : str_same(path, "modules/low.ko") ? &low
				 : str_same(path, "modules/base_x.ko") ? &base : str_same(path, "init") ? &init : NULL;
		assert_null(strstr(path, "unneeded"));
		size_t size = (size_t)archive_entry_size(e);
		if (to && size) {
			assert_int_equal(archive_read_data(a, buf_room(to, size), size), size);
			buf_grown(to, size);
		}
	}
	archive_read_free(a);
	assert_string_equal(buf_str(&init), "program");
	assert_true(str_starts(buf_str(&list), "virtio_pci low base_x virtio_pci\nvirtiofs low base_x virtiofs\n"));
	assert_non_null(low.data);
	assert_null(memmem(base.data, base.len, "signature", 9));
	assert_non_null(memmem(base.data, base.len, "depends=low", 12));
	kernel_files_free(&k);
}

static void refused(UNUSED void **state) {
	struct package p;
	struct kernel_files k;
	struct error err = ERROR_INIT;
	begin(&p);
	add_all(&p);
	assert_int_equal(make(&p, &k, &err), -ERROR_CORRUPT); /* no kernel */
	begin(&p);
	add(&p, "boot/vmlinuz-9", "k", 1);
	assert_int_equal(make(&p, &k, &err), -ERROR_UNSUPPORTED); /* no modules */
	assert_non_null(strstr(error_text(&err), "virtio_pci"));
	begin(&p);
	add(&p, "boot/vmlinuz-9", "k", 1);
	add(&p, "boot/vmlinuz-8", "k", 1);
	assert_int_equal(make(&p, &k, &err), -ERROR_INVALID);
	begin(&p);
	add(&p, "usr/lib/modules/9/a.ko.xz", "k", 1);
	assert_int_equal(make(&p, &k, &err), -ERROR_UNSUPPORTED);
	begin(&p);
	add(&p, "boot/vmlinuz-9", "k", 1);
	for (size_t i = 1; i < ARRAY_SIZE(needed); i++)
		add_module(&p, needed[i], "", false);
	add_module(&p, "virtio_pci", "ring", false);
	add_module(&p, "ring", "virtio_pci", false); /* each needs the other */
	assert_int_equal(make(&p, &k, &err), -ERROR_CORRUPT);
	begin(&p);
	add(&p, "boot/vmlinuz-9", "k", 1);
	archive_write_close(p.tar);
	assert_int_equal(ftruncate(p.fd, 700), 0);
	assert_true(make(&p, &k, &err) < 0);
	error_free(&err);
}

/* Headers that say what is not so: the kernel stays as it is. */
static void hostile_headers(UNUSED void **state) {
	static const uint32_t values[] = {0, 1, 0x7fffffff, 0xffffffff, 2000};
	for (size_t i = 0; i < ARRAY_SIZE(values) * ARRAY_SIZE(values); i++) {
		char image[4096] = {0};
		struct package p;
		struct kernel_files k;
		memcpy(image + 0x202, "HdrS", 4);
		image[0x206] = 0x0f;
		image[0x207] = 0x02;
		memcpy(image + 0x248, &values[i % ARRAY_SIZE(values)], 4);
		memcpy(image + 0x24c, &values[i / ARRAY_SIZE(values)], 4);
		begin(&p);
		add(&p, "boot/vmlinuz-9", image, sizeof image);
		add_all(&p);
		assert_int_equal(make(&p, &k, NULL), 0);
		assert_int_equal(lseek(k.kernel, 0, SEEK_END), sizeof image);
		kernel_files_free(&k);
	}
}

int main(void) {
	const struct CMUnitTest tests[] = {cmocka_unit_test(an_image), cmocka_unit_test(refused), cmocka_unit_test(hostile_headers)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
