/* 101 Switching Protocols: the socket leaves libmicrohttpd.
 *
 * libmicrohttpd wants to close its descriptor of an upgraded connection itself, and without TLS does nothing
 * to the socket but that. So the caller gets a duplicate, and libmicrohttpd is told at once that we are done:
 * it forgets the connection, and the duplicate is the only one left. */
#include "http/http-priv.h"

#include "base/fs.h"

#include <fcntl.h>
#include <unistd.h>

static void on_upgrade(void *arg, UNUSED struct MHD_Connection *connection, UNUSED void *context, const char *early,
		       size_t n, MHD_socket sock, struct MHD_UpgradeResponseHandle *handle) {
	struct http_request *req = arg;
	int fd = fcntl(sock, F_DUPFD_CLOEXEC, 3);

	pthread_mutex_lock(&req->lock);
	if (n)
		buf_add(&req->early, early, n);
	if (fd >= 0 && req->relay_to >= 0) {
		http_relay_add(req->server->relay, fd, req->relay_to, &req->early);
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

int http_upgrade(struct http_request *req, const char *protocol, struct buf *early) {
	int fd;

	answer_upgrade(req, protocol);
	pthread_mutex_lock(&req->lock);
	while (req->upgraded < 0 && !req->done)
		pthread_cond_wait(&req->changed, &req->lock);
	fd = TAKE_FD(req->upgraded);
	*early = req->early;
	req->early = BUF_INIT;
	pthread_mutex_unlock(&req->lock);
	return fd;
}

void http_upgrade_relay(struct http_request *req, const char *protocol, int fd) {
	fd_set_nonblock(fd, true);
	pthread_mutex_lock(&req->lock);
	req->relay_to = fd;
	pthread_mutex_unlock(&req->lock);
	answer_upgrade(req, protocol);
}
