/* Bytes both ways between pairs of sockets, on one thread, whatever the number of pairs. What one side is too
 * slow for waits in a bounded buffer, and then nothing more is read from the other. An end of sending is
 * passed on as such. A pair may have a filter, which makes other bytes of them.
 *
 * Events are edge-triggered: after any event of a pair, both its directions are moved as far as they go. */
#include "http/http-priv.h"

#include "base/fs.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHUNK ((size_t)64 << 10)
#define TURN ((size_t)1 << 20) /* bytes that a pair may move before the others get their turn */

struct flow {
	int from, to;
	struct buf pending; /* read, not yet written: at most CHUNK, and what came early */
	size_t sent;        /* of pending */
	bool ending;        /* nothing more is read: the end is passed on behind what is pending */
	bool over;          /* it was, or nobody takes any more */
};

struct end {
	struct pair *pair;
	int index;
};

struct pair {
	struct flow flows[2];
	struct end ends[2];   /* what epoll gives for flows[i].from */
	struct http_filter filter; /* arg NULL: none */
	bool hung_up[2];      /* flows[i].from is closed at its far end, both ways */
	bool over;
	bool listed;          /* on `again` */
	struct pair *again;   /* those who go on without an event, or are to be freed */
	struct pair *next, **place;
};

struct http_relay {
	pthread_t thread;
	int epoll, wake;
	pthread_mutex_t lock;
	struct pair *pairs;   /* under lock */
	bool closing;         /* under lock */
	char chunk[CHUNK];
};

/* Closing alone does not end the watch: libmicrohttpd may still hold a duplicate for a moment. */
static void pair_free(struct http_relay *r, struct pair *p) {
	for (int i = 0; i < 2; i++) {
		epoll_ctl(r->epoll, EPOLL_CTL_DEL, p->flows[i].from, NULL);
		close(p->flows[i].from);
		buf_free(&p->flows[i].pending);
	}
	if (p->filter.arg)
		p->filter.drop(p->filter.arg);
	free(p);
}

static void flow_over(struct flow *f) {
	buf_free(&f->pending);
	f->sent = 0;
	f->over = true;
}

/* Sends n bytes; gives how many the socket took, or -1 when it takes no more ever. */
static ssize_t send_some(int fd, const char *data, size_t n) {
	size_t done = 0;

	while (done < n) {
		ssize_t r = send(fd, data + done, n - done, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return errno == EAGAIN ? (ssize_t)done : -1;
		done += (size_t)r;
	}
	return (ssize_t)done;
}

/* true when nothing is pending. */
static bool flush(struct flow *f) {
	ssize_t n = send_some(f->to, f->pending.data + f->sent, f->pending.len - f->sent);

	if (n < 0) {
		flow_over(f);
		return false;
	}
	f->sent += (size_t)n;
	if (f->sent < f->pending.len)
		return false;
	buf_free(&f->pending);
	f->sent = 0;
	return true;
}

static void pass_end(struct flow *f) {
	if (!f->ending || f->over || f->pending.len)
		return;
	shutdown(f->to, SHUT_WR);
	flow_over(f);
}

static void pass_on(struct flow *f, const char *data, size_t n) {
	ssize_t sent = send_some(f->to, data, n);

	if (sent < 0)
		flow_over(f);
	else if ((size_t)sent < n)
		buf_add(&f->pending, data + sent, n - (size_t)sent);
}

/* What came in from flows[i].from, n 0 at its end. */
static void filter_bytes(struct pair *p, int i, const char *data, size_t n) {
	struct buf *to_fd = &p->flows[0].pending, *to_client = &p->flows[1].pending;
	int (*turn)(void *, const char *, size_t, struct buf *, struct buf *) = i ? p->filter.from_fd : p->filter.from_client;

	for (int k = 0; k < 2; k++) {
		buf_consume(&p->flows[k].pending, p->flows[k].sent);
		p->flows[k].sent = 0;
	}
	if (turn(p->filter.arg, data, n, to_fd, to_client) < 0)
		p->flows[0].ending = p->flows[1].ending = true;
	for (int k = 0; k < 2; k++) {
		struct flow *f = &p->flows[k];
		if (f->over)
			flow_over(f); /* drops what was added */
		else if (f->pending.len)
			flush(f);
	}
}

/* Does the other side's pending wait for room? Then nothing is read whose answer would be added to it. */
static bool answer_waits(const struct pair *p, int i) {
	const struct flow *other = &p->flows[!i];

	return p->filter.arg && other->pending.len - other->sent > CHUNK;
}

/* Reads once and passes it on; gives the bytes read, 0 when there is nothing to do for now. */
static size_t step(struct http_relay *r, struct pair *p, int i) {
	struct flow *f = &p->flows[i];
	ssize_t n = -1;

	if (f->over || (f->pending.len && !flush(f)) || answer_waits(p, i))
		return 0;
	if (!f->ending)
		n = RETRY_EINTR(recv(f->from, r->chunk, CHUNK, MSG_DONTWAIT));
	if (n < 0 && !f->ending && errno == EAGAIN)
		return 0;
	if (n <= 0 && !f->ending) {
		f->ending = true;
		if (p->filter.arg)
			filter_bytes(p, i, NULL, 0);
	} else if (n > 0 && p->filter.arg) {
		filter_bytes(p, i, r->chunk, (size_t)n);
	} else if (n > 0) {
		pass_on(f, r->chunk, (size_t)n);
	}
	pass_end(f);
	pass_end(&p->flows[!i]);
	return n > 0 ? (size_t)n : 0;
}

/* Moves what goes; true when there is more to do at once. */
static bool pump(struct http_relay *r, struct pair *p) {
	size_t moved = 0;

	for (size_t n = 1; n && moved < TURN; moved += n)
		n = step(r, p, 0) + step(r, p, 1);
	for (int i = 0; i < 2; i++)
		if (p->hung_up[i] && p->flows[i].over) /* nobody will ever read what goes the other way */
			flow_over(&p->flows[!i]);
	return moved >= TURN;
}

static void pair_remove(struct http_relay *r, struct pair *p) {
	pthread_mutex_lock(&r->lock);
	*p->place = p->next;
	if (p->next)
		p->next->place = p->place;
	pthread_mutex_unlock(&r->lock);
	pair_free(r, p);
}

/* Puts the pair on the list when it is over (freed only when no event of this round can name it) or has more. */
static void serve(struct http_relay *r, struct pair *p, struct pair **again) {
	bool more;

	if (p->over)
		return;
	more = pump(r, p);
	p->over = p->flows[0].over && p->flows[1].over;
	if ((p->over || more) && !p->listed) {
		p->listed = true;
		p->again = *again;
		*again = p;
	}
}

/* Frees those that are over, moves the others on. */
static struct pair *serve_again(struct http_relay *r, struct pair *list) {
	struct pair *again = NULL;

	for (struct pair *p = list, *next; p; p = next) {
		next = p->again;
		p->listed = false;
		if (p->over)
			pair_remove(r, p);
		else
			serve(r, p, &again);
	}
	return again;
}

static bool closing(struct http_relay *r) {
	bool yes;

	pthread_mutex_lock(&r->lock);
	yes = r->closing;
	pthread_mutex_unlock(&r->lock);
	return yes;
}

static void *run(void *arg) {
	struct http_relay *r = arg;
	struct epoll_event events[32];
	struct pair *again = NULL;

	while (!closing(r)) {
		int n = epoll_wait(r->epoll, events, ARRAY_SIZE(events), again ? 0 : -1);

		for (int i = 0; i < n; i++) {
			struct end *e = events[i].data.ptr;

			if (!e)
				continue; /* woken to close */
			e->pair->hung_up[e->index] |= (events[i].events & (EPOLLHUP | EPOLLERR)) != 0;
			serve(r, e->pair, &again);
		}
		again = serve_again(r, again);
	}
	return NULL;
}

static void watch(struct http_relay *r, struct pair *p, int i) {
	struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = &p->ends[i]};

	if (epoll_ctl(r->epoll, EPOLL_CTL_ADD, p->flows[i].from, &e))
		shutdown(p->flows[i].from, SHUT_RDWR); /* the other side, where it could be added, sees the end */
}

