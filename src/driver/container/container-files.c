/* Files that exist in memory alone, and sockets at which others listen: all of them lie in one tmpfs that nobody sees, each is
 * bound to its target from there, read-only. */
#include "base/fs.h"
#include "driver/container/container-priv.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 16

static int listen_at(int dir, const char *name, const struct container_file *f, struct error *err) {
	char path[FD_PATH_MAX];
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	snprintf(at.sun_path, sizeof at.sun_path, "%s/%s", fd_path(dir, path), name);
	if (bind(f->socket, (const struct sockaddr *)&at, sizeof at) < 0 || listen(f->socket, BACKLOG) < 0)
		return error_errno(err, errno, "cannot listen at what is to be %s", f->target);
	if (fchownat(dir, name, f->uid, f->gid, AT_SYMLINK_NOFOLLOW) < 0 || fchmodat(dir, name, f->mode, 0) < 0)
		return error_errno(err, errno, "cannot give %s to user %u, group %u", f->target, f->uid, f->gid);
	return 0;
}

static int write_file(int dir, const char *name, const struct container_file *f, struct error *err) {
	if (f->is_socket)
		return listen_at(dir, name, f, err);
	_cleanup_(close_fd) int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	int r = fd < 0 ? -errno : fs_write_all(fd, f->data, f->size);
	if (r < 0)
		return error_errno(err, r, "cannot write what is to be %s", f->target);
	if (fchown(fd, f->uid, f->gid) < 0 || fchmod(fd, f->mode) < 0)
		return error_errno(err, errno, "cannot give %s to user %u, group %u", f->target, f->uid, f->gid);
	return 0;
}

static int bind_file(struct child *k, int dir, const char *name, const struct container_file *f, struct error *err) {
	_cleanup_(close_fd) int mount = open_tree(dir, name, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (mount < 0)
		return error_errno(err, errno, "cannot bind what is to be %s", f->target);
	_cleanup_(close_fd) int target = mount_open_target(k->root, f->target, false, err);
	if (target < 0)
		return target;
	const struct container_mount as_mount = {.target = f->target, .type = (char *)"file"};
	int r = mount_check_target(&as_mount, target, err);
	if (r < 0)
		return r;
	r = mount_attach(mount, target);
	if (r == 0)
		r = mount_change(mount, false, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC, 0,
				 MS_PRIVATE);
	return r < 0 ? error_errno(err, r, "cannot put %s in its place", f->target) : 0;
}

static int bind_files(struct child *k, int dir, struct error *err) {
	const struct container_config *c = k->c;
	int r = 0;
	for (size_t i = 0; r == 0 && i < c->n_files; i++) {
		char name[24];
		snprintf(name, sizeof name, "%zu", i);
		r = write_file(dir, name, &c->files[i], err);
		if (r == 0)
			r = bind_file(k, dir, name, &c->files[i], err);
	}
	return r;
}

/* A mount can be cloned only while it is attached: so the tmpfs lies over the root for a moment, where every look-up that begins
 * at the root's own descriptor passes beneath it. */
int child_files(struct child *k, struct error *err) {
	if (!k->c->n_files)
		return 0;
	_cleanup_(close_fd) int dir =
		fs_mount_new("tmpfs", "tmpfs", "mode=0700", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC, err);
	if (dir < 0)
		return dir;
	int r = mount_attach(dir, k->root);
	if (r < 0)
		return error_errno(err, r, "cannot attach a file system in memory");
	r = bind_files(k, dir, err);
	char path[FD_PATH_MAX];
	if (umount2(fd_path(dir, path), MNT_DETACH) < 0 && r == 0)
		r = error_errno(err, errno, "cannot detach a file system in memory");
	return r;
}
