/* Between the files that make kernel images. */
#pragma once

#include "base/str.h"
#include "image/kernel.h"
#include "base/buf.h"

#define KERNEL_MAX ((size_t)256 << 20) /* unpacked */

/* The ELF file in a bzImage; false: it is not one, or not one that can be started. */
bool kernel_unpack(const struct buf *image, struct buf *out);

/* The modules of a kernel, each a part of one file. */
struct module {
	char *name; /* with "_" for "-" */
	off_t at;
	size_t size;
	char **needs; /* likewise */
};
struct modules {
	int file;
	struct module *items;
	size_t n;
};
/* Files of the initramfs: those of the modules that a guest needs, and "modules/list" (see src/guest/boot.c). */
struct archive;
int modules_write(const struct modules *m, struct archive *to, struct error *err);
void modules_free(struct modules *m);
int initrd_add(struct archive *to, const char *path, unsigned mode, const void *data, size_t n, struct error *err);
