/* Chunked answers. The writer fills a bounded buffer, libmicrohttpd empties it; each waits for the other.
 * An http_stream is the request itself under another name, with a reference of its own. */
#include "http/http-priv.h"

static struct http_request *request_of(struct http_stream *s) {
	return (struct http_request *)s;
}

static size_t waiting(const struct http_request *req) {
	return req->out.len - req->out_taken;
}

static ssize_t take(struct http_request *req, char *to, size_t max) {
	size_t n = MIN(max, waiting(req));

	memcpy(to, req->out.data + req->out_taken, n);
	req->out_taken += n;
	if (!waiting(req)) {
		buf_truncate(&req->out, 0);
		req->out_taken = 0;
	}
	pthread_cond_broadcast(&req->changed);
	return (ssize_t)n;
}

static ssize_t on_read(void *arg, UNUSED uint64_t position, char *to, size_t max) {
	struct http_request *req = arg;
	ssize_t r = 0;

	pthread_mutex_lock(&req->lock);
	if (waiting(req))
		r = take(req, to, max);
	else if (req->out_ended)
		r = req->out_complete ? MHD_CONTENT_READER_END_OF_STREAM : MHD_CONTENT_READER_END_WITH_ERROR;
	else if (!http_suspend(req))
		r = MHD_CONTENT_READER_END_WITH_ERROR;
	pthread_mutex_unlock(&req->lock);
	if (r < 0)
		MHD_set_connection_option(req->connection, MHD_CONNECTION_OPTION_TIMEOUT, HTTP_IDLE_TIMEOUT);
	return r;
}

static void on_free(void *arg) {
	struct http_request *req = arg;

	pthread_mutex_lock(&req->lock);
	req->done = true;
	pthread_cond_broadcast(&req->changed);
	pthread_mutex_unlock(&req->lock);
	http_request_unref(req);
}

struct http_stream *http_stream_begin(struct http_request *req, int status, const char *content_type) {
	struct MHD_Response *r = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 32 << 10, on_read,
								    http_request_ref(req), on_free);

	if (!r) {
		http_request_unref(req);
		abort(); /* out of memory is the only cause */
	}
	if (content_type)
		MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, content_type);
	req->streams = true;
	http_request_ref(req);
	http_answer(req, status, r);
	return (struct http_stream *)req;
}

static bool cut(const struct http_request *req) {
	return req->done || http_server_stopped(req->server);
}

static int add(struct http_request *req, const void *data, size_t n, bool wait) {
	bool resume;
	int r = 0;

	pthread_mutex_lock(&req->lock);
	while (wait && waiting(req) > HTTP_STREAM_MAX && !cut(req))
		pthread_cond_wait(&req->changed, &req->lock);
	if (cut(req))
		r = -EPIPE;
	else if (waiting(req) > HTTP_STREAM_MAX)
		r = -EAGAIN;
	else
		buf_add(&req->out, data, n);
	resume = !r && req->suspended;
	pthread_mutex_unlock(&req->lock);
	if (resume)
		http_resume(req);
	return r;
}

int http_stream_write(struct http_stream *s, const void *data, size_t n) {
	for (size_t step; n; data = (const char *)data + step, n -= step) {
		int r;

		step = MIN(n, HTTP_STREAM_MAX);
		r = add(request_of(s), data, step, true);
		if (r)
			return r;
	}
	return 0;
}

int http_stream_push(struct http_stream *s, const void *data, size_t n) {
	return add(request_of(s), data, n, false);
}

bool http_stream_gone(struct http_stream *s) {
	return http_client_gone(request_of(s));
}

int http_stream_fd(struct http_stream *s) {
	return http_client_fd(request_of(s));
}

void http_stream_end(struct http_stream *s, bool complete) {
	struct http_request *req = request_of(s);

	pthread_mutex_lock(&req->lock);
	req->out_ended = true;
	req->out_complete = complete;
	if (!complete) {
		buf_truncate(&req->out, 0);
		req->out_taken = 0;
	}
	pthread_mutex_unlock(&req->lock);
	http_resume(req);
	http_request_unref(req);
}
