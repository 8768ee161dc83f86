#include "base/crew.h"

#include <pthread.h>
#include <time.h>

#define STACK_SIZE (512 << 10)
#define IDLE_SECONDS 5

struct job {
	struct job *next;
	void (*fn)(void *arg);
	void *arg;
};

struct crew {
	pthread_mutex_t lock;
	pthread_cond_t work, gone;
	struct job *first, **last;
	size_t max, threads, idle;
	bool closing;
};

struct crew *crew_new(size_t max) {
	struct crew *p = NEW(struct crew);
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->work, NULL);
	pthread_cond_init(&p->gone, NULL);
	p->last = &p->first;
	p->max = max;
	return p;
}

/* The next job, or NULL when this thread shall end. Holds the lock. */
static struct job *next_job(struct crew *p) {
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += IDLE_SECONDS;
	while (!p->first) {
		if (p->closing)
			return NULL;
		p->idle++;
		int r = pthread_cond_timedwait(&p->work, &p->lock, &until);
		p->idle--;
		if (r == ETIMEDOUT && !p->first)
			return NULL;
	}
	struct job *j = p->first;
	p->first = j->next;
	if (!p->first)
		p->last = &p->first;
	return j;
}

static void *crew_thread(void *arg) {
	struct crew *p = arg;
	pthread_mutex_lock(&p->lock);
	struct job *j;
	while ((j = next_job(p))) {
		pthread_mutex_unlock(&p->lock);
		j->fn(j->arg);
		free(j);
		pthread_mutex_lock(&p->lock);
	}
	p->threads--;
	pthread_cond_broadcast(&p->gone);
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

static bool start_thread(struct crew *p) {
	pthread_attr_t attr;
	pthread_t thread;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_SIZE);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	int r = pthread_create(&thread, &attr, crew_thread, p);
	pthread_attr_destroy(&attr);
	return r == 0;
}

void crew_run(struct crew *p, void (*fn)(void *arg), void *arg) {
	struct job *j = NEW(struct job);
	*j = (struct job){.fn = fn, .arg = arg};
	pthread_mutex_lock(&p->lock);
	*p->last = j;
	p->last = &j->next;
	if (p->idle)
		pthread_cond_signal(&p->work);
	else if (p->threads < p->max && start_thread(p))
		p->threads++;
	pthread_mutex_unlock(&p->lock);
}

void crew_free(struct crew *p) {
	if (!p)
		return;
	pthread_mutex_lock(&p->lock);
	p->closing = true;
	pthread_cond_broadcast(&p->work);
	while (p->threads)
		pthread_cond_wait(&p->gone, &p->lock);
	pthread_mutex_unlock(&p->lock);
	pthread_mutex_destroy(&p->lock);
	pthread_cond_destroy(&p->work);
	pthread_cond_destroy(&p->gone);
	free(p);
}
