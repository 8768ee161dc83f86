/* A kernel image's two files, for tests: kernel_tool INIT KERNEL INITRD, with the package's files as a tar on standard input. */
#include "base/fs.h"
#include "image/kernel.h"

#include <fcntl.h>
#include <stdio.h>

static int save(int from, const char *path, struct error *err) {
	_cleanup_(close_fd) int to = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	int r = to < 0 ? -errno : fs_copy(from, to, NULL);
	return r < 0 ? error_errno(err, r, "cannot write %s", path) : 0;
}

int main(int argc, char **argv) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(kernel_files_free) struct kernel_files k = {-1, -1, NULL};
	_cleanup_(close_fd) int init = argc == 4 ? open(argv[1], O_RDONLY | O_CLOEXEC) : -1;
	if (init < 0) {
		fprintf(stderr, "usage: kernel_tool INIT KERNEL INITRD <TAR\n");
		return 2;
	}
	int r = kernel_make(0, init, &k, &err);
	if (r == 0)
		r = save(k.kernel, argv[2], &err);
	if (r == 0)
		r = save(k.initrd, argv[3], &err);
	if (r < 0)
		fprintf(stderr, "kernel_tool: %s\n", error_text(&err));
	else
		puts(k.version);
	return r < 0;
}
