/* The channel between the parent and the child: typed packets with at most one descriptor. */
#include "base/fs.h"
#include "driver/container/container-priv.h"

#include <sys/socket.h>
#include <unistd.h>

#define SYNC_MAX 70000 /* the longest seccomp filter, or error message */

int sync_pair(int fds[2]) {
	return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0 ? -errno : 0;
}

int sync_send(int sock, enum sync_type type, int value, const void *data, size_t n, int fd) {
	int head[2] = {(int)type, value};
	struct iovec iov[2] = {{head, sizeof head}, {(void *)data, n}};
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = n ? 2 : 1};
	if (fd >= 0) {
		msg.msg_control = &control;
		msg.msg_controllen = sizeof control;
		struct cmsghdr *h = CMSG_FIRSTHDR(&msg);
		h->cmsg_level = SOL_SOCKET;
		h->cmsg_type = SCM_RIGHTS;
		h->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(h), &fd, sizeof fd);
	}
	ssize_t r = RETRY_EINTR(sendmsg(sock, &msg, MSG_NOSIGNAL));
	return r < 0 ? -errno : 0;
}

int sync_recv(int sock, struct sync_message *m) {
	_cleanup_(free_ptr) char *data = malloc(SYNC_MAX);
	if (!data)
		abort();
	int head[2];
	struct iovec iov[2] = {{head, sizeof head}, {data, SYNC_MAX - 1}};
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2, .msg_control = &control, .msg_controllen = sizeof control};
	*m = (struct sync_message){.fd = -1};
	ssize_t r = RETRY_EINTR(recvmsg(sock, &msg, MSG_CMSG_CLOEXEC));
	/* a peer that ended with something unread resets first; what it had sent, why it ended, comes after that */
	if (r < 0 && errno == ECONNRESET)
		r = RETRY_EINTR(recvmsg(sock, &msg, MSG_CMSG_CLOEXEC));
	if (r < 0)
		return -errno;
	if ((size_t)r < sizeof head)
		return -ECONNRESET;
	struct cmsghdr *h = CMSG_FIRSTHDR(&msg);
	if (h && h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS)
		memcpy(&m->fd, CMSG_DATA(h), sizeof m->fd);
	m->type = (enum sync_type)head[0];
	m->value = head[1];
	m->n = (size_t)r - sizeof head;
	if (m->n) {
		data[m->n] = '\0';
		m->data = TAKE_PTR(data);
	}
	return 0;
}

void sync_message_free(struct sync_message *m) {
	close_fd(&m->fd);
	free(m->data);
	*m = (struct sync_message){.fd = -1};
}

void sync_pack_error(const struct error *err, struct buf *out) {
	buf_addc(out, (char)err->kind);
	const char *text = error_text(err);
	buf_add(out, text, MIN(strlen(text), (size_t)4000));
}

int sync_unpack_error(int errnum, const char *data, size_t n, struct error *err) {
	if (n < 1 || (unsigned char)data[0] >= ERROR_KINDS)
		return error_set(err, ERROR_INTERNAL, "the container's first process sent no sense");
	error_set(err, (enum error_kind)data[0], "%.*s", (int)(n - 1), data + 1);
	if (err)
		err->errnum = errnum;
	return -(int)data[0];
}

void sync_fail(int sock, struct error *err) {
	_cleanup_(buf_free) struct buf packed = BUF_INIT;
	sync_pack_error(err, &packed);
	sync_send(sock, SYNC_ERROR, err->errnum, packed.data, packed.len, -1);
	_exit(125);
}

int sync_error(const struct sync_message *m, struct error *err) {
	return sync_unpack_error(m->value, m->data ? m->data : "", m->n, err);
}

void child_await(struct child *k, enum sync_type type, int index) {
	for (;;) {
		bool have = type == SYNC_CGROUP ? k->has_cgroup : type == SYNC_MAPPED ? k->mapped : type == SYNC_HOOKS ? k->hooks_ran : type == SYNC_SECCOMP ? k->has_filter :
			    type == SYNC_MOUNT ? (index < 0 ? k->root : k->mounts[index]) != -1 : k->released;
		if (have)
			return;
		_cleanup_(sync_message_free) struct sync_message m;
		if (sync_recv(k->sync, &m) < 0)
			_exit(125);
		switch (m.type) {
		case SYNC_CGROUP:
			k->has_cgroup = true;
			break;
		case SYNC_MAPPED:
			k->mapped = true;
			break;
		case SYNC_HOOKS:
			k->hooks_ran = true;
			break;
		case SYNC_RELEASE:
			k->released = true;
			break;
		case SYNC_SECCOMP:
			k->has_filter = true;
			k->filter_flags = (unsigned)m.value;
			k->filter = (struct sock_fprog){.len = (unsigned short)(m.n / sizeof(struct sock_filter)),
							.filter = (struct sock_filter *)TAKE_PTR(m.data)};
			break;
		case SYNC_MOUNT:
			*(m.value < 0 ? &k->root : &k->mounts[m.value]) = m.fd < 0 ? MOUNT_OWN : TAKE_FD(m.fd);
			break;
		default:
			_exit(125);
		}
	}
}
