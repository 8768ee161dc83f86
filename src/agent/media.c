/* What a machine gets besides its disk: kernel, initramfs, a medium for cloud-init, CDs, a floppy. They lie in the directory of the instance,
 * as further names of control's files where that is possible, so that a hundred machines share one kernel. */
#include "agent/machine-priv.h"

#include "base/fs.h"
#include "base/str.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static int copy(int from, const char *path) {
	_cleanup_(close_fd) int to = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	int r = to < 0 || lseek(from, 0, SEEK_SET) < 0 ? -errno : fs_copy(from, to, NULL);
	return r == 0 && fsync(to) < 0 ? -errno : r;
}

/* A file without a name (memfd) or of another file system is copied. */
static int take(int from, const char *dir, const char *name, struct error *err) {
	_cleanup_(free_ptr) char *path = str_format("%s/%s", dir, name), *temporary = str_format("%s/.%s", dir, name);
	char source[FD_PATH_MAX];
	struct stat st;
	if (fstat(from, &st) < 0 || !S_ISREG(st.st_mode))
		return error_field(err, "media", "what is to be the %s is no file", name);
	unlink(temporary);
	int r = st.st_nlink && linkat(AT_FDCWD, fd_path(from, source), AT_FDCWD, temporary, AT_SYMLINK_FOLLOW) == 0 ? 0 : copy(from, temporary);
	/* QEMU, which is nobody, opens the descriptors that it is given once more; nobody else reaches them by name */
	if (r == 0 && (chmod(temporary, 0644) < 0 || rename(temporary, path) < 0))
		r = -errno;
	if (r < 0)
		unlink(temporary);
	return r < 0 ? error_errno(err, r, "cannot keep %s", path) : 0;
}

int media_take(const struct job *j, const char *instance_dir, const media *list, size_t first, struct error *err) {
	_cleanup_(free_ptr) char *dir = str_format("%s/media", instance_dir);
	if (j->nfds != first + list->n)
		return error_field(err, "media", "%zu files are named, and %zu have come", list->n, j->nfds - first);
	if (list->n && mkdir(dir, 0700) < 0 && errno != EEXIST)
		return error_errno(err, errno, "cannot make %s", dir);
	int r = 0;
	for (size_t i = 0; r == 0 && i < list->n; i++)
		r = take(j->fds[first + i], dir, list->items[i].name, err);
	if (r == 0 && list->n)
		fs_fsync_dir(dir);
	return r;
}

int media_open(const struct agent *a, const struct msg_instance_create *r, const char *name, struct error *err) {
	for (size_t i = 0; i < r->media.n; i++) {
		if (!str_same(r->media.items[i].name, name))
			continue;
		_cleanup_(free_ptr) char *dir = instance_path(a, r->instance.id, "media"), *path = str_format("%s/%s", dir, name);
		int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
		return fd < 0 ? error_errno(err, errno, "cannot open %s", path) : fd;
	}
	return MEDIUM_NONE;
}

static bool has(const media *list, const char *name) {
	for (size_t i = 0; i < list->n; i++)
		if (str_same(list->items[i].name, name))
			return true;
	return false;
}

static bool runs(const struct job *j) {
	struct run_state run;
	if (run_load(j->agent, j->id, &run, NULL) < 0)
		return false;
	bool up = run.created && container_state_alive(&run.container);
	run_free(&run);
	return up;
}

/* CDs and floppies change at once in the drives of one that runs, the rest at its next start. The record names what is there before anything else goes. */
int work_media(struct job *j, struct error *err) {
	const struct msg_instance_media *m = j->body;
	_cleanup_(instance_unlock) int lock = -1;
	_cleanup_(record_free) struct msg_instance_create r = {0};
	_cleanup_(free_ptr) char *dir = instance_path(j->agent, j->id, NULL), *sub = str_format("%s/media", dir);
	_cleanup_(strv_free_ptr) char **names = NULL;
	int result = instance_lock(j->agent, j->id, LOCK_EX, LOCK_WAIT, &lock, err);
	if (result == 0)
		result = record_load(j->agent, j->id, &r, err);
	if (result == 0 && runs(j))
		result = machine_media_change(j, &r, &m->media, err);
	fault_point("media.changed");
	if (result == 0)
		result = media_take(j, dir, &m->media, 0, err);
	fault_point("media.taken");
	if (result < 0)
		return result;
	media before = r.media;
	r.media = m->media;
	result = record_save(j->agent, &r, err);
	r.media = before;
	_cleanup_(close_fd) int at = open(sub, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (result < 0 || at < 0 || fs_names(at, &names) < 0)
		return result < 0 ? result : job_answer(j, NULL, NULL, 0, err);
	for (char **n = names; n && *n; n++)
		if (!has(&m->media, *n))
			unlinkat(at, *n, 0);
	return job_answer(j, NULL, NULL, 0, err);
}
