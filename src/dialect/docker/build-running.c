/* The builds that are under way. */
#include "dialect/docker/build-priv.h"

#include <pthread.h>

static struct build_running *running;
static pthread_mutex_t running_lock = PTHREAD_MUTEX_INITIALIZER;

void build_running_add(struct build_running *r) {
	pthread_mutex_lock(&running_lock);
	r->next = running;
	running = r;
	pthread_mutex_unlock(&running_lock);
}

void build_running_remove(struct build_running *r) {
	pthread_mutex_lock(&running_lock);
	struct build_running **at = &running;
	while (*at != r)
		at = &(*at)->next;
	*at = r->next;
	pthread_mutex_unlock(&running_lock);
}

bool build_running_cancelled(const struct build_running *r) {
	pthread_mutex_lock(&running_lock);
	bool cancelled = r->cancelled;
	pthread_mutex_unlock(&running_lock);
	return cancelled;
}

void build_running_cancel(const char *id) {
	pthread_mutex_lock(&running_lock);
	for (struct build_running *r = running; r; r = r->next)
		if (str_same(r->id, id))
			r->cancelled = true;
	pthread_mutex_unlock(&running_lock);
}