void http_relay_add(struct http_relay *r, int a, int b, struct buf *early, const struct http_filter *filter) {
	struct pair *p = NEW(struct pair);

	fd_set_nonblock(a, true);
	fd_set_nonblock(b, true);
	p->flows[0] = (struct flow){.from = a, .to = b};
	p->flows[1] = (struct flow){.from = b, .to = a};
	if (filter) {
		p->filter = *filter;
		if (early->len)
			filter_bytes(p, 0, early->data, early->len);
		buf_free(early);
	} else {
		p->flows[0].pending = *early;
	}
	*early = BUF_INIT;
	for (int i = 0; i < 2; i++)
		p->ends[i] = (struct end){p, i};
	pthread_mutex_lock(&r->lock);
	p->next = r->pairs;
	p->place = &r->pairs;
	if (p->next)
		p->next->place = &p->next;
	r->pairs = p;
	/* within the lock: the pair may be over and gone right after its first event */
	watch(r, p, 0);
	watch(r, p, 1);
	pthread_mutex_unlock(&r->lock);
}

struct http_relay *http_relay_new(void) {
	struct http_relay *r = NEW(struct http_relay);
	struct epoll_event e = {.events = EPOLLIN};

	pthread_mutex_init(&r->lock, NULL);
	r->epoll = epoll_create1(EPOLL_CLOEXEC);
	r->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (r->epoll >= 0 && r->wake >= 0 && !epoll_ctl(r->epoll, EPOLL_CTL_ADD, r->wake, &e) &&
	    !http_thread(&r->thread, run, r))
		return r;
	close_fd(&r->epoll);
	close_fd(&r->wake);
	pthread_mutex_destroy(&r->lock);
	free(r);
	return NULL;
}

void http_relay_free(struct http_relay *r) {
	eventfd_t one = 1;

	pthread_mutex_lock(&r->lock);
	r->closing = true;
	pthread_mutex_unlock(&r->lock);
	eventfd_write(r->wake, one);
	pthread_join(r->thread, NULL);
	while (r->pairs) {
		struct pair *p = r->pairs;
		r->pairs = p->next;
		pair_free(r, p);
	}
	close(r->epoll);
	close(r->wake);
	pthread_mutex_destroy(&r->lock);
	free(r);
}
