/* Calls: messages there and back, for threads that wait. */
#include "grpc/grpc-priv.h"

static const struct {
	int code;
	enum error_kind kind;
} codes[] = {
	{GRPC_CANCELLED, ERROR_CANCELLED},     {GRPC_INVALID_ARGUMENT, ERROR_INVALID}, {GRPC_NOT_FOUND, ERROR_NOT_FOUND},
	{GRPC_UNIMPLEMENTED, ERROR_UNSUPPORTED}, {GRPC_UNAVAILABLE, ERROR_UNAVAILABLE}, {GRPC_INTERNAL, ERROR_INTERNAL},
};

static enum error_kind kind_of(int code) {
	for (size_t i = 0; i < ARRAY_SIZE(codes); i++)
		if (codes[i].code == code)
			return codes[i].kind;
	return ERROR_INTERNAL;
}

static int code_of(enum error_kind kind) {
	for (size_t i = 0; i < ARRAY_SIZE(codes); i++)
		if (codes[i].kind == kind && kind != ERROR_INTERNAL)
			return codes[i].code;
	return GRPC_UNKNOWN; /* as Go has an error without a code */
}

/* ---- life ---- */

struct grpc_call *grpc_call_new(struct grpc_connection *c, int32_t id) {
	struct grpc_call *call = NEW(struct grpc_call);
	*call = (struct grpc_call){.connection = grpc_ref(c), .next = c->calls, .id = id, .refs = 1, .status = -1};
	c->calls = call;
	return call;
}

bool grpc_call_unref(struct grpc_call *call) {
	if (--call->refs > 0)
		return false;
	for (size_t i = 0; i < call->n_headers; i++) {
		free(call->headers[i].name);
		free(call->headers[i].value);
	}
	free(call->headers);
	free(call->path);
	free(call->message);
	buf_free(&call->in);
	buf_free(&call->out);
	free(call);
	return true;
}

void grpc_call_cut(struct grpc_call *call) {
	struct grpc_connection *c = call->connection;
	struct grpc_call **at = &c->calls;
	while (*at != call)
		at = &(*at)->next;
	*at = call->next;
	nghttp2_session_set_stream_user_data(c->session, call->id, NULL);
	call->id = -1;
	call->over = true;
	pthread_cond_broadcast(&c->changed);
	if (grpc_call_unref(call))
		grpc_unref(c); /* not the last one: who runs the connection has one */
}

/* Needs the lock. */
static void reset(struct grpc_call *call) {
	nghttp2_submit_rst_stream(call->connection->session, NGHTTP2_FLAG_NONE, call->id, NGHTTP2_CANCEL);
	grpc_wake(call->connection);
}

void grpc_call_free(struct grpc_call *call) {
	if (!call)
		return;
	struct grpc_connection *c = call->connection;
	pthread_mutex_lock(&c->lock);
	if (!call->over)
		reset(call);
	bool last = grpc_call_unref(call);
	pthread_mutex_unlock(&c->lock);
	if (last)
		grpc_unref(c);
}

void grpc_call_give_up(struct grpc_call *call) {
	struct grpc_connection *c = call->connection;
	pthread_mutex_lock(&c->lock);
	if (!call->over && !c->methods) {
		reset(call);
		call->over = true;
		pthread_cond_broadcast(&c->changed);
	}
	pthread_mutex_unlock(&c->lock);
}

bool grpc_call_over(struct grpc_call *call) {
	pthread_mutex_lock(&call->connection->lock);
	bool over = call->over;
	pthread_mutex_unlock(&call->connection->lock);
	return over;
}

const char *grpc_header(const struct grpc_call *call, const char *name) {
	for (size_t i = 0; i < call->n_headers; i++)
		if (str_same(call->headers[i].name, name))
			return call->headers[i].value;
	return NULL;
}

/* ---- sending ---- */

/* In the server's words. */
static int refused(const struct grpc_call *call, struct error *err) {
	return error_set(err, kind_of(call->status), "%s", call->message ? call->message : "failed without a word");
}

/* A server may answer before it has got the question. */
static int cannot(const struct grpc_call *call, struct error *err) {
	if (!call->connection->methods && call->status > 0)
		return refused(call, err);
	return error_set(err, ERROR_UNAVAILABLE, "the other side has ended %s", call->path ? call->path : "the call");
}

