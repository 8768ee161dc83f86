#include "daemon/sockets.h"

#include "base/fs.h"
#include "base/str.h"

#include <errno.h>
#include <grp.h>
#include <poll.h>
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

static int listen_for_group(const char *run, const char *name, gid_t gid, struct error *err) {
	_cleanup_(free_ptr) char *path = str_format("%s/%s", run, name);
	_cleanup_(close_fd) int fd = listen_at(path, err);
	if (fd < 0)
		return fd;
	if (chown(path, 0, gid) < 0 || chmod(path, 0660) < 0)
		return error_errno(err, errno, "giving %s to group %u", path, gid);
	return TAKE_FD(fd);
}

int control_listen(const struct daemon_options *o, int fds[CONTROL_SOCKETS], struct error *err) {
	const struct group *docker = getgrnam("wabe-docker");
	_cleanup_(close_fd) int native = listen_for_group(o->run, "wabe.sock", o->gid, err);
	if (native < 0)
		return native;
	_cleanup_(close_fd) int other = listen_for_group(o->run, "docker.sock", docker ? docker->gr_gid : 0, err);
	if (other < 0)
		return other;
	fds[CONTROL_NATIVE] = TAKE_FD(native);
	fds[CONTROL_DOCKER] = TAKE_FD(other);
	return 0;
}
