/* What nghttp2 calls when frames come, and when it wants what is to be sent. All of it with the connection's lock. */
#include "grpc/grpc-priv.h"

#include <stdio.h>

static struct grpc_call *call_of(nghttp2_session *session, int32_t id) {
	return nghttp2_session_get_stream_user_data(session, id);
}

/* ---- headers ---- */

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *arg) {
	struct grpc_connection *c = arg;
	if (c->methods && frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST)
		nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, grpc_call_new(c, frame->hd.stream_id));
	return 0;
}

/* "%41" is "A": gRPC has its messages so. */
static char *unescape(const char *text) {
	char *out = str_copy(text), *to = out;
	for (const char *at = text; *at; at++) {
		unsigned int byte;
		if (*at == '%' && sscanf(at + 1, "%2x", &byte) == 1 && at[1] && at[2]) {
			*to++ = (char)byte;
			at += 2;
		} else {
			*to++ = *at;
		}
	}
	*to = '\0';
	return out;
}

static void keep_header(struct grpc_call *call, const char *name, const char *value) {
	if (call->n_headers >= GRPC_HEADERS_MAX)
		return;
	call->headers = alloc_resize(call->headers, call->n_headers + 1, sizeof *call->headers);
	call->headers[call->n_headers++] = (struct grpc_text_pair){str_copy(name), str_copy(value)};
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, UNUSED size_t name_len,
		     const uint8_t *value, UNUSED size_t value_len, UNUSED uint8_t flags, void *arg) {
	struct grpc_connection *c = arg;
	struct grpc_call *call = call_of(session, frame->hd.stream_id);
	const char *key = (const char *)name, *text = (const char *)value; /* nghttp2 ends both with a NUL */
	uint64_t number;
	if (!call)
		return 0;
	if (c->methods) {
		if (str_same(key, ":path") && !call->path)
			call->path = str_copy(text);
		else if (*key != ':')
			keep_header(call, key, text);
	} else if (str_same(key, ":status")) {
		call->http_status = str_to_u64(text, 10, &number) == 0 && number < 1000 ? (int)number : 0;
	} else if (str_same(key, "grpc-status")) {
		call->status = str_to_u64(text, 10, &number) == 0 && number < 1000 ? (int)number : GRPC_UNKNOWN;
	} else if (str_same(key, "grpc-message")) {
		free(call->message);
		call->message = unescape(text);
	}
	return 0;
}

/* ---- what came whole ---- */

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *arg) {
	struct grpc_connection *c = arg;
	struct grpc_call *call = frame->hd.stream_id ? call_of(session, frame->hd.stream_id) : NULL;
	if (frame->hd.type == NGHTTP2_SETTINGS && !c->greeted) {
		c->greeted = true;
		pthread_cond_broadcast(&c->changed);
	}
	if (!call || (frame->hd.type != NGHTTP2_DATA && frame->hd.type != NGHTTP2_HEADERS))
		return 0;
	if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)
		call->in_ended = true;
	if (c->methods && frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST)
		grpc_call_serve(call);
	pthread_cond_broadcast(&c->changed);
	return 0;
}

/* The call's own window opens when its reader takes the bytes, the connection's at once: a call that nobody reads does not
 * hold up others. */
static int on_data(nghttp2_session *session, UNUSED uint8_t flags, int32_t id, const uint8_t *data, size_t n, void *arg) {
	struct grpc_connection *c = arg;
	struct grpc_call *call = call_of(session, id);
	nghttp2_session_consume_connection(session, n);
	if (call) {
		buf_add(&call->in, data, n);
		pthread_cond_broadcast(&c->changed);
	} else {
		nghttp2_session_consume_stream(session, id, n);
	}
	return 0;
}

static int on_close(nghttp2_session *session, int32_t id, UNUSED uint32_t code, UNUSED void *arg) {
	struct grpc_call *call = call_of(session, id);
	if (call)
		grpc_call_cut(call);
	return 0;
}

/* A call that comes after the other side has said that it takes no more. */
static int on_not_sent(nghttp2_session *session, const nghttp2_frame *frame, UNUSED int why, UNUSED void *arg) {
	if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
		return 0;
	return on_close(session, frame->hd.stream_id, 0, NULL);
}

nghttp2_session_callbacks *grpc_callbacks(void) {
	nghttp2_session_callbacks *all;
	if (nghttp2_session_callbacks_new(&all) != 0)
		return NULL;
	nghttp2_session_callbacks_set_on_begin_headers_callback(all, on_begin_headers);
	nghttp2_session_callbacks_set_on_header_callback(all, on_header);
	nghttp2_session_callbacks_set_on_frame_recv_callback(all, on_frame);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(all, on_data);
	nghttp2_session_callbacks_set_on_stream_close_callback(all, on_close);
	nghttp2_session_callbacks_set_on_frame_not_send_callback(all, on_not_sent);
	return all;
}

/* ---- what is sent ---- */

/* Only what cannot stand in a header is escaped. */
static char *escape(const char *text) {
	struct buf out = BUF_INIT;
	for (const unsigned char *at = (const unsigned char *)text; *at; at++)
		if (*at >= ' ' && *at <= '~' && *at != '%')
			buf_addc(&out, (char)*at);
		else
			buf_addf(&out, "%%%02X", *at);
	buf_adds(&out, "");
	return buf_steal(&out);
}

static int submit_status(nghttp2_session *session, struct grpc_call *call) {
	char number[16];
	_cleanup_(free_ptr) char *message = escape(call->message ? call->message : "");
	snprintf(number, sizeof number, "%d", call->status);
	nghttp2_nv pairs[] = {
		{(uint8_t *)"grpc-status", (uint8_t *)number, strlen("grpc-status"), strlen(number), NGHTTP2_NV_FLAG_NONE},
		{(uint8_t *)"grpc-message", (uint8_t *)message, strlen("grpc-message"), strlen(message), NGHTTP2_NV_FLAG_NONE},
	};
	return nghttp2_submit_trailer(session, call->id, pairs, *message ? 2 : 1);
}

static ssize_t on_send(nghttp2_session *session, UNUSED int32_t id, uint8_t *to, size_t max, uint32_t *flags,
		       nghttp2_data_source *source, void *arg) {
	struct grpc_connection *c = arg;
	struct grpc_call *call = source->ptr;
	size_t n = MIN(max, call->out.len - call->out_taken);
	if (n)
		memcpy(to, call->out.data + call->out_taken, n);
	call->out_taken += n;
	if (call->out_taken < call->out.len)
		return (ssize_t)n;
	buf_truncate(&call->out, 0);
	call->out_taken = 0;
	pthread_cond_broadcast(&c->changed);
	if (call->out_ended) {
		*flags |= NGHTTP2_DATA_FLAG_EOF;
		if (c->methods) {
			*flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
			if (submit_status(session, call) != 0)
				return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
		}
		return (ssize_t)n;
	}
	if (n)
		return (ssize_t)n;
	call->out_deferred = true;
	return NGHTTP2_ERR_DEFERRED;
}

nghttp2_data_provider grpc_provider(struct grpc_call *call) {
	return (nghttp2_data_provider){.source.ptr = call, .read_callback = on_send};
}
