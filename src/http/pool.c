/* The workers: threads that come when there is work that nobody is free for, up to a bound, and end after
 * some seconds without any. */
#include "http/http-priv.h"

#include "base/time.h"

#include <limits.h>
#include <signal.h>
#include <time.h>

#define IDLE_SECONDS 10

#ifdef __SANITIZE_ADDRESS__
#define STACK_SIZE ((size_t)2 << 20)
#else
#define STACK_SIZE ((size_t)512 << 10)
#endif

struct http_pool {
	pthread_mutex_t lock;
	pthread_cond_t work, changed;
	struct http_request *queue, **queue_end;
	size_t queued, threads, idle, max;
	bool closing;
	void (*fn)(struct http_request *req);
};

void http_cond_init(pthread_cond_t *c) {
	pthread_condattr_t a;

	pthread_condattr_init(&a);
	pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
	pthread_cond_init(c, &a);
	pthread_condattr_destroy(&a);
}

struct timespec http_deadline(int64_t ns) {
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	ns += t.tv_nsec;
	t.tv_sec += ns / NS_PER_SEC;
	t.tv_nsec = ns % NS_PER_SEC;
	return t;
}

int http_thread(pthread_t *out, void *(*fn)(void *arg), void *arg) {
	sigset_t all, before;
	pthread_attr_t a;
	int r;

	sigfillset(&all);
	pthread_attr_init(&a);
	pthread_attr_setstacksize(&a, STACK_SIZE);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(out, &a, fn, arg);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&a);
	return -r;
}

struct http_pool *http_pool_new(size_t max, void (*fn)(struct http_request *req)) {
	struct http_pool *p = NEW(struct http_pool);

	p->max = max;
	p->fn = fn;
	p->queue_end = &p->queue;
	pthread_mutex_init(&p->lock, NULL);
	http_cond_init(&p->work);
	http_cond_init(&p->changed);
	return p;
}

static struct http_request *take(struct http_pool *p) {
	struct http_request *req = p->queue;

	p->queue = req->next_job;
	if (!p->queue)
		p->queue_end = &p->queue;
	p->queued--;
	return req;
}

/* Locked. Waits for work; false when it is time to end. */
static bool wait_for_work(struct http_pool *p) {
	struct timespec until = http_deadline(IDLE_SECONDS * NS_PER_SEC);
	int r = 0;

	p->idle++;
	pthread_cond_broadcast(&p->changed);
	while (!p->queue && !p->closing && r != ETIMEDOUT)
		r = pthread_cond_timedwait(&p->work, &p->lock, &until);
	p->idle--;
	return p->queue != NULL;
}

static void *work(void *arg) {
	struct http_pool *p = arg;

	pthread_mutex_lock(&p->lock);
	while (p->queue || wait_for_work(p)) {
		struct http_request *req = take(p);

		pthread_mutex_unlock(&p->lock);
		p->fn(req);
		pthread_mutex_lock(&p->lock);
	}
	p->threads--;
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

void http_pool_add(struct http_pool *p, struct http_request *req) {
	pthread_t thread;

	pthread_mutex_lock(&p->lock);
	req->next_job = NULL;
	*p->queue_end = req;
	p->queue_end = &req->next_job;
	p->queued++;
	if (p->queued > p->idle && p->threads < p->max && !http_thread(&thread, work, p)) {
		pthread_detach(thread);
		p->threads++;
	}
	pthread_cond_signal(&p->work);
	pthread_mutex_unlock(&p->lock);
}

bool http_pool_idle(struct http_pool *p, int64_t timeout_ns) {
	struct timespec until = http_deadline(timeout_ns);
	bool idle;
	int r = 0;

	pthread_mutex_lock(&p->lock);
	while ((p->queued || p->idle != p->threads) && r != ETIMEDOUT)
		r = pthread_cond_timedwait(&p->changed, &p->lock, &until);
	idle = !p->queued && p->idle == p->threads;
	pthread_mutex_unlock(&p->lock);
	return idle;
}

void http_pool_free(struct http_pool *p) {
	pthread_mutex_lock(&p->lock);
	p->closing = true;
	pthread_cond_broadcast(&p->work);
	while (p->threads)
		pthread_cond_wait(&p->changed, &p->lock);
	pthread_mutex_unlock(&p->lock);
	pthread_cond_destroy(&p->work);
	pthread_cond_destroy(&p->changed);
	pthread_mutex_destroy(&p->lock);
	free(p);
}
