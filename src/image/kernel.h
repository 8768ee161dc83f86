/* What a machine starts without a boot loader, when its root is a container image's: a kernel and its initramfs, made of the
 * files of a distribution's kernel package and of wabe-init. */
#pragma once

#include "base/error.h"

struct kernel_files {
	int kernel, initrd; /* files without names, at their beginnings; -1 */
	char *version;      /* "6.1.0-18-cloud-amd64" */
};
/* tar: a stream with boot/vmlinuz-VERSION and lib/modules/VERSION/ of one kernel (or below usr/), as the package has them; what
 * else is in it is skipped. init: the program. CORRUPT, UNSUPPORTED: these are not such files, which ones the message says.
 * The kernel is unpacked where it is of a kind that QEMU starts unpacked, which saves a translated processor a second. */
int kernel_make(int tar, int init, struct kernel_files *out, struct error *err);
void kernel_files_free(struct kernel_files *k);
