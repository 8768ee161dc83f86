/* A kernel image of the files of a package. They come as one stream, and which modules are needed is known only when all have
 * been seen: they are kept in a file without a name. */
#include "image/kernel-priv.h"

#include "base/fs.h"

#include <archive.h>
#include <archive_entry.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define IMAGE_MAX ((size_t)64 << 20)
#define MODULE_MAX ((size_t)32 << 20)
#define MODULES_MAX 16384
#define MODULES_SIZE_MAX ((off_t)1 << 30)
#define INIT_MAX ((size_t)16 << 20)

struct source {
	struct archive *tar;
	struct modules modules;
	off_t used;
	struct buf image;
	char *version;
};

static void source_free(struct source *s) {
	archive_read_free(s->tar);
	modules_free(&s->modules);
	buf_free(&s->image);
	free(s->version);
}

static int temporary(const char *name, struct error *err) {
	int fd = memfd_create(name, MFD_CLOEXEC);
	return fd < 0 ? error_errno(err, errno, "cannot make a file") : fd;
}

/* --- reading --- */

static int read_data(struct archive *a, const char *path, int64_t size, size_t most, struct buf *out, struct error *err) {
	if (size < 0 || (size_t)size > most)
		return error_set(err, ERROR_TOO_LARGE, "%s is larger than any kernel's file", path);
	char *room = buf_room(out, (size_t)size);
	la_ssize_t n = room ? archive_read_data(a, room, (size_t)size) : -1;
	if (n != size)
		return error_set(err, ERROR_CORRUPT, "cannot read %s of the package: %s", path, archive_error_string(a) ? archive_error_string(a) : "it is cut off");
	buf_grown(out, (size_t)n);
	return 0;
}

static char *module_name(const char *name, size_t n) {
	char *copy = str_copyn(name, n);
	for (char *c = copy; *c; c++)
		if (*c == '-')
			*c = '_';
	return copy;
}

/* "depends=a,b", between NULs, of the section .modinfo. */
static char **module_needs(const struct buf *file) {
	static const char key[] = "\0depends=";
	const char *p = memmem(file->data, file->len, key, sizeof key - 1);
	if (!p || !memchr(p + 1, '\0', file->len - (size_t)(p + 1 - file->data)))
		return NULL;
	char **needs = NULL;
	struct str rest = str_view(p + sizeof key - 1);
	while (rest.len) {
		struct str name = str_cut(&rest, ',');
		if (name.len)
			strv_take(&needs, module_name(name.p, name.len));
	}
	return needs;
}

static int take_module(struct source *s, const char *path, int64_t size, struct error *err) {
	_cleanup_(buf_free) struct buf data = BUF_INIT_MAX(MODULE_MAX + 1);
	struct modules *m = &s->modules;
	const char *name = strrchr(path, '/') + 1;
	int r = read_data(s->tar, path, size, MODULE_MAX, &data, err);
	if (r < 0)
		return r;
	if (m->n >= MODULES_MAX || s->used + (off_t)data.len > MODULES_SIZE_MAX)
		return error_set(err, ERROR_TOO_LARGE, "the kernel has more modules than any that is known");
	r = fs_write_all(m->file, buf_str(&data), data.len);
	if (r < 0)
		return error_errno(err, r, "cannot keep the kernel's modules");
	m->items = alloc_resize(m->items, m->n + 1, sizeof *m->items);
	m->items[m->n++] = (struct module){module_name(name, strlen(name) - 3), s->used, data.len, module_needs(&data)};
	s->used += (off_t)data.len;
	return 0;
}

/* Where it lies in the tree of a system; NULL: elsewhere. */
static const char *place(const char *path) {
	while (str_starts(path, "./") || *path == '/')
		path += *path == '/' ? 1 : 2;
	return str_starts(path, "usr/") ? path + 4 : path;
}

static int take_entry(struct source *s, struct archive_entry *e, struct error *err) {
	const char *path = archive_entry_pathname(e) ? place(archive_entry_pathname(e)) : "";
	int64_t size = archive_entry_size(e);
	if (archive_entry_filetype(e) != AE_IFREG)
		return 0;
	if (str_starts(path, "lib/modules/") && str_ends(path, ".ko"))
		return take_module(s, path, size, err);
	if (str_starts(path, "lib/modules/") && (str_ends(path, ".ko.xz") || str_ends(path, ".ko.zst") || str_ends(path, ".ko.gz")))
		return error_set(err, ERROR_UNSUPPORTED, "the kernel's modules are packed (%s), which wabe does not unpack", path);
	if (!str_starts(path, "boot/vmlinuz-"))
		return 0;
	if (s->version)
		return error_set(err, ERROR_INVALID, "there are two kernels: %s and %s", s->version, path + strlen("boot/vmlinuz-"));
	s->version = str_copy(path + strlen("boot/vmlinuz-"));
	return read_data(s->tar, path, size, IMAGE_MAX, &s->image, err);
}

