/* Build contexts: any bytes are an archive or are refused; what was read of it can be walked and read. */
#include "base/fs.h"
#include "base/str.h"
#include "build/tree.h"

#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void walk(struct tree *t, const struct tree_node *dir) {
	_cleanup_(free_ptr) struct tree_node **list = tree_list(dir);
	for (size_t i = 0; list[i]; i++) {
		_cleanup_(free_ptr) char *path = tree_path(list[i]);
		_cleanup_(buf_free) struct buf text = BUF_INIT;
		struct tree_node *found = tree_find(t, path);
		if (found != list[i] && !S_ISLNK(list[i]->mode))
			abort(); /* a path leads to what it is the path of */
		if (S_ISREG(list[i]->mode) && list[i]->size < 65536 && tree_content(t, list[i], 65536, &text, NULL) < 0)
			abort();
		if (S_ISDIR(list[i]->mode))
			walk(t, list[i]);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	_cleanup_(close_fd) int fd = memfd_create("context", MFD_CLOEXEC);
	if (fd < 0 || fs_write_all(fd, data, size) < 0)
		abort();
	lseek(fd, 0, SEEK_SET);
	_cleanup_(tree_free_ptr) struct tree *t = tree_new(memfd_create("spool", MFD_CLOEXEC));
	tree_read(t, fd, "", true, NULL);
	walk(t, tree_root(t));
	return 0;
}
