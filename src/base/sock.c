/* Unix sockets, and descriptors sent over them (declared in base/fs.h). */
#include "base/fs.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static int unix_address(const char *path, struct sockaddr_un *a) {
	*a = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof a->sun_path)
		return -ENAMETOOLONG;
	memcpy(a->sun_path, path, strlen(path) + 1);
	return 0;
}

int sock_connect_unix(const char *path) {
	struct sockaddr_un address;
	int r = unix_address(path, &address);
	if (r < 0)
		return r;
	_cleanup_(close_fd) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (RETRY_EINTR(connect(fd, (struct sockaddr *)&address, sizeof address)) < 0)
		return -errno;
	return TAKE_FD(fd);
}

int sock_connect_now(const char *path) {
	struct sockaddr_un address;
	int r = unix_address(path, &address);
	if (r < 0)
		return r;
	_cleanup_(close_fd) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
		return -errno;
	return TAKE_FD(fd);
}

int sock_listen_unix(const char *path, mode_t mode) {
	struct sockaddr_un address;
	int r = unix_address(path, &address);
	if (r < 0)
		return r;
	int other = sock_connect_unix(path);
	if (other >= 0) {
		close(other);
		return -EADDRINUSE;
	}
	if (other == -ECONNREFUSED)
		unlink(path);
	_cleanup_(close_fd) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	mode_t old = umask(0777); /* nobody connects before the mode is right */
	r = bind(fd, (struct sockaddr *)&address, sizeof address) < 0 ? -errno : 0;
	umask(old);
	if (r < 0)
		return r;
	if (chmod(path, mode) < 0 || listen(fd, SOMAXCONN) < 0)
		return -errno;
	return TAKE_FD(fd);
}

int sock_send_fds(int sock, const void *data, size_t n, const int *fds, size_t nfds) {
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(16 * sizeof(int))];
	} control = {0};
	if (nfds > 16)
		return -EINVAL;
	const char *p = data;
	while (n) {
		struct iovec iov = {(void *)p, n};
		struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
		if (nfds) {
			msg.msg_control = control.bytes;
			msg.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
			struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
			c->cmsg_level = SOL_SOCKET;
			c->cmsg_type = SCM_RIGHTS;
			c->cmsg_len = CMSG_LEN(nfds * sizeof(int));
			memcpy(CMSG_DATA(c), fds, nfds * sizeof(int));
		}
		ssize_t sent = sendmsg(sock, &msg, MSG_NOSIGNAL);
		if (sent < 0 && errno == EAGAIN) {
			struct pollfd pfd = {sock, POLLOUT, 0};
			poll(&pfd, 1, -1);
			continue;
		}
		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0)
			return -errno;
		nfds = 0;
		p += sent;
		n -= (size_t)sent;
	}
	return 0;
}

ssize_t sock_recv_fds(int sock, void *data, size_t max, int *fds, size_t nmax, size_t *nfds) {
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(16 * sizeof(int))];
	} control;
	struct iovec iov = {data, max};
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof control.bytes,
	};
	*nfds = 0;
	ssize_t n = RETRY_EINTR(recvmsg(sock, &msg, MSG_CMSG_CLOEXEC));
	if (n < 0)
		return -errno;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof fd);
			if (*nfds < nmax)
				fds[(*nfds)++] = fd;
			else
				close(fd);
		}
	}
	return n;
}
