#include "daemon/sockets.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"

#include <errno.h>
#include <grp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TRIES 40 /* of 50 ms: what is left of a daemon that was killed, whose lock we have now, ends in a moment */

static int listen_at(const char *path, struct error *err) {
	int fd = sock_listen_unix(path, 0600);
	for (int i = 0; fd == -EADDRINUSE && i < TRIES; i++) {
		poll(NULL, 0, 50);
		fd = sock_listen_unix(path, 0600);
	}
	return fd < 0 ? error_errno(err, fd, "listening on %s", path) : fd;
}

int agent_listen(const struct daemon_options *o, struct error *err) {
	_cleanup_(free_ptr) char *path = str_format("%s/agent.sock", o->run);
	_cleanup_(close_fd) int fd = listen_at(path, err);
	if (fd < 0)
		return fd;
	if (chown(path, o->uid, o->gid) < 0)
		return error_errno(err, errno, "giving %s to the user wabe", path);
	return TAKE_FD(fd);
}

static int listen_in(const char *dir, const char *name, gid_t gid, struct error *err) {
	_cleanup_(free_ptr) char *path = str_format("%s/%s", dir, name);
	_cleanup_(close_fd) int fd = listen_at(path, err);
	if (fd < 0)
		return fd;
	if (chown(path, 0, gid) < 0 || chmod(path, 0660) < 0)
		return error_errno(err, errno, "giving %s to group %u", path, gid);
	return TAKE_FD(fd);
}

/* Puts a link at path, in place of whatever file is there. */
static int link_put(const char *target, const char *path) {
	_cleanup_(free_ptr) char *made = str_format("%s.new", path);
	unlink(made);
	return symlink(target, made) < 0 || rename(made, path) < 0 ? -errno : 0;
}

/* In STATE, where the file system can be given an instance's ids, and RUN has a link to it: RUN is a tmpfs, which cannot be
 * before Linux 6.3, so that nobody in an instance could speak to a socket of it. Where STATE can have none, in RUN. */
static int listen_for_group(const struct daemon_options *o, const char *name, gid_t gid, struct error *err) {
	_cleanup_(error_free) struct error why = ERROR_INIT;
	_cleanup_(free_ptr) char *dir = str_format("%s/" CONTROL_SOCKETS_DIR, o->state), *path = str_format("%s/%s", dir, name),
				 *link = str_format("%s/%s", o->run, name);
	int r = fs_mkdir_p(dir, 0755);
	_cleanup_(close_fd) int fd = r < 0 ? r : listen_in(dir, name, gid, &why);
	if (fd == -EADDRINUSE)
		return error_errno(err, fd, "listening on %s", path);
	if (fd < 0) {
		log_warn("%s is not in %s: %s", name, dir, r < 0 ? strerror(-r) : error_text(&why));
		unlink(link);
		return listen_in(o->run, name, gid, err);
	}
	r = link_put(path, link);
	return r < 0 ? error_errno(err, r, "making the link %s", link) : TAKE_FD(fd);
}

int control_listen(const struct daemon_options *o, int fds[CONTROL_SOCKETS], struct error *err) {
	const struct group *docker = getgrnam("wabe-docker");
	_cleanup_(close_fd) int native = listen_for_group(o, "wabe.sock", o->gid, err);
	if (native < 0)
		return native;
	_cleanup_(close_fd) int other = listen_for_group(o, "docker.sock", docker ? docker->gr_gid : 0, err);
	if (other < 0)
		return other;
	fds[CONTROL_NATIVE] = TAKE_FD(native);
	fds[CONTROL_DOCKER] = TAKE_FD(other);
	return 0;
}
