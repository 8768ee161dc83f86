/* The files of the Linux system on a machine's disk, as a tar. The kernel never mounts what a guest has written: a confined child
 * reads it (image/disk-tree.h), and what it writes is sent on as what a stranger made. */
#include "agent/machine-priv.h"

#include "base/fs.h"
#include "image/disk-tree.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static int read_root(struct job *j, const struct msg_instance_create *m, const struct place *p, struct error *err) {
	_cleanup_(close_fd) int disk = root_open_disk(j, m, err);
	return disk < 0 ? disk : disk_tree(disk, p->dir, err);
}

static int send_tree(struct job *j, const struct place *p, struct error *err) {
	_cleanup_(close_fd) int file = openat(p->dir, "tree.tar", O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;
	if (file < 0 || fstat(file, &st) < 0 || !S_ISREG(st.st_mode))
		return error_set(err, ERROR_INTERNAL, "the disk's files are not where they were written");
	return answer_file(j, file, err);
}

/* The instance's lock keeps it from starting meanwhile. */
int work_machine_tree(struct job *j, struct error *err) {
	_cleanup_(instance_unlock) int lock = -1;
	_cleanup_(record_free) struct msg_instance_create m = {0};
	_cleanup_(place_close) struct place p = PLACE_INIT;
	int r = instance_lock(j->agent, j->id, LOCK_EX, LOCK_WAIT, &lock, err);
	if (r == 0)
		r = record_load(j->agent, j->id, &m, err);
	if (r < 0)
		return r;
	if (!root_is_block(&m))
		return error_set(err, ERROR_UNSUPPORTED, "instance %.12s has files and no disk: its image runs as a container as it is", j->id);
	r = place_open(j->agent, "tree", &p, err);
	if (r == 0)
		r = read_root(j, &m, &p, err);
	root_close(j, &m);
	fault_point("convert.read");
	return r < 0 ? r : send_tree(j, &p, err);
}
