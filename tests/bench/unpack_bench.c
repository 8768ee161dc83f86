/* Unpacks layers: unpack_bench [--serial] TARGET BLOB DIFF_ID [BLOB DIFF_ID …]. Each goes into a directory of
 * its own below TARGET, all at once in a process each, as the agent does it; --serial: one after another. */
#include "image/layer.h"

#include "base/fs.h"
#include "base/proc.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static int unpack(const char *top, int i, const char *blob_path, const char *diff_id) {
	_cleanup_(free_ptr) char *path = str_format("%s/%d", top, i);
	_cleanup_(close_fd) int blob = open(blob_path, O_RDONLY | O_CLOEXEC);
	if (blob < 0 || mkdir(path, 0755) < 0) {
		perror(path);
		return 1;
	}
	_cleanup_(close_fd) int target = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_(error_free) struct error err = ERROR_INIT;
	if (layer_unpack(blob, NULL, diff_id, target, NULL, NULL, NULL, &err) == 0)
		return 0;
	fprintf(stderr, "%s\n", error_text(&err));
	return 1;
}

int main(int argc, char **argv) {
	bool serial = argc > 1 && strcmp(argv[1], "--serial") == 0;
	int first = serial ? 2 : 1, failures = 0, started = 0;
	if (argc < first + 3)
		return 2;
	for (int i = first + 1; i + 1 < argc; i += 2) {
		pid_t pid = fork();
		if (pid == 0)
			_exit(unpack(argv[first], i, argv[i], argv[i + 1]));
		started++;
		if (serial)
			failures += proc_wait(pid) != 0, started--;
	}
	while (started--)
		failures += proc_wait(-1) != 0;
	return failures != 0;
}