static void resume(struct grpc_call *call) {
	if (call->id >= 0 && call->out_deferred) {
		call->out_deferred = false;
		nghttp2_session_resume_data(call->connection->session, call->id);
	}
	grpc_wake(call->connection);
}

int grpc_send(struct grpc_call *call, const void *data, size_t n, struct error *err) {
	struct grpc_connection *c = call->connection;
	const uint8_t prefix[GRPC_PREFIX] = {0, (uint8_t)(n >> 24), (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n};
	int r = 0;
	pthread_mutex_lock(&c->lock);
	while (!call->over && call->out.len - call->out_taken > GRPC_OUT_MAX)
		pthread_cond_wait(&c->changed, &c->lock);
	if (call->over || call->out_ended) {
		r = cannot(call, err);
	} else {
		buf_add(&call->out, prefix, sizeof prefix);
		buf_add(&call->out, data, n);
		resume(call);
	}
	pthread_mutex_unlock(&c->lock);
	return r;
}

void grpc_send_end(struct grpc_call *call) {
	pthread_mutex_lock(&call->connection->lock);
	if (!call->connection->methods) {
		call->out_ended = true;
		resume(call);
	}
	pthread_mutex_unlock(&call->connection->lock);
}

/* ---- receiving; with the lock ---- */

static bool wait_for_bytes(struct grpc_call *call) {
	while (call->in.len == call->in_taken && !call->in_ended && !call->over)
		pthread_cond_wait(&call->connection->changed, &call->connection->lock);
	return call->in.len > call->in_taken;
}

/* false: there are not as many. */
static bool take(struct grpc_call *call, struct buf *to, size_t n) {
	while (n) {
		if (!wait_for_bytes(call))
			return false;
		size_t some = MIN(n, call->in.len - call->in_taken);
		buf_add(to, call->in.data + call->in_taken, some);
		call->in_taken += some;
		n -= some;
		if (call->in_taken == call->in.len) {
			buf_truncate(&call->in, 0);
			call->in_taken = 0;
		}
		if (call->id >= 0) {
			nghttp2_session *session = call->connection->session;
			nghttp2_session_consume_stream(session, call->id, some);
			if (nghttp2_session_want_write(session)) /* the window has opened far enough to say so */
				grpc_wake(call->connection);
		}
	}
	return true;
}

/* After the last message. */
static int outcome(struct grpc_call *call, struct error *err) {
	if (call->connection->methods)
		return call->in_ended ? 0 : cannot(call, err);
	if (call->status == GRPC_OK)
		return 0;
	if (call->status > 0)
		return refused(call, err);
	if (call->http_status && call->http_status != 200)
		return error_set(err, ERROR_UNAVAILABLE, "%s: HTTP status %d", call->path, call->http_status);
	return cannot(call, err);
}

static int receive(struct grpc_call *call, struct buf *message, struct error *err) {
	_cleanup_(buf_free) struct buf prefix = BUF_INIT;
	if (!wait_for_bytes(call))
		return outcome(call, err);
	if (!take(call, &prefix, GRPC_PREFIX))
		return error_set(err, ERROR_CORRUPT, "a message broke off");
	const uint8_t *p = (const uint8_t *)prefix.data;
	size_t n = (size_t)p[1] << 24 | (size_t)p[2] << 16 | (size_t)p[3] << 8 | p[4];
	if (p[0])
		return error_set(err, ERROR_UNSUPPORTED, "a message is compressed, which was not agreed");
	if (n > GRPC_MESSAGE_MAX)
		return error_set(err, ERROR_TOO_LARGE, "a message has %zu bytes, more than %zu", n, GRPC_MESSAGE_MAX);
	return take(call, message, n) ? 1 : error_set(err, ERROR_CORRUPT, "a message broke off");
}

int grpc_receive(struct grpc_call *call, struct buf *message, struct error *err) {
	buf_truncate(message, 0);
	pthread_mutex_lock(&call->connection->lock);
	int r = receive(call, message, err);
	pthread_mutex_unlock(&call->connection->lock);
	return r;
}

/* ---- calls of a client ---- */

static nghttp2_nv pair_of(const char *name, const char *value) {
	return (nghttp2_nv){(uint8_t *)name, (uint8_t *)value, strlen(name), strlen(value), NGHTTP2_NV_FLAG_NONE};
}

struct grpc_call *grpc_call(struct grpc_connection *c, const char *path, const struct grpc_header *headers, size_t n,
			    struct error *err) {
	_cleanup_(free_ptr) nghttp2_nv *pairs = alloc_array(n + 6, sizeof *pairs);
	size_t count = 0;
	pairs[count++] = pair_of(":method", "POST");
	pairs[count++] = pair_of(":scheme", "http");
	pairs[count++] = pair_of(":path", path);
	pairs[count++] = pair_of(":authority", "localhost");
	pairs[count++] = pair_of("content-type", "application/grpc");
	pairs[count++] = pair_of("te", "trailers");
	for (size_t i = 0; i < n; i++)
		pairs[count++] = pair_of(headers[i].name, headers[i].value);
	pthread_mutex_lock(&c->lock);
	struct grpc_call *call = NULL;
	if (!c->ended && !c->closing) {
		call = grpc_call_new(c, -1);
		call->path = str_copy(path);
		nghttp2_data_provider provider = grpc_provider(call);
		call->refs = 2;
		call->id = nghttp2_submit_request(c->session, NULL, pairs, count, &provider, call);
		if (call->id < 0) /* out of numbers */
			grpc_call_cut(call);
	}
	grpc_wake(c);
	pthread_mutex_unlock(&c->lock);
	if (!call)
		error_set(err, ERROR_UNAVAILABLE, "the connection has ended");
	return call;
}

int grpc_ask(struct grpc_connection *c, const char *path, const struct buf *request, struct buf *answer, struct error *err) {
	_cleanup_(grpc_call_free_ptr) struct grpc_call *call = grpc_call(c, path, NULL, 0, err);
	_cleanup_(buf_free) struct buf more = BUF_INIT;
	int r = call ? grpc_send(call, buf_str(request), request->len, err) : -ERROR_UNAVAILABLE;
	if (r < 0)
		return r;
	grpc_send_end(call);
	r = grpc_receive(call, answer, err);
	if (r == 0)
		return error_set(err, ERROR_CORRUPT, "%s: there is no answer", path);
	if (r < 0)
		return r;
	r = grpc_receive(call, &more, err);
	return r > 0 ? error_set(err, ERROR_CORRUPT, "%s: there is more than one answer", path) : r;
}

/* ---- calls of a server ---- */

static grpc_handler handler_of(const struct grpc_call *call) {
	for (const struct grpc_method *m = call->connection->methods; m->path; m++)
		if (str_same(m->path, call->path))
			return m->handler;
	return NULL;
}

static void end_answer(struct grpc_call *call, int status, const char *message) {
	call->status = status;
	call->message = *message ? str_copy(message) : NULL;
	call->out_ended = true;
	resume(call);
}

static void *run_handler(void *arg) {
	struct grpc_call *call = arg;
	struct grpc_connection *c = call->connection;
	_cleanup_(error_free) struct error err = ERROR_INIT;
	int r = handler_of(call)(call, c->context, &err);
	pthread_mutex_lock(&c->lock);
	end_answer(call, r < 0 ? code_of(err.kind) : GRPC_OK, r < 0 ? error_text(&err) : "");
	c->handlers--;
	pthread_cond_broadcast(&c->changed);
	bool last = grpc_call_unref(call);
	pthread_mutex_unlock(&c->lock);
	if (last)
		grpc_unref(c);
	return NULL;
}

static bool start_handler(struct grpc_call *call) {
	pthread_attr_t attr;
	pthread_t thread;
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	bool started = pthread_create(&thread, &attr, run_handler, call) == 0;
	pthread_attr_destroy(&attr);
	return started;
}

void grpc_call_serve(struct grpc_call *call) {
	struct grpc_connection *c = call->connection;
	nghttp2_nv pairs[] = {pair_of(":status", "200"), pair_of("content-type", "application/grpc")};
	nghttp2_data_provider provider = grpc_provider(call);
	if (nghttp2_submit_response(c->session, call->id, pairs, ARRAY_SIZE(pairs), &provider) != 0)
		return;
	if (!handler_of(call)) {
		_cleanup_(free_ptr) char *text = str_format("unknown method %s", call->path ? call->path : "");
		end_answer(call, GRPC_UNIMPLEMENTED, text);
		return;
	}
	call->refs++;
	c->handlers++;
	/* calls that were given up may have handlers still */
	if (c->handlers > GRPC_CALLS_MAX || !start_handler(call)) {
		call->refs--;
		c->handlers--;
		end_answer(call, GRPC_UNAVAILABLE, "out of threads");
	}
}
