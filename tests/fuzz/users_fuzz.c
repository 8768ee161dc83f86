/* Users and groups of a hostile image: the first line is what is asked for, the rest is both /etc/passwd and
 * /etc/group. */
#include "driver/container/container-priv.h"

#include "base/fs.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static int write_file(int dir, const char *name, const void *data, size_t n) {
	_cleanup_(close_fd) int fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	return fd < 0 ? -errno : fs_write_all(fd, data, n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
	const uint8_t *line = memchr(data, '\n', n);
	if (!line)
		return 0;
	size_t rest = n - (size_t)(line + 1 - data);
	char top[] = "/tmp/wabe-users-fuzz-XXXXXX";
	if (!mkdtemp(top))
		return 0;
	_cleanup_(close_fd) int root = open(top, O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct container_process p = {.user = str_copyn((const char *)data, (size_t)(line - data))};
	struct user_ids ids = {0};
	if (mkdirat(root, "etc", 0700) == 0 && write_file(root, "etc/passwd", line + 1, rest) == 0 &&
	    write_file(root, "etc/group", line + 1, rest) == 0)
		users_resolve(root, &p, &ids, NULL);
	user_ids_free(&ids);
	free(p.user);
	fs_remove_tree(top);
	return 0;
}
