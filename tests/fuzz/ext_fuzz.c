/* Disks with partition tables and ext file systems: found, opened, and their files written to nowhere. */
#include "image/ext-tree.h"

#include "base/fs.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	struct disk_part parts[DISK_PARTS_MAX];
	struct error err = ERROR_INIT;
	_cleanup_(close_fd) int fd = memfd_create("disk", MFD_CLOEXEC), null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	if (fd < 0 || null < 0 || fs_write_all(fd, data, size) < 0)
		return 0;
	int n = disk_parts(fd, parts, &err);
	error_free(&err);
	for (int i = 0; i < n; i++) {
		void *fs;
		if (parts[i].at > size || parts[i].size > size - parts[i].at)
			abort();
		if (ext_open(fd, &parts[i], &fs, &err) == 0) {
			ext_has(fs, "/etc/os-release");
			error_free(&err);
			ext_tree(fs, null, &err);
			ext_close(fs);
		}
		error_free(&err);
	}
	return 0;
}
