/* BuildKit's sessions: connections on which the client answers, by the id that it gave. */
#include "dialect/docker/buildkit-priv.h"

#include <pthread.h>
#include <time.h>

#define SESSIONS_MAX 128
#define WAIT_SECONDS 10 /* a client opens its session and asks for the build at the same time */

struct session {
	struct session *next;
	const char *id, *shared;
	struct grpc_connection *connection;
};
static struct session *sessions;
static size_t n_sessions;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

static struct session *find(const char *id) {
	struct session *s = sessions;
	while (s && !str_same(s->id, id))
		s = s->next;
	return s;
}

static int add(struct session *s, struct error *err) {
	int r = 0;
	pthread_mutex_lock(&lock);
	if (find(s->id)) {
		r = error_set(err, ERROR_EXISTS, "session %s already exists", s->id);
	} else if (n_sessions >= SESSIONS_MAX) {
		r = error_set(err, ERROR_UNAVAILABLE, "there are %d sessions, more are not served at a time", SESSIONS_MAX);
	} else {
		s->next = sessions;
		sessions = s;
		n_sessions++;
	}
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
	return r;
}

static void take_away(struct session *s) {
	pthread_mutex_lock(&lock);
	struct session **at = &sessions;
	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
	n_sessions--;
	pthread_mutex_unlock(&lock);
}

int bk_session_run(const char *id, const char *shared, int fd, const struct buf *early, int stop, struct error *err) {
	_cleanup_(grpc_unref_ptr) struct grpc_connection *c = grpc_open(fd, early, NULL, NULL, err);
	if (!c)
		return -ERROR_INTERNAL;
	struct session s = {.id = id, .shared = shared, .connection = c};
	int r = add(&s, err);
	if (r < 0)
		return r;
	grpc_run(c, stop);
	take_away(&s);
	return 0;
}

int bk_session_find(const char *id, bool (*gone)(void *arg), void *arg, struct grpc_connection **out, struct error *err) {
	struct session *s;
	pthread_mutex_lock(&lock);
	for (int i = 0; !(s = find(id)) && i < WAIT_SECONDS * 10; i++) {
		struct timespec until;
		if (gone(arg))
			break;
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_nsec += 100000000;
		until.tv_sec += until.tv_nsec / 1000000000;
		until.tv_nsec %= 1000000000;
		pthread_cond_timedwait(&changed, &lock, &until);
	}
	_cleanup_(grpc_unref_ptr) struct grpc_connection *c = s ? grpc_ref(s->connection) : NULL;
	pthread_mutex_unlock(&lock);
	/* a client whose build fails before it has heard of its session would wait for that for ever */
	*out = c && grpc_greeted(c) ? TAKE_PTR(c) : NULL;
	return *out ? 0 : error_set(err, ERROR_NOT_FOUND, "no active session for %s", id);
}

char *bk_session_shared(const struct grpc_connection *c) {
	pthread_mutex_lock(&lock);
	struct session *s = sessions;
	while (s && s->connection != c)
		s = s->next;
	char *shared = s && s->shared && *s->shared ? str_copy(s->shared) : NULL;
	pthread_mutex_unlock(&lock);
	return shared;
}
