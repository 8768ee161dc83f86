/* Headers of disk images: as what they look like, and as every other format. */
#include "image/disk.h"

#include "base/fs.h"
#include "base/util.h"

#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	static const char *const formats[] = {"qcow2", "raw", "vmdk", "vdi", "vpc", "vhdx", "iso", "floppy", "none"};
	_cleanup_(close_fd) int fd = memfd_create("disk", MFD_CLOEXEC);
	if (fd < 0 || fs_write_all(fd, data, size) < 0)
		return 0;
	disk_recognise(data, size);
	for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
		struct disk_info is = {0};
		struct error err = ERROR_INIT;
		if (disk_inspect(fd, formats[i], &is, &err) == 0 && (is.virtual_size < 0 || is.virtual_size > DISK_SIZE_MAX))
			abort();
		error_free(&err);
	}
	return 0;
}
