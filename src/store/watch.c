/* Watchers: a cursor in the history, and an eventfd that says when to look.
 *
 * A watcher that keeps up is served from memory; one that lies back reads the back end's history without
 * holding up anybody. One that no change has concerned moves along by itself, so that compaction never
 * overtakes it. */
#include "store/store-priv.h"

#include "base/str.h"
#include "base/time.h"

#include <limits.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define REPLAY_CHANGES ((size_t)64)

struct store_watch {
	struct store *store;
	char *prefix;
	int fd;
	/* under the store's lock */
	int64_t next;  /* first revision not looked at */
	bool behind;   /* changes from `next` on may concern it */
	struct store_watch *sibling, **place;
	/* of the one who reads */
	struct store_change *pending;
	size_t first, n, cap;
};

static void signal_fd(int fd) {
	uint64_t one = 1;

	/* can fail only when the counter is full: then it is readable anyway */
	if (RETRY_EINTR(write(fd, &one, sizeof(one))) < 0)
		return;
}

static void clear_fd(int fd) {
	uint64_t count;

	if (RETRY_EINTR(read(fd, &count, sizeof(count))) < 0)
		return; /* was clear */
}

void store_watch_notify(struct store *s, const char *key) {
	for (struct store_watch *w = s->watches; w; w = w->sibling)
		if (!w->behind && str_starts(key, w->prefix)) {
			w->behind = true;
			signal_fd(w->fd);
		}
}

void store_watch_settle(struct store *s) {
	for (struct store_watch *w = s->watches; w; w = w->sibling)
		if (!w->behind)
			w->next = s->revision + 1;
}

int store_error_compacted(struct error *err, int64_t from, int64_t floor) {
	return error_set(err, ERROR_CONFLICT,
			 "the history from revision %lld is gone, the oldest is %lld: list again and watch from there",
			 (long long)from, (long long)floor);
}

static int from_check(const struct store *s, int64_t from, struct error *err) {
	if (from > s->revision + 1)
		return error_set(err, ERROR_CONFLICT, "revision %lld has not come yet, the store is at %lld: list again",
				 (long long)from, (long long)s->revision);
	return from < s->floor ? store_error_compacted(err, from, s->floor) : 0;
}

int store_watch(struct store *s, const char *prefix, int64_t from, struct store_watch **out, struct error *err) {
	struct store_watch *w;
	int r, fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	from = MAX(from, 1);
	if (fd < 0)
		return error_errno(err, errno, "cannot watch %s", prefix);
	pthread_mutex_lock(&s->lock);
	r = from_check(s, from, err);
	if (r) {
		pthread_mutex_unlock(&s->lock);
		close(fd);
		return r;
	}
	w = NEW(struct store_watch);
	w->store = s;
	w->prefix = str_copy(prefix);
	w->fd = fd;
	w->next = from;
	w->behind = from <= s->revision;
	if (w->behind)
		signal_fd(fd);
	w->sibling = s->watches;
	w->place = &s->watches;
	if (w->sibling)
		w->sibling->place = &w->sibling;
	s->watches = w;
	pthread_mutex_unlock(&s->lock);
	*out = w;
	return 0;
}

void store_watch_close(struct store_watch *w) {
	if (!w)
		return;
	pthread_mutex_lock(&w->store->lock);
	*w->place = w->sibling;
	if (w->sibling)
		w->sibling->place = w->place;
	pthread_mutex_unlock(&w->store->lock);
	for (size_t i = 0; i < w->n; i++)
		store_change_free(&w->pending[w->first + i]);
	free(w->pending);
	free(w->prefix);
	close(w->fd);
	free(w);
}

int store_watch_fd(struct store_watch *w) {
	return w->fd;
}

/* ---- fetching ---- */

static void pending_add(void *arg, int64_t revision, const char *key, const char *value) {
	struct store_watch *w = arg;

	if (!str_starts(key, w->prefix))
		return;
	if (w->n == w->cap) {
		w->cap = w->cap ? 2 * w->cap : 8;
		w->pending = alloc_resize(w->pending, w->cap, sizeof(*w->pending));
	}
	w->pending[w->n++] = (struct store_change){
		.revision = revision, .key = str_copy(key), .value = value ? str_copy(value) : NULL};
}

static void fetch_recent(struct store_watch *w) {
	const struct store_recent *r = &w->store->recent;
	size_t low = 0, high = r->n;

	while (low < high) {
		size_t middle = (low + high) / 2;
		if (r->ring[(r->first + middle) % r->cap].revision < w->next)
			low = middle + 1;
		else
			high = middle;
	}
	for (size_t i = low; i < r->n; i++) {
		const struct store_change *c = &r->ring[(r->first + i) % r->cap];

		if (w->n >= REPLAY_CHANGES && c->revision != w->next - 1)
			return;
		pending_add(w, c->revision, c->key, c->value);
		w->next = c->revision + 1;
	}
	w->next = w->store->revision + 1;
}

/* Fills `pending`; 1 when the cursor has moved (perhaps nothing concerned it), 0 when it is at the end. */
static int fetch(struct store_watch *w, struct error *err) {
	struct store *s = w->store;
	int64_t next = 0;
	int r = 0;

	w->first = 0;
	pthread_mutex_lock(&s->lock);
	if (w->next > s->revision) {
		w->behind = false;
	} else if (w->next >= s->recent.floor) {
		fetch_recent(w);
		w->behind = w->next <= s->revision;
		r = 1;
	} else if (w->next < s->floor) {
		r = store_error_compacted(err, w->next, s->floor);
	} else {
		next = w->next;
	}
	pthread_mutex_unlock(&s->lock);
	if (!next)
		return r;
	r = s->backend->replay(s, next, REPLAY_CHANGES, pending_add, w, &next, err);
	if (r)
		return r;
	pthread_mutex_lock(&s->lock);
	w->next = next; /* nobody else moves it while `behind` is set */
	pthread_mutex_unlock(&s->lock);
	return 1;
}

static int fetch_all(struct store_watch *w, struct error *err) {
	int r;

	clear_fd(w->fd);
	do
		r = fetch(w, err);
	while (r > 0 && !w->n);
	if (r)
		signal_fd(w->fd);
	return r;
}

/* 1 readable, 0 too late, or an error. */
static int wait_fd(int fd, int64_t deadline, struct error *err) {
	struct pollfd p = {.fd = fd, .events = POLLIN};
	int r, ms = -1;

	if (deadline >= 0) {
		int64_t left = deadline - time_mono_ns();
		if (left <= 0)
			return 0;
		ms = (int)MIN((left + NS_PER_MS - 1) / NS_PER_MS, (int64_t)INT_MAX);
	}
	r = poll(&p, 1, ms);
	if (r < 0 && errno != EINTR)
		return error_errno(err, errno, "cannot wait for changes");
	return 1; /* also after EINTR or too early an end: the caller looks again */
}

int store_watch_next(struct store_watch *w, int64_t timeout_ns, struct store_change *out, struct error *err) {
	int64_t deadline = timeout_ns < 0 ? -1 : time_mono_ns() + timeout_ns;
	int r;

	*out = (struct store_change){0};
	while (!w->n) {
		r = fetch_all(w, err);
		if (r > 0)
			break;
		if (r < 0 || !timeout_ns)
			return r;
		r = wait_fd(w->fd, deadline, err);
		if (r <= 0)
			return r;
	}
	*out = w->pending[w->first++];
	w->n--;
	return 1;
}