static int read_tar(struct source *s, int fd, struct error *err) {
	struct archive_entry *e;
	int r = 0, result;
	s->tar = archive_read_new();
	archive_read_support_format_tar(s->tar);
	archive_read_support_format_gnutar(s->tar);
	s->modules.file = temporary("modules", err);
	if (s->modules.file < 0)
		return s->modules.file;
	if (archive_read_open_fd(s->tar, fd, 65536) != ARCHIVE_OK)
		return error_set(err, ERROR_CORRUPT, "the kernel's package: %s", archive_error_string(s->tar));
	while (r == 0 && (result = archive_read_next_header(s->tar, &e)) != ARCHIVE_EOF)
		r = result < ARCHIVE_WARN ? error_set(err, ERROR_CORRUPT, "the kernel's package: %s", archive_error_string(s->tar))
					  : take_entry(s, e, err);
	if (r == 0 && !s->version)
		r = error_set(err, ERROR_CORRUPT, "there is no kernel (boot/vmlinuz-…) in the package");
	return r;
}

/* --- writing --- */

static int write_kernel(const struct source *s, int fd, struct error *err) {
	_cleanup_(buf_free) struct buf elf = BUF_INIT_MAX(KERNEL_MAX);
	const struct buf *from = kernel_unpack(&s->image, &elf) ? &elf : &s->image;
	int r = fs_write_all(fd, from->data, from->len);
	if (r == 0 && lseek(fd, 0, SEEK_SET) < 0)
		r = -errno;
	return r < 0 ? error_errno(err, r, "cannot write the kernel") : 0;
}

static int write_entries(const struct source *s, int init, struct archive *to, struct error *err) {
	_cleanup_(buf_free) struct buf program = BUF_INIT;
	int r = fs_read_fd(init, INIT_MAX, &program);
	if (r < 0)
		return error_errno(err, r, "cannot read wabe-init");
	r = initrd_add(to, "init", S_IFREG | 0755, buf_str(&program), program.len, err);
	return r < 0 ? r : modules_write(&s->modules, to, err);
}

static int write_initrd(const struct source *s, int init, int fd, struct error *err) {
	struct archive *to = archive_write_new();
	archive_write_set_format_cpio_newc(to);
	archive_write_set_bytes_in_last_block(to, 1);
	int r = archive_write_open_fd(to, fd) == ARCHIVE_OK ? 0 : error_set(err, ERROR_INTERNAL, "cannot write the initramfs");
	if (r == 0)
		r = write_entries(s, init, to, err);
	if (r == 0 && archive_write_close(to) != ARCHIVE_OK)
		r = error_set(err, ERROR_INTERNAL, "cannot write the initramfs: %s", archive_error_string(to));
	archive_write_free(to);
	return r == 0 && lseek(fd, 0, SEEK_SET) < 0 ? error_errno(err, errno, "cannot write the initramfs") : r;
}

int kernel_make(int tar, int init, struct kernel_files *out, struct error *err) {
	_cleanup_(source_free) struct source s = {.modules.file = -1, .image = BUF_INIT_MAX(IMAGE_MAX + 1)};
	*out = (struct kernel_files){-1, -1, NULL};
	int r = read_tar(&s, tar, err);
	if (r == 0 && (out->kernel = temporary("kernel", err)) < 0)
		r = out->kernel;
	if (r == 0 && (out->initrd = temporary("initrd", err)) < 0)
		r = out->initrd;
	if (r == 0)
		r = write_kernel(&s, out->kernel, err);
	if (r == 0)
		r = write_initrd(&s, init, out->initrd, err);
	if (r == 0)
		out->version = TAKE_PTR(s.version);
	else
		kernel_files_free(out);
	return r;
}

void kernel_files_free(struct kernel_files *k) {
	close_fd(&k->kernel);
	close_fd(&k->initrd);
	free(k->version);
	*k = (struct kernel_files){-1, -1, NULL};
}
