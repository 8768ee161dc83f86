/* The log files of an instance, for control to read: it gets descriptors, never paths. */
#include "agent/agent-priv.h"

#include "base/fs.h"
#include "base/str.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

int work_logs(struct job *j, struct error *err) {
	_cleanup_(free_ptr) char *dir = instance_path(j->agent, j->id, "log");
	_cleanup_(close_fd) int log = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (log < 0)
		return error_errno(err, errno, "cannot open %s", dir);
	int fds[WIRE_FDS_MAX];
	size_t n = 0;
	for (int number = WIRE_FDS_MAX - 1; number >= 0; number--) {
		_cleanup_(free_ptr) char *name = number ? str_format("log.%d", number) : str_copy("log");
		int fd = openat(log, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
		if (fd >= 0)
			fds[n++] = fd;
	}
	int r = job_answer(j, NULL, fds, n, err);
	for (size_t i = 0; i < n; i++)
		close_fd(&fds[i]);
	return r;
}
