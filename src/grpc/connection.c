/* A connection: the loop between nghttp2 and the socket. */
#include "grpc/grpc-priv.h"

#include "base/fs.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define PIECE ((size_t)64 << 10)
#define OUT_FULL ((size_t)256 << 10)

static int start_session(struct grpc_connection *c) {
	nghttp2_session_callbacks *callbacks = grpc_callbacks();
	nghttp2_option *option = NULL;
	const nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, GRPC_WINDOW},
						   {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, GRPC_CALLS_MAX},
						   {NGHTTP2_SETTINGS_MAX_FRAME_SIZE, PIECE},
						   {NGHTTP2_SETTINGS_ENABLE_PUSH, 0}};
	/* the server's side may not speak of push */
	size_t n = c->methods ? 3 : 4;
	int r = callbacks ? nghttp2_option_new(&option) : NGHTTP2_ERR_NOMEM;
	if (r == 0) {
		nghttp2_option_set_no_auto_window_update(option, 1);
		nghttp2_option_set_max_send_header_block_length(option, 1 << 20);
		r = c->methods ? nghttp2_session_server_new2(&c->session, callbacks, c, option)
			       : nghttp2_session_client_new2(&c->session, callbacks, c, option);
	}
	if (r == 0)
		r = nghttp2_submit_settings(c->session, NGHTTP2_FLAG_NONE, settings, n);
	if (r == 0)
		r = nghttp2_session_set_local_window_size(c->session, NGHTTP2_FLAG_NONE, 0, GRPC_WINDOW * 4);
	nghttp2_option_del(option);
	nghttp2_session_callbacks_del(callbacks);
	return r;
}

static void take_in(struct grpc_connection *c, const void *data, size_t n) {
	if (nghttp2_session_mem_recv(c->session, data, n) < 0)
		c->closing = true;
}

struct grpc_connection *grpc_open(int fd, const struct buf *early, const struct grpc_method *methods, void *context,
				  struct error *err) {
	struct grpc_connection *c = NEW(struct grpc_connection);
	*c = (struct grpc_connection){.refs = 1, .fd = fd, .methods = methods, .context = context};
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->changed, NULL);
	c->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (c->wake < 0 || start_session(c) != 0) {
		error_set(err, ERROR_INTERNAL, "the connection cannot be taken: out of resources");
		grpc_unref(c);
		return NULL;
	}
	if (early && early->len)
		take_in(c, early->data, early->len);
	return c;
}

bool grpc_greeted(struct grpc_connection *c) {
	pthread_mutex_lock(&c->lock);
	while (!c->greeted && !c->ended)
		pthread_cond_wait(&c->changed, &c->lock);
	bool alive = !c->ended;
	pthread_mutex_unlock(&c->lock);
	return alive;
}

struct grpc_connection *grpc_ref(struct grpc_connection *c) {
	__atomic_add_fetch(&c->refs, 1, __ATOMIC_RELAXED);
	return c;
}

void grpc_unref(struct grpc_connection *c) {
	if (!c || __atomic_sub_fetch(&c->refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	nghttp2_session_del(c->session);
	buf_free(&c->out);
	close_fd(&c->fd);
	close_fd(&c->wake);
	pthread_mutex_destroy(&c->lock);
	pthread_cond_destroy(&c->changed);
	free(c);
}

void grpc_wake(struct grpc_connection *c) {
	eventfd_write(c->wake, 1);
}

void grpc_close(struct grpc_connection *c) {
	pthread_mutex_lock(&c->lock);
	c->closing = true;
	pthread_mutex_unlock(&c->lock);
	grpc_wake(c);
}

bool grpc_closed(struct grpc_connection *c) {
	pthread_mutex_lock(&c->lock);
	bool closed = c->closing || c->ended;
	pthread_mutex_unlock(&c->lock);
	return closed;
}

/* ---- the loop; all with the lock ---- */

static bool fill_out(struct grpc_connection *c) {
	while (c->out.len - c->out_taken < OUT_FULL) {
		const uint8_t *data;
		ssize_t n = nghttp2_session_mem_send(c->session, &data);
		if (n < 0)
			return false;
		if (n == 0)
			break;
		buf_add(&c->out, data, (size_t)n);
	}
	return true;
}

/* false: the socket takes no more ever. */
static bool flush_out(struct grpc_connection *c) {
	while (c->out.len > c->out_taken) {
		ssize_t n = send(c->fd, c->out.data + c->out_taken, c->out.len - c->out_taken, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN;
		c->out_taken += (size_t)n;
	}
	buf_truncate(&c->out, 0);
	c->out_taken = 0;
	return true;
}

/* Until the socket takes no more for now, or there is no more. false: the connection is at its end. */
static bool pump(struct grpc_connection *c) {
	do
		if (!fill_out(c) || !flush_out(c))
			return false;
	while (c->out.len == 0 && nghttp2_session_want_write(c->session));
	return c->out.len || nghttp2_session_want_read(c->session) || nghttp2_session_want_write(c->session);
}

static void read_some(struct grpc_connection *c) {
	char piece[PIECE];
	ssize_t n = recv(c->fd, piece, sizeof piece, MSG_DONTWAIT);
	if (n > 0)
		take_in(c, piece, (size_t)n);
	else if (n == 0 || (errno != EAGAIN && errno != EINTR))
		c->closing = true;
}

static void wait_for_more(struct grpc_connection *c, int stop) {
	short events = c->out.len ? POLLIN | POLLOUT : POLLIN;
	struct pollfd p[] = {{c->fd, events, 0}, {c->wake, POLLIN, 0}, {stop, POLLIN, 0}};
	pthread_mutex_unlock(&c->lock);
	int n = RETRY_EINTR(poll(p, ARRAY_SIZE(p), -1));
	pthread_mutex_lock(&c->lock);
	eventfd_t count;
	if (p[1].revents)
		eventfd_read(c->wake, &count);
	if (n < 0 || p[2].revents)
		c->closing = true;
	else if (p[0].revents & ~POLLOUT)
		read_some(c);
}

void grpc_run(struct grpc_connection *c, int stop) {
	pthread_mutex_lock(&c->lock);
	while (!c->closing && pump(c))
		wait_for_more(c, stop);
	c->ended = true;
	nghttp2_session_terminate_session(c->session, NGHTTP2_NO_ERROR);
	pump(c);
	while (c->calls)
		grpc_call_cut(c->calls);
	pthread_cond_broadcast(&c->changed);
	while (c->handlers)
		pthread_cond_wait(&c->changed, &c->lock);
	shutdown(c->fd, SHUT_RDWR);
	pthread_mutex_unlock(&c->lock);
}
