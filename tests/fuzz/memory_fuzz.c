/* The state of a machine, as a QEMU tells it that a guest has taken over. */
#include "base/fs.h"
#include "driver/qemu/memory.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SIZE (INT64_C(16) << 12)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static int file_of(const char *name) {
	int fd = memfd_create(name, MFD_CLOEXEC);
	if (fd < 0)
		abort();
	return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
	int in = file_of("in");
	struct memory_sink to = {"pc.ram", SIZE, file_of("memory"), file_of("state")};
	struct stat memory, state;
	if (fs_write_all(in, data, n) < 0 || lseek(in, 0, SEEK_SET) < 0)
		abort();
	memory_split(in, &to, NULL, NULL, NULL);
	if (fstat(to.memory, &memory) < 0 || fstat(to.state, &state) < 0 || memory.st_size != SIZE || (size_t)state.st_size > n)
		abort(); /* nothing is made up */
	close(in);
	close(to.memory);
	close(to.state);
	return 0;
}
