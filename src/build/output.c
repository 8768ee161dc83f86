/* The order of what is shown. */
#include "build/build-priv.h"

#include "base/str.h"

/* How much of the text is whole characters: the rest waits for its bytes, as a stream of JSON cannot have halves. */
static size_t whole(const char *data, size_t n) {
	for (size_t back = 1; back <= 3 && back <= n; back++) {
		unsigned char c = (unsigned char)data[n - back];
		if (c < 0x80)
			return n;
		if (c < 0xc0)
			continue;
		size_t wants = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
		return wants > back ? n - back : n;
	}
	return n;
}

void output_raw(struct output *o, const char *data, size_t n) {
	struct builder *b = o->b;
	if (b->sink->event)
		return;
	pthread_mutex_lock(&b->lock);
	buf_add(&o->partial, data, n);
	size_t ready = whole(buf_str(&o->partial), o->partial.len);
	_cleanup_(free_ptr) char *text = str_copyn(buf_str(&o->partial), ready);
	buf_consume(&o->partial, ready);
	if (!ready)
		; /* the rest of it is to come */
	else if (!o->open)
		buf_add(&o->waiting, text, ready);
	else if (!b->o->quiet)
		b->sink->text(b->sink->arg, text);
	pthread_mutex_unlock(&b->lock);
}

void output_text(struct output *o, const char *fmt, ...) {
	va_list ap;
	va_start(ap, fmt);
	_cleanup_(free_ptr) char *text = str_vformat(fmt, ap);
	va_end(ap);
	output_raw(o, text, strlen(text));
}

void output_command(struct output *o, bool is_error, const char *data, size_t n) {
	if (o->b->sink->event)
		event_says(o->stage, is_error, data, n);
	else
		output_raw(o, data, n);
}
