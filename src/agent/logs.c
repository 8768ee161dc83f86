/* The log files of an instance, for control to read: it gets descriptors, never paths. */
#include "agent/agent-priv.h"

#include "base/fs.h"
#include "base/str.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static void close_all(int *fds, size_t *n) {
	for (size_t i = 0; i < *n; i++)
		close_fd(&fds[i]);
	*n = 0;
}

static const char *log_name(int number, char out[16]) {
	snprintf(out, 16, number ? "log.%d" : "log", number);
	return out;
}

/* Oldest first. Control watches a file through its descriptor, for which the kernel asks the file's mode; the
 * directory lets nobody in by name. */
static size_t open_files(int dir, int *fds, ino_t *inodes) {
	size_t n = 0;
	char name[16];
	for (int number = WIRE_FDS_MAX - 1; number >= 0; number--) {
		struct stat st;
		/* the newest one is there even before the shim comes to open it */
		int create = number ? 0 : O_CREAT;
		int fd = openat(dir, log_name(number, name), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | create, 0644);
		inodes[number] = 0;
		if (fd < 0)
			continue;
		if (fstat(fd, &st) == 0 && fchmod(fd, 0644) == 0)
			inodes[number] = st.st_ino;
		fds[n++] = fd;
	}
	return n;
}

/* Has the shim not moved them on while they were opened? */
static bool in_place(int dir, const ino_t *inodes) {
	char name[16];
	for (int number = 0; number < WIRE_FDS_MAX; number++) {
		struct stat st = {0};
		ino_t now = fstatat(dir, log_name(number, name), &st, AT_SYMLINK_NOFOLLOW) == 0 ? st.st_ino : 0;
		if (now != inodes[number])
			return false;
	}
	return true;
}

#define TRIES 100

int work_logs(struct job *j, struct error *err) {
	_cleanup_(free_ptr) char *path = instance_path(j->agent, j->id, "log");
	_cleanup_(close_fd) int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return error_errno(err, errno, "cannot open %s", path);
	int fds[WIRE_FDS_MAX];
	ino_t inodes[WIRE_FDS_MAX];
	size_t n = open_files(dir, fds, inodes);
	for (int i = 0; i < TRIES && !in_place(dir, inodes); i++) {
		close_all(fds, &n);
		n = open_files(dir, fds, inodes);
	}
	int r = job_answer(j, NULL, fds, n, err);
	close_all(fds, &n);
	return r;
}
