/* 101 Switching Protocols: the socket leaves libmicrohttpd.
 *
 * libmicrohttpd wants to close its descriptor of an upgraded connection itself, and without TLS does nothing
 * to the socket but that. So the caller gets a duplicate, and libmicrohttpd is told at once that we are done:
 * it forgets the connection, and the duplicate is the only one left.
 *
 * libmicrohttpd gives sockets away behind a 101 alone. For a 200 it sends its 101 into a socket that stands in for the
 * client's, while the client gets its answer from here; what the client sent early comes out of libmicrohttpd as ever. */
#include "http/http-priv.h"

#include "base/fs.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

static void on_upgrade(void *arg, UNUSED struct MHD_Connection *connection, UNUSED void *context, const char *early,
		       size_t n, MHD_socket sock, struct MHD_UpgradeResponseHandle *handle) {
	struct http_request *req = arg;
	int fd;

	pthread_mutex_lock(&req->lock);
	fd = req->hijacked >= 0 ? TAKE_FD(req->hijacked) : fcntl(sock, F_DUPFD_CLOEXEC, 3);
	if (n)
		buf_add(&req->early, early, n);
	if (fd >= 0 && req->relay_to >= 0) {
		http_relay_add(req->server->relay, fd, req->relay_to, &req->early, NULL);
		req->relay_to = -1;
	} else if (fd >= 0) {
		fd_set_nonblock(fd, false);
		req->upgraded = fd;
	}
	req->done = true; /* in case there was no descriptor left, too */
	pthread_cond_broadcast(&req->changed);
	pthread_mutex_unlock(&req->lock);
	MHD_upgrade_action(handle, MHD_UPGRADE_ACTION_CLOSE);
	http_request_unref(req);
}

static void answer_upgrade(struct http_request *req, const char *protocol) {
	struct MHD_Response *r = MHD_create_response_for_upgrade(on_upgrade, http_request_ref(req));

	if (!r)
		abort(); /* out of memory is the only cause */
	MHD_add_response_header(r, MHD_HTTP_HEADER_UPGRADE, protocol);
	http_answer(req, MHD_HTTP_SWITCHING_PROTOCOLS, r);
}

/* While the request is suspended libmicrohttpd neither touches nor watches its socket. */
static bool hijack(struct http_request *req) {
	int pair[2] = {-1, -1};

	pthread_mutex_lock(&req->lock);
	if (req->suspended && !req->done && !socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair))
		req->hijacked = fcntl(req->fd, F_DUPFD_CLOEXEC, 3);
	if (req->hijacked >= 0 && dup3(pair[0], req->fd, O_CLOEXEC) >= 0)
		req->stand_in = TAKE_FD(pair[1]);
	else
		close_fd(&req->hijacked);
	pthread_mutex_unlock(&req->lock);
	close_fd(&pair[0]);
	close_fd(&pair[1]);
	return req->stand_in >= 0;
}

/* A client that is gone shows on its socket soon enough. */
static void send_raw_answer(const struct http_request *req, int fd) {
	_cleanup_(buf_free) struct buf head = BUF_INIT;

	buf_adds(&head, "HTTP/1.1 200 OK\r\n");
	for (size_t i = 0; i < req->extra.n; i++)
		buf_addf(&head, "%s: %s\r\n", req->extra.items[i].name, req->extra.items[i].value);
	buf_adds(&head, "\r\n");
	for (size_t sent = 0; sent < head.len;) {
		ssize_t n = RETRY_EINTR(send(fd, head.data + sent, head.len - sent, MSG_NOSIGNAL));
		if (n < 0)
			return;
		sent += (size_t)n;
	}
}

int http_upgrade(struct http_request *req, const char *protocol, struct buf *early) {
	int fd;

	*early = BUF_INIT;
	if (!protocol && !hijack(req))
		return -1;
	answer_upgrade(req, protocol ? protocol : "raw");
	pthread_mutex_lock(&req->lock);
	while (req->upgraded < 0 && !req->done)
		pthread_cond_wait(&req->changed, &req->lock);
	fd = TAKE_FD(req->upgraded);
	*early = req->early;
	req->early = BUF_INIT;
	pthread_mutex_unlock(&req->lock);
	if (fd >= 0 && !protocol)
		send_raw_answer(req, fd);
	return fd;
}

void http_relay(struct http_request *req, int client, struct buf *early, int fd, const struct http_filter *filter) {
	http_relay_add(req->server->relay, client, fd, early, filter);
}

void http_upgrade_relay(struct http_request *req, const char *protocol, int fd) {
	fd_set_nonblock(fd, true);
	pthread_mutex_lock(&req->lock);
	req->relay_to = fd;
	pthread_mutex_unlock(&req->lock);
	answer_upgrade(req, protocol);
}
