/* Kernel packages: any bytes are one or are refused; what is made of one has both files. */
#include "base/fs.h"
#include "image/kernel.h"

#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	_cleanup_(close_fd) int tar = memfd_create("package", MFD_CLOEXEC);
	_cleanup_(close_fd) int init = memfd_create("init", MFD_CLOEXEC);
	_cleanup_(kernel_files_free) struct kernel_files k;
	if (tar < 0 || init < 0 || fs_write_all(tar, data, size) < 0)
		abort();
	lseek(tar, 0, SEEK_SET);
	if (kernel_make(tar, init, &k, NULL) == 0 && (k.kernel < 0 || k.initrd < 0 || !k.version))
		abort();
	return 0;
}
