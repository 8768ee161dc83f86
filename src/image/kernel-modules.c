/* Which modules go into an initramfs, and in which order they are to be loaded: what each needs stands in itself. */
#include "image/kernel-priv.h"

#include <archive.h>
#include <archive_entry.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEPTH_MAX 16

/* What wabe-init loads; those marked it does without. */
static const struct {
	const char *name;
	bool optional;
} wanted[] = {
	{"virtio_pci", false},	 {"virtiofs", false},	{"virtio_console", false}, {"virtio_net", false}, {"virtio_blk", false},
	{"virtio_mmio", true},	 {"button", true},	{"evdev", true},	   {"virtio_balloon", true}, {"virtio_rng", true}, {"virtio_mem", true},
	{"pvpanic_mmio", true},
};

static const struct module *find(const struct modules *m, const char *name) {
	for (size_t i = 0; i < m->n; i++)
		if (strcmp(m->items[i].name, name) == 0)
			return &m->items[i];
	return NULL;
}

/* Adds the module behind those that it needs. One that is not there is part of the kernel itself. */
static int add_ordered(const struct modules *m, const char *name, char ***order, int depth, struct error *err) {
	const struct module *module = find(m, name);
	if (!module || strv_has(*order, name))
		return 0;
	if (depth > DEPTH_MAX)
		return error_set(err, ERROR_CORRUPT, "the kernel's module %s needs others without end", name);
	for (char **n = module->needs; n && *n; n++) {
		int r = add_ordered(m, *n, order, depth + 1, err);
		if (r < 0)
			return r;
	}
	strv_add(order, name);
	return 0;
}

int initrd_add(struct archive *to, const char *path, unsigned mode, const void *data, size_t n, struct error *err) {
	struct archive_entry *e = archive_entry_new();
	archive_entry_set_pathname(e, path);
	archive_entry_set_mode(e, mode);
	archive_entry_set_size(e, (la_int64_t)n);
	archive_entry_set_mtime(e, 0, 0);
	archive_entry_set_nlink(e, 1);
	bool good = archive_write_header(to, e) == ARCHIVE_OK && archive_write_data(to, data, n) == (la_ssize_t)n;
	archive_entry_free(e);
	return good ? 0 : error_set(err, ERROR_INTERNAL, "cannot write the initramfs: %s", archive_error_string(to));
}

static int write_module(const struct modules *m, const char *name, struct archive *to, struct error *err) {
	const struct module *module = find(m, name);
	_cleanup_(free_ptr) char *path = str_format("modules/%s.ko", name), *data = alloc_zero(module->size + 1);
	if (pread(m->file, data, module->size, module->at) != (ssize_t)module->size)
		return error_errno(err, errno, "cannot read the module %s", name);
	return initrd_add(to, path, S_IFREG | 0644, data, module->size, err);
}

int modules_write(const struct modules *m, struct archive *to, struct error *err) {
	_cleanup_(buf_free) struct buf list = BUF_INIT;
	_cleanup_(strv_free_ptr) char **all = NULL;
	int r = initrd_add(to, "modules", S_IFDIR | 0755, "", 0, err);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(wanted); i++) {
		_cleanup_(strv_free_ptr) char **order = NULL;
		if (!wanted[i].optional && !find(m, wanted[i].name))
			return error_set(err, ERROR_UNSUPPORTED, "the kernel has no module %s", wanted[i].name);
		r = add_ordered(m, wanted[i].name, &order, 0, err);
		_cleanup_(free_ptr) char *names = strv_join(order, " ");
		if (order)
			buf_addf(&list, "%s %s\n", wanted[i].name, names);
		for (char **n = order; r == 0 && n && *n; n++)
			if (!strv_has(all, *n)) {
				strv_add(&all, *n);
				r = write_module(m, *n, to, err);
			}
	}
	return r < 0 ? r : initrd_add(to, "modules/list", S_IFREG | 0644, buf_str(&list), list.len, err);
}

void modules_free(struct modules *m) {
	for (size_t i = 0; i < m->n; i++) {
		free(m->items[i].name);
		strv_free(m->items[i].needs);
	}
	free(m->items);
	close_fd(&m->file);
}
