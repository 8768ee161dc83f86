/* Events: a ring in memory of the newest, batches in the store for the older ones, and followers. */
#include "core/core-priv.h"

#include "base/log.h"
#include "base/str.h"
#include "base/time.h"

#include <inttypes.h>
#include <limits.h>

#define CHUNK_BYTES (256 << 10)
#define RESTART_GAP 2048 /* more than could have been given out and not written */
#define KEY_MAX 64
#define LOOK_OFTEN (6 * NS_PER_SEC) /* who ends sooner than followers are looked after anyway */

static void chunk_key(int64_t first, char out[KEY_MAX]) {
	snprintf(out, KEY_MAX, "events/%016" PRId64, first);
}

static struct event_item *item_ref(struct event_item *i) {
	__atomic_add_fetch(&i->refs, 1, __ATOMIC_RELAXED);
	return i;
}

static void item_unref(struct event_item *i) {
	if (!i || __atomic_sub_fetch(&i->refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	fields_free(&event_table, &i->event);
	free(i->json);
	free(i);
}

static struct event_item *item_new(const struct event *e) {
	struct event_item *i = NEW(struct event_item);
	i->refs = 1;
	fields_copy(&event_table, e, &i->event);
	_cleanup_(json_free_ptr) json_t *json = fields_print(&event_table, e);
	i->json = json_print(json);
	i->len = strlen(i->json);
	return i;
}

static int64_t unsaved(const struct events *v) {
	return v->revision - v->saved;
}

/* The labels of what the event is about; shared with its owner. */
static struct pairs labels_of(struct core *c, const char *type, const char *id) {
	const struct entry *e = id && str_same(type, "instance") ? map_get(c->by_id, id) : NULL;
	const struct image_entry *image = id && str_same(type, "image") ? map_get(c->images, id) : NULL;
	if (e)
		return e->snap->instance.spec.labels;
	return image ? image->snap->image.config.labels : (struct pairs){0};
}

void event_add(struct core *c, const char *type, const char *action, const char *project, const char *id,
	       const char *name, ...) {
	struct events *v = &c->events;
	struct event e = {
		.revision = v->revision + 1,
		.time = time_now_ns(),
		.type = (char *)type,
		.action = (char *)action,
		.project = (char *)project,
		.id = (char *)id,
		.name = (char *)name,
		.labels = labels_of(c, type, id),
	};
	va_list ap;
	va_start(ap, name);
	for (const char *key; (key = va_arg(ap, const char *));)
		pairs_set(&e.attributes, key, va_arg(ap, const char *));
	va_end(ap);
	struct event_item **slot = &v->ring[e.revision % EVENTS_IN_MEMORY];
	item_unref(*slot);
	*slot = item_new(&e);
	pairs_free(&e.attributes);
	v->revision = e.revision;
	v->ring_first = MAX(v->ring_first, v->revision - EVENTS_IN_MEMORY + 1);
	if (unsaved(v) == 1 || unsaved(v) == EVENTS_IN_MEMORY / 4)
		pthread_cond_signal(&c->flush_wanted);
	follow_wake(c->follow);
}

int64_t events_revision(struct core *c) {
	WITH_LOCK(c);
	return c->events.revision;
}

/* ---- the store ---- */

/* The events that wait to be written, as lines; *last: the newest of them. Needs the lock. */
static size_t pending_text(struct events *v, struct buf *text, int64_t *first, int64_t *last) {
	size_t n = 0;
	*first = MAX(v->saved + 1, v->ring_first);
	for (*last = *first - 1; *last < v->revision && text->len < CHUNK_BYTES; (*last)++, n++) {
		struct event_item *i = v->ring[(*last + 1) % EVENTS_IN_MEMORY];
		buf_add(text, i->json, i->len);
		buf_addc(text, '\n');
	}
	return n;
}

static void chunk_append(struct events *v, int64_t first, size_t n) {
	v->chunks = alloc_resize(v->chunks, v->n_chunks + 1, sizeof *v->chunks);
	v->chunks[v->n_chunks++] = (struct event_chunk){first, n};
	v->n_stored += n;
}

static void chunks_drop(struct events *v, size_t n) {
	for (size_t i = 0; i < n; i++)
		v->n_stored -= v->chunks[i].n;
	v->n_chunks -= n;
	memmove(v->chunks, v->chunks + n, v->n_chunks * sizeof *v->chunks);
	if (n && v->n_chunks)
		v->oldest = v->chunks[0].first;
}

/* How many of the oldest batches are beyond what is kept. */
static size_t chunks_too_many(const struct events *v, size_t max) {
	size_t n = 0, stored = v->n_stored;
	while (n < max && n + 1 < v->n_chunks && stored - v->chunks[n].n >= EVENTS_KEPT)
		stored -= v->chunks[n++].n;
	return n;
}

#define DROPS_MAX 16
static int txn_with_events(struct core *c, const struct store_op *ops, size_t n, struct error *err) {
	struct events *v = &c->events;
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	char keys[DROPS_MAX + 1][KEY_MAX];
	int64_t first, last;
	core_lock(c);
	size_t added = pending_text(v, &text, &first, &last);
	size_t drops = chunks_too_many(v, DROPS_MAX);
	for (size_t i = 0; i < drops; i++)
		chunk_key(v->chunks[i].first, keys[i]);
	core_unlock(c);
	if (!added && !n)
		return 0;

	_cleanup_(free_ptr) struct store_op *all = alloc_array(n + drops + 1, sizeof *all);
	size_t count = 0;
	for (; count < n; count++)
		all[count] = ops[count];
	for (size_t i = 0; i < drops; i++)
		all[count++] = (struct store_op){STORE_DELETE, keys[i], NULL, STORE_ANY};
	if (added) {
		chunk_key(first, keys[DROPS_MAX]);
		all[count++] = (struct store_op){STORE_PUT, keys[DROPS_MAX], buf_str(&text), STORE_ANY};
	}
	int r = store_txn(c->store, all, count, NULL, err);
	if (r < 0)
		return r;
	WITH_LOCK(c);
	chunks_drop(v, drops);
	if (added) {
		chunk_append(v, first, added);
		v->saved = last;
	}
	return 0;
}

/* Whoever comes while another writes events does not wait for it: writers shall share an fsync. */
int events_txn(struct core *c, const struct store_op *ops, size_t n, struct error *err) {
	if (pthread_mutex_trylock(&c->flush_lock) != 0)
		return store_txn(c->store, ops, n, NULL, err);
	int r = txn_with_events(c, ops, n, err);
	pthread_mutex_unlock(&c->flush_lock);
	return r;
}

int events_flush(struct core *c, struct error *err) {
	pthread_mutex_lock(&c->flush_lock);
	int r = txn_with_events(c, NULL, 0, err);
	pthread_mutex_unlock(&c->flush_lock);
	return r;
}

static size_t count_lines(const char *text) {
	size_t n = 0;
	for (; *text; text++)
		n += *text == '\n';
	return n;
}

static int64_t last_revision(const char *text, int64_t first) {
	size_t len = strlen(text);
	while (len && text[len - 1] == '\n')
		len--;
	size_t start = len;
	while (start && text[start - 1] != '\n')
		start--;
	_cleanup_(json_free_ptr) json_t *json = len ? json_parse(text + start, len - start, NULL) : NULL;
	return json ? MAX(json_get_int(json, "revision"), first) : first;
}

int events_load(struct core *c, struct error *err) {
	struct events *v = &c->events;
	_cleanup_(store_items_free) struct store_items list = {0};
	int r = store_list(c->store, "events/", &list, err);
	if (r < 0)
		return r;
	v->oldest = 1;
	if (list.n == 0) {
		/* marks that revisions have been given */
		char key[KEY_MAX];
		chunk_key(0, key);
		chunk_append(v, 0, 0);
		r = store_put(c->store, key, "\n", STORE_ANY, NULL, err);
		v->ring_first = 1;
		return r;
	}
	for (size_t i = 0; i < list.n; i++) {
		int64_t first = strtoll(list.items[i].key + strlen("events/"), NULL, 10);
		chunk_append(v, first, count_lines(list.items[i].value));
		v->revision = last_revision(list.items[i].value, first);
	}
	v->oldest = MAX(v->chunks[0].first, 1);
	v->revision += RESTART_GAP;
	v->saved = v->revision;
	v->ring_first = v->revision + 1;
	return 0;
}

void events_free(struct core *c) {
	for (size_t i = 0; i < EVENTS_IN_MEMORY; i++)
		item_unref(c->events.ring[i]);
	free(c->events.chunks);
}

/* ---- followers ---- */

struct event_follower {
	struct follower base;
	struct core *core;
	struct event_sink sink;
	int64_t next, last; /* last: ends behind it */
	int64_t since, until;
	char *project, *type, *instance;
	int64_t ring_from;           /* where the ring began when the history was read */
	struct event_item **history; /* of the store, older than that */
	size_t n_history, at_history;
};

static bool passes(const struct event_follower *f, const struct event *e) {
	if (e->revision < f->next || e->revision > f->last)
		return false;
	if ((f->since && e->time < f->since) || (f->until && e->time > f->until))
		return false;
	if (f->project && !str_same(f->project, e->project))
		return false;
	if (f->type && !str_same(f->type, e->type))
		return false;
	if (!f->instance)
		return true;
	return str_same(e->type, "instance") && (str_same(f->instance, e->id) || str_same(f->instance, e->name));
}

/* 0, or what the sink says. */
static int offer(struct event_follower *f, struct event_item *i) {
	if (!passes(f, &i->event))
		return 0;
	return f->sink.event(f->sink.arg, &i->event, i->json, i->len);
}

static int offer_history(struct event_follower *f) {
	for (; f->at_history < f->n_history; f->at_history++) {
		struct event_item *i = f->history[f->at_history];
		int r = offer(f, i);
		if (r < 0)
			return r;
		f->next = MAX(f->next, i->event.revision + 1);
	}
	f->next = MAX(f->next, f->ring_from);
	return 0;
}

#define BATCH 64
/* 1: there is more, 0: all was offered. -ESTALE: the ring has moved on past what was not offered yet. */
static int offer_ring(struct event_follower *f) {
	struct events *v = &f->core->events;
	struct event_item *items[BATCH];
	size_t n = 0;
	core_lock(f->core);
	bool stale = f->next < v->ring_first;
	for (int64_t at = f->next; !stale && at <= v->revision && n < BATCH; at++)
		items[n++] = item_ref(v->ring[at % EVENTS_IN_MEMORY]);
	core_unlock(f->core);
	int r = stale ? -ESTALE : n == BATCH;
	for (size_t i = 0; i < n; i++) {
		if (r >= 0) {
			int offered = offer(f, items[i]);
			if (offered < 0)
				r = offered;
			else
				f->next = items[i]->event.revision + 1;
		}
		item_unref(items[i]);
	}
	return r;
}

static enum follow_result event_step(struct follower *base) {
	struct event_follower *f = (struct event_follower *)base;
	if (f->sink.gone(f->sink.arg))
		return FOLLOW_END;
	int r = offer_history(f);
	while (r >= 0 && (r = offer_ring(f)) > 0)
		;
	if (r == -EAGAIN)
		return FOLLOW_SOON;
	if (r < 0 || f->next > f->last)
		return FOLLOW_END;
	if (f->last == INT64_MAX && f->until) {
		int64_t left = f->until - time_now_ns();
		return left < 0 ? FOLLOW_END : left < LOOK_OFTEN ? FOLLOW_SOON : FOLLOW_WAIT;
	}
	if (f->last == INT64_MAX)
		return FOLLOW_WAIT;
	core_lock(f->core);
	bool past = f->core->events.revision >= f->last;
	core_unlock(f->core);
	return past ? FOLLOW_END : FOLLOW_WAIT;
}

static void event_follower_free(struct event_follower *f) {
	for (size_t i = 0; i < f->n_history; i++)
		item_unref(f->history[i]);
	free(f->history);
	free(f->project);
	free(f->type);
	free(f->instance);
	free(f);
}

static void event_drop(struct follower *base, bool ended) {
	struct event_follower *f = (struct event_follower *)base;
	f->sink.end(f->sink.arg, ended);
	event_follower_free(f);
}

static int load_history(struct event_follower *f, int64_t before, struct error *err) {
	_cleanup_(store_items_free) struct store_items list = {0};
	int r = store_list(f->core->store, "events/", &list, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < list.n; i++) {
		struct str rest = str_view(list.items[i].value);
		while (rest.len) {
			struct str line = str_cut(&rest, '\n');
			_cleanup_(json_free_ptr) json_t *json = line.len ? json_parse(line.p, line.len, NULL) : NULL;
			int64_t revision = json ? json_get_int(json, "revision") : 0;
			struct event e;
			if (revision < f->next || revision >= before)
				continue;
			if (fields_parse(&event_table, json, FIELDS_TRUSTED, &e, NULL) < 0)
				continue;
			f->history = alloc_resize(f->history, f->n_history + 1, sizeof *f->history);
			f->history[f->n_history++] = item_new(&e);
			fields_free(&event_table, &e);
		}
	}
	return 0;
}

int events_follow(struct core *c, const struct event_filter *filter, bool follow, const struct event_sink *sink,
		  struct error *err) {
	struct events *v = &c->events;
	if (filter->project && core_project_check(c, filter->project, err) < 0)
		return -(int)err->kind;
	core_lock(c);
	int64_t oldest = v->oldest, ring_first = v->ring_first, revision = v->revision;
	core_unlock(c);
	int64_t from = filter->from;
	if (from > 0 && from < oldest)
		return error_set(err, ERROR_CONFLICT,
				 "events before revision %" PRId64 " are gone; list the objects again and go on from there",
				 oldest);
	if (from <= 0)
		from = filter->since || !follow ? oldest : revision + 1;

	struct event_follower *f = NEW(struct event_follower);
	*f = (struct event_follower){
		.base = {.step = event_step, .drop = event_drop},
		.core = c,
		.sink = *sink,
		.next = from,
		.ring_from = ring_first,
		.last = follow ? INT64_MAX : revision,
		.since = filter->since,
		.until = filter->until,
		.project = copy_or_null(filter->project),
		.type = copy_or_null(filter->type),
		.instance = copy_or_null(filter->instance),
	};
	if (from < ring_first) {
		int r = load_history(f, ring_first, err);
		if (r < 0) {
			event_follower_free(f);
			return r;
		}
	}
	sink->begin(sink->arg);
	follow_add(c->follow, &f->base);
	return 0;
}
